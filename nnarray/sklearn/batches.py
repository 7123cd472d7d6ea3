"""The batches that "sgd" and "adam" train on."""

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.utils import gen_batches

from nnarray.backends import Backend
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

    def ms(self) -> list[float]:
        """What the cost of each full batch is divided by: the number of its examples, or the sum of their weights."""
        full = self.rows[: self.count // self.size * self.size].reshape(-1, self.size)
        return [self._m(rows) for rows in full]

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """The epoch's batches from the row `first` on; those whose examples weigh nothing are left out."""
        order = None if self.in_table_order else self.backend.asarray(self.rows)
        whole = self.examples
        Y: Array = whole.Y

        def batch(part: slice) -> Batch | None:
            m = self._m(self.rows[part])
            if m == 0:
                return None
            if order is not None:
                return whole._replace(m=m, order=order[part], host_order=self.rows[part])
            weights = None if whole.weights is None else whole.weights[:, part]
            return Batch(whole.X[:, part], Y[:, part], m, weights)

        parts = islice(gen_batches(self.count, self.size), first // self.size, None)
        return filter(None, map(batch, parts))  # a generator may swallow an interrupt

    def _m(self, rows: npt.NDArray[np.intp]) -> float:
        return len(rows) if self.weights is None else float(self.weights[rows].sum(dtype="float64"))
