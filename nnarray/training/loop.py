"""The loop over epochs and mini-batches."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nnarray.backends import Ended, all_finite, filter_again, quiet
from nnarray.core.averages import corrected_mean
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch, Ranks
from nnarray.engine.dask_tasks import WorkersLostError
from nnarray.network import scoring
from nnarray.network.agreement import CHECKSUM, checksum
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.chunked import Chunked
from nnarray.network.parameters import Parameters
from nnarray.training.averaging import Averaging, averaging
from nnarray.training.batches import Shuffled
from nnarray.training.checkpoint_file import NoCheckpoints
from nnarray.training.chunks import ChunkedBatches
from nnarray.training.descent import MOST_AT_ONCE, Descent, Updates
from nnarray.training.dropout import Dropout
from nnarray.training.history import Epoch, History
from nnarray.training.optimizers import Optimizer
from nnarray.training.progress import Silent, progress_bar
from nnarray.training.result import DivergenceError, TrainingResult
from nnarray.training.state import Position, State, Waiting, copied
from nnarray.training.stateful import Stateful
from nnarray.training.stopping import Patience
from nnarray.training.streams import Stream
from nnarray.training.timed_steps import TimedSteps
from nnarray.training.watch import Seen, Watch

CostsAndScores = tuple[float | None, float | None, float | None, float | None]
"""Cost and score of the validation examples, and of training examples, without penalty and dropout."""

MOST_COMPARED = 2000
"""The most training examples whose cost and score an epoch records; never more than there are for validation."""


@dataclass(eq=False, repr=False)
class Run:
    """One training run: its constant settings, and theta and the optimiser's state as they change."""

    network: Architecture
    params: Parameters
    """the initial parameters, from which later ones are made by replacing theta"""
    optimizer: Optimizer
    batches: Shuffled | ChunkedBatches | Stream
    descent: Descent
    dropout: Dropout
    validation: Batch | Chunked | None
    patience: Patience
    l2: float
    l1: float
    average: float | None = None
    """beta of the average of the parameters; None for none"""
    ranks: Ranks | None = None
    """the ranks that train together; None for a single process"""
    history: History = field(default_factory=History)

    @quiet
    def __post_init__(self) -> None:
        """Start at the first parameters."""
        self.backend, self.dtype = self.params.backend, self.params.dtype
        self._begin_updates()
        self.interrupts, self.threads = self.descent.begin(self.batches.size)
        self.watch = Watch(self.descent.variables, self.backend)
        self.diverges = False
        self.epochs = self.first = 0
        self.shown, self.seconds = 0, 0.0
        self.validated: CostsAndScores = (None, None, None, None)
        self.history.score_name = scoring.NAMES[self.network.output]
        self.compared: Batch | Chunked | None = None
        if self.validation is not None and not isinstance(self.batches, Stream):
            self.compared = self.batches.sample(self._compared_beside(self.validation.columns, self.batches.columns))
        # Of a whole batch, the cost is that of the parameters before its update.
        watches_training = self.patience.epochs is not None and self.validation is None
        self.cost_is_of_before = watches_training and self.batches.is_whole
        self.begun_at: State | None = None
        """the state at the start of the present epoch, if needed"""
        self.keeps_beginnings = self.cost_is_of_before
        self.checkpoints: NoCheckpoints = NoCheckpoints()

    def _compared_beside(self, validation: int, training: int) -> int:
        """How many training examples are compared with those of validation; of ranks, this one's share."""
        if self.ranks is None:
            return min(validation, MOST_COMPARED)
        everybodys, whole = self.ranks.sums(validation, training)
        return math.ceil(min(everybodys, MOST_COMPARED) * training / whole)

    def _begin_updates(self) -> None:
        """The optimiser before its first update, and the mean of theta where one is asked for."""
        self.stateful = Stateful.first(self.optimizer, self.theta, self.backend)
        self.averaging: Averaging | None = None
        if self.average is not None:
            given, normalized = (self.stateful, self.descent.variables), isinstance(self.params, NormalizedParameters)
            self.averaging = averaging(*given, self.average, self.backend, normalized=normalized)
        self.updates: Updates = self.averaging or self.stateful

    @property
    def theta(self) -> Array:
        """The parameters now."""
        return self.descent.theta

    @property
    def given(self) -> Array:
        """The vector that the run would return now: theta with any statistics, or its average."""
        variables = self.descent.variables
        return variables if self.averaging is None else self.averaging.average(variables)

    def continue_from(self, state: State) -> None:
        """Resume from a state, of `optimizer.update` or of another run."""
        self.take(state)
        waiting = None if state.position is None else state.position.waiting
        if waiting is not None and waiting.validated == (self.validation is not None) and not self.cost_is_of_before:
            self.patience.restore(self.snapshot(), waiting)
        self.first = self.epochs

    def take(self, state: State) -> None:
        """Restore running means, the update count, and the states of the generators."""
        self.optimizer.check_state(state, self.params)
        means = {
            name: copied(self.backend.asarray(getattr(state, name), self.dtype), self.backend)
            for name in self.optimizer.remembers
        }
        position, mean = state.position, state.average
        self.stateful.state = State(state.t, **means)
        if self.averaging is not None and mean is not None:
            mean = copied(self.backend.asarray(mean, self.dtype), self.backend)
            count, beta = (0, None) if position is None else (position.averaged, position.beta)
            self.averaging.restore(mean, count, beta)
        if position is None:
            return
        self.epochs = position.epoch
        if position.order is not None:
            self.batches.restore(position.order)
        self.dropout.restore(position.masks)

    def snapshot(self) -> State:
        """A copy of the optimiser's state and the run's position, which later updates don't change."""
        return self._state(lambda vector: copied(vector, self.backend))

    def _state(self, taken: Callable[[Array], Array]) -> State:
        """The optimiser's state and the run's position, of vectors that are taken from the run in this way."""
        now = self.stateful.state
        means = {name: taken(getattr(now, name)) for name in self.optimizer.remembers}
        position = Position(
            self.epochs,
            self.descent.params(self.params, taken(self.descent.variables)),
            self.batches.state,
            self.dropout.state,
            None if self.cost_is_of_before else self._waiting(),
            0 if self.averaging is None else self.averaging.count,
            self.average,
        )
        mean = None if self.averaging is None else self.averaging.mean
        return State(now.t, **means, position=position, average=None if mean is None else taken(mean))

    def _given_by(self, state: State) -> Parameters:
        """The parameters of a state of this run: those that were trained, or their average."""
        assert state.position is not None
        params, count = state.position.params, state.position.averaged
        if self.average is None or not count:
            return params
        return self.descent.params(params, corrected_mean(state.average, self.average, count))

    def _waiting(self) -> Waiting | None:
        return self.patience.waiting(self.epochs, validated=self.validation is not None)

    def through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        """Run `epochs` epochs, or fewer if something stops them."""
        try:
            return self._through(epochs, callback, progress)
        except WorkersLostError as error:
            self._end_interrupted()
            error.state = self.snapshot()
            error.params, error.history = self._given_by(error.state), self.history
            raise

    def _through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        self.began, filters = time.perf_counter() - self.seconds, warnings.filters
        last = self.first + epochs
        shows = self.ranks is None or self.ranks.rank == 0
        bar = progress_bar(epochs, progress if shows else False, self.epochs - self.first)
        watched = callback is not None or self.patience.epochs is not None or self.validation is not None
        self.must_know = watched or self.ranks is not None
        stopped = "patience" if self.patience.is_over else "epochs"
        try:
            with Ended(self.interrupts, self.threads), self.interrupts, self.threads:
                while stopped == "epochs" and self.epochs < last:
                    is_due = self.advance(last)
                    if self.watch.unread:
                        continue
                    self._show(bar)
                    if self._is_stopped(callback, self.history[-1]):
                        stopped = "callback"
                    elif self.patience.is_over:
                        stopped = "patience"
                    if is_due:
                        self.checkpoints.write()
                self.checkpoints.write()
        except KeyboardInterrupt:
            stopped = "interrupt"
            filter_again(filters)
            self.checkpoints.write()
            self._end_interrupted()
        except WorkersLostError:
            self.checkpoints.write()
            raise
        finally:
            bar.close()
            self.checkpoints.end()
            self.batches.release()
            self.descent.forget()
        state = self._best()
        assert state.position is not None
        self.history.kept_epoch = state.position.epoch
        return TrainingResult(self._given_by(state), self.history, stopped, self.patience.best_epoch, state)

    def _is_stopped(self, callback: Callable[[Epoch], Any] | None, record: Epoch) -> bool:
        """Whether the callback, or that of another rank, ends the run."""

        def ask() -> bool:
            if callback is None:
                return False
            params = self.descent.params(self.params, copied(self.given, self.backend))
            return bool(callback(record._replace(params=params)))

        if self.ranks is None:
            return ask()
        # What agree() cannot compare, such as a schedule that is a plain function, shows here.
        params = {CHECKSUM: checksum(self.descent.variables, self.backend)}
        self.ranks.agree(learning_rate=record.learning_rate, **params)
        return self.ranks.any(ask)

    def _show(self, bar: Silent) -> None:
        """Show the epochs that the bar has not shown yet."""
        for record in self.history[self.shown :]:
            bar.show(record)
        self.shown = len(self.history)

    def _best(self) -> State:
        """The state of the best parameters with early stopping, else of the last ones, in the run's own vectors."""
        best = self.patience.best
        if best is None or (self.cost_is_of_before and self._next_cost() < self.patience.lowest):
            return self._state(lambda vector: vector) if self.stateful.owns_vectors else self.snapshot()
        return best

    @quiet
    def _next_cost(self) -> float:
        """What the next epoch would report as its cost: that of the last parameters, which no epoch has reported."""
        assert not isinstance(self.batches, Stream)
        with self.backend.untracked():
            return float(self.descent.cost(self.batches.whole, self.dropout))

    @quiet
    def advance(self, last: int) -> bool:
        """Make the next epoch, or several, and read their figures where somebody waits for them.

        Returns whether a checkpoint is due.
        """
        if self.descent.underway is not None or not self.epochs_in_one_call(last - self.epochs):
            self.epoch(self.epochs + 1)
        is_due = self.checkpoints.is_due
        if self.must_know or self.watch.is_due or is_due or self.epochs == last:
            self.read()
        return is_due

    def epoch(self, number: int) -> None:
        """One pass over the examples; its figures are recorded, and read from the device later."""
        if self.keeps_beginnings:
            with self.interrupts.put_off:
                self.begun_at = self.snapshot()
        with self.backend.untracked():
            cost = self._epoch_cost()
            if self.must_know:
                self.threads.end()  # a callback may wait for other threads
            validated = self._validate()
            with self.interrupts.put_off:
                alpha, is_finite = self.optimizer.alpha(self.updates.t - 1), math.isfinite(validated[0] or 0.0)
                self.epochs = number
                self.watch.see(number, cost, self.descent.variables, alpha, validated=is_finite)
                self.validated, self.descent.underway = validated, None

    def _epoch_cost(self) -> Array:
        """The updates of an epoch and the mean of its costs; a full batch is one compiled step where there is one."""
        underway = self.descent.underway
        steps = None if underway is not None else self._whole_steps()
        if steps is None:
            return self.descent.epoch(self.batches, self.updates, self.dropout, underway=underway)
        assert isinstance(self.batches, Shuffled)
        return self.descent.whole_epoch(steps, self.batches.m_of_all, self.updates)

    def _whole_steps(self) -> TimedSteps | None:
        """Compiled steps on all examples at once; None where batches are smaller, or steps cannot be compiled."""
        if self.ranks is not None or not isinstance(self.batches, Shuffled):
            return None
        if not self.batches.is_whole or self.dropout.drops:
            return None
        return self.descent.compiled_steps(self.batches.size, 1, self.batches.whole, self.updates)

    def epochs_in_one_call(self, most: int) -> bool:
        """Make several full-batch epochs in one call, if nothing reads in between and steps can be compiled.

        Returns whether it did. Where cost or weights become non-finite, nothing is changed: single epochs show when.
        """
        steps = None if self.must_know or self.diverges else self._whole_steps()
        at_once = 1 if steps is None else steps.at_once(min(most, self.checkpoints.ahead, MOST_AT_ONCE))
        if steps is None or at_once == 1:  # one by itself keeps no copy of what was before it
            return False
        vectors = self.descent.vectors(self.updates)
        before, alphas = [copied(vector, self.backend) for vector in vectors], list[float]()
        try:
            for i in range(at_once):
                alphas.append(self.optimizer.alpha(self.updates.t + i))
        except Exception:  # of a schedule, called ahead of time: earlier epochs may end the run
            if not alphas:
                raise
        count = len(alphas)
        assert isinstance(self.batches, Shuffled)
        self.descent.begin_whole(steps, self.batches.m_of_all, self.updates, alphas)
        with self.interrupts.put_off:
            steps.launch(count)
            costs = steps.finished(count)
            self.diverges = not (math.isfinite(sum(costs)) and all_finite(self.descent.variables, self.backend))
            if self.diverges:
                for vector, was in zip(vectors, before, strict=True):
                    vector[...] = was
                return False
            self.descent.moved(steps, self.updates, count)
            self.watch.see_several(self.epochs + 1, costs, self.descent.variables, alphas)
            self.epochs += count
        return True

    @quiet
    def read(self) -> None:
        """Add the records of the epochs since the last reading to the history."""
        with self.interrupts.put_off:
            for seen in self.watch.read():
                self._record(seen)

    def _record(self, seen: Seen) -> None:
        validation_cost = self.validated[0]
        if not (math.isfinite(seen.cost) and math.isfinite(validation_cost or 0.0) and seen.finite_weights):
            raise self._diverged(seen)
        seconds = time.perf_counter() - self.began
        record = Epoch(seen.epoch, seen.cost, seen.alpha, seconds, *self.validated)
        self.history.append(record)
        watched = seen.cost if validation_cost is None else validation_cost
        before = self.begun_at if self.cost_is_of_before else None
        self.patience.see(seen.epoch, watched, lambda: before or self.snapshot())

    def _diverged(self, seen: Seen) -> DivergenceError:
        msg = (
            f"training diverged in epoch {seen.epoch}: the cost is {seen.cost:g} and the weights are "
            f"{'finite' if seen.finite_weights else 'not finite'}; try a smaller learning_rate (it was "
            f"{seen.alpha:g}) or inputs of a smaller scale"
        )
        return DivergenceError(msg, self.descent.params(self.params, self.watch.last_finite), self.history)

    @quiet
    def _end_interrupted(self) -> None:
        """Keep the parameters of an interrupted epoch if they are finite, and read the epochs before it."""
        self.read()
        if not all_finite(self.descent.variables, self.backend):
            self.descent.restore(self.watch.last_finite)
            # The means are not finite either; zeros are corrected for their start only if t starts with them.
            self._begin_updates()

    def _validate(self) -> CostsAndScores:
        return *self._figures(self.validation), *self._figures(self.compared)

    def _figures(self, batch: Batch | Chunked | None) -> tuple[float | None, float | None]:
        if batch is None:
            return None, None
        return self.descent.cost_and_score(batch, self.given)
