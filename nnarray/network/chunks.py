"""Examples in the chunks of a dask array: each chunk's sums are computed on its worker, and added up in a tree.

The order of the sums depends on the chunks alone, and each chunk is computed by one thread, so neither the location of
the chunks nor the number of workers changes a bit. The scheduler is the active `distributed.Client`, else dask's own.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias
from zlib import crc32

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, Block, Ended, backend, backend_of, convert, quiet
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch, Order, dask_tasks
from nnarray.engine.weights import require_weight, require_weights, weighs_nothing
from nnarray.network import scoring
from nnarray.network.entry import (
    Entered,
    enter_parameters,
    enter_weights,
    enter_X,
    make_batch,
    require_finite_examples,
)
from nnarray.network.parameters import Parameters


def is_chunked(X: Any) -> bool:
    """Whether X is a dask array, whose chunks may be elsewhere."""
    dask = sys.modules.get("dask.array")
    return dask is not None and isinstance(X, dask.Array)


def require_no_ranks(comm: Any) -> None:
    """Raise ValueError for a communicator beside chunks."""
    if comm is not None:
        msg = "comm must be left out where X is a dask array: dask knows its workers"
        raise ValueError(msg)


def enter_beside(network: Architecture, params: Any, comm: Any = None) -> Entered | None:
    """The layers of local `params`, for use with chunks that may be remote; None for params that are dask arrays.

    Raises ValueError for a communicator beside chunks.
    """
    require_no_ranks(comm)
    plain = isinstance(params, Parameters) and not is_chunked(params.vector)
    if not plain and any(is_chunked(V) for pair in params for V in pair):
        return None
    return enter_parameters(network, params)


class Chunk(NamedTuple):
    """A chunk of columns: the dask tasks that return X, Y and weights, or None for what is absent."""

    X: Any
    Y: Any
    weights: Any
    first: int
    """the first of the columns"""
    columns: int
    """how many"""


class Chunked:
    """X (n_x, m), Y (n[L], m) or None and weights (1, m) or None, for a network of some sizes, in chunks of columns."""

    def __init__(self, sizes: Sequence[int], X: Any, Y: Any = None, weights: Any = None, *, of: str = "") -> None:
        n_x, n_L = sizes[0], sizes[-1]
        X = _checked(X, f"{of}X", "(n_x, m)", n_x, None)
        self.columns = int(X.shape[1])
        counts = X.chunks[1]
        if Y is not None:
            Y = _checked(Y, f"{of}Y", "(n[L], m)", n_L, X)
        if weights is not None:  # one number per example, fetched to this process once
            (weights,) = dask_tasks.compute([weights]) if is_chunked(weights) else [weights]
            weights = enter_weights(weights, m=self.columns, backend=backend("numpy"), dtype="float64")
            weights = _cut(weights, X)
        tasks = [[None] * len(counts) if V is None else _tasks(V, counts) for V in (X, Y, weights)]
        firsts = np.cumsum([0, *counts]).tolist()
        self.chunks = [Chunk(*one) for one in zip(*tasks, firsts[:-1], counts, strict=True) if one[-1]]

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
    V = V if is_chunked(V) else np.asarray(V)
    if any(np.isnan(n) for n in V.shape):
        msg = f"{argument} has chunks of unknown size, shape {V.shape}: give {argument}.compute_chunk_sizes()"
        raise ValueError(msg)
    m = None if X is None else X.shape[1]
    if V.ndim != 2 or V.shape[0] != rows or (m is not None and V.shape[1] != m) or V.shape[1] == 0:
        hint = f"; is it {argument}.T?" if V.ndim == 2 and V.shape[1] == rows else ""
        wanted = f"({rows}, {'m' if m is None else m})"
        msg = f"{argument} must have shape {letters} = {wanted}, one example per column, got {V.shape}{hint}"
        raise ValueError(msg)
    return V if is_chunked(V) else _cut(V, X)


def _cut(V: np.ndarray, X: Any) -> Any:
    """A host array in chunks like those of X, sent to the workers once and not with each step."""
    import dask.array as da

    return da.from_array(V, chunks=(-1, X.chunks[1])).persist()


def _tasks(V: Any, columns: Sequence[int]) -> list[Any]:
    """A task for each chunk of so many columns, with all rows."""
    V = V.rechunk({0: -1, 1: tuple(columns)})
    tasks: list[Any] = V.to_delayed(optimize_graph=not dask_tasks.are_held(V))[0].tolist()
    return tasks


Sums: TypeAlias = tuple[np.ndarray | None, float, float]
"""The sums over some columns: of the gradient (None if not requested), of the losses, and m.

A plain tuple with the array first: anything else dask pickles, and so copies, on its way through the scheduler.
"""

FOLDED = 4
"""The number of sums that one task adds up, as each task costs dask some milliseconds."""


class Draw(Protocol):
    """The dropout masks that each chunk of a batch draws."""

    def on(self, batch: Batch, dtype: str, backend: Backend, first: int) -> Batch:
        """The part of the batch that begins at column `first`, with its masks."""


def cost(
    network: Architecture, entered: Entered, examples: Chunked, *, l2: float, l1: float, masks: Draw | None = None
) -> float:
    """J, with the penalty."""
    _, losses, m = _folded(_sums_of(network, entered, examples.chunks, gradient=False, masks=masks))
    require_weight(m, entered.dtype)
    return float(engine.cost_from_sum(losses, m, entered.layers, entered.backend, l2=l2, l1=l1))


def cost_and_gradients(
    network: Architecture,
    entered: Entered,
    chunks: Sequence[Chunk],
    *,
    l2: float,
    l1: float,
    columns: np.ndarray | None = None,
    masks: Draw | None = None,
) -> tuple[float, Array | None, float]:
    """J and its gradient, laid out as theta, and what they are divided by.

    `columns` selects columns of a single chunk, `masks` drops units of the whole batch. The gradient is None where the
    selected columns weigh next to nothing.
    """
    g, losses, m = _folded(_sums_of(network, entered, chunks, gradient=True, columns=columns, masks=masks))
    if columns is None:
        require_weight(m, entered.dtype)
    elif weighs_nothing(m, entered.dtype):
        return 0.0, None, 0.0
    sums = entered.backend.asarray(g, entered.dtype)
    J, g = engine.gradients_from_sums(losses, sums, m, entered.layers, network, entered.backend, l2=l2, l1=l1)
    return float(J), g, m


def predict(network: Architecture, entered: Entered, X: Any) -> Any:
    """A[L] as a lazy dask array."""
    import dask.array as da

    chunked = Chunked(network.sizes, X)
    theta, n_L, task = _theta(entered), network.sizes[-1], _task(_predicted)
    predicted = [
        da.from_delayed(
            task(network, theta, chunk.X, chunk.first, chunk.columns), (n_L, chunk.columns), dtype=entered.dtype
        )
        for chunk in chunked.chunks
    ]
    return da.concatenate(predicted, axis=1)


def score(network: Architecture, entered: Entered, examples: Chunked) -> float:
    """The accuracy, or R², of all predictions."""
    theta = _theta(entered)
    found = dask_tasks.compute(
        [_task(_scored)(network, theta, chunk.X, chunk.Y, chunk.first) for chunk in examples.chunks]
    )
    return scoring.of_parts(found, network.output)


def checksum(examples: Chunked, columns: int, dtype: str) -> int:
    """A number by which other data in the same chunks are told: of a few columns of the first and of the last chunk."""
    ends = [*examples.chunks[:1], *examples.chunks[1:][-1:]]
    found = dask_tasks.compute([_task(_checksum)(chunk.X, chunk.Y, chunk.first, columns, dtype) for chunk in ends])
    return crc32(repr(found).encode())


def _sums_of(
    network: Architecture,
    entered: Entered,
    chunks: Sequence[Chunk],
    *,
    gradient: bool,
    columns: np.ndarray | None = None,
    masks: Draw | None = None,
) -> list[Any]:
    theta, task = _theta(entered), _task(_sums)
    draws: Sequence[Any] = [None] * len(chunks)
    if masks is not None:
        draws = [partial(masks.on, first=chunk.first if columns is None else 0) for chunk in chunks]
    return [task(network, theta, *of[:4], columns, draw, gradient) for of, draw in zip(chunks, draws, strict=True)]


def _theta(entered: Entered) -> Any:
    """Theta as one delayed object that tasks share, so that it is sent to each worker once."""
    import dask

    copy = entered.backend.primitives.join(entered.layers)
    return dask.delayed(entered.backend.to_numpy(copy))


def _task(function: Callable[..., Any]) -> Callable[..., Any]:
    import dask

    task: Callable[..., Any] = dask.delayed(function, pure=False, traverse=False)
    return task


def _folded(tasks: Sequence[Any]) -> Sums:
    """Their sum, of neighbours first."""
    while len(tasks) > 1:
        groups = [tasks[i : i + FOLDED] for i in range(0, len(tasks), FOLDED)]
        tasks = [_task(_added)(*group) if len(group) > 1 else group[0] for group in groups]
    total: Sums
    (total,) = dask_tasks.compute(tasks)
    return total


def _added(*sums: Sums) -> Sums:
    """The sum of up to four, of neighbours first, which stay as they are."""
    if len(sums) == 1:
        return sums[0]
    half = 1 if len(sums) == 2 else 2
    (g, losses, m), (other, other_losses, other_m) = _added(*sums[:half]), _added(*sums[half:])
    return None if g is None or other is None else g + other, losses + other_losses, m + other_m


@contextmanager
def _entered(network: Architecture, theta: np.ndarray, X: Any) -> Iterator[Entered]:
    """Where a worker computes a chunk, with one thread: the chunk's device, else the default backend."""
    own = backend_of(X)
    on = backend() if own is None or own.is_host else own
    block = Block(one=True)
    with on.current(), on.untracked(), Ended(block), block:
        params = Parameters(on.asarray(theta), network.sizes, on)
        yield Entered(params.layers, on, params.dtype)


@quiet
def _sums(
    network: Architecture,
    theta: np.ndarray,
    X: Any,
    Y: Any,
    weights: Any,
    first: int,
    columns: np.ndarray | None,
    draw: Callable[..., Batch] | None,
    gradient: bool,
) -> Sums:
    with _entered(network, theta, X) as entered, _told(first):
        batch, m = _batch(network, entered, X, Y, weights, columns)
        if draw is not None:
            batch = draw(batch, entered.dtype, entered.backend)
        given = batch, entered.layers, network, entered.backend
        if not gradient:
            return None, float(engine.cost(*given, l2=0.0, l1=0.0, workers=1)), m
        J, g = engine.cost_and_gradients(*given, l2=0.0, l1=0.0, workers=1)
        require_finite_examples(batch, g, entered)
        return entered.backend.to_numpy(g), float(J), m


@contextmanager
def _told(first: int) -> Iterator[None]:
    """A context whose errors name the chunk that they are about."""
    try:
        yield
    except (ValueError, TypeError) as error:
        msg = f"in the chunk of examples from {first} on: {error}"
        raise type(error)(msg) from None


def _batch(
    network: Architecture, entered: Entered, X: Any, Y: Any, weights: Any, columns: np.ndarray | None
) -> tuple[Batch, float]:
    """All or some columns of a chunk, as a batch whose sums are not divided by m yet, and their m."""
    there = entered.backend
    X, Y, weights = (
        None if V is None else convert(V, name, backend=there, dtype=entered.dtype)
        for V, name in ((X, "X"), (Y, "Y"), (weights, "weights"))
    )
    batch = make_batch(network, X, Y, None, backend=there, dtype=entered.dtype)._replace(m=1, weights=weights)
    if columns is not None:
        batch = batch._replace(order=Order(there.on_device(columns), columns))
    if weights is None:
        return batch, float(batch.columns)
    weighed = there.to_numpy(weights)[0]
    require_weights(weighed)
    return batch, float(np.sum(weighed if columns is None else weighed[columns], dtype="float64"))


@quiet
def _checksum(X: Any, Y: Any, first: int, columns: int, dtype: str) -> int:
    some, found = np.linspace(0, X.shape[1] - 1, min(columns, X.shape[1])).astype("int64"), 0
    with _told(first):
        for V, name in ((X, "X"), (Y, "Y")):
            own = backend_of(V) or backend("numpy")
            part = own.to_numpy(convert(V[:, some], name, backend=own, dtype=dtype))
            found = crc32(np.ascontiguousarray(part).tobytes(), found)
    return found


@quiet
def _predicted(network: Architecture, theta: np.ndarray, X: Any, first: int, columns: int) -> Any:
    with _entered(network, theta, X) as entered, _told(first):
        X = convert(X, "X", backend=entered.backend, dtype=entered.dtype)
        X = enter_X(network, X, backend=entered.backend, dtype=entered.dtype)
        if X.shape[1] != columns:
            msg = f"X says that it has {columns} of them, and has {X.shape[1]}"
            raise ValueError(msg)
        A = engine.predict(X, entered.layers, network, entered.backend, workers=1)
        return entered.backend.to_numpy(A)


@quiet
def _scored(network: Architecture, theta: np.ndarray, X: Any, Y: Any, first: int) -> scoring.Part:
    with _entered(network, theta, X) as entered, _told(first):
        batch, _ = _batch(network, entered, X, Y, None, None)
        A = engine.predict(batch.X, entered.layers, network, entered.backend, workers=1)
        return scoring.part(A, batch.Y, network.output, entered.backend)
