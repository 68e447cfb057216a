"""The layers that are profiled are those of the network: none twice, none left out."""

from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from benchmarks.layers import find_layers, plain_form
from eamm_jax.models import build
from eamm_jax.ops.resizing import antialias_downsample
from tests.tiny import tiny_variables


def test_layers_add_up_to_the_network():
    config, variables = tiny_variables()
    network = build(config).emo_detector
    images = jnp.zeros((2, config.image_size, config.image_size, 3))

    def encode():
        return network.apply(variables["emo_detector"], images, method="encode")

    found = find_layers("emotion", variables["emo_detector"], 2, encode).values()
    kinds = [layer.name.split(",")[0].split(" ")[0] for layer in found for _ in range(layer.count)]
    assert kinds.count("BasicBlock") == 2 * len(config.emotion.stage_widths)
    assert kinds.count("UpBlock") == kinds.count("DownBlock") == config.emotion.blocks
    # What stands inside these is not counted again.
    assert kinds.count("Conv") == 1

    def flops(job):
        with mock.patch.object(jax.lax, "platform_dependent", plain_form):
            # A function of its own: JAX keeps the trace of one that it has seen without the patch.
            return jax.jit(lambda: job()).lower().cost_analysis()["flops"]  # noqa: PLW0108

    # The blur before the network is no layer.
    rest = flops(lambda: antialias_downsample(images, config.emotion.scale))
    total = sum(layer.flops * layer.count for layer in found)
    assert total + rest == pytest.approx(flops(encode), rel=0.01)
