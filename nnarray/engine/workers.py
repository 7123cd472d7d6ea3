"""Who computes the tiles: the calling thread and helpers, who take one tile after the other and add up."""

import os
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any, TypeVar

from nnarray.backends import BLAS_THREADS, Ended
from nnarray.engine.pool import Pool
from nnarray.programs.helpers import Shared
from nnarray.programs.tasks import Task

T = TypeVar("T")

GROUP = 8
"""Values that are added one after the other. (Of pairs, more sums wait for others; a longer row rounds more often.)"""

MOST_HELPERS = 256
"""In one process, whatever the workers asked for; a thread is started only when there is work for it."""


@lru_cache(maxsize=1)
def _pool() -> Pool:
    return Pool(MOST_HELPERS, BLAS_THREADS.keep)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork takes no threads along


class Work:
    """`do(i)` for i = 0, …, count - 1, each once, by whoever calls; what one raises ends it for all.

    There is no lock that an interrupt could leave locked: one step of a deque or a dict is atomic.
    """

    def __init__(self, count: int, do: Callable[[int], Any]) -> None:
        self._turns = deque(range(count))
        self._do: Callable[[int], Any] | None = do

    def __call__(self) -> None:
        """Do what nobody has begun yet."""
        do = self._do
        try:
            while do is not None and (i := self._take()) is not None:
                do(i)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Begin no more, and keep nothing alive, though a pool may keep this."""
        self._turns.clear()
        self._do = None

    def _take(self) -> int | None:
        try:
            return self._turns.popleft()
        except IndexError:
            return None


class Helpers:
    """Threads that take part in some work. Enter it as `with Ended(helpers), helpers:`."""

    def __init__(self, work: Work | Shared) -> None:
        self._work, self._pool = work, _pool()
        self._tasks: list[Task] = []

    def call(self, count: int) -> None:
        """Ask so many; where no thread is to be had, those do that there are."""
        for _ in range(count):
            self._tasks.append(Task(partial(copy_context().run, self._work)))
            if not self._pool.ask(self._tasks[-1]):
                return

    def end(self) -> None:
        """Wait for what is under way."""
        self._work.stop()
        for task in self._tasks:
            task.end()
            self._pool.forget(task)

    def __enter__(self) -> "Helpers":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def raise_errors(self) -> None:
        """Raise what a helper raised."""
        for task in self._tasks:
            if task.error is not None:
                raise task.error


def for_each(count: int, do: Callable[[int], Any], workers: int) -> None:
    """`do(i)` for i = 0, …, count - 1, by this thread and up to workers - 1 others; what one raises is raised here.

    The others only help: where none is free, or no thread can be started, this thread does it all. So calls may nest,
    and many user threads may call at once.
    """
    work = Work(count, do)
    if min(workers, count) == 1:
        return work()
    helpers = Helpers(work)
    with Ended(helpers), helpers:
        helpers.call(min(workers, count, MOST_HELPERS) - 1)
        work()
    helpers.raise_errors()


def add_up(count: int, compute: Callable[[int], T], add: Callable[[T, T], T], workers: int) -> T:
    """compute(0) + … + compute(count - 1): groups of neighbours, in their order, then neighbouring sums, and so on.

    Which two values are added depends on `count` alone, so floats have the same bits whoever computes them. Values are
    dropped as soon as they are added: some log(count) / log(GROUP) + workers live at once, more if a worker is held up.
    """
    waiting: dict[tuple[int, int], tuple[T]] = {}

    def compute_and_climb(i: int) -> None:
        """Add a value to the sum of those before it in its group, or let the one that comes first wait."""
        value, row = compute(i), count
        while row > 1:
            first = i - i % GROUP
            is_sum, at = i == first, max(i, first + 1)
            while not is_sum or at < min(first + GROUP, row):
                mine = (value,)
                found = waiting.setdefault((row, at), mine)
                if found is mine:
                    return
                (other,) = waiting.pop((row, at))
                value = add(value, other) if is_sum else add(other, value)
                is_sum, at = True, at + 1
                del found, mine, other
            i, row = i // GROUP, -(-row // GROUP)
        waiting[1, 0] = (value,)

    for_each(count, compute_and_climb, workers)
    (total,) = waiting[1, 0]
    return total
