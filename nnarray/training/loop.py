"""The loop over epochs and mini-batches."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nnarray.backends import Backend, Ended, all_finite, at_once, quiet
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.network import scoring
from nnarray.network.checks import check_count, check_l2, check_number, check_optional_count, check_seed
from nnarray.network.costs import Cost, with_cost
from nnarray.network.names import DTypeName, SchemeName
from nnarray.network.network import Network
from nnarray.network.parameters import Parameters
from nnarray.training.arguments import check_choices, check_rates, check_stream, enter_training, first_params
from nnarray.training.batches import Dropout, Shuffled
from nnarray.training.descent import MOST_AT_ONCE, Descent
from nnarray.training.history import Epoch, History
from nnarray.training.optimizers import Adam, Optimizer, Stateful
from nnarray.training.progress import progress_bar
from nnarray.training.state import Position, State, Waiting, copied
from nnarray.training.stopping import Patience
from nnarray.training.streams import Stream
from nnarray.training.watch import Seen, Watch

Figures = tuple[float | None, float | None, float | None, float | None]
"""Cost and score of the validation examples, and of training examples, without penalty and dropout."""

MOST_COMPARED = 2000
"""Training examples of which an epoch records cost and score; there are no more of them than for validation."""


class DivergenceError(FloatingPointError):
    """The cost or the weights stopped being finite in training.

    Attributes
    ----------
    params : Parameters
        Of the last epoch after which they were finite.
    history : History
        The epochs up to it.
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
    the epoch's update, and those are what `patience` gives back, unless the last parameters are better still"""
    state: State
    """the optimiser's state that belongs to `params`, with which `optimizer.update` can go on, and `train`"""

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        shown = {"stopped": self.stopped, "best_epoch": self.best_epoch, "params": self.params, "state": self.state}
        return table(("TrainingResult", ""), shown.items()) + self.history._repr_html_()


def train(
    network: Network,
    X: Any,
    Y: Any = None,
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    state: State | None = None,
    epochs: int,
    batch_size: int | None = None,
    l2: float = 0.0,
    weights: Any = None,
    cost: Cost | None = None,
    dropout: float | Sequence[float] = 0.0,
    seed: int | None = 0,
    scheme: SchemeName = "he",
    backend: str | Backend | None = None,
    dtype: DTypeName = "float32",
    validation: tuple[Any, Any] | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callback: Callable[[Epoch], Any] | None = None,
    progress: bool | None = None,
    workers: int | None = None,
) -> TrainingResult:
    """Train the network on X (n_x, m) and Y (n[L], m) by descent on J.

    Parameters
    ----------
    network : Network
        The architecture.
    X : array, shape (n_x, m), or stream of batches
        The examples, as columns. A float32 table of shape (m, n_x) in C order enters as its transpose without being
        copied. Without Y, a stream: an iterable of batches (X, Y) or (X, Y, weights), one update each, which is
        iterated once per epoch, or a function without arguments that gives one, such as a generator function. Batches
        hold examples as columns: those of a torch DataLoader, rows, come as `lambda: ((X.T, Y.T) for X, Y in loader)`.
    Y : array, shape (n[L], m)
        The targets.
    params : Parameters or sequence of (W, b), optional
        The first parameters, W[l] (n[l], n[l-1]) and b[l] (n[l], 1), which are not written to; left out, those of
        `network.init(seed, scheme)` in `dtype`. They beat those of `state`.
    optimizer : optimizer, default=Adam()
        GradientDescent, Momentum, Nesterov, RMSprop or Adam.
    state : State, optional
        The `state` of an earlier result, from whose parameters to go on: 5 epochs and then 7 are 12, to the bit.
        Running means, the count of updates that a schedule is given, shuffles and masks are those that would have come
        next, so `seed` counts for nothing; epochs are counted on, and the history holds the new ones. Give the same
        optimiser, data and options again. Where `patience` gave back the best epoch, it goes on from there, and waits
        on. A run that ended within an epoch goes on with a new one.
    epochs : int
        How often to go through all examples.
    batch_size : int, optional
        Examples of an update, in an order shuffled anew each epoch; left out, all of them.
    l2 : float, default=0.0
        lambda ≥ 0 of the penalty. As in scikit-learn, an update divides by its own batch: the loss by the sum of the
        batch's weights, and the penalty by the same, so that smaller batches want a smaller `l2`.
    weights : array, shape (1, m) or (m,), optional
        How much the loss of each example counts, ≥ 0.
    cost : Cost, optional
        A cost of one's own in the place of the output's.
    dropout : float or sequence of float, default=0.0
        The share of hidden units dropped in training, in [0, 1): one figure, or one per hidden layer.
    seed : int or None, default=0
        For weights, shuffles and masks, the same on every backend; None draws one.
    scheme : str, default="he"
        How weights are initialised, as in `Network.init`.
    backend : str or Backend, optional
        Where to compute; left out, where the arrays are.
    dtype : {"float32", "float64"}, default="float32"
        That of parameters which are not given.
    validation : (X, Y), optional
        Examples whose cost and score each epoch records, and beside them those of as many that are trained on, up to
        2000, all without penalty and dropout.
    patience : int, optional
        Stop after so many epochs in a row without the cost (of the validation examples, if there are any) falling by
        more than `min_delta`, and give back the parameters of the best epoch.
    min_delta : float, default=0.0
        ≥ 0, see `patience`.
    callback : callable, optional
        Called with each `Epoch`; by returning something true it stops the run.
    progress : bool, optional
        Whether to show a bar; left out, on a terminal and in a notebook.
    workers : int, optional
        Threads on NumPy; left out, as many as the process may use. Results have the same bits for any number.

    Returns
    -------
    TrainingResult
        `params`, `history`, `state` and `stopped`. Ctrl-C ends the training between two updates and returns what there
        is, with `stopped` "interrupt": `params` and `state` are those after the last update, and an epoch that was
        broken off has no record in `history`. Where its weights are not finite, `params` are those of the last epoch
        after which they were, and `state` is one before the first update (t = 0), from which a schedule begins anew.

    Raises
    ------
    ValueError
        For shapes that don't fit, values that are not finite or that the output can't model, and options out of range.
    TypeError
        For arguments of another kind, arrays of two namespaces or devices, and traced arrays.
    DivergenceError
        When the cost or the weights stop being finite; it keeps the last finite parameters.
    BackendUnavailableError
        For a backend that cannot run here.

    Examples
    --------
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> result = train(Network((2, 8, 1)), X, Y, epochs=300, optimizer=Adam(0.03))
    >>> Network((2, 8, 1)).score(result.params, X, Y)
    1.0
    """
    check_choices(network, optimizer, callback)
    seed, epochs = check_seed(seed), check_count(epochs, "epochs")
    batch_size = check_optional_count(batch_size, "batch_size")
    waiting = Patience(check_optional_count(patience, "patience"), check_number(min_delta, "min_delta", at_least=0.0))
    costed = with_cost(network, cost)
    rates, l2 = check_rates(dropout, len(network.hidden)), check_l2(l2)
    workers = check_optional_count(workers, "workers")
    if Y is None:
        check_stream(X, weights, batch_size, epochs)
    if state is not None:
        params = first_params(state, params)
    first, examples, validating = enter_training(
        network, costed, X, Y, weights, validation, params, seed=seed, scheme=scheme, backend=backend, dtype=dtype
    )
    held = () if isinstance(examples, Stream) else (examples.X, examples.Y)
    with first.backend.current(), at_once(first.vector, *held):
        run = Run(
            costed,
            first,
            optimizer or Adam(),
            examples if isinstance(examples, Stream) else Shuffled(examples, batch_size, seed, first.backend),
            Dropout(rates, network.sizes, seed, first.backend),
            validating,
            waiting,
            l2,
            workers,
        )
        if state is not None:
            run.go_on(state)
        return run.through(epochs, callback, progress)


@dataclass(eq=False, repr=False)
class Run:
    """One training run: what stays the same in it, and theta and the optimiser's state as they move."""

    network: Architecture
    params: Parameters
    """the first parameters, of which the later ones are replacements"""
    optimizer: Optimizer
    batches: Shuffled | Stream
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
        theta = copied(self.params.vector, self.backend)
        self.updates = Stateful(self.optimizer, self.optimizer.init_vector(theta, self.backend))
        self.descent = Descent(self.network, theta, self.backend, l2=self.l2, workers=self.workers)
        self.interrupts, self.steps = self.descent.begin(self.batches.size)
        self.watch = Watch(theta, self.backend)
        self.diverges = False
        self.epochs = 0
        self.validated: Figures = (None, None, None, None)
        self.history.score_name = scoring.NAMES[self.network.output]
        self.compared: Batch | None = None
        if self.validation is not None and isinstance(self.batches, Shuffled):
            self.compared = self.batches.some(min(self.validation.columns, MOST_COMPARED))
        self.before: State | None = None
        # Of a whole batch, the cost is that of the parameters before its update.
        watches_training = self.patience.epochs is not None and self.validation is None
        self.cost_is_of_before = watches_training and self.batches.is_whole

    @property
    def theta(self) -> Array:
        """The parameters now."""
        return self.descent.theta

    def go_on(self, state: State) -> None:
        """Start where the state was left, by this optimiser or by another run."""
        self.optimizer.check_state(state, self.params)
        means = {
            name: copied(self.backend.asarray(getattr(state, name), self.dtype), self.backend)
            for name in self.optimizer.remembers
        }
        self.updates.state, position = State(state.t, **means), state.position
        if position is None:
            return
        self.epochs = position.epoch
        if position.order is not None:
            self.batches.go_on(position.order)
        self.dropout.go_on(position.masks)
        waiting = position.waiting
        if waiting is not None and waiting.validated == (self.validation is not None) and not self.cost_is_of_before:
            self.patience.go_on(self.standing(), waiting)

    def standing(self) -> State:
        """The optimiser's state and where the run stands, for good: later updates change neither."""
        now = self.updates.state
        means = {name: copied(getattr(now, name), self.backend) for name in self.optimizer.remembers}
        position = Position(
            self.epochs,
            self.params.replace(copied(self.theta, self.backend)),
            self.batches.state,
            self.dropout.state,
            None if self.cost_is_of_before else self._waiting(),
        )
        return State(now.t, **means, position=position)

    def _waiting(self) -> Waiting | None:
        return self.patience.waiting(self.epochs, validated=self.validation is not None)

    def through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        """Run `epochs` epochs, or fewer if something stops them."""
        self.began = time.perf_counter()
        stopped = "epochs"
        bar = progress_bar(epochs, progress)
        self.must_know = callback is not None or self.patience.epochs is not None or self.validation is not None
        try:
            with Ended(self.interrupts, self.steps), self.interrupts, self.steps:
                last = self.epochs + epochs
                while self.epochs < last:
                    if not self.several(last - self.epochs):
                        self.epoch(self.epochs + 1)
                    if not (self.must_know or self.watch.is_due or self.epochs == last):
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
            self.batches.let_go()
            self.descent.forget()
        state = self._best()
        assert state.position is not None
        self.history.kept_epoch = state.position.epoch
        return TrainingResult(state.position.params, self.history, stopped, self.patience.best_epoch, state)

    def _best(self) -> State:
        """The state of the best parameters where somebody waited for them, else of the last."""
        best = self.patience.best
        if best is None or (self.cost_is_of_before and self._next_cost() < self.patience.lowest):
            return self.standing()
        return best

    @quiet
    def _next_cost(self) -> float:
        """What the next epoch would report as its cost: that of the last parameters, which no epoch has reported."""
        assert isinstance(self.batches, Shuffled)
        batch, _ = self.dropout.ahead(self.batches.whole, self.dtype)
        with self.backend.untracked():
            return float(self.descent.cost(batch))

    @quiet
    def epoch(self, number: int) -> None:
        """One pass over the examples; what came of it is watched, and not read yet."""
        before = self.standing() if self.cost_is_of_before else None
        with self.backend.untracked():
            cost = self.descent.epoch(self.batches, self.updates, self.dropout)
            if self.must_know:
                self.steps.end()  # a callback may wait for other threads
            validated = self._validate()
            with self.interrupts.put_off:
                alpha, is_finite = self.optimizer.alpha(self.updates.t - 1), math.isfinite(validated[0] or 0.0)
                self.epochs = number
                self.watch.see(number, cost, self.theta, alpha, validated=is_finite)
                self.validated, self.before = validated, before

    @quiet
    def several(self, most: int) -> bool:
        """Several epochs of whole batches in one call, if nobody asks in between, and if that can be; whether it was.

        Where cost or weights stop being finite, nothing was done: epoch by epoch it will be seen when.
        """
        if self.must_know or self.diverges or not self.batches.is_whole or self.dropout.drops:
            return False
        assert isinstance(self.batches, Shuffled)
        whole = self.batches.whole
        replays = self.descent.captured(self.batches.size, 1, whole, self.updates)
        if replays is None:
            return False
        vectors = self.descent.vectors(self.updates)
        before, alphas = [copied(vector, self.backend) for vector in vectors], list[float]()
        try:
            for i in range(replays.at_once(min(most, MOST_AT_ONCE))):
                alphas.append(self.optimizer.alpha(self.updates.t + i))
        except Exception:  # of a schedule, which is asked ahead: the epochs before it may end the run
            if not alphas:
                raise
        count = len(alphas)
        replays.begin(None, [whole.m] * count, alphas, l2=self.l2, t=self.updates.t, vectors=vectors)
        with self.interrupts.put_off:
            replays.launch(count)
            costs = replays.costs[:count].tolist()
            self.diverges = not (math.isfinite(sum(costs)) and all_finite(self.theta, self.backend))
            if self.diverges:
                for vector, was in zip(vectors, before, strict=True):
                    vector[...] = was
                return False
            self.descent.moved(replays, self.updates, count)
            self.watch.see_several(self.epochs + 1, costs, self.theta, alphas)
            self.epochs += count
        return True

    @quiet
    def read(self) -> list[Epoch]:
        """The records of the epochs since the last reading, added to the history."""
        with self.interrupts.put_off:
            return [self._record_of(seen) for seen in self.watch.read()]

    def _record_of(self, seen: Seen) -> Epoch:
        validation_cost = self.validated[0]
        if not (math.isfinite(seen.cost) and math.isfinite(validation_cost or 0.0) and seen.finite_weights):
            raise self._diverged(seen)
        seconds = time.perf_counter() - self.began
        record = Epoch(seen.epoch, seen.cost, seen.alpha, seconds, *self.validated)
        self.history.append(record)
        watched = seen.cost if validation_cost is None else validation_cost
        self.patience.see(seen.epoch, watched, lambda: self.before or self.standing())
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
            self.descent.move_to(self.watch.last_finite)
            # The means are not finite either; zeros are corrected for their start only if t starts with them.
            self.updates.state = self.optimizer.init_vector(self.theta, self.backend)

    def _validate(self) -> Figures:
        return *self._figures(self.validation), *self._figures(self.compared)

    def _figures(self, batch: Batch | None) -> tuple[float | None, float | None]:
        if batch is None:
            return None, None
        J, A = self.descent.cost_and_prediction(batch)
        return J, scoring.score(A, batch.Y, self.network.output, self.backend)
