"""Work given to another thread, in a way that no interrupt of the caller can spoil.

The executors and events of the standard library hold locks between lines of Python: an interrupt there leaves one
locked, and a thread waits for ever. Here a step is a single call into C that may be made twice: one of a dict, of a
queue, or of a lock that is released once and never locked again. So threads are started by `_thread`, too.
"""

import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from typing import Any

HELPER, CALLER = "helper", "caller"

STARTING = 2.0
"""Seconds within which a thread begins its work; one that finds no memory for its first call never does."""


class Task:
    """A call that another thread makes, unless its caller ends it before it begins."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do: Callable[[], Any] | None = do
        self._whose = dict[str, str]()
        self._is_over, self._over = False, allocate_lock()
        self._over.acquire()
        self.result: Any = None
        self.error: BaseException | None = None

    def __call__(self) -> None:
        """Make the call, in another thread."""
        do = self._do
        if self._whose.setdefault("", HELPER) is HELPER and do is not None:
            try:
                self.result = do()
            except BaseException as error:
                self.error = error
        del do
        self._do, self._is_over = None, True
        self._over.release()

    def end(self) -> None:
        """See to it that the call is over, or never made; a second time, nothing."""
        if self._whose.setdefault("", CALLER) is CALLER:
            self._do = None  # a queue may keep the task
        else:
            self.wait()

    def was_made(self) -> bool:
        """Once it was ended: whether the other thread made the call."""
        return self._whose[""] is HELPER

    def wait(self, seconds: float = -1) -> None:
        """Wait until the call is over, or for so long."""
        while not self._is_over and self._over.acquire(timeout=seconds):
            pass


def in_another_thread(do: Callable[[], Any]) -> Any:
    """What `do` gives, called where no signal breaks in: not in the main thread, unless no other is to be had."""
    if threading.current_thread() is not threading.main_thread():
        return do()
    task = Task(do)
    try:
        start_new_thread(task, ())
    except (RuntimeError, MemoryError):
        return do()
    try:
        try:
            task.wait(STARTING)
        finally:
            task.end()
    finally:
        task.end()
    if not task.was_made():
        return do()
    if task.error is not None:
        raise task.error
    return task.result
