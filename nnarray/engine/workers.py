"""Who computes the tiles: the calling thread and helpers, who take one tile after the other and add up."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from nnarray.backends import ONE_THREAD, Backend
from nnarray.core.vector import vector_size

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from nnarray.engine.batch import Architecture

T = TypeVar("T")

SMALL_STEP = 32e6
"""Operations of a step's matrix products below which a second thread of BLAS costs more than it brings: it waits
spinning, in the way of all that comes between the products."""

MOST_HELPERS = 256
"""In one process, whatever the workers asked for; a thread is started only when there is work for it."""


@lru_cache(maxsize=1)
def _helpers() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(MOST_HELPERS, thread_name_prefix="nnarray", initializer=ONE_THREAD.keep)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # a fork takes no threads along


def many_steps(network: "Architecture", columns: int, backend: Backend) -> AbstractContextManager[Any]:
    """The block for a run of steps on batches of `columns`: on NumPy, small ones have one thread."""
    operations = 6 * columns * vector_size(network.sizes)
    return ONE_THREAD if backend.name == "numpy" and operations <= SMALL_STEP else nullcontext()


class Turns:
    """0, 1, …, count - 1, each handed out once, to whoever asks next; none after `stop`."""

    def __init__(self, count: int) -> None:
        self._next, self._count, self._lock = 0, count, Lock()

    def take(self) -> int | None:
        """The next one, None when there are no more."""
        with self._lock:
            turn = self._next
            self._next += 1
        return turn if turn < self._count else None

    def stop(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._next = self._count


def for_each(count: int, do: Callable[[int], Any], workers: int) -> None:
    """`do(i)` for i = 0, …, count - 1, by this thread and up to workers - 1 others; what one raises is raised here.

    The others only help: where none is free, this thread does it all. So calls may nest, and many user threads may
    call at once.
    """
    turns = Turns(count)

    def work() -> None:
        try:
            while (i := turns.take()) is not None:
                do(i)
        except BaseException:
            turns.stop()
            raise

    if min(workers, count) == 1:
        return work()
    from concurrent.futures import wait

    helpers: list[Future[None]] = [
        _helpers().submit(copy_context().run, work) for _ in range(min(workers, count, MOST_HELPERS) - 1)
    ]
    try:
        work()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


def add_up(count: int, compute: Callable[[int], T], add: Callable[[T, T], T], workers: int) -> T:
    """compute(0) + … + compute(count - 1), neighbours first, then neighbouring sums, and so on.

    Which two values are added depends on `count` alone, so floats have the same bits whoever computes them. Values are
    dropped as soon as they are added: some log2(count) + workers live at once, twice as many if a worker is held up.
    """
    waiting: dict[tuple[int, int], T] = {}
    lock = Lock()

    def compute_and_climb(i: int) -> None:
        value, row = compute(i), count
        while row > 1:
            if i ^ 1 < row:  # the last of an odd row has no neighbour
                with lock:
                    neighbour = waiting.pop((row, i ^ 1), None)
                    if neighbour is None:
                        waiting[row, i] = value
                        return
                value = add(neighbour, value) if i % 2 else add(value, neighbour)
            i, row = i // 2, (row + 1) // 2
        waiting[1, 0] = value

    for_each(count, compute_and_climb, workers)
    return waiting[1, 0]
