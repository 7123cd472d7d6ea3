"""Class labels as targets."""

from typing import Any

import numpy as np

from nnarray.backends import backend as default_backend
from nnarray.backends import backend_of, host_array, quiet
from nnarray.core.typing import Array
from nnarray.network.checks import check_count


@quiet
def one_hot(labels: Any, classes: int, *, dtype: str = "float32") -> Array:
    """Y of shape (classes, m) with a 1 in each column at its label's row, 0 elsewhere.

    `labels` are m integers 0, 1, …, classes - 1, of shape (m,) or (1, m). The result is on the labels' backend.
    `dtype` is "float32" or "float64". Raises ValueError for labels out of range, no labels and another rank; TypeError
    for labels or classes that are no integers.

    >>> one_hot([0, 2], 3).tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    classes = check_count(classes, "classes")
    host = host_array(labels, "labels")
    _check_labels(host, classes)
    flat = host.reshape(-1).astype(np.int64)
    table = np.zeros((flat.shape[0], classes), dtype=np.float32)
    table[np.arange(flat.shape[0]), flat] = 1
    return (backend_of(labels) or default_backend()).asarray(table.T, dtype)


def _check_labels(labels: np.ndarray, classes: int) -> None:
    if labels.ndim != 1 and not (labels.ndim == 2 and labels.shape[0] == 1):
        msg = f"labels must have shape (m,) or (1, m), got {labels.shape}"
        raise ValueError(msg)
    if labels.size == 0:
        msg = f"labels must hold at least one example, got shape {labels.shape}"
        raise ValueError(msg)
    if labels.dtype.kind not in "biu":
        msg = f"labels must be integers 0 … {classes - 1}, got dtype {labels.dtype}"
        raise TypeError(msg)
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if wrong.size:
        msg = f"labels must be in 0 … {classes - 1}, got {listed(wrong)}"
        raise ValueError(msg)


def listed(values: np.ndarray, most: int = 5) -> str:
    """Up to `most` of these values, for an error message."""
    shown = ", ".join(str(v) for v in values[:most].tolist())
    return f"{shown}, … ({values.size} such values)" if values.size > most else shown
