"""The way in for a scikit-learn user's table: its dtype, its backend, and the batch that the engine computes with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.validation import validate_data

from nnarray.backends import NUMPY, Backend, backend_of, is_sparse, require_finite, to_numpy
from nnarray.core.typing import Array
from nnarray.engine import Batch, HostColumns, stays_on_host
from nnarray.engine.example_weights import HEAVIEST, can_weigh
from nnarray.network.chunked import Chunked
from nnarray.sklearn import chunks, small_tables
from nnarray.sklearn.private import (
    check_sample_weight,
    get_namespace,
    get_namespace_and_device,
    move_to,
    supported_float_dtypes,
)

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP


class Examples(NamedTuple):
    """A table on the caller's device: X (m, n_features), Y (m, n_outputs), weights (m,) or None."""

    X: Any
    Y: Array
    weights: Array | None


def require_numbers_in(y: Any) -> None:
    """Raise TypeError for a y of text, dates or other objects that are no numbers, where numbers are to be learned."""
    if y is None or is_sparse(y) or (backend_of(y) is not None and not isinstance(y, np.ndarray)):
        return  # scikit-learn speaks of these
    try:
        host = np.asarray(y)
    except ValueError:  # ragged lists; of these, too
        return
    try:
        right = host.dtype.kind in "biufc" or (host.dtype.kind == "O" and host.astype(np.float64) is not None)
    except (TypeError, ValueError):
        right = False
    if not right:
        msg = f"y must hold real numbers, got dtype {host.dtype}; for classes there is MLPClassifier"
        raise TypeError(msg)


def own_backend(X: Any) -> Backend:
    """The backend of a validated X; the host's for dask."""
    return (None if chunks.is_dask_collection(X) else backend_of(X)) or NUMPY


def moved(y: Any, xp: Any, device: Any) -> Any:
    """`y` where X is; class labels that are text stay in NumPy."""
    is_text = isinstance(y, np.ndarray) and y.dtype.kind not in "biuf"
    return y if is_text or is_sparse(y) else move_to(y, xp=xp, device=device)


def supported_dtypes(wanted: str | None, xp: Any, device: Any) -> list[Any]:
    """The dtypes that X may keep; others are converted to the first."""
    if wanted is not None:
        return [getattr(xp, wanted)]
    supported = supported_float_dtypes(xp, device=device)
    return [getattr(xp, name) for name in ("float64", "float32") if getattr(xp, name, None) in supported]


def float_name(wanted: str | None, x: Array) -> str:
    """`wanted`, else x's own dtype by name."""
    return wanted or ("float32" if "float32" in str(x.dtype) else "float64")


def is_wider_than_float32(dtype: Any, own: Backend) -> bool:
    """Whether products of this dtype with float32 are float64, as NumPy has it."""
    if own.is_host:
        return bool(np.result_type(dtype, np.float32) != np.float32)
    return bool(dtype == own.xp.float64)


def _require_float32(X: Any) -> None:
    """Raise ValueError, with row and column, for a checked X whose numbers are too large for float32."""
    largest = float(np.finfo(np.float32).max)
    values = X.data if is_sparse(X) else X
    if values.shape[0] == 0 or max(map(abs, own_backend(values).extent(values))) <= largest:
        return
    for row in range(X.shape[0]):
        host = X[[row]].toarray()[0] if is_sparse(X) else to_numpy(X[row])
        with np.errstate(over="ignore"):
            wrong = np.flatnonzero(~np.isfinite(host.astype(np.float32)))
        if wrong.size:
            msg = f"X must be finite in float32, got {host[wrong[0]]} at {[row, int(wrong[0])]}"
            raise ValueError(msg)


def transposed(X: Any, backend: Backend, dtype: str, sizes: Sequence[int]) -> Array:
    """X of shape (n_x, m) where it is computed by a network of these sizes.

    On NumPy it is converted to the dtype tile by tile; to a GPU without room for all of it, it is uploaded likewise.
    """
    if is_sparse(X) and not backend.is_host:
        msg = f'a sparse X is only taken by the backend "numpy", not by {backend.name!r}'
        raise TypeError(msg)
    if dtype == "float32" and is_wider_than_float32(X.dtype, own_backend(X)):
        _require_float32(X)
    if backend.is_host and (is_sparse(X) or isinstance(X, np.ndarray)):
        return X.T
    return HostColumns(X.T) if stays_on_host(X, sizes, dtype, backend) else backend.asarray(X, dtype).T


def _checked_sum(weights: np.ndarray, dtype: str) -> float:
    """Σ weights. Raises ValueError where it is 0 or out of range, or a weight is negative."""
    if weights.min() < 0:
        msg = f"sample_weight, and class_weight with it, must be ≥ 0, got {weights.min():g}"
        raise ValueError(msg)
    total = float(weights.sum(dtype="float64"))
    if total == 0:
        msg = "the sum of sample_weight must not be 0"
        raise ValueError(msg)
    if not can_weigh(total, dtype):
        msg = (
            f"the sum of sample_weight, with class_weight, must be from {1 / HEAVIEST[dtype]:.2g} to "
            f"{HEAVIEST[dtype]:.2g} in {dtype}, got {total:g}; divide the weights by the largest, and alpha by the same"
        )
        raise ValueError(msg)
    return total


def as_batch(examples: Examples, backend: Backend, dtype: str, sizes: Sequence[int]) -> Any:
    """The examples as the engine takes them."""
    X, Y, weights = examples
    m = X.shape[0]
    if weights is not None:
        m = _checked_sum(to_numpy(weights), dtype)
    if chunks.is_dask_collection(X):
        return Chunked(sizes, X.T, Y.T, weights)
    if weights is not None:
        weights = backend.asarray(weights, dtype)[None, :]
    Y = backend.asarray(Y, dtype)
    require_finite(Y, "y", backend)  # in this dtype
    X = transposed(X, backend, dtype, sizes)
    if not isinstance(X, HostColumns):
        X = backend.for_a_run(X)
        if backend.is_narrow(X):
            require_finite(X.T, "X", backend)
    return Batch(X, Y.T, m, weights)


def enter(model: "MLP", X: Any, y: Any, sample_weight: Any, *, incremental: bool | None, reset: bool) -> Examples:
    """The validated examples, all on X's device; with a dask X, Y and weights on the client."""
    y, sample_weight = chunks.on_host(y), chunks.on_host(sample_weight)
    if chunks.is_dask_collection(X):
        if model._has_numeric_y:
            require_numbers_in(y)
        dtypes = supported_dtypes(model.dtype, np, None)
        given = X, y, sample_weight
        return Examples(*chunks.enter(model, *given, dtypes=dtypes, incremental=incremental, reset=reset))
    if reset or not small_tables.takes_examples(model, X, y):
        X, y = _validated(model, X, y, reset=reset)
    Y = model._targets(y, incremental=incremental)
    if isinstance(sample_weight, list | tuple):
        sample_weight = np.asarray(sample_weight)
    weights = None if sample_weight is None else check_sample_weight(sample_weight, X)
    weights = model._class_weighted(weights, y, incremental=incremental)
    xp, is_array_api, device = get_namespace_and_device(X)
    if is_array_api:
        Y, weights = move_to(Y, weights, xp=xp, device=device)
    return Examples(X.tocsr() if is_sparse(X) else X, Y, weights)


def _validated(model: "MLP", X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
    """X and y as scikit-learn's checks leave them, y where X is."""
    if model._has_numeric_y:
        require_numbers_in(y)
    xp, _, device = get_namespace_and_device(X)
    X, y = validate_data(
        model,
        X,
        y,
        reset=reset,
        accept_sparse=["csr", "csc"],
        multi_output=True,
        y_numeric=model._has_numeric_y,
        dtype=supported_dtypes(model.dtype, xp, device),
    )
    if get_namespace(X)[1]:
        y = moved(y, xp, device)
    return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


def has_validation(validation: tuple[Any, Any, Any]) -> bool:
    """Whether there are validation examples; raises ValueError where some of their arguments are missing."""
    X_val, y_val, weights = validation
    if X_val is None and (y_val is not None or weights is not None):
        msg = f"{'y_val' if y_val is not None else 'sample_weight_val'} is provided, but X_val was not provided."
        raise ValueError(msg)
    if X_val is not None and y_val is None:
        msg = "X_val is provided, but y_val was not provided."
        raise ValueError(msg)
    return X_val is not None


def enter_validation(model: "MLP", X_val: Any, y_val: Any, weights: Any, *, outputs: int) -> Examples:
    """The validation examples, checked."""
    examples = enter(model, X_val, y_val, weights, incremental=None, reset=False)
    if examples.Y.shape[1] != outputs:
        msg = f"y_val has {examples.Y.shape[1]} outputs, but y has {outputs}"
        raise ValueError(msg)
    return examples
