"""The TFDS builder of the synthetic data set, from its folder layout."""

from data.builder import ClipsBuilder


class Builder(ClipsBuilder):
    """Drawn faces in the published layout: `<identity>` is a person of the cast."""

    DESCRIPTION = "Talking, emotional faces drawn by data.synthetic, speech by eSpeak NG."
    HOMEPAGE = "docs/synthetic.md"
    CLIPS_PER_SHARD = 256  # about 0.6 GB at 128x128
