"""The parts of a table: which rows they are, and their examples."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError


class Split(NamedTuple):
    """Which rows train, which choose the epoch, and which are held out to the end."""

    training: npt.NDArray[Any]
    validation: npt.NDArray[Any]
    test: npt.NDArray[Any]


class Part(NamedTuple):
    """Examples as the network takes them."""

    X: npt.NDArray[Any]
    """(n_x, m), prepared, in the dtype of training"""
    values: npt.NDArray[Any]
    """each example's class or number, shape (m,)"""
    weights: npt.NDArray[Any] | None = None
    """(1, m)"""

    @property
    def m(self) -> int:
        """How many examples."""
        return self.values.size


def split(m: int, strata: npt.NDArray[Any], validation: float, test: float, seed: int) -> Split:
    """Rows 0 … m-1 dealt at random into three parts, each of the strata in proportion."""
    order = np.random.default_rng(seed).permutation(m)
    order = order[np.argsort(strata[order], kind="stable")]
    held = _every(m, test)
    rest = order[~held]
    chosen = _every(rest.size, validation / (1 - test))
    parts = Split(rest[~chosen], rest[chosen], order[held])
    for part, share in zip(parts, (1, validation, test), strict=True):
        if share and not part.size:
            msg = f"{m} examples are too few for a split into parts: see --validation and --test, which may be 0"
            raise CommandError(msg)
    return parts


def _every(m: int, share: float) -> npt.NDArray[Any]:
    """True at a `share` of m places, evenly spread."""
    chosen: npt.NDArray[Any] = np.diff(np.floor(np.arange(m + 1) * share + 1e-9)) > 0
    return chosen
