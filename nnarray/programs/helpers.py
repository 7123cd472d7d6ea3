"""Helper threads of a program, where its caller offers some."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class Shared(Protocol):
    """Work that one thread leads and others may share. A helper calls it, until the leader stops it."""

    most: int
    """how many threads it has pieces for at once"""

    def __call__(self) -> None:
        """Compute pieces until the work is stopped. Any number of threads may call this at any time."""

    def open(self) -> None:
        """Called before helpers are asked."""

    def stop(self) -> None:
        """Release the helpers: there are no further pieces."""


Helped = Callable[[Shared, Callable[[], Any]], Any]
"""Calls the function, which leads the work, while helpers take part in it, and returns what the function returns."""

with_helpers: ContextVar[Helped | None] = ContextVar("with_helpers", default=None)
"""How the calling thread leads shared work; None where it computes alone."""
