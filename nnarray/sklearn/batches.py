"""The batches that "sgd" and "adam" train on."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
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

    def epoch(self) -> Iterator[Batch]:
        """The batches, in an order drawn anew; those whose examples weigh nothing are left out."""
        if self.shuffle:
            self.rows = self.rows[self.random_state.permutation(self.count)]
        order = None if self.in_table_order else self.backend.asarray(self.rows)
        whole = self.examples
        Y: Array = whole.Y

        def batch(part: slice) -> Batch | None:
            m = part.stop - part.start
            if self.weights is not None:
                m = float(self.weights[self.rows[part]].sum(dtype="float64"))
            if m == 0:
                return None
            if order is not None:
                return whole._replace(m=m, order=order[part], host_order=self.rows[part])
            weights = None if whole.weights is None else whole.weights[:, part]
            return Batch(whole.X[:, part], Y[:, part], m, weights)

        return filter(None, map(batch, gen_batches(self.count, self.size)))  # a generator may swallow an interrupt
