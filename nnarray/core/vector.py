"""theta: every W and b of a network laid end to end, W[1], b[1], W[2], … , each row by row."""

from collections.abc import Sequence
from itertools import pairwise

from nnarray.core.typing import Array, Layers, Namespace


def vector_size(sizes: Sequence[int]) -> int:
    """The length of theta: Σ n[l] (n[l-1] + 1)."""
    return sum(n * (n_prev + 1) for n_prev, n in pairwise(sizes))


def join(layers: Layers, *, xp: Namespace) -> Array:
    """theta from (W[1], b[1]), …, (W[L], b[L])."""
    return xp.concat([xp.reshape(V, (-1,)) for layer in layers for V in layer])


def split(theta: Array, sizes: Sequence[int], *, xp: Namespace) -> list[tuple[Array, Array]]:
    """(W[1], b[1]), …, (W[L], b[L]) from theta: views of it, or copies on namespaces whose arrays are immutable."""
    layers = []
    start = 0
    for n_prev, n in pairwise(sizes):
        middle, end = start + n * n_prev, start + n * (n_prev + 1)
        layers.append((xp.reshape(theta[start:middle], (n, n_prev)), xp.reshape(theta[middle:end], (n, 1))))
        start = end
    return layers
