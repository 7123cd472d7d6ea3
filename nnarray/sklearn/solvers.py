"""The two ways to train: epochs over batches ("sgd" and "adam"), and L-BFGS over all examples."""

import warnings
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from nnarray.backends import Backend, Ended, filter_again
from nnarray.core.typing import Array
from nnarray.engine import Batch, Order, ThreadsOfARun
from nnarray.engine.example_weights import weighs_nothing
from nnarray.network.chunked import Chunked
from nnarray.sklearn.averaging import averaged
from nnarray.sklearn.batches import BatchesOfRows
from nnarray.sklearn.chunks import BatchesOfChunks
from nnarray.sklearn.descent import EstimatorDescent, Updates
from nnarray.sklearn.optimizers import Adam, Adaptive, InverseScaling, Momentum, Optimizer
from nnarray.sklearn.private import check_optimize_result, training_begins
from nnarray.sklearn.report import Report
from nnarray.training.arguments import check_rates
from nnarray.training.averaging import Averaging
from nnarray.training.batch_norm import check_batches
from nnarray.training.dropout import Dropout
from nnarray.training.state import copied

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP

FEWEST_STEPS = 50
"""Steps of one batch size from which on capturing them pays off."""


def begin(model: "MLP", variables: Array, backend: Backend) -> None:
    """Start the records of an untrained model, at theta and its statistics."""
    model.loss_curve_ = []
    splits = model.early_stopping and model.solver != "lbfgs"
    model.validation_scores_, model.validation_loss_curve_ = ([], []) if splits else (None, None)
    if model.solver == "lbfgs":
        return
    model._no_improvement_count = 0
    model.best_loss_ = None if model.early_stopping else np.inf
    model.best_validation_score_ = -np.inf if model.early_stopping else None
    model._best = (copied(variables, backend), None) if model.early_stopping else None


def check(model: "MLP", layers: int, *, incremental: bool) -> None:
    """Raise ValueError for parameters that don't go together, with `layers` hidden layers."""
    if any([*check_rates(model.dropout, layers), model.input_dropout]) and model.solver == "lbfgs":
        msg = 'dropout needs solver="sgd" or "adam": L-BFGS needs the same cost for the same parameters'
        raise ValueError(msg)
    if model.l1 and model.solver == "lbfgs":
        msg = 'l1 needs solver="sgd" or "adam": L-BFGS needs a cost that has a derivative everywhere'
        raise ValueError(msg)
    if model.average is not None and model.solver == "lbfgs":
        msg = 'average needs solver="sgd" or "adam": what L-BFGS ends with is the best of its points, not one of many'
        raise ValueError(msg)
    if model.early_stopping and incremental:
        msg = "partial_fit does not support early_stopping=True"
        raise ValueError(msg)


def fit_lbfgs(
    model: "MLP", work: EstimatorDescent, examples: Batch, validation: Batch | None, *, incremental: bool
) -> None:
    """Train by L-BFGS, with a ConvergenceWarning if it stops before it has converged."""
    report = Report(model, work, validation)

    def iteration_ends(J: float) -> None:
        report.iteration(J, report.validated())

    training_begins(model)
    threads = ThreadsOfARun(work.network, examples.columns, work.backend)  # which SciPy's BLAS has as well
    with closing(report.bar), Ended(threads), threads:
        threads.hold()
        found = work.minimize(
            examples, iteration_ends, iterations=model.max_iter, calls=model.max_fun, tolerance=model.tol
        )
    model.n_iter_ = check_optimize_result("lbfgs", found, model.max_iter)
    model.loss_ = float(found.fun)


def fit_stochastic(
    model: "MLP", work: EstimatorDescent, examples: Batch, validation: Batch | None, *, incremental: bool
) -> None:
    """Train epoch by epoch; `partial_fit` is a single epoch."""
    work.updates = updates = updates_of(model, work, incremental=incremental)
    _require_records(model, work)
    rows, validation = _split(model, work, examples, validation)
    batches, dropout = _batches_of(model, work, examples, rows), _dropout_of(model, work)
    model.n_iter_ = 0
    report = Report(model, work, validation)
    filters = warnings.filters
    training_begins(model)
    try:
        epochs = 1 if incremental else int(model.max_iter)
        interrupts, threads = work.begin(batches.size)
        with closing(report.bar), Ended(interrupts, threads), interrupts, threads:
            for _ in range(epochs):
                J = work.epoch(batches, updates, dropout, fewest=-(-FEWEST_STEPS // epochs))
                if validation is not None:
                    threads.end()  # these have the threads that their sizes say
                loss, validated = float(J), report.validated()
                with interrupts.put_off:  # an epoch has all its records, or none
                    report.iteration(loss, validated)
                    model.t_ += batches.columns
                    is_over = _epoch_ends(model, report)
                if is_over:
                    break
                if model.n_iter_ == model.max_iter and not incremental:
                    msg = (
                        f"Stochastic Optimizer: Maximum iterations ({model.max_iter:d}) reached and the optimization "
                        "hasn't converged yet."
                    )
                    warnings.warn(msg, ConvergenceWarning, stacklevel=2)
    except KeyboardInterrupt:
        filter_again(filters)
        warnings.warn("Training interrupted by user.", stacklevel=2)
    if model.early_stopping and model._best is not None:
        _restore_best(model, work)


def _batches_of(
    model: "MLP", work: EstimatorDescent, examples: Batch | Chunked, rows: Array | None
) -> BatchesOfRows | BatchesOfChunks:
    """The batches of the chunks of dask arrays, or of these rows of a table."""
    if isinstance(examples, Chunked):
        batches = BatchesOfChunks(model, examples)
        check_batches(work.network, batches)
        return batches
    return BatchesOfRows(model, work.backend, examples, rows)


def _restore_best(model: "MLP", work: EstimatorDescent) -> None:
    """Go back to the best epoch; a warm start has none until it finds a better one, as in scikit-learn."""
    variables, held = model._best
    work.restore(work.backend.asarray(variables, work.dtype))
    if isinstance(work.updates, Averaging):
        work.updates.mean, work.updates.count = held or (None, 0)
    model._best = None


def _require_records(model: "MLP", work: EstimatorDescent) -> None:
    """Start the records that a model lacks because it was trained by L-BFGS or with other parameters before."""
    if not hasattr(model, "_no_improvement_count"):
        begin(model, work.variables, work.backend)
    if model.early_stopping and model.best_validation_score_ is None:
        model.best_validation_score_ = -np.inf
    if not model.early_stopping and model.best_loss_ is None:
        model.best_loss_ = np.inf


def _dropout_of(model: "MLP", work: EstimatorDescent) -> Dropout:
    """The dropout masks, different in each `partial_fit`."""
    rates, input_rate = check_rates(model.dropout, len(work.network.hidden)), float(model.input_dropout)
    drops = any([*rates, input_rate])
    seed = [model._random_state.randint(2**31), model.t_] if drops else 0
    return Dropout(rates, work.network.sizes, seed, work.backend, input_rate=input_rate)


def updates_of(model: "MLP", work: EstimatorDescent, *, incremental: bool) -> Updates:
    """The model's optimiser, a new one unless partial_fit goes on, with a mean of theta where one is asked for."""
    if not incremental or not hasattr(model, "_optimizer"):
        model._optimizer = make_optimizer(model)
    optimizer: Optimizer = model._optimizer
    optimizer.move_to(work.backend, work.dtype)
    if model.average is None:
        return optimizer
    return averaged(optimizer, float(model.average), model._trained if incremental else None, work)


def make_optimizer(model: "MLP") -> Optimizer:
    """The update rule and learning rate that the parameters name."""
    alpha = float(model.learning_rate_init)
    if model.solver == "adam":
        return Optimizer(Adam(float(model.beta_1), float(model.beta_2), float(model.epsilon)), alpha)
    rule = Momentum(float(model.momentum), bool(model.nesterovs_momentum))
    if model.learning_rate == "invscaling":
        return InverseScaling(rule, alpha, float(model.power_t))
    return (Adaptive if model.learning_rate == "adaptive" else Optimizer)(rule, alpha)


def _split(
    model: "MLP", work: EstimatorDescent, examples: Batch, validation: Batch | None
) -> tuple[Array | None, Batch | None]:
    """The rows to train on (None: all), and the validation examples; where early stopping needs some, a share of all.

    A classifier of one output splits each class alike.
    """
    if not model.early_stopping or validation is not None:
        return None, validation
    if isinstance(examples, Chunked):
        msg = "early_stopping with a dask X needs X_val and y_val, arrays of the host: it draws no rows from chunks"
        raise ValueError(msg)
    backend, stratify = work.backend, None
    if is_classifier(model) and model.n_outputs_ == 1:
        stratify = backend.to_numpy(examples.Y).T.astype(bool)
    training, aside = train_test_split(
        np.arange(examples.columns),
        random_state=model._random_state,
        test_size=model.validation_fraction,
        stratify=stratify,
    )
    if len(aside) < 2:
        msg = "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
        raise ValueError(msg)
    chosen = examples._replace(order=Order(backend.asarray(aside), aside)).gathered(backend)
    if examples.weights is None:
        return training, chosen._replace(m=len(aside))
    weights = backend.to_numpy(examples.weights)[0]
    for part, rows in (("training", training), ("validation", aside)):
        if weighs_nothing(float(weights[rows].sum(dtype="float64")), weights.dtype.name):
            msg = (
                f"sample_weight is 0, or as good as 0, for all {len(rows)} examples of the {part} part that "
                "early_stopping draws: "
                "leave out examples without weight, change random_state or validation_fraction, or give X_val and y_val"
            )
            raise ValueError(msg)
    return training, chosen._replace(m=float(weights[aside].sum(dtype="float64")))


def _epoch_ends(model: "MLP", report: Report) -> bool:
    """Count epochs without improvement, and return whether training is over."""
    _count(model, report.work)
    model._optimizer.iteration_ends(model.t_)
    if model._no_improvement_count <= model.n_iter_no_change:
        return False
    what = "Validation score" if model.early_stopping else "Training loss"
    optimizer: Optimizer = model._optimizer
    stops, consequence = optimizer.stops()
    if report.prints:
        print(
            f"{what} did not improve more than tol={model.tol:f} for {model.n_iter_no_change} consecutive epochs. "
            f"{consequence}"
        )
    if not stops:
        model._no_improvement_count = 0
    return stops


def _count(model: "MLP", work: EstimatorDescent) -> None:
    if not model.early_stopping:
        loss = model.loss_curve_[-1]
        model._no_improvement_count = model._no_improvement_count + 1 if loss > model.best_loss_ - model.tol else 0
        model.best_loss_ = min(model.best_loss_, loss)
        return
    score, best = model.validation_scores_[-1], model.best_validation_score_
    model._no_improvement_count = model._no_improvement_count + 1 if score < best + model.tol else 0
    if score > best:
        updates, held = work.updates, None
        if isinstance(updates, Averaging):
            held = copied(updates.mean, work.backend), updates.count
        model.best_validation_score_, model._best = score, (copied(work.variables, work.backend), held)
