"""The main job: portrait, speech, head pose and emotional video to a talking, feeling face."""

from eamm_jax.animate.animator import AnimatedFrame, Animation, Animator, Settings

__all__ = ["AnimatedFrame", "Animation", "Animator", "Settings"]
