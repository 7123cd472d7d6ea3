"""The equations over a batch, tile by tile: costs and gradients are sums over columns, predictions lie side by side.

Each tile goes forward, and back, while its activations are in the cache. Tiles give sums, which are divided by the
whole batch's m once they are added up. A batch of one tile runs straight through: on NumPy in one thread, or if it is
large in several, as `threads` says and no other thread. In every function, `workers` bounds the threads that take tiles
(None: all that may be used) and `width` is the columns of a tile (None: as `tiling` says).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import reduce
from operator import add
from typing import Any, TypeVar

import numpy as np

from nnarray.backends import (
    NUMPY,
    Backend,
    Block,
    Ended,
    is_sparse,
    mapped_file,
    read_ahead,
    require_finite,
    usable_threads,
)
from nnarray.core import propagation, regularization
from nnarray.core.typing import Array, Pairs
from nnarray.core.vector import vector_size
from nnarray.engine import compiling, equations
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.engine.columns import TileColumns
from nnarray.engine.numpy_views import as_numpy
from nnarray.engine.threads import with_threads
from nnarray.engine.tiling import as_wide_as_fits, is_whole
from nnarray.engine.workers import add_up

T = TypeVar("T")

SPARE = 2
"""Gradient vectors that are left for the next call: with the sum itself, as many as four tiles in one thread take."""


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
    batch = Batch(X, None, X.shape[1])
    if (own := as_numpy(batch, layers, network, backend)) is not None:
        return backend.asarray(predict(own[0].X, own[1], network, NUMPY, workers=workers, width=width))
    shows = _shows_in_Z(layers, X, backend)
    wanted = equations.prediction_with_check_of_Z if shows else equations.prediction

    def in_tiles(width: int) -> Array:
        found, only_tile = TileColumns(batch.columns, backend), is_whole(width, batch)

        def put(tile: Tile, start: int) -> int:
            if not shows:
                require_finite(tile.X, "X", backend, first=start)
            wrong, A = _forward(wanted, tile, layers, network, backend, only_tile=only_tile)
            if shows and wrong:
                require_finite(tile.X, "X", backend, first=start)
            found.put(start, A)
            return 0

        _over_tiles(wanted, put, add, batch, layers[0][0].dtype, network, backend, workers, width)
        return found.joined()

    return as_wide_as_fits(in_tiles, batch, layers, network, backend, width)


def activations(X: Array, layers: Pairs, network: Architecture, backend: Backend) -> list[Array]:
    """[A[0], …, A[L]] of the whole batch at once."""
    return [X, *compiling.compute(equations.activations, Tile(X, None, None, ()), layers, network, backend)[1]]


def cost(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float = 0.0,
    keep: TileColumns | None = None,
    workers: int | None = None,
    width: int | None = None,
) -> Array:
    """J, the mean loss plus the penalties; `keep` collects A[L]. Raises ValueError for an X that is not finite."""
    if keep is None and (own := as_numpy(batch, layers, network, backend)) is not None:
        return backend.asarray(cost(*own, network, NUMPY, l2=l2, l1=l1, workers=workers, width=width))
    wanted = equations.cost if keep is None else equations.cost_and_prediction
    has_own_loss = network.own_cost is not None or network.reported_loss is not None
    shows = not has_own_loss and _shows_in_Z(layers, batch.source.array, backend)

    def in_tiles(width: int) -> Array:
        only_tile = is_whole(width, batch)
        numbers = equations.numbers_of_cost(batch.m, l2, l1) if only_tile else equations.NO_NUMBERS

        def tile_cost(tile: Tile, start: int) -> Array:
            if not shows:
                require_finite(tile.X, "X", backend, first=start)
            J, A = _forward(wanted, tile, layers, network, backend, numbers, only_tile=only_tile)
            if shows and not np.isfinite(J):
                require_finite(tile.X, "X", backend, first=start)
            if keep is not None:
                keep.put(start, A)
            return J

        if keep is not None:
            keep.parts.clear()
        J = _over_tiles(wanted, tile_cost, added, batch, layers[0][0].dtype, network, backend, workers, width)
        return J if only_tile else cost_from_sum(J, batch.m, layers, backend, l2=l2, l1=l1)

    return as_wide_as_fits(in_tiles, batch, layers, network, backend, width)


def cost_and_gradients(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float = 0.0,
    spare: list[Array] | None = None,
    workers: int | None = None,
    width: int | None = None,
) -> tuple[Array, Array]:
    """J and its gradient, a vector laid out as theta.

    `spare` are free gradient vectors, reused before new ones are allocated; programs leave up to two there.
    """
    spare = [] if spare is None else spare
    if (own := as_numpy(batch, layers, network, backend)) is not None:
        free = backend.shared_with_numpy(spare)
        spare.clear()
        made = cost_and_gradients(*own, network, NUMPY, l2=l2, l1=l1, spare=free, workers=workers, width=width)
        return backend.asarray(made[0]), backend.asarray(made[1])

    def in_tiles(width: int) -> tuple[Array, Array]:
        return _cost_and_gradients(batch, layers, network, backend, l2, l1, spare, workers, width)

    return as_wide_as_fits(in_tiles, batch, layers, network, backend, width)


def _cost_and_gradients(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    l2: float,
    l1: float,
    spare: list[Array],
    workers: int | None,
    width: int,
) -> tuple[Array, Array]:
    only_tile = is_whole(width, batch)
    what = equations.cost_and_gradients
    numbers = equations.numbers_of_cost(batch.m, l2, l1) if only_tile else equations.NO_NUMBERS

    def sums(tile: Tile, _: int) -> tuple[Array, Array]:
        program = compiling.program_for(what, tile, layers, network, backend, numbers, only_tile=only_tile)
        if program is None:
            J, V = compiling.compute(what, tile, layers, network, backend, numbers)
            return J, backend.primitives.join(list(zip(V[::2], V[1::2], strict=True)))
        g = _taken(spare, vector_size(network.sizes), layers[0][0].dtype, backend)
        gradients = [V for pair in backend.primitives.split(g, network.sizes) for V in pair]
        return program(*compiling.inputs_of(tile, layers, numbers), *gradients), g

    def add_sums(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
        total = added(one[0], other[0]), added(one[1], other[1])
        spare.append(other[1])
        return total

    J, g = _over_tiles(what, sums, add_sums, batch, layers[0][0].dtype, network, backend, workers, width)
    del spare[SPARE:]
    return (J, g) if only_tile else gradients_from_sums(J, g, batch.m, layers, network, backend, l2=l2, l1=l1)


def gradients_from_sums(
    J: Array,
    g: Array,
    m: Array,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float,
) -> tuple[Array, Array]:
    """J and its gradient, from their sums over all columns; g may be written over."""
    g /= m
    numbers = equations.numbers_of_cost(m, l2, l1)
    if len(numbers) > 1:
        split = backend.primitives.split(g, network.sizes)
        g = backend.primitives.join(regularization.gradients_with_penalties(split, layers, xp=backend.xp, **numbers))
    return cost_from_sum(J, m, layers, backend, l2=l2, l1=l1), g


def pull(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    workers: int | None = None,
    width: int | None = None,
) -> tuple[Array, Array]:
    """A vector of Σ_columns dW[l] and db[l] laid out as theta, and dX (n_x, m), of a batch with dA[L] for its Y.

    Each tile goes forward again, so that what lies between X and A[L] is never kept. Raises ValueError for an X that is
    not finite.
    """
    if (own := as_numpy(batch, layers, network, backend)) is not None:
        made = pull(*own, network, NUMPY, workers=workers, width=width)
        return backend.asarray(made[0]), backend.asarray(made[1])

    def in_tiles(width: int) -> tuple[Array, Array]:
        dX = TileColumns(batch.columns, backend)

        def sums(tile: Tile, start: int) -> Array:
            require_finite(tile.X, "X", backend, first=start)
            g, part = _pulled(tile, layers, network, backend)
            dX.put(start, part)
            return g

        g = _over_tiles(equations.pullback, sums, added, batch, layers[0][0].dtype, network, backend, workers, width)
        return g, dX.joined()

    return as_wide_as_fits(in_tiles, batch, layers, network, backend, width)


def _pulled(tile: Tile, layers: Pairs, network: Architecture, backend: Backend) -> tuple[Array, Array]:
    program = compiling.program_for(equations.pullback, tile, layers, network, backend)
    if program is None:
        _, V = compiling.compute(equations.pullback, tile, layers, network, backend)
        return backend.primitives.join(list(zip(V[:-1:2], V[1::2], strict=True))), V[-1]
    dtype = layers[0][0].dtype
    g = backend.xp.empty(vector_size(network.sizes), dtype=dtype)
    dX = backend.new_matrix((network.sizes[0], tile.X.shape[1]), dtype)
    gradients = [V for pair in backend.primitives.split(g, network.sizes) for V in pair]
    program(*compiling.inputs_of(tile, layers), *gradients, dX)
    return g, dX


def cost_of(
    passed: propagation.Forward,
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float = 0.0,
) -> Array:
    """J after a forward pass of the whole batch."""
    J = equations.loss(passed, batch, network, backend.primitives)
    return cost_from_sum(J, batch.m, layers, backend, l2=l2, l1=l1)


def _forward(
    wanted: equations.Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any] = equations.NO_NUMBERS,
    *,
    only_tile: bool,
) -> tuple[Array, Array]:
    """A sum over the tile's columns and A[L], or None for the one that is not wanted."""
    program = compiling.program_for(wanted, tile, layers, network, backend, numbers, only_tile=only_tile)
    if program is None:
        J, made = compiling.compute(wanted, tile, layers, network, backend, numbers)
        return J, made[0] if made else None
    inputs = compiling.inputs_of(tile, layers, numbers)
    if wanted is equations.cost:
        return program(*inputs), None
    A = backend.new_matrix((network.sizes[-1], tile.X.shape[1]), layers[0][0].dtype)
    return program(*inputs, A), A


def _shows_in_Z(layers: Pairs, X: Array, backend: Backend) -> bool:
    """Whether whatever is not finite in X is not finite in Z[L], and so in J: it need not be looked for in X.

    Of one layer, each entry of Z sums over all of a column. BLAS may leave out what is multiplied by 0.
    """
    is_native = backend is NUMPY and backend.compiles and not is_sparse(X)
    return is_native and len(layers) == 1 and bool(layers[0][0].all())


def added(one: Array, other: Array) -> Array:
    """The sum, written over the first operand where arrays are mutable."""
    one += other
    return one


def cost_from_sum(J: Array, m: Array, layers: Pairs, backend: Backend, *, l2: float, l1: float) -> Array:
    """J with its penalties, from the sum of the losses."""
    numbers = equations.numbers_of_cost(m, l2, l1)
    return regularization.cost_with_penalties(J / m, layers, xp=backend.xp, **numbers)


def _taken(spare: list[Array], size: int, dtype: Any, backend: Backend) -> Array:
    """A spare vector, or a new one; other threads take from `spare` and append to it at the same time."""
    if spare:
        with suppress(IndexError):
            return spare.pop()
    return backend.xp.empty(size, dtype=dtype)


def _over_tiles(
    wanted: equations.Equations,
    compute: Callable[..., T],
    add: Callable[[T, T], T],
    batch: Batch,
    dtype: Any,
    network: Architecture,
    backend: Backend,
    workers: int | None,
    width: int,
) -> T:
    """The sum of `compute(tile, first column)`, the equations that are `wanted`, over all tiles."""
    columns = batch.columns
    if is_whole(width, batch):
        return as_one_tile(wanted, compute, batch, dtype, network, backend)
    compiling.compile_ahead(wanted, batch, width, dtype, network, backend)

    def of_tile(start: int, stop: int) -> T:
        read_ahead_of(batch, stop, width)
        return compute(batch.tile(start, stop, dtype, backend), start)

    return over_columns(of_tile, add, columns, width, backend, workers)


def over_columns(
    of_tile: Callable[[int, int], T],
    add: Callable[[T, T], T],
    columns: int,
    width: int,
    backend: Backend,
    workers: int | None,
) -> T:
    """The sum of `of_tile(start, stop)` over all tiles."""

    def compute(i: int) -> T:
        return of_tile(i * width, min((i + 1) * width, columns))

    count = -(-columns // width)
    if not backend.is_host:  # others keep threads of their own, and a GPU has no memory for more than two sums
        return reduce(add, map(compute, range(count)))
    block = Block(one=True)
    with Ended(block), block:
        return add_up(count, compute, add, workers or usable_threads())


def read_ahead_of(batch: Batch, stop: int, width: int) -> None:
    """Have the operating system read the next tile of an X in a mapped file, from column `stop` on."""
    X = batch.source.array
    if batch.order is None and stop < batch.columns and (file := mapped_file(X)) is not None:
        read_ahead(X[:, stop : min(stop + width, batch.columns)], file)


def as_one_tile(
    wanted: equations.Equations,
    compute: Callable[..., T],
    batch: Batch,
    dtype: Any,
    network: Architecture,
    backend: Backend,
) -> T:
    """`compute`, the equations that are `wanted`, on the batch as one tile.

    What is compiled has a thread count of BLAS that depends on the sizes alone.
    """
    columns = batch.columns

    def of_all() -> T:
        return compute(batch.tile(0, columns, dtype, backend), 0)

    if not backend.is_host:
        return of_all()
    compiled = not is_sparse(batch.X) and compiling.is_traceable(wanted, network, columns, dtype)
    return with_threads(network, columns, of_all, compiled=compiled)
