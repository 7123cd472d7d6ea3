"""Gradient descent on theta: one update per batch, or many in one call where steps are compiled."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.engine.interrupts import Interrupts
from nnarray.network import scoring
from nnarray.network.parameters import Parameters, dtype_name
from nnarray.programs.training_step import StepMasks
from nnarray.training.batches import EqualBatches
from nnarray.training.dropout import Dropout
from nnarray.training.epoch_progress import EpochProgress
from nnarray.training.streams import Stream
from nnarray.training.timed_steps import TimedSteps

MOST_AT_ONCE = 1024
"""The most full-batch steps in one call."""


class Updates(Protocol):
    """An update rule with its state, which moves on from update to update."""

    @property
    def t(self) -> int:
        """How many updates were made."""

    @property
    def rule(self) -> engine.Rule | None:
        """The rule's equations; None for a custom update, which has to be called each time."""

    def means(self, theta: Array, backend: Backend) -> Sequence[Array]:
        """The running means; zeros like theta before the first update."""

    def alphas(self, count: int) -> list[float]:
        """The learning rates of the next updates."""

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update, in place where arrays are mutable."""

    def made(self, count: int, means: Sequence[Array]) -> None:
        """Record updates made by compiled steps, with the running means they produced."""


class Descent:
    """Gradient descent of a network's theta on a backend.

    `l2` and `l1` are the penalties' lambdas, `workers` bounds the threads that take tiles.
    """

    def __init__(
        self, network: Architecture, theta: Array, backend: Backend, *, l2: float, l1: float, workers: int | None
    ) -> None:
        self.network, self.backend, self.workers = network, backend, workers
        self.l2, self.l1 = l2, l1
        self.dtype = dtype_name(theta, backend)
        self.spare: list[Array] = []
        """gradient vectors that may be overwritten"""
        self.underway: EpochProgress | None = None
        """the epoch that has begun"""
        self.between: Callable[[], None] | None = None
        """called between two steps, where somebody wants it"""
        self._compiled = dict[int, TimedSteps | None]()
        self._counted = dict[int, tuple[tuple[Backend, Sequence[float]], Array]]()
        """by the number of a group's costs, their weights, and these in an array; of an epoch's two groups"""
        self.move_to(theta)

    @property
    def variables(self) -> Array:
        """The vector that a run resumes from: theta."""
        return self.theta

    def restore(self, variables: Array) -> None:
        """Go on from what another run left."""
        self.move_to(variables)

    def params(self, first: Parameters, variables: Array) -> Parameters:
        """The parameters of what a run goes on from, instead of the first ones."""
        return first.replace(variables)

    def move_to(self, theta: Array) -> None:
        """Go on from another theta."""
        self.theta, self.layers = theta, self.backend.primitives.split(theta, self.network.sizes)

    def begin(self, size: int) -> tuple[Interrupts, engine.ThreadsOfARun]:
        """The two contexts, interrupts and threads, in which steps on batches of this size are made."""
        self.interrupts, self.threads = Interrupts(), engine.ThreadsOfSteps(self.network, size, self.backend)
        self.forget()
        return self.interrupts, self.threads

    def forget(self) -> None:
        """Release compiled steps and their memory."""
        steps, self._compiled = self._compiled, {}
        for known in filter(None, steps.values()):
            known.release()

    def cost_and_gradient(self, batch: Batch, spare: list[Array] | None = None) -> tuple[Array, Array]:
        """J and its gradient, a vector like theta."""
        return engine.cost_and_gradients(
            batch, self.layers, self.network, self.backend, l2=self.l2, l1=self.l1, spare=spare, workers=self.workers
        )

    def cost(self, batch: Any, dropout: Dropout) -> Array:
        """J, with the penalties, and the masks that come next."""
        batch, _ = dropout.ahead(batch, self.dtype)
        J = engine.cost(batch, self.layers, self.network, self.backend, l2=self.l2, l1=self.l1, workers=self.workers)
        batch.release()
        return J

    def cost_and_score(self, batch: Any, theta: Array | None = None) -> tuple[float, Any]:
        """The mean loss without the penalties, and the score of the predictions, of this theta or another."""
        J, A = self.cost_and_prediction(batch, theta)
        return J, scoring.score(A, batch.Y, self.network.output, self.backend)

    def layers_of(self, theta: Array | None) -> Any:
        """The layers of a theta, or of the present one."""
        is_own = theta is None or theta is self.theta
        return self.layers if is_own else self.backend.primitives.split(theta, self.network.sizes)

    def cost_and_prediction(self, batch: Batch, theta: Array | None = None) -> tuple[float, Array]:
        """The mean loss without the penalties, and A[L]; of another theta than the present one where one is given."""
        layers = self.layers_of(theta)
        A = engine.TileColumns(batch.columns, self.backend)
        J = engine.cost(batch, layers, self.network, self.backend, l2=0.0, keep=A, workers=self.workers)
        batch.release()
        return float(J), A.joined()

    def begin_epoch(self, batches: Any) -> EpochProgress:
        """Draw the batches of the next epoch."""
        if isinstance(batches, Stream):  # which may wait for what its maker does
            self.underway = EpochProgress(batches.epoch())
            return self.underway
        with self.interrupts.put_off:
            self.underway = underway = EpochProgress(batches.epoch())
        return underway

    def epoch(
        self,
        batches: Any,
        updates: Updates,
        dropout: Dropout,
        *,
        fewest: int = 1,
        underway: EpochProgress | None = None,
    ) -> Array:
        """Make an update for each batch; return the weighted mean of their costs, on the device.

        Steps are compiled where there are at least `fewest` batches of a size. An epoch that is `underway` is resumed.
        """
        if self.backend.jits:  # last batches differ in size from epoch to epoch, and each size would be compiled
            fewest = max(fewest, 2)
        underway = underway or self.begin_epoch(batches)
        for group in underway.rest:
            if isinstance(group, EqualBatches) and group.number >= fewest and dropout.is_compiled(self.backend):  # noqa: SIM102
                if self._by_compiled_steps(group, updates, dropout, underway):
                    continue
            self._one_by_one(group, updates, dropout, underway)
        return self._on_device(underway.total / underway.count)

    def _on_device(self, J: Any) -> Array:
        """A cost where the backend's arrays are; on the host also a number as it is."""
        return self.backend.asarray(J, self.dtype) if isinstance(J, float) and not self.backend.is_host else J

    def whole_epoch(self, steps: TimedSteps, m: float, updates: Updates) -> Array:
        """Make an epoch of one compiled step, on all columns, of which J is a sum divided by m, and return J."""
        self.begin_whole(steps, m, updates, updates.alphas(1))
        with self.interrupts.put_off:
            steps.launch(1)
            self.moved(steps, updates, 1)
            (J,) = steps.finished(1)
            self.underway = EpochProgress.over(J)
        return self._on_device(J)

    def begin_whole(self, steps: TimedSteps, m: float, updates: Updates, alphas: Sequence[float]) -> None:
        """Begin a compiled step on all columns for each of the learning rates."""
        ms, vectors = [m] * len(alphas), self.vectors(updates)
        steps.begin(None, ms, alphas, l2=self.l2, l1=self.l1, t=updates.t, vectors=vectors)

    def vectors(self, updates: Updates) -> list[Array]:
        """Theta and the running means, which an update moves on."""
        return [self.theta, *updates.means(self.theta, self.backend)]

    def compiled_steps(
        self, size: int, number: int, whole: Batch, updates: Updates, masks: StepMasks | None = None
    ) -> TimedSteps | None:
        """Compiled steps on batches of so many columns of the `whole`, `number` an epoch; None where there are none."""
        if updates.rule is None:
            return None
        vectors, known = self.vectors(updates), self._compiled.get(size)
        if known is not None and not self.backend.jits and not _same(known.vectors, vectors):
            self.forget()  # they write over arrays that are no longer those of this run
        if size not in self._compiled:
            compiled = engine.compiled_steps(
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
                masks=masks,
            )
            self._compiled[size] = None if compiled is None else TimedSteps(compiled, self.threads)
        return self._compiled[size]

    def moved(self, steps: TimedSteps, updates: Updates, count: int) -> None:
        """After so many compiled steps."""
        theta, *means = steps.vectors
        updates.made(count, means)
        if theta is not self.theta:
            self.move_to(theta)

    def _by_compiled_steps(
        self, group: EqualBatches, updates: Updates, dropout: Dropout, underway: EpochProgress
    ) -> bool:
        """The updates by compiled steps; false if there are none.

        A batch whose examples all weigh nothing makes no step, so those of its size run step by step then.
        """
        whole = group.batches.whole
        is_shuffled = group.size == whole.columns and not group.is_everything
        if is_shuffled and not self.backend.gathers_all:
            return False
        masks = dropout.of_a_step(group.size)
        steps = self.compiled_steps(group.size, group.number, whole, updates, masks)
        ms = [] if steps is None else group.ms
        if steps is None or not all(ms):
            return False
        counts = group.counts(ms)[underway.done - len(underway.earlier) :]
        if underway.done < len(ms):
            if masks is not None:
                steps.draw_from(dropout.bits, dropout.position)
            words = 0 if masks is None else masks.words
            self._make(steps, group, ms, updates, underway, partial(dropout.drawn, words))
        self._count(steps.costs[: underway.compiled], counts, underway)
        return True

    def _make(
        self,
        steps: TimedSteps,
        group: EqualBatches,
        ms: Sequence[float],
        updates: Updates,
        underway: EpochProgress,
        drawn: Callable[[int], None],
    ) -> None:
        """The steps of a group that are left; `drawn` is told how many of them drew their masks."""
        done, t, vectors = underway.done, updates.t, self.vectors(updates)
        order = None if group.is_everything else group.indices[done * group.size :]
        steps.begin(order, ms[done:], updates.alphas(len(ms) - done), l2=self.l2, l1=self.l1, t=t, vectors=vectors)
        underway.compiled_begin(steps)

        def made(count: int) -> None:
            self.moved(steps, updates, count)
            drawn(count)
            underway.compiled_made(count)

        steps.launch_all(len(ms) - done, made, self.interrupts, self.between)

    def _count(self, costs: Array, counts: Sequence[float], underway: EpochProgress) -> None:
        """Count the last costs of a group, after those of it from before a resume; the group is over."""
        costs, own = self.backend.looked_into(costs)
        if len(underway.earlier):
            costs = own.xp.concat([own.asarray(underway.earlier), costs])
        which, known = (own, counts), self._counted.get(len(counts))
        if known is None or known[0] != which:  # float64; where there is none, float32
            known = which, own.asarray(np.array(counts, "float64"))
            kept = self._counted if len(self._counted) < 2 else {}
            self._counted = {**kept, len(counts): known}
        with self.interrupts.put_off:
            underway.count_in(own.xp.sum(costs * known[1]), sum(counts))  # which may be large
            underway.group_ends()

    def _held_counts(self, group: Iterable[tuple[Batch, Any]], underway: EpochProgress) -> list[float] | None:
        """The weights of the costs that are held until the group is over, so far; None where each is counted at once.

        On a GPU, those of equal batches are, which are then added up as those of compiled steps.
        """
        if not isinstance(group, EqualBatches):
            return None
        ms = [m for m in group.ms if m] if len(underway.earlier) else []
        counts = group.counts(ms)[underway.done - len(underway.earlier) : underway.done] if ms else []
        if self.backend.compiles and not self.backend.is_host:
            return counts
        with self.interrupts.put_off:
            if counts:
                underway.count_in(float(underway.earlier.astype("float64") @ np.array(counts, "float64")), sum(counts))
            underway.earlier = underway.earlier[:0]
        return None

    def gradient_of(self, batch: Any, weighs: Any, dropout: Dropout) -> tuple[Array, Array | None, Any, int]:
        """J and its gradient, the weight of J in the epoch's mean, and dropout's position after the batch.

        The gradient is None where all examples of the batch have weight 0.
        """
        masked, position = dropout.ahead(batch, self.dtype)
        return *self.cost_and_gradient(masked, self.spare), weighs, position

    def _one_by_one(
        self, group: Iterable[tuple[Batch, Any]], updates: Updates, dropout: Dropout, underway: EpochProgress
    ) -> None:
        """An update for each batch."""
        held = self._held_counts(group, underway)
        for batch, weighs in islice(group, underway.done, None):
            self.threads.hold()
            J, g, counted, position = self.gradient_of(batch, weighs, dropout)
            with self.interrupts.put_off:
                theta = self.theta if g is None else updates.update(self.theta, g, self.backend)
                if theta is not self.theta:
                    self.move_to(theta)
                dropout.position = position
                underway.done += 1
                if held is not None:
                    underway.hold(J, self.backend)
                    held.append(counted)
                else:
                    J = float(J) if self.backend.is_host else J  # a float32 may be too small for a sum
                    underway.count_in(J * counted, counted)
            self.spare += [] if g is None else [g]
            if self.between is not None:
                self.between()
        if held:
            return self._count(underway.held_costs(self.backend), held, underway)
        with self.interrupts.put_off:
            underway.group_ends()


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether they are the same arrays."""
    return all([one is other for one, other in zip(some, others, strict=True)])
