"""Bundled model, first: the keypoint detector, taught by landmarks of rendered faces.

    python train.py --config=configs/bundled_keypoints.py \
        --config.data=synthetic=DATA --workdir=DIR

Variant: `tiny` for tests. Data: albums of `data.synthetic` with landmarks and pupils. `make
train-demo` runs all four steps of the bundled model.

Hardware: two CPU cores. Cost: not measured alone; the four steps took about three hours.
Metric: `validation landmarks`; not measured alone (see eamm_jax/bundled/MODEL_CARD.md).
"""

from ml_collections import ConfigDict

from eamm_jax.training.bundled_config import add_pair_fields, bundled_config, parse_variant

KEYPOINTS = (
    *((1, 2, 3), (13, 14, 15), (7, 8, 9)),  # jaw and chin
    (30, 33),  # nose
    *((17, 18), (20, 21), (22, 23), (25, 26)),  # brows, from the image's left
    *((37, 38), (40, 41), (43, 44), (46, 47)),  # upper and lower lids
    *((68,), (69,)),  # pupils
    *((48,), (54,), (51,), (57,), (62,), (66,)),  # corners of the mouth, lips outside, inside
)
"""Each keypoint of the bundled model is the mean of these of dlib's 68 landmarks and the pupils."""


def get_config(variant: str = "") -> ConfigDict:
    config = bundled_config("guided_keypoints")
    add_pair_fields(config)
    config.num_epochs = 10

    # Losses.
    config.keypoint_points = KEYPOINTS
    config.landmark_weight = 30.0  # of the distance of keypoints from their points
    config.rotation_weight = 3.0  # of the distance of Jacobians from the head's rotation

    parse_variant(config, variant)
    return config.lock()
