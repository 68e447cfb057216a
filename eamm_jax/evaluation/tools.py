"""What metrics are measured with, as far as it is installed or given."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from eamm_jax.checkpoint import Variables, load_networks, stored_networks
from eamm_jax.constants import METRIC_NETWORKS
from eamm_jax.conversion.installed import load_vgg16
from eamm_jax.errors import UserError
from eamm_jax.evaluation import identity, perception
from eamm_jax.evaluation.aligned import Aligner
from eamm_jax.evaluation.emotion_fan import FanClassifier
from eamm_jax.evaluation.identity import DlibEmbedder, Embedder, OnnxEmbedder
from eamm_jax.evaluation.perception import LPIPS, Perception
from eamm_jax.evaluation.readers import Reader, make_reader
from eamm_jax.evaluation.realism import InceptionFeatures
from eamm_jax.evaluation.sync import SyncMeter
from eamm_jax.faces.dlib_finder import DlibFinder

Protocol = Literal["plain", "evaluation_eat"]
"""Whole frames only, or aligned faces too, as yuangan/evaluation_eat compares them."""


class Tools(NamedTuple):
    """Metrics without their tool are absent.

    Attributes:
        reader: of landmarks and emotion.
        embedder: of identity.
        perception: of likeness.
        sync: of lip sync.
        inception: of the features whose distribution is compared.
        aligner: of faces, for the protocol of evaluation_eat.
    """

    reader: Reader | None = None
    embedder: Embedder | None = None
    perception: Perception | None = None
    sync: SyncMeter | None = None
    inception: InceptionFeatures | None = None
    aligner: Aligner | None = None

    @property
    def names(self) -> dict[str, str | None]:
        """The name of each, for the report."""
        return {key: tool and tool.name for key, tool in self._asdict().items()}


@cache
def make_tools(
    faces: str,
    networks: Path | None = None,
    protocol: Protocol = "plain",
    embedder: Path | None = None,
) -> Tools:
    """All tools that there are; made once in each process.

    Args:
        faces: kind of faces (`readers.KINDS`).
        networks: converted networks that measure (`constants.METRIC_NETWORKS`), or some.
        protocol: of comparison.
        embedder: network of identity in ONNX format; None: dlib's for real faces, if installed.

    Raises:
        UserError: as `make_reader`; or there is no network that measures.
    """
    if protocol != "plain" and faces != "real":
        raise UserError(f"the protocol {protocol} needs faces 'real', not {faces!r}")
    given = {} if networks is None else _load(networks)
    real = faces == "real"
    fan = FanClassifier(given["emotion_fan"]) if real and "emotion_fan" in given else None
    likeness = {metric: given[metric] for metric in LPIPS if metric in given}
    if perception.is_installed():
        likeness = {"lpips": load_vgg16(), **likeness}
    return Tools(
        # evaluation_eat's numbers are of dlib's landmarks.
        make_reader(faces, fan, DlibFinder() if protocol == "evaluation_eat" else None),
        _embedder(real, embedder),
        Perception(likeness) if likeness else None,
        SyncMeter(given["syncnet"]) if faces != "none" and "syncnet" in given else None,
        InceptionFeatures(given["inception"]) if "inception" in given else None,
        Aligner() if protocol == "evaluation_eat" else None,
    )


def _embedder(real: bool, path: Path | None) -> Embedder | None:
    if path is not None:
        return OnnxEmbedder(path)
    return DlibEmbedder() if real and identity.is_installed() else None


def _load(folder: Path) -> dict[str, Variables]:
    found = [network for network in stored_networks(folder) if network in METRIC_NETWORKS]
    if not found:
        raise UserError(
            f"{folder} holds none of the networks that measure: {', '.join(METRIC_NETWORKS)}"
        )
    return load_networks(folder, found)[1]
