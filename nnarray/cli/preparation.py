"""From a table to training: the split into parts, the standardisation, and how the network takes it in."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError

WIDEST = 10.0
"""How far from the mean standardisation may leave a training example, in a column that is nearly constant."""


class Parts(NamedTuple):
    """Which rows train, which choose the epoch, and which are held out to the end."""

    training: npt.NDArray[Any]
    validation: npt.NDArray[Any]
    test: npt.NDArray[Any]


class Scaling(NamedTuple):
    """Standardisation: (x - mean) / scale, column by column."""

    mean: npt.NDArray[Any]
    scale: npt.NDArray[Any]
    constant: npt.NDArray[Any]
    """which columns never vary, and so say nothing"""

    def __call__(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The standardised columns of x, shape (m, n)."""
        standardised: npt.NDArray[Any] = (x - self.mean) / self.scale
        return standardised


def split(m: int, strata: npt.NDArray[Any], validation: float, test: float, seed: int) -> Parts:
    """Rows 0 … m-1 dealt at random into three parts, each of the strata in proportion."""
    order = np.random.default_rng(seed).permutation(m)
    order = order[np.argsort(strata[order], kind="stable")]
    held = _every(m, test)
    rest = order[~held]
    chosen = _every(rest.size, validation / (1 - test))
    parts = Parts(rest[~chosen], rest[chosen], order[held])
    for part, share in zip(parts, (1, validation, test), strict=True):
        if share and not part.size:
            msg = f"{m} examples are too few for a split into parts: see --validation and --test, which may be 0"
            raise CommandError(msg)
    return parts


def _every(m: int, share: float) -> npt.NDArray[Any]:
    """True at a `share` of m places, evenly spread."""
    chosen: npt.NDArray[Any] = np.diff(np.floor(np.arange(m + 1) * share + 1e-9)) > 0
    return chosen


def standardisation(x: npt.NDArray[Any], names: Sequence[str] | None = None) -> Scaling:
    """Mean 0 and standard deviation 1 for the columns of x, shape (m, n).

    The scale of a column that is nearly always the same is so large that no example ends up beyond ±10; that of a
    constant column is 1.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = x.mean(axis=0, dtype="float64"), x.max(axis=0) - x.min(axis=0).astype("float64")
        scale = np.maximum(x.std(axis=0, dtype="float64"), spread / WIDEST)
    constant = spread == 0
    scale = np.where(constant, 1.0, scale)
    bad = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(scale) & (scale > 0)))
    if bad.size:
        msg = f"the numbers of column {names[bad[0]] if names else bad[0]!r} are too large or too small to standardise"
        raise CommandError(msg)
    return Scaling(mean, scale, constant)


def fold(
    layers: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]], inputs: Scaling, target: Scaling | None
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """The layers that make of raw inputs what `layers` make of standardised ones, in float64.

    W (x - mean)/scale + b = (W/scale) x + (b - (W/scale) mean), and the weights of a constant column become 0. With
    `target`, the last layer's Z is turned back into the target's own units.
    """
    folded = [(W.astype("float64"), b.astype("float64")) for W, b in layers]
    W, b = folded[0]
    W = np.where(inputs.constant, 0.0, W / inputs.scale)
    folded[0] = (W, b - W @ inputs.mean[:, None])
    if target is not None:
        W, b = folded[-1]
        folded[-1] = (W * target.scale[:, None], b * target.scale[:, None] + target.mean[:, None])
    return folded
