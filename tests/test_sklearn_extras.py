"""What nnarray.sklearn has beyond scikit-learn's MLP, and how its estimators live inside scikit-learn."""

import io
import os
import pickle
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space

pytest.importorskip("sklearn")

import joblib  # type: ignore[import-untyped]
import sklearn
from scipy import sparse, special
from sklearn import metrics, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight
from threadpoolctl import threadpool_info

import nnarray as nn
from nnarray import backends, engine
from nnarray.engine.workers import add_up
from nnarray.sklearn import LossCurveDisplay, MLPClassifier, MLPRegressor
from nnarray.sklearn.descent import EstimatorDescent

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

TINY: dict[str, Any] = {
    "hidden_layer_sizes": (5,),
    "batch_size": 16,
    "max_iter": 6,
    "random_state": 0,
    "learning_rate_init": 0.02,
}
FEW = TINY | {"batch_size": 30, "max_iter": 4}
SOLVERS = ("sgd", "adam", "lbfgs")
G: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda Z: Z,
    "logistic": special.expit,
    "tanh": np.tanh,
    "relu": lambda Z: np.where(Z > 0, Z, 0.0),
    "leaky_relu": lambda Z: np.where(Z > 0, Z, 0.01 * Z),
}


def open_library(library: str) -> None:
    """Skip with the reason where it cannot run."""
    reason = backends.unavailable_reason(library)
    if reason is not None:
        pytest.skip(f"{library}: {reason}")


def blobs(classes: int = 3, m: int = 60, n_x: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Examples around one centre for each class, of which there are ever fewer."""
    generator = np.random.default_rng(seed)
    shares = np.arange(classes, 0, -1) / (classes * (classes + 1) / 2)
    y = generator.choice(classes, m, p=shares)
    return generator.normal(size=(classes, n_x))[y] + generator.normal(size=(m, n_x)), y


def two_labels(m: int = 60) -> tuple[np.ndarray, np.ndarray]:
    X, _ = blobs(m=m)
    return X, np.stack([X[:, 0] > 0.5, X[:, 1] + X[:, 2] > 0], axis=1).astype(int)


def line(m: int = 60, n_x: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(m, n_x))
    return X, X @ generator.normal(size=n_x) + 0.1 * generator.normal(size=m)


def some_weights(m: int = 60) -> np.ndarray:
    return np.random.default_rng(5).uniform(0.2, 3, m)


def parameters(model: Any) -> np.ndarray:
    return np.concatenate([np.asarray(V).ravel() for V in (*model.coefs_, *model.intercepts_)])


def assert_same(found: Any, expected: Any, tolerance: float = 1e-8) -> None:
    """Two fitted models have the same parameters and losses."""
    np.testing.assert_allclose(parameters(found), parameters(expected), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.loss_, expected.loss_, rtol=tolerance)
    assert found.n_iter_ == expected.n_iter_


def first_parameters(sizes: Sequence[int], seed: int = 0) -> tuple[np.random.RandomState, list[np.ndarray]]:
    """What scikit-learn draws before training, and the state of the generator thereafter."""
    state, drawn = np.random.RandomState(seed), []
    for n_prev, n in pairwise(sizes):
        bound = np.sqrt(6 / (n_prev + n))
        drawn.append(state.uniform(-bound, bound, (n_prev, n)))
        drawn.append(state.uniform(-bound, bound, n))
    return state, drawn


def linear_output(model: Any, activations: Sequence[str], X: np.ndarray) -> np.ndarray:
    A = X
    for name, W, b in zip([*activations, "identity"], model.coefs_, model.intercepts_, strict=True):
        A = G[name](A @ W + b)
    return A


def mean_label_loss(Y: np.ndarray, A: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The log-loss of yes-or-no labels, summed over them."""
    losses = -(special.xlogy(Y, A) + special.xlogy(1 - Y, 1 - A)).sum(axis=1)
    return float(np.average(losses, weights=weights))


class TestClassWeight:
    @pytest.mark.parametrize("class_weight", [{0: 0.5, 1: 1.0, 2: 4.0}, {2: 7.0}, "balanced"], ids=str)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_it_is_a_sample_weight_by_class(self, solver: str, class_weight: Any) -> None:
        X, y = blobs()
        ours = MLPClassifier(**TINY, solver=solver, class_weight=class_weight).fit(X, y)
        theirs = neural_network.MLPClassifier(**TINY, solver=solver)
        assert_same(ours, theirs.fit(X, y, sample_weight=compute_sample_weight(class_weight, y)))

    @pytest.mark.parametrize("options", [{}, {"early_stopping": True, "validation_fraction": 0.3}], ids=str)
    @pytest.mark.parametrize("class_weight", [{0: 0.5, 1: 4.0}, "balanced"], ids=str)
    def test_it_multiplies_the_sample_weight(self, class_weight: Any, options: dict[str, Any]) -> None:
        X, y = blobs(classes=2)
        ours = MLPClassifier(**TINY, **options, class_weight=class_weight)
        theirs = neural_network.MLPClassifier(**TINY, **options)
        ours.fit(X, y, sample_weight=some_weights())
        assert_same(ours, theirs.fit(X, y, sample_weight=some_weights() * compute_sample_weight(class_weight, y)))
        assert ours.validation_scores_ == theirs.validation_scores_

    def test_several_labels_take_one_dict_each(self) -> None:
        X, Y = two_labels()
        ours = MLPClassifier(**TINY, class_weight=[{0: 1.0, 1: 3.0}, {0: 0.25, 1: 1.0}]).fit(X, Y)
        weights = np.where(Y[:, 0] == 1, 3.0, 1.0) * np.where(Y[:, 1] == 1, 1.0, 0.25)
        assert_same(ours, neural_network.MLPClassifier(**TINY).fit(X, Y, sample_weight=weights))

    def test_one_dict_for_several_labels_is_refused(self) -> None:
        X, Y = two_labels()
        with pytest.raises(ValueError, match="list of dicts"):
            MLPClassifier(**TINY, class_weight={0: 1.0, 1: 3.0}).fit(X, Y)

    def test_classes_that_are_text_are_weighted_by_name(self) -> None:
        X, y = blobs()
        names = np.array(["ham", "spam", "eggs"])[y]
        ours = MLPClassifier(**TINY, class_weight={"ham": 1.0, "spam": 5.0, "eggs": 0.5}).fit(X, names)
        weights = np.array([1.0, 5.0, 0.5])[y]
        theirs = neural_network.MLPClassifier(**TINY).fit(X, names, sample_weight=weights)
        assert_same(ours, theirs)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))

    def test_partial_fit_takes_it_by_class(self) -> None:
        X, y = blobs()
        ours = MLPClassifier(**TINY, class_weight={0: 0.5, 1: 1.0, 2: 4.0})
        theirs = neural_network.MLPClassifier(**TINY)
        for part in (slice(0, 30), slice(30, 60)):
            ours.partial_fit(X[part], y[part], classes=[0, 1, 2])
            weights = np.array([0.5, 1.0, 4.0])[y[part]]
            theirs.partial_fit(X[part], y[part], sample_weight=weights, classes=[0, 1, 2])
        assert_same(ours, theirs)

    def test_a_part_may_lack_the_class_that_is_weighted(self) -> None:
        X, y = blobs()
        ours = MLPClassifier(**TINY, class_weight={1: 3.0}).partial_fit(X, y, classes=[0, 1, 2])
        theirs = neural_network.MLPClassifier(**TINY)
        theirs.partial_fit(X, y, sample_weight=np.where(y == 1, 3.0, 1.0), classes=[0, 1, 2])
        ours.partial_fit(X[y != 1], y[y != 1])
        assert_same(ours, theirs.partial_fit(X[y != 1], y[y != 1]))

    def test_balanced_is_refused_where_not_all_examples_are_there(self) -> None:
        X, y = blobs()
        with pytest.raises(ValueError, match=r"balanced.*partial_fit"):
            MLPClassifier(**TINY, class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


class TestEarlyStoppingCurves:
    def aside(self, sizes: Sequence[int], y: np.ndarray, stratify: np.ndarray | None) -> np.ndarray:
        """The rows that scikit-learn sets aside."""
        state, _ = first_parameters(sizes)
        rows = np.arange(len(y))
        _, aside = train_test_split(rows, random_state=state, test_size=0.25, stratify=stratify)
        return np.asarray(aside)

    @pytest.mark.parametrize("weights", [None, some_weights()], ids=["unweighted", "weighted"])
    @pytest.mark.parametrize("classes", [2, 3])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_the_best_epoch_has_the_loss_and_accuracy_of_the_examples_set_aside(
        self, solver: str, classes: int, weights: np.ndarray | None
    ) -> None:
        X, y = blobs(classes)
        model = MLPClassifier(**TINY, solver=solver, early_stopping=True, validation_fraction=0.25)
        model.fit(X, y, sample_weight=weights)
        rows = self.aside((4, 5, 1 if classes == 2 else 3), y, y if classes == 2 else None)
        chosen = None if weights is None else weights[rows]
        best = int(np.argmax(model.validation_scores_))
        assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
        accuracy = metrics.accuracy_score(y[rows], model.predict(X[rows]), sample_weight=chosen)
        np.testing.assert_allclose(model.validation_scores_[best], accuracy, rtol=1e-12)
        loss = metrics.log_loss(y[rows], model.predict_proba(X[rows]), sample_weight=chosen)
        np.testing.assert_allclose(model.validation_loss_curve_[best], loss, rtol=1e-10)
        assert model.best_validation_score_ == model.validation_scores_[best]

    def test_a_regressor_has_half_the_squared_error_and_r2(self) -> None:
        X, y = line()
        model = MLPRegressor(**TINY, early_stopping=True, validation_fraction=0.25).fit(X, y)
        rows = self.aside((4, 5, 1), y, None)
        best = int(np.argmax(model.validation_scores_))
        np.testing.assert_allclose(model.validation_scores_[best], model.score(X[rows], y[rows]), rtol=1e-10)
        loss = metrics.mean_squared_error(y[rows], model.predict(X[rows])) / 2
        np.testing.assert_allclose(model.validation_loss_curve_[best], loss, rtol=1e-10)

    @pytest.mark.parametrize("part", ["training", "validation"])
    @pytest.mark.parametrize("is_classes", [True, False])
    @pytest.mark.parametrize("nothing", [0.0, 1e-320])
    def test_a_part_without_weight_is_refused(self, part: str, is_classes: bool, nothing: float) -> None:
        X, y = blobs(2) if is_classes else line()
        rows = self.aside((4, 5, 1), y, y if is_classes else None)
        weights = np.full(len(y), float(part == "validation"))
        weights[rows] = float(part == "training")
        model = (MLPClassifier if is_classes else MLPRegressor)(**TINY, early_stopping=True, validation_fraction=0.25)
        with pytest.raises(ValueError, match=f"sample_weight is 0, .* of the {part} part that early_stopping"):
            model.fit(X, y, sample_weight=np.where(weights == 0, nothing, weights))

    @pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
    @pytest.mark.parametrize(
        ("unit", "said"),
        [(-1.0, "must be ≥ 0, got -"), (1e306, "must be from .* in float64"), (1e-320, "must be from ")],
    )
    def test_weights_without_a_mean_are_refused(self, options: dict[str, Any], unit: float, said: str) -> None:
        for model, (X, y) in ((MLPClassifier, blobs(2)), (MLPRegressor, line())):
            with pytest.raises(ValueError, match=f"sample_weight.*{said}"):
                model(**{**TINY, **options}).fit(X, y, sample_weight=unit * (1 + np.arange(len(y)) % 3))

    def test_weights_of_classes_without_a_mean_are_refused(self) -> None:
        X, y = blobs(2)
        with pytest.raises(ValueError, match=r"class_weight with it, must be ≥ 0, got -2"):
            MLPClassifier(**TINY, class_weight={0: 1.0, 1: -2.0}).fit(X, y)

    @pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}], ids=str)
    def test_weights_and_alpha_in_another_unit_are_the_same_training(self, options: dict[str, Any]) -> None:
        X, y = line()
        weights, unit = 1.0 + np.arange(len(y)) % 3, 2.0**900
        losses = [
            MLPRegressor(**{**TINY, **options, "alpha": 0.01 * one}).fit(X, y, sample_weight=one * weights).loss_
            for one in (1.0, unit, 1 / unit)
        ]
        np.testing.assert_allclose(losses[1:], losses[0], rtol=1e-9)

    def test_without_validation_there_are_none(self) -> None:
        model = MLPClassifier(**TINY).fit(*blobs())
        assert model.validation_scores_ is None
        assert model.validation_loss_curve_ is None


class TestGivenValidation:
    X, y = blobs()
    X_val, y_val = blobs(m=31, seed=1)
    WEIGHTS = np.random.default_rng(2).uniform(0.2, 3, 31)

    @pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_each_iteration_has_the_loss_and_score_of_scikit_learns_model_then(
        self, solver: str, weights: np.ndarray | None
    ) -> None:
        options = {**TINY, "solver": solver, "alpha": 0.5}
        model = MLPClassifier(**options)
        model.fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val, sample_weight_val=weights)
        losses, scores = [], []
        for k in range(1, TINY["max_iter"] + 1):
            theirs = neural_network.MLPClassifier(**{**options, "max_iter": k}).fit(self.X, self.y)
            losses.append(metrics.log_loss(self.y_val, theirs.predict_proba(self.X_val), sample_weight=weights))
            scores.append(theirs.score(self.X_val, self.y_val, sample_weight=weights))
        np.testing.assert_allclose(model.validation_loss_curve_, losses, rtol=1e-7)
        np.testing.assert_allclose(model.validation_scores_, scores, rtol=1e-12)
        assert_same(model, theirs)

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_early_stopping_goes_by_it_and_trains_on_all_of_x(self, solver: str) -> None:
        options = {**TINY, "solver": solver, "max_iter": 40, "n_iter_no_change": 3}
        model = MLPClassifier(**options, early_stopping=True)
        model.fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val)
        best = int(np.argmax(model.validation_scores_))
        assert model.n_iter_ < 40
        assert model.best_validation_score_ == model.score(self.X_val, self.y_val)
        theirs = neural_network.MLPClassifier(**{**options, "max_iter": best + 1}).fit(self.X, self.y)
        np.testing.assert_allclose(parameters(model), parameters(theirs), rtol=1e-8)

    def test_lbfgs_records_it_and_stops_where_it_would(self) -> None:
        options = {**TINY, "solver": "lbfgs", "early_stopping": True}
        model = MLPClassifier(**options).fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val)
        assert_same(model, neural_network.MLPClassifier(**options).fit(self.X, self.y))
        assert len(model.validation_scores_) == model.n_iter_
        assert model.validation_scores_[-1] == model.score(self.X_val, self.y_val)

    def test_the_weights_of_the_classes_are_those_of_the_validation_examples_too(self) -> None:
        model = MLPClassifier(**TINY, class_weight={0: 1.0, 1: 5.0, 2: 0.5})
        model.fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val, sample_weight_val=self.WEIGHTS)
        weights = self.WEIGHTS * np.array([1.0, 5.0, 0.5])[self.y_val]
        loss = metrics.log_loss(self.y_val, model.predict_proba(self.X_val), sample_weight=weights)
        np.testing.assert_allclose(model.validation_loss_curve_[-1], loss, rtol=1e-10)

    def test_several_labels_have_the_sum_of_their_losses_and_the_accuracy_of_all(self) -> None:
        X, Y = two_labels()
        model = MLPClassifier(**TINY).fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:])
        A = model.predict_proba(X[40:])
        np.testing.assert_allclose(model.validation_loss_curve_[-1], mean_label_loss(Y[40:], A), rtol=1e-10)
        assert model.validation_scores_[-1] == np.all((A > 0.5) == Y[40:], axis=1).mean()

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_regressor_has_its_loss_without_the_penalty_and_r2(self, solver: str) -> None:
        X, y = line()
        counts = np.round(np.exp(y / 2))
        of_counts = MLPRegressor(**TINY, solver=solver, alpha=2.0, loss="poisson")
        of_counts.fit(X[:40], counts[:40], X_val=X[40:], y_val=counts[40:])
        deviance = metrics.mean_poisson_deviance(counts[40:], of_counts.predict(X[40:]))
        np.testing.assert_allclose(of_counts.validation_loss_curve_[-1], deviance / 2, rtol=1e-10)
        Y = np.stack([y, -2 * y], axis=1)
        of_two = MLPRegressor(**TINY, solver=solver, alpha=2.0)
        of_two.fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:], sample_weight_val=some_weights()[40:])
        error = metrics.mean_squared_error(Y[40:], of_two.predict(X[40:]), sample_weight=some_weights()[40:])
        np.testing.assert_allclose(of_two.validation_loss_curve_[-1], error / 2, rtol=1e-10)
        score = of_two.score(X[40:], Y[40:], sample_weight=some_weights()[40:])
        np.testing.assert_allclose(of_two.validation_scores_[-1], score, rtol=1e-10)

    def test_a_table_larger_than_a_tile_is_added_up_whole(self) -> None:
        X_val, y_val = blobs(m=9000, seed=3)
        model = MLPClassifier(**TINY).fit(self.X, self.y, X_val=X_val, y_val=y_val)
        loss = metrics.log_loss(y_val, model.predict_proba(X_val))
        np.testing.assert_allclose(model.validation_loss_curve_[-1], loss, rtol=1e-10)
        assert model.validation_scores_[-1] == model.score(X_val, y_val)

    def test_it_may_lack_classes_and_know_no_others(self) -> None:
        few = self.y_val < 2
        model = MLPClassifier(**TINY).fit(self.X, self.y, X_val=self.X_val[few], y_val=self.y_val[few])
        assert model.validation_scores_[-1] == model.score(self.X_val[few], self.y_val[few])
        with pytest.raises(ValueError, match=r"y_val.*classes.*7"):
            MLPClassifier(**TINY).fit(self.X, self.y, X_val=self.X_val, y_val=np.where(few, self.y_val, 7))
        with pytest.raises(ValueError, match=r"y_val.*classes.*eggs"):
            MLPClassifier(**TINY).fit(
                self.X, np.array(["ham", "spam", "spam"])[self.y], X_val=self.X_val[:2], y_val=["eggs", "ham"]
            )

    def test_one_half_of_it_is_refused(self) -> None:
        with pytest.raises(ValueError, match="y_val"):
            MLPClassifier(**TINY).fit(self.X, self.y, X_val=self.X_val)
        with pytest.raises(ValueError, match="X_val"):
            MLPClassifier(**TINY).fit(self.X, self.y, y_val=self.y_val)
        with pytest.raises(ValueError, match="X_val"):
            MLPClassifier(**TINY).fit(self.X, self.y, sample_weight_val=self.WEIGHTS)

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="features"):
            MLPClassifier(**TINY).fit(self.X, self.y, X_val=self.X_val[:, :2], y_val=self.y_val)
        with pytest.raises(ValueError, match="NaN"):
            MLPClassifier(**TINY).fit(self.X, self.y, X_val=np.full((31, 4), np.nan), y_val=self.y_val)
        with pytest.raises(ValueError, match="inconsistent"):
            MLPClassifier(**TINY).fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val[:5])
        with pytest.raises(ValueError, match="sample_weight"):
            MLPClassifier(**TINY).fit(
                self.X, self.y, X_val=self.X_val, y_val=self.y_val, sample_weight_val=self.WEIGHTS[:5]
            )

    def test_other_outputs_than_those_of_y_are_refused(self) -> None:
        X, y = line()
        with pytest.raises(ValueError, match="output"):
            MLPRegressor(**TINY).fit(X, np.stack([y, y], axis=1), X_val=X, y_val=y)
        with pytest.raises(ValueError, match="output"):
            MLPRegressor(**TINY).fit(X, y, X_val=X, y_val=np.stack([y, y], axis=1))

    def test_its_curves_go_on_where_training_does(self) -> None:
        model = MLPClassifier(**TINY, warm_start=True)
        for fits in (1, 2):
            model.fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val)
            assert len(model.validation_loss_curve_) == len(model.loss_curve_) == 6 * fits
        model.set_params(warm_start=False).fit(self.X, self.y, X_val=self.X_val, y_val=self.y_val)
        assert len(model.validation_loss_curve_) == 6


class TestLBFGSCurve:
    @pytest.mark.parametrize("weights", [None, some_weights()], ids=["unweighted", "weighted"])
    def test_it_only_falls_and_ends_at_the_loss(self, weights: np.ndarray | None) -> None:
        options = {**TINY, "solver": "lbfgs", "max_iter": 50, "alpha": 0.01}
        model = MLPClassifier(**options).fit(*blobs(), sample_weight=weights)
        assert len(model.loss_curve_) == model.n_iter_ > 10
        assert np.all(np.diff(model.loss_curve_) < 0)
        assert model.loss_curve_[-1] == model.loss_
        theirs = neural_network.MLPClassifier(**{**options, "max_iter": 3}).fit(*blobs(), sample_weight=weights)
        np.testing.assert_allclose(model.loss_curve_[2], theirs.loss_, rtol=1e-10)


class TestActivations:
    @pytest.mark.parametrize(
        "names", [["tanh", "relu"], ("logistic", "leaky_relu"), np.array(["leaky_relu", "identity"])], ids=str
    )
    def test_each_layer_has_its_own(self, names: Sequence[str]) -> None:
        X, y = blobs()
        model = MLPClassifier(**{**TINY, "hidden_layer_sizes": (5, 3)}, activation=names).fit(X, y)
        expected = special.softmax(linear_output(model, list(names), X), axis=1)
        np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-12)

    @pytest.mark.parametrize(
        "names", [["leaky_relu", "leaky_relu"], ["relu", "tanh"], ["tanh", "leaky_relu"], ["logistic", "identity"]]
    )
    def test_one_step_goes_against_the_finite_differences_of_the_loss(self, names: list[str]) -> None:
        X, y = line(m=11)
        options: dict[str, Any] = {
            "hidden_layer_sizes": (4, 3),
            "solver": "sgd",
            "momentum": 0.0,
            "max_iter": 1,
            "random_state": 3,
        }
        start, end = (
            MLPRegressor(**options, activation=names, alpha=0.0, learning_rate_init=rate).fit(X, y)
            for rate in (1e-300, 0.5)
        )

        def loss() -> float:
            return float(np.mean((linear_output(start, names, X)[:, 0] - y) ** 2) / 2)

        for before, after in zip((*start.coefs_, *start.intercepts_), (*end.coefs_, *end.intercepts_), strict=True):
            for i in np.ndindex(before.shape):
                value, step = before[i], 1e-6
                before[i] = value + step
                above = loss()
                before[i] = value - step
                slope = (above - loss()) / (2 * step)
                before[i] = value
                assert (value - after[i]) / 0.5 == pytest.approx(slope, rel=1e-5, abs=1e-8)

    def test_a_list_of_the_same_is_that_one_for_all(self) -> None:
        options = {**TINY, "hidden_layer_sizes": (5, 3)}
        of_list = MLPClassifier(**options, activation=["logistic", "logistic"]).fit(*blobs())
        assert_same(of_list, neural_network.MLPClassifier(**options, activation="logistic").fit(*blobs()))

    def test_leaky_relu_is_one_for_all_layers_too(self) -> None:
        X, y = line()
        model = MLPRegressor(**{**TINY, "hidden_layer_sizes": (5, 3)}, activation="leaky_relu").fit(X, y)
        expected = linear_output(model, ["leaky_relu"] * 2, X)[:, 0]
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)

    def test_no_hidden_layer_has_no_activation(self) -> None:
        options = {**TINY, "hidden_layer_sizes": ()}
        model = MLPClassifier(**options, activation=[]).fit(*blobs())
        assert_same(model, neural_network.MLPClassifier(**options).fit(*blobs()))

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("names", [["relu"], ["relu"] * 3, ["relu", "swish"], []], ids=str)
    def test_a_wrong_list_is_refused_with_what_would_be_right(self, names: list[str], solver: str) -> None:
        model = MLPClassifier(hidden_layer_sizes=(5, 3), activation=names, solver=solver)
        with pytest.raises(ValueError, match=r"activation must be one of .*leaky_relu.* one per hidden layer \(2\)"):
            model.fit(*blobs())

    @pytest.mark.parametrize("name", ["swish", 5, None])
    def test_a_wrong_one_is_refused_with_what_would_be_right(self, name: Any) -> None:
        with pytest.raises(ValueError, match=r"'activation' parameter .*must be .*leaky_relu"):
            MLPClassifier(activation=name).fit(*blobs())


class TestDropout:
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_the_seed_decides_what_is_dropped(self, solver: str) -> None:
        def trained(**options: Any) -> np.ndarray:
            return parameters(MLPClassifier(**{**TINY, "solver": solver, "dropout": 0.3} | options).fit(*blobs()))

        np.testing.assert_array_equal(trained(), trained())
        assert np.any(trained() != trained(random_state=1))
        assert np.any(trained() != trained(dropout=0.0))

    @pytest.mark.parametrize("dropout", [0.0, 0, [0.0, 0.0]], ids=str)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_none_draws_nothing(self, solver: str, dropout: Any) -> None:
        state, expected = np.random.RandomState(0), np.random.RandomState(0)
        options = {**TINY, "hidden_layer_sizes": (5, 3), "solver": solver}
        ours = MLPClassifier(**{**options, "random_state": state}, dropout=dropout).fit(*blobs())
        assert_same(ours, neural_network.MLPClassifier(**{**options, "random_state": expected}).fit(*blobs()))
        assert state.randint(2**31) == expected.randint(2**31)

    def test_one_update_is_the_equations_with_the_masks_of_each_layers_rate(self) -> None:
        rates, rate_of_learning = (0.25, 0.6), 0.01
        generator = np.random.default_rng(0)
        x, y = generator.normal(size=(1, 3)), np.array([2.0])
        model = MLPRegressor(
            hidden_layer_sizes=(2000, 1500), activation="identity", solver="sgd", momentum=0.0, alpha=0.0,
            learning_rate_init=rate_of_learning, max_iter=1, random_state=0, dropout=list(rates),
        ).fit(x, y)  # fmt: skip
        _, (W1, b1, W2, b2, W3, b3) = first_parameters((3, 2000, 1500, 1))
        kept = [np.any(after != before, axis=1) for before, after in ((W2, model.coefs_[1]), (W3, model.coefs_[2]))]
        np.testing.assert_allclose([1 - k.mean() for k in kept], rates, atol=0.04)
        D1, D2 = (k / (1 - rate) for k, rate in zip(kept, rates, strict=True))
        A1 = D1 * (x @ W1 + b1)
        A2 = D2 * (A1 @ W2 + b2)
        dZ3 = A2 @ W3 + b3 - y
        dZ2 = D2 * (dZ3 @ W3.T)
        dZ1 = D1 * (dZ2 @ W2.T)
        expected = (W1, x.T @ dZ1), (W2, A1.T @ dZ2), (W3, A2.T @ dZ3), (b1, dZ1[0]), (b2, dZ2[0]), (b3, dZ3[0])
        for found, (before, gradient) in zip((*model.coefs_, *model.intercepts_), expected, strict=True):
            np.testing.assert_allclose(found, before - rate_of_learning * gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(model.loss_, 0.5 * dZ3[0, 0] ** 2, rtol=1e-10)

    def test_predictions_and_validation_drop_nothing(self) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY, dropout=0.5).fit(X, y, X_val=X, y_val=y)
        A = special.softmax(linear_output(model, ["relu"], X), axis=1)
        np.testing.assert_allclose(model.predict_proba(X), A, rtol=1e-12)
        np.testing.assert_allclose(model.validation_loss_curve_[-1], metrics.log_loss(y, A), rtol=1e-10)

    def test_partial_fit_drops_too(self) -> None:
        X, y = line()
        dropped, whole = (MLPRegressor(**TINY, dropout=rate).partial_fit(X, y) for rate in (0.5, 0.0))
        assert np.any(parameters(dropped) != parameters(whole))

    @pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csr_matrix, sparse.csc_matrix])
    def test_inputs_drop_alike_in_dense_and_sparse_tables(self, make: Any) -> None:
        X, y = blobs()
        X = np.where(X > 0, X, 0.0)
        options = {**TINY, "solver": "sgd", "input_dropout": 0.4, "shuffle": False}
        expected, found = (parameters(MLPClassifier(**options).fit(V, y)) for V in (X, make(X)))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        assert np.any(expected != parameters(MLPClassifier(**options | {"input_dropout": 0.0}).fit(X, y)))

    @pytest.mark.parametrize("strength", [-0.1, "half", [0.1], None, np.nan], ids=str)
    def test_what_is_no_l1_penalty_is_refused(self, strength: Any) -> None:
        with pytest.raises(ValueError, match="l1"):
            MLPClassifier(l1=strength, max_iter=2).fit(*blobs())

    def test_lbfgs_refuses_an_l1_penalty(self) -> None:
        with pytest.raises(ValueError, match=r'l1 needs solver="sgd" or "adam"'):
            MLPClassifier(solver="lbfgs", l1=0.2).fit(*blobs())

    @pytest.mark.parametrize("dropout", [0.0, 0.2])
    def test_an_l1_penalty_is_that_of_train(self, dropout: float) -> None:
        """One update of a whole batch, captured or not, and the loss that is reported of it."""
        X, y = blobs()
        options = {**TINY, "solver": "sgd", "momentum": 0.0, "max_iter": 1, "batch_size": len(X), "shuffle": False}
        plain, model = (MLPRegressor(**options, l1=l1, dropout=dropout).fit(X, y) for l1 in (0.0, 0.7))
        first = first_parameters((X.shape[1], *TINY["hidden_layer_sizes"], 1))[1][::2]
        rate = model.learning_rate_init
        for W, W_plain, W_first in zip(model.coefs_, plain.coefs_, first, strict=True):
            np.testing.assert_allclose(W, W_plain - rate * 0.7 / len(X) * np.sign(W_first), rtol=1e-10, atol=1e-14)
        magnitude = sum(np.abs(W).sum() for W in first)
        assert model.loss_ - plain.loss_ == pytest.approx(0.7 / len(X) * magnitude, rel=1e-9)

    @pytest.mark.parametrize("rate", [1.0, -0.1, "half", [0.1], None], ids=str)
    def test_what_is_no_rate_of_inputs_is_refused(self, rate: Any) -> None:
        with pytest.raises(ValueError, match="input_dropout"):
            MLPClassifier(input_dropout=rate, max_iter=2).fit(*blobs())

    def test_lbfgs_refuses_that_of_inputs(self) -> None:
        with pytest.raises(ValueError, match=r'dropout needs solver="sgd" or "adam"'):
            MLPClassifier(hidden_layer_sizes=(5, 3), solver="lbfgs", input_dropout=0.2).fit(*blobs())

    @pytest.mark.parametrize("dropout", [0.3, [0.0, 0.3]], ids=str)
    def test_lbfgs_refuses_it(self, dropout: Any) -> None:
        with pytest.raises(ValueError, match=r'dropout needs solver="sgd" or "adam"'):
            MLPClassifier(hidden_layer_sizes=(5, 3), solver="lbfgs", dropout=dropout).fit(*blobs())

    @pytest.mark.parametrize("dropout", [1.0, -0.1, "half", [0.1], [0.1, 0.2, 0.3], [0.1, 1.0], [0.1, None]], ids=str)
    def test_what_is_no_rate_per_layer_is_refused(self, dropout: Any) -> None:
        with pytest.raises((ValueError, TypeError), match="dropout"):
            MLPClassifier(hidden_layer_sizes=(5, 3), dropout=dropout, max_iter=2).fit(*blobs())


class TestBackend:
    @pytest.mark.parametrize(
        "options",
        [
            {"solver": "sgd", "learning_rate": "adaptive"},
            {"solver": "adam", "early_stopping": True, "validation_fraction": 0.2},
            {"solver": "adam", "dropout": 0.2, "class_weight": "balanced"},
            {"solver": "lbfgs"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("library", ["torch", "jax", "cupy"])
    def test_it_computes_the_same_numbers_and_gives_numpy_back(self, library: str, options: dict[str, Any]) -> None:
        open_library(library)
        X, y = blobs()
        expected, found = (
            MLPClassifier(**FEW, **options, backend=name).fit(X, y, some_weights(), X_val=X_val, y_val=y_val)
            for X_val, y_val in [(None, None) if "early_stopping" in options else (X[:9], y[:9])]
            for name in ("numpy", library)
        )
        assert_same(found, expected)
        np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-8)
        np.testing.assert_allclose(found.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-8)
        np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-12)
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), rtol=1e-8)
        np.testing.assert_array_equal(found.predict(X), expected.predict(X))
        for V in (*found.coefs_, *found.intercepts_, found.predict_proba(X), found.predict(X), found.classes_):
            assert type(V) is np.ndarray
        assert {type(loss) for loss in (found.loss_, *found.loss_curve_, *found.validation_loss_curve_)} == {float}

    @pytest.mark.parametrize("library", ["torch", "jax", "cupy"])
    def test_partial_fit_and_a_backend_that_changes_go_on_from_the_same_parameters(self, library: str) -> None:
        open_library(library)
        X, y = line()
        expected, found = MLPRegressor(**FEW), MLPRegressor(**FEW, backend=library)
        for _ in range(2):
            expected.partial_fit(X, y)
            found.partial_fit(X, y)
        assert_same(found, expected)
        at_library = found.predict(X)
        assert type(at_library) is np.ndarray
        np.testing.assert_allclose(found.set_params(backend="numpy").predict(X), at_library, rtol=1e-10)

    @pytest.mark.parametrize("library", ["torch", "jax", "cupy"])
    def test_a_model_fitted_elsewhere_is_pickled_and_goes_on(self, library: str) -> None:
        open_library(library)
        X, y = line()
        model = MLPRegressor(**FEW, backend=library).fit(X, y)
        copied = pickle.loads(pickle.dumps(model))
        assert_same(copied.partial_fit(X, y), model.partial_fit(X, y))

    def test_one_that_was_opened_is_cloned_and_pickled_with_the_model(self) -> None:
        model = MLPClassifier(**FEW, backend=nn.backend("numpy"))
        for copied in (clone(model), pickle.loads(pickle.dumps(model))):
            assert_same(copied.fit(*blobs()), MLPClassifier(**FEW).fit(*blobs()))

    def test_an_unknown_one_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(ValueError, match=r"no backend 'tensorflow'; the backends are .*numpy.*torch"):
            MLPClassifier(backend="tensorflow").fit(*blobs())

    @pytest.mark.parametrize("backend", [3, ["numpy"], np])
    def test_what_is_no_name_is_refused(self, backend: Any) -> None:
        with pytest.raises(ValueError, match="'backend' parameter"):
            MLPClassifier(backend=backend).fit(*blobs())

    def test_a_sparse_x_stays_on_numpy(self) -> None:
        pytest.importorskip("torch")
        X, y = blobs()
        with pytest.raises(TypeError, match=r"sparse.*numpy"):
            MLPClassifier(backend="torch").fit(sparse.csr_array(X), y)


class TestDtype:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("given", ["float32", "float64", "int64"])
    @pytest.mark.parametrize("wanted", [None, "float32", "float64"])
    def test_it_is_the_wanted_one_else_that_of_x(self, wanted: str | None, given: str, solver: str) -> None:
        X, y = blobs()
        X = (4 * X).round().astype(given)
        model = MLPClassifier(**TINY, solver=solver, dtype=wanted).fit(X, y)
        dtype = wanted or ("float32" if given == "float32" else "float64")
        assert {V.dtype.name for V in (*model.coefs_, *model.intercepts_)} == {dtype}
        assert model.predict_proba(X).dtype == model.predict_log_proba(X).dtype == dtype
        theirs = neural_network.MLPClassifier(**TINY, solver=solver).fit(X.astype(dtype), y)
        tolerance = 1e-8 if dtype == "float64" else 2e-2
        np.testing.assert_allclose(parameters(model), parameters(theirs), rtol=tolerance, atol=tolerance)

    def test_a_regressor_predicts_in_it(self) -> None:
        X, y = line()
        assert MLPRegressor(**TINY).fit(X.astype("float32"), y).predict(X.astype("float32")).dtype == "float32"
        assert MLPRegressor(**TINY, dtype="float32").fit(X, y).predict(X).dtype == "float32"
        assert MLPRegressor(**TINY, dtype="float64").fit(X.astype("float32"), y).predict(X).dtype == "float64"

    def test_another_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'dtype' parameter"):
            MLPClassifier(dtype="float16").fit(*blobs())


class TestWorkers:
    @pytest.mark.parametrize("solver", ["lbfgs", "adam"])
    def test_their_number_is_heeded_and_changes_no_bit(self, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
        X, y = blobs(m=20_000)
        options = {**TINY, "batch_size": 20_000, "max_iter": 4, "solver": solver}
        asked: list[Any] = []

        def spy(tiles: int, *args: Any) -> Any:
            asked.append(args[-1])
            assert tiles > 4
            return add_up(tiles, *args)

        monkeypatch.setattr("nnarray.engine.compute.add_up", spy)
        found = []
        for workers in (1, 2):
            asked.clear()
            model = MLPClassifier(**options, workers=workers).fit(X, y, some_weights(20_000))
            found.append((parameters(model), model.predict_proba(X), model.loss_curve_))
            assert set(asked) == {workers}
        for one, two in zip(*found, strict=True):
            np.testing.assert_array_equal(one, two)

    def test_none_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'workers' parameter"):
            MLPClassifier(workers=0).fit(*blobs())


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix, sparse.csc_matrix])
class TestSparse:
    def holed(self, m: int = 60) -> tuple[np.ndarray, np.ndarray]:
        X, y = blobs(m=m, n_x=7)
        return np.where(np.random.default_rng(4).random(X.shape) < 0.6, 0.0, X), y

    @pytest.mark.parametrize("options", [{}, {"early_stopping": True, "validation_fraction": 0.3}, {"shuffle": False}])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_fit_and_predictions_are_those_of_the_dense_x(
        self, solver: str, options: dict[str, Any], kind: Any
    ) -> None:
        X, y = self.holed()
        model = MLPClassifier(**TINY, solver=solver, **options).fit(kind(X), y)
        dense = neural_network.MLPClassifier(**TINY, solver=solver, **options).fit(X, y)
        assert_same(model, dense)
        if "early_stopping" in options and solver != "lbfgs":
            np.testing.assert_allclose(model.validation_scores_, dense.validation_scores_, rtol=1e-12)
        np.testing.assert_allclose(model.predict_proba(kind(X)), dense.predict_proba(X), rtol=1e-8)
        np.testing.assert_array_equal(model.predict(kind(X)), dense.predict(X))
        assert type(model.predict_proba(kind(X))) is np.ndarray

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_partial_fit_is_that_of_the_dense_x(self, solver: str, shuffle: bool, kind: Any) -> None:
        X, y = self.holed()
        options = {**TINY, "solver": solver, "shuffle": shuffle}
        model, dense = MLPClassifier(**options), neural_network.MLPClassifier(**options)
        for part in (slice(0, 25), slice(25, 60)):
            model.partial_fit(kind(X[part]), y[part], classes=[0, 1, 2], sample_weight=some_weights()[part])
            dense.partial_fit(X[part], y[part], classes=[0, 1, 2], sample_weight=some_weights()[part])
        assert_same(model, dense)

    def test_a_regressor_its_weights_and_its_validation_are_those_of_the_dense_x(self, kind: Any) -> None:
        X, y = self.holed()
        Y = np.stack([X @ np.arange(7.0), y], axis=1)
        model, dense = (
            MLPRegressor(**TINY).fit(of(X[:45]), Y[:45], some_weights()[:45], X_val=of(X[45:]), y_val=Y[45:])
            for of in (kind, np.asarray)
        )
        assert_same(model, dense)
        np.testing.assert_allclose(model.validation_loss_curve_, dense.validation_loss_curve_, rtol=1e-8)
        np.testing.assert_allclose(model.predict(kind(X)), dense.predict(X), rtol=1e-8)

    def test_many_tiles_are_those_of_the_dense_x(self, kind: Any) -> None:
        X, y = self.holed(m=9000)
        options = {**TINY, "solver": "lbfgs", "max_iter": 3}
        assert_same(MLPClassifier(**options).fit(kind(X), y), MLPClassifier(**options).fit(X, y))

    def test_float32_stays_float32(self, kind: Any) -> None:
        X, y = self.holed()
        model = MLPClassifier(**TINY).fit(kind(X.astype("float32")), y)
        assert {V.dtype.name for V in (*model.coefs_, *model.intercepts_)} == {"float32"}
        assert model.predict_proba(kind(X.astype("float32"))).dtype == "float32"


class TestMemmap:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_table_on_disk_is_trained_on_as_one_in_memory(self, solver: str, dtype: str, tmp_path: Path) -> None:
        X, y = blobs()
        np.save(tmp_path / "X.npy", X.astype(dtype))
        on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
        assert isinstance(on_disk, np.memmap)
        options = {**TINY, "solver": solver, "dtype": "float64"}
        model = MLPClassifier(**options).fit(on_disk, y)
        in_memory = MLPClassifier(**options).fit(X.astype(dtype), y)
        np.testing.assert_array_equal(parameters(model), parameters(in_memory))
        np.testing.assert_array_equal(model.predict_proba(on_disk), in_memory.predict_proba(X.astype(dtype)))
        assert {type(V) for V in (*model.coefs_, model.predict_proba(on_disk))} == {np.ndarray}

    def test_one_of_many_tiles_does_too(self, tmp_path: Path) -> None:
        X, y = blobs(m=9000)
        on_disk = np.memmap(tmp_path / "X", "float64", "w+", shape=X.shape)
        on_disk[:] = X
        options = {**TINY, "solver": "lbfgs", "max_iter": 3}
        model = MLPClassifier(**options).fit(on_disk, y)
        np.testing.assert_array_equal(parameters(model), parameters(MLPClassifier(**options).fit(X, y)))


class TestVerbose:
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_progress_is_a_bar_on_standard_error_only(self, solver: str, capsys: pytest.CaptureFixture[str]) -> None:
        MLPClassifier(**TINY, solver=solver, verbose="progress").fit(*blobs())
        out, err = capsys.readouterr()
        assert out == ""
        assert re.search(r"100%\|.*\| 6/6 \[.*cost=", err)

    def test_the_bar_shows_the_validation_score(self, capsys: pytest.CaptureFixture[str]) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY, verbose="progress").fit(X, y, X_val=X, y_val=y)
        assert f"validation score={model.validation_scores_[-1]:.4f}" in capsys.readouterr().err

    def test_without_it_nothing_is_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        MLPClassifier(**TINY).fit(*blobs())
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("early_stopping", [True, False])
    @pytest.mark.parametrize("rate", ["constant", "adaptive"])
    def test_true_prints_what_scikit_learn_prints(
        self, rate: str, early_stopping: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = {
            **TINY, "solver": "sgd", "learning_rate": rate, "learning_rate_init": 1e-5, "tol": 0.01,
            "n_iter_no_change": 2, "max_iter": 40, "verbose": True, "early_stopping": early_stopping,
        }  # fmt: skip
        neural_network.MLPClassifier(**options).fit(*blobs())
        expected = capsys.readouterr()
        MLPClassifier(**options).fit(*blobs())
        assert capsys.readouterr() == expected
        assert ("Setting learning rate to" in expected.out) == (rate == "adaptive")
        assert ("Validation score:" in expected.out) == early_stopping
        assert "Stopping." in expected.out


class TestLossCurveDisplay:
    @pytest.fixture(autouse=True)
    def plt(self) -> Iterator[Any]:
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        yield plt
        plt.close("all")

    def test_its_lines_are_the_losses_of_training_and_validation(self) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY).fit(X, y, X_val=X[:9], y_val=y[:9])
        display = LossCurveDisplay.from_estimator(model)
        training, validation = display.lines_
        np.testing.assert_array_equal(training.get_xdata(), range(1, 7))
        np.testing.assert_array_equal(training.get_ydata(), model.loss_curve_)
        np.testing.assert_array_equal(validation.get_xdata(), range(1, 7))
        np.testing.assert_array_equal(validation.get_ydata(), model.validation_loss_curve_)
        assert display.ax_.lines[:] == [training, validation]
        assert display.figure_ is display.ax_.figure

    def test_it_names_its_axes_and_lines(self) -> None:
        X, y = blobs()
        display = LossCurveDisplay.from_estimator(MLPClassifier(**TINY).fit(X, y, X_val=X[:9], y_val=y[:9]))
        assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("iteration", "loss")
        labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert labels == ["MLPClassifier, training (with penalty)", "MLPClassifier, validation"]

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_without_validation_there_is_one_line(self, solver: str) -> None:
        model = MLPRegressor(**TINY, solver=solver).fit(*line())
        display = LossCurveDisplay.from_estimator(model)
        assert [drawn.get_label() for drawn in display.lines_] == ["MLPRegressor, training (with penalty)"]
        np.testing.assert_array_equal(display.lines_[0].get_ydata(), model.loss_curve_)

    def test_it_draws_into_given_axes_under_a_given_name(self, plt: Any) -> None:
        model = MLPRegressor(**TINY).fit(*line())
        figure, (_, ax) = plt.subplots(1, 2)
        for name in ("first", "second"):
            display = LossCurveDisplay.from_estimator(model, ax=ax, name=name, color="black")
            assert display.ax_ is ax
            assert display.figure_ is figure
        assert [drawn.get_label().partition(",")[0] for drawn in ax.lines] == ["first", "second"]
        assert {drawn.get_color() for drawn in ax.lines} == {"black"}
        assert len(plt.get_fignums()) == 1

    @pytest.mark.parametrize("scale", ["linear", "log"])
    def test_given_axes_may_be_logarithmic(self, scale: str, plt: Any) -> None:
        _, ax = plt.subplots()
        ax.set(xscale=scale, yscale=scale)
        LossCurveDisplay.from_estimator(MLPRegressor(**TINY).fit(*line()), ax=ax).figure_.canvas.draw()
        assert ax.get_xscale() == ax.get_yscale() == scale

    def test_it_is_made_of_curves_alone(self) -> None:
        display = LossCurveDisplay(loss_curve=[3.0, 2.0], validation_loss_curve=[4.0, 3.5]).plot()
        assert [drawn.get_label() for drawn in display.lines_] == ["training (with penalty)", "validation"]
        display.plot(name="again")
        assert display.lines_[1].get_label() == "again, validation"

    def test_it_is_saved_as_a_picture(self) -> None:
        file = io.BytesIO()
        LossCurveDisplay.from_estimator(MLPRegressor(**TINY).fit(*line())).figure_.savefig(file, format="png")
        assert file.getvalue().startswith(b"\x89PNG")

    def test_what_is_not_fitted_is_refused(self) -> None:
        with pytest.raises(NotFittedError):
            LossCurveDisplay.from_estimator(MLPClassifier())


class TestInsideScikitLearn:
    def test_a_pipeline_hands_it_tables_with_names(self) -> None:
        pandas = pytest.importorskip("pandas")
        X, y = blobs()
        table = pandas.DataFrame(X, columns=list("abcd"))
        model = make_pipeline(StandardScaler(), MLPClassifier(**TINY)).set_output(transform="pandas").fit(table, y)
        theirs = make_pipeline(StandardScaler(), neural_network.MLPClassifier(**TINY)).fit(X, y)
        assert list(model[-1].feature_names_in_) == list("abcd")
        np.testing.assert_allclose(model.predict_proba(table), theirs.predict_proba(X), rtol=1e-8)
        with pytest.raises(ValueError, match="feature names"):
            model[-1].predict(model[0].transform(table).rename(columns={"a": "z"}))

    def test_a_pipeline_transforms_the_validation_examples(self) -> None:
        X, y = blobs()
        with sklearn.config_context(enable_metadata_routing=True):
            last = MLPClassifier(**TINY).set_fit_request(X_val=True, y_val=True)
            steps = [("scale", StandardScaler()), ("mlp", last)]
            model = Pipeline(steps, transform_input=["X_val"]).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
        loss = metrics.log_loss(y[40:], model.predict_proba(X[40:]))
        np.testing.assert_allclose(model[-1].validation_loss_curve_[-1], loss, rtol=1e-10)

    def test_a_grid_search_in_processes_finds_what_scikit_learns_finds(self) -> None:
        X, y = blobs()
        grid = {"hidden_layer_sizes": [(3,), (5, 4)], "alpha": [1e-4, 1.0]}
        ours, theirs = (
            GridSearchCV(model, grid, cv=3, n_jobs=jobs, scoring="neg_log_loss").fit(X, y)
            for model, jobs in ((MLPClassifier(**TINY), 2), (neural_network.MLPClassifier(**TINY), 1))
        )
        assert ours.best_params_ == theirs.best_params_
        for column in ("mean_test_score", "std_test_score"):
            np.testing.assert_allclose(ours.cv_results_[column], theirs.cv_results_[column], rtol=1e-7)
        assert_same(ours.best_estimator_, theirs.best_estimator_)

    def test_a_grid_search_chooses_among_what_only_nnarray_has(self) -> None:
        X, y = blobs()
        grid = {"activation": ["relu", ["tanh"], ["leaky_relu"]], "dropout": [0.0, [0.3]], "class_weight": [{0: 2.0}]}
        found = GridSearchCV(MLPClassifier(**TINY), grid, cv=2).fit(X, y)
        assert np.isfinite(found.cv_results_["mean_test_score"]).all()
        assert len(set(found.cv_results_["mean_test_score"])) > 1

    def test_it_is_calibrated_as_scikit_learns_is(self) -> None:
        X, y = blobs()
        ours, theirs = (
            CalibratedClassifierCV(model, cv=2).fit(X, y, sample_weight=some_weights()).predict_proba(X)
            for model in (MLPClassifier(**TINY), neural_network.MLPClassifier(**TINY))
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)

    def test_a_clone_has_the_parameters_and_was_not_fitted(self) -> None:
        own: dict[str, Any] = {
            "activation": ["tanh"],
            "dropout": [0.1],
            "class_weight": {0: 2.0},
            "dtype": "float32",
            "workers": 1,
        }
        model = MLPClassifier(**TINY, **own).fit(*blobs())
        copied = clone(model)
        assert copied.get_params() == model.get_params()
        with pytest.raises(NotFittedError):
            copied.predict(blobs()[0])
        np.testing.assert_array_equal(parameters(copied.fit(*blobs())), parameters(model))

    @pytest.mark.parametrize("estimator", ["MLPClassifier", "MLPRegressor"])
    def test_its_weights_are_routed_as_scikit_learns_are(self, estimator: str) -> None:
        X, y = blobs() if estimator == "MLPClassifier" else line()
        classes: dict[str, Any] = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}
        with sklearn.config_context(enable_metadata_routing=True):
            ours, theirs, unweighted = (
                cross_validate(
                    of(**TINY).set_fit_request(sample_weight=fits).set_score_request(sample_weight=True),
                    X,
                    y,
                    cv=3,
                    params={"sample_weight": some_weights() ** 3},
                    return_estimator=True,
                )
                for of, fits in (
                    (classes[estimator], True),
                    (getattr(neural_network, estimator), True),
                    (classes[estimator], False),
                )
            )
        np.testing.assert_allclose(ours["test_score"], theirs["test_score"], rtol=1e-7)
        for one, other, without in zip(*(r["estimator"] for r in (ours, theirs, unweighted)), strict=True):
            assert_same(one, other)
            assert np.any(parameters(one) != parameters(without))

    def test_fits_in_threads_do_not_disturb_each_other(self) -> None:
        X, y = blobs()
        seeds = range(6)

        def trained(seed: int) -> np.ndarray:
            return parameters(MLPClassifier(**{**TINY, "random_state": seed}).fit(X, y))

        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(trained, seeds))
        for seed, one in zip(seeds, found, strict=True):
            np.testing.assert_array_equal(one, trained(seed))


def by_joblib(model: Any, folder: Path) -> Any:
    joblib.dump(model, folder / "model")
    return joblib.load(folder / "model")


def by_mapped_joblib(model: Any, folder: Path) -> Any:
    joblib.dump(model, folder / "model")
    return joblib.load(folder / "model", mmap_mode="r")


def by_pickle(model: Any, _: Path) -> Any:
    return pickle.loads(pickle.dumps(model))


class TestSaving:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("copy", [by_pickle, by_joblib, by_mapped_joblib])
    def test_what_was_saved_predicts_the_same(self, copy: Any, solver: str, tmp_path: Path) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY, solver=solver).fit(X, y)
        copied = copy(model, tmp_path)
        np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(copied.predict(X), model.predict(X))

    @pytest.mark.parametrize("options", [{"solver": "sgd"}, {"solver": "adam"}, {"dropout": 0.3}], ids=str)
    @pytest.mark.parametrize("copy", [by_pickle, by_joblib])
    def test_what_was_saved_goes_on_as_what_was_not(self, copy: Any, options: dict[str, Any], tmp_path: Path) -> None:
        X, y = line()
        model = MLPRegressor(**TINY, **options).fit(X, y)
        copied = copy(model, tmp_path)
        for _ in range(3):
            model.partial_fit(X, y)
            copied.partial_fit(X, y)
        np.testing.assert_array_equal(parameters(copied), parameters(model))
        assert copied.loss_curve_ == model.loss_curve_

    @pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=str)
    @pytest.mark.parametrize(("solver", "moments"), [("lbfgs", 0), ("sgd", 1), ("adam", 2)])
    def test_it_holds_each_number_once(self, solver: str, moments: int, options: dict[str, Any]) -> None:
        X, y = line(n_x=50)
        large = {**TINY, "hidden_layer_sizes": (200, 100), "max_iter": 2}
        model = MLPRegressor(**large, solver=solver, **options).fit(X, y)
        best = 1 if options and solver != "lbfgs" else 0
        numbers = sum(V.nbytes for V in (*model.coefs_, *model.intercepts_))
        assert len(pickle.dumps(model)) < (1 + moments + best) * numbers + 20_000


class TestEditedParameters:
    def fitted(self, **options: Any) -> tuple[Any, Any]:
        """Our model and scikit-learn's, after the same epochs."""
        X, y = line()
        return tuple(
            of(**{**TINY, "hidden_layer_sizes": (5, 3)} | options).fit(X, y)
            for of in (MLPRegressor, neural_network.MLPRegressor)
        )

    @staticmethod
    def in_place(model: Any) -> None:
        model.coefs_[1] *= 3.0
        model.coefs_[0][1, 2] = 0.25
        model.intercepts_[2][:] = -1.5

    @staticmethod
    def replaced(model: Any) -> None:
        model.coefs_[1] = 3.0 * model.coefs_[1]
        model.intercepts_[0] = np.linspace(-1, 1, 5)

    @staticmethod
    def all_replaced(model: Any) -> None:
        model.coefs_ = [np.ascontiguousarray(2.0 * W) for W in model.coefs_]
        model.intercepts_ = [np.full_like(b, 0.1) for b in model.intercepts_]

    @pytest.mark.parametrize("edit", [in_place, replaced, all_replaced], ids=lambda edit: edit.__name__)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_predict_uses_them(self, solver: str, edit: Callable[[Any], None]) -> None:
        X, _ = line()
        ours, _ = self.fitted(solver=solver)
        before = ours.predict(X)
        edit(ours)
        np.testing.assert_allclose(ours.predict(X), linear_output(ours, ["relu"] * 2, X)[:, 0], rtol=1e-10)
        assert np.any(ours.predict(X) != before)

    @pytest.mark.parametrize("backend", [None, "torch"])
    @pytest.mark.parametrize("edit", [in_place, replaced, all_replaced], ids=lambda edit: edit.__name__)
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_partial_fit_goes_on_from_them(self, solver: str, edit: Callable[[Any], None], backend: str | None) -> None:
        if backend is not None:
            pytest.importorskip(backend)
        X, y = line()
        ours, _ = self.fitted(solver=solver)
        ours = MLPRegressor(**ours.get_params() | {"backend": backend}).partial_fit(X, y)
        theirs = neural_network.MLPRegressor(**TINY | {"hidden_layer_sizes": (5, 3)}, solver=solver).partial_fit(X, y)
        for _ in range(2):
            edit(ours)
            for edited, W in zip(ours.coefs_, theirs.coefs_, strict=True):
                W[...] = edited
            for edited, b in zip(ours.intercepts_, theirs.intercepts_, strict=True):
                b[...] = edited
            assert_same(ours.partial_fit(X, y), theirs.partial_fit(X, y))

    @pytest.mark.parametrize("edit", [in_place, replaced, all_replaced], ids=lambda edit: edit.__name__)
    def test_a_warm_start_goes_on_from_them(self, edit: Callable[[Any], None]) -> None:
        X, y = line()
        ours, theirs = self.fitted(solver="lbfgs", warm_start=True)
        edit(ours)
        edit(theirs)
        assert_same(ours.fit(X, y), theirs.fit(X, y), tolerance=1e-6)

    def test_what_was_fitted_before_is_not_written_by_a_new_fit(self) -> None:
        X, y = line()
        model = MLPRegressor(**TINY).fit(X, y)
        kept, copies = model.coefs_, [W.copy() for W in model.coefs_]
        model.fit(X, -y)
        for W, copied in zip(kept, copies, strict=True):
            np.testing.assert_array_equal(W, copied)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
class TestInterrupt:
    """One batch is one epoch here, so that the epochs count the updates."""

    OPTIONS = TINY | {"batch_size": "auto"}

    @pytest.fixture(params=["cost_and_gradients", "update"])
    def epochs_before(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
        """Ctrl-C comes within the fourth call of a function; the updates that are complete then."""
        real, calls = getattr(engine, request.param), 0

        def interrupted(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))  # where Python would let it through
            return real(*args, **options)

        monkeypatch.setattr(engine, request.param, interrupted)
        return 3 if request.param == "cost_and_gradients" else 4

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_it_warns_and_leaves_a_model_of_whole_updates(self, solver: str, epochs_before: int) -> None:
        X, y = blobs()
        handler = signal.getsignal(signal.SIGINT)
        model = MLPClassifier(**self.OPTIONS, solver=solver)
        with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
            model.fit(X, y)
        assert signal.getsignal(signal.SIGINT) is handler
        assert (model.n_iter_, len(model.loss_curve_)) == (3, 3)
        theirs = neural_network.MLPClassifier(**{**self.OPTIONS, "max_iter": epochs_before}, solver=solver).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-8)
        theirs.partial_fit(X, y)
        np.testing.assert_allclose(parameters(model.partial_fit(X, y)), parameters(theirs), rtol=1e-8, atol=1e-12)

    @pytest.mark.usefixtures("epochs_before")
    def test_early_stopping_gives_the_best_back_even_so(self) -> None:
        X, y = blobs()
        model = MLPClassifier(**self.OPTIONS, early_stopping=True)
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X, y, X_val=X, y_val=y)
        assert model.score(X, y) == max(model.validation_scores_) == model.best_validation_score_

    @pytest.mark.usefixtures("epochs_before")
    def test_partial_fit_and_a_bar_are_interrupted_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        X, y = line()
        model = MLPRegressor(**{**self.OPTIONS, "batch_size": 10}, verbose="progress")
        with pytest.warns(UserWarning, match="interrupted"):
            model.partial_fit(X, y)
        assert np.isfinite(model.predict(X)).all()
        assert capsys.readouterr().out == ""


class TestDispatch:
    @pytest.fixture(params=["torch", "strict-device", "cupy"])
    def place(self, request: pytest.FixtureRequest, open_space: Callable[[str], Space]) -> Iterator[Space]:
        """A namespace that scikit-learn dispatches to."""
        opened = open_space(request.param)
        with sklearn.config_context(array_api_dispatch=True):
            yield opened

    def assert_same_there(self, place: Space, found: Any, expected: Any, dtype: str = "float64") -> None:
        for V, own in zip((*found.coefs_, *found.intercepts_), (*expected.coefs_, *expected.intercepts_), strict=True):
            place.assert_same_place(V, dtype)
            np.testing.assert_allclose(place.to_numpy(V), own, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-8)
        assert {type(loss) for loss in (found.loss_, *found.loss_curve_)} == {float}

    @pytest.mark.parametrize(
        "options",
        [
            {"solver": "sgd"},
            {"solver": "adam", "early_stopping": True, "validation_fraction": 0.3},
            {"solver": "adam", "shuffle": False, "dropout": 0.2},
            {"solver": "lbfgs"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("classes", [2, 3])
    def test_a_classifier_computes_where_x_is(self, place: Space, classes: int, options: dict[str, Any]) -> None:
        X, y = blobs(classes)
        expected = neural_network.MLPClassifier if "dropout" not in options else MLPClassifier
        with sklearn.config_context(array_api_dispatch=False):
            theirs = expected(**FEW, **options).fit(X, y)
            if not hasattr(theirs, "loss_curve_"):
                theirs.loss_curve_ = MLPClassifier(**FEW, **options).fit(X, y).loss_curve_
            A, log_A, labels = theirs.predict_proba(X), theirs.predict_log_proba(X), theirs.predict(X)
            score = theirs.score(X, y)
        X_there, y_there = place.asarray(X), place.asarray(y)
        model = MLPClassifier(**FEW, **options).fit(X_there, y_there)
        self.assert_same_there(place, model, theirs)
        place.assert_same_place(model.predict_proba(X_there), "float64")
        place.assert_same_place(model.predict(X_there), "int64")
        place.assert_same_place(model.classes_, "int64")
        np.testing.assert_allclose(place.to_numpy(model.predict_proba(X_there)), A, rtol=1e-8)
        np.testing.assert_allclose(place.to_numpy(model.predict_log_proba(X_there)), log_A, rtol=1e-6)
        np.testing.assert_array_equal(place.to_numpy(model.predict(X_there)), labels)
        assert model.score(X_there, y_there) == pytest.approx(score)
        if "early_stopping" in options:
            # scikit-learn's accuracy of equally weighted torch arrays is a float32
            np.testing.assert_allclose(model.validation_scores_, theirs.validation_scores_, rtol=1e-6)

    @pytest.mark.parametrize("loss", ["squared_error", "poisson"])
    @pytest.mark.parametrize("outputs", [1, 2])
    def test_a_regressor_computes_where_x_is(self, place: Space, outputs: int, loss: str) -> None:
        X, y = line()
        Y = np.exp(y / 4) if outputs == 1 else np.exp(np.stack([y, -y], axis=1) / 4)
        with sklearn.config_context(array_api_dispatch=False):
            theirs = neural_network.MLPRegressor(**FEW, loss=loss).fit(X, Y, some_weights())
            expected = theirs.predict(X)
        X_there = place.asarray(X)
        model = MLPRegressor(**FEW, loss=loss).fit(X_there, place.asarray(Y), place.asarray(some_weights()))
        self.assert_same_there(place, model, theirs)
        place.assert_same_place(model.predict(X_there), "float64")
        np.testing.assert_allclose(place.to_numpy(model.predict(X_there)), expected, rtol=1e-8)

    def test_y_and_weights_may_be_numpys(self, place: Space) -> None:
        X, y = blobs()
        with sklearn.config_context(array_api_dispatch=False):
            theirs = neural_network.MLPClassifier(**FEW).fit(X, y, some_weights())
        model = MLPClassifier(**FEW).fit(place.asarray(X), y, some_weights())
        self.assert_same_there(place, model, theirs)
        place.assert_same_place(model.predict(place.asarray(X)), "int64")
        regressor = MLPRegressor(**FEW).fit(place.asarray(X), y.astype(float), some_weights())
        place.assert_same_place(regressor.predict(place.asarray(X)), "float64")

    def test_labels_that_are_text_stay_in_numpy(self, place: Space) -> None:
        X, y = blobs()
        names = np.array(["ham", "spam", "eggs"])[y]
        with sklearn.config_context(array_api_dispatch=False):
            theirs = neural_network.MLPClassifier(**FEW).fit(X, names)
            labels = theirs.predict(X)
        model = MLPClassifier(**FEW).fit(place.asarray(X), names)
        self.assert_same_there(place, model, theirs)
        found = model.predict(place.asarray(X))
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, labels)
        place.assert_same_place(model.predict_proba(place.asarray(X)), "float64")

    def test_two_classes_that_are_text_stop_early_by_validation_examples(self, place: Space) -> None:
        X, y = blobs(classes=2)
        names = np.array(["ham", "spam"])[y]
        options = {**FEW, "early_stopping": True}
        with sklearn.config_context(array_api_dispatch=False):
            expected = MLPClassifier(**options).fit(X, names, X_val=X[:20], y_val=names[:20])
        model = MLPClassifier(**options).fit(place.asarray(X), names, X_val=place.asarray(X[:20]), y_val=names[:20])
        self.assert_same_there(place, model, expected)
        np.testing.assert_allclose(model.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-8)
        assert model.validation_scores_ == expected.validation_scores_

    def test_several_labels_and_their_class_weights_compute_where_x_is(self, place: Space) -> None:
        X, Y = two_labels()
        weighting = [{0: 1.0, 1: 3.0}, {0: 0.25, 1: 1.0}]
        with sklearn.config_context(array_api_dispatch=False):
            expected = MLPClassifier(**FEW, class_weight=weighting).fit(X, Y)
            labels = expected.predict(X)
        model = MLPClassifier(**FEW, class_weight=weighting).fit(place.asarray(X), place.asarray(Y))
        self.assert_same_there(place, model, expected)
        np.testing.assert_array_equal(place.to_numpy(model.predict(place.asarray(X))), labels)

    def test_class_weights_meet_weights_that_are_there(self, place: Space) -> None:
        X, y = blobs()
        with sklearn.config_context(array_api_dispatch=False):
            theirs = neural_network.MLPClassifier(**FEW)
            theirs.fit(X, y, some_weights() * compute_sample_weight("balanced", y))
        model = MLPClassifier(**FEW, class_weight="balanced")
        model.fit(place.asarray(X), place.asarray(y), place.asarray(some_weights()))
        self.assert_same_there(place, model, theirs)

    @pytest.mark.parametrize("classes_are_there", [True, False])
    def test_partial_fit_computes_where_x_is(self, place: Space, classes_are_there: bool) -> None:
        X, y = blobs()
        classes = place.asarray(np.arange(3)) if classes_are_there else [0, 1, 2]
        theirs, model = neural_network.MLPClassifier(**FEW), MLPClassifier(**FEW)
        for part in (slice(0, 30), slice(30, 60)):
            with sklearn.config_context(array_api_dispatch=False):
                theirs.partial_fit(X[part], y[part], classes=np.arange(3))
            model.partial_fit(place.asarray(X[part]), place.asarray(y[part]), classes=classes)
        self.assert_same_there(place, model, theirs)
        with sklearn.config_context(array_api_dispatch=False):
            labels = theirs.predict(X)
        np.testing.assert_array_equal(place.to_numpy(model.predict(place.asarray(X))), labels)

    def test_float32_stays_float32(self, place: Space) -> None:
        X, y = blobs()
        X_there = place.asarray(X.astype("float32"))
        model = MLPClassifier(**FEW).fit(X_there, place.asarray(y))
        for V in (*model.coefs_, *model.intercepts_, model.predict_proba(X_there)):
            place.assert_same_place(V, "float32")
        wide = MLPClassifier(**FEW, dtype="float64").fit(X_there, place.asarray(y))
        place.assert_same_place(wide.coefs_[0], "float64")

    @pytest.mark.parametrize("library", ["numpy", "torch"])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_named_backend_computes_and_gives_back_where_x_is(self, place: Space, library: str, solver: str) -> None:
        pytest.importorskip(library)
        X, y = blobs()
        with sklearn.config_context(array_api_dispatch=False):
            expected = MLPClassifier(**FEW, solver=solver).fit(X, y, some_weights())
            A = expected.predict_proba(X)
        X_there = place.asarray(X)
        model = MLPClassifier(**FEW, solver=solver, backend=library).fit(X_there, place.asarray(y), some_weights())
        self.assert_same_there(place, model, expected)
        place.assert_same_place(model.predict_proba(X_there), "float64")
        place.assert_same_place(model.predict(X_there), "int64")
        np.testing.assert_allclose(place.to_numpy(model.predict_proba(X_there)), A, rtol=1e-8)

    def test_an_x_of_another_namespace_is_refused(self, place: Space) -> None:
        X, y = blobs()
        model = MLPClassifier(**FEW).fit(place.asarray(X), place.asarray(y))
        with pytest.raises(ValueError, match="namespace"):
            model.predict(X)

    def test_edited_parameters_are_those_that_are_used(self, place: Space) -> None:
        X, y = line()
        model = MLPRegressor(**FEW).fit(place.asarray(X), place.asarray(y))
        model.coefs_[1] = 3.0 * model.coefs_[1]
        model.intercepts_[0][:] = 0.5
        with sklearn.config_context(array_api_dispatch=False):
            theirs = neural_network.MLPRegressor(**FEW).fit(X, y)
            theirs.coefs_[1][...] *= 3.0
            theirs.intercepts_[0][...] = 0.5
            expected = theirs.predict(X)
            theirs.partial_fit(X, y)
        np.testing.assert_allclose(place.to_numpy(model.predict(place.asarray(X))), expected, rtol=1e-8)
        self.assert_same_there(place, model.partial_fit(place.asarray(X), place.asarray(y)), theirs)

    def test_a_fitted_model_is_pickled_and_goes_on(self, open_space: Callable[[str], Space]) -> None:
        place = open_space("torch")
        X, y = (place.asarray(V) for V in line())
        with sklearn.config_context(array_api_dispatch=True):
            model = MLPRegressor(**FEW).fit(X, y)
            copied = pickle.loads(pickle.dumps(model))
            np.testing.assert_array_equal(place.to_numpy(copied.predict(X)), place.to_numpy(model.predict(X)))
            assert_same(copied.partial_fit(X, y), model.partial_fit(X, y))

    def test_a_gradient_that_x_asks_for_is_neither_needed_nor_left(self, open_space: Callable[[str], Space]) -> None:
        place = open_space("torch")
        X, y = (place.asarray(V) for V in line())
        with sklearn.config_context(array_api_dispatch=True):
            model = MLPRegressor(**FEW).fit(X, y)
            assert not any(V.requires_grad for V in (*model.coefs_, *model.intercepts_, model.predict(X)))


def test_each_partial_fit_drops_units_of_its_own() -> None:
    X, y = blobs()
    model = MLPClassifier(hidden_layer_sizes=(10,), activation="tanh", dropout=0.5, alpha=0.0, random_state=0)
    model.partial_fit(X[:1], y[:1], classes=np.unique(y))
    first = model.coefs_[0].copy()
    for i in range(1, 60):
        model.partial_fit(X[i : i + 1], y[i : i + 1])
    assert np.abs(model.coefs_[0] - first).max(axis=0).min() > 0  # every unit was trained


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64])
def test_the_iterations_may_be_numpys(kind) -> None:
    X, y = blobs()
    assert MLPClassifier(**TINY | {"max_iter": kind(3)}).fit(X, y).n_iter_ == 3


def test_large_losses_of_many_examples_do_not_overflow() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40_000, 2)).astype("float32")
    y = (generator.normal(size=40_000) * 3e17).astype("float32")
    for options in ({}, {"dropout": 0.1}):  # captured, and step by step
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=2, batch_size=200, random_state=0, **options)
        assert np.isfinite(model.fit(X, y).loss_curve_).all()


class TestTooLargeForFloat32:
    """Numbers that float64 holds and float32 does not are told at their row and column, before anything is trained."""

    @pytest.fixture
    def table(self) -> Any:
        X = np.random.default_rng(0).normal(size=(30, 3))
        X[17, 2] = 1e39
        return X

    @pytest.mark.parametrize(
        ("kind", "place"), [("dense", "numpy"), ("sparse", "numpy"), ("dense", "torch"), ("dense", "jax")]
    )
    def test_predict(self, table, kind, place) -> None:
        pytest.importorskip(place)
        X = {"dense": lambda: table, "sparse": lambda: sparse.csr_matrix(table)}[kind]()
        model = MLPClassifier((4,), dtype="float32", backend=place, max_iter=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(np.clip(table, -3, 3), table[:, 0] > 0)
        with pytest.raises(ValueError, match=re.escape("X must be finite in float32, got 1e+39 at [17, 2]")):
            model.predict(X)

    def test_a_model_that_goes_on_in_float32_stays_as_it_was(self, table) -> None:
        X, y = np.clip(table, -3, 3).astype("float32"), table[:, 0] > 0
        model = MLPClassifier((4,)).partial_fit(X, y, classes=[False, True])
        before = model.predict_proba(X)
        with pytest.raises(ValueError, match=re.escape("at [17, 2]")):
            model.partial_fit(table, y)
        np.testing.assert_array_equal(model.predict_proba(X), before)
        assert (model.n_iter_, len(model.loss_curve_), model.t_) == (1, 1, 30)


def test_a_fit_that_fails_before_training_leaves_the_estimator_as_it_was() -> None:
    X, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
    model = MLPClassifier((4,), max_iter=2)
    for wrong in ((X, y[:-1]), (X, y, -np.ones(29)), (X[:5], y[:5])):
        model.early_stopping = len(wrong[0]) == 5
        with pytest.raises(ValueError, match=r"\w"):
            model.fit(*wrong)
        with pytest.raises(NotFittedError):
            model.predict(X)
    model.early_stopping = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = vars(model.fit(X, y)).copy()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(np.hstack([X, X]), y[:-1])
    assert vars(model) == before


def test_l_bfgs_on_few_examples_holds_every_blas_at_one_thread(monkeypatch) -> None:
    """SciPy brings a BLAS of its own: set anew in each step, the threads of both took ten times as long as the fit."""

    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    found, before, minimize = [], threads(), EstimatorDescent.minimize
    monkeypatch.setattr(EstimatorDescent, "minimize", lambda *a, **b: (found.extend(threads()), minimize(*a, **b))[1])
    MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=3).fit(*load_diabetes(return_X_y=True))
    assert len(found) == len(before) > 1
    assert set(found) == {1}
    assert threads() == before
