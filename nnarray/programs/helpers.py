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
        """Let helpers go: there will be no further pieces."""


Helped = Callable[[Shared, Callable[[], Any]], Any]
"""What leads with helpers: given the work and the function that leads it, it returns what that returns."""

with_helpers: ContextVar[Helped | None] = ContextVar("with_helpers", default=None)
"""Of the calling thread; None where it computes alone."""
