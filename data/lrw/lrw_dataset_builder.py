"""The TFDS builder of lrw."""

from data.builder import ClipsBuilder


class Builder(ClipsBuilder):
    """LRW in the published layout: `<identity>` is the word."""

    DESCRIPTION = "Lip Reading in the Wild (Chung and Zisserman 2016), cropped for EAMM."
    HOMEPAGE = "https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrw1.html"
    CLIPS_PER_SHARD = 256  # about 0.7 GB
