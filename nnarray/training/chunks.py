"""Training on the chunks of dask arrays: the sums of every update are computed on the workers that hold the chunks."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nnarray.core.typing import Array
from nnarray.engine.dask_chunks import Chunk
from nnarray.network import chunks
from nnarray.network.chunked import Chunked
from nnarray.network.entry import Entered
from nnarray.training.batches import Orders
from nnarray.training.descent import Descent
from nnarray.training.dropout import Dropout


class ChunkedBatches(Orders):
    """Batches of columns from one chunk each: chunks come in random order, their columns shuffled.

    A full batch holds all chunks, in their given order.
    """

    def __init__(self, whole: Chunked, size: int | None, seed: int | Sequence[int] | None) -> None:
        self.whole, self.columns = whole, whole.columns
        self.is_whole = size is None or size >= self.columns
        self.size = self.columns if size is None else min(size, self.columns)
        self.begin_drawing(seed)

    def epoch(self) -> Sequence[Iterable[Any]]:
        """The batches of the next epoch: chunks, and which of their columns."""
        if self.is_whole:
            return [[((self.whole.chunks, None), None)]]
        self.drawn_from = self.state
        order = self.drawn(len(self.whole.chunks))
        orders = [self.drawn(self.whole.chunks[i].columns) for i in order]
        return [self._of_chunk(self.whole.chunks[i], columns) for i, columns in zip(order, orders, strict=True)]

    def drawn(self, count: int) -> np.ndarray:
        """A random permutation of `count` indices."""
        return self.generator.permutation(count)

    def _of_chunk(self, chunk: Chunk, columns: np.ndarray) -> Iterable[Any]:
        parts = np.split(columns, range(self.size, len(columns), self.size))
        return [(([chunk], part), None) for part in parts]

    def sample(self, most: int) -> Chunked:
        """Random but always the same chunks of up to `most` columns in all, at least one chunk, without weights."""
        order = np.random.default_rng(0).permutation(len(self.whole.chunks))
        ends = np.cumsum([self.whole.chunks[i].columns for i in order])
        return self.whole.unweighted(sorted(order[: max(1, int(np.sum(ends <= most)))]))

    def release(self) -> None:
        """Nothing is held."""


class DescentOnChunks(Descent):
    """Gradient descent on a local theta, with the examples in chunks on dask's workers."""

    _held: tuple[Chunk, Chunk] | None = None
    """the current chunk, as it was given and as persisted"""

    def forget(self) -> None:
        """Release the persisted chunk."""
        super().forget()
        self._held = None

    def _computed_once(self, chunk: Chunk) -> Chunk:
        """The chunk, persisted so that it is not computed again for each of its batches."""
        import dask

        if self._held is None or self._held[0] is not chunk:
            self._held = None  # there may be no room for two
            X, Y, weights = dask.persist(chunk.X, chunk.Y, chunk.weights)
            self._held = chunk, chunk._replace(X=X, Y=Y, weights=weights)
        return self._held[1]

    def cost(self, batch: Any, dropout: Dropout) -> Array:
        """J, with the penalty."""
        masks = dropout.masks(batch.columns) if dropout.drops else None
        return chunks.cost(self.network, self._entered(), batch, l2=self.l2, l1=self.l1, masks=masks)

    def cost_and_score(self, batch: Any, theta: Array | None = None) -> tuple[float, Any]:
        """The mean loss without the penalty, and the score of the predictions."""
        if not isinstance(batch, Chunked):
            return super().cost_and_score(batch, theta)
        entered = self._entered(theta)
        return chunks.cost(self.network, entered, batch, l2=0.0, l1=0.0), chunks.score(self.network, entered, batch)

    def _entered(self, theta: Array | None = None) -> Entered:
        return Entered(self.layers_of(theta), self.backend, self.dtype)

    def gradient_of(self, batch: Any, weighs: Any, dropout: Dropout) -> tuple[Array, Array | None, Any, int]:
        """J and the gradient of some chunks, or of some columns of one, and their m."""
        some, columns = batch
        some = some if columns is None else [self._computed_once(some[0])]
        count = sum(chunk.columns for chunk in some) if columns is None else len(columns)
        masks = dropout.masks(count) if dropout.drops else None
        found = self.sums_of(some, l2=self.l2, l1=self.l1, columns=columns, masks=masks)
        return *found, dropout.position if masks is None else masks.end

    def sums_of(self, some: Sequence[Chunk], **options: Any) -> tuple[float, Array | None, float]:
        """J and the gradient of some chunks, or of some columns of one, and their m."""
        return chunks.cost_and_gradients(self.network, self._entered(), some, **options)
