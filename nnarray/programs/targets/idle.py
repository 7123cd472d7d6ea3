"""Memory that CPU programs keep allocated between runs, and its limit."""

from typing import Protocol
from weakref import ref

LIMIT = 64 * 2**20
"""Bytes that all programs may hold together when a further one comes; above it, all is released."""


class Keeper(Protocol):
    """A program that keeps memory."""

    @property
    def idle_bytes(self) -> int:
        """The bytes kept for the next run."""

    def release(self) -> None:
        """Release them; the next run allocates again."""


_keepers: list[ref[Keeper]] = []


def keep_watch(keeper: Keeper) -> None:
    """Count the program's memory from now on; where the others hold more than the limit, theirs is released first."""
    _keepers[:] = [known for known in _keepers if known() is not None]
    if idle_bytes() > LIMIT:
        for program in _living():
            program.release()
    _keepers.append(ref(keeper))


def idle_bytes() -> int:
    """The bytes that all programs keep for their next run."""
    return sum([program.idle_bytes for program in _living()])


def _living() -> list[Keeper]:
    return [program for known in list(_keepers) if (program := known()) is not None]
