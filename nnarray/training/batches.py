"""The order in which training sees its examples, drawn on the host, from the seed alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import Any

import numpy as np

from nnarray.backends import Backend, quiet
from nnarray.engine import Batch, Order
from nnarray.engine.example_weights import weighs_nothing


def seed_of(seed: int | Sequence[int] | None, purpose: int) -> "np.random.SeedSequence":
    """An independent seed for each purpose, so that drawing more for one does not change the others."""
    return np.random.SeedSequence(seed, spawn_key=(purpose,))


class Batches(ABC):
    """The batches of successive epochs: `size` columns of the `whole` at a time, in a drawn order.

    `columns` are how many of them an epoch has; None: all.
    """

    def __init__(self, whole: Batch, size: int | None, backend: Backend, columns: int | None = None) -> None:
        self.whole, self.backend = whole, backend
        self.columns = int(whole.X.shape[1]) if columns is None else columns
        self.size = min(size or self.columns, self.columns)
        self.weights = None if whole.weights is None else backend.to_numpy(whole.weights)[0]

    @property
    def is_whole(self) -> bool:
        """Whether one batch holds all examples of an epoch."""
        return self.size == self.columns

    @cached_property
    def m_of_all(self) -> float:
        """What the cost of all examples is divided by, on the host."""
        return float(self.whole.m)

    @abstractmethod
    def draw(self) -> "np.ndarray | None":
        """The order of the columns in the next epoch; None: all as they stand."""

    def counted(self, m: float, columns: int) -> float:
        """The weight of a batch's cost in the epoch's mean."""
        return m

    def epoch(self) -> Sequence[Iterable[Any]]:
        """The next epoch: its full batches, and the smaller last one."""
        order, full = self.draw(), self.columns // self.size
        parts = (0, self.size, full), (full * self.size, self.columns - full * self.size, 1)
        return [EqualBatches(self, order, first, size, number) for first, size, number in parts if size]

    def release(self) -> None:
        """Release the buffers through which X is uploaded from the host."""
        self.whole.release()


@dataclass(frozen=True)
class EqualBatches:
    """Consecutive batches of one size in an epoch: their number, and the position in its order at which they begin."""

    batches: Batches
    order: "np.ndarray | None"
    first: int
    size: int
    number: int

    @property
    def is_everything(self) -> bool:
        """Whether this is one batch, of all columns as they stand."""
        return self.order is None and self.size == self.batches.whole.columns

    @property
    def indices(self) -> "np.ndarray":
        """The columns of all the batches, one after the other."""
        last = self.first + self.size * self.number
        return np.arange(self.first, last) if self.order is None else self.order[self.first : last]

    @property
    def ms(self) -> list[float]:
        """What the cost of each batch is divided by: the number of its examples, or the sum of their weights."""
        weights = self.batches.weights
        if self.is_everything:
            return [self.batches.m_of_all]
        if weights is None:
            return [self.size] * self.number
        sums = [float(weights[columns].sum(dtype="float64")) for columns in self.indices.reshape(-1, self.size)]
        return [0.0 if weighs_nothing(total, weights.dtype.name) else total for total in sums]

    def counts(self, ms: Sequence[float]) -> list[float]:
        """The weight of each batch's cost in the epoch's mean."""
        return [1.0] if self.batches.is_whole else [self.batches.counted(m, self.size) for m in ms]

    def __iter__(self) -> Iterator[tuple[Batch, float]]:
        """Each batch with the weight of its cost.

        Batches whose examples all have weight 0 are skipped. (Not a generator: closing one half-way may swallow an
        interrupt.)
        """
        ms, whole, indices = self.ms, self.batches.whole, self.indices
        counts = self.counts(ms)
        if self.is_everything:  # whose m, which is not 0, may be on a device
            return zip([whole], counts, strict=True)
        starts = range(0, len(indices), self.size)
        weighty = [(start, m, count) for start, m, count in zip(starts, ms, counts, strict=True) if m]
        order = None if self.order is None else Order(self.batches.backend.on_device(indices), indices)

        def batch(start: int, m: float, count: float) -> tuple[Batch, float]:
            if order is not None:
                return whole._replace(m=m, order=order.part(start, start + self.size)), count
            part = slice(self.first + start, self.first + start + self.size)
            return whole.chosen(part, m, self.batches.backend), count

        return starmap(batch, weighty)


class Orders:
    """The orders of a run's epochs, drawn one after the other from a seed."""

    @quiet  # in which NumPy's seeds set the error state
    def begin_drawing(self, seed: int | Sequence[int] | None) -> None:
        """Draw from this seed."""
        self.generator = np.random.default_rng(seed_of(seed, 1))
        self.drawn_from = self.state
        """the state of the generator before the present epoch's order was drawn"""

    @property
    def state(self) -> Mapping[str, Any]:
        """The state of the generator, from which the later orders follow."""
        return dict(self.generator.bit_generator.state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Draw the orders that follow from a state."""
        self.generator.bit_generator.state = state
        self.drawn_from = state


class Shuffled(Orders, Batches):
    """Batches of columns that are shuffled anew for each epoch, from a seed; or one of all columns, as they stand."""

    def __init__(self, whole: Batch, size: int | None, seed: int | Sequence[int] | None, backend: Backend) -> None:
        super().__init__(whole, size, backend)
        self.begin_drawing(seed)

    def draw(self) -> "np.ndarray | None":
        """The order of the columns in the next epoch; None where one batch holds them all."""
        if self.is_whole:
            return None
        self.drawn_from = self.state
        return self.generator.permutation(self.columns)

    def sample(self, most: int) -> Batch:
        """Up to `most` of the examples, drawn at random but always the same, without example weights."""
        whole = self.whole._replace(weights=None, m=self.columns)
        if self.columns <= most:
            return whole
        chosen = np.sort(np.random.default_rng(0).choice(self.columns, most, replace=False))
        return whole._replace(m=most, order=Order(self.backend.asarray(chosen), chosen)).gathered(self.backend)
