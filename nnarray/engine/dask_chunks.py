"""The chunks of dask arrays as tasks, and sums over them, which tasks add up in a tree.

The order of the sums depends on the chunks alone, and each chunk is computed by one thread, so neither the location of
the chunks nor the number of workers changes a bit. The scheduler is the active `distributed.Client`, else dask's own.
"""

import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nnarray.engine import dask_tasks


class Chunk(NamedTuple):
    """A chunk of columns: the dask tasks that return X, Y and weights, or None for what is absent."""

    X: Any
    Y: Any
    weights: Any
    examples: range
    """which of all columns it says that it holds"""
    worker: str | None = None
    """the worker that had better compute with it"""

    @property
    def columns(self) -> int:
        """How many."""
        return len(self.examples)


Sums: TypeAlias = tuple[np.ndarray | None, float, float]
"""The sums over some columns: of the gradient (None if not requested), of the losses, and m.

A plain tuple with the array first: anything else dask pickles, and so copies, on its way through the scheduler.
"""

WORTH_SENDING = 2**24
"""Bytes of X below which it does not matter where its chunks are computed with."""

FOLDED = 4
"""The number of sums that one task adds up, as each task costs dask some milliseconds."""


def chunks_of(X: Any, Y: Any, weights: Any) -> list[Chunk]:
    """The chunks of X that have columns, with those of Y and weights, which may be None."""
    counts = X.chunks[1]
    tasks = [[None] * len(counts) if V is None else _tasks(V, counts) for V in (X, Y, weights)]
    examples = [range(*ends) for ends in pairwise(np.cumsum([0, *counts]).tolist())]
    workers = _workers(X, tasks[0])
    return [chunk for chunk in map(Chunk, *tasks, examples, workers) if chunk.columns]


def cut_like(V: np.ndarray, X: Any) -> Any:
    """A host array in chunks like those of X, sent to the workers once and not with each step.

    dask warns of a large graph. Its setting for that would stay changed where an interrupt comes; filters of warnings
    are put back by the public call that this is part of.
    """
    import dask.array as da

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        return da.from_array(V, chunks=(-1, X.chunks[1])).persist()


def _tasks(V: Any, columns: Sequence[int]) -> list[Any]:
    """A task for each chunk of so many columns, with all rows."""
    V = V.rechunk({0: -1, 1: tuple(columns)})
    as_they_are = dask_tasks.are_held(V) or dask_tasks.is_annotated(V)
    tasks: list[Any] = V.to_delayed(optimize_graph=not as_they_are)[0].tolist()
    return tasks


def _workers(X: Any, tasks: Sequence[Any]) -> list[str | None]:
    """For each chunk of X the worker that had better compute with it; None leaves that to dask."""
    if X.nbytes < WORTH_SENDING:
        return [None] * len(tasks)
    elsewhere = dask_tasks.relocated(X, [task.key for task in tasks])
    return [elsewhere.get(task.key) for task in tasks]


def shared(V: Any) -> Any:
    """A host array as one delayed object that tasks share, so that it is sent to each worker once."""
    import dask

    return dask.delayed(V) if isinstance(V, np.ndarray) else V


def task_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """What makes a task of each call of a function, whose arguments are passed on as they are."""
    import dask

    task: Callable[..., Any] = dask.delayed(function, pure=False, traverse=False)
    return task


def task_at(worker: str | None, function: Callable[..., Any], *given: Any) -> Any:
    """A task of a call of the function, which this worker had better compute, if one is named."""
    with dask_tasks.at(worker):
        return task_of(function)(*given)


def total(tasks: Sequence[Any]) -> Any:
    """A task of the sum of the tasks' sums, of neighbours first."""
    while len(tasks) > 1:
        tasks = [sum_of(tasks[i : i + FOLDED]) for i in range(0, len(tasks), FOLDED)]
    return tasks[0]


def sum_of(tasks: Sequence[Any]) -> Any:
    """A task of the sum of up to four tasks' sums."""
    return task_of(added)(*tasks) if len(tasks) > 1 else tasks[0]


def added(*sums: Sums) -> Sums:
    """The sum of up to four, of neighbours first, which stay as they are."""
    if len(sums) == 1:
        return sums[0]
    half = 1 if len(sums) == 2 else 2
    (g, losses, m), (other, other_losses, other_m) = added(*sums[:half]), added(*sums[half:])
    total = None if g is None or other is None else np.add(g, other, out=None if half == 1 else g)
    return total, losses + other_losses, m + other_m


class _OfThread(threading.local):
    """What a worker's thread keeps from one chunk to the next."""

    def __init__(self) -> None:
        self.kept: dict[str, list[np.ndarray]] = {}
        self.beside: Any = None


_of_thread = _OfThread()


def spare_beside(X: np.ndarray, size: int, dtype: Any) -> list[np.ndarray]:
    """Free gradient vectors of this thread, which it keeps until the chunk that it computed with last is dropped.

    dask has workers map each larger array anew, which costs a page fault for every 4 kB that are written.
    """
    kept = _of_thread.kept
    spare = kept.get("spare", [])
    if any(V.shape != (size,) or V.dtype != dtype for V in spare):
        spare = []
    _of_thread.beside = weakref.ref(X, partial(kept.pop, "spare"))  # no Python, in which a Ctrl-C would be ignored
    kept["spare"] = spare
    return spare
