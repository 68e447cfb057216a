"""The one place that chooses an algorithm by platform.

Each operation has a plain form, which XLA compiles well for GPUs and TPUs, and may have another
that computes the same faster on a CPU. `jax.lax.platform_dependent` chooses when a program is
lowered, so that networks know nothing of processors and an exported program runs on any.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero, linear_call

from eamm_jax.types import Array

Tree = TypeVar("Tree")
Form = Callable[..., Array]


def multilinear(
    cpu: Form, cpu_gradients: Mapping[int, Form] | None = None
) -> Callable[[Form], Form]:
    """Decorates a function that is linear in each argument, with a form of its own on a CPU.

    Forward- and reverse-mode derivatives work. As in autodiff of a product, a derivative is the
    function itself with a tangent in an argument's place, and a gradient is that map's
    transpose: XLA's own of the plain form, and of the CPU's form or as given on a CPU. Only first
    derivatives are defined.

    Args:
        cpu: the same function by another algorithm.
        cpu_gradients: by the argument's position, a function of the cotangent and the other
            arguments that gives the argument's gradient on a CPU.
    """
    return lambda plain: _multilinear(plain, cpu, cpu_gradients or {})


def _multilinear(plain: Form, cpu: Form, gradients: Mapping[int, Form]) -> Form:
    @functools.wraps(plain)
    def select(*args: Array) -> Array:
        return jax.lax.platform_dependent(*args, cpu=cpu, default=plain)

    def derivative(index: int, args: tuple[Array, ...], tangent: Array) -> Array:
        others = args[:index] + args[index + 1 :]
        shape = jax.ShapeDtypeStruct(tangent.shape, tangent.dtype)

        def forward(others: tuple[Array, ...], tangent: Array) -> Array:
            return select(*others[:index], tangent, *others[index:])

        def transposed(form: Form) -> Form:
            def gradient(cotangent: Array, *others: Array) -> Array:
                def linear(x: Array) -> Array:
                    return form(*others[:index], x, *others[index:])

                return jax.linear_transpose(linear, shape)(cotangent)[0]

            return gradient

        def backward(others: tuple[Array, ...], cotangent: Array) -> Array:
            return jax.lax.platform_dependent(
                cotangent,
                *others,
                cpu=gradients.get(index, transposed(cpu)),
                default=transposed(plain),
            )

        return linear_call(forward, backward, others, tangent)

    function = jax.custom_jvp(select)

    @functools.partial(function.defjvp, symbolic_zeros=True)
    def jvp(args: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        out = function(*args)
        terms = [
            derivative(index, args, tangent)
            for index, tangent in enumerate(tangents)
            if not isinstance(tangent, SymbolicZero)
        ]
        return out, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(out)

    return function


def map_frames(function: Callable[[Tree], Array], frames: Tree, count: int | Array) -> Array:
    """A function of a batch of frames, applied to the first `count` of them.

    On a CPU one frame at a time, so that what is computed of it stays in the cache; what does
    not depend on the frame XLA computes once, before the loop.

    Args:
        function: of arrays with a leading axis of frames, each frame on its own.
        frames: its input, for t frames.
        count: of frames that are wanted.

    Returns:
        Its outputs, (t, ...). What follows the first `count` is undefined.
    """

    def one_by_one(frames: Tree, count: Array) -> Array:
        out = jax.eval_shape(function, frames)

        def step(index: Array, done: Array) -> Array:
            one = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, index, 1), frames)
            return jax.lax.dynamic_update_slice_in_dim(done, function(one), index, 0)

        return jax.lax.fori_loop(0, count, step, jnp.zeros(out.shape, out.dtype))

    return jax.lax.platform_dependent(
        frames, jnp.int32(count), cpu=one_by_one, default=lambda frames, count: function(frames)
    )
