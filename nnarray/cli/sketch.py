"""A sketch of the rows that a model was trained on, to detect when it is evaluated on the same."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SIZE = 512
"""Hashes that are kept: the smallest, so that of any set of rows they are a fair sample (a bottom-k sketch)."""

CHUNK = 2**16


class Seen(NamedTuple):
    """How many of some rows were trained on."""

    rows: int
    is_exact: bool
    """whether it was counted, or reckoned from a sample"""

    def __str__(self) -> str:
        return f"{self.rows}" if self.is_exact else f"about {self.rows}"


def hashes(X: npt.NDArray[Any], values: npt.NDArray[Any] | None = None) -> npt.NDArray[np.uint64]:
    """A hash of the bits of every example of X (n_x, m), and of its target among `values`, whatever their order."""
    n_x, m = X.shape
    generator = np.random.default_rng(0)
    factors = generator.integers(1, 2**63, size=n_x, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    result = np.empty(m, dtype=np.uint64)
    for at in range(0, m, CHUNK):
        rows = np.ascontiguousarray(X[:, at : at + CHUNK].T, dtype="float32") + np.float32(0)  # -0 is 0
        result[at : at + CHUNK] = rows.view(np.uint32).astype(np.uint64) @ factors
    if values is not None:
        result = _mixed(result) ^ (np.asarray(values, dtype="float64") + 0.0).view(np.uint64)
    return _mixed(result)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of a hash depending on all (the finaliser of splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def sketch(X: npt.NDArray[Any]) -> list[str]:
    """The smallest hashes of the examples, as text."""
    return [f"{value:016x}" for value in np.unique(hashes(X))[:SIZE].tolist()]


def seen(X: npt.NDArray[Any], kept: Sequence[str]) -> Seen:
    """How many examples of X are among those that `kept` is the sketch of."""
    known = np.array([int(text, 16) for text in kept], dtype=np.uint64)
    own = hashes(X) if known.size else np.empty(0, dtype=np.uint64)
    if known.size < SIZE:
        return Seen(int(np.isin(own, known).sum()), is_exact=True)
    below = own[own <= known.max()]
    share = np.isin(below, known).sum() / below.size if below.size else 0.0
    return Seen(round(share * own.size), is_exact=False)
