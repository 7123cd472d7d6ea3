"""Other threads that take part in a program, where its caller has some."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class Shared(Protocol):
    """Work that other threads may take part in while one leads it. To call it is to help, until it is stopped."""

    most: int
    """how many threads it has pieces for at once"""

    def __call__(self) -> None:
        """Take pieces until the work is stopped; by any number of threads, at any time."""

    def open(self) -> None:
        """Before others are asked to help."""

    def stop(self) -> None:
        """Release the helpers: there are no further pieces."""


Helped = Callable[[Shared, Callable[[], Any]], Any]
"""Calls the function, which leads the work, while helpers take part in it, and returns what the function returns."""

with_helpers: ContextVar[Helped | None] = ContextVar("with_helpers", default=None)
"""How the calling thread leads shared work; None where it computes alone."""
