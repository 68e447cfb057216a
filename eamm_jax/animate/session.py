"""An animation under way: a source image, and what passes from one chunk of frames to the next.

`Animator.animate` takes it through speech that is known, `Stream` through speech as it comes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float32

from eamm_jax.animate import program
from eamm_jax.faces.idle import Blinks
from eamm_jax.ops.keypoints import movement_scale
from eamm_jax.types import Array

if TYPE_CHECKING:
    from eamm_jax.animate.animator import Animator, Settings


class Session:
    """Steps from chunk to chunk without waiting for the device.

    Args:
        animator: whose model and chunk it uses.
        settings: resolved.
        as_uint8: whether frames are bytes, or float32 in [0, 1].
    """

    def __init__(self, animator: Animator, settings: Settings, *, as_uint8: bool):
        self._animator, self._settings, self._as_uint8 = animator, settings, as_uint8
        self._audio_weight = animator.put(np.float32(settings.audio_weight))
        self.set_strength(settings.emotion_strength)
        self.restart()

    def show(self, source_image: Float32[np.ndarray, "s s 3"]) -> None:
        """Takes a source image: the first, or another one on the way.

        Raises:
            UserError: it has another size than the model's.
        """
        animator = self._animator
        animator.check_source(source_image)
        image = animator.put(source_image[None])
        self._source = animator.parts.encode_source(animator.variables, image)

    def set_strength(self, strength: float) -> None:
        """Sets the factor on the emotion's displacement."""
        weights = strength * program.displacement_weights(self._animator.config)
        self._weights = self._animator.put(weights.astype(np.float32))

    def restart(self) -> None:
        """Forgets the frames so far, as before the first one."""
        self._lstm, self._motion = self._animator.parts.initial_state()
        self._scale, self._started = self._animator.put(np.float32(1)), False
        blinks = self._settings.blinks and bool(self._animator.config.inference.lid_keypoints)
        self._blinks = Blinks(self._settings.seed) if blinks else None

    def step(
        self,
        windows: Float32[np.ndarray, "t 28 12"],
        poses: Float32[np.ndarray, "t 6"],
        emotion: Array | None,
        *,
        rendered: bool = True,
    ) -> tuple[Array, Array | None] | None:
        """The next frames, and the same without emotion where the settings ask for them.

        Fewer frames than a chunk end the animation: what follows must be preceded by `restart`.

        Args:
            windows: of the audio features.
            poses: of the head.
            emotion: features of a whole chunk on the device, or None.
            rendered: False moves on without images, and waits until that is done.
        """
        animator, settings = self._animator, self._settings
        parts, variables, put = animator.parts, animator.variables, animator.put
        closed = None if self._blinks is None else self._blinks.next(len(windows))
        inputs = windows, poses, closed
        # No implicit transfers between host and device.
        with jax.transfer_guard("disallow"):
            audio, pose, lids = put(jax.tree.map(partial(padded, length=animator.chunk), inputs))
            raw, self._lstm = parts.audio_to_keypoints(
                variables, self._source.embedding, audio, pose, self._lstm, self._audio_weight
            )
            if not self._started and settings.relative and settings.adapt_scale:
                still, first = jax.device_get((self._source.keypoints.value, raw.value))
                self._scale = put(np.float32(movement_scale(still[0], first[0])))
            self._started = True
            driving, self._motion = parts.combine(
                variables, self._source.keypoints, raw, emotion, lids, self._weights, self._scale,
                self._motion, smooth=settings.smoothing, relative=settings.relative,
            )  # fmt: skip
            if not rendered:
                jax.block_until_ready(driving.neutral.value)  # or work would pile up unseen
                return None
            render = partial(
                parts.render, variables, self._source.features, self._source.keypoints,
                count=put(np.int32(len(windows))), as_uint8=self._as_uint8,
            )  # fmt: skip
            emotional = driving.emotional is not None
            image = render(driving=driving.emotional if emotional else driving.neutral)
            neutral = None
            if settings.neutral:
                neutral = render(driving=driving.neutral) if emotional else image
        return image, neutral


def padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Repeats the last row until there are `length`."""
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])
