"""The TFDS builder of the synthetic data set, from its folder layout."""

from data.builder import ClipsBuilder


class Builder(ClipsBuilder):
    """Rendered faces in the published layout: `<identity>` is a person of the cast."""

    DESCRIPTION = "Talking, emotional faces rendered by data.synthetic."
    HOMEPAGE = "docs/synthetic.md"
    CLIPS_PER_SHARD = 256  # about 0.6 GB at 128x128
