"""How wide a tile is: so many columns that what they make of themselves stays in the cache.

The width depends on the problem alone, never on the machine or on how many workers there are: it decides which sums
are taken first, and with them the last bits of a result.
"""

from math import ceil

from nnarray.core.vector import vector_size
from nnarray.engine.batch import Architecture

TILE_BYTES = 8 * 2**20
"""X and every A of one tile; two or more tiles at work fit a CPU's last-level cache."""

NARROWEST, WIDEST = 512, 4096
"""Columns. Narrower tiles spend their time in adding dW up, where W is large, and in calls, where it is small."""


def tile_width(network: Architecture, columns: int, itemsize: int) -> int:
    """The columns of a tile of a batch of `columns`, computed in floats of `itemsize` bytes."""
    column = sum(network.sizes) * itemsize
    wide = min(max(TILE_BYTES // column, NARROWEST), WIDEST)
    return ceil(columns / ceil(columns / wide))
