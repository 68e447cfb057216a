"""Losses and gradients in float64 against those of the published code in float64.

Rounding is gone in float64, so losses, norms and directions of all gradients agree to ten
digits: the computation is the published one. `EAMM_GOLDENS64` names another folder of the same
schema.
"""

import jax
import numpy as np
import pytest

from eamm_jax.ops.thin_plate import warp_image
from eamm_jax.training.objectives.base import to_float
from tests.training import parity

pytestmark = pytest.mark.exhaustive

# 3e-12 was measured, over two seeds.
TOLERANCES = {"losses": 1e-10, "norms": 1e-10, "directions": 1e-10}


@pytest.fixture(autouse=True)
def _float64(goldens64):
    if not goldens64:
        pytest.skip("no goldens in float64 (set EAMM_GOLDENS64)")
    with jax.enable_x64(True):
        yield
    jax.clear_caches()


@pytest.mark.parametrize("name", parity.STAGES)
def test_losses_and_gradients_are_exact(name, goldens64, variables64):
    stage = parity.STAGES[name]
    found = parity.losses_and_gradients(stage, goldens64, variables64, parity.FrameByFrame)
    assert {term.dtype for term in found.terms.values()} == {np.dtype(np.float64)}
    parity.assert_parity(found, stage, goldens64.load(stage.file), **TOLERANCES)


def test_the_warped_frame_is_exact(goldens64):
    golden = goldens64.load("loss_first_order_motion.npz")
    driving = to_float(parity.training_frames(goldens64))[np.atleast_1d(golden["driving_frame"])]
    warped = np.asarray(warp_image(parity.golden_warp(golden), driving)).transpose(0, 3, 1, 2)
    warped = warped[:, :, 96:160, 96:160]
    np.testing.assert_allclose(warped, golden["transformed_frame_crop"], rtol=0, atol=1e-12)
