"""Batch normalisation over a batch in training. It couples the columns, so that a batch is always one tile."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from nnarray.core.typing import Array, Namespace
from nnarray.core.vector import vector_size


def theta_size(sizes: Sequence[int]) -> int:
    """The length of theta with gamma: Σ n[l] (n[l-1] + 1), and n[l] more for each hidden layer."""
    return vector_size(sizes) + sum(sizes[1:-1])


def split(theta: Array, sizes: Sequence[int], *, xp: Namespace) -> list[tuple[Array, ...]]:
    """(W[1], beta[1], gamma[1]), …, (W[L], b[L]) from theta, which `vector.join` lays end to end in this order."""
    layers: list[tuple[Array, ...]] = []
    start = 0
    for l, (n_prev, n) in enumerate(pairwise(sizes), 1):
        shapes = [(n, n_prev), (n, 1), (n, 1)][: 2 if l == len(sizes) - 1 else 3]
        ends = list(accumulate((rows * columns for rows, columns in shapes), initial=start))
        parts = zip(pairwise(ends), shapes, strict=True)
        layers.append(tuple(xp.reshape(theta[i:j], shape) for (i, j), shape in parts))
        start = ends[-1]
    return layers
