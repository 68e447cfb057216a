"""What the tests of rendered people share."""

from pathlib import Path

import pytest

from data.synthetic.renderer import Renderer
from tests.data.formula_head import formula_head, save


@pytest.fixture(scope="session")
def small_head(tmp_path_factory) -> Path:
    """A head made by formula, packed."""
    path = tmp_path_factory.mktemp("head") / "small.npz"
    save(formula_head(), path)
    return path


@pytest.fixture(scope="session")
def renderer(small_head) -> Renderer:
    """People with that head."""
    return Renderer(str(small_head))
