"""Captured steps, made in calls that are short enough for Ctrl-C to be heard between two."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from nnarray.core.typing import Array
from nnarray.engine import ThreadsOfARun, numbers_of_cost
from nnarray.engine.interrupts import Interrupts

SECONDS = 0.05
"""A call is to take about so long."""

FASTER = 4
"""A call makes at most so many times the steps of those before, whose time is known."""


class Replays:
    """Captured `steps` and how fast they were so far; other threads take their turn between two calls."""

    def __init__(self, steps: Any, threads: ThreadsOfARun) -> None:
        self._steps, self._threads = steps, threads
        self._most, self._each = 1, 0.0

    @property
    def costs(self) -> Any:
        """Of the steps since the epoch began, on the device."""
        return self._steps.costs

    @property
    def vectors(self) -> Any:
        """Theta and the running means now."""
        return self._steps.vectors

    def at_once(self, most: int) -> int:
        """How many steps the next call makes, of at most so many."""
        in_time = int(SECONDS / self._each) if self._each > 0 else 1
        return max(1, min(in_time, FASTER * self._most, most))

    def begin(
        self,
        order: Any,
        ms: Sequence[float],
        alphas: Sequence[float],
        *,
        l2: float,
        l1: float,
        t: int,
        vectors: Sequence[Array],
    ) -> None:
        """Begin steps on the columns in this order: each has its m and alpha, and t updates made the vectors."""
        rows = [
            (tuple(numbers_of_cost(m, l2, l1).values()), (i, alpha))
            for i, (m, alpha) in enumerate(zip(ms, alphas, strict=True), t + 1)
        ]
        self._steps.begin(order, rows, vectors)

    def launch(self, count: int) -> None:
        """Make the next steps in one call."""
        self._threads.hold()
        began = time.perf_counter()
        self._steps.launch(count)
        self._each = (time.perf_counter() - began) / count
        self._most = max(self._most, count)

    def launch_all(
        self,
        count: int,
        made: Callable[[int], None],
        interrupts: Interrupts,
        between: Callable[[], None] | None = None,
    ) -> None:
        """Make so many steps; `made` is told after each call how many it made, before an interrupt can come.

        `between` two calls, something else may be done.
        """
        while count:
            now = self.at_once(count)
            with interrupts.put_off:
                self.launch(now)
                made(now)
            count -= now
            if between is not None:
                between()
