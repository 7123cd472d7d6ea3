"""Theta on its way down: an update for each batch, or many by one call where steps are captured."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.engine.interrupts import Interrupts
from nnarray.network import scoring
from nnarray.network.parameters import dtype_name
from nnarray.training.batches import Dropout, EqualBatches
from nnarray.training.replays import Replays

MOST_AT_ONCE = 1024
"""Steps on all examples that one call may make."""


class Updates(Protocol):
    """An update rule with its state, which moves on from update to update."""

    @property
    def t(self) -> int:
        """How many updates were made."""

    @property
    def rule(self) -> engine.Rule | None:
        """The rule's equations; None for an update of the caller's own, which has to be called each time."""

    def means(self, theta: Array, backend: Backend) -> Sequence[Array]:
        """The running means; zeros like theta before the first update."""

    def alphas(self, count: int) -> list[float]:
        """The learning rates of the next updates."""

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update, in its own memory where that can be written."""

    def made(self, count: int, means: Sequence[Array]) -> None:
        """After updates that captured steps made, with the running means that they made."""


class Descent:
    """A network's theta on a backend, on its way down.

    `l2` and `l1` are the penalties' lambdas, `workers` bounds the threads that take tiles.
    """

    def __init__(
        self, network: Architecture, theta: Array, backend: Backend, *, l2: float, l1: float, workers: int | None
    ) -> None:
        self.network, self.backend, self.workers = network, backend, workers
        self.l2, self.l1 = l2, l1
        self.dtype = dtype_name(theta, backend)
        self.spare: list[Array] = []
        """gradients whose update was made"""
        self._replays = dict[int, Replays | None]()
        self.move_to(theta)

    def move_to(self, theta: Array) -> None:
        """Go on from another theta."""
        self.theta, self.layers = theta, self.backend.steps.split(theta, self.network.sizes)

    def begin(self, size: int) -> tuple[Interrupts, engine.ThreadsOfARun]:
        """Before steps on batches of this size: the two blocks in which they are made."""
        self.interrupts, self.steps = Interrupts(), engine.ThreadsOfARun(self.network, size, self.backend)
        self.forget()
        return self.interrupts, self.steps

    def forget(self) -> None:
        """Let captured steps go, with the memory that they hold."""
        self._replays = {}

    def cost_and_gradient(self, batch: Batch, spare: list[Array] | None = None) -> tuple[Array, Array]:
        """J and its gradient, a vector like theta."""
        return engine.cost_and_gradients(
            batch, self.layers, self.network, self.backend, l2=self.l2, l1=self.l1, spare=spare, workers=self.workers
        )

    def cost(self, batch: Any) -> Array:
        """J, with the penalties."""
        J = engine.cost(batch, self.layers, self.network, self.backend, l2=self.l2, l1=self.l1, workers=self.workers)
        batch.let_go()
        return J

    def cost_and_score(self, batch: Any, theta: Array | None = None) -> tuple[float, Any]:
        """The mean loss without the penalties, and the score of the predictions, of this theta or another."""
        J, A = self.cost_and_prediction(batch, theta)
        return J, scoring.score(A, batch.Y, self.network.output, self.backend)

    def layers_of(self, theta: Array | None) -> Any:
        """The layers of a theta, or of the present one."""
        is_own = theta is None or theta is self.theta
        return self.layers if is_own else self.backend.steps.split(theta, self.network.sizes)

    def cost_and_prediction(self, batch: Batch, theta: Array | None = None) -> tuple[float, Array]:
        """The mean loss without the penalties, and A[L]; of another theta than the present one where one is given."""
        layers = self.layers_of(theta)
        A = engine.TileColumns(batch.columns, self.backend)
        J = engine.cost(batch, layers, self.network, self.backend, l2=0.0, keep=A, workers=self.workers)
        batch.let_go()
        return float(J), A.joined()

    def epoch(self, batches: Any, updates: Updates, dropout: Dropout, *, fewest: int = 1) -> Array:
        """An update for each batch; the mean of their costs, on the device, in which each counts as `batches` says.

        Steps are captured where there are at least so many batches of one size.
        """
        if self.backend.jits:  # what is left of m has ever new sizes, each of which would be compiled
            fewest = max(fewest, 2)
        total, count = 0.0, 0.0
        for group in batches.epoch():
            made = None
            if isinstance(group, EqualBatches) and group.number >= fewest and not dropout.drops:
                made = self._replayed(group, updates)
            costs, counted = made or self._one_by_one(group, updates, dropout)
            total, count = total + costs, count + counted
        return total / count

    def vectors(self, updates: Updates) -> list[Array]:
        """Theta and the running means, which an update moves on."""
        return [self.theta, *updates.means(self.theta, self.backend)]

    def captured(self, size: int, number: int, whole: Batch, updates: Updates) -> Replays | None:
        """Captured steps on batches of so many columns of the `whole`, `number` an epoch; None where there are none."""
        if updates.rule is None:
            return None
        vectors, known = self.vectors(updates), self._replays.get(size)
        if known is not None and not self.backend.jits and not _same(known.vectors, vectors):
            self.forget()  # they write over arrays that are no longer those of this run
        if size not in self._replays:
            captured = engine.captured_steps(
                updates.rule,
                vectors,
                self.layers,
                whole,
                self.network,
                self.backend,
                columns=size,
                steps=MOST_AT_ONCE if size == whole.columns else number,
                l2=self.l2,
                l1=self.l1,
            )
            self._replays[size] = None if captured is None else Replays(captured, self.steps)
        return self._replays[size]

    def moved(self, replays: Replays, updates: Updates, count: int) -> None:
        """After so many captured steps."""
        theta, *means = replays.vectors
        updates.made(count, means)
        if theta is not self.theta:
            self.move_to(theta)

    def _replayed(self, group: EqualBatches, updates: Updates) -> tuple[Array, float] | None:
        """The updates by captured steps: the sum of the costs, and what they count together; None if there are none.

        A batch whose examples all weigh nothing makes no step, so those of its size run step by step then.
        """
        replays = self.captured(group.size, group.number, group.batches.whole, updates)
        ms = [] if replays is None else group.ms
        if replays is None or not all(ms):
            return None
        t, vectors, counts = updates.t, self.vectors(updates), group.counts(ms)
        order = None if group.is_everything else self.backend.on_device(group.indices)
        replays.begin(order, ms, updates.alphas(len(ms)), l2=self.l2, l1=self.l1, t=t, vectors=vectors)
        replays.launch_all(len(ms), lambda count: self.moved(replays, updates, count), self.interrupts)
        costs, own = self.backend.looked_into(replays.costs)
        counted = own.asarray(np.array(counts, "float64"))  # where there is none, float32: the sums may be large
        return own.xp.sum(costs[: len(ms)] * counted), sum(counts)

    def _one_by_one(
        self, group: Iterable[tuple[Batch, Any]], updates: Updates, dropout: Dropout
    ) -> tuple[Array, float]:
        """An update for each batch: the sum of the costs, and what they count together."""
        total, count = 0.0, 0.0
        for batch, counted in group:
            self.steps.go_on()
            J, g = self.cost_and_gradient(dropout.onto(batch, self.dtype), self.spare)
            with self.interrupts.put_off:
                theta = updates.update(self.theta, g, self.backend)
                if theta is not self.theta:
                    self.move_to(theta)
            self.spare.append(g)
            J = float(J) if self.backend.is_host else J  # a float32 may be too small for a sum
            total, count = total + J * counted, count + counted
        return total, count


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether they are the same arrays."""
    return all([one is other for one, other in zip(some, others, strict=True)])
