"""Threads that stay and wait for tasks, which no interrupt of a caller can spoil (see `programs.tasks`)."""

import itertools
import math
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from nnarray.programs.tasks import STARTING, Task


class Pool:
    """Threads that stay, at most `most`, started when there is work for them; each begins with a call of `begin`.

    One that dies, as for lack of memory, counts no more, and another is started when there is work for it.
    """

    def __init__(self, most: int, begin: Callable[[], Any]) -> None:
        self._most, self._begin = most, begin
        self._tasks = SimpleQueue[Task]()
        self._numbers = itertools.count()
        self._until = dict[int, float]()
        """for each thread, when it counts as dead unless it has begun"""
        self._asked = dict[int, None]()

    def ask(self, task: Task) -> bool:
        """Have a thread make the call, one that is free if there is one; false where no thread is to be had."""
        self._asked[id(task)] = None
        if self._living() < min(len(self._asked), self._most):
            number = next(self._numbers)
            self._until[number] = time.monotonic() + STARTING
            try:
                start_new_thread(self._work, (number,))
            except (RuntimeError, MemoryError):
                self._until.pop(number, None)
                self.forget(task)
                return False
        self._tasks.put(task)
        return True

    def forget(self, task: Task) -> None:
        """It is over, and its thread free; a second time, nothing."""
        self._asked.pop(id(task), None)

    def _living(self) -> int:
        now = time.monotonic()
        return sum(until > now for until in list(self._until.values()))

    def _work(self, number: int) -> None:
        try:
            threading.current_thread().name = f"nnarray_{number}"
            self._begin()
            self._until[number] = math.inf
            while True:
                self._tasks.get()()
        finally:
            self._until.pop(number, None)
