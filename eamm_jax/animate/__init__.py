"""The main job: portrait, speech, head pose and emotional video to a talking, feeling face."""

from eamm_jax.animate.animator import AnimatedFrame, Animation, Animator, Settings
from eamm_jax.animate.stream import Stream, StreamedFrame

__all__ = ["AnimatedFrame", "Animation", "Animator", "Settings", "Stream", "StreamedFrame"]
