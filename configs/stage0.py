"""First-order motion: keypoint detector and generator from unlabelled video (stage 0).

    python train.py --config=configs/stage0.py --config.data=voxceleb=DATA \
        --init_from=VGG --workdir=DIR

Variants, joined by commas: `gan` with the discriminator (published: after a first training
without it), `tiny` for tests. Data: VoxCeleb, pairs of frames of one video. Needs converted
VGG-19 weights in VGG, or `--config.perceptual=pyramid`.

Hardware: the published batch of 40 was not run; a batch of 2 needs 10 GB. Smaller batches with
`--config.accumulate`, less memory with `--config.remat="('vgg19', 'generator')"`.
Cost: 5.8 s a step of 2 pairs on two CPU cores; GPUs and TPUs were not measured.
Metric: `validation perceptual`. Not measured with this code; the first-order motion model's
author reports about 82 with this loss on VoxCeleb (docs/training.md).
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import add_perceptual_loss, base_config, parse_variants


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage0")

    # 75 passes with one pair of each identity count as an epoch.
    config.batch_size = 40
    config.per_identity = True
    config.num_repeats = 75
    config.num_epochs = 100

    # Losses.
    add_perceptual_loss(config, weight=10.0, pyramid_weight=100.0, pyramid_sigma=0.0)
    config.equivariance_value_weight = 10.0
    config.equivariance_jacobian_weight = 10.0
    config.generator_gan_weight = 1.0
    config.discriminator_gan_weight = 1.0
    config.feature_matching_weights = (10.0, 10.0, 10.0, 10.0)

    # The random warp of the equivariance loss.
    config.warp_affine_noise = 0.05
    config.warp_spline_noise = 0.005
    config.warp_points = 5

    variants = parse_variants(config, variant, ("tiny", "gan"))
    if "gan" in variants:
        config.stage = "stage0_gan"
    if "tiny" in variants:
        config.feature_matching_weights = (10.0, 10.0)
    return config.lock()
