"""Part 1: keypoints from speech, head pose and a portrait (stage 1).

    python train.py --config=configs/stage1.py --config.data=lrw=DATA \
        --init_from=STAGE0 --workdir=DIR

Variants: `:tiny` for tests, `:demo` for the bundled model (drawn faces). Data: LRW, clips of
16 frames. STAGE0 is a converted checkpoint or the work directory of stage 0: it teaches the
keypoints, and draws the panels.

Hardware: one accelerator of 16 GB for the published batch of 8. Time: `benchmarks/training.py`
measures a step on the machine at hand. Watch `validation value`, ten times the mean distance
of a keypoint's coordinates from the teacher's.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import apply_variant, base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage1")

    # Losses.
    config.value_weight = 10.0
    config.heatmap_weight = 1000.0
    config.jacobian_weight = 10.0

    variants = apply_variant(config, variant, ("tiny", "demo"))
    if "demo" in variants:
        config.emotions = ("neutral",)
        config.learning_rate = 5e-4
        config.num_epochs = 20
    return config.lock()
