"""Memory that CPU programs keep allocated between runs, and its limit."""

from collections import defaultdict
from typing import Protocol
from weakref import ref

import numpy as np
import numpy.typing as npt

LIMIT = 64 * 2**20
"""Bytes that all programs may keep together: where more is allocated, or left by a training run, what is kept is
released first. A block of a training run that is larger is not kept."""


class Keeper(Protocol):
    """A program that keeps memory."""

    @property
    def idle_bytes(self) -> int:
        """The bytes kept for the next run."""

    def release(self) -> None:
        """Release them; the next run allocates again."""


_keepers: list[ref[Keeper]] = []


def keep_watch(keeper: Keeper) -> None:
    """Count the program's memory from now on."""
    _keepers[:] = [known for known in _keepers if known() is not None]
    _keepers.append(ref(keeper))


def make_room(size: int) -> None:
    """Release what all programs keep where it would be more than the limit with so many further bytes."""
    if idle_bytes() + size > LIMIT:
        for program in living():
            program.release()


def idle_bytes() -> int:
    """The bytes that all programs keep for their next run."""
    return sum([program.idle_bytes for program in living()])


class SpareBlocks:
    """Memory of certain sizes, of which those come again that were needed before."""

    def __init__(self) -> None:
        self._idle = defaultdict[int, list[npt.NDArray[np.uint8]]](list)
        keep_watch(self)

    @property
    def idle_bytes(self) -> int:
        """The memory that waits."""
        return sum([size * len(blocks) for size, blocks in self._idle.copy().items()])

    def release(self) -> None:
        """Free the memory that waits."""
        self._idle.clear()

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """A block of so many bytes."""
        try:
            return self._idle[size].pop()
        except IndexError:
            return np.empty(size, np.uint8)

    def give_back(self, block: npt.NDArray[np.uint8]) -> None:
        """Keep a block that nobody reads any more, unless it is very large."""
        if block.nbytes <= LIMIT:
            make_room(block.nbytes)
            self._idle[block.nbytes].append(block)


def living() -> list[Keeper]:
    """Whoever keeps memory now."""
    return [program for known in list(_keepers) if (program := known()) is not None]
