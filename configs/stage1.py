"""Part 1: keypoints from speech, head pose and a source image (stage 1).

    python train.py --config=configs/stage1.py --config.data=lrw=DATA \
        --init_from=STAGE0 --workdir=DIR

Variant: `tiny` for tests. Data: LRW, clips of 16 frames. STAGE0 is a converted checkpoint or
the work directory of stage 0: its keypoints are the targets, its generator renders the panels.

Hardware: the published batch of 8 compiles to 3.1 GB of memory on one device; a batch of 2
takes 3.8 GB on a CPU.
Cost: 1.7 s a step of 2 clips on two CPU cores; GPUs and TPUs were not measured.
Metric: `validation value`, ten times the mean distance of a keypoint's coordinates from those
of the image keypoints. Not measured at the published size.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import base_config, parse_variants


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage1")

    # Image keypoints are those that data.teach keeps with the data; needs augment = False.
    config.taught = False

    # Losses.
    config.value_weight = 10.0
    config.heatmap_weight = 1000.0
    config.jacobian_weight = 10.0

    parse_variants(config, variant, ("tiny",))
    return config.lock()
