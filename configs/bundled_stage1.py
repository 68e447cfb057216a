"""Bundled model, third: keypoints from speech, head pose and a source image.

    python train.py --config=configs/bundled_stage1.py \
        --config.data=synthetic=NEUTRAL,synthetic=TALK --init_from=STAGE0 --workdir=DIR

Variant: `tiny` for tests. Data: clips of `data.synthetic`, neutral and in all emotions. STAGE0
is the work directory of `bundled_generator.py`.

Hardware: two CPU cores. Cost: 1.6 s a step; 1,720 steps.
Metric: mouth-opening correlation with ground truth: 0.41 on real clips
(eamm_jax/bundled/MODEL_CARD.md).
"""

from ml_collections import ConfigDict

from eamm_jax.training.bundled_config import bundled_config, parse_variant

MOTION_SHARES = (
    *(1.0, 1.0, 4.0, *(1.0,) * 11),
    *(6.0, 6.0, 6.0, 10.0, 10.0, 14.0),
    *(1.0, 1.0, *(6.0,) * 4),
)
"""Of the keypoints of `bundled_keypoints.py`: speech moves chin, corners and lips."""


def get_config(variant: str = "") -> ConfigDict:
    config = bundled_config("guided_stage1")
    config.batch_size = 8
    config.learning_rate = 5e-4
    config.num_epochs = 10

    # All frames: with every second one only, the first is never compared, and in inference all
    # motion is that since the first.
    config.frame_stride = 1

    # Image keypoints are those that data.teach keeps with the data.
    config.taught = False

    # Losses.
    config.value_weight = 10.0
    config.jacobian_weight = 10.0
    config.motion_weight = 30.0  # of the keypoints' motion, whatever their positions
    config.motion_shares = MOTION_SHARES  # weight of each keypoint in it; (): all the same
    config.place_emotions = ("neutral",)  # clips that teach positions, not only motion; (): all

    parse_variant(config, variant)
    return config.lock()
