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
from eamm_jax.animate.timeline import Controls
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

    Attributes:
        strength: factor on the emotion's displacement, beside the timeline's.
        gaze: to the right and upwards, -1 to 1, added to the timeline's.
        blinking: whether the eyes blink where the timeline does not say how they are held.
    """

    def __init__(self, animator: Animator, settings: Settings, *, as_uint8: bool):
        self._animator, self._settings, self._as_uint8 = animator, settings, as_uint8
        self._audio_weight = animator.put(np.float32(settings.audio_weight))
        self._weights = program.displacement_weights(animator.config)
        inference = animator.config.inference
        self._has_eyes = bool(inference.lid_keypoints or inference.pupil_keypoints)
        self.strength, self.gaze = settings.emotion_strength, (0.0, 0.0)
        self.blinking = settings.blinks
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

    def restart(self) -> None:
        """Forgets the frames so far, as before the first one."""
        self._lstm, self._motion = self._animator.parts.initial_state()
        self._scale, self._started = self._animator.put(np.float32(1)), False
        self._frame, self._blinks = 0, Blinks(self._settings.seed)

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
        controls = self._controls(len(windows))
        held = (controls.closed, controls.gaze) if self._has_eyes else None
        inputs = (
            windows * controls.mouth[:, None, None],
            poses + controls.head,
            controls.strength[:, None] * self._weights,
            held,
        )
        # No implicit transfers between host and device.
        with jax.transfer_guard("disallow"):
            if not self._started and settings.relative:
                self._begin(windows[:1], poses[:1], controls)
            self._started = True
            audio, pose, weights, held = put(
                jax.tree.map(partial(padded, length=animator.chunk), inputs)
            )
            eyes = None if held is None else program.Eyes(*held)
            raw, self._lstm = parts.audio_to_keypoints(
                variables, self._source.embedding, audio, pose, self._lstm, self._audio_weight
            )
            driving, self._motion = parts.combine(
                variables, self._source.keypoints, raw, emotion, eyes, weights, self._scale,
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

    def _begin(self, window: np.ndarray, pose: np.ndarray, controls: Controls) -> None:
        """Finds what relative motion starts from: the first frame before any control, or silent.

        It would be the first frame as it comes, and a head that the timeline turns from the
        start would not be turned.
        """
        animator = self._animator
        if animator.config.inference.relative_to_silence:
            window = np.zeros_like(window)
        elif not controls.head[0].any() and not self._settings.adapt_scale:
            return
        parts, put = animator.parts, animator.put
        lstm, _ = parts.initial_state()
        audio, held = put(tuple(padded(row, animator.chunk) for row in (window, pose)))
        raw, _ = parts.audio_to_keypoints(
            animator.variables, self._source.embedding, audio, held, lstm, self._audio_weight
        )
        still, first = jax.device_get((self._source.keypoints, raw))
        first = jax.tree.map(lambda rows: rows[:1], first)
        if self._settings.adapt_scale:
            self._scale = put(np.float32(movement_scale(still.value[0], first.value[0])))
        self._motion = self._motion._replace(started=put(np.bool_(True)), first=put(first))

    def _controls(self, count: int) -> Controls:
        """Those of the next frames: the timeline's, and what has been set."""
        controls = self._settings.timeline.controls(self._frame, count)
        self._frame += count
        blinks = self._blinks.next(count) * np.float32(self.blinking)
        return controls._replace(
            strength=np.float32(self.strength) * controls.strength,
            gaze=np.clip(controls.gaze + np.array(self.gaze, np.float32), -1, 1),
            closed=blinks if controls.closed is None else controls.closed,
        )


def padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Repeats the last row until there are `length`."""
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])
