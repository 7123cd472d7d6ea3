"""The way in for dask arrays: X, Y and weights in chunks of columns, whose values are looked at where they lie."""

from collections.abc import Sequence
from copy import copy
from typing import Any
from zlib import crc32

import numpy as np

from nnarray.backends import NUMPY, is_dask_array
from nnarray.engine import Architecture, dask_tasks
from nnarray.engine.dask_chunks import chunks_of, cut_like
from nnarray.network.entry import Entered, enter_parameters, enter_weights
from nnarray.network.parameters import Parameters


def require_no_ranks(comm: Any) -> None:
    """Raise ValueError for a communicator beside chunks."""
    if comm is not None:
        msg = "comm must be left out where X is a dask array: dask knows its workers"
        raise ValueError(msg)


def require_no_chunks(X: Any) -> None:
    """Raise ValueError for dask chunks beside parameters in dask arrays, where the network has batch normalisation."""
    if is_dask_array(X):
        msg = (
            "params must be NormalizedParameters or arrays of the host beside a dask X, where the network has batch "
            "normalisation, whose mean and variance couple all columns of a batch: give their compute()"
        )
        raise ValueError(msg)


def enter_beside(network: Architecture, params: Any, comm: Any = None) -> Entered | None:
    """The layers of local `params`, for use with chunks that may be remote; None for params that are dask arrays.

    Raises ValueError for a communicator beside chunks.
    """
    require_no_ranks(comm)
    plain = isinstance(params, Parameters) and not is_dask_array(params.vector)
    if not plain and any(is_dask_array(V) for pair in params for V in pair):
        return None
    return enter_parameters(network, params)


class Chunked:
    """X (n_x, m), Y (n[L], m) or None and weights (1, m) or None, for a network of some sizes, in chunks of columns."""

    weights_checksum: int | None = None

    def __init__(self, sizes: Sequence[int], X: Any, Y: Any = None, weights: Any = None, *, of: str = "") -> None:
        n_x, n_L = sizes[0], sizes[-1]
        X = _checked(X, f"{of}X", "(n_x, m)", n_x, None)
        self.columns = int(X.shape[1])
        if Y is not None:
            Y = _checked(Y, f"{of}Y", "(n[L], m)", n_L, X)
        if weights is not None:  # one number per example, fetched to this process once
            (weights,) = dask_tasks.compute([weights]) if is_dask_array(weights) else [weights]
            weights = enter_weights(weights, m=self.columns, backend=NUMPY, dtype="float64")
            self.weights_checksum = crc32(np.ascontiguousarray(weights).tobytes())
            weights = cut_like(weights, X)
        self.chunks = chunks_of(X, Y, weights)

    def release(self) -> None:
        """Nothing is held."""

    def unweighted(self, chosen: Sequence[int]) -> "Chunked":
        """A subset of the chunks, without example weights."""
        other = copy(self)
        other.chunks = [self.chunks[i]._replace(weights=None) for i in chosen]
        other.columns = sum(chunk.columns for chunk in other.chunks)
        return other


def _checked(V: Any, argument: str, letters: str, rows: int, X: Any) -> Any:
    """V as a dask array of validated shape; a host array is chunked like X."""
    V = V if is_dask_array(V) else np.asarray(V)
    if any(np.isnan(n) for n in V.shape):
        msg = f"{argument} has chunks of unknown size, shape {V.shape}: give {argument}.compute_chunk_sizes()"
        raise ValueError(msg)
    m = None if X is None else X.shape[1]
    if V.ndim != 2 or V.shape[0] != rows or (m is not None and V.shape[1] != m) or V.shape[1] == 0:
        hint = f"; is it {argument}.T?" if V.ndim == 2 and V.shape[1] == rows else ""
        wanted = f"({rows}, {'m' if m is None else m})"
        msg = f"{argument} must have shape {letters} = {wanted}, one example per column, got {V.shape}{hint}"
        raise ValueError(msg)
    return V if is_dask_array(V) else cut_like(V, X)
