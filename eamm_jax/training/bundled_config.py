"""The fields that the bundled model's configurations share (`configs/bundled_*.py`)."""

from __future__ import annotations

from ml_collections import ConfigDict

from eamm_jax.training.config import base_config, parse_variants

SIZE = 256

KEYPOINTS = (
    *((1, 2, 3), (13, 14, 15), (7, 8, 9)),  # jaw and chin
    (30, 33),  # nose
    *((17, 18), (20, 21), (22, 23), (25, 26)),  # brows, from the image's left
    *((37, 38), (40, 41), (43, 44), (46, 47)),  # upper and lower lids
    *((68,), (69,)),  # pupils
    *((48,), (54,), (51,), (57,), (62,), (66,)),  # corners of the mouth, lips outside, inside
    *((19,), (24,)),  # middles of the brows
    *((61,), (63,), (67,), (65,)),  # between inner lips and corners: upper, lower
)
"""Each keypoint of the bundled model is the mean of these of dlib's 68 landmarks and the pupils."""


def bundled_config(stage: str) -> ConfigDict:
    """`base_config` for a short training of the bundled networks on a few CPU cores."""
    config = base_config(stage)
    config.model = "demo"
    config.size = SIZE
    config.augment = False
    config.schedule = "cosine"
    config.milestones = ()
    config.warmup_steps = 50
    config.clip_norm = 5.0
    config.workers = 0
    config.threads = 1
    config.save_every = 200
    config.panel_every = 200
    return config


def add_pair_fields(config: ConfigDict) -> None:
    """Adds the fields that training on pairs of frames needs."""
    config.batch_size = 8
    config.augment = True
    config.smallest_crop = 0.65  # of the frame's side, of the random squares that are enlarged
    config.crops_apart = 0.15  # share of pairs whose frames get squares of their own
    config.per_identity = True
    config.learning_rate = 7e-4
    config.eval_every = 1000
    config.pyramid_weight = 20.0
    config.scales = (1.0, 0.5, 0.25, 0.125)
    config.pyramid_sigma = 0.0


BY_KEYPOINT = (
    *("keypoint_points", "landmark_shares", "keypoints_shares", "motion_shares"),
    *("emotion_keypoints", "emotion_shares"),
)
"""Fields with an entry for each keypoint."""

TINY_KEYPOINTS = 10


def parse_variant(config: ConfigDict, variant: str) -> None:
    """Applies `tiny`, whose networks have fewer keypoints and whose runs are short."""
    if "tiny" in parse_variants(config, variant, ("tiny",)):
        config.warmup_steps = 0
        for field in BY_KEYPOINT:
            if field in config:
                config[field] = config[field][:TINY_KEYPOINTS]
