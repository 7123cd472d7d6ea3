"""dask tables: rows in chunks, whose sums and predictions are computed on the workers that hold them."""

import sys
from collections.abc import Callable, Sequence
from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from nnarray.core.typing import Array
from nnarray.engine import dask_tasks
from nnarray.network.chunked import Chunked
from nnarray.sklearn.descent import EstimatorDescent, NormalizedEstimatorDescent
from nnarray.sklearn.private import check_sample_weight, check_y
from nnarray.training.batch_norm import DescentNormalizedOnChunks
from nnarray.training.chunks import ChunkedBatches, DescentOnChunks
from nnarray.training.dropout import Dropout

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP

Method = TypeVar("Method", bound=Callable[..., Any])


def is_dask_collection(X: Any) -> bool:
    """Whether X is a dask array, or a frame or series of dask's."""
    dask = sys.modules.get("dask")
    if dask is None or not dask.is_dask_collection(X):
        return False
    return any(hasattr(type(X), name) for name in ("rechunk", "to_dask_array"))


def by_parts(method: Method) -> Method:
    """A method of X that returns a lazy dask array for a dask X, one part for each of X's."""

    @wraps(method)
    def call(model: "MLP", X: Any) -> Any:
        return _by_parts(model, method, X) if is_dask_collection(X) else method(model, X)

    return cast("Method", call)


def _by_parts(model: "MLP", method: Callable[..., Any], X: Any) -> Any:
    import dask
    import dask.array as da

    check_is_fitted(model)
    like = method(model, _rows_like(X))[:0]
    one = copy(model)
    one.workers = 1  # dask's threads take parts side by side
    task = dask.delayed(_of_part, pure=False)
    given = dask.delayed((method.__name__, one), traverse=False)
    parts, counts = _parts(X)
    of_parts = [
        da.from_delayed(task(given, part, count, like), (count, *like.shape[1:]), meta=like)
        for part, count in zip(parts, counts, strict=True)
    ]
    return da.concatenate(of_parts)


def _of_part(given: tuple[str, "MLP"], X: Any, count: float, like: Any) -> Any:
    name, model = given
    if X.shape[0] != count and not np.isnan(count):
        msg = f"a chunk of X says that it has {count} rows, and has {X.shape[0]}; give X.compute_chunk_sizes()"
        raise ValueError(msg)
    return getattr(model, name)(X) if X.shape[0] else like


def _parts(X: Any) -> tuple[Sequence[Any], Sequence[float]]:
    """A task for each part, of all columns, and how many rows it has, NaN where that is not known."""
    if not hasattr(X, "rechunk"):
        parts = X.to_delayed(optimize_graph=not dask_tasks.are_held(X))
        return parts, [np.nan] * len(parts)
    rows = X.rechunk({1: -1})
    return rows.to_delayed(optimize_graph=not dask_tasks.are_held(rows))[:, 0].tolist(), X.chunks[0]


def _rows_like(X: Any) -> Any:
    """Host rows with the columns and dtypes of X."""
    if hasattr(X, "rechunk"):
        return np.zeros((1, *X.shape[1:]), X.dtype)
    return X._meta_nonempty.iloc[:1]  # where a dtype has a value for what is missing, the second row is of these


def answers(model: "MLP", X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """y, the predictions and the weights of all rows, on the client; X stays on the workers."""
    return on_host(y), on_host(model.predict(X)), on_host(sample_weight)


def on_host(V: Any) -> Any:
    """V on the client, computed if it is a dask collection."""
    return dask_tasks.compute([V])[0] if is_dask_collection(V) else V


def enter(
    model: "MLP", X: Any, y: Any, sample_weight: Any, *, dtypes: Sequence[Any], incremental: bool | None, reset: bool
) -> tuple[Any, Array, Array | None]:
    """X in chunks of rows, whose values are not looked at, Y (m, n_outputs) and the weights (m,) or None, both here."""
    if incremental is None:
        msg = "X_val must be an array of the host, not of dask: it is computed here after each epoch"
        raise TypeError(msg)
    like = validate_data(model, _rows_like(X), reset=reset, dtype=dtypes)
    if not hasattr(X, "rechunk"):
        X = X.astype(like.dtype.name).to_dask_array(lengths=True)
    if np.isnan(X.shape[0]):
        msg = f"X has chunks of unknown size, shape {X.shape}: give X.compute_chunk_sizes()"
        raise ValueError(msg)
    m = int(X.shape[0])
    if y is None:
        msg = "y must be given, one target for each row of X"
        raise ValueError(msg)
    y = check_y(y, multi_output=True, y_numeric=model._has_numeric_y)
    if y.shape[0] != m or m == 0:
        msg = f"X and y must have as many rows, at least one, got {m} and {y.shape[0]}"
        raise ValueError(msg)
    y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
    Y = model._targets(y, incremental=incremental)
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, np.broadcast_to(0.0, (m, 1)))
    return X.astype(like.dtype), Y, model._class_weighted(sample_weight, y, incremental=incremental)


class ChunkedDescent(DescentOnChunks, EstimatorDescent):
    """An estimator's network at theta, while the examples are in chunks elsewhere."""

    def cost_and_gradient(self, batch: Any, spare: Any = None) -> tuple[Array, Array]:
        """J and its gradient, of all chunks."""
        J, g, _ = self.sums_of(batch.chunks, l2=self.l2, l1=self.l1)
        assert g is not None
        return J, g

    def gradient_of(self, batch: Any, weighs: Any, dropout: Dropout) -> tuple[Array, Array | None, Any, int]:
        """J and the gradient of some columns, and their number, which is what J counts in scikit-learn's mean."""
        J, g, _, position = super().gradient_of(batch, weighs, dropout)
        some, columns = batch
        return J, g, sum(one.columns for one in some) if columns is None else len(columns), position


class NormalizedChunkedDescent(ChunkedDescent, NormalizedEstimatorDescent, DescentNormalizedOnChunks):
    """The same with batch normalisation, by the mean and variance of all rows, or of some of a chunk."""


class BatchesOfChunks(ChunkedBatches):
    """Batches of rows of chunks; those of an estimator that does not shuffle come as they stand."""

    def __init__(self, model: "MLP", whole: Chunked) -> None:
        seed = [model._random_state.randint(2**31), model.t_]  # t_: another order in each partial_fit
        super().__init__(whole, 200 if isinstance(model.batch_size, str) else int(model.batch_size), seed)
        self.shuffle = model.shuffle

    def drawn(self, count: int) -> np.ndarray:
        """The indices of `count` items in the order of the next epoch."""
        return super().drawn(count) if self.shuffle else np.arange(count)
