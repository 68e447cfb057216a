"""Objectives of the bundled model: keypoints guided by known landmarks.

Unsupervised keypoints take millions of images. On rendered faces, whose landmarks and head
pose are known, a small model learns in hours: the detector alone first (`GuidedKeypoints`),
then the generator alone (`GuidedGenerator`), then audio to motion (`GuidedAudioKeypoints`) and
the emotion (`GuidedEmotion`).
A guided keypoint lies at the mean of some of dlib's 68 landmarks and the pupils; its Jacobian is
the rotation of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from ml_collections import ConfigDict

from eamm_jax.constants import EMOTIONS
from eamm_jax.errors import UserError
from eamm_jax.models.config import ModelConfig
from eamm_jax.models.dense_motion import DenseMotion
from eamm_jax.models.generator import deform
from eamm_jax.ops.augmentation import jitter_colours
from eamm_jax.ops.grids import coordinate_grid, grid_sample
from eamm_jax.ops.keypoints import expression_alone
from eamm_jax.ops.resizing import antialias_downsample, resize_bilinear
from eamm_jax.training import losses
from eamm_jax.training.losses import Scalar, l1
from eamm_jax.training.objectives.audio_to_motion import (
    AudioKeypoints,
    ClipInputs,
    find_image_keypoints,
    predict_keypoints,
)
from eamm_jax.training.objectives.base import (
    Forward,
    Losses,
    Objective,
    detect_keypoints,
    image_pyramid,
    to_float,
)
from eamm_jax.training.objectives.emotion import EmotionDisplacement
from eamm_jax.training.objectives.first_order_motion import detect_pair, pair_panel
from eamm_jax.training.panels import draw_keypoints, palette
from eamm_jax.types import Array, FaceTruth, Keypoints, Pairs, Region

NUM_POINTS = 70
"""Landmarks and pupils."""

MOUTH = (range(48, 68),)
EYES = (range(36, 42), range(42, 48))
"""Points of the regions that count more."""

FIXED = (*range(6, 11), *range(17, NUM_POINTS))
"""Points that stay on the same spot of the skin; most of the contour slides as the head turns."""

EPSILON = 1e-6
"""Added to probabilities in logarithms."""

REGION_WIDTH, REGION_HEIGHT = 0.6, 0.5
"""Half width of a region, relative to the width of its points, and its least half height, relative
to its width: room for brows, and for open mouths."""

REGION_THRESHOLD = 0.5
"""Pixels whose soft region weight is above this count for the PSNR of mouth and eyes."""

USUAL_SCALE = 4.65e-4
"""Scale of a head that fills the frame as the published crops do."""


class GuidedInputs(NamedTuple):
    """Two frames of a video and their truth.

    Attributes:
        source: the source image.
        driving: the driving frame.
        source_truth: with `region_shares` in place of regions.
        driving_truth: likewise.
    """

    source: Float[Array, "b h w 3"]
    driving: Float[Array, "b h w 3"]
    source_truth: FaceTruth
    driving_truth: FaceTruth


class _GuidedPairs(Objective[Pairs, GuidedInputs]):
    """Pairs of frames with their truth, which follows augmentation."""

    batch_of = "pairs"
    with_truth = True

    def inputs(self, batch: Pairs, rng: PRNGKeyArray | None = None) -> GuidedInputs:
        """Images as floats; with a key, cropped and with jittered colours."""
        assert batch.source_truth is not None
        assert batch.driving_truth is not None
        images = to_float(batch.source), to_float(batch.driving)
        truths = (
            truth._replace(regions=region_shares(truth))
            for truth in (batch.source_truth, batch.driving_truth)
        )
        inputs = GuidedInputs(*images, *truths)
        if rng is None or not self.config.augment:
            return inputs
        crop_rng, colour_rng = jax.random.split(rng)
        inputs = crop_at_random(
            crop_rng, inputs, self.config.smallest_crop, self.config.crops_apart
        )
        frames = jnp.stack(inputs[:2], axis=1)
        frames = jitter_colours(colour_rng, frames, self.config.jitter)
        return inputs._replace(source=frames[:, 0], driving=frames[:, 1])


class GuidedKeypoints(_GuidedPairs):
    """The keypoint detector alone, taught by landmarks and head pose."""

    trained = ("kp_detector",)
    frozen = needed = ()

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        super().__init__(config, model_config)
        groups = config.keypoint_points
        if len(groups) != model_config.num_keypoints:
            raise UserError(
                f"config.keypoint_points has {len(groups)} groups; the networks have "
                f"{model_config.num_keypoints} keypoints"
            )
        check_shares("landmark_shares", config, model_config)
        if any(not group or not set(group) <= set(range(NUM_POINTS)) for group in groups):
            raise UserError(
                f"config.keypoint_points must name points 0 to {NUM_POINTS - 1}, at least one "
                "for each keypoint"
            )

    def losses(self, forward: Forward, inputs: GuidedInputs) -> Losses:
        """L1 of positions from their points, and of Jacobians from the head's rotation."""
        config = self.config
        detected = detect_pair(forward, inputs.source, inputs.driving)
        truths = inputs.source_truth, inputs.driving_truth
        found = [
            truth_distances(keypoints, truth, config.keypoint_points, config.landmark_shares)
            for keypoints, truth in zip(detected, truths, strict=True)
        ]
        value, rotation = (sum(parts) / len(found) for parts in zip(*found, strict=True))
        terms = {
            "landmarks": config.landmark_weight * value,
            "rotation": config.rotation_weight * rotation,
        }
        return Losses(terms, {})

    def panel(self, forward: Forward, batch: Pairs) -> Float[Array, "b h w3 3"]:
        """The frames with detected keypoints, and the second with its target positions."""
        source, driving, _, truth = self.inputs(batch)
        of_source, of_driving = detect_pair(forward, source, driving)
        points = guided_values(truth, self.config.keypoint_points)
        colours = palette(points.shape[1])
        cells = ((source, of_source.value), (driving, of_driving.value), (driving, points))
        return jnp.concatenate([draw_keypoints(*cell, colours) for cell in cells], axis=2)


class GuidedGenerator(_GuidedPairs):
    """The generator alone, from a trained detector; mouth and eyes count more."""

    trained = ("generator",)

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        super().__init__(config, model_config)
        check_shares("keypoints_shares", config, model_config)
        perceptual = ("vgg16",) if config.lpips_weight else ()
        self.frozen = self.needed = ("kp_detector", *perceptual)

    def losses(self, forward: Forward, inputs: GuidedInputs) -> Losses:
        """Weighted distances of the rendered and of the warped source from the target."""
        config, target = self.config, inputs.driving
        keypoints = detect_pair(forward, inputs.source, target)
        rendering = forward("generator", inputs.source, *keypoints)
        prediction, warped = rendering.prediction, deform(inputs.source, rendering.motion)
        mouth, eyes = (
            face_region(inputs.driving_truth, parts, self.model_config.image_size)
            for parts in (MOUTH, EYES)
        )
        weight = 1.0 + config.mouth_weight * mouth + config.eyes_weight * eyes
        pyramids = [
            image_pyramid(x, config.scales, config.pyramid_sigma)
            for x in (prediction, target, weight)
        ]
        terms = {
            "perceptual": config.pyramid_weight * losses.pyramid_distance(*pyramids),
            "warped": config.warped_weight * l1(warped, target, weight),
        }
        if config.regions_weight:
            regions = inputs.source_truth.regions, inputs.driving_truth.regions
            if regions[0] is None or regions[1] is None:
                raise UserError(
                    "config.regions_weight needs data that say what their frames show: albums of "
                    "data.synthetic"
                )
            distance = region_distance(rendering.motion, *map(jnp.asarray, regions))
            terms["regions"] = config.regions_weight * distance
        if config.flow_weight:
            distance = flow_distance(rendering.motion, inputs.source_truth, inputs.driving_truth)
            terms["flow"] = config.flow_weight * distance
        if config.dense_flow_weight:
            if inputs.driving_truth.flow is None:
                raise UserError(
                    "config.dense_flow_weight needs data that say how their frames move: albums "
                    "of data.synthetic"
                )
            distance = dense_flow_distance(rendering.motion, jnp.asarray(inputs.driving_truth.flow))
            terms["dense_flow"] = config.dense_flow_weight * distance
        if config.keypoints_weight:
            found, wanted = forward("kp_detector", prediction).value, keypoints[1].value
            shares = jnp.asarray(config.keypoints_shares or (1.0,) * wanted.shape[1])
            distance = position_distance(found, wanted, shares)
            terms["keypoints"] = config.keypoints_weight * distance
        if config.lpips_weight:
            small = (antialias_downsample(x, config.lpips_scale) for x in (prediction, target))
            patches = (face_patch(x, inputs.driving_truth) for x in small)
            ours, theirs = (forward("vgg16", patch) for patch in patches)
            distance = losses.lpips(ours, jax.lax.stop_gradient(theirs)).mean()
            terms["lpips"] = config.lpips_weight * distance
        metrics = {"psnr": losses.peak_signal_to_noise(prediction, target)}
        for name, region in (("mouth", mouth), ("eyes", eyes)):
            inside = (region > REGION_THRESHOLD).astype(prediction.dtype)
            metrics[f"psnr_{name}"] = losses.peak_signal_to_noise(prediction, target, inside)
        return Losses(terms, metrics)

    def panel(self, forward: Forward, batch: Pairs) -> Float[Array, "b h w6 3"]:
        """As in stage 0."""
        return pair_panel(forward, to_float(batch.source), to_float(batch.driving))


class GuidedAudioKeypoints(AudioKeypoints):
    """Part 1 with a loss on motion, for data in which emotion changes where keypoints are.

    Clips of `place_emotions` teach positions; all clips teach motion.
    """

    reads_heatmaps = False

    def __init__(self, config: ConfigDict, model_config: ModelConfig):
        super().__init__(config, model_config)
        for emotion in config.place_emotions:
            if emotion not in EMOTIONS:
                raise UserError(
                    f"config.place_emotions names {emotion!r}; allowed are {', '.join(EMOTIONS)}"
                )
        check_shares("motion_shares", config, model_config)

    def losses(self, forward: Forward, inputs: ClipInputs) -> Losses:
        """The terms of part 1 on some clips, and the motion of all."""
        config = self.config
        target = find_image_keypoints(forward, inputs)
        found = predict_keypoints(forward, inputs)
        labels = [EMOTIONS.index(emotion) for emotion in config.place_emotions]
        labels = labels or [-1, *range(len(EMOTIONS))]  # all, those without a label too
        teaches = jnp.isin(inputs.emotion, jnp.array(labels)).astype(target.value.dtype)

        def distance(a: Array, b: Array) -> Array:
            return l1(a, b, teaches.reshape(-1, *(1,) * (a.ndim - 1)))

        terms = {
            name: config[f"{name}_weight"] * distance(getattr(found, name), getattr(target, name))
            for name in ("value", "jacobian")
        }
        shares = jnp.asarray(config.motion_shares or (1.0,) * target.value.shape[2])
        terms["motion"] = config.motion_weight * motion_distance(found.value, target.value, shares)
        return Losses(terms, {})


class GuidedEmotion(EmotionDisplacement):
    """Part 2 with the displacement from the same person's neutral face.

    What audio keypoints lack of image keypoints is not only emotion: they miss each person's mouth
    by some pixels. The network would learn that by heart, and miss new people's.
    """

    def distances(
        self,
        forward: Forward,
        clips: ClipInputs,
        displacement: Keypoints,
        audio_keypoints: Keypoints,
    ) -> dict[str, Scalar]:
        """Of the displacement from that of the clip's mean face, its source image being neutral.

        What both faces say adds noise to it, and no bias.
        """
        network = self.model_config.emotion
        felt = find_image_keypoints(forward, clips)
        calm = detect_keypoints(forward, clips.source[:, None])
        moved = jnp.array(network.keypoints)
        wanted = Keypoints(
            (felt.value - calm.value)[:, :, moved], (felt.jacobian - calm.jacobian)[:, :, moved]
        )
        if network.rigid:
            at = calm.value[:, :, moved]
            wanted = expression_alone(wanted, at, network.rigid, network.depths)

        def from_mean(found: Array, wanted: Array) -> Scalar:
            return l1(found, jnp.broadcast_to(wanted.mean(1, keepdims=True), found.shape))

        return {
            "value": from_mean(displacement.value, wanted.value),
            "jacobian": from_mean(displacement.jacobian, wanted.jacobian),
        }


def check_shares(field: str, config: ConfigDict, model_config: ModelConfig) -> None:
    """Makes sure that a field has a number for each keypoint, or none.

    Raises:
        UserError: it has another number of them.
    """
    if len(config[field]) not in (0, model_config.num_keypoints):
        raise UserError(
            f"config.{field} has {len(config[field])} numbers; the networks have "
            f"{model_config.num_keypoints} keypoints"
        )


def crop_at_random(
    rng: PRNGKeyArray, inputs: GuidedInputs, smallest: float, apart: float
) -> GuidedInputs:
    """Enlarges a random square of each frame, with all of the face, to the whole frame.

    Mostly it is the same square in both frames of a pair. Where it is not, the head moves farther
    than heads do in the data. Points that a square left out could not be detected.

    Args:
        rng: random key.
        inputs: frames and their truth, which is moved and scaled with them.
        smallest: least side of the square, relative to the frame's; larger where faces need it.
        apart: share of pairs whose frames get squares of their own.
    """
    side_rng, centre_rng, apart_rng = jax.random.split(rng, 3)
    batch = inputs.source.shape[0]
    differ = jax.random.bernoulli(apart_rng, apart, (batch, 1))
    points = jnp.stack([jnp.asarray(truth.points) for truth in inputs[2:]]).clip(-1, 1)
    low, high = points.min(axis=2), points.max(axis=2)
    low = jnp.where(differ, low, low.min(axis=0))
    high = jnp.where(differ, high, high.max(axis=0))

    def same(drawn: Float[Array, "2 b n"]) -> Float[Array, "2 b n"]:
        return jnp.where(differ, drawn, drawn[0])

    drawn = same(jax.random.uniform(side_rng, (2, batch, 1), minval=smallest, maxval=1.0))
    side = jnp.maximum(drawn, ((high - low) / 2).max(axis=-1, keepdims=True))
    least, most = jnp.maximum(high - side, side - 1), jnp.minimum(low + side, 1 - side)
    centre = least + (most - least) * same(jax.random.uniform(centre_rng, (2, batch, 2)))

    def crop(image: Array, side: Array, centre: Array) -> Array:
        grid = coordinate_grid(*image.shape[1:3], half_pixel=True)
        seen = side[:, None, None] * grid + centre[:, None, None]
        return grid_sample(image, seen, padding="border")

    def follow(truth: FaceTruth, side: Array, centre: Array) -> FaceTruth:
        pose = jnp.asarray(truth.pose)
        points = (jnp.asarray(truth.points) - centre[:, None]) / side[:, None]
        regions = truth.regions
        if regions is not None:
            regions = crop(jnp.asarray(regions), side, centre)
        return FaceTruth(points, pose.at[:, 3].divide(side[:, 0]), regions)

    source, driving = map(crop, inputs[:2], side, centre)
    of_source, of_driving = map(follow, inputs[2:], side, centre)
    if inputs.driving_truth.flow is not None:
        flow = crop(jnp.asarray(inputs.driving_truth.flow), side[1], centre[1])
        flow = (flow - centre[0][:, None, None]) / side[0][:, None, None]
        of_driving = of_driving._replace(flow=flow)
    return GuidedInputs(source, driving, of_source, of_driving)


def guided_values(truth: FaceTruth, groups: Sequence[Sequence[int]]) -> Float[Array, "b k 2"]:
    """The target positions: each at the mean of a group of points.

    Args:
        truth: of the faces.
        groups: for each keypoint, the points (0..67 landmarks, 68 and 69 pupils).
    """
    share = np.zeros((len(groups), NUM_POINTS), np.float32)
    for keypoint, group in enumerate(groups):
        share[keypoint, list(group)] = 1 / len(group)
    return jnp.einsum("kn,bnd->bkd", share, jnp.asarray(truth.points))


def truth_distances(
    keypoints: Keypoints,
    truth: FaceTruth,
    groups: Sequence[Sequence[int]],
    shares: Sequence[float] = (),
) -> tuple[Array, Array]:
    """L1 of positions from the points they follow, and of Jacobians from the head's rotation.

    Args:
        keypoints: that were found.
        truth: of the faces.
        groups: for each keypoint, the points it follows.
        shares: how much the position of each keypoint counts; all the same unless given.
    """
    rotation = jnp.broadcast_to(head_rotation(truth)[:, None], keypoints.jacobian.shape)
    weight = jnp.asarray(shares or (1.0,) * len(groups))
    placed = position_distance(keypoints.value, guided_values(truth, groups), weight)
    return placed, l1(keypoints.jacobian, rotation)


def position_distance(
    found: Float[Array, "*b k 2"], wanted: Float[Array, "*b k 2"], weight: Float[Array, " k"]
) -> Float[Array, ""]:
    """L1 between positions of keypoints, each of which counts as its weight says."""
    return l1(found, wanted, jnp.broadcast_to(weight[:, None], found.shape))


def head_rotation(truth: FaceTruth) -> Float[Array, "b 2 2"]:
    """How the plane of a face is rotated and scaled into the image.

    The upper left of the scaled rotation (3DDFA_V2: roll * yaw * pitch, y upwards), for
    image coordinates with y downwards.
    """
    pose = jnp.asarray(truth.pose)
    yaw, pitch, roll = jnp.moveaxis(jnp.radians(pose[:, :3]), -1, 0)
    cy, sy, cp, sp = jnp.cos(yaw), jnp.sin(yaw), jnp.cos(pitch), jnp.sin(pitch)
    cr, sr = jnp.cos(roll), jnp.sin(roll)
    rows = [[cr * cy, cr * sy * sp + sr * cp], [-sr * cy, cr * cp - sr * sy * sp]]
    rotation = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    return rotation * (pose[:, 3] / USUAL_SCALE)[:, None, None]


def motion_distance(
    prediction: Float[Array, "b t k 2"],
    target: Float[Array, "b t k 2"],
    weight: Float[Array, " k"],
) -> Float[Array, ""]:
    """L1 between offsets from their means over a clip, whatever the positions.

    Args:
        prediction: audio keypoints.
        target: image keypoints.
        weight: how much each keypoint counts.
    """
    moved, wanted = (x - x.mean(axis=1, keepdims=True) for x in (prediction, target))
    return position_distance(moved, wanted, weight)


def region_shares(truth: FaceTruth) -> Float[Array, "b r r 3"] | None:
    """Shares of backdrop, head and body in each pixel; none of any where that is not known."""
    if truth.regions is None:
        return None
    seen = (Region.BACKDROP, Region.HEAD, Region.BODY)
    regions = jnp.asarray(truth.regions)[..., None]
    return (regions == jnp.array(seen, regions.dtype)).astype(jnp.float32)


def region_distance(
    motion: DenseMotion, source: Float[Array, "b r r 3"], driving: Float[Array, "b r r 3"]
) -> Float[Array, ""]:
    """Cross-entropy of what moves and what is occluded from what the frames show.

    A head moves with keypoints and a backdrop does not; a body does a little of both, so it
    teaches nothing of that. A backdrop behind the person of the source image is occluded there;
    backdrop and body where the source image shows them, too, are not.

    Args:
        motion: that was predicted.
        source: shares of backdrop, head and body in the source image.
        driving: shares in the driving frame.
    """
    still, seen = motion.mask[..., :1], motion.occlusion
    source, driving = (resize_bilinear(x, *still.shape[1:3]) for x in (source, driving))
    backdrop, head, body = jnp.split(driving, 3, axis=-1)
    backdrop_there, head_there, body_there = jnp.split(source, 3, axis=-1)

    def cross_entropy(positive: Array, negative: Array, probability: Array) -> Array:
        yes, no = jnp.log(probability + EPSILON), jnp.log(1 - probability + EPSILON)
        return -(positive * yes + negative * no).mean()

    moves = cross_entropy(backdrop, head, still)
    shown = backdrop * backdrop_there + body * body_there
    return moves + cross_entropy(shown, backdrop * (head_there + body_there), seen)


def flow_distance(motion: DenseMotion, source: FaceTruth, driving: FaceTruth) -> Float[Array, ""]:
    """L1 of the dense motion at points of the face from where they are in the source image."""
    at, wanted = (jnp.asarray(truth.points)[:, jnp.array(FIXED)] for truth in (driving, source))
    found = grid_sample(motion.deformation, at[:, None], padding="border")[:, 0]
    inside = (jnp.abs(at) < 1).all(axis=-1, keepdims=True)
    return l1(found, wanted, jnp.broadcast_to(inside, at.shape).astype(at.dtype))


def dense_flow_distance(motion: DenseMotion, flow: Float[Array, "b r r 2"]) -> Float[Array, ""]:
    """L1 of the dense motion from the true flow, where that is known (not NaN)."""
    found = resize_bilinear(motion.deformation, *flow.shape[1:3])
    known = jnp.isfinite(flow)
    return l1(found, jnp.where(known, flow, 0.0), known.astype(found.dtype))


def face_patch(image: Float[Array, "b h w c"], truth: FaceTruth) -> Float[Array, "b i j c"]:
    """A square of half the frame's side around eyes and mouth, in full resolution."""
    _, height, width, channels = image.shape
    half = jnp.array([height // 2, width // 2])
    middle = jnp.asarray(truth.points)[:, jnp.array([*EYES[0], *EYES[1], *MOUTH[0]])].mean(axis=1)
    # (x, y) in [-1, 1] to (row, column); a slice that leaves the frame is moved back into it.
    corner = ((middle[:, ::-1] + 1) * half - half / 2).round().astype(jnp.int32)

    def cut(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*corner, 0), (height // 2, width // 2, channels))

    return jax.vmap(cut)(image, corner)


def face_region(
    truth: FaceTruth, parts: Sequence[Sequence[int]], size: int
) -> Float[Array, "b h w 1"]:
    """1 at parts of a face, each given by its points, fading to 0 around them.

    Each is a soft ellipse: exp(-d^4 / 2), d = 1 on its border.
    """
    grid, regions = coordinate_grid(size, size, half_pixel=True), []
    for part in parts:
        found = jnp.asarray(truth.points)[:, jnp.array(part)]
        low, high = found.min(axis=1), found.max(axis=1)
        width, height = jnp.moveaxis(high - low, -1, 0)
        tall = jnp.maximum(REGION_WIDTH * height, REGION_HEIGHT * width)
        radii = jnp.stack([REGION_WIDTH * width, tall], axis=-1)
        offset = (grid - (low + high)[:, None, None, :] / 2) / radii[:, None, None, :]
        distance = jnp.sum(offset**2, axis=-1, keepdims=True)
        regions.append(jnp.exp(-0.5 * distance**2))
    return jnp.stack(regions).max(axis=0)
