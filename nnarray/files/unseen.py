"""Cells that training had none like: texts that are no category, and numbers far beyond all of the training's."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.files.cells import is_missing
from nnarray.files.preprocessing import Category, Date, Number, Preprocessing

FAR = 100.0
"""Scaled numbers beyond it are reported: training had none beyond 10."""


NONE = np.empty(0, dtype="int64")


def warn_of_unseen(
    preprocessing: Preprocessing,
    X: npt.NDArray[Any],
    table: Sequence[Any],
    names: Sequence[str] | None,
    missing: Sequence[str],
) -> None:
    """Give a UserWarning of the cells in a table, and of its inputs X (n_x, m), that training had none like."""
    found, at = [], 0
    is_far = X.size > 0 and max(float(X.max()), -float(X.min())) > FAR
    for k, column in enumerate(preprocessing.columns):
        unseen = _unseen(column, X[at : at + column.width], is_far)
        at += column.width
        if unseen.size and isinstance(column, Category):
            cells = np.asarray(table[k], dtype=object)[unseen]
            unseen = unseen[[not (is_missing(cell) or str(cell).strip() in missing) for cell in cells]]
        if unseen.size:
            what = "are none of its categories" if isinstance(column, Category) else "are far beyond all of training's"
            name = f"the column {names[k]!r}" if names is not None else f"column {k}"
            cell = np.asarray(table[k])[unseen[0]]
            found.append(f"{name}: {unseen.size} of {X.shape[1]} cells, such as {str(cell)[:60]!r}, {what}")
    if found:
        warnings.warn("; ".join(found[:10]), stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """The `stacklevel` at which whoever warns names the line that called nnarray."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("nnarray."):
        frame, level = frame.f_back, level + 1
    return level


def _unseen(column: Any, rows: npt.NDArray[Any], is_far: bool) -> npt.NDArray[Any]:
    """The examples that have such a cell in a column, of its inputs (width, m); `is_far` if any of X is."""
    if isinstance(column, Category):
        return np.flatnonzero(~rows.any(axis=0))
    is_scaled = isinstance(column, Number) or (isinstance(column, Date) and "days" in column.scalings)
    return np.flatnonzero(np.abs(rows[0]) > FAR) if is_far and is_scaled else NONE
