"""Goldens in float64, and the weights that they were made from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Goldens, convert_stand_ins


@pytest.fixture(scope="session")
def goldens64(shared: Path) -> Goldens | None:
    folder = Path(os.environ.get("EAMM_GOLDENS64", shared / "reference" / "goldens64")).resolve()
    return Goldens(folder) if (folder / "meta.json").is_file() else None


@pytest.fixture(scope="session")
def variables64(goldens64, goldens, published_variables, synthetic_weights, tmp_path_factory):
    """Variables of every network, by name, of the seed of the goldens in float64."""
    from eamm_jax.checkpoint import load_networks

    if goldens64.meta["seed"] == goldens.meta["seed"]:
        return published_variables
    folder = tmp_path_factory.mktemp("published64")
    checkpoint = convert_stand_ins(synthetic_weights, goldens64.meta["seed"], folder)
    return load_networks(checkpoint)[1]
