"""Early stopping."""

import math
from collections.abc import Callable

from nnarray.core.typing import Array


class Patience:
    """The best epoch so far, and whether to go on waiting for a better one."""

    def __init__(self, epochs: int | None, min_delta: float) -> None:
        self.epochs, self.min_delta = epochs, min_delta
        self.lowest = math.inf
        self.best_epoch: int | None = None
        self.best_theta: Array = None
        self.reference, self.waited = math.inf, 0

    def see(self, epoch: int, cost: float, copy: Callable[[], Array]) -> None:
        """Take note of an epoch; `copy` gives its theta, which is kept where somebody waits for a better one."""
        if cost < self.lowest:
            self.lowest, self.best_epoch = cost, epoch
            self.best_theta = None if self.epochs is None else copy()
        if cost < self.reference - self.min_delta:
            self.reference, self.waited = cost, 0
        else:
            self.waited += 1

    @property
    def is_over(self) -> bool:
        """Whether it has waited for as many epochs as it may."""
        return self.epochs is not None and self.waited >= self.epochs
