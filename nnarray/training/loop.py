"""The loop over epochs and mini-batches."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nnarray.backends import Backend, Ended, all_finite, at_once, quiet
from nnarray.core.averages import corrected_mean
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch, Communicator, Ranks
from nnarray.network import scoring
from nnarray.network.agreement import agree, together
from nnarray.network.checks import check_count, check_number, check_optional_count, check_penalty, check_seed
from nnarray.network.chunks import Chunked, require_no_ranks
from nnarray.network.costs import Cost, with_cost
from nnarray.network.entry import Place
from nnarray.network.names import DTypeName, SchemeName
from nnarray.network.network import Network
from nnarray.network.normalized import NormalizedParameters
from nnarray.network.parameters import Parameters
from nnarray.network.workers import WorkersLostError
from nnarray.training.arguments import (
    check_choices,
    check_rate,
    check_rates,
    check_stream,
    enter_training,
    first_params,
)
from nnarray.training.averaging import Averaging
from nnarray.training.batches import Dropout, Shuffled
from nnarray.training.chunks import ChunkedBatches, DescentOnChunks
from nnarray.training.descent import MOST_AT_ONCE, Descent
from nnarray.training.history import Epoch, History
from nnarray.training.keeping import Unkept, check_checkpoint
from nnarray.training.normalized import DescentNormalized, check_batches, check_normalized
from nnarray.training.optimizers import Adam, Optimizer, Stateful
from nnarray.training.progress import Silent, progress_bar
from nnarray.training.ranks import (
    DescentTogether,
    Portions,
    common_seed,
    own_seed,
    require_no_checkpoint,
    settings_of,
    sums_of,
)
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
    """the trained parameters: the best ones where `patience` was given, else the last; averaged with `average`"""
    history: History
    """the epochs"""
    stopped: str
    """what ended the training: "epochs", "patience", "callback" or "interrupt" """
    best_epoch: int | None
    """the epoch with the lowest cost, that of the validation examples where there are any; None if no epoch ended.
    Where a whole batch is taken at once and there are no validation examples, a cost is that of the parameters before
    the epoch's update, and those are what `patience` gives back, unless the last parameters are better still"""
    state: State
    """the optimiser's state that belongs to `params`, or to the trained ones that were averaged, in `position.params`;
    `optimizer.update` can go on with it, and `train`"""

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
    l1: float = 0.0,
    weights: Any = None,
    cost: Cost | None = None,
    dropout: float | Sequence[float] = 0.0,
    input_dropout: float = 0.0,
    seed: int | None = 0,
    scheme: SchemeName = "he",
    backend: str | Backend | None = None,
    dtype: DTypeName = "float32",
    validation: tuple[Any, Any] | None = None,
    average: float | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callback: Callable[[Epoch], Any] | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    comm: Communicator | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float | str = 30.0,
    resume: bool | str | os.PathLike[str] = False,
) -> TrainingResult:
    """Train the network on X (n_x, m) and Y (n[L], m) by descent on J.

    Parameters
    ----------
    network : Network
        The architecture. With batch normalisation every update takes its batch's own mean and variance, and `params` of
        the result hold the averages that predictions go by; `average`, `comm`, checkpoints and dask's arrays are
        refused, and batches of one example.
    X : array, shape (n_x, m), or stream of batches
        The examples, as columns. A float32 table of shape (m, n_x) in C order enters as its transpose without being
        copied. Without Y, a stream: an iterable of batches (X, Y) or (X, Y, weights), one update each, which is
        iterated once per epoch, or a function without arguments that gives one, such as a generator function. Batches
        hold examples as columns: those of a torch DataLoader, rows, come as `lambda: ((X.T, Y.T) for X, Y in loader)`.
        Of a dask array, each chunk of columns gives its sums where it lies, see `Network.gradients`. With `batch_size`
        each batch is of one chunk: chunks come in a drawn order, and their columns are shuffled within. Y may be of
        dask or of the host; weights are brought to the host.
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
        lambda ≥ 0 of the L2 penalty. As in scikit-learn, an update divides by its own batch: the loss by the sum of the
        batch's weights, and the penalty by the same, so that smaller batches want a smaller `l2`.
    l1 : float, default=0.0
        lambda ≥ 0 of the L1 penalty (l1/m) Σ ‖W[l]‖₁, divided as `l2` is; both together are the elastic net.
    weights : array, shape (1, m) or (m,), optional
        How much the loss of each example counts, ≥ 0.
    cost : Cost, optional
        A cost of one's own in the place of the output's.
    dropout : float or sequence of float, default=0.0
        The share of hidden units dropped in training, in [0, 1): one figure, or one per hidden layer.
    input_dropout : float, default=0.0
        The share of inputs dropped in training, in [0, 1): X is multiplied by a mask D[0] as A[l] is by D[l].
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
        2000, all without penalty and dropout, and with batch normalisation at test time.
    average : float, optional
        beta in [0, 1): give back the weights averaged along the way, v/(1 - beta^t) with v ← beta v + (1-beta) theta
        after each of t updates, about the mean of the last 1/(1-beta) of them (Polyak & Juditsky, 1992, exponentially
        weighted). The descent itself takes no notice. `params` of the result and of a callback's epoch, and what
        validation sees, are the averaged ones; an epoch's `cost` is of those that were trained, and without validation
        `patience` goes by it, and gives back the average at the best epoch. `state` holds both, so that a run goes on
        to the bit, from the trained ones, where `params` is left out; one from a run without an average begins one, and
        of one with another beta the average goes on by the new one.
        What a `DivergenceError` keeps was not averaged.
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
    comm : mpi4py communicator, optional
        Train on the examples of all its ranks together. Every rank makes this call, with examples (and validation
        examples) of its own, whose numbers may differ, and with the same options otherwise: where options, a schedule's
        rate or the parameters differ after an epoch, all raise ValueError. `batch_size` counts everybody's; each rank
        shuffles its own examples and gives an equal portion of them to every batch. All ranks have the same parameters,
        to the bit, and history, and stop together: where one's callback says so, on Ctrl-C on any, or where one fails.
        Only rank 0 shows a bar.
    checkpoint : path, optional
        A file in which the run keeps what another process can go on from, should this one be killed: parameters, the
        optimiser's state, the position within the epoch, what is drawn next, dropout's masks, the history, the best
        epoch so far. It is written whole or not at all, in the place of the one before, and once more at the end, at
        Ctrl-C and, in the main thread, at SIGTERM, which then does what it does without (ending the process, if nobody
        handles it). Where it can't be written later on, there is a warning, and training goes on.
    checkpoint_every : float or str, default=30.0
        Seconds between two checkpoints, which are made between any two updates; or epochs, as "epoch" or "5 epochs".
        The checkpoints of a stream are those of the ends of its epochs.
    resume : bool or path, default=False
        True goes on from `checkpoint`, or begins where that is not there yet; a path goes on from that file. Make the
        same call again: on the same backend, parameters, history (but for `seconds`), `state` and `best_epoch` end
        with the bits of a run that nobody disturbed. `epochs` counts those of the checkpoint, and may be more than
        before; `params`, `state` and the `seed` were used when the run began. What the optimiser's own schedule, a
        `callback` or a stream keeps for itself is not in the file: a stream's function is called anew for each epoch
        that is left.

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
        For shapes that don't fit, values that are not finite or that the output can't model, and options out of range;
        for a checkpoint of another network, data of another shape, another optimiser or other options.
    ModelFileError
        For a checkpoint that is none, whatever is wrong in it.
    OSError
        Where there is no folder for the checkpoint, or no file to go on from.
    TypeError
        For arguments of another kind, arrays of two namespaces or devices, and traced arrays.
    DivergenceError
        When the cost or the weights stop being finite; it keeps the last finite parameters.
    BackendUnavailableError
        For a backend that cannot run here.
    RuntimeError
        With `comm`, where another rank fails; it says which, and how.
    WorkersLostError
        Where X is a dask array and none of the workers is left; it keeps the last parameters and state.

    Examples
    --------
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> result = train(Network((2, 8, 1)), X, Y, epochs=300, optimizer=Adam(0.03))
    >>> Network((2, 8, 1)).score(result.params, X, Y)
    1.0
    """
    with together(comm) as ranks:
        check_choices(network, optimizer, callback)
        seed, epochs = check_seed(seed), check_count(epochs, "epochs")
        batch_size = check_optional_count(batch_size, "batch_size")
        patience = check_optional_count(patience, "patience")
        min_delta = check_number(min_delta, "min_delta", at_least=0.0)
        costed = with_cost(network, cost)
        rates, input_rate = check_rates(dropout, len(network.hidden)), check_rate(input_dropout, "input_dropout")
        l2, l1 = check_penalty(l2, "l2"), check_penalty(l1, "l1")
        if average is not None:
            average = check_number(average, "average", at_least=0.0, below=1.0)
        workers = check_optional_count(workers, "workers")
        keeping, resumed = check_checkpoint(checkpoint, checkpoint_every, resume)
        check_normalized(network, X, comm, average=average, checkpoint=keeping, resume=resumed)
        if Y is None:
            check_stream(X, weights, batch_size, epochs, comm)
        if ranks is not None:
            require_no_checkpoint(keeping or resumed)
            seed = common_seed(seed, ranks)
        if state is not None:
            params = first_params(state, params)
        first, examples, validating = enter_training(
            network, costed, X, Y, weights, validation, params, seed=seed, scheme=scheme, backend=backend, dtype=dtype
        )
        if ranks is not None:
            numbers = {"epochs": epochs, "batch_size": batch_size, "patience": patience, "min_delta": min_delta}
            numbers |= {"l2": l2, "l1": l1, "average": average, "validation": validation is not None}
            kinds = {"optimizer": settings_of(optimizer or Adam()), "state": sums_of(state)}
            place = Place(first.layers, first.backend, first.dtype)
            agree(ranks, costed, place, **numbers, **kinds, dropout=rates, input_dropout=input_rate)
        held = (examples.X, examples.Y) if isinstance(examples, Batch) else ()
        with first.backend.current(), at_once(first.vector, *held):
            own = seed if ranks is None else own_seed(seed, ranks)
            batches = _batches_of(examples, batch_size, own, first.backend, ranks)
            check_batches(network, batches)
            run = Run(
                costed,
                first,
                optimizer or Adam(),
                batches,
                Dropout(rates, network.sizes, own, first.backend, input_rate=input_rate),
                validating,
                Patience(patience, min_delta),
                l2,
                l1,
                workers,
                average,
                ranks,
            )
            if keeping is not None or resumed is not None:
                from nnarray.training.kept import Kept

                kept = Kept(run, keeping, seed, cost)
            if resumed is not None:
                kept.go_on(resumed)
            elif state is not None:
                run.go_on(state)
            return run.through(epochs, callback, progress)


def _batches_of(
    examples: Batch | Chunked | Stream,
    batch_size: int | None,
    seed: int | Sequence[int] | None,
    backend: Backend,
    ranks: Ranks | None,
) -> Shuffled | ChunkedBatches | Stream:
    """The batches of a run, by where the examples are."""
    if isinstance(examples, Stream):
        return examples
    if isinstance(examples, Chunked):
        require_no_ranks(ranks)
        return ChunkedBatches(examples, batch_size, seed)
    if ranks is None:
        return Shuffled(examples, batch_size, seed, backend)
    return Portions(examples, batch_size, seed, backend, ranks)


@dataclass(eq=False, repr=False)
class Run:
    """One training run: what stays the same in it, and theta and the optimiser's state as they move."""

    network: Architecture
    params: Parameters
    """the first parameters, of which the later ones are replacements"""
    optimizer: Optimizer
    batches: Shuffled | ChunkedBatches | Stream
    dropout: Dropout
    validation: Batch | Chunked | None
    patience: Patience
    l2: float
    l1: float
    workers: int | None
    average: float | None = None
    """beta of the average of the parameters; None for none"""
    ranks: Ranks | None = None
    """those that train together; None where this process trains alone"""
    history: History = field(default_factory=History)

    @quiet
    def __post_init__(self) -> None:
        """Start at the first parameters."""
        self.backend, self.dtype = self.params.backend, self.params.dtype
        theta = copied(self.params.vector, self.backend)
        self.updates = self._stateful(theta)
        given = self.network, theta, self.backend
        self.descent: Descent
        if isinstance(self.batches, ChunkedBatches):
            self.descent = DescentOnChunks(*given, l2=self.l2, l1=self.l1, workers=self.workers)
        elif isinstance(self.params, NormalizedParameters):
            statistics = copied(self.params.statistics, self.backend)
            self.descent = DescentNormalized(
                *given, statistics=statistics, l2=self.l2, l1=self.l1, workers=self.workers
            )
        elif self.ranks is None:
            self.descent = Descent(*given, l2=self.l2, l1=self.l1, workers=self.workers)
        else:
            self.descent = DescentTogether(*given, self.ranks, l2=self.l2, l1=self.l1, workers=self.workers)
        self.interrupts, self.steps = self.descent.begin(self.batches.size)
        self.watch = Watch(self.descent.standing, self.backend)
        self.diverges = False
        self.epochs = self.first = 0
        self.shown, self.seconds = 0, 0.0
        self.validated: Figures = (None, None, None, None)
        self.history.score_name = scoring.NAMES[self.network.output]
        self.compared: Batch | Chunked | None = None
        if self.validation is not None and not isinstance(self.batches, Stream):
            self.compared = self.batches.some(min(self.validation.columns, MOST_COMPARED))
        # Of a whole batch, the cost is that of the parameters before its update.
        watches_training = self.patience.epochs is not None and self.validation is None
        self.cost_is_of_before = watches_training and self.batches.is_whole
        self.begun_at: State | None = None
        """where the present epoch began, if that is needed"""
        self.keeps_beginnings = self.cost_is_of_before
        self.kept: Unkept = Unkept()

    def _stateful(self, theta: Array) -> Stateful:
        state = self.optimizer.init_vector(theta, self.backend)
        if self.average is None:
            return Stateful(self.optimizer, state)
        return Averaging(self.optimizer, state, self.backend.xp.zeros_like(theta), self.average)

    @property
    def theta(self) -> Array:
        """The parameters now."""
        return self.descent.theta

    @property
    def given(self) -> Array:
        """The parameters that the run would give back now: theta, or its average."""
        return self.updates.average(self.theta)

    def go_on(self, state: State) -> None:
        """Start where the state was left, by this optimiser or by another run."""
        self.take(state)
        waiting = None if state.position is None else state.position.waiting
        if waiting is not None and waiting.validated == (self.validation is not None) and not self.cost_is_of_before:
            self.patience.go_on(self.standing(), waiting)
        self.first = self.epochs

    def take(self, state: State) -> None:
        """Take over running means, the count of updates, and what is drawn next."""
        self.optimizer.check_state(state, self.params)
        means = {
            name: copied(self.backend.asarray(getattr(state, name), self.dtype), self.backend)
            for name in self.optimizer.remembers
        }
        position, mean = state.position, state.average
        self.updates.go_on(
            State(state.t, **means),
            None if mean is None else copied(self.backend.asarray(mean, self.dtype), self.backend),
            0 if position is None else position.averaged,
            self.average if position is None else position.beta,
        )
        if position is None:
            return
        self.epochs = position.epoch
        if position.order is not None:
            self.batches.go_on(position.order)
        self.dropout.go_on(position.masks)

    def standing(self) -> State:
        """The optimiser's state and where the run stands, for good: later updates change neither."""
        now = self.updates.state
        means = {name: copied(getattr(now, name), self.backend) for name in self.optimizer.remembers}
        position = Position(
            self.epochs,
            self.descent.params(self.params, copied(self.descent.standing, self.backend)),
            self.batches.state,
            self.dropout.state,
            None if self.cost_is_of_before else self._waiting(),
            self.updates.count,
            self.average,
        )
        mean = self.updates.mean
        return State(now.t, **means, position=position, average=None if mean is None else copied(mean, self.backend))

    def _given_by(self, state: State) -> Parameters:
        """The parameters of a state of this run: those that were trained, or their average."""
        assert state.position is not None
        params, count = state.position.params, state.position.averaged
        if self.average is None or not count:
            return params
        return params.replace(corrected_mean(state.average, self.average, count))

    def _waiting(self) -> Waiting | None:
        return self.patience.waiting(self.epochs, validated=self.validation is not None)

    def through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        """Run `epochs` epochs, or fewer if something stops them."""
        try:
            return self._through(epochs, callback, progress)
        except WorkersLostError as error:
            self._end_interrupted()
            error.state = self.standing()
            error.params, error.history = self._given_by(error.state), self.history
            raise

    def _through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        self.began = time.perf_counter() - self.seconds
        last = self.first + epochs
        shows = self.ranks is None or self.ranks.rank == 0
        bar = progress_bar(epochs, progress if shows else False, self.epochs - self.first)
        watched = callback is not None or self.patience.epochs is not None or self.validation is not None
        self.must_know = watched or self.ranks is not None
        stopped = "patience" if self.patience.is_over else "epochs"
        try:
            with Ended(self.interrupts, self.steps), self.interrupts, self.steps:
                while stopped == "epochs" and self.epochs < last:
                    if self.descent.underway is not None or not self.several(last - self.epochs):
                        self.epoch(self.epochs + 1)
                    is_due = self.kept.is_due
                    if not (self.must_know or self.watch.is_due or is_due or self.epochs == last):
                        continue
                    self._show(bar)
                    if self._is_stopped(callback, self.history[-1]):
                        stopped = "callback"
                    elif self.patience.is_over:
                        stopped = "patience"
                    if is_due:
                        self.kept.write()
                self.kept.write()
        except KeyboardInterrupt:
            stopped = "interrupt"
            self.kept.write()
            self._end_interrupted()
        except WorkersLostError:
            self.kept.write()
            raise
        finally:
            bar.close()
            self.kept.end()
            self.batches.let_go()
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
            given = self.descent.standing if self.average is None else self.given
            return bool(callback(record._replace(params=self.descent.params(self.params, copied(given, self.backend)))))

        if self.ranks is None:
            return ask()
        # What agree() cannot look into, such as a function that is the schedule, shows here.
        params = {"the sum of params": self.backend.sum(self.theta)}
        self.ranks.agree(learning_rate=record.learning_rate, **params)
        return self.ranks.any(ask)

    def _show(self, bar: Silent) -> None:
        """Read what is known, and show what the bar has not shown yet."""
        self.read()
        for record in self.history[self.shown :]:
            bar.show(record)
        self.shown = len(self.history)

    def _best(self) -> State:
        """The state of the best parameters where somebody waited for them, else of the last."""
        best = self.patience.best
        if best is None or (self.cost_is_of_before and self._next_cost() < self.patience.lowest):
            return self.standing()
        return best

    @quiet
    def _next_cost(self) -> float:
        """What the next epoch would report as its cost: that of the last parameters, which no epoch has reported."""
        assert not isinstance(self.batches, Stream)
        with self.backend.untracked():
            return float(self.descent.cost(self.batches.whole, self.dropout))

    @quiet
    def epoch(self, number: int) -> None:
        """One pass over the examples; what came of it is watched, and not read yet."""
        if self.keeps_beginnings:
            with self.interrupts.put_off:
                self.begun_at = self.standing()
        with self.backend.untracked():
            cost = self.descent.epoch(self.batches, self.updates, self.dropout, underway=self.descent.underway)
            if self.must_know:
                self.steps.end()  # a callback may wait for other threads
            validated = self._validate()
            with self.interrupts.put_off:
                alpha, is_finite = self.optimizer.alpha(self.updates.t - 1), math.isfinite(validated[0] or 0.0)
                self.epochs = number
                self.watch.see(number, cost, self.descent.standing, alpha, validated=is_finite)
                self.validated, self.descent.underway = validated, None

    @quiet
    def several(self, most: int) -> bool:
        """Several epochs of whole batches in one call, if nobody asks in between, and if that can be; whether it was.

        Where cost or weights stop being finite, nothing was done: epoch by epoch it will be seen when.
        """
        if self.must_know or self.diverges or not self.batches.is_whole or self.dropout.drops:
            return False
        if not isinstance(self.batches, Shuffled):
            return False
        whole = self.batches.whole
        replays = self.descent.captured(self.batches.size, 1, whole, self.updates)
        if replays is None:
            return False
        vectors = self.descent.vectors(self.updates)
        before, alphas = [copied(vector, self.backend) for vector in vectors], list[float]()
        try:
            for i in range(replays.at_once(min(most, self.kept.ahead, MOST_AT_ONCE))):
                alphas.append(self.optimizer.alpha(self.updates.t + i))
        except Exception:  # of a schedule, which is asked ahead: the epochs before it may end the run
            if not alphas:
                raise
        count = len(alphas)
        replays.begin(None, [whole.m] * count, alphas, l2=self.l2, l1=self.l1, t=self.updates.t, vectors=vectors)
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
        self.patience.see(seen.epoch, watched, lambda: before or self.standing())

    def _diverged(self, seen: Seen) -> DivergenceError:
        msg = (
            f"training diverged in epoch {seen.epoch}: the cost is {seen.cost:g} and the weights are "
            f"{'finite' if seen.finite_weights else 'not finite'}; try a smaller learning_rate (it was "
            f"{seen.alpha:g}) or inputs of a smaller scale"
        )
        return DivergenceError(msg, self.descent.params(self.params, self.watch.last_finite), self.history)

    @quiet
    def _end_interrupted(self) -> None:
        """Keep what is finite of an epoch that was broken off, and read what came before it."""
        self.read()
        if not all_finite(self.descent.standing, self.backend):
            self.descent.go_on(self.watch.last_finite)
            # The means are not finite either; zeros are corrected for their start only if t starts with them.
            self.updates = self._stateful(self.theta)

    def _validate(self) -> Figures:
        return *self._figures(self.validation), *self._figures(self.compared)

    def _figures(self, batch: Batch | Chunked | None) -> tuple[float | None, float | None]:
        if batch is None:
            return None, None
        return self.descent.cost_and_score(batch, self.given)
