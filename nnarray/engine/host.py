"""Examples that stay on the host, or in a file, while a GPU computes: their tiles are uploaded one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnarray.backends import Backend, usable_threads
from nnarray.core.typing import Array
from nnarray.core.vector import vector_size
from nnarray.engine.columns import Order, Source, Which
from nnarray.engine.workers import for_each

if TYPE_CHECKING:
    from nnarray.backends.uploads import Uploads

MOST_FILLERS = 8
"""Threads that copy one tile into pinned memory. One alone copies 3 GB/s beside an H200, whose bus takes 63 at most.

So eight copy 24 GB/s at most, with no more than half of a small server's cores; how they scale is not measured yet.
"""

FILL_BYTES = 2**22
"""Bytes of a tile for which a further thread may be worth it: one copies them in 1.4 ms, and starts in 0.1."""

BLOCK = 256, 64
"""Rows and columns of a table that are transposed at a time: 3 times as fast as all at once, per processor time."""

GATHERED_ROWS = 64
"""Rows whose copy stays in the cache until it is converted."""

VECTORS = 8
"""Of theta's size, that a training run may hold at once: theta, gradients, running means, the best and last theta."""


def stays_on_host(X: Any, sizes: Sequence[int], dtype: Any, backend: Backend) -> bool:
    """Whether X is on the host and too large for the memory of the backend's device."""
    itemsize = np.dtype(dtype).itemsize
    beside = VECTORS * vector_size(sizes) * itemsize
    return isinstance(X, np.ndarray) and not backend.fits(X.size * itemsize, beside=beside)


@dataclass(eq=False)
class HostColumns(Source):
    """X (n_x, m) in the host's memory or in a mapped file, of any real dtype and layout."""

    array: np.ndarray
    _uploads: "Uploads | None" = field(default=None, repr=False)

    def chosen(self, which: Which, backend: Backend) -> "HostColumns":
        """These columns; a copy where they are in another order."""
        return HostColumns(self.array.T[_of_rows(which)].T)

    def release(self) -> None:
        """Release the upload buffers."""
        if self._uploads is not None:
            self._uploads.wait()
            self._uploads = None

    def tile(self, which: Which, dtype: Any, backend: Backend) -> Array:
        """These columns on the backend, in `dtype`, each contiguous; to be used before the next but one."""
        rows = _of_rows(which)
        n_x, m = self.shape
        count = len(range(m)[rows]) if isinstance(rows, slice) else len(rows)
        shape = count, n_x
        if self._uploads is not None and (self._uploads.dtype != dtype or self._uploads.shape[0] < count):
            self.release()  # before its successor takes as much memory
        if self._uploads is None:
            self._uploads = backend.new_uploads(shape, dtype)
        table = self.array.T

        def fill(here: np.ndarray) -> None:
            pieces = min(MOST_FILLERS, usable_threads(), max(1, here.nbytes // FILL_BYTES))
            ends = [count * i // pieces for i in range(pieces + 1)]

            def fill_piece(i: int) -> None:
                piece = slice(ends[i], ends[i + 1])
                with np.errstate(over="ignore"):
                    if isinstance(rows, slice):
                        copy_rows(here[piece], table[rows][piece])
                    else:
                        gather_rows(here[piece], table, rows[piece])

            for_each(pieces, fill_piece, pieces)

        return self._uploads.upload(count, fill).T


def copy_rows(here: np.ndarray, table: np.ndarray) -> None:
    """Copy a table of any layout; one that is transposed in blocks that fit into a core's cache."""
    count, n = table.shape
    if table.strides[1] == table.itemsize:
        return np.copyto(here, table, casting="unsafe")
    down, across = BLOCK
    for i in range(0, count, down):
        for j in range(0, n, across):
            block = slice(i, i + down), slice(j, j + across)
            np.copyto(here[block], table[block], casting="unsafe")
    return None


def gather_rows(here: np.ndarray, table: np.ndarray, rows: np.ndarray) -> None:
    """Copy these rows of a table of any layout; NumPy takes those of the same dtype without a copy between."""
    if table.flags.c_contiguous and table.flags.aligned and table.dtype == here.dtype:
        np.take(table, rows, axis=0, out=here, mode="clip")  # any other mode copies `here` twice
        return
    for i in range(0, len(rows), GATHERED_ROWS):
        some = slice(i, i + GATHERED_ROWS)
        np.copyto(here[some], table[rows[some]], casting="unsafe")


def _of_rows(which: Which) -> slice | np.ndarray:
    """The same columns as rows of the transpose."""
    return slice(None) if which is None else which.on_host if isinstance(which, Order) else which
