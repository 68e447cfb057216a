"""The optimiser against Adam written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from eamm_jax.training.config import base_config
from eamm_jax.training.optimizers import make_optimizer, make_schedule


def config_of(**fields):
    config = base_config("stage1")
    config.update(fields)
    return config


def adam(gradients, rate, beta1=0.5, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba 2015, algorithm 1: the sum of all updates."""
    mean = square = position = np.zeros_like(gradients[0], dtype=float)
    for count, gradient in enumerate(gradients, start=1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        corrected = mean / (1 - beta1**count)
        position = position - rate * corrected / (np.sqrt(square / (1 - beta2**count)) + epsilon)
    return position


def run(optimizer, gradients, rate=0.01):
    params = jax.tree.map(jnp.zeros_like, gradients[0])
    state = optimizer.init(params)

    @jax.jit
    def step(gradient, state, params):
        direction, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, optax.tree.scale(rate, direction)), state

    for gradient in gradients:
        params, state = step(gradient, state, params)
    return params


def some_gradients(rng, count, scale=1.0):
    return [{"net": (scale * rng.normal(size=5)).astype(np.float32)} for _ in range(count)]


def test_it_is_adam(rng):
    gradients = some_gradients(rng, 6)
    expected = adam([g["net"] for g in gradients], 0.01)
    np.testing.assert_allclose(
        run(make_optimizer(config_of()), gradients)["net"], expected, rtol=1e-4
    )


def test_gradients_are_clipped_by_their_norm(rng):
    gradients = some_gradients(rng, 4, scale=10.0)
    clipped = [g["net"] / np.linalg.norm(g["net"]) for g in gradients]
    assert min(np.linalg.norm(g["net"]) for g in gradients) > 1
    found = run(make_optimizer(config_of(clip_norm=1.0)), gradients)["net"]
    np.testing.assert_allclose(found, adam(clipped, 0.01), rtol=1e-4)


def test_groups_are_clipped_apart(rng):
    gradients = [
        {"small": 0.1 * np.ones(2, np.float32), "large": 100 * g["net"]}
        for g in some_gradients(rng, 3)
    ]
    # A norm between the two: the small group must not shrink for the large one.
    optimizer = make_optimizer(config_of(clip_norm=1.0), {"small": "one", "large": "other"})
    found = run(optimizer, gradients)
    large = [g["large"] / np.linalg.norm(g["large"]) for g in gradients]
    np.testing.assert_allclose(found["large"], adam(large, 0.01), rtol=1e-4)
    np.testing.assert_allclose(
        found["small"], adam([g["small"] for g in gradients], 0.01), rtol=1e-4
    )


def test_accumulated_gradients_are_averaged_for_one_update(rng):
    gradients = some_gradients(rng, 6)
    pairs = [(gradients[i]["net"] + gradients[i + 1]["net"]) / 2 for i in (0, 2, 4)]
    found = run(make_optimizer(config_of(accumulate=2)), gradients)["net"]
    np.testing.assert_allclose(found, adam(pairs, 0.01), rtol=1e-4)
    # After an odd step nothing new has happened.
    found = run(make_optimizer(config_of(accumulate=2)), gradients[:5])["net"]
    np.testing.assert_allclose(found, adam(pairs[:2], 0.01), rtol=1e-4)


def test_rate_falls_at_the_milestones():
    schedule = make_schedule(config_of(steps_per_epoch=10))
    steps = [0, 599, 600, 899, 900, 5000]
    found = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(found, [2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-6], rtol=1e-5)


def test_a_cosine_rises_to_its_rate_and_falls_to_zero():
    cosine = {"schedule": "cosine", "learning_rate": 2e-3}
    rate = make_schedule(config_of(**cosine, warmup_steps=10, num_steps=110))
    np.testing.assert_allclose(
        [rate(step) for step in (0, 5, 10, 60, 110)], [0, 1e-3, 2e-3, 1e-3, 0], atol=1e-9
    )
    np.testing.assert_allclose(make_schedule(config_of(**cosine, num_steps=9))(0), 2e-3)
