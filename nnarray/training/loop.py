"""The loop over epochs and mini-batches."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, Ended, all_finite, at_once, quiet
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.network import scoring
from nnarray.network.checks import check_count, check_l2, check_number, check_optional_count, check_seed
from nnarray.network.costs import Cost, with_cost
from nnarray.network.network import Network
from nnarray.network.parameters import Parameters
from nnarray.training.arguments import check_choices, check_rates, enter_training
from nnarray.training.batches import Dropout, MiniBatches
from nnarray.training.history import Epoch, History
from nnarray.training.interrupts import Interrupts
from nnarray.training.optimizers import Adam, Optimizer, State
from nnarray.training.progress import progress_bar
from nnarray.training.stopping import Patience
from nnarray.training.watch import Seen, Watch, copied


class DivergenceError(FloatingPointError):
    """The cost or the weights stopped being finite in training.

    `params` are the parameters of the last epoch after which they were finite, `history` the epochs up to it.
    """

    def __init__(self, message: str, params: Parameters, history: History) -> None:
        super().__init__(message)
        self.params = params
        self.history = history

    def __reduce__(self) -> tuple[Any, ...]:
        return DivergenceError, (str(self), self.params, self.history)


class TrainingResult(NamedTuple):
    """What training gives back."""

    params: Parameters
    """the trained parameters: the best ones where `patience` was given, else the last"""
    history: History
    """the epochs"""
    stopped: str
    """what ended the training: "epochs", "patience", "callback" or "interrupt" """
    best_epoch: int | None
    """the epoch with the lowest cost, that of the validation examples where there are any; None if no epoch ended.
    Where a whole batch is taken at once and there are no validation examples, a cost is that of the parameters before
    the epoch's update, and those are what `patience` gives back"""
    state: State
    """the optimiser's state after the last update, with which `optimizer.update` can go on"""


def train(
    network: Network,
    X: Any,
    Y: Any,
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    epochs: int,
    batch_size: int | None = None,
    l2: float = 0.0,
    weights: Any = None,
    cost: Cost | None = None,
    dropout: float | Sequence[float] = 0.0,
    seed: int | None = 0,
    scheme: str = "he",
    backend: str | Backend | None = None,
    dtype: str = "float32",
    validation: tuple[Any, Any] | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callback: Callable[[Epoch], Any] | None = None,
    progress: bool | None = None,
    workers: int | None = None,
) -> TrainingResult:
    """Train the network on X (n_x, m) and Y (n[L], m) by descent on J.

    `params` are the first parameters; left out, `network.init(seed, scheme)` in `dtype`. `optimizer` is Adam() if left
    out. `batch_size` None takes all examples in each update, else that many at a time, in an order shuffled anew each
    epoch. `weights`, shape (1, m), scale each example's loss. `cost` is an `nn.Cost`, in the place of the output's own.
    As in scikit-learn, an update divides by its own batch: the loss by the sum of the batch's weights, and the penalty
    `l2` by the same, so that smaller batches want a smaller `l2`. `dropout` is the share of hidden units dropped in
    training, one figure or one per hidden layer. `validation`
    is a pair (X, Y) whose cost and score each epoch records.

    `patience` stops after that many epochs in a row without the cost (of the validation examples, if there are any)
    falling by more than `min_delta`, and gives back the parameters of the best epoch. `callback` is called with each
    `Epoch` and stops the run by returning something true. `progress` shows a bar; left out, only on a terminal. Ctrl-C
    ends the training between two updates and returns what there is, with `stopped` "interrupt": `params` and `state`
    are those after the last update, and an epoch that was broken off has no record in `history`.

    The arrays stay where they are, unless `backend` names a place to bring them to. A float32 table of shape (m, n_x)
    in C order enters as its transpose without being copied.

    Raises ValueError and TypeError for arguments that don't fit, and DivergenceError, which keeps the last finite
    parameters, when the cost or the weights stop being finite.

    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> result = train(Network((2, 8, 1)), X, Y, epochs=300, optimizer=Adam(0.03))
    >>> Network((2, 8, 1)).score(result.params, X, Y)
    1.0
    """
    check_choices(network, optimizer, callback)
    seed = check_seed(seed)
    epochs, batch_size = check_count(epochs, "epochs"), check_optional_count(batch_size, "batch_size")
    waiting = Patience(check_optional_count(patience, "patience"), check_number(min_delta, "min_delta", at_least=0.0))
    costed = with_cost(network, cost)
    first, examples, validating = enter_training(
        network, costed, X, Y, weights, validation, params, seed=seed, scheme=scheme, backend=backend, dtype=dtype
    )
    with first.backend.current(), at_once(first.vector, examples.X, examples.Y):
        run = Run(
            costed,
            first,
            optimizer or Adam(),
            MiniBatches(examples, batch_size, seed, first.backend),
            Dropout(check_rates(dropout, len(network.hidden)), network.sizes, seed, first.backend),
            validating,
            waiting,
            check_l2(l2),
            check_optional_count(workers, "workers"),
        )
        return run.through(epochs, callback, progress)


@dataclass(eq=False, repr=False)
class Run:
    """One training run: what stays the same in it, and theta and the optimiser's state as they move."""

    network: Architecture
    params: Parameters
    """the first parameters, of which the later ones are replacements"""
    optimizer: Optimizer
    batches: MiniBatches
    dropout: Dropout
    validation: Batch | None
    patience: Patience
    l2: float
    workers: int | None
    history: History = field(default_factory=History)

    @quiet
    def __post_init__(self) -> None:
        """Start at the first parameters."""
        self.backend, self.dtype = self.params.backend, self.params.dtype
        self.theta = copied(self.params.vector, self.backend)
        self.layers = self.params.replace(self.theta).layers
        self.state = self.optimizer.init_vector(self.theta, self.backend)
        self.watch = Watch(self.theta, self.backend)
        self.spare: list[Array] = []  # gradients whose update was made
        self.captured: Any = None
        self.tried_to_capture = False
        self.interrupts = Interrupts()
        self.steps = engine.ManySteps(self.network, self.batches.size, self.backend)
        # Of a whole batch, the cost is that of the parameters before its update.
        watches_training = self.patience.epochs is not None and self.validation is None
        self.cost_is_of_before = watches_training and self.batches.is_whole

    def through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        """Run `epochs` epochs, or fewer if something stops them."""
        self.began = time.perf_counter()
        stopped = "epochs"
        bar = progress_bar(epochs, progress)
        self.must_know = callback is not None or self.patience.epochs is not None or self.validation is not None
        try:
            with Ended(self.interrupts, self.steps), self.interrupts, self.steps:
                for epoch in range(1, epochs + 1):
                    self.epoch(epoch)
                    if not (self.must_know or self.watch.is_due or epoch == epochs):
                        continue
                    for record in self.read():
                        bar.show(record)
                    if callback is not None and callback(
                        record._replace(params=self.params.replace(copied(self.theta, self.backend)))
                    ):
                        stopped = "callback"
                    elif self.patience.is_over:
                        stopped = "patience"
                    if stopped != "epochs":
                        break
        except KeyboardInterrupt:
            stopped = "interrupt"
            self._end_interrupted()
        finally:
            bar.close()
            self.batches.whole.let_go()
            self.captured = None  # with the memory that its graph holds
        best = self.patience.best_theta if self.patience.epochs is not None else None
        theta = self.theta if best is None else best
        return TrainingResult(self.params.replace(theta), self.history, stopped, self.patience.best_epoch, self.state)

    @quiet
    def epoch(self, number: int) -> None:
        """One pass over the examples; what came of it is watched, and not read yet."""
        before = copied(self.theta, self.backend) if self.cost_is_of_before else None
        with self.backend.untracked():
            cost, validated = self._descend(), self._validate()
            with self.interrupts.put_off:
                alpha, is_finite = self.optimizer.alpha(self.state.t - 1), math.isfinite(validated[0] or 0.0)
                self.watch.see(number, cost, self.theta, alpha, validated=is_finite)
                self.validated, self.of_cost = validated, self.theta if before is None else before

    @quiet
    def read(self) -> list[Epoch]:
        """The records of the epochs since the last reading, added to the history."""
        with self.interrupts.put_off:
            return [self._record_of(seen) for seen in self.watch.read()]

    def _record_of(self, seen: Seen) -> Epoch:
        validation_cost, validation_score = self.validated
        if not (math.isfinite(seen.cost) and math.isfinite(validation_cost or 0.0) and seen.finite_weights):
            raise self._diverged(seen)
        seconds = time.perf_counter() - self.began
        record = Epoch(seen.epoch, seen.cost, seen.alpha, seconds, validation_cost, validation_score)
        self.history.append(record)
        watched = seen.cost if validation_cost is None else validation_cost
        self.patience.see(seen.epoch, watched, lambda: copied(self.of_cost, self.backend))
        return record

    def _diverged(self, seen: Seen) -> DivergenceError:
        msg = (
            f"training diverged in epoch {seen.epoch}: the cost is {seen.cost:g} and the weights are "
            f"{'finite' if seen.finite_weights else 'not finite'}; try a smaller learning_rate (it was "
            f"{seen.alpha:g}) or inputs of a smaller scale"
        )
        return DivergenceError(msg, self.params.replace(self.watch.last_finite), self.history)

    @quiet
    def _end_interrupted(self) -> None:
        """Keep what is finite of an epoch that was broken off, and read what came before it."""
        self.read()
        if not all_finite(self.theta, self.backend):
            self.theta = self.watch.last_finite

    def _descend(self) -> Array:
        """One update per batch; the mean of their costs, on the device."""
        total, count, batches = 0.0, 0.0, iter([self.batches.whole])
        if not self.batches.is_whole:
            host_order = self.batches.draw()
            order, first = self.backend.asarray(host_order), 0
            ms = self._ms_to_replay(host_order)
            if ms is not None:
                total, count, first = self._replay(order, ms), float(sum(ms)), len(ms) * self.batches.size
            batches = self.batches.batches(host_order, order, first)
        for batch in batches:
            self.steps.go_on()
            J, g = engine.cost_and_gradients(
                self.dropout.onto(batch, self.dtype),
                self.layers,
                self.network,
                self.backend,
                l2=self.l2,
                spare=self.spare,
                workers=self.workers,
            )
            with self.interrupts.put_off:
                self._update(g)
            self.spare.append(g)
            total, count = total + J * batch.m, count + batch.m
        if self.must_know:
            self.steps.end()  # a callback may wait for other threads
        return total / count

    def _ms_to_replay(self, host_order: "np.ndarray") -> list[float] | None:
        """The m of each full batch in this order, if their steps are replays of a captured one; else None.

        A batch whose examples all weigh nothing makes no step, so an epoch with such a batch runs step by step.
        """
        if self.captured is None and not self.tried_to_capture and not self.dropout.drops:
            self.tried_to_capture = True
            self.captured = engine.captured_steps(
                self.optimizer.step,
                self._vectors(),
                self.layers,
                self.batches.whole,
                self.network,
                self.backend,
                columns=self.batches.size,
                l2=self.l2,
            )
        if self.captured is None:
            return None
        full = host_order[: len(host_order) // self.batches.size * self.batches.size]
        ms = [self.batches.m_of(columns) for columns in full.reshape(-1, self.batches.size)]
        return ms if all(ms) else None

    def _vectors(self) -> list[Array]:
        return [self.theta, *(getattr(self.state, name) for name in self.optimizer.remembers)]

    def _replay(self, order: Array, ms: list[float]) -> Array:
        """The steps of the full batches, whose m are given; the sum of their costs times m."""
        steps, t = self.captured, self.state.t
        numbers = [
            ((m, self.l2) if self.l2 else (m,), (t + i + 1, self.optimizer.alpha(t + i))) for i, m in enumerate(ms)
        ]
        steps.begin(order[: len(ms) * self.batches.size], numbers)
        for _ in ms:
            with self.interrupts.put_off:
                steps.launch()
                self.state = self.state._replace(t=self.state.t + 1)
        xp = self.backend.xp
        return xp.sum(steps.costs * self.backend.asarray(np.array(ms), self.dtype))

    def _update(self, g: Array) -> None:
        theta, self.state = self.optimizer.update_vector(self.theta, g, self.state, self.backend, in_place=True)
        if theta is not self.theta:
            self.theta, self.layers = theta, self.params.replace(theta).layers

    def _validate(self) -> tuple[float | None, float | None]:
        if self.validation is None:
            return None, None
        A = engine.Columns(self.validation.columns, self.backend)
        J = engine.cost(self.validation, self.layers, self.network, self.backend, l2=0.0, keep=A, workers=self.workers)
        self.validation.let_go()
        return float(J), scoring.score(A.joined(), self.validation.Y, self.network.output, self.backend)
