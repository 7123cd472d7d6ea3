"""How good predictions are, in words and tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def codes(A: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The class 0, 1, … that each column of A[L] says: the most probable one, or 1 where one unit says > 0.5."""
    return np.asarray(A.argmax(axis=0) if A.shape[0] > 1 else A[0] > 0.5, dtype="int64")


def accuracy(said: npt.NDArray[Any], true: npt.NDArray[Any]) -> str:
    """The share of right answers."""
    return f"accuracy {np.mean(said == true):.4f} ({np.sum(said == true)} of {true.size} right)"


def regression(A: npt.NDArray[Any], Y: npt.NDArray[Any]) -> str:
    """R² and the root of the mean squared error of one unit's predictions, shape (m,)."""
    A = A.astype("float64")
    residual, total = np.sum((Y - A) ** 2), np.sum((Y - Y.mean()) ** 2)
    r2 = f"{1 - residual / total:.4f}" if total > 0 else "undefined (the target is constant)"
    return f"R² {r2}, RMSE {np.sqrt(residual / Y.size):.6g}"


def class_table(said: npt.NDArray[Any], true: npt.NDArray[Any], classes: Sequence[Any]) -> str:
    """Precision, recall, F1 and count of every class."""
    rows = [("class", "precision", "recall", "F1", "count")]
    for code, name in enumerate(classes):
        right = np.sum((said == code) & (true == code))
        positive, count = np.sum(said == code), np.sum(true == code)
        figures = _ratio(right, positive), _ratio(right, count), _ratio(2 * right, positive + count)
        rows.append((str(name), *figures, str(count)))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a table: the first column flush left, the others flush right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(w) if k else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def _ratio(part: Any, whole: Any) -> str:
    return f"{part / whole:.4f}" if whole else "-"
