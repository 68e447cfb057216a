"""Part 2: what an emotion adds to the keypoints that are heard (stage 2).

    python train.py --config=configs/stage2.py --config.data=mead=DATA \
        --init_from=STAGE1 --workdir=DIR

Variants: `:tiny` for tests, `:demo` for the bundled model (drawn faces). Data: MEAD, clips of
16 frames named by emotion; the portrait is a frame of a random neutral clip of the same
person. STAGE1 is a converted checkpoint or the work directory of stage 1 or its fine-tune.

Hardware: one accelerator of 16 GB for the published batch of 16. Time: `benchmarks/training.py`
measures a step on the machine at hand. Watch `validation value` and `validation accuracy`.
"""

from ml_collections import ConfigDict

from eamm_jax.training.config import apply_variant, base_config

DEMO_SHARES = (*(1.5, 1.5, 1.0), *(1.5,) * 13, *(1.0,) * 4)
"""Of the bundled model's keypoints (`stage0.py`). Held-out clips show less than the emotion has,
so all show more of it, but chin and lips: those belong to the sound."""


def get_config(variant: str = "") -> ConfigDict:
    config = base_config("stage2")
    config.batch_size = 16

    # The head (linear_4, linear_10, linear_np_4, linear_np_10, or dense, which is ours), and
    # the keypoints that carry emotion for linear_4, linear_np_4 and dense.
    config.emotion_head = "linear_4"
    config.emotion_keypoints = (1, 4, 6, 8)
    config.emotion_shares = (0.2, 1.0, 1.0, 0.0)  # of their displacement, at inference

    # Of a clip's 16 frames every so many-th is looked at: more clips for the same work.
    config.frame_stride = 1

    # Losses.
    config.value_weight = 10.0
    config.jacobian_weight = 10.0
    config.classification_weight = 1.0

    # Augmentation of what the emotion net sees; lengths in pixels at 256x256.
    config.jitter = 0.0
    config.mask_mouth = True
    config.flip = True
    config.rotation = 30.0
    config.perspective = (20, 30)
    config.enlargement = (20, 40)

    variants = apply_variant(config, variant, ("tiny", "demo"))
    if "demo" in variants:
        config.batch_size = 16
        config.frame_stride = 4
        config.emotion_head = "dense"
        config.emotion_keypoints = tuple(range(20))
        config.emotion_shares = DEMO_SHARES
        config.value_weight = 100.0
        config.learning_rate = 1e-3
        config.num_epochs = 30
    return config.lock()
