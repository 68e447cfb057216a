"""Times a step of part 1 of the published PyTorch code, once per line of input.

    cd CHECKOUT && PYTHON published_part1.py --batch_size 2 [--size 256]

`benchmarks/training.py` runs it with an interpreter that has torch, in a copy of the published
repository. Networks, losses and loops over frames come from its files, with random weights; the
update is that of its `train_part1`. Three patches let its training start: `cuda()` does nothing,
torchvision is a stub (it is imported for VGG-19, which part 1 does not use), and `TrainPart1Model`
is also defined by its former name.

Each input line, `published` or `frozen`, runs a step and prints its seconds. `published` is the
unchanged step: the teacher runs in training mode and gets gradients that no optimizer uses, and one
frame of every clip is rendered that no loss uses. `frozen` leaves out both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import types

import torch
import yaml

FRAMES = 16


class NoGenerator(torch.nn.Module):
    """Renders nothing."""

    def forward(self, *_: object, **__: object) -> dict[str, object]:
        return {}


def make_steps(batch_size: int, size: int) -> dict[str, types.FunctionType]:
    """The two steps by name."""
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self
    torchvision = types.ModuleType("torchvision")
    torchvision.models = types.ModuleType("torchvision.models")
    sys.modules |= {"torchvision": torchvision, "torchvision.models": torchvision.models}
    sys.path.insert(0, ".")

    from modules import model
    from modules.discriminator import MultiScaleDiscriminator
    from modules.generator import OcclusionAwareGenerator
    from modules.keypoint_detector import KPDetector, KPDetector_a
    from modules.util import AT_net

    model.TrainFullModel = model.TrainPart1Model
    model.Vgg19 = torch.nn.Identity
    with open("config/train_part1.yaml", encoding="utf-8") as file:
        config = yaml.safe_load(file)
    networks, training = config["model_params"], config["train_params"]
    common = networks["common_params"]
    generator = OcclusionAwareGenerator(**networks["generator_params"], **common)
    discriminator = MultiScaleDiscriminator(**networks["discriminator_params"], **common)
    teacher = KPDetector(**networks["kp_detector_params"], **common)
    head = KPDetector_a(**networks["kp_detector_params"], **networks["audio_params"])
    audio = AT_net()
    full = model.TrainPart1Model(teacher, head, audio, generator, discriminator, training, [0])
    optimizer = torch.optim.Adam(
        itertools.chain(audio.parameters(), head.parameters()),
        lr=training["lr_audio_feature"],
        betas=(0.5, 0.999),
    )
    batch = {
        "example_image": torch.rand(batch_size, 3, size, size),
        "driving": torch.rand(batch_size, FRAMES, 3, size, size),
        "driving_audio": torch.randn(batch_size, FRAMES, 28, 12),
        "driving_pose": torch.randn(batch_size, FRAMES, 6),
    }

    def step() -> None:
        losses, _ = full(batch)
        sum(value.mean() for value in losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def published() -> None:
        teacher.requires_grad_(True)
        full.generator = generator
        step()

    def frozen() -> None:
        teacher.requires_grad_(False)
        full.generator = NoGenerator()
        step()

    return {"published": published, "frozen": frozen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    steps = make_steps(arguments.batch_size, arguments.size)
    for line in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        steps[line.strip()]()
        seconds = time.perf_counter() - wall, time.process_time() - processor
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
