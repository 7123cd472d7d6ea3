"""The estimators' short way in: the same numbers, messages and refusals as scikit-learn's checks give."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import config_context

from nnarray.sklearn import MLPClassifier, MLPRegressor, small_tables

DRAWN = np.random.default_rng(3).standard_normal((40, 6))
LABELS = {
    "two": np.arange(40) % 2,
    "three": np.arange(40) % 3,
    "names": np.array(["ant", "bee", "cow"])[np.arange(40) % 3],
    "floats": np.arange(40) % 3 + 0.0,
    "one": np.zeros(40),
}
LAYOUTS = {
    "rows": lambda X: X,
    "columns": np.asfortranarray,
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda X: np.broadcast_to(X, X.shape),
    "every other": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
}


def fitted(kind: type, y: np.ndarray, dtype: str, **options: Any) -> Any:
    model = kind(hidden_layer_sizes=(5,), random_state=1, max_iter=3, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(DRAWN.astype(dtype), y)


def both_ways(monkeypatch: pytest.MonkeyPatch, what: Any) -> tuple[Any, Any]:
    """What it gives by the short way, and without that."""
    found = what()
    with monkeypatch.context() as without:
        without.setattr(small_tables, "takes", lambda *_: False)
        return found, what()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("labels", [*LABELS, "numbers", "counts"])
def test_gives_the_same_numbers(labels: str, layout: str, dtype: str, monkeypatch) -> None:
    def predictions() -> list[np.ndarray]:
        y = LABELS[labels] if labels in LABELS else np.abs(DRAWN[:, 0])
        options = {"loss": "poisson"} if labels == "counts" else {}
        model = fitted(MLPClassifier if labels in LABELS else MLPRegressor, y, dtype, **options)
        X = LAYOUTS[layout](DRAWN.astype(dtype))
        for rows in (slice(4, 5), slice(7, 30)):
            model.partial_fit(X[rows], y[rows])
        methods = ["predict", *(["predict_proba", "predict_log_proba"] if labels in LABELS else [])]
        made = [getattr(model, name)(X[:m]) for name in methods for m in (1, 9, 40)]
        assert all(A.flags.writeable for A in made)
        return [*made, *model.coefs_, *model.intercepts_]

    short, long = both_ways(monkeypatch, predictions)
    for one, other in zip(short, long, strict=True):
        assert one.dtype == other.dtype
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-5 if dtype == "float32" else 1e-12)
        else:
            np.testing.assert_array_equal(one, other)


def test_is_taken_and_by_nothing_that_needs_a_conversion() -> None:
    model, X = fitted(MLPClassifier, LABELS["three"], "float64"), DRAWN[:2]
    assert small_tables.takes(model, X)
    assert small_tables.takes_examples(model, X, LABELS["names"][:2])
    others = [X.tolist(), X.astype("float16"), X.astype(">f8"), X[:, :5], X[0], X[:0], X.view(np.matrix), X.astype(int)]
    assert not [one for one in others if small_tables.takes(model, one)]
    targets = [[0, 1], np.zeros((2, 1)), np.zeros(3), np.array([0, None]), np.array([0, np.nan]), np.ma.zeros(2)]
    assert not [y for y in targets if small_tables.takes_examples(model, X, y)]
    assert not small_tables.takes_examples(fitted(MLPRegressor, DRAWN[:, 0], "float64"), X, LABELS["names"][:2])
    assert not small_tables.takes_examples(model.set_params(dtype="float32"), X, LABELS["three"][:2])


X_WRONG = {
    "nan": np.where(np.arange(6) == 2, np.nan, DRAWN[:3]),
    "infinite": np.where(np.arange(6) == 2, -np.inf, DRAWN[:3]),
    "narrow": DRAWN[:3, :4],
    "of rank 1": DRAWN[0],
    "empty": DRAWN[:0],
    "complex": DRAWN[:3] * 1j,
    "text": np.full((3, 6), "a"),
}
Y_WRONG = {"unknown": np.array([0, 1, 7]), "nan": np.array([0, 1, np.nan]), "short": np.array([0, 1]), "none": None}


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("wrong", [*X_WRONG, *(f"y {name}" for name in Y_WRONG)])
def test_refuses_the_same_in_the_same_words(wrong: str, kind: type, monkeypatch) -> None:
    y = LABELS["three"] if kind is MLPClassifier else DRAWN[:, 0]

    def refusals() -> list[str]:
        model, said = fitted(kind, y, "float64"), []
        before = [C.copy() for C in model.coefs_]
        X, targets = X_WRONG.get(wrong, DRAWN[:3]), Y_WRONG.get(wrong[2:], y[:3])
        for call in (lambda: model.partial_fit(X, targets), lambda: model.predict(X)):
            try:
                call()
            except (ValueError, TypeError) as error:
                said.append(f"{type(error).__name__}: {error}")
        if said:
            np.testing.assert_array_equal(before[0], model.coefs_[0])
        return said

    short, long = both_ways(monkeypatch, refusals)
    assert short == long
    assert short or (wrong, kind) == ("y unknown", MLPRegressor)


def test_a_table_without_the_names_that_were_fitted_is_warned_of() -> None:
    pd = pytest.importorskip("pandas")
    model = MLPClassifier(hidden_layer_sizes=(5,), max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(pd.DataFrame(DRAWN, columns=list("abcdef")), LABELS["two"])
    for call in (lambda: model.predict(DRAWN[:1]), lambda: model.partial_fit(DRAWN[:1], LABELS["two"][:1])):
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            call()


def test_parameters_that_were_replaced_or_written_over_are_those_that_predict() -> None:
    model = fitted(MLPRegressor, DRAWN[:, 0], "float64")
    model.intercepts_[-1][:] += 1.0
    written = model.predict(DRAWN[:1])
    model.intercepts_[-1] = model.intercepts_[-1] + 1.0
    np.testing.assert_allclose(model.predict(DRAWN[:1]), written + 1.0)


def test_what_scikit_learn_is_told_not_to_look_for_is_not_refused_by_its_checks() -> None:
    model = fitted(MLPClassifier, LABELS["two"], "float64")
    with config_context(assume_finite=True), pytest.raises(ValueError, match=r"X must be finite in float64"):
        model.predict(X_WRONG["nan"])


def test_a_whole_number_begins_anew_and_leaves_a_given_random_state_alone() -> None:
    X, y, given = DRAWN[:8], LABELS["two"][:8], np.random.RandomState(5)
    model = MLPClassifier(hidden_layer_sizes=(4,), random_state=given).partial_fit(X, y, classes=[0, 1])
    drawn = given.get_state()[1].copy()
    for _ in range(3):
        model.set_params(random_state=7).partial_fit(X, y)
    np.testing.assert_array_equal(given.get_state()[1], drawn)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_second_fit_draws_what_the_first_one_drew() -> None:
    def new() -> MLPClassifier:
        return MLPClassifier(hidden_layer_sizes=(4,), random_state=np.int64(3), solver="sgd", max_iter=2)

    model, X, y = new(), DRAWN[:8], LABELS["two"][:8]
    first = model.fit(X, y).coefs_[0]
    np.testing.assert_array_equal(first, model.fit(X, y).coefs_[0])
    np.testing.assert_array_equal(first, new().fit(X, y).coefs_[0])
