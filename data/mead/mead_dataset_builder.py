"""The TFDS builder of mead."""

from data.builder import ClipsBuilder


class Builder(ClipsBuilder):
    """MEAD in the published layout: `<identity>` is the actor."""

    DESCRIPTION = "MEAD (Wang et al. 2020), cropped for EAMM."
    HOMEPAGE = "https://wywu.github.io/projects/MEAD/MEAD.html"
    CLIPS_PER_SHARD = 64  # about 0.6 GB
