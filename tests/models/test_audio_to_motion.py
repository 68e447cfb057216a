"""The LSTM and its derivatives, against what autodiff makes of the equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eamm_jax.models.audio_to_motion import LSTMState, StackedLSTM

WIDTH, LAYERS = 5, 2


def plain_lstm(params, x, hidden, cell):
    """Hochreiter & Schmidhuber 1997 with forget gates, frame by frame, layer by layer."""
    for layer in range(LAYERS):
        part = {
            name: params[f"layer_{layer}_{name}"]
            for name in ("input_kernel", "hidden_kernel", "input_bias", "hidden_bias")
        }
        h, c, outputs = hidden[layer], cell[layer], []
        for t in range(x.shape[1]):
            gates = x[:, t] @ part["input_kernel"] + part["input_bias"]
            gates += h @ part["hidden_kernel"] + part["hidden_bias"]
            i, f, g, o = (gates[:, n * WIDTH : (n + 1) * WIDTH] for n in range(4))
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            outputs.append(h)
        x = jnp.stack(outputs, axis=1)
    return x, h, c


@pytest.fixture
def case(rng):
    lstm = StackedLSTM(WIDTH, LAYERS)
    x = rng.normal(size=(3, 4, 6)).astype(np.float32)
    hidden, cell = rng.normal(size=(2, LAYERS, 3, WIDTH)).astype(np.float32)
    return lstm, lstm.init(jax.random.key(0), x, LSTMState(hidden, cell))["params"], x, hidden, cell


def module(lstm):
    def run(params, x, hidden, cell):
        outputs, after = lstm.apply({"params": params}, x, LSTMState(hidden, cell))
        return outputs, after.hidden[-1], after.cell[-1]

    return run


def test_lstm_is_the_plain_one(case):
    lstm, *inputs = case
    for found, expected in zip(module(lstm)(*inputs), plain_lstm(*inputs), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gradients_are_those_of_autodiff(case):
    lstm, *inputs = case

    def gradients(run):
        # Weighted apart, so that a cotangent in the wrong place shows.
        def loss(*inputs):
            outputs, h, c = run(*inputs)
            return jnp.sum(jnp.sin(outputs)) + 2 * jnp.sum(h**2) + 3 * jnp.sum(jnp.cos(c))

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*inputs)

    found, expected = gradients(module(lstm)), gradients(plain_lstm)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 1
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_tangents_are_those_of_autodiff(case):
    lstm, *inputs = case
    direction = jax.tree.map(jnp.cos, inputs)
    _, found = jax.jit(lambda: jax.jvp(module(lstm), inputs, direction))()
    _, expected = jax.jit(lambda: jax.jvp(plain_lstm, inputs, direction))()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_the_kernels_gradient_is_one_product_outside_the_loop(case):
    lstm, *inputs = case
    loss = jax.grad(lambda params: jnp.sum(module(lstm)(params, *inputs[1:])[0]))
    program = jax.make_jaxpr(loss)(inputs[0])
    loops = [e.params["jaxpr"].jaxpr for e in program.eqns if e.primitive.name == "scan"]
    assert len(loops) == 2 * LAYERS
    kernel = (WIDTH, 4 * WIDTH)
    for loop in loops:
        assert all(variable.aval.shape != kernel for variable in loop.outvars)
