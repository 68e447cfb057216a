"""Part 2: the displacement that an emotion adds to audio keypoints (stage 2).

    python train.py --config=configs/stage2.py --config.data=mead=DATA \
        --init_from=STAGE1 --workdir=DIR

Variant: `tiny` for tests. Data: MEAD, clips of 16 frames named by emotion; the source image is
a frame of a random neutral clip of the same person. STAGE1 is a converted checkpoint or the
work directory of stage 1 or its fine-tune.

Hardware: the published batch of 16 was not run; a batch of 2 needs 3.8 GB on a CPU.
Cost: 3.3 s a step of 2 clips on two CPU cores; GPUs and TPUs were not measured.
Metric: `validation value` and `validation accuracy`. Not measured at the published size.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import base_config, parse_variants


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage2")
    config.batch_size = 16

    # The head (linear_4, linear_10, linear_np_4, linear_np_10, or dense, which is ours), and
    # the keypoints that carry emotion for linear_4, linear_np_4 and dense.
    config.emotion_head = "linear_4"
    config.emotion_keypoints = (1, 4, 6, 8)
    config.emotion_shares = (0.2, 1.0, 1.0, 0.0)  # of their displacement, at inference

    # Image keypoints are those that data.teach keeps with the data.
    config.taught = False

    # Losses.
    config.value_weight = 10.0
    config.jacobian_weight = 10.0
    config.classification_weight = 1.0

    # Augmentation of the emotion network's input; lengths in pixels at 256x256.
    config.jitter = 0.0
    config.mask_mouth = True
    config.flip = True
    config.rotation = 30.0
    config.perspective = (20, 30)
    config.enlargement = (20, 40)

    parse_variants(config, variant, ("tiny",))
    return config.lock()
