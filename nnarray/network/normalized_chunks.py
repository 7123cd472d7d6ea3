"""What a network with batch normalisation computes of the chunks of dask arrays: every pass over each chunk is a task.

Mean and variance of a layer, and the two sums of its way back, are united over all chunks, in their order, before any
chunk's next pass. Z and dZ of a chunk stay on its worker; all passes of a batch are one graph of dask.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch, dask_tasks
from nnarray.engine.batch_norm_chunks import Kept, PassesOfChunk
from nnarray.engine.batch_norm_tiles import Moments, add_both, united
from nnarray.engine.dask_chunks import Chunk, Sums, shared, task_at, task_of, total
from nnarray.engine.example_weights import require_weight, weighs_nothing
from nnarray.network.chunked import Chunked
from nnarray.network.chunks import Draw, batch_of, entered_there, given_of, in_one_thread, theta_of, told
from nnarray.network.entry import Entered, require_finite_examples, require_several

Given: TypeAlias = tuple[Any, Any, Any, range, Callable[..., Batch] | None]
"""Of a chunk, X, Y, weights, which examples it holds, and what draws masks."""

Pass: TypeAlias = tuple[Any, Kept]
"""What a pass sums up, on the host, and what it leaves for later passes."""


def cost(
    network: Architecture, entered: Entered, examples: Chunked, *, l2: float, l1: float, masks: Draw | None = None
) -> float:
    """J of all chunks as one batch in training, with the penalty."""
    require_several(examples.columns, "X")

    def tasks(theta: Any) -> list[Any]:
        passes = _Tasks(network, shared(theta), examples.chunks, masks)
        return [total(passes.of_chunks(_losses, passes.below(passes.hidden), *passes.known))]

    ((_, losses, m),) = dask_tasks.compute_given(theta_of(entered), tasks)
    require_weight(m, entered.dtype)
    weights = engine.batch_norm.weights_of(entered.layers)
    return float(engine.cost_from_sum(losses, m, weights, entered.backend, l2=l2, l1=l1))


def cost_and_gradients(
    network: Architecture,
    entered: Entered,
    chunks: Sequence[Chunk],
    *,
    l2: float,
    l1: float,
    columns: np.ndarray | None = None,
    masks: Draw | None = None,
) -> tuple[float, Array | None, float, Array | None]:
    """J, its gradient and what they are divided by, as `chunks.cost_and_gradients`, and the batch's statistics."""
    count = sum(chunk.columns for chunk in chunks) if columns is None else len(columns)
    require_several(count, "X")

    def tasks(theta: Any) -> list[Any]:
        if columns is not None:
            return [task_of(_of_columns)(network, theta, columns, *given_of(chunks[0], masks, first=0))]
        passes = _Tasks(network, shared(theta), chunks, masks)
        return [task_of(_with_statistics)(total(passes.gradients(count)), count, *passes.known)]

    ((g, losses, m, seen),) = dask_tasks.compute_given(theta_of(entered), tasks)
    if columns is None:
        require_weight(m, entered.dtype)
    elif weighs_nothing(m, entered.dtype):
        return 0.0, None, 0.0, None
    there, dtype = entered.backend, entered.dtype
    given = losses, there.asarray(g, dtype), m, entered.layers, network, there
    J, g = engine.batch_norm.gradients_from_sums(*given, l2=l2, l1=l1)
    return float(J), g, m, there.asarray(seen, dtype)


class _Tasks:
    """The tasks of all passes over some chunks, of which those forward through the hidden layers are made at once."""

    def __init__(self, network: Architecture, theta: Any, chunks: Sequence[Chunk], masks: Draw | None) -> None:
        self.network, self.theta, self.chunks, self.masks = network, theta, chunks, masks
        self.hidden = len(network.sizes) - 2
        self.forward: list[list[Any]] = []
        """of each hidden layer, of each chunk, a task of its pass"""
        self.known: list[Any] = []
        """of each hidden layer, a task of the moments of all chunks"""
        for l in range(self.hidden):
            self.forward.append(self.of_chunks(_forward, self.below(l), *self.known))
            self.known.append(task_of(_united)(*map(task_of(_sums_of), self.forward[l])))

    def below(self, l: int) -> list[Any]:
        """Of each chunk, the pass forward through the hidden layer that the (l+1)-th lies on."""
        return self.forward[l - 1] if l else [None] * len(self.chunks)

    def of_chunks(self, function: Callable[..., Any], *further: Any) -> list[Any]:
        """A task of a pass over each chunk; of further arguments, lists have one for each chunk."""
        tasks = list[Any]()
        for i, chunk in enumerate(self.chunks):
            own = [V[i] if isinstance(V, list) else V for V in further]
            given = *given_of(chunk, self.masks), *own
            tasks.append(task_at(chunk.worker, function, self.network, self.theta, *given))
        return tasks

    def gradients(self, columns: int) -> list[Any]:
        """Of each chunk, a task of its sums, whose gradient is laid out as theta."""
        above = self.of_chunks(_end, self.below(self.hidden), *self.known)
        sums = [list(map(task_of(_sums_of), above))]
        for l in reversed(range(self.hidden)):
            means = task_of(_means)(columns, *map(task_of(_below_of), above))
            given = means, self.below(l), self.forward[l], above
            above = self.of_chunks(_backward, l, *given, *self.known[: l + 1])
            sums.append(list(map(task_of(_sums_of), above)))
        return [task_of(_joined)(*of_chunk) for of_chunk in zip(*sums, strict=True)]


def _sums_of(found: Pass) -> Any:
    """The sums of a pass alone, so that what it leaves is neither sent nor held with them."""
    return found[0]


def _below_of(found: Pass) -> Any:
    return found[0][-1]


def _united(*parts: Moments) -> Moments:
    return reduce(united, parts)


def _means(columns: int, *sums: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [V / columns for V in reduce(add_both, sums)]


def _with_statistics(sums: Sums, columns: int, *known: Moments) -> tuple[Any, ...]:
    """The sums, and as a vector the statistics of all columns."""
    seen = engine.batch_norm.as_averaged([(mean, variance) for _, mean, variance in known], columns)
    assert sums[0] is not None
    return *sums, np.concatenate([sums[0][:0], *(V[:, 0] for V in seen)])


def _joined(end: tuple[float, float, list[np.ndarray], Any], *back: tuple[list[np.ndarray], Any]) -> Sums:
    """The sums of a chunk from those of its passes on the way back, from the last layer to the first."""
    J, m, last, below = end
    layers = [last]
    for dW, further in back:
        layers.append([*dW, *below])
        below = further
    return np.concatenate([np.reshape(V, -1) for layer in reversed(layers) for V in layer]), J, m


@contextmanager
def _passes(
    network: Architecture, theta: np.ndarray, given: Given, known: Sequence[Moments], columns: np.ndarray | None = None
) -> Iterator[tuple[PassesOfChunk, float, Entered]]:
    """Where a worker makes a pass over a chunk, or over some of its columns, and what they weigh."""
    X, Y, weights, examples, draw = given
    with entered_there(network, theta, X) as entered, told(examples):
        batch, m = batch_of(network, entered, examples, X, Y, weights, columns)
        if draw is not None:
            batch = draw(batch, entered.dtype, entered.backend)
        there = [tuple(entered.backend.asarray(V, entered.dtype) for V in one[1:]) for one in known]
        yield PassesOfChunk(batch, entered.layers, network, entered.backend, there), m, entered


def _on_host(arrays: Sequence[Array], backend: Backend) -> list[np.ndarray]:
    return [backend.to_numpy(V) for V in arrays]


def _kept_by(found: Pass | None) -> Kept | None:
    return None if found is None else found[1]


@in_one_thread
def _forward(network: Architecture, theta: np.ndarray, *given: Any) -> Pass:
    *chunk, below, known = *given[:6], given[6:]
    with _passes(network, theta, tuple(chunk), known) as (passes, _, entered):
        moments, Z = passes.forward(_kept_by(below))
        if below is None:
            require_finite_examples(passes.batch, entered.backend.primitives.join([moments[1:]]), entered)
        return Moments(moments.columns, *_on_host(moments[1:], entered.backend)), Z


@in_one_thread
def _losses(network: Architecture, theta: np.ndarray, *given: Any) -> Sums:
    *chunk, below, known = *given[:6], given[6:]
    with _passes(network, theta, tuple(chunk), known) as (passes, m, _):
        return None, float(passes.losses(_kept_by(below))), m


@in_one_thread
def _end(network: Architecture, theta: np.ndarray, *given: Any) -> Pass:
    *chunk, below, known = *given[:6], given[6:]
    with _passes(network, theta, tuple(chunk), known) as (passes, m, entered):
        (J, gradients, sums), dZ = passes.end(_kept_by(below))
        assert J is not None
        if below is None:
            require_finite_examples(passes.batch, entered.backend.primitives.join([gradients]), entered)
        on_host = _on_host(gradients, entered.backend), _on_host(sums, entered.backend)
        return (float(J), m, *on_host), dZ


@in_one_thread
def _backward(network: Architecture, theta: np.ndarray, *given: Any) -> Pass:
    *chunk, l, means, below, forward, above, known = *given[:10], given[10:]
    with _passes(network, theta, tuple(chunk), known) as (passes, _, entered):
        there = [entered.backend.asarray(V, entered.dtype) for V in means]
        (_, gradients, sums), dZ = passes.backward(l, there, _kept_by(below), forward[1], above[1])
        return (_on_host(gradients, entered.backend), _on_host(sums, entered.backend)), dZ


@in_one_thread
def _of_columns(network: Architecture, theta: np.ndarray, columns: np.ndarray, *given: Any) -> tuple[Any, ...]:
    """The sums over some columns of a chunk as a batch of their own, and its statistics."""
    with _passes(network, theta, given, (), columns) as (passes, m, entered):
        found = passes.batch, entered.layers, network, entered.backend
        J, g, seen = engine.batch_norm.cost_and_gradients(*found, l2=0.0, l1=0.0, workers=1)
        require_finite_examples(passes.batch, g, entered)
        return entered.backend.to_numpy(g), float(J), m, entered.backend.to_numpy(seen)
