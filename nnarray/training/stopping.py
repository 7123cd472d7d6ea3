"""Early stopping."""

import math
from collections.abc import Callable
from typing import NamedTuple

from nnarray.training.state import State, Waiting


class PatienceState(NamedTuple):
    """The state of early stopping."""

    lowest: float
    """the lowest cost"""
    reference: float
    """the cost that the next ones must undercut by min_delta"""
    waited: int
    """for how many epochs none did"""
    best_epoch: int | None
    """the epoch with the lowest cost"""


class Patience:
    """The best epoch so far, and whether to go on waiting for a better one."""

    def __init__(self, epochs: int | None, min_delta: float) -> None:
        self.epochs, self.min_delta = epochs, min_delta
        self.lowest = math.inf
        self.best_epoch: int | None = None
        self.best: State | None = None
        self.reference, self.waited = math.inf, 0

    def restore(self, best: State, waiting: Waiting) -> None:
        """Resume from the best epoch of another run."""
        assert best.position is not None
        self.lowest, self.reference, self.waited, _ = waiting
        self.best_epoch = best.position.epoch
        self.best = None if self.epochs is None else best

    @property
    def state(self) -> PatienceState:
        """The state of early stopping, without the best parameters."""
        return PatienceState(self.lowest, self.reference, self.waited, self.best_epoch)

    @state.setter
    def state(self, state: PatienceState) -> None:
        self.lowest, self.reference, self.waited, self.best_epoch = state

    def see(self, epoch: int, cost: float, snapshot: Callable[[], State]) -> None:
        """Record an epoch; if it is the best so far, keep the state that `snapshot` returns."""
        if cost < self.reference - self.min_delta:
            self.reference, self.waited = cost, 0
        else:
            self.waited += 1
        if cost < self.lowest:
            self.lowest, self.best_epoch = cost, epoch
            self.best = None if self.epochs is None else snapshot()

    def waiting(self, epoch: int, *, validated: bool) -> Waiting | None:
        """The state with which another run resumes from this epoch as this one would; None unless it is the best."""
        if epoch != self.best_epoch:
            return None
        return Waiting(self.lowest, self.reference, self.waited, validated)

    @property
    def is_over(self) -> bool:
        """Whether its patience is exhausted."""
        return self.epochs is not None and self.waited >= self.epochs
