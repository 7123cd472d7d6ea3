"""The batches that "sgd" and "adam" train on."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nnarray.backends import Backend, on_device
from nnarray.core.typing import Array
from nnarray.engine import Batch, HostColumns

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP


class Batches:
    """The batches of one epoch after the other, of the examples in `rows` (None: of all)."""

    def __init__(self, model: "MLP", backend: Backend, examples: Batch, rows: Array | None) -> None:
        self.backend, self.examples = backend, examples
        self.shuffle, self.random_state = model.shuffle, model._random_state
        self.in_table_order = rows is None and not self.shuffle and not isinstance(examples.X, HostColumns)
        self.rows = np.arange(examples.columns) if rows is None else rows
        self.weights = None if examples.weights is None else backend.to_numpy(examples.weights)[0]
        self.count = len(self.rows)
        size = 200 if isinstance(model.batch_size, str) else int(model.batch_size)
        if size > self.count and model.batch_size != "auto":
            msg = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            warnings.warn(msg, stacklevel=2)
        self.size = max(1, min(size, self.count))

    def draw(self) -> None:
        """Begin an epoch, in an order drawn anew."""
        if self.shuffle:
            self.rows = self.rows[self.random_state.permutation(self.count)]

    def runs(self) -> list["SameSize"]:
        """The epoch's batches: the full ones, and the one of what is left."""
        full = self.count // self.size
        sizes = [(self.size, full), (self.count - full * self.size, 1)]
        firsts = [0, full * self.size]
        return [SameSize(self, first, size, n) for first, (size, n) in zip(firsts, sizes, strict=True) if size and n]

    def m(self, rows: npt.NDArray[np.intp]) -> float:
        """What the cost of a batch of these rows is divided by: their number, or the sum of their weights."""
        return len(rows) if self.weights is None else float(self.weights[rows].sum(dtype="float64"))


@dataclass(frozen=True)
class SameSize:
    """Batches of one epoch, side by side: from which row on, how many examples each has, and how many there are."""

    batches: Batches
    first: int
    size: int
    number: int

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """Of all of them."""
        return self.batches.rows[self.first : self.first + self.size * self.number]

    @property
    def ms(self) -> list[float]:
        """What the cost of each is divided by."""
        if self.batches.weights is None:
            return [self.size] * self.number
        return [self.batches.m(rows) for rows in self.rows.reshape(-1, self.size)]

    def __iter__(self) -> Iterator[Batch]:
        """The batches; those whose examples weigh nothing are left out. (No generator: it may swallow an interrupt.)"""
        whole, rows = self.batches.examples, self.rows
        order = None if self.batches.in_table_order else on_device(rows, self.batches.backend)
        Y: Array = whole.Y

        def batch(start: int) -> Batch | None:
            part = slice(start, start + self.size)
            m = self.batches.m(rows[part])
            if m == 0:
                return None
            if order is not None:
                return whole._replace(m=m, order=order[part], host_order=rows[part])
            part = slice(self.first + start, self.first + start + self.size)
            weights = None if whole.weights is None else whole.weights[:, part]
            return Batch(whole.X[:, part], Y[:, part], m, weights)

        return filter(None, map(batch, range(0, self.size * self.number, self.size)))
