"""Faster versions of core's steps for NumPy, each giving what core's step of its name gives."""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Namespace, Pairs


def accelerate(steps: Steps) -> Steps:
    """`steps` with NumPy's faster versions in their places."""
    return steps._replace(linear_backward=partial(linear_backward, xp=steps.xp), join=join, split=split)


def linear_backward(dZ: Array, A_prev: Array, *, m: Any, xp: Namespace) -> tuple[Array, Array]:
    """dW = (1/m) dZ A_prevᵀ and db = (1/m) dZ 1: BLAS adds rows up several times faster than NumPy."""
    ones = xp.ones((dZ.shape[1], 1), dtype=dZ.dtype)
    return dZ @ A_prev.T / m, dZ @ ones / m


def join(layers: Pairs) -> Array:
    """theta from every W and b."""
    return np.concatenate([V.ravel() for W, b in layers for V in (W, b)])


def split(theta: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Every W and b as views of theta."""
    return [(theta[i:j].reshape(shape), theta[j:k].reshape(-1, 1)) for i, j, k, shape in _places(tuple(sizes))]


@lru_cache(maxsize=64)
def _places(sizes: tuple[int, ...]) -> list[tuple[int, int, int, tuple[int, int]]]:
    """For each layer, where W begins, where it ends and b begins, where b ends, and W's shape."""
    ends = list(accumulate((n * (n_prev + 1) for n_prev, n in pairwise(sizes)), initial=0))
    shapes = [(n, n_prev) for n_prev, n in pairwise(sizes)]
    return [
        (start, end - n, end, (n, n_prev)) for (start, end), (n, n_prev) in zip(pairwise(ends), shapes, strict=True)
    ]
