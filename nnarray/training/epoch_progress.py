"""The progress of an epoch."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.training.batches import EqualBatches


class StoredProgress(NamedTuple):
    """The progress of an epoch, in numbers on the host."""

    group: int
    """how many groups of equal batches are over"""
    done: int
    """how many batches of the next group made their update"""
    total: npt.NDArray[Any]
    """shape (1,), the sum of the costs counted so far"""
    is_number: bool
    """whether that is a Python number rather than an array of the backend"""
    counted: float
    """the sum of their weights"""
    costs: npt.NDArray[Any]
    """the costs of the group's last finished batches, which are not counted yet"""


MOST_HELD = 1024
"""Costs in memory of their own, of which each takes 512 bytes on CuPy."""


class EpochProgress:
    """The groups of an epoch's batches, the number of updates made, and their costs, in step with theta.

    Compiled steps hold the costs of a group until it is finished.
    """

    def __init__(self, groups: Sequence[Iterable[Any]]) -> None:
        self.groups = groups
        self.group, self.done = 0, 0
        self.total: Array = 0.0
        self.count = 0.0
        self.earlier: npt.NDArray[Any] = np.zeros(0)
        """costs of the present group from the run that was resumed"""
        self.steps: Any = None
        """the compiled steps that hold the costs after those"""
        self.compiled = 0
        """how many of them were made"""
        self._held: list[Array] = []
        """the costs of steps that were made one by one, on the device"""

    @classmethod
    def over(cls, cost: float) -> "EpochProgress":
        """An epoch of one batch, which has made its update."""
        underway = cls([])
        underway.count_in(cost, 1.0)
        underway.group_ends()
        return underway

    @property
    def rest(self) -> Sequence[Iterable[Any]]:
        """The groups that are not over."""
        return self.groups[self.group :]

    def count_in(self, cost: Array, count: float) -> None:
        """Count a cost, or a sum of costs."""
        self.total, self.count = self.total + cost, self.count + count

    def group_ends(self) -> None:
        """Go on to the next group."""
        self.group, self.done = self.group + 1, 0
        self.earlier, self.steps, self.compiled = self.earlier[:0], None, 0
        self._held.clear()

    def hold(self, cost: Array, backend: Backend) -> None:
        """Keep the cost of a step on the device until the group is over."""
        self._held.append(backend.xp.reshape(backend.asarray(cost), (1,)))
        if len(self._held) == MOST_HELD:
            self._held[:] = [backend.xp.concat(self._held)]

    def held_costs(self, backend: Backend) -> Array:
        """All that are kept, in a vector."""
        return backend.xp.concat(self._held) if self._held else backend.asarray(self.earlier[:0])

    def compiled_begin(self, steps: Any) -> None:
        """The batches that follow are made by compiled steps."""
        self.steps, self.compiled = steps, 0

    def compiled_made(self, count: int) -> None:
        """So many compiled steps made their update."""
        self.done, self.compiled = self.done + count, self.compiled + count

    def within(self, backend: Backend) -> StoredProgress:
        """Where the epoch stands."""
        costs = self.earlier
        if self.compiled or self._held:
            late = self.held_costs(backend) if self._held else self.steps.costs[: self.compiled]
            late = backend.to_numpy(late)
            costs = np.concatenate([costs, late]) if costs.size else late.copy()
        is_number = isinstance(self.total, float)
        total = np.asarray([self.total]) if is_number else backend.to_numpy(self.total).reshape(1)
        return StoredProgress(self.group, self.done, total, is_number, self.count, costs)

    def fits(self, within: StoredProgress) -> bool:
        """Whether this progress is possible in an epoch of these groups."""
        numbers = [*map(_number, self.groups), 0]
        return within.group < len(numbers) and len(within.costs) <= within.done <= numbers[within.group]

    def restore(self, within: StoredProgress, backend: Backend) -> None:
        """Go on from there."""
        self.group, self.done, total, is_number, self.count, self.earlier = within
        if self.count:
            self.total = total[0] if is_number else backend.asarray(total)[0]


def _number(group: Any) -> int:
    """How many batches a group has."""
    return group.number if isinstance(group, EqualBatches) else len(group)
