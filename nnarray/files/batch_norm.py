"""The tensors of a network with batch normalisation in its file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.engine.batch_norm import split, split_statistics


def normalized_tensors(
    theta: npt.NDArray[Any], statistics: npt.NDArray[Any], sizes: Sequence[int]
) -> dict[str, npt.NDArray[Any]]:
    """W1, b1 (which is beta) and gamma1, …, WL, bL, and after them mean1, variance1, …."""
    layers, averages = split(theta, sizes, xp=np), split_statistics(statistics, sizes, xp=np)
    named = _named(("W", "b", "gamma"), layers) | _named(("mean", "variance"), averages)
    return {name: np.ascontiguousarray(V) for name, V in named.items()}


def _named(names: Sequence[str], layers: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {f"{name}{l}": V for l, layer in enumerate(layers, 1) for name, V in zip(names, layer, strict=False)}


def require_variances(statistics: npt.NDArray[Any], sizes: Sequence[int]) -> None:
    """Raise ValueError for a variance below 0, of which there is no root."""
    for l, (_, variance) in enumerate(split_statistics(statistics, sizes, xp=np), 1):
        if (variance < 0).any():
            msg = f"variance{l} must be ≥ 0, got {variance.min():g}"
            raise ValueError(msg)
