"""The figures that a run monitors: costs, and whether all is finite. They stay on the device until they are read."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from nnarray.backends import Backend, all_finite
from nnarray.core.typing import Array
from nnarray.training.state import copied

SECONDS = 0.1
"""How long a run may continue without reading its figures, unless something needs them."""


class Seen(NamedTuple):
    """An epoch's cost, and whether cost and weights were finite after it; numbers, or arrays on the device."""

    epoch: int
    cost: Array
    finite_weights: Array
    alpha: float
    """the learning rate of its last update"""


class Watch:
    """The epochs not yet read, and theta after the last epoch in which everything was finite."""

    def __init__(self, theta: Array, backend: Backend) -> None:
        self.backend = backend
        self.last_finite = copied(theta, backend)
        self._all_was_finite: Array = True
        self.unread: list[Seen] = []
        """the epochs since the last reading"""
        self._read_at = time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether it is time to read, so that divergence is detected soon."""
        return self.backend.is_host or time.perf_counter() - self._read_at > SECONDS

    def see(self, epoch: int, cost: Array, theta: Array, alpha: float, *, validated: bool = True) -> None:
        """Record an epoch, without waiting for the device to compute it.

        `validated` is whether its validation cost was finite.
        """
        if self.backend.is_host:
            cost, finite = float(cost), all_finite(theta, self.backend)
            if finite and validated and abs(cost) < float("inf"):
                self._keep(theta)
        else:
            xp = self.backend.xp
            finite = xp.all(xp.isfinite(theta))
            self._all_was_finite = finite & xp.isfinite(cost) & self._all_was_finite if validated else finite & False
            self.last_finite = xp.where(self._all_was_finite, theta, self.last_finite)
        self.unread.append(Seen(epoch, cost, finite, alpha))

    def see_several(self, first: int, costs: Sequence[float], theta: Array, alphas: Sequence[float]) -> None:
        """Record epochs that were made in one call, with all their costs and weights finite."""
        self._keep(theta)
        self.unread += [
            Seen(epoch, cost, True, alpha) for epoch, (cost, alpha) in enumerate(zip(costs, alphas, strict=True), first)
        ]

    def _keep(self, theta: Array) -> None:
        """Copy theta into the memory of the one before, where it can be written."""
        if self.backend.overwrites:
            self.last_finite[...] = theta
        else:
            self.last_finite = theta

    def read(self) -> list[Seen]:
        """The epochs since the last reading, with numbers."""
        seen = self.unread
        late = [one for one in seen if not isinstance(one.cost, float)]
        if late:
            costs, finite = (iter(self.backend.numbers([one[i] for one in late])) for i in (1, 2))
            seen = [
                one if isinstance(one.cost, float) else one._replace(cost=next(costs), finite_weights=next(finite))
                for one in seen
            ]
        self.unread = []
        self._read_at = time.perf_counter()
        return seen
