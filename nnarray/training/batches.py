"""The order in which training sees its examples, and which units it drops: drawn on the host, from the seed alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends import Backend, on_device, quiet
from nnarray.core.typing import Array
from nnarray.engine import Batch


def seed_of(seed: int | None, purpose: int) -> "np.random.SeedSequence":
    """A seed of its own for each purpose, so that drawing more for one leaves the others as they were."""
    return np.random.SeedSequence(seed, spawn_key=(purpose,))


class Order(NamedTuple):
    """The order of the columns in an epoch."""

    on_host: "np.ndarray"
    on_device: Array


class MiniBatches:
    """The batches of one epoch after the other: the whole batch, or shuffled columns, `size` at a time."""

    @quiet  # in which NumPy's seeds set the error state
    def __init__(self, whole: Batch, size: int | None, seed: int | None, backend: Backend) -> None:
        self.whole, self.backend = whole, backend
        self.columns = int(whole.X.shape[1])
        self.size = min(size or self.columns, self.columns)
        self.weights = None if whole.weights is None else backend.to_numpy(whole.weights)[0]
        self.generator = np.random.default_rng(seed_of(seed, 1))

    @property
    def is_whole(self) -> bool:
        """Whether one batch holds all examples."""
        return self.size == self.columns

    @property
    def state(self) -> Mapping[str, Any]:
        """The state of the generator, from which the later orders follow."""
        return dict(self.generator.bit_generator.state)

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Draw the orders that follow from a state."""
        self.generator.bit_generator.state = state

    def draw(self) -> "Order | None":
        """The order of the columns in the next epoch; None where one batch holds them all."""
        if self.is_whole:
            return None
        on_host = self.generator.permutation(self.columns)
        return Order(on_host, on_device(on_host, self.backend))

    def batches(self, order: "Order | None", first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch in this order, from its column `first` on.

        They come from no generator: one that is closed half-way may swallow an interrupt.
        """
        if order is None:
            return iter([self.whole])

        def batch(start: int) -> Batch | None:
            part = slice(start, min(start + self.size, self.columns))
            columns = order.on_host[part]
            m = self.m_of(columns)
            return self.whole._replace(m=m, order=order.on_device[part], host_order=columns) if m > 0 else None

        # examples that all weigh nothing are as good as absent
        return filter(None, map(batch, range(first, self.columns, self.size)))

    def let_go(self) -> None:
        """Give back what X on the host was brought to a GPU with."""
        self.whole.let_go()

    def m_of(self, columns: "np.ndarray") -> float:
        """What the cost of a batch of these columns is divided by: their number, or the sum of their weights."""
        return columns.shape[0] if self.weights is None else float(self.weights[columns].sum(dtype="float64"))


class Dropout:
    """The masks D[1], …, D[L-1] of inverted dropout, drawn anew for each batch and tile by tile.

    The masks of a run are one stream of random numbers, of which every tile knows its place: how a batch is cut into
    tiles changes none of them.
    """

    @quiet
    def __init__(self, rates: Sequence[float], sizes: Sequence[int], seed: int | None, backend: Backend) -> None:
        self.units = list(zip(sizes[1:-1], rates, strict=True))
        self.backend = backend
        self.bits = np.random.PCG64(seed_of(seed, 2))
        self.position = 0  # in words of 64 bits, of which each gives two float32

    @property
    def drops(self) -> bool:
        """Whether any unit is ever dropped."""
        return any(np.array([rate for _, rate in self.units]) > 0)

    @property
    def state(self) -> Mapping[str, Any]:
        """The state of the generator, from which the later masks follow."""
        return dict((self._bits_at(self.position) if self.position else self.bits).state)

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Draw the masks that follow from a state."""
        self.bits.state = dict(state)  # type: ignore[assignment]  # NumPy's stub wants its own TypedDict
        self.position = 0

    def onto(self, batch: Batch, dtype: str) -> Batch:
        """The batch with masks; without any dropout, the batch itself."""
        batch, self.position = self.ahead(batch, dtype)
        return batch

    def ahead(self, batch: Batch, dtype: str) -> tuple[Batch, int]:
        """The batch with the masks that come next, and the position after them."""
        if not self.drops:
            return batch, self.position
        positions, position = [], self.position
        for n, _ in self.units:
            positions.append(position)
            position += -(-batch.columns * n // 2)

        def draw(start: int, stop: int) -> tuple[Array, ...]:
            masks = []
            for position, (n, rate) in zip(positions, self.units, strict=True):
                masks.append(self._mask(position, n, rate, start, stop, dtype))
            return tuple(masks)

        return batch._replace(draw_masks=draw), position

    def _mask(self, position: int, n: int, rate: float, start: int, stop: int, dtype: str) -> Array:
        words, odd = divmod(start * n, 2)
        bits = self._bits_at(position + words)
        drawn = np.random.Generator(bits).random(odd + (stop - start) * n, dtype=np.float32)[odd:]
        kept = drawn.reshape(stop - start, n) >= rate
        return self.backend.asarray((kept / (1 - rate)).T, dtype)

    @quiet
    def _bits_at(self, position: int) -> "np.random.PCG64":
        bits = np.random.PCG64(0)
        bits.state = self.bits.state
        bits.advance(position)
        return bits
