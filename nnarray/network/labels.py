"""Class labels as targets."""

from typing import Any

import numpy as np

from nnarray.backends import backend as default_backend
from nnarray.backends import backend_of, host_array, is_concrete, quiet
from nnarray.core.typing import Array
from nnarray.network.numbers import check_count


@quiet
def one_hot(labels: Any, classes: int, *, dtype: str = "float32") -> Array:
    """Y with a 1 in each column at its label's row, 0 elsewhere.

    Parameters
    ----------
    labels : array or sequence of int, shape (m,) or (1, m)
        0, 1, …, classes - 1.
    classes : int
        The number of classes.
    dtype : {"float32", "float64"}, default="float32"
        The dtype of the result.

    Returns
    -------
    array, shape (classes, m)
        On the labels' backend.

    Raises
    ------
    ValueError
        For labels out of range, for no labels, and for arrays of another rank.
    TypeError
        For labels or classes that are no integers.

    Examples
    --------
    >>> one_hot([0, 2], 3).tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    classes = check_count(classes, "classes")
    if not is_concrete(labels):
        return _one_hot_of_traced(labels, classes, dtype)
    host = host_array(labels, "labels")
    _check_labels(host, classes)
    flat = host.reshape(-1).astype(np.int64)
    table = np.zeros((flat.shape[0], classes), dtype=np.float32)
    table[np.arange(flat.shape[0]), flat] = 1
    return (backend_of(labels) or default_backend()).asarray(table.T, dtype)


def _one_hot_of_traced(labels: Array, classes: int, dtype: str) -> Array:
    """Y of traced labels, whose values are unknown: a label out of range gives a column of zeros."""
    own = backend_of(labels) or default_backend()
    wanted = own.dtype(dtype)
    _check_label_shape(labels)
    if not own.xp.isdtype(labels.dtype, ("bool", "integral")):
        msg = f"labels must be integers 0 … {classes - 1}, got dtype {labels.dtype}"
        raise TypeError(msg)
    row = own.xp.reshape(labels, (1, labels.shape[-1]))
    rows = own.xp.reshape(own.xp.arange(classes, device=own.device), (classes, 1))
    return own.xp.astype(rows == row, wanted)


def _check_label_shape(labels: Array) -> None:
    if labels.ndim != 1 and not (labels.ndim == 2 and labels.shape[0] == 1):
        msg = f"labels must have shape (m,) or (1, m), got {tuple(labels.shape)}"
        raise ValueError(msg)


def _check_labels(labels: np.ndarray, classes: int) -> None:
    _check_label_shape(labels)
    if labels.size == 0:
        msg = f"labels must hold at least one example, got shape {labels.shape}"
        raise ValueError(msg)
    if labels.dtype.kind not in "biu":
        msg = f"labels must be integers 0 … {classes - 1}, got dtype {labels.dtype}"
        if labels.dtype.kind == "f":
            msg += "; where they are whole numbers, labels.astype(int)"
        raise TypeError(msg)
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if wrong.size:
        msg = f"labels must be in 0 … {classes - 1}, got {listed(wrong)}"
        raise ValueError(msg)


def listed(values: np.ndarray, most: int = 5) -> str:
    """Up to `most` of these values, for an error message."""
    shown = ", ".join(str(v) for v in values[:most].tolist())
    return f"{shown}, … ({values.size} such values)" if values.size > most else shown
