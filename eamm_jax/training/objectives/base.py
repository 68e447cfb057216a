"""What the objectives of all stages share: how networks are applied, and the interface.

An objective is a set of pure functions. It knows nothing of optimizers, devices or files.
Networks that see images get time folded into the batch, so batch statistics are those of all
frames of all clips.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.models import Networks
from eamm_jax.models.config import ModelConfig
from eamm_jax.ops.resizing import antialias_downsample, scale_sigma
from eamm_jax.training import losses
from eamm_jax.types import Array, Keypoints

PyTree = Any
Terms = dict[str, Array]
BatchT = TypeVar("BatchT")
InputsT = TypeVar("InputsT")


class Forward:
    """Applies networks with given variables and collects their updated statistics.

    Attributes:
        stats: new collections (`batch_stats`, `spectral_stats`) of the networks that were
            applied in training mode, by name.
    """

    def __init__(
        self,
        networks: Networks,
        variables: Mapping[str, PyTree],
        *,
        training: Collection[str] = (),
        remat: Collection[str] = (),
    ):
        """Names are those of the fields of `Networks`.

        Args:
            networks: the modules.
            variables: their collections, by name.
            training: networks that use and update the statistics of the batch; the others
                use the stored ones.
            remat: networks whose activations are recomputed in the backward pass.
        """
        self.stats: dict[str, PyTree] = {}
        self._networks = networks
        self._variables = variables
        self._training = frozenset(training)
        self._remat = frozenset(remat)

    def __call__(self, name: str, *inputs: PyTree, method: Callable[..., Any] | None = None) -> Any:
        """The output of network `name`, or of a method of it."""
        module = getattr(self._networks, name)
        variables = self._variables[name]
        stats = sorted(set(variables) - {"params"})
        updates = bool(stats) and name in self._training
        if updates and name in self.stats:
            raise ValueError(f"{name} is applied twice: fold its inputs into one batch")

        def apply(variables: PyTree, *inputs: PyTree) -> Any:
            if updates:
                return module.apply(variables, *inputs, train=True, mutable=stats, method=method)
            return module.apply(variables, *inputs, method=method), None

        if name in self._remat:
            apply = jax.checkpoint(apply)
        outputs, new_stats = apply(variables, *inputs)
        if updates:
            self.stats[name] = new_stats
        return outputs


class Losses(NamedTuple):
    """What an objective makes of a batch.

    Attributes:
        terms: weighted; their sum is the loss.
        metrics: reported only.
        outputs: what `Objective.adversary_losses` needs of the networks' outputs.
    """

    terms: Terms
    metrics: Terms
    outputs: Any = None


class Objective(ABC, Generic[BatchT, InputsT]):
    """One stage's networks and losses.

    Attributes:
        batch_of: the examples it learns from.
        with_truth: whether examples come with landmarks and head pose.
        reads_frames: whether the losses read frames of clips, and not their keypoints alone.
        reads_heatmaps: whether the losses read heatmaps of image keypoints.
        trained: networks that the loss trains.
        adversary: the network that is trained against them, or None.
        frozen: networks that are only applied.
        needed: networks that must have been trained before.
    """

    batch_of: Literal["clips", "pairs"] = "clips"
    with_truth: bool = False
    reads_frames: bool = True
    reads_heatmaps: bool = False
    trained: tuple[str, ...]
    adversary: str | None = None
    frozen: tuple[str, ...]
    needed: tuple[str, ...]

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        """Takes the configuration of a stage (`configs/`) and of the networks."""
        self.config = config
        self.model_config = model_config

    @abstractmethod
    def inputs(self, batch: BatchT, rng: PRNGKeyArray | None = None) -> InputsT:
        """The networks' inputs: floats, augmented if a key is given."""

    @abstractmethod
    def losses(self, forward: Forward, inputs: InputsT) -> Losses:
        """The terms of the loss, and what is reported beside them."""

    def adversary_losses(self, forward: Forward, outputs: Any) -> Terms:
        """The weighted terms of the adversary's loss, given `Losses.outputs`."""
        raise NotImplementedError(f"{type(self).__name__} has no adversary")

    @abstractmethod
    def panel(self, forward: Forward, batch: BatchT) -> Float[Array, "b h w6 3"]:
        """Images in [0, 1] for TensorBoard, one row an example (`panels.draw_panel`)."""


def to_float(images: Array | np.ndarray) -> Float[Array, "*b h w 3"]:
    """uint8 images to [0, 1]; float32 unless JAX computes in float64."""
    return jnp.asarray(images).astype(float) / 255.0


def fold(x: Float[Array, "b t *n"]) -> Float[Array, "bt *n"]:
    """Time into the batch."""
    return x.reshape(-1, *x.shape[2:])


def unfold(tree: PyTree, leading: Sequence[int]) -> PyTree:
    """The inverse of `fold`, for each array of a tree."""
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), tree)


def frame(keypoints: Keypoints, index: int) -> Keypoints:
    """Frame number `index` of (b, t, ...) keypoints."""
    return jax.tree.map(lambda x: x[:, index], keypoints)


def detect_keypoints(forward: Forward, images: Float[Array, "b t h w 3"]) -> Keypoints:
    """Image keypoints of every frame, (b, t, ...)."""
    return unfold(forward("kp_detector", fold(images)), images.shape[:2])


PERCEPTUAL_NETWORKS: dict[str, tuple[str, ...]] = {"vgg": ("vgg19",), "pyramid": ()}
"""The kinds of perceptual loss, and the networks that each applies."""


def perceptual_loss(
    config: ConfigDict, forward: Forward, prediction: Array, target: Array
) -> Array:
    """The distance of two images over a pyramid of scales, as `config.perceptual` says.

    With VGG-19, L1 between features (Siarohin et al. 2019, eq. 8); without it, L1 of images and
    of their gradients.
    """
    ours, theirs = (
        image_pyramid(x, config.scales, config.pyramid_sigma) for x in (prediction, target)
    )
    if config.perceptual == "pyramid":
        return config.pyramid_weight * losses.pyramid_distance(ours, theirs)
    distances = (
        losses.weighted_feature_distance(
            forward("vgg19", a), forward("vgg19", b), config.perceptual_weights
        )
        for a, b in zip(ours, theirs, strict=True)
    )
    return sum(distances, start=jnp.zeros(()))


def image_pyramid(
    image: Float[Array, "b h w c"], scales: Sequence[float], sigma: float
) -> tuple[Float[Array, "b _ _ c"], ...]:
    """The image at each scale, for losses over several resolutions (Siarohin et al. 2019, 3.3).

    Args:
        image: the full-size image.
        scales: 1 is the image itself.
        sigma: of the blur, in pixels; 0 for that of the published code.
    """
    return tuple(
        antialias_downsample(image, scale, sigma=sigma or scale_sigma(scale)) for scale in scales
    )
