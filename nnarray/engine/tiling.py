"""How wide a tile is: on CPUs as many columns as keep X and every A[l] in the cache, on GPUs as many as fit.

On CPUs the width depends on the problem alone, never on the machine or on how many workers there are: it decides which
sums are taken first, and with them the last bits of a result.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from typing import Any, TypeVar

from nnarray.backends import Backend, for_products, is_sparse, makes_machine_code
from nnarray.core.typing import Pairs
from nnarray.core.vector import vector_size
from nnarray.engine.batch import Architecture, Batch

T = TypeVar("T")

TILE_BYTES = 20 * 2**20
"""X and every A of one tile: of the order of a CPU's last-level cache."""

STREAM_BYTES, STREAM_ROWS = 40 * 2**20, 256
"""X of a tile of a network of one unit with so many inputs or more, which machine code reads once, where it lies: no
cache need hold it, and fewer tiles take Python less time. (An EPYC's logistic regression on 480 MB: 0.74 → 0.78 of one
read where that takes 7.8 ms, 0.85 as before where it takes 10. With 60 MB threads end further apart.)"""

NARROWEST, WIDEST = 512, 4096
"""Columns. Narrower tiles spend their time in calls, and NumPy lets no other thread run during a product of 500 entries
or fewer. Wider ones leave the cache."""

LARGE_THETA, NARROWEST_LARGE = 8 * 2**20, 2048
"""Bytes of theta from which on no cache holds it, and the columns that pay for reading W and adding dW up, if X and
every A of them take no more than DEEP_BYTES and as much as theta."""

DEEP_BYTES = 16 * 2**20
"""So two workers, with some five sums, take 32 MB and seven times as much as theta, and no more with more layers."""

SHARES = 8
"""A batch of many tiles is cut into a multiple of this, so that workers get equal shares."""

SMALL_STEP, LARGE_STEP = 32e6, 1e9
"""Operations of a step's matrix products. Up to the first, a second thread costs more than it brings. Between the two,
more time goes into what comes between the products, and tiles are narrower than the cache asks for, so that workers
share it. From the second on the products take most of it, and are shared themselves. Columns that batch normalisation
couples stay one tile, whose pieces workers share: narrower ones would make a pass for each layer."""

MULTIPLE = 16
"""Columns that a width is rounded up to."""


def tile_width(network: Architecture, columns: int, itemsize: int, *, streams: bool = False) -> int:
    """The columns of a tile of a batch of `columns`, computed in floats of `itemsize` bytes.

    `streams` says that X is read where it lies, by machine code, and that nothing else is large.
    """
    return _width(network.sizes, columns, itemsize, network.batch_norm, streams)


@lru_cache(maxsize=256)
def _width(sizes: tuple[int, ...], columns: int, itemsize: int, coupled: bool, streams: bool) -> int:
    narrowest, of_theta = NARROWEST, vector_size(sizes) * itemsize
    if of_theta > LARGE_THETA:
        narrowest = min(NARROWEST_LARGE, (DEEP_BYTES + of_theta) // (sum(sizes) * itemsize))
    bytes_of_tile, widest = (STREAM_BYTES, columns) if streams else (TILE_BYTES, WIDEST)
    wide = min(max(bytes_of_tile // (sum(sizes) * itemsize), narrowest), widest)
    tiles = ceil(columns / wide)
    if tiles == 1 and not coupled and SMALL_STEP < operations(sizes, columns) <= LARGE_STEP:
        tiles = max(1, min(SHARES, columns // narrowest))
    if tiles > 1:
        shares = min(SHARES, 1 << (tiles - 1).bit_length())
        tiles = ceil(tiles / shares) * shares
    width = max(ceil(columns / tiles), NARROWEST)
    return width + -width % MULTIPLE


def operations(sizes: Sequence[int], columns: int) -> int:
    """Of the matrix products of a forward and a backward pass."""
    return 6 * columns * vector_size(sizes)


UPLOAD_BYTES = 2**28
"""Bytes of X in a tile that comes from the host, so that a copy reaches the bus's rate; not measured yet."""


class NoRoomError(MemoryError):
    """There is no room for what is kept of the whole batch, however narrow its tiles are."""


_widest: dict[tuple[tuple[int, ...], Backend], int] = {}
"""of networks and backends that ran out of memory: the widest tiles that may fit"""


def is_whole(width: int, batch: Batch) -> bool:
    """Whether one tile of this width holds the whole batch."""
    return width is batch.columns or width >= batch.columns


def fits_whole(network: Architecture, columns: int, itemsize: int, backend: Backend) -> bool:
    """Whether a batch of so many columns is one tile, as far as is known."""
    if backend.is_host:
        return tile_width(network, columns, itemsize) >= columns
    return columns <= _widest.get((network.sizes, backend), backend.most_columns or columns)


def as_wide_as_fits(
    in_tiles: Callable[[int], T],
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    width: int | None,
) -> T:
    """`in_tiles(width)`, with the width asked for or the best one.

    Where a GPU has no room for them, their width is halved, now and in later calls, down to a single column.
    """
    if width is None:
        width = _best_width(batch, layers, network, backend)
    while True:
        try:
            with backend.current():
                return in_tiles(width)
        except MemoryError as error:
            if backend.release_memory():
                continue
            if backend.is_host or width == 1 or isinstance(error, NoRoomError):
                _widest.pop((network.sizes, backend), None)
                raise
        batch.release()
        width = _widest[network.sizes, backend] = -(-min(width, batch.columns) // 2)


def _best_width(batch: Batch, layers: Pairs, network: Architecture, backend: Backend) -> int:
    """A width for the cache on NumPy, for copies of some size where X is on the host, else the whole batch."""
    if backend.is_host:
        streams = _streams(batch, layers[0][0].dtype, network, backend)
        return tile_width(network, batch.columns, layers[0][0].itemsize, streams=streams)
    widest = _widest.get((network.sizes, backend), backend.most_columns)
    if widest is None:
        return batch.columns  # not compared with any number: a library that traces may have left m open
    if batch.source.stays_on_host:
        widest = min(widest, max(1, UPLOAD_BYTES // (network.sizes[0] * layers[0][0].itemsize)))
    return min(widest, batch.columns)


def _streams(batch: Batch, dtype: Any, network: Architecture, backend: Backend) -> bool:
    """Whether machine code reads X, the only large part of a tile, where it lies."""
    is_one_unit = network.sizes[0] >= STREAM_ROWS and network.sizes[1:] == (1,) and network.own_cost is None
    if not is_one_unit or not makes_machine_code() or batch.order is not None or batch.draw_input_mask is not None:
        return False
    few = batch.source.array[:, :2]
    return not is_sparse(few) and for_products(few, dtype, backend) is few
