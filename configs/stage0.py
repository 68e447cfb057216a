"""First-order motion: keypoint detector and generator from unlabelled video (stage 0).

    python train.py --config=configs/stage0.py --config.data=voxceleb=DATA \
        --init_from=VGG --workdir=DIR

Variants, joined by commas: `tiny` for tests, `gan` with the discriminator (after a first
training without it, as in the parent), `demo_keypoints` and `demo` for the bundled model
(drawn faces, whose landmarks teach the keypoints first; then the generator). Data: VoxCeleb,
pairs of frames of one video. Needs converted VGG-19 weights in VGG, or
`--config.perceptual=pyramid`.

Hardware: the published batch of 40 needs about 40 GB, or several accelerators; otherwise a
smaller one with `--config.accumulate` and `--config.remat="('vgg19', 'generator')"`. Time:
`benchmarks/training.py` measures a step on the machine at hand. Watch `validation psnr`.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import add_perceptual_loss, apply_variant, base_config

DEMO_KEYPOINTS = (
    *((1, 2, 3), (13, 14, 15), (7, 8, 9)),  # jaw and chin
    (30, 33),  # nose
    *((17, 18), (20, 21), (22, 23), (25, 26)),  # brows, from picture left
    *((37, 38), (40, 41), (43, 44), (46, 47)),  # upper and lower lids
    *((68,), (69,)),  # pupils
    *((48,), (54,), (51,), (57,), (62,), (66,)),  # corners of the mouth, lips outside, inside
)
"""Points of a face whose means are the keypoints of the bundled model."""


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage0")

    # Epochs are those of the parent: 75 passes with one pair of each identity.
    config.batch_size = 40
    config.per_identity = True
    config.num_repeats = 75
    config.num_epochs = 100

    # Losses.
    add_perceptual_loss(config, weight=10.0, pyramid_weight=100.0, pyramid_sigma=0.0)
    config.equivariance_value_weight = 10.0
    config.equivariance_jacobian_weight = 10.0
    config.gan = False
    config.generator_gan_weight = 1.0
    config.discriminator_gan_weight = 1.0
    config.feature_matching_weights = (10.0, 10.0, 10.0, 10.0)

    # The random warp of the equivariance loss.
    config.warp_affine_noise = 0.05
    config.warp_spline_noise = 0.005
    config.warp_points = 5

    # What a small model on drawn faces gains by, and the published one does without. With a
    # landmark weight the data must hold landmarks and pupils (`data.synthetic`).
    config.trained = ("kp_detector", "generator")  # or one of them, the detector first
    config.landmark_weight = 0.0  # of the keypoints' distance from their points
    config.turn_weight = 0.0  # of the Jacobians' distance from the turn of the head
    config.keypoint_points = ()  # for each keypoint the points (dlib's 68, pupils) it follows
    config.mouth_weight = 0.0  # how much more the mouth counts in pictures
    config.eyes_weight = 0.0
    config.warped_weight = 0.0  # of the distance of the portrait that is only moved

    variants = apply_variant(config, variant, ("tiny", "gan", "demo_keypoints", "demo"))
    config.gan = "gan" in variants
    if "tiny" in variants:
        config.num_repeats = 1
        config.feature_matching_weights = (10.0, 10.0)
    if variants & {"demo_keypoints", "demo"}:
        config.trained = ("kp_detector",) if "demo_keypoints" in variants else ("generator",)
        config.batch_size = 8
        config.num_repeats = 1
        config.num_epochs = 10 if "demo_keypoints" in variants else 30
        config.learning_rate = 7e-4
        config.equivariance_value_weight = 0.0
        config.equivariance_jacobian_weight = 0.0
        config.pyramid_weight = 20.0
        config.landmark_weight = 30.0
        config.turn_weight = 3.0
        config.keypoint_points = DEMO_KEYPOINTS
        config.mouth_weight = 4.0
        config.eyes_weight = 8.0
        config.warped_weight = 10.0
        config.eval_every = 1000
    return config.lock()
