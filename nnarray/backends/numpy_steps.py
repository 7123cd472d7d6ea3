"""Faster versions of core's steps for NumPy: fewer temporaries, and methods in place of their slower wrappers.

They matter where arrays are small and the time goes into calls. Each gives what core's step of its name gives.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Pairs


def accelerate(steps: Steps) -> Steps:
    """`steps` with NumPy's faster versions in their places."""
    return steps._replace(linear_forward=linear_forward, linear_backward=linear_backward, join=join, split=split)


def linear_forward(A_prev: Array, W: Array, b: Array) -> Array:
    """Z = W A_prev + b, the sum in place."""
    Z = W @ A_prev
    Z += b
    return Z


def linear_backward(dZ: Array, A_prev: Array, *, m: Any) -> tuple[Array, Array]:
    """dW = (1/m) dZ A_prevᵀ and db = (1/m) Σ_columns dZ, the divisions in place."""
    dW = dZ @ A_prev.T
    dW /= m
    db = np.add.reduce(dZ, axis=1, keepdims=True)
    db /= m
    return dW, db


def join(layers: Pairs) -> Array:
    """theta from every W and b."""
    return np.concatenate([V.ravel() for W, b in layers for V in (W, b)])


def split(theta: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Every W and b as views of theta."""
    layers = []
    start = 0
    for n_prev, n in pairwise(sizes):
        middle, end = start + n * n_prev, start + n * (n_prev + 1)
        layers.append((theta[start:middle].reshape(n, n_prev), theta[middle:end].reshape(n, 1)))
        start = end
    return layers
