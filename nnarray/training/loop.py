"""The loop over epochs and mini-batches."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, all_finite, has_programs
from nnarray.core.typing import Array
from nnarray.engine import Batch
from nnarray.network import scoring
from nnarray.network.checks import check_count, check_l2, check_number, check_optional_count, check_seed
from nnarray.network.network import Network
from nnarray.network.parameters import Parameters
from nnarray.training.arguments import check_choices, check_rates, enter_training
from nnarray.training.batches import Dropout, MiniBatches
from nnarray.training.history import Epoch, History
from nnarray.training.interrupts import Interrupts
from nnarray.training.optimizers import Adam, Optimizer, State
from nnarray.training.progress import progress_bar
from nnarray.training.stopping import Patience


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
    epoch. `weights`, shape (1, m), scale each example's loss. As in scikit-learn, an update divides by its own batch:
    the loss by the sum of the batch's weights, and the penalty `l2` by the same, so that smaller batches want a smaller
    `l2`. `dropout` is the share of hidden units dropped in training, one figure or one per hidden layer. `validation`
    is a pair (X, Y) whose cost and score each epoch records.

    `patience` stops after that many epochs in a row without the cost (of the validation examples, if there are any)
    falling by more than `min_delta`, and gives back the parameters of the best epoch. `callback` is called with each
    `Epoch` and stops the run by returning something true. `progress` shows a bar; left out, only on a terminal. Ctrl-C
    ends the training and returns what there is, with `stopped` "interrupt".

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
    first, examples, validating = enter_training(
        network, X, Y, weights, validation, params, seed=seed, scheme=scheme, backend=backend, dtype=dtype
    )
    run = Run(
        network,
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

    network: Network
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

    def __post_init__(self) -> None:
        """Start at the first parameters."""
        self.backend, self.dtype = self.params.backend, self.params.dtype
        self.theta = self._copy(self.params.vector)
        self.layers = self.params.replace(self.theta).layers
        self.state = self.optimizer.init_vector(self.theta, self.backend)
        self.finite_theta = self._copy(self.theta)
        self.spare: list[Array] = []  # gradients whose update was made
        self.interrupts = Interrupts()

    def through(self, epochs: int, callback: Callable[[Epoch], Any] | None, progress: bool | None) -> TrainingResult:
        """Run `epochs` epochs, or fewer if something stops them."""
        began = time.perf_counter()
        stopped = "epochs"
        bar = progress_bar(epochs, progress)
        try:
            with self.interrupts, engine.many_steps(self.network, self.batches.size, self.backend):
                for epoch in range(1, epochs + 1):
                    record = self.epoch(epoch, began)
                    bar.show(record)
                    if callback is not None and callback(
                        record._replace(params=self.params.replace(self._copy(self.theta)))
                    ):
                        stopped = "callback"
                    elif self.patience.is_over:
                        stopped = "patience"
                    if stopped != "epochs":
                        break
        except KeyboardInterrupt:
            stopped = "interrupt"
            self.theta = self.theta if self._is_finite() else self.finite_theta
        finally:
            bar.close()
        best = self.patience.best_theta if self.patience.epochs is not None else None
        theta = self.theta if best is None else best
        return TrainingResult(self.params.replace(theta), self.history, stopped, self.patience.best_epoch, self.state)

    def epoch(self, number: int, began: float) -> Epoch:
        """One pass over the examples; its record, added to the history."""
        before = self.finite_theta = self._copy(self.theta)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"), self.backend.untracked():
            cost = self._descend()
            validation_cost, validation_score = self._validate()
        if not (math.isfinite(cost) and math.isfinite(validation_cost or 0.0) and self._is_finite()):
            msg = (
                f"training diverged in epoch {number}: the cost is {cost:g} and the weights are "
                f"{'finite' if self._is_finite() else 'not finite'}; try a smaller learning_rate (it was "
                f"{self.optimizer.alpha(self.state.t - 1):g}) or inputs of a smaller scale"
            )
            raise DivergenceError(msg, self.params.replace(before), self.history)
        alpha = self.optimizer.alpha(self.state.t - 1)
        seconds = time.perf_counter() - began
        record = Epoch(number, cost, alpha, seconds, validation_cost, validation_score)
        self.history.append(record)
        if validation_cost is not None:
            self.patience.see(number, validation_cost, self._copy(self.theta))
        else:  # the cost of a whole batch is that of the parameters before its update
            self.patience.see(number, cost, before if self.batches.is_whole else self._copy(self.theta))
        return record

    def _descend(self) -> float:
        """One update per batch; the mean of their costs, which leaves the device once per epoch."""
        total, count = 0.0, 0.0
        for batch in self.batches:
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
        return float(total / count)

    def _update(self, g: Array) -> None:
        theta, self.state = self.optimizer.update_vector(self.theta, g, self.state, self.backend, in_place=True)
        if theta is not self.theta:
            self.theta, self.layers = theta, self.params.replace(theta).layers

    def _copy(self, theta: Array) -> Array:
        """Theta as it is now: programs write the next one over it."""
        return theta.copy() if has_programs(self.backend) else theta

    def _validate(self) -> tuple[float | None, float | None]:
        if self.validation is None:
            return None, None
        A = engine.Columns(self.validation.columns, self.backend)
        J = engine.cost(self.validation, self.layers, self.network, self.backend, l2=0.0, keep=A, workers=self.workers)
        return float(J), scoring.score(A.joined(), self.validation.Y, self.network.output, self.backend)

    def _is_finite(self) -> bool:
        return all_finite(self.theta, self.backend)
