"""Compiled steps, made in calls short enough for Ctrl-C to take effect between two of them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from nnarray.core.typing import Array
from nnarray.engine import ThreadsOfARun, numbers_of_cost
from nnarray.engine.interrupts import Interrupts

SECONDS, QUEUED_SECONDS = 0.08, 0.05
"""The target duration of a call, and of one that is only queued, behind another one."""

FASTER = 4
"""A call makes at most this many times the steps of the largest call timed so far."""


class TimedSteps:
    """Compiled `steps` and their speed so far; other threads get their turn between two calls."""

    def __init__(self, steps: Any, threads: ThreadsOfARun) -> None:
        self._steps, self._threads = steps, threads
        self._most, self._each = 1, 0.0
        self._before: Callable[[], None] | None = None
        """what waits for the last call, which is only queued"""

    @property
    def costs(self) -> Any:
        """Of the steps since the epoch began, on the device."""
        return self._steps.costs

    @property
    def vectors(self) -> Any:
        """Theta and the running means now."""
        return self._steps.vectors

    def at_once(self, most: int) -> int:
        """The number of steps in the next call, at most `most`."""
        seconds = SECONDS if self._before is None else QUEUED_SECONDS
        in_time = int(seconds / self._each) if self._each > 0 else 1
        return max(1, min(in_time, FASTER * self._most, most))

    def draw_from(self, bits: Any, position: int) -> None:
        """Draw the masks of the next steps from this position of the stream on; for steps that draw their own."""
        self._steps.draw_from(bits, position)

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
        """Begin steps on the columns in this order, with an m and an alpha for each, after t updates of the vectors."""
        of_cost = {m: tuple(numbers_of_cost(m, l2, l1).values()) for m in set(ms)}
        rows = [(of_cost[m], (i, alpha)) for i, (m, alpha) in enumerate(zip(ms, alphas, strict=True), t + 1)]
        self._steps.begin(order, rows, vectors)

    def launch(self, count: int) -> None:
        """Make the next steps in one call."""
        self._threads.hold()
        self._began = time.perf_counter()
        self._steps.launch(count)
        self._timed(count)

    def finished(self, count: int) -> list[float]:
        """The costs of the steps of the last call, once the device has made them."""
        costs: list[float] = self._steps.costs[:count].tolist()
        self._timed(count)
        return costs

    def release(self) -> None:
        """Give up their memory; none is made after that."""
        self._steps.release()

    def _timed(self, count: int) -> None:
        self._each = (time.perf_counter() - self._began) / count
        self._most = max(self._most, count)

    def launch_all(
        self,
        count: int,
        made: Callable[[int], None],
        interrupts: Interrupts,
        between: Callable[[], None] | None = None,
    ) -> None:
        """Make `count` steps; after each call, `made` gets its number of steps, before an interrupt can arrive.

        `between` is called between two calls. A device that only queues is at most one call behind.
        """
        last, since = 0, 0.0
        while count:
            now = self.at_once(count)
            with interrupts.put_off:
                each = self._each
                self.launch(now)
                made(now)
                before, self._before = self._before, self._steps.mark()
            count -= now
            if self._before is not None:
                self._each = each  # that was the time to queue them
                if before is not None:
                    before()
                over = time.perf_counter()
                if last:
                    self._each = (over - since) / last
                last, since = now, over
            if between is not None:
                between()
