"""What is computed: a network's architecture, and the examples of one call."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from nnarray.backends import Backend, is_sparse
from nnarray.core.regularization import dropout
from nnarray.core.typing import Array, Function
from nnarray.engine.columns import ArrayColumns, Order, Source, Which


class Architecture(Protocol):
    """What the equations need to know of a network. Equal architectures share compiled programs."""

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
        """A loss, (Z[L], Y, xp=xp) to (1, m), that costs are taken of instead of the output's own; else None.

        Gradients stay those of the output's.
        """

    @property
    def own_cost(self) -> Any:
        """A cost of the caller's own, with its `loss` and `dZ` or `dA`, instead of the output's; else None."""

    @property
    def batch_norm(self) -> bool:
        """Whether hidden layers are normalised over the batch, as `engine.batch_norm` computes it and nothing else."""

    def __hash__(self) -> int:
        """Equal networks have equal hashes."""


class Batch(NamedTuple):
    """Examples: X (n_x, m), Y (n[L], m) or None, weights (1, m) or None, and what a cost divides by, m or Σ weights.

    A mini-batch is an `order` of columns to take of X, Y and weights; they are gathered tile by tile. On NumPy, X may
    be of any real dtype and layout, or one of SciPy's sparse arrays: each tile of it is brought into shape on its own.
    An X that lies elsewhere is a source of columns.
    """

    X: Array | Source
    Y: Array | None
    m: Array
    weights: Array | None = None
    order: Order | None = None
    """which columns, in which order; None for all as they stand"""
    draw_masks: Sequence[Callable[[int, int], Array]] = ()
    """of D[1], …, D[L-1] of inverted dropout each, from a start to a stop column, (n[l], stop - start)"""
    draw_input_mask: Callable[[int, int], Array] | None = None
    """from a start to a stop column, D[0], (n_x, stop - start)"""

    @property
    def columns(self) -> int:
        """How many examples; where a library leaves m open, what stands for it there, such as a symbol or None."""
        columns: int = self.X.shape[1] if self.order is None else len(self.order.on_host)
        return columns

    @property
    def source(self) -> Source:
        """Where the columns of X come from."""
        return self.X if isinstance(self.X, Source) else ArrayColumns(self.X)

    def release(self) -> None:
        """Release the buffers that tiles of X were uploaded to, once no copy is under way."""
        self.source.release()

    def tile(self, start: int, stop: int, dtype: Any, backend: Backend) -> "Tile":
        """The columns from start up to stop, to compute with in `dtype`."""
        masks = [draw(start, stop) for draw in self.draw_masks]
        return Tile(self.inputs(start, stop, dtype, backend), *self.targets(start, stop, backend), masks)

    def inputs(self, start: int, stop: int, dtype: Any, backend: Backend) -> Array:
        """X of such a tile, after dropout."""
        X = self.source.tile(self._which(start, stop), dtype, backend)
        return X if self.draw_input_mask is None else _masked(X, self.draw_input_mask(start, stop))

    def targets(self, start: int, stop: int, backend: Backend) -> tuple[Array | None, Array | None]:
        """Y and weights of such a tile."""
        which = self._which(start, stop)
        return _chosen(self.Y, which, backend), _chosen(self.weights, which, backend)

    def gathered(self, backend: Backend) -> "Batch":
        """The mini-batch as a whole of its own, with its columns in their order."""
        return self.chosen(self._which(0, self.columns), self.m, backend)

    def chosen(self, which: Which, m: Array, backend: Backend) -> "Batch":
        """These columns as a whole of their own, whose cost is divided by m."""
        Y, weights = (_chosen(V, which, backend) for V in (self.Y, self.weights))
        return Batch(self.source.chosen(which, backend), Y, m, weights)

    def _which(self, start: int, stop: int) -> Which:
        if self.order is not None:
            return self.order.part(start, stop)
        is_all = (start == 0 and stop is self.columns) or stop - start == self.columns
        return None if is_all else slice(start, stop)


def _masked(X: Array, D: Array) -> Array:
    """X after dropout; SciPy's matrices call the elementwise product `multiply`, and lose their format in it."""
    return X.multiply(D).asformat(X.format) if is_sparse(X) else dropout(X, D)


def _chosen(V: Array | None, which: Which, backend: Backend) -> Array | None:
    return None if V is None else ArrayColumns(V).chosen(which, backend)


class Tile(NamedTuple):
    """Columns of a batch that are computed in one go."""

    X: Array
    Y: Array | None
    weights: Array | None
    masks: Sequence[Array]
