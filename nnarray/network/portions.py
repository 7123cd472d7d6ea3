"""One rank's share of the examples: any number of columns, possibly none, and possibly all of weight 0."""

from typing import Any

import numpy as np

from nnarray.backends import Backend, convert
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.engine.example_weights import require_weights
from nnarray.network.entry import Entered, as_row, enter_parameters, make_batch


def enter_portion(network: Architecture, params: Any, X: Any, Y: Any, weights: Any = None) -> tuple[Entered, Batch]:
    """The parameters and the batch of a rank's call that takes a cost."""
    entered = enter_parameters(network, params, X=X, Y=Y, weights=weights)
    return entered, make_portion(network, X, Y, weights, backend=entered.backend, dtype=entered.dtype)


def make_portion(
    network: Architecture, X: Any, Y: Any, weights: Any, *, backend: Backend, dtype: str, of: str = ""
) -> Batch:
    """`make_batch` of a rank's columns, of which there may be none, and whose weights may all be 0."""
    shape = X.shape if hasattr(X, "shape") else np.shape(X)
    if tuple(shape[1:]) != (0,):
        batch = make_batch(network, X, Y, None, backend=backend, dtype=dtype, of=of)
        return batch if weights is None else _weighed(batch, weights, backend, dtype)
    shapes = {f"{of}X": (X, network.sizes[0]), f"{of}Y": (Y, network.sizes[-1])}
    x, y = (_without_columns(V, name, rows, backend, dtype) for name, (V, rows) in shapes.items())
    none = Batch(x, y, 0)
    return none if weights is None else _weighed(none, weights, backend, dtype)


def _without_columns(V: Any, argument: str, rows: int, backend: Backend, dtype: str) -> Array:
    V = convert(V, argument, backend=backend, dtype=dtype)
    if tuple(V.shape) != (rows, 0):
        msg = f"{argument} must have shape ({rows}, 0) on a rank without examples, got {tuple(V.shape)}"
        raise ValueError(msg)
    return V


def _weighed(batch: Batch, weights: Any, backend: Backend, dtype: str) -> Batch:
    row = as_row(convert(weights, "weights", backend=backend, dtype=dtype), batch.columns, backend)
    host = backend.to_numpy(row)
    require_weights(host)
    return batch._replace(weights=row, m=float(host.sum(dtype="float64")))
