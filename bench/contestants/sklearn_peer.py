"""scikit-learn's MLP, where it can do the same work."""

from typing import Any

import numpy as np

from bench.agreement import Result, checked_columns, flatten
from bench.contestants.base import Contestant, Prepared
from bench.problems import Problem
from bench.workloads import Workload

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "identity": "identity"}


class ScikitLearn(Contestant):
    """MLPClassifier or MLPRegressor: its own backpropagation for a step, partial_fit for an epoch of Adam."""

    name = "scikit-learn"
    library = "sklearn"

    def missing(self, device: str) -> str | None:
        """scikit-learn."""
        try:
            import sklearn.neural_network  # noqa: F401
        except ImportError as error:
            return f"{error}; pip install scikit-learn"
        return None

    def unfit(self, workload: Workload, precision: str) -> str | None:
        """What its MLP does not have."""
        if workload.hidden not in ACTIVATIONS:
            return f"has no {workload.hidden}"
        if workload.output == "exp" or (workload.output == "identity" and workload.sizes[-1] > 1):
            return "has no such cost"
        return super().unfit(workload, precision)

    def step(self, problem: Problem) -> Prepared:
        """The private `_backprop` over the full batch, which `fit` itself calls, and gradient descent."""
        model, alpha = make_model(problem), problem.learning_rate
        X, y = problem.table, problem.targets

        def run() -> None:
            _, dW, db = backpropagation(model, X, y)
            for p, g in zip(model.coefs_ + model.intercepts_, dW + db, strict=True):
                p -= alpha * g  # noqa: PLW2901 - in place

        return Prepared(run, _gradient(model, problem))

    def predict(self, problem: Problem) -> Prepared:
        """predict_proba, or predict for a regression."""
        model, X = make_model(problem), problem.table
        classify = problem.workload.output in ("sigmoid", "softmax")
        predict = model.predict_proba if classify else model.predict

        def result() -> Result:
            A = predict(X)
            alone = problem.workload.output == "sigmoid" and problem.workload.sizes[-1] == 1
            return Result(None, (A[:, 1] if alone else A).T.astype(np.float64).ravel())

        def run() -> None:
            predict(X)

        return Prepared(run, result)

    def epoch(self, problem: Problem) -> Prepared:
        """partial_fit, which is one pass over shuffled batches."""
        model, X, y = make_model(problem), problem.table, fitted_targets(problem)

        def run() -> float:
            model.partial_fit(X, y)
            return float(model.loss_)

        return Prepared(run, _gradient(model, problem))


def fitted_targets(problem: Problem) -> np.ndarray:
    """The targets as `fit` takes them."""
    if problem.workload.output == "softmax":
        return problem.labels
    return problem.targets if problem.workload.sizes[-1] > 1 else problem.targets[:, 0]


def make_model(problem: Problem) -> Any:
    """An MLP with the problem's first parameters, made by fitting a few examples and putting the parameters in."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    work = problem.workload
    classify = work.output in ("sigmoid", "softmax")
    model = (MLPClassifier if classify else MLPRegressor)(
        hidden_layer_sizes=work.sizes[1:-1],
        activation=ACTIVATIONS[work.hidden],
        alpha=0.0,
        batch_size=work.batch_size or 2,
        learning_rate_init=problem.learning_rate or 0.001,
        random_state=0,
    )
    few = slice(0, 8 if work.batch_size is None else work.batch_size)
    classes = {"classes": np.arange(max(2, work.sizes[-1]))} if classify else {}
    model.partial_fit(problem.table[few], fitted_targets(problem)[few], **classes)
    for i, (W, b) in enumerate(problem.layers):
        model.coefs_[i][...] = W.T
        model.intercepts_[i][...] = b[:, 0]
    del model._optimizer
    return model


def backpropagation(model: Any, X: np.ndarray, y: np.ndarray) -> tuple[float, list, list]:
    """J, dW and db as the model's own fit computes them."""
    layers = len(model.coefs_)
    dW = [np.empty_like(W) for W in model.coefs_]
    db = [np.empty_like(b) for b in model.intercepts_]
    activations = [X] + [None] * layers
    return model._backprop(X, y, None, activations, [None] * layers, dW, db)


def _gradient(model: Any, problem: Problem) -> Any:
    columns = checked_columns(problem)

    def result() -> Result:
        J, dW, db = backpropagation(model, problem.table[columns], problem.targets[columns])
        return Result(float(J), flatten([(W.T, b) for W, b in zip(dW, db, strict=True)]))

    return result
