"""The score of predictions, accuracy or R²."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends import Backend, is_concrete, number
from nnarray.core.typing import Array, Namespace

NAMES = {"softmax": "accuracy", "sigmoid": "accuracy", "identity": "R²", "exp": "R²"}
"""The name of the score, by output."""


def score(A: Array, Y: Array, output: str, backend: Backend) -> Any:
    """The accuracy for sigmoid and softmax, R² for identity and exp, of predictions A for targets Y, both (n[L], m).

    A float, or a 0-d array where A or Y are not concrete.
    """
    if is_concrete(A) and is_concrete(Y):
        (A, backend), (Y, _) = backend.looked_into(A), backend.looked_into(Y)
    xp = backend.xp
    if output == "softmax":
        return _share(xp.argmax(A, axis=0) == xp.argmax(Y, axis=0), A, xp)
    if output == "sigmoid":
        return _share(xp.all((A > 0.5) == (Y > 0.5), axis=0), A, xp)
    R2 = r_squared(A, Y, backend)
    return number(R2) if is_concrete(R2) else R2


class PartialScore(NamedTuple):
    """The contribution of some of the predictions to the score of all."""

    m: int
    right: float = 0.0
    """how many are right, where the score is an accuracy"""
    residual: Any = None
    """Σ (Y-A)² of each unit, where it is R²"""
    mean: Any = None
    """of each unit's Y"""
    total: Any = None
    """Σ (Y-mean)²"""


def partial_score(A: Array, Y: Array, output: str, backend: Backend) -> PartialScore:
    """The contribution of these predictions, in host arrays."""
    m = A.shape[1]
    if output in {"softmax", "sigmoid"}:
        return PartialScore(m, score(A, Y, output, backend) * m)
    (A, own), (Y, _) = backend.looked_into(A), backend.looked_into(Y)
    return PartialScore(m, 0.0, *[own.to_numpy(V).astype("float64") for V in _moments(A, Y, own.xp)])


def score_of_parts(parts: Sequence[PartialScore], output: str) -> float:
    """The score of all, in the order of the parts."""
    m = np.array([one.m for one in parts], "float64")
    if output in {"softmax", "sigmoid"}:
        return sum(one.right for one in parts) / float(m.sum())
    residual, mean, total = (np.stack([one[i] for one in parts]) for i in range(2, 5))
    whole = m @ mean / m.sum()
    between = m @ (mean - whole) ** 2  # Chan, Golub & LeVeque, The American Statistician 37 (1983)
    return float(_explained(residual.sum(axis=0), total.sum(axis=0) + between, np))


def _share(right: Array, A: Array, xp: Namespace) -> Any:
    """The fraction of examples that are `right`; an array of A's dtype where they are not concrete."""
    count, m = xp.count_nonzero(right), right.shape[0]
    return int(count) / m if is_concrete(count) else xp.astype(count, A.dtype) / m


def r_squared(A: Array, Y: Array, backend: Backend) -> Array:
    """The coefficient of determination, 1 - Σ (Y-A)² / Σ (Y-mean)², averaged over the units.

    A unit whose targets are all the same scores 1 where every prediction is right, else 0 (scikit-learn's r2_score).
    """
    residual, _, total = _moments(A, Y, backend.xp)
    return _explained(residual, total, backend.xp)


def _moments(A: Array, Y: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Of each unit: Σ (Y-A)², the mean of Y, and Σ (Y-mean)²."""
    mean = xp.mean(Y, axis=1, keepdims=True)
    deviation = Y - mean
    return xp.sum((Y - A) * (Y - A), axis=1), mean[:, 0], xp.sum(deviation * deviation, axis=1)


def _explained(residual: Array, total: Array, xp: Namespace) -> Array:
    varies = total > 0
    explained = 1.0 - residual / xp.where(varies, total, 1.0)
    constant = xp.astype(residual == 0, residual.dtype)
    return xp.mean(xp.where(varies, explained, constant))
