"""What accelerators get of the training steps, at the published size: which tensors are which.

Nothing is computed: shapes are abstract, and the steps are lowered for platforms that are not here.
"""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from benchmarks import workload
from eamm_jax.models import build, example_inputs
from eamm_jax.training.config import model_config
from eamm_jax.training.stage import make_stage

pytestmark = pytest.mark.slow

# Gradients of gathers: where the generator samples the source features, and where keypoints that
# an emotion moves are chosen.
SCATTERS = {"stage0": 1, "stage1": 0, "stage1_finetune": 1, "stage2": 2}


@functools.cache
def traced(name, dtype):
    """The step of a stage, traced once for all platforms."""
    config = workload.stage_config(name, "", {"dtype": dtype, "batch_size": 2})
    networks = model_config(config)
    stage, modules = make_stage(config, networks), build(networks)
    given = {
        name: jax.eval_shape(
            getattr(modules, name).init, jax.random.key(0), *example_inputs(networks, name)
        )
        for name in stage.required
    }
    state = jax.eval_shape(stage.init, jax.random.key(0), given)
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, workload.random_batch(config)))
    rng = jax.eval_shape(lambda: jax.random.key(0))
    return jax.jit(stage.train_step).trace(state, batch, rng), state


def operands(text, operation):
    """How often an operation has operands of these types, and whether in full precision."""
    found = Counter()
    for line in text.splitlines():
        if f"stablehlo.{operation}" in line:
            inputs = line.rsplit(" : (", 1)[1].split(") ->")[0]
            exact = line.count("HIGHEST") == 2
            found[tuple(re.findall(r"x(bf16|f32|f64)>", inputs)), exact] += 1
    return found


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", SCATTERS)
def test_in_bfloat16_layers_are_bfloat16_and_coordinates_exact(name, platform):
    trace, state = traced(name, "bfloat16")
    text = trace.lower(lowering_platforms=(platform,)).as_text()
    convolutions, products = (operands(text, kind) for kind in ("convolution", "dot_general"))
    assert set(convolutions) == {(("bf16", "bf16"), False)}
    assert convolutions.total() > 70
    # But for the classifier of emotions, a layer that is float32.
    layers = products.pop((("f32", "f32"), False), 0)
    assert layers == (3 if name == "stage2" else 0)
    assert set(products) <= {(("bf16", "bf16"), False), (("f32", "f32"), True)}
    assert products[("f32", "f32"), True] >= 8
    assert text.count('"stablehlo.scatter"') == SCATTERS[name]
    # Parameters, statistics and the optimizer's moments stay float32, and so do all metrics.
    after, metrics = trace.out_info
    dtypes = [jax.tree.map(lambda x: x.dtype, tree) for tree in (after, state)]
    assert dtypes[0] == dtypes[1]
    assert not any(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(state))
    assert {x.dtype for x in metrics.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_in_float32_there_are_the_same_layers(platform):
    found = []
    for dtype in ("float32", "bfloat16"):
        text = traced("stage1", dtype)[0].lower(lowering_platforms=(platform,)).as_text()
        found.append([operands(text, kind).total() for kind in ("convolution", "dot_general")])
    assert found[0] == found[1]
