"""First-order motion: keypoint detector and generator from unlabelled video (stage 0).

    python train.py --config=configs/stage0.py --config.data=voxceleb=DATA \
        --init_from=VGG --workdir=DIR

Variants, joined by commas: `tiny` for tests, `gan` with the discriminator (after a first
training without it, as in the parent). Data: VoxCeleb, pairs of frames of one video. Needs
converted VGG-19 weights in VGG, or `--config.perceptual=pyramid`.

Hardware: the published batch of 40 needs about 40 GB, or several accelerators; otherwise a
smaller one with `--config.accumulate` and `--config.remat="('vgg19', 'generator')"`. Time:
`benchmarks/training.py` measures a step on the machine at hand. Watch `validation psnr`.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import add_perceptual_loss, apply_variant, base_config


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

    variants = apply_variant(config, variant, ("tiny", "gan"))
    config.gan = "gan" in variants
    if "tiny" in variants:
        config.num_repeats = 1
        config.feature_matching_weights = (10.0, 10.0)
    return config.lock()
