"""Records what the published networks compute on the stand-ins of `metric_networks`.

Run once, with PyTorch 2.14, torchvision 0.29, OpenCV, SciPy, python_speech_features 0.6 and lpips
0.1.4, beside clones of joonson/syncnet_python (6efbb1c), mseitzer/pytorch-fid (b9c1811) and
yuangan/evaluation_eat (e39b004):

    python tests/models/record_metric_networks.py SYNCNET_PYTHON PYTORCH_FID EVALUATION_EAT

The published programs are changed in nothing but where their weights come from.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import lpips
import numpy as np
import python_speech_features
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parent))

import metric_networks


def load_module(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(network: torch.nn.Module) -> torch.nn.Module:
    state = network.state_dict()
    shapes = {
        name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()
    }
    values = metric_networks.stand_ins(shapes)
    network.load_state_dict(state | {name: torch.from_numpy(x) for name, x in values.items()})
    return network.eval()


def as_batch(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def syncnet(folder: Path) -> dict[str, np.ndarray]:
    network = filled(load_module(folder / "SyncNetModel.py").S())
    instance = load_module(folder / "SyncNetInstance.py")
    frames = metric_networks.pictures(metric_networks.FRAMES, 224, 224, seed=0)[..., ::-1]
    clip = torch.from_numpy(frames.transpose(3, 0, 1, 2)[None].astype(np.float32))
    mfcc = python_speech_features.mfcc(metric_networks.sound(), 16000)
    sound = torch.from_numpy(mfcc.T[None, None].astype(np.float32))
    last = min(len(frames), len(metric_networks.sound()) // 640) - 5
    lips = torch.cat([network.forward_lip(clip[:, :, n : n + 5]) for n in range(last)])
    heard = torch.cat(
        [network.forward_aud(sound[:, :, :, 4 * n : 4 * n + 20]) for n in range(last)]
    )
    shift = metric_networks.MAX_SHIFT
    distances = torch.stack(instance.calc_pdist(lips, heard, vshift=shift), 1)
    mean = distances.mean(1)
    least, place = mean.min(0)
    return {
        "lips": lips.numpy()[:2],
        "sound": heard.numpy()[:2],
        "mean_distances": mean.numpy(),
        "sync": np.array([shift - place, least, mean.median() - least]),
    }


def inception(folder: Path) -> dict[str, np.ndarray]:
    module = load_module(folder / "src" / "pytorch_fid" / "inception.py")
    with (
        mock.patch.object(module, "load_state_dict_from_url", return_value={}),
        mock.patch.object(torch.nn.Module, "load_state_dict"),
    ):
        published = module.fid_inception_v3()
    module.fid_inception_v3 = lambda: filled(published)
    network = module.InceptionV3().eval()
    images = as_batch(metric_networks.pictures(2, 64, 80, seed=1))
    return {"inception": network(images)[0][:, :, 0, 0].numpy()}


def emotion_fan(folder: Path) -> dict[str, np.ndarray]:
    module = load_module(folder / "code" / "emotionfan_basiccode" / "networks.py")
    network = filled(module.resnet18_at(at_type="self_relation-attention"))
    features, alphas = network(as_batch(metric_networks.pictures(3, 224, 224, 2)), phrase="eval")
    clip = torch.ones(1, len(features))
    mean = clip.mm(features.mul(alphas)).div(clip.mm(alphas))
    logits = network(
        vectors=features,
        vm=mean,
        alphas_from1=alphas,
        index_matrix=clip,
        phrase="eval",
        AT_level="second_level",
    )
    return {"fan_features": features.numpy(), "fan_logits": logits.numpy()[0]}


def perception(net: str, trunk: str) -> np.ndarray:
    """LPIPS 0.1 by map (rows) of each pair of pictures."""
    network = filled(getattr(torchvision.models, trunk)(weights=None))
    shapes = {f"lin{n}.model.1.weight": (1, c, 1, 1) for n, c in enumerate(WIDTHS[net])}
    shares = {name: torch.from_numpy(x) for name, x in metric_networks.stand_ins(shapes).items()}
    with (
        mock.patch.object(torchvision.models, trunk, return_value=network),
        mock.patch.object(torch, "load", return_value=shares),
    ):
        distance = lpips.LPIPS(net=net, verbose=False)
    images = (as_batch(pictures) for pictures in metric_networks.alike())
    by_map = distance(*images, normalize=True, retPerLayer=True)[1]
    return np.stack([x.numpy()[:, 0, 0, 0] for x in by_map])


WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:]]
    with torch.no_grad():
        recorded: dict[str, np.ndarray] = {}
        for record, folder in zip((syncnet, inception, emotion_fan), folders, strict=True):
            recorded |= record(folder)
        recorded["lpips_alex"] = perception("alex", "alexnet")
        recorded["lpips_vgg"] = perception("vgg", "vgg16")
    for name, array in recorded.items():
        print(name, array.shape, float(np.abs(array).mean()))
    np.savez_compressed(metric_networks.RECORDED, **recorded)


if __name__ == "__main__":
    main()
