"""How many threads of BLAS a batch of one tile is computed with: its sizes say, and no other thread."""

from collections.abc import Callable
from typing import TypeVar

from nnarray.backends import BLAS_THREADS, Backend, Block, Ended, allowed_one_thread
from nnarray.engine.batch import Architecture
from nnarray.engine.tiling import is_small, is_tiny

T = TypeVar("T")


def with_threads(network: Architecture, columns: int, compute: Callable[[], T]) -> T:
    """What `compute` gives, a batch of one tile on NumPy, with threads of BLAS whose number depends on sizes alone.

    Small batches, and all where only one thread is allowed, have one.
    """
    if is_tiny(network, columns) or BLAS_THREADS.is_set_here():
        return compute()
    block = Block(one=allowed_one_thread() or is_small(network, columns))
    with Ended(block), block:
        return compute()


class ManySteps:
    """A block for a run of steps on batches of `columns`: on NumPy, small ones have one thread.

    BLAS is then set once and not in every step: `go_on` begins the block before a step, and lets other threads take
    their turn between two. Enter it as `with Ended(steps), steps:`.
    """

    def __init__(self, network: Architecture, columns: int, backend: Backend) -> None:
        small = backend.name == "numpy" and is_small(network, columns)
        self._block = Block(one=True) if small else None

    def go_on(self) -> None:
        """Before a step."""
        if self._block is not None:
            self._block.begin()

    def end(self) -> None:
        """After a step, before anything else than steps."""
        if self._block is not None:
            self._block.end()

    def __enter__(self) -> "ManySteps":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
