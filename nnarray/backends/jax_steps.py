"""Faster versions, for JAX, of core's linear steps of a layer of one unit, each giving what core's gives.

On CPUs, JAX multiplies a matrix by a vector of one axis several times faster than by a matrix of one row.
"""

from functools import partial

from nnarray.core.steps import Steps
from nnarray.core.typing import Array


def accelerate(steps: Steps) -> Steps:
    """`steps` with these in their places."""
    return steps._replace(
        linear_forward=partial(linear_forward, steps), linear_backward=partial(linear_backward, steps)
    )


def linear_forward(steps: Steps, A_prev: Array, W: Array, b: Array) -> Array:
    """Z = W A_prev + b."""
    if W.shape[0] > 1:
        return steps.linear_forward(A_prev, W, b)
    return (W[0, :] @ A_prev)[None, :] + b


def linear_backward(steps: Steps, dZ: Array, A_prev: Array, *, m: Array) -> tuple[Array, Array]:
    """dW = (1/m) dZ A_prevᵀ and db = (1/m) Σ_columns dZ."""
    if dZ.shape[0] > 1:
        return steps.linear_backward(dZ, A_prev, m=m)
    return (A_prev @ dZ[0, :])[None, :] / m, steps.xp.sum(dZ, axis=1, keepdims=True) / m
