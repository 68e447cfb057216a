"""Part 1 fine-tune: part 1 and the generator, which learns to render from audio keypoints.

    python train.py --config=configs/stage1_finetune.py --config.data=lrw=DATA \
        --init_from=STAGE1 --workdir=DIR

Variant: `tiny` for tests. Data: LRW, clips of 16 frames, of which every fourth is rendered.
STAGE1 is a converted checkpoint or the work directory of stage 1. Needs converted VGG-19
weights in it, or `--config.perceptual=pyramid`.

Hardware: the published batch of 6 was not run; a batch of 2 needs 19 GB on a CPU.
Cost: 20 s a step of 2 clips on two CPU cores; GPUs and TPUs were not measured.
Metric: `validation perceptual` and `validation psnr`. Not measured at the published size.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import add_perceptual_loss, base_config, parse_variants


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage1_finetune")
    config.batch_size = 6

    # Losses.
    config.value_weight = 10.0
    config.heatmap_weight = 1000.0
    config.jacobian_weight = 10.0
    add_perceptual_loss(config, weight=0.1, pyramid_weight=1.0, pyramid_sigma=1.5)

    parse_variants(config, variant, ("tiny",))
    return config.lock()
