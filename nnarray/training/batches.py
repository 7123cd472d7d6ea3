"""The order in which training sees its examples, and which units it drops: drawn on the host, from the seed alone."""

from collections.abc import Iterator, Sequence

import numpy as np

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import Batch


def stream(seed: int | None, purpose: int) -> "np.random.Generator":
    """A generator of its own for each purpose, so that drawing more for one leaves the others as they were."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose,)))


class MiniBatches:
    """The batches of one epoch after the other: the whole batch, or shuffled columns, `size` at a time.

    A mini-batch is gathered as rows of Xᵀ, which are contiguous where X is the transpose of a C-ordered (m, n_x) table.
    """

    def __init__(self, whole: Batch, size: int | None, seed: int | None, backend: Backend) -> None:
        self.whole, self.backend = whole, backend
        self.columns = int(whole.X.shape[1])
        self.size = min(size or self.columns, self.columns)
        self.weights = None if whole.weights is None else backend.to_numpy(whole.weights)[0]
        self.generator = stream(seed, 1)

    @property
    def is_whole(self) -> bool:
        """Whether one batch holds all examples."""
        return self.size == self.columns

    def __iter__(self) -> Iterator[Batch]:
        if self.is_whole:
            yield self.whole
            return
        order = self.generator.permutation(self.columns)
        for start in range(0, self.columns, self.size):
            columns = order[start : start + self.size]
            m = columns.shape[0] if self.weights is None else float(self.weights[columns].sum(dtype="float64"))
            if m > 0:  # examples that all weigh nothing are as good as absent
                yield self._gather(columns, m)

    def _gather(self, columns: np.ndarray, m: float) -> Batch:
        index = self.backend.asarray(columns)
        X, Y = self._take(self.whole.X, index), self._take(self.whole.Y, index)
        return Batch(X, Y, m, None if self.whole.weights is None else self._take(self.whole.weights, index))

    def _take(self, V: Array, index: Array) -> Array:
        return self.backend.xp.take(V.T, index, axis=0).T


class Dropout:
    """The masks D[1], …, D[L-1] of inverted dropout, drawn anew for each batch."""

    def __init__(self, rates: Sequence[float], sizes: Sequence[int], seed: int | None, backend: Backend) -> None:
        self.rates, self.sizes, self.backend = rates, sizes, backend
        self.generator = stream(seed, 2)

    def onto(self, batch: Batch, dtype: str) -> Batch:
        """The batch with masks; without any dropout, the batch itself."""
        if not any(self.rates):
            return batch
        m = batch.X.shape[1]
        units = zip(self.sizes[1:-1], self.rates, strict=True)
        return batch._replace(masks=tuple(self._mask(n, m, rate, dtype) for n, rate in units))

    def _mask(self, n: int, m: int, rate: float, dtype: str) -> Array:
        kept = self.generator.random((m, n), dtype=np.float32) >= rate
        return self.backend.asarray((kept / (1 - rate)).T, dtype)
