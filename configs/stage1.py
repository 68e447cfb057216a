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

DEMO_MOTION_SHARES = (1.0, 1.0, 4.0, *(1.0,) * 11, 6.0, 6.0, 6.0, 10.0, 10.0, 14.0)
"""The bundled model's keypoints (`stage0.py`): sound moves chin, corners and lips."""


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage1")

    # Of a clip's 16 frames every so many-th is looked at: more clips for the same work.
    config.frame_stride = 1

    # Losses.
    config.value_weight = 10.0
    config.heatmap_weight = 1000.0
    config.jacobian_weight = 10.0
    config.motion_weight = 0.0  # of keypoints' motion, apart from where they are
    config.motion_shares = ()  # how much each of them counts in it; (): all the same
    config.place_emotions = ()  # clips that tell where keypoints are, not only motion; (): all

    variants = apply_variant(config, variant, ("tiny", "demo"))
    if "demo" in variants:
        config.batch_size = 16
        config.frame_stride = 2
        config.place_emotions = ("neutral",)
        config.heatmap_weight = 0.0
        config.motion_weight = 30.0
        config.motion_shares = DEMO_MOTION_SHARES
        config.learning_rate = 5e-4
        config.num_epochs = 10
    return config.lock()
