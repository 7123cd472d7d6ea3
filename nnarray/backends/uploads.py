"""Double-buffered uploads: while the GPU computes with one tile, the next is copied, and one more is filled."""

from collections.abc import Callable
from typing import Any, Protocol


class Copier(Protocol):
    """What uploads need of a GPU: memory, streams and events. A stream or event is CuPy's, or behaves as CuPy's."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array on the GPU; raises MemoryError where there is no room for it."""

    def empty_pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new NumPy array in memory that the GPU can copy from by itself."""

    def copy(self, there: Any, here: Any, stream: Any) -> None:
        """Queue a copy of the pinned `here` to `there` on the stream."""

    def new_stream(self) -> Any:
        """A stream that runs beside the current one."""

    def current_stream(self) -> Any:
        """The stream on which programs are queued."""

    def new_event(self) -> Any:
        """An event, not recorded yet: it has happened."""


class Uploads:
    """Two buffers on the GPU that tiles are uploaded to in turn, each through pinned memory on the host.

    The host waits only until pinned memory may be overwritten, the GPU only for the upload of the next tile.
    """

    def __init__(self, copier: Copier, shape: tuple[int, int], dtype: Any) -> None:
        self.shape, self.dtype, self._copier = shape, dtype, copier
        self._there = [copier.empty(shape, dtype) for _ in range(2)]
        self._here = [copier.empty_pinned(shape, dtype) for _ in range(2)]
        self._copied = [copier.new_event() for _ in range(2)]
        self._used = [copier.new_event() for _ in range(2)]
        self._stream = copier.new_stream()
        self._turn = 1
        for used in self._used:  # what is queued may still compute in the memory that the places were given
            used.record(copier.current_stream())

    def wait(self) -> None:
        """Wait until no copy is under way, after which pinned memory may be released."""
        for copied in self._copied:
            copied.synchronize()

    def upload(self, rows: int, fill: Callable[[Any], None]) -> Any:
        """The first rows of a buffer on the GPU, with what `fill` writes into an array of that shape on the host.

        They are overwritten by the next call but one: what is queued on the current stream before the next call may
        still read them, nothing later.
        """
        compute = self._copier.current_stream()
        self._used[self._turn].record(compute)  # all that reads the tile before is queued by now
        self._turn = turn = 1 - self._turn
        here, there = self._here[turn][:rows], self._there[turn][:rows]
        self._copied[turn].synchronize()
        fill(here)
        self._stream.wait_event(self._used[turn])
        self._copier.copy(there, here, self._stream)
        self._copied[turn].record(self._stream)
        compute.wait_event(self._copied[turn])
        return there
