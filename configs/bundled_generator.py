"""Bundled model, second: the generator on rendered faces, from a trained detector.

    python train.py --config=configs/bundled_generator.py \
        --config.data=synthetic=DATA --init_from=KEYPOINTS --workdir=DIR

Variant: `tiny` for tests. Data: albums of `data.synthetic`, whose landmarks say where mouth and
eyes are, and whose regions where the head is. KEYPOINTS is the work directory of
`bundled_keypoints.py`.

Hardware: two CPU cores. Cost: 1.3 s a step; 1.9 s with `config.lpips_weight` of 60, as in
the last 3,500 of some 14,600 steps.
Metric: `validation psnr`, `psnr_mouth`, `psnr_eyes`: 24.0, 24.9 and 23.2 dB after 10,550 steps, on
pairs of people held out, of whom some turn far; on real clips see eamm_jax/bundled/MODEL_CARD.md.
"""

from ml_collections import ConfigDict

from eamm_jax.training.bundled_config import add_pair_fields, bundled_config, parse_variant

KEYPOINTS_SHARES = (
    *(*(1.0,) * 4, *(2.0,) * 4, *(3.0,) * 4),  # head, brows, lids
    *(2.0, 2.0, *(4.0,) * 4, 8.0, 8.0),  # pupils, corners of the mouth, lips
    *(2.0, 2.0, *(4.0,) * 4),  # middles of the brows, lips towards the corners
)
"""Of those of `bundled_keypoints.py`: lips first, whose gap is drawn too small otherwise."""


def get_config(variant: str = "") -> ConfigDict:
    config = bundled_config("guided_generator")
    add_pair_fields(config)
    config.num_epochs = 30
    config.smallest_crop = 0.45  # faces fill the frame
    config.crops_apart = 0.0  # or backgrounds would seem to move with heads

    # Losses.
    config.mouth_weight = 30.0  # added to the weight of the mouth's pixels
    config.eyes_weight = 20.0
    config.warped_weight = 3.0  # of the distance of the warped source image
    config.regions_weight = 2.0  # of telling head from backdrop, and what is occluded
    config.flow_weight = 20.0  # of the distance of points of the face, where motion takes them
    config.dense_flow_weight = 20.0  # likewise, of all that is seen of people
    config.keypoints_weight = 60.0  # of the distance of keypoints of the rendered frame
    config.keypoints_shares = KEYPOINTS_SHARES  # weight of each keypoint in it; (): all the same
    config.lpips_weight = 0.0  # of the perceptual distance of eyes and mouth; needs VGG-16
    config.lpips_scale = 0.5  # of the frames that it compares

    parse_variant(config, variant)
    return config.lock()
