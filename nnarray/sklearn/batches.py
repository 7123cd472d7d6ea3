"""The batches that "sgd" and "adam" train on."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nnarray.backends import Backend
from nnarray.engine import Batch
from nnarray.training.batches import Batches

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP


class BatchesOfRows(Batches):
    """Batches of the examples in `rows` (None: of all), drawn as scikit-learn draws them."""

    def __init__(self, model: "MLP", backend: Backend, examples: Batch, rows: npt.NDArray[np.intp] | None) -> None:
        self.shuffle, self.random_state = model.shuffle, model._random_state
        self.in_table_order = rows is None and not self.shuffle and not examples.source.stays_on_host
        self.rows = np.arange(examples.columns) if rows is None else rows
        count = len(self.rows)
        size = 200 if isinstance(model.batch_size, str) else int(model.batch_size)
        if size > count and model.batch_size != "auto":
            msg = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            warnings.warn(msg, stacklevel=2)
        super().__init__(examples, size, backend, count)

    def draw(self) -> npt.NDArray[np.intp] | None:
        """The rows of the next epoch; None: all as they stand."""
        if self.shuffle:
            self.rows = self.rows[self.random_state.permutation(self.columns)]
        return None if self.in_table_order else self.rows

    def counted(self, m: float, columns: int) -> float:
        """What the cost of a batch counts in the mean of an epoch's: its examples, whatever they weigh."""
        return columns
