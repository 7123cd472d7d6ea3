"""What earlier calls gave, and whether later ones leave it as it was."""

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import nnarray as nn
from nnarray.programs.targets import idle


class Kept(NamedTuple):
    """A result, and the bytes that it held when it was given."""

    result: Any
    was: list[bytes]

    def is_as_it_was(self) -> bool:
        """Whether nobody has written into it since."""
        return list(numbers(self.result)) == self.was


LATEST: list[Kept] = []
"""The result of the latest call that went on to its end."""


def keep(result: Any) -> None:
    """Keep the result of a call that went on to its end."""
    LATEST[:] = [Kept(result, list(numbers(result)))]


def numbers(result: Any) -> Iterator[bytes]:
    """The bytes of all arrays in a result."""
    if isinstance(result, nn.TrainingResult):
        result = result.params, [float(epoch.cost) for epoch in result.history], list(result.state)
    if isinstance(result, nn.Parameters):
        result = [result.vector, *([result.statistics] if isinstance(result, nn.NormalizedParameters) else [])]
    if hasattr(result, "state_dict"):  # torch's module
        result = [parameter.detach() for parameter in result.parameters()]
    if hasattr(result, "SerializeToString"):  # ONNX's model
        yield result.SerializeToString()
    elif isinstance(result, list | tuple):
        for part in result:
            yield from numbers(part)
    elif hasattr(result, "shape") or isinstance(result, float | int):
        yield np.asarray(result).tobytes()


class Again:
    """The same call after one that was broken off."""

    def __init__(self, call: Callable[[], Any]) -> None:
        LATEST.clear()
        call()
        self._call, self._earlier = call, list(LATEST)

    def check(self) -> None:
        """Raise unless it gives the same bits, twice, and leaves earlier results as they were."""
        kept = [*self._earlier, *LATEST]
        for _ in range(2):
            self._call()
            assert [latest.was for latest in LATEST] == [earlier.was for earlier in self._earlier], "other bits"
            kept += LATEST
        assert all(one.is_as_it_was() for one in kept), "a result was written into"
        memory_is_nobodys()


def memory_is_nobodys() -> None:
    """Raise where memory that waits for the next run is kept twice, or by somebody else as well."""
    if not _is_nobodys():
        gc.collect()
        assert _is_nobodys(), "memory that waits for the next run is in use, or waits twice"


def _is_nobodys() -> bool:
    for keeper in idle.living():
        blocks = blocks_of(keeper)
        counts = [sys.getrefcount(blocks[i]) for i in range(len(blocks))]  # its keeper's, that of `blocks`, the call's
        if len(set(map(id, blocks))) < len(blocks) or set(counts) - {3}:
            return False
    return True


def blocks_of(keeper: Any) -> list[Any]:
    """The arrays that wait there."""
    if isinstance(keeper, idle.SpareBlocks):
        return [block for blocks in keeper._idle.values() for block in blocks]
    return [arena.memory if hasattr(arena, "memory") else arena for arena in keeper.idle]
