"""Precision of what must not be rounded: coordinates, statistics and losses.

Coordinates are computed in float32 at least, and their products at full precision on every
platform: TensorFloat-32 would move keypoints by 3.5e-4, bfloat16 by 2.3e-3
(`docs/architecture.md` section 9). In float64 nothing is rounded to float32 on the way.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from eamm_jax.types import Array

HIGHEST = jax.lax.Precision.HIGHEST


def at_least_float32(x: Array | np.ndarray) -> Array:
    """The array in float32, or in its own type where that is wider."""
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def exact_einsum(subscripts: str, *operands: Array | np.ndarray) -> Array:
    """`jnp.einsum` at full precision; for coordinates."""
    return jnp.einsum(subscripts, *operands, precision=HIGHEST)


def exact_matmul(*matrices: Array) -> Array:
    """Product of stacks of matrices, from left to right, at full precision."""
    product, *others = matrices
    for matrix in others:
        product = jnp.matmul(product, matrix, precision=HIGHEST)
    return product
