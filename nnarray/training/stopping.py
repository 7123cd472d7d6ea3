"""Early stopping."""

import math
from collections.abc import Callable
from typing import NamedTuple

from nnarray.training.state import State, Waiting


class PatienceState(NamedTuple):
    """What early stopping has seen so far."""

    lowest: float
    """the lowest cost"""
    reference: float
    """the cost that the next ones are to fall below by min_delta"""
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
        """Go on from an epoch that was the best one of another run."""
        assert best.position is not None
        self.lowest, self.reference, self.waited, _ = waiting
        self.best_epoch = best.position.epoch
        self.best = None if self.epochs is None else best

    @property
    def state(self) -> PatienceState:
        """What it has seen so far, but for the best state."""
        return PatienceState(self.lowest, self.reference, self.waited, self.best_epoch)

    @state.setter
    def state(self, state: PatienceState) -> None:
        self.lowest, self.reference, self.waited, self.best_epoch = state

    def see(self, epoch: int, cost: float, snapshot: Callable[[], State]) -> None:
        """Take note of an epoch; `snapshot` gives its state, which is kept where somebody waits for a better one."""
        if cost < self.reference - self.min_delta:
            self.reference, self.waited = cost, 0
        else:
            self.waited += 1
        if cost < self.lowest:
            self.lowest, self.best_epoch = cost, epoch
            self.best = None if self.epochs is None else snapshot()

    def waiting(self, epoch: int, *, validated: bool) -> Waiting | None:
        """What another run needs to go on from this epoch as this one would; None unless it is the best one."""
        if epoch != self.best_epoch:
            return None
        return Waiting(self.lowest, self.reference, self.waited, validated)

    @property
    def is_over(self) -> bool:
        """Whether it has waited for as many epochs as it may."""
        return self.epochs is not None and self.waited >= self.epochs
