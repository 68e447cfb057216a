"""The head pose network's layers against plain NumPy."""

from __future__ import annotations

import jax
import numpy as np
from scipy.ndimage import correlate

from eamm_jax.models.head_pose import OUTPUTS, HeadPoseNetwork, SeparableBlock


def normed(x: np.ndarray, params: dict, stats: dict) -> np.ndarray:
    scaled = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    return np.maximum(scaled * params["scale"] + params["bias"], 0)


def randomised(variables, rng):
    return jax.tree.map(lambda a: rng.uniform(0.2, 1, a.shape).astype(np.float32), variables)


def test_a_block_is_a_convolution_on_each_channel_then_one_across_them(rng):
    block = SeparableBlock(5, 2)
    x = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    variables = randomised(block.init(jax.random.key(0), x), rng)
    params, stats = variables["params"], variables["batch_stats"]
    each = np.stack(
        [
            # Its centres are the even pixels, as PyTorch pads by one on each side.
            correlate(x[0, ..., c], params["conv_dw"]["kernel"][:, :, 0, c], mode="constant")[
                ::2, ::2
            ]
            for c in range(3)
        ],
        axis=-1,
    )
    inner = normed(each, params["bn_dw"], stats["bn_dw"])
    across = inner @ params["conv_sep"]["kernel"][0, 0]
    expected = normed(across, params["bn_sep"], stats["bn_sep"])
    np.testing.assert_allclose(block.apply(variables, x)[0], expected, rtol=2e-5, atol=1e-6)


def test_outputs_are_in_their_own_units_and_see_colours_apart(rng):
    network = HeadPoseNetwork(4)
    image = rng.uniform(size=(2, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), image)
    apply = jax.jit(network.apply)
    plain = np.asarray(apply(variables, image))
    assert plain.shape == (2, OUTPUTS)
    mean, deviation = (rng.uniform(1, 2, OUTPUTS).astype(np.float32) for _ in range(2))
    scaled = {**variables, "statistics": {"mean": mean, "std": deviation}}
    np.testing.assert_allclose(apply(scaled, image), plain * deviation + mean, rtol=1e-5, atol=1e-5)


def test_the_first_channel_it_sees_is_blue(rng):
    """As OpenCV reads pictures, and 3DDFA_V2 was trained on them; ours are RGB."""
    network = HeadPoseNetwork(4)
    apply = jax.jit(network.apply)
    grey = np.full((1, 32, 32, 3), 0.5, np.float32)
    variables = randomised(jax.jit(network.init)(jax.random.key(0), grey), rng)
    first = variables["params"]["conv1"]["kernel"]
    first[:, :, 1:] = 0
    plain = np.asarray(apply(variables, grey))
    for channel, matters in enumerate((False, False, True)):
        changed = grey.copy()
        changed[..., channel] = rng.uniform(size=(32, 32))
        assert np.allclose(apply(variables, changed), plain) != matters
