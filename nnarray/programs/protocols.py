"""The protocols of compiled programs: what they are called with, whatever target made them."""

from collections.abc import Callable
from typing import Any, Protocol


class Program(Protocol):
    """Called with the inputs and the outputs of a graph, in its order, it fills the outputs and returns the result.

    `works_in_place` says whether outputs may lie in the memory of the inputs that the graph would like them over.
    """

    works_in_place: bool

    def __call__(self, *given: Any) -> Any:
        """Run on these arrays and numbers."""


class PackedProgram(Protocol):
    """A program whose parameters are one vector, and its gradients another."""

    def run(self, arrays: Any, numbers: Any) -> None:
        """Compute; raises ValueError, before that, if it is not for arrays like these."""

    def numbers(self, *scalars: float) -> tuple[float, ...]:
        """What `run` is given of the numbers that a program is given."""


class CompiledSteps(Protocol):
    """Training steps, on mini-batches or on all columns, each made with one call."""

    costs: Any
    """of the steps since the epoch began, on the device"""
    vectors: Any
    """theta and the running means: the same arrays all the time, or others after each call"""

    def begin(self, order: Any, numbers: Any, vectors: Any) -> None:
        """Begin an epoch.

        It is given the order of the columns, on the host, what both programs of each step are given as numbers, and
        theta and the running means.
        """

    def launch(self, count: int) -> None:
        """Make the next `count` steps, or queue them."""

    def mark(self) -> Callable[[], None] | None:
        """What waits until all steps so far are made; None where nothing is to be waited for."""

    def release(self) -> None:
        """Give up the memory between the steps, for the next run's; none is made after that."""
