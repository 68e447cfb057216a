"""Bundled model, first: the keypoint detector, taught by landmarks of rendered faces.

    python train.py --config=configs/bundled_keypoints.py \
        --config.data=synthetic=DATA --workdir=DIR

Variant: `tiny` for tests. Data: albums of `data.synthetic` with landmarks and pupils. `make
train-demo` runs all four steps of the bundled model.

Hardware: two CPU cores. Cost: 0.4 to 1 s a step; 2,600 steps.
Metric: `validation landmarks`; not measured alone (see eamm_jax/bundled/MODEL_CARD.md).
"""

from ml_collections import ConfigDict

from eamm_jax.training.bundled_config import (
    KEYPOINTS,
    add_pair_fields,
    bundled_config,
    parse_variant,
)

LANDMARK_SHARES = (*(1.0,) * 8, *(3.0,) * 4, 2.0, 2.0, 2.0, 2.0, *(4.0,) * 4, 2.0, 2.0, *(4.0,) * 4)
"""Of those keypoints. Lids and lips, whose small errors are seen, count more."""


def get_config(variant: str = "") -> ConfigDict:
    config = bundled_config("guided_keypoints")
    add_pair_fields(config)
    config.num_epochs = 10

    # Losses.
    config.keypoint_points = KEYPOINTS
    config.landmark_weight = 30.0  # of the distance of keypoints from their points
    config.landmark_shares = LANDMARK_SHARES  # weight of each keypoint in it; (): all the same
    config.rotation_weight = 3.0  # of the distance of Jacobians from the head's rotation

    parse_variant(config, variant)
    return config.lock()
