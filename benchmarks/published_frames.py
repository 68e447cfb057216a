"""Frames of the published PyTorch code, for other benchmarks; run in a checkout of it.

    python published_frames.py (eager | compile) (float32 | tensorfloat32 | float16 | bfloat16)

For each line of input, the number of frames that are computed at once (the published demo has one
at a time), it prints seconds a frame: audio net, keypoint head, emotion net and generator, on a
GPU with channels last. Parameters are random.
"""

import json
import sys
import time

import torch
import yaml


def main(mode: str, precision: str) -> None:
    """Answers each line of input."""
    sys.path.insert(0, ".")
    from modules.generator import OcclusionAwareGenerator
    from modules.keypoint_detector import KPDetector, KPDetector_a
    from modules.util import AT_net2, Emotion_k

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.Tensor.cuda = lambda self, *_, **__: self
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
        precision == "tensorfloat32"
    )
    torch.backends.cudnn.benchmark = True
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision, torch.float32)
    with open("config/MEAD_emo_video_aug_delta_4_crop_random_crop.yaml") as file:
        params = yaml.safe_load(file)["model_params"]
    common = params["common_params"]
    nets = {
        "generator": OcclusionAwareGenerator(**params["generator_params"], **common),
        "detector": KPDetector(**params["kp_detector_params"], **common),
        "head": KPDetector_a(**params["kp_detector_params"], **params["audio_params"]),
        "audio": AT_net2(),
        "emotion": Emotion_k(
            block_expansion=32, num_channels=3, max_features=1024, num_blocks=5,
            scale_factor=0.25, num_classes=8,
        ),
    }  # fmt: skip
    for name, net in nets.items():
        net.eval().to(device)
        for parameter in net.parameters():
            # But for the audio net, which calls view on its feature maps.
            if device == "cuda" and parameter.dim() == 4 and name != "audio":
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
        plain = torch.rand(1, 3, 256, 256, device=device)
        layout = torch.channels_last if device == "cuda" else torch.contiguous_format
        image = plain.contiguous(memory_format=layout)
        source = nets["detector"](image)
        if mode == "compile":  # but for the audio net, whose calls of cuda() it cannot compile
            for name in ("generator", "head", "emotion"):
                nets[name] = torch.compile(nets[name])
        audio = torch.randn(1, 1, 28, 12, device=device)
        pose = torch.zeros(1, 1, 6, device=device)

        def synchronize() -> None:
            if device == "cuda":
                torch.cuda.synchronize()

        def frame(batch: int) -> float:
            start = time.perf_counter()
            maps = nets["audio"](plain, audio, pose, "cnn", 1.6)[:, 0]
            driving = nets["head"](maps.expand(batch, -1, -1, -1).float())
            images = image.expand(batch, -1, -1, -1)
            sources = {k: v.expand(batch, *v.shape[1:]) for k, v in source.items()}
            nets["emotion"](images, driving["value"], driving["jacobian"])
            found = nets["generator"](images, kp_source=sources, kp_driving=driving)
            found["prediction"].float().cpu()
            synchronize()
            return (time.perf_counter() - start) / batch

        for line in sys.stdin:
            print(json.dumps(frame(int(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
