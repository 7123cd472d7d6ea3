"""How good predictions are, as one figure."""

from nnarray.backends import Backend, number
from nnarray.core.typing import Array


def score(A: Array, Y: Array, output: str, backend: Backend) -> float:
    """The accuracy for sigmoid and softmax, R² for identity and exp, of predictions A for targets Y, both (n[L], m)."""
    xp = backend.xp
    if output == "softmax":
        right = xp.argmax(A, axis=0) == xp.argmax(Y, axis=0)
        return int(xp.count_nonzero(right)) / int(right.shape[0])
    if output == "sigmoid":
        right = xp.all((A > 0.5) == (Y > 0.5), axis=0)
        return int(xp.count_nonzero(right)) / int(right.shape[0])
    return r_squared(A, Y, backend)


def r_squared(A: Array, Y: Array, backend: Backend) -> float:
    """The coefficient of determination, 1 - Σ (Y-A)² / Σ (Y-mean)², averaged over the units.

    A unit whose targets are all the same scores 1 where every prediction is right, else 0 (scikit-learn's r2_score).
    """
    xp = backend.xp
    residual = xp.sum((Y - A) * (Y - A), axis=1)
    deviation = Y - xp.mean(Y, axis=1, keepdims=True)
    total = xp.sum(deviation * deviation, axis=1)
    varies = total > 0
    explained = 1.0 - residual / xp.where(varies, total, 1.0)
    constant = xp.astype(residual == 0, A.dtype)
    return number(xp.mean(xp.where(varies, explained, constant)))
