"""Part 1 fine-tune: part 1 and the generator, so that it draws well from heard keypoints.

    python train.py --config=configs/stage1_finetune.py --config.data=lrw=DATA \
        --init_from=STAGE1 --workdir=DIR

`:tiny` is for tests. Data: LRW, clips of 16 frames, of which every fourth is rendered. STAGE1
is a converted checkpoint or the work directory of stage 1. Needs converted VGG-19 weights
beside it, or `--config.perceptual=pyramid`.

Hardware: 24 images are rendered at the published batch of 6, about as much memory as stage 0
at that many pairs. Time: `benchmarks/training.py` measures a step on the machine at hand.
Watch `validation perceptual` and `validation psnr`.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import add_perceptual_loss, apply_variant, base_config


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage1_finetune")
    config.batch_size = 6

    # Losses.
    config.value_weight = 10.0
    config.heatmap_weight = 1000.0
    config.jacobian_weight = 10.0
    config.motion_weight = 0.0  # of keypoints' motion, apart from where they are
    config.motion_shares = ()  # how much each of them counts in it; (): all the same
    add_perceptual_loss(config, weight=0.1, pyramid_weight=1.0, pyramid_sigma=1.5)

    apply_variant(config, variant)
    return config.lock()
