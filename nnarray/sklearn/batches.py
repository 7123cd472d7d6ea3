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
        if model.batch_norm:
            size = self._without_singles(size, count, is_chosen=isinstance(model.batch_size, str))
        if size > count and model.batch_size != "auto":
            msg = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            warnings.warn(msg, stacklevel=2)
        super().__init__(examples, size, backend, count)

    @staticmethod
    def _without_singles(size: int, count: int, *, is_chosen: bool) -> int:
        """A size that leaves no batch of a single example: this one, or where it was `is_chosen`, a smaller one.

        Raises ValueError where there is none: one example has no variance.
        """
        if is_chosen and count > size:
            size = next(fewer for fewer in range(size, 1, -1) if count % fewer != 1)
        if min(size, count) == 1 or count % size == 1:
            msg = (
                f"batch_norm needs at least 2 examples in every batch, as one has no variance, got n_samples = {count} "
                f"in batches of {min(size, count)}"
            )
            raise ValueError(msg)
        return size

    def draw(self) -> npt.NDArray[np.intp] | None:
        """The rows of the next epoch; None: all as they stand."""
        if self.shuffle:
            self.rows = self.rows[self.random_state.permutation(self.columns)]
        return None if self.in_table_order else self.rows

    def counted(self, m: float, columns: int) -> float:
        """The weight of a batch's cost in the epoch's mean: its number of examples, whatever their weights."""
        return columns
