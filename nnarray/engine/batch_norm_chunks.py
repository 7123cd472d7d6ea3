"""Batch normalisation over a batch in chunks that lie elsewhere: every pass over a chunk is a call of its own.

What a pass leaves for later ones, Z or dZ of the chunk's tiles, is returned and given to them, so that each can be made
again where a worker was lost. What all chunks have together comes from those who call.
"""

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from nnarray.backends import Backend
from nnarray.core.typing import Array, Layers
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.batch_norm_tiles import Moments, Passes, Sums, add_each
from nnarray.engine.ranks import dtype_of
from nnarray.engine.tiling import tile_width

Kept: TypeAlias = dict[int, Array]
"""Z or dZ of one hidden layer: the tiles of a chunk, by their first column."""


class PassesOfChunk(Passes):
    """A pass over a chunk, given the mean and variance that the first hidden layers have over all chunks."""

    def __init__(
        self,
        batch: Batch,
        layers: Layers,
        network: Architecture,
        backend: Backend,
        known: Sequence[tuple[Array, Array]],
    ) -> None:
        itemsize = 8 if dtype_of(layers, backend) == "float64" else 4
        width = tile_width(network, batch.columns, itemsize)
        super().__init__(batch, layers, network, backend, workers=1, width=width)
        self.statistics = list(known)

    def forward(self, below: Kept | None) -> tuple[Moments, Kept]:
        """Mean and variance of the next hidden layer in this chunk, and its Z, from Z of the one below."""
        l = len(self.statistics)
        self._lies_on(l, below)
        self._forward(l)
        return Moments(self.columns, *self.statistics[l]), self.Z[l]

    def losses(self, below: Kept | None) -> Array:
        """The sum of the losses, from Z of the last hidden layer."""
        self._lies_on(len(self.Z), below)
        return self._losses()

    def end(self, below: Kept | None) -> tuple[Sums, Kept]:
        """The sums of the last layer, and dZ of the one below."""
        self._lies_on(len(self.Z), below)
        return self._over(self._end, add_each), self.dZ

    def backward(self, l: int, means: Sequence[Array], below: Kept | None, Z: Kept, dZ: Kept) -> tuple[Sums, Kept]:
        """The sums of hidden layer l + 1, and dZ of the one below, given what the means over all chunks are."""
        self._lies_on(l, below)
        self.Z[l], self.dZ = dict(Z), dict(dZ)
        return self._over(partial(self._back, l, means), add_each), self.dZ

    def _lies_on(self, l: int, below: Kept | None) -> None:
        if below is not None:
            self.Z[l - 1] = below
