"""The equations over a batch, tile by tile: costs and gradients are sums over columns, predictions lie side by side.

Each tile goes forward, and back, while its activations are in the cache. A batch of one tile runs straight through, on
the threads that its library has of its own. In every function, `workers` bounds the threads that take tiles (None:
all that may be used) and `width` is the columns of a tile (None: `tiling.tile_width`).
"""

from collections.abc import Callable
from operator import add, iadd, itruediv
from typing import TypeAlias, TypeVar

from nnarray.backends import ONE_THREAD, Backend, require_finite, usable_threads
from nnarray.core import propagation
from nnarray.core.regularization import l2_cost, l2_gradient
from nnarray.core.typing import Array, Pairs
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.engine.tiling import tile_width
from nnarray.engine.workers import add_up

T = TypeVar("T")

Sums: TypeAlias = tuple[Array, list[tuple[Array, Array]]]
"""m J and m dW[l], m db[l]: divided by m only once, at the end"""


class Columns:
    """A matrix of the whole batch, put together from its tiles'."""

    def __init__(self, columns: int, backend: Backend) -> None:
        self.columns, self.backend = columns, backend
        self.parts: dict[int, Array] = {}

    def put(self, start: int, part: Array) -> None:
        """The columns from start on."""
        self.parts[start] = part

    def joined(self) -> Array:
        """The whole."""
        parts = [self.parts[start] for start in sorted(self.parts)]
        return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts, axis=1)


def predict(
    X: Array,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    workers: int | None = None,
    width: int | None = None,
) -> Array:
    """A[L], shape (n[L], m). Raises ValueError for an X that is not finite, having looked tile by tile."""
    found = Columns(X.shape[1], backend)

    def put(tile: Tile, start: int) -> int:
        require_finite(tile.X, "X", backend, first=start)
        found.put(start, forward(tile, layers, network, backend).A[-1])
        return tile.X.shape[1]

    over_tiles(put, add, Batch(X, X, X.shape[1]), layers, network, backend, workers, width)
    return found.joined()


def cost(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    keep: "Columns | None" = None,
    workers: int | None = None,
    width: int | None = None,
) -> Array:
    """J, the mean loss plus the penalty; `keep` collects A[L]. Raises ValueError for an X that is not finite."""

    def tile_cost(tile: Tile, start: int) -> Array:
        require_finite(tile.X, "X", backend, first=start)
        passed = forward(tile, layers, network, backend)
        if keep is not None:
            keep.put(start, passed.A[-1])
        return loss(passed, tile, network, backend)

    J = over_tiles(tile_cost, iadd, batch, layers, network, backend, workers, width)
    return with_penalty(J, layers, backend, l2=l2) / batch.m


def cost_and_gradients(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    workers: int | None = None,
    width: int | None = None,
) -> tuple[Array, Array]:
    """J and its gradient, a vector laid out as theta."""

    def sums(tile: Tile, _: int) -> Sums:
        passed = forward(tile, layers, network, backend)
        J = loss(passed, tile, network, backend)
        return J, propagation.backward(
            passed,
            tile.Y,
            layers,
            network.hidden,
            m=1,
            steps=backend.steps,
            weights=tile.weights,
            masks=tile.masks,
        )

    J, gradients = over_tiles(sums, add_sums, batch, layers, network, backend, workers, width)
    if l2:
        gradients = [
            (iadd(dW, l2_gradient(W, l2=l2, m=1)), db) for (dW, db), (W, _) in zip(gradients, layers, strict=True)
        ]
    return with_penalty(J, layers, backend, l2=l2) / batch.m, itruediv(backend.steps.join(gradients), batch.m)


def cost_of(
    passed: propagation.Forward, batch: Batch, layers: Pairs, network: Architecture, backend: Backend, *, l2: float
) -> Array:
    """J after a forward pass of the whole batch."""
    return with_penalty(loss(passed, batch, network, backend), layers, backend, l2=l2) / batch.m


def forward(tile: Tile, layers: Pairs, network: Architecture, backend: Backend) -> propagation.Forward:
    """One tile forward through the layers."""
    return propagation.forward(
        tile.X, layers, network.hidden, network.output, steps=backend.steps, masks=tile.masks
    )


def loss(passed: propagation.Forward, tile: Tile | Batch, network: Architecture, backend: Backend) -> Array:
    """The sum of a tile's losses."""
    return propagation.cost(passed.Z, tile.Y, network.output, m=1, steps=backend.steps, weights=tile.weights)


def with_penalty(J: Array, layers: Pairs, backend: Backend, *, l2: float) -> Array:
    """m J with m times the L2 penalty."""
    return J + l2_cost(layers, l2=l2, m=1, xp=backend.xp) if l2 else J


def add_sums(one: Sums, other: Sums) -> Sums:
    """The sum of two tiles' sums, in the memory of the first where it can be written."""
    pairs = zip(one[1], other[1], strict=True)
    return iadd(one[0], other[0]), [(iadd(dW, dW_2), iadd(db, db_2)) for (dW, db), (dW_2, db_2) in pairs]


def over_tiles(
    compute: Callable[[Tile, int], T],
    add: Callable[[T, T], T],
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    workers: int | None,
    width: int | None,
) -> T:
    """What `compute` makes of each tile and its first column, added up."""
    columns = batch.columns
    if width is None:
        width = tile_width(network, columns, layers[0][0].itemsize) if backend.name == "numpy" else columns
    if width >= columns:
        return compute(batch.tile(0, columns, backend), 0)

    def of_tile(i: int) -> T:
        start = i * width
        return compute(batch.tile(start, min(start + width, columns), backend), start)

    count = -(-columns // width)
    if backend.name != "numpy":  # others keep threads of their own
        return add_up(count, of_tile, add, workers=1)
    with ONE_THREAD:
        return add_up(count, of_tile, add, workers or usable_threads())
