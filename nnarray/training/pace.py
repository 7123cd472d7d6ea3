"""How many steps one call makes: so many that an interrupt waits for no longer than it may."""

import time

SECONDS = 0.05
"""A call is to take about so long: Ctrl-C is heard between two."""

FASTER = 4
"""A call makes at most so many times the steps of those before, whose time is known."""


class Pace:
    """Counts of steps. A block `with pace:` around a call takes its time."""

    def __init__(self) -> None:
        self._count, self._most, self._began, self._each = 1, 1, 0.0, 0.0

    def count(self, most: int) -> int:
        """How many steps the next call makes, of at most so many."""
        in_time = int(SECONDS / self._each) if self._each > 0 else 1
        self._count = max(1, min(in_time, FASTER * self._most, most))
        return self._count

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._each = (time.perf_counter() - self._began) / self._count
        self._most = max(self._most, self._count)
