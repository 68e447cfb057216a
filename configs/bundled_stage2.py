"""Bundled model, fourth: the displacement that an emotion adds to audio keypoints.

    python train.py --config=configs/bundled_stage2.py \
        --config.data=synthetic=TALK --init_from=STAGE1 --workdir=DIR

Variant: `tiny` for tests. Data: clips of `data.synthetic` in all emotions. STAGE1 is the work
directory of `bundled_stage1.py`.

Hardware: two CPU cores. Cost: 1.2 s a step; 300 steps from networks that had 1,030.
Metric: requested emotion that a separate classifier recognizes: 54 % on real portraits
(eamm_jax/bundled/MODEL_CARD.md).
"""

from ml_collections import ConfigDict

from eamm_jax.training.bundled_config import bundled_config, parse_variant

EMOTION_SHARES = (
    *(1.5, 1.5, 1.0, 1.5),  # jaw, chin and nose
    *(1.3,) * 8,  # brows and lids
    *(1.0,) * 2,  # pupils
    *(2.5,) * 2,  # corners of the mouth
    *(1.2,) * 4,  # lips
    *(1.3,) * 2,  # middles of the brows
    *(1.5,) * 4,  # lips towards the corners
)
"""Of the keypoints of `bundled_keypoints.py`. What is drawn follows its keypoints less far,
corners of the mouth least."""


def get_config(variant: str = "") -> ConfigDict:
    config = bundled_config("guided_stage2")
    config.batch_size = 16
    config.learning_rate = 1e-3
    config.num_epochs = 30

    # Only every fourth of a clip's 16 frames is read: more clips for the same work.
    config.frame_stride = 4

    config.emotion_head = "dense"
    config.emotion_keypoints = tuple(range(26))
    config.emotion_shares = EMOTION_SHARES

    # Image keypoints are those that data.teach keeps with the data.
    config.taught = False

    # Losses.
    config.value_weight = 100.0
    config.jacobian_weight = 10.0
    config.classification_weight = 0.3

    # The mouth is masked; nothing else is augmented.
    config.mask_mouth = True

    parse_variant(config, variant)
    return config.lock()
