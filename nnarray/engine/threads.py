"""The thread count for a batch of one tile, which depends on its sizes alone, not on what other threads do."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from nnarray.backends import (
    BLAS_THREADS,
    Backend,
    Block,
    Ended,
    allowed_one_thread,
    makes_machine_code,
    usable_threads,
)
from nnarray.engine.batch import Architecture
from nnarray.engine.tiling import SMALL_STEP, operations
from nnarray.engine.workers import Helpers
from nnarray.programs.helpers import Shared, with_helpers

T = TypeVar("T")

UNSPLIT_PRODUCT = 9000
"""Multiplications of a product that no BLAS gives to several threads (OpenBLAS from 9216 on, of a matrix and a
vector)."""


def with_threads(network: Architecture, columns: int, compute: Callable[[], T], *, compiled: bool) -> T:
    """What `compute` gives, a batch of one tile on NumPy, with threads whose number depends on sizes alone.

    Small batches, and all where only one thread is allowed, have one. Larger ones that are `compiled` to machine code
    are shared by helpers, while BLAS has one; others have those of BLAS.
    """
    if is_tiny(network, columns) or BLAS_THREADS.is_set_here():
        return compute()
    one_thread = allowed_one_thread() or is_small(network, columns)
    shared = compiled and not one_thread and makes_machine_code()
    block = Block(one=one_thread or shared)
    with Ended(block), block:
        return _shared(compute) if shared else compute()


def _shared(compute: Callable[[], T]) -> T:
    """What `compute` gives, whose programs ask others to help."""
    before = with_helpers.set(_led)
    try:
        return compute()
    finally:
        with_helpers.reset(before)


def _led(work: Shared, lead: Callable[[], T]) -> T:
    """What `lead` gives, while as many threads as there are for it, and no more than it has pieces for, help."""
    threads = min(usable_threads(), work.most)
    if threads == 1:
        return lead()
    work.open()
    helpers = Helpers(work)
    with Ended(helpers), helpers:
        helpers.call(threads - 1)
        return lead()


def is_small(network: Architecture, columns: int) -> bool:
    """Whether a step on a batch of `columns` is too small for a second thread."""
    return operations(network.sizes, columns) <= SMALL_STEP


def is_tiny(network: Architecture, columns: int) -> bool:
    """Whether no product of it is ever computed by more than one thread."""
    return columns * _largest_weights(network.sizes) <= UNSPLIT_PRODUCT


@lru_cache(maxsize=64)
def _largest_weights(sizes: Sequence[int]) -> int:
    return max([n * n_prev for n_prev, n in pairwise(sizes)])


class ThreadsOfARun:
    """A block for a run of steps on batches of `columns`: on NumPy, small ones have one thread.

    BLAS is then set once and not in every step: `hold` begins the block before a step, and lets other threads take
    their turn between two. Enter it as `with Ended(threads), threads:`.
    """

    def __init__(self, network: Architecture, columns: int, backend: Backend) -> None:
        small = backend.is_host and is_small(network, columns)
        self._block = Block(one=True) if small else None

    def hold(self) -> None:
        """Before a step."""
        if self._block is not None:
            self._block.begin()

    def end(self) -> None:
        """After a step, before anything else than steps."""
        if self._block is not None:
            self._block.end()

    def __enter__(self) -> "ThreadsOfARun":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class ThreadsOfSteps(ThreadsOfARun):
    """The same where nothing but steps is computed: tiny ones have one thread without a block."""

    def __init__(self, network: Architecture, columns: int, backend: Backend) -> None:
        super().__init__(network, columns, backend)
        if is_tiny(network, columns):
            self._block = None
