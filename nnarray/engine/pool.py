"""Threads that stay and wait for tasks, which no interrupt of a caller can spoil (see `programs.tasks`)."""

import threading
from _thread import start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from nnarray.programs.tasks import Task


class Pool:
    """Threads that stay, at most `most`, started when there is work for them; each begins with a call of `begin`."""

    def __init__(self, most: int, begin: Callable[[], Any]) -> None:
        self._most, self._begin = most, begin
        self._tasks = SimpleQueue[Task]()
        self._threads: list[int] = []
        self._asked = dict[int, None]()

    def ask(self, task: Task) -> bool:
        """Have a thread make the call, one that is free if there is one; false where no thread is to be had."""
        self._asked[id(task)] = None
        if len(self._threads) < min(len(self._asked), self._most):
            try:
                self._threads.append(start_new_thread(self._work, (len(self._threads),)))
            except (RuntimeError, MemoryError):
                self.forget(task)
                return False
        self._tasks.put(task)
        return True

    def forget(self, task: Task) -> None:
        """It is over, and its thread free; a second time, nothing."""
        self._asked.pop(id(task), None)

    def _work(self, number: int) -> None:
        threading.current_thread().name = f"nnarray_{number}"
        self._begin()
        while True:
            self._tasks.get()()
