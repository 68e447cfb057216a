"""The TFDS builder of voxceleb."""

from data.builder import ClipsBuilder


class Builder(ClipsBuilder):
    """VoxCeleb in the published layout: `<identity>` is the speaker."""

    DESCRIPTION = "VoxCeleb (Nagrani et al. 2017), cropped for EAMM."
    HOMEPAGE = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
    CLIPS_PER_SHARD = 32  # about 0.9 GB
