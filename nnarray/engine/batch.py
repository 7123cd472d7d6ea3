"""What is computed: a network's architecture, and the examples of one call."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from nnarray.backends import Backend, for_products, is_sparse
from nnarray.core.typing import Array, Function
from nnarray.engine.host import HostColumns


class Architecture(Protocol):
    """What the equations need to know of a network. Those that are equal share what is compiled for them."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """(n_x, n[1], …, n[L])."""

    @property
    def hidden(self) -> tuple[str, ...]:
        """g[1], …, g[L-1]."""

    @property
    def output(self) -> str:
        """g[L]."""

    @property
    def reported_loss(self) -> Function | None:
        """A loss, (Z[L], Y, xp=xp) to (1, m), that costs are taken of in the place of the output's own; else None.

        Gradients stay those of the output's.
        """

    @property
    def own_cost(self) -> Any:
        """A cost of the caller's own, with its `loss` and `dZ` or `dA`, in the place of the output's; else None."""

    def __hash__(self) -> int:
        """Equal networks have equal hashes."""


class Batch(NamedTuple):
    """Examples: X (n_x, m), Y (n[L], m) or None, weights (1, m) or None, and what a cost divides by, m or Σ weights.

    A mini-batch is an `order` of columns to take of X, Y and weights; they are gathered tile by tile. On NumPy, X may
    be of any real dtype and layout, or one of SciPy's sparse arrays: each tile of it is brought into shape on its own.
    For a GPU it may be `HostColumns`.
    """

    X: Array
    Y: Array | None
    m: Array
    weights: Array | None = None
    order: Array | None = None
    """which columns, in which order; None for all as they stand"""
    host_order: np.ndarray | None = None
    """the same on the host"""
    draw_masks: Callable[[int, int], Sequence[Array]] | None = None
    """from a start to a stop column, D[1], …, D[L-1] of inverted dropout, each (n[l], stop - start)"""

    @property
    def columns(self) -> int:
        """How many examples; where a library leaves m open, what stands for it there, such as a symbol or None."""
        columns: int = self.X.shape[1] if self.order is None else self.order.shape[0]
        return columns

    @property
    def stays_on_host(self) -> bool:
        """Whether X lies on the host, for a GPU to which it comes tile by tile."""
        return isinstance(self.X, HostColumns)

    @property
    def array(self) -> Array:
        """X where it lies, as an array."""
        return self.X.array if isinstance(self.X, HostColumns) else self.X

    def let_go(self) -> None:
        """Give back what X on the host was brought to a GPU with, when no copy is under way any more."""
        if isinstance(self.X, HostColumns):
            self.X.let_go()

    def tile(self, start: int, stop: int, dtype: Any, backend: Backend) -> "Tile":
        """The columns from start up to stop, to compute with in `dtype`."""
        if isinstance(self.X, HostColumns):
            columns = slice(start, stop) if self.host_order is None else self.host_order[start:stop]
            X = self.X.tile(columns, stop - start, dtype, backend)
        else:
            X = for_products(self._cut(self.X, start, stop, backend), dtype, backend)
        masks = () if self.draw_masks is None else self.draw_masks(start, stop)
        Y, weights = (self._cut(V, start, stop, backend) for V in (self.Y, self.weights))
        return Tile(X, Y, weights, masks)

    def gathered(self, backend: Backend) -> "Batch":
        """The mini-batch as a whole of its own, with its columns in their order."""
        X, Y, weights = (self._cut(V, 0, self.columns, backend) for V in (self.X, self.Y, self.weights))
        return Batch(X, Y, self.m, weights)

    def _cut(self, V: Array | None, start: int, stop: int, backend: Backend) -> Array | None:
        if V is None:
            return None
        if self.order is not None:
            if isinstance(V, HostColumns):
                assert self.host_order is not None
                return V.chosen(self.host_order[start:stop])
            seen, own = backend.looked_into(V)
            if own is not backend:
                assert self.host_order is not None
                return backend.asarray(seen.T[self.host_order[start:stop]].T)
            rows = self.order[start:stop]  # of a C-ordered table: contiguous
            return (V.T[rows] if is_sparse(V) else backend.xp.take(V.T, rows, axis=0)).T
        is_all = (start == 0 and stop is self.columns) or stop - start == self.columns
        return V if is_all else V[:, start:stop]


class Tile(NamedTuple):
    """Columns of a batch that are computed in one go."""

    X: Array
    Y: Array | None
    weights: Array | None
    masks: Sequence[Array]
