"""Where the columns of a batch come from: tiles are cut from a source, and their results joined again."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nnarray.backends import Backend, for_products, is_sparse
from nnarray.core.typing import Array


class Order(NamedTuple):
    """Which columns, in which order."""

    indices: Array
    """(k,), where columns are taken by them"""
    on_host: np.ndarray
    """the same on the host"""

    def part(self, start: int, stop: int) -> "Order":
        """Those from start up to stop."""
        return Order(self.indices[start:stop], self.on_host[start:stop])


Which: TypeAlias = Order | slice | None
"""Columns in an order, or from one up to another, or all as they stand."""


class Source(ABC):
    """A matrix (n, m) whose columns are read tile by tile, wherever and in whatever dtype and layout it is stored."""

    stays_on_host = True
    """whether the matrix lies on the host, for a GPU to which it comes tile by tile"""

    array: Array
    """the matrix, where it lies"""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        n, m = self.array.shape
        return n, m

    @abstractmethod
    def chosen(self, which: Which, backend: Backend) -> Any:
        """These columns, as an array or as a source like this one."""

    @abstractmethod
    def tile(self, which: Which, dtype: Any, backend: Backend) -> Array:
        """These columns, to compute with on the backend in `dtype`; to be used before the next tile but one."""

    @abstractmethod
    def release(self) -> None:
        """Release the buffers that tiles were uploaded to, once no copy is under way."""


class ArrayColumns(Source):
    """A matrix on the device that computes; on NumPy of any real dtype and layout, or sparse."""

    stays_on_host = False

    def __init__(self, array: Array) -> None:
        self.array = array

    def chosen(self, which: Which, backend: Backend) -> Array:
        """These columns; a view where they are not in another order."""
        V = self.array
        if not isinstance(which, Order):
            return V if which is None else V[:, which]
        seen, own = backend.looked_into(V)
        if own is not backend:
            return backend.asarray(seen.T[which.on_host].T)
        rows = V.T  # of a C-ordered table: contiguous
        return (rows[which.indices] if is_sparse(V) else backend.xp.take(rows, which.indices, axis=0)).T

    def tile(self, which: Which, dtype: Any, backend: Backend) -> Array:
        """These columns, as the library's products take them."""
        return for_products(self.chosen(which, backend), dtype, backend)

    def release(self) -> None:
        """Nothing to release: tiles are views or copies on the same device."""


class TileColumns:
    """A matrix of the whole batch, collected from its tiles."""

    def __init__(self, columns: int, backend: Backend) -> None:
        self.columns, self.backend = columns, backend
        self.parts: dict[int, Array] = {}

    def put(self, start: int, part: Array) -> None:
        """The columns from start on."""
        self.parts[start] = part

    def joined(self) -> Array:
        """The whole."""
        parts = [self.parts[start] for start in sorted(self.parts)]
        with self.backend.current():
            return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts, axis=1)
