"""What a network computes of the chunks of dask arrays: each chunk on its worker, as a batch whose sums are added."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from itertools import pairwise
from typing import Any, ParamSpec, Protocol, TypeVar
from zlib import crc32

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, Block, Ended, backend, backend_of, convert, quiet
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch, Order, dask_chunks, dask_tasks
from nnarray.engine.dask_chunks import FOLDED, Chunk, Sums, added, shared, sum_of, task_at, task_of, total
from nnarray.engine.example_weights import require_weight, require_weights, weighs_nothing
from nnarray.network import scoring
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.chunked import Chunked
from nnarray.network.entry import Entered, enter_X, make_batch, require_finite_examples
from nnarray.network.parameters import Parameters

P = ParamSpec("P")
T = TypeVar("T")


class Draw(Protocol):
    """The dropout masks that each chunk of a batch draws."""

    def on(self, batch: Batch, dtype: str, backend: Backend, first: int) -> Batch:
        """The part of the batch that begins at column `first`, with its masks."""


def cost(
    network: Architecture, entered: Entered, examples: Chunked, *, l2: float, l1: float, masks: Draw | None = None
) -> float:
    """J, with the penalty."""
    _, losses, m = _total_of(network, entered, examples.chunks, gradient=False, masks=masks)
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
    g, losses, m = _total_of(network, entered, chunks, gradient=True, columns=columns, masks=masks)
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
    theta, n_L, task = shared(theta_of(entered)), network.sizes[-1], task_of(_predicted)
    predicted = [
        da.from_delayed(task(network, theta, chunk.X, chunk.examples), (n_L, chunk.columns), dtype=entered.dtype)
        for chunk in chunked.chunks
    ]
    return da.concatenate(predicted, axis=1)


def score(network: Architecture, entered: Entered, examples: Chunked) -> float:
    """The accuracy, or R², of all predictions."""

    def tasks(theta: Any) -> list[Any]:
        theta = shared(theta)
        return [task_at(chunk.worker, _scored, network, theta, *chunk[:2], chunk.examples) for chunk in examples.chunks]

    found = dask_tasks.compute_given(theta_of(entered), tasks)
    return scoring.score_of_parts(found, network.output)


def checksum(examples: Chunked, columns: int, dtype: str) -> int:
    """A number by which other data in the same chunks are told: of a few columns of the first and of the last chunk."""
    ends = [*examples.chunks[:1], *examples.chunks[1:][-1:]]
    found = dask_tasks.compute([task_of(_checksum)(chunk.X, chunk.Y, chunk.examples, columns, dtype) for chunk in ends])
    return crc32(repr(found).encode())


def _total_of(network: Architecture, entered: Entered, chunks: Sequence[Chunk], **options: Any) -> Sums:
    """The sums over all chunks."""

    def tasks(theta: Any) -> list[Any]:
        return [total(_sums_of(network, theta, chunks, **options))]

    found: Sums
    (found,) = dask_tasks.compute_given(theta_of(entered), tasks)
    return found


def _sums_of(
    network: Architecture,
    theta: Any,
    chunks: Sequence[Chunk],
    *,
    gradient: bool,
    columns: np.ndarray | None = None,
    masks: Draw | None = None,
) -> list[Any]:
    """The sums over each few neighbouring chunks."""
    groups = [chunks[i : i + FOLDED] for i in range(0, len(chunks), FOLDED)]
    one_task = len(chunks) == 1 or (len(groups) == 1 and _are_small(chunks, network))
    theta = theta if one_task else shared(theta)

    def sums(*some: Chunk) -> Any:
        given = [V for chunk in some for V in given_of(chunk, masks, first=None if columns is None else 0)]
        return task_at(some[0].worker, _sums, network, theta, columns, gradient, *given)

    return [
        sums(*group) if _are_small(group, network) else sum_of([sums(chunk) for chunk in group]) for group in groups
    ]


def given_of(chunk: Chunk, masks: Draw | None, *, first: int | None = None) -> tuple[Any, ...]:
    """Of a chunk X, Y, weights, its examples, and what draws its masks, which may begin at another column."""
    begin = chunk.examples.start if first is None else first
    return *chunk[:4], None if masks is None else partial(masks.on, first=begin)


def _are_small(chunks: Sequence[Chunk], network: Architecture) -> bool:
    """Whether a gradient over all of these takes less than it would to send theta and a sum for each of them."""
    theta = sum(n * (n_before + 1) for n_before, n in pairwise(network.sizes))
    return network.sizes[0] * sum(chunk.columns for chunk in chunks) * SMALL <= theta


SMALL = 8
"""How many times the numbers of theta are those of X, where chunks are small."""


def theta_of(entered: Entered) -> np.ndarray:
    """Theta on the host."""
    return entered.backend.to_numpy(entered.backend.primitives.join(entered.layers))


def in_one_thread(task: Callable[P, T]) -> Callable[P, T]:
    """A task as a worker runs it: with one thread, whatever others it has, and quietly."""

    @quiet
    @wraps(task)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        block = Block(one=True)
        with Ended(block), block:
            return task(*args, **kwargs)

    return run


@contextmanager
def entered_there(network: Architecture, theta: np.ndarray, X: Any) -> Iterator[Entered]:
    """Where a worker computes a chunk: the chunk's device, else the default backend."""
    own = backend_of(X)
    on = backend() if own is None or own.is_host else own
    with on.current(), on.untracked():
        params = (NormalizedParameters if network.batch_norm else Parameters)(on.asarray(theta), network.sizes, on)
        yield Entered(params.layers, on, params.dtype)


def _sums(network: Architecture, theta: np.ndarray, columns: np.ndarray | None, gradient: bool, *given: Any) -> Sums:
    """The sums over a few neighbouring chunks: of each, what `given_of` gives."""
    chunks = [given[i : i + 5] for i in range(0, len(given), 5)]
    return added(*[_sums_over(network, theta, columns, gradient, *chunk) for chunk in chunks])


@in_one_thread
def _sums_over(
    network: Architecture,
    theta: np.ndarray,
    columns: np.ndarray | None,
    gradient: bool,
    X: Any,
    Y: Any,
    weights: Any,
    examples: range,
    draw: Callable[..., Batch] | None,
) -> Sums:
    with entered_there(network, theta, X) as entered, told(examples):
        batch, m = batch_of(network, entered, examples, X, Y, weights, columns)
        if draw is not None:
            batch = draw(batch, entered.dtype, entered.backend)
        given = batch, entered.layers, network, entered.backend
        if not gradient:
            return None, float(engine.cost(*given, l2=0.0, l1=0.0, workers=1)), m
        spare = dask_chunks.spare_beside(X, theta.size, entered.dtype) if isinstance(X, np.ndarray) else []
        J, g = engine.cost_and_gradients(*given, l2=0.0, l1=0.0, spare=spare, workers=1)
        require_finite_examples(batch, g, entered)
        return entered.backend.to_numpy(g), float(J), m


@contextmanager
def told(examples: range) -> Iterator[None]:
    """A context whose errors name the chunk that they are about."""
    try:
        yield
    except (ValueError, TypeError) as error:
        msg = f"in the chunk of examples from {examples.start} on: {error}"
        raise type(error)(msg) from None


def batch_of(
    network: Architecture,
    entered: Entered,
    examples: range,
    X: Any,
    Y: Any,
    weights: Any,
    columns: np.ndarray | None,
) -> tuple[Batch, float]:
    """All or some columns of a chunk, as a batch whose sums are not divided by m yet, and their m."""
    there = entered.backend
    X, Y, weights = (
        None if V is None else convert(V, name, backend=there, dtype=entered.dtype)
        for V, name in ((X, "X"), (Y, "Y"), (weights, "weights"))
    )
    _require_columns(X, "X", examples)
    batch = make_batch(network, X, Y, None, backend=there, dtype=entered.dtype)._replace(m=1, weights=weights)
    if columns is not None:
        batch = batch._replace(order=Order(there.on_device(columns), columns))
    if weights is None:
        return batch, float(batch.columns)
    weighed = there.to_numpy(weights)[0]
    require_weights(weighed)
    return batch, float(np.sum(weighed if columns is None else weighed[columns], dtype="float64"))


def _require_columns(V: Array, name: str, examples: range) -> None:
    """Raise ValueError where a chunk holds not as many examples as it says."""
    if V.shape[-1:] != (len(examples),):
        msg = f"{name} says that it has {len(examples)} of them, got shape {V.shape}; give {name}.compute_chunk_sizes()"
        raise ValueError(msg)


@quiet
def _checksum(X: Any, Y: Any, examples: range, columns: int, dtype: str) -> int:
    m, found = len(examples), 0
    some = np.linspace(0, m - 1, min(columns, m)).astype("int64")
    with told(examples):
        for V, name in ((X, "X"), (Y, "Y")):
            own = backend_of(V) or backend("numpy")
            converted = convert(V, name, backend=own, dtype=dtype)
            _require_columns(converted, name, examples)
            found = crc32(np.ascontiguousarray(own.to_numpy(converted[..., some])).tobytes(), found)
    return found


@in_one_thread
def _predicted(network: Architecture, theta: np.ndarray, X: Any, examples: range) -> Any:
    with entered_there(network, theta, X) as entered, told(examples):
        X = convert(X, "X", backend=entered.backend, dtype=entered.dtype)
        X = enter_X(network, X, backend=entered.backend, dtype=entered.dtype)
        _require_columns(X, "X", examples)
        A = engine.predict(X, entered.layers, network, entered.backend, workers=1)
        return entered.backend.to_numpy(A)


@in_one_thread
def _scored(network: Architecture, theta: np.ndarray, X: Any, Y: Any, examples: range) -> scoring.PartialScore:
    with entered_there(network, theta, X) as entered, told(examples):
        batch, _ = batch_of(network, entered, examples, X, Y, None, None)
        A = engine.predict(batch.X, entered.layers, network, entered.backend, workers=1)
        return scoring.partial_score(A, batch.Y, network.output, entered.backend)
