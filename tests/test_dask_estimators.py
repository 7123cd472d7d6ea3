"""Estimators that are given tables of dask: what they are of the same rows in one array."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError  # noqa: E402

from nnarray.sklearn import MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

M = 240
ROWS = (51, 0, 120, 69)
OPTIONS: dict[str, Any] = {"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 12}
WHOLE = OPTIONS | {"batch_size": M, "shuffle": False, "learning_rate_init": 0.02}


@pytest.fixture(autouse=True)
def scheduler() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


def table(dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(M, 4)).astype(dtype)
    return X, np.where(X[:, 0] + X[:, 1] ** 2 > 1, "yes", "no")


def rows(V: np.ndarray, counts: Any = ROWS) -> Any:
    return da.from_array(V, chunks=(counts, *(2 for _ in V.shape[1:])))


def targets(X: np.ndarray, y: np.ndarray) -> dict[str, tuple[type, Any]]:
    return {
        "two classes": (MLPClassifier, y),
        "classes": (MLPClassifier, np.digitize(X[:, 0], [-0.5, 0.5])),
        "labels": (MLPClassifier, (X[:, :3] > 0).astype(int)),
        "number": (MLPRegressor, X[:, 0] * X[:, 1]),
        "numbers": (MLPRegressor, X[:, :2] ** 2),
    }


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_batch_normalisation_over_the_whole_table_is_that_of_one_array(solver: str, name: str) -> None:
    X, y = table()
    kind, y = targets(X, y)[name]
    options = WHOLE | {"batch_norm": True}
    one = kind(solver=solver, **options).fit(X, y)
    found = kind(solver=solver, **options).fit(rows(X), y)
    np.testing.assert_allclose(found.loss_curve_, one.loss_curve_, rtol=1e-9)
    for mine, its in ((found.predict(X), one.predict(X)), (found.predict(rows(X)).compute(), one.predict(X))):
        np.testing.assert_allclose(mine, its, rtol=1e-7, atol=1e-9)
    assert abs(one.loss_curve_[-1] - kind(solver=solver, **WHOLE).fit(X, y).loss_curve_[-1]) > 1e-3
    if solver == "adam":
        few = options | {"batch_size": 40}
        one, found = kind(**few).fit(X, y), kind(**few).fit(rows(X, (120, 120)), y)
        for model, given in ((one, X), (found, rows(X, (120, 120)))):
            model.partial_fit(given, y)
        np.testing.assert_allclose(found.loss_curve_, one.loss_curve_, rtol=1e-9)
        assert found.t_ == one.t_


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("name", targets(*table()))
@pytest.mark.parametrize("weighted", [False, True])
def test_the_whole_table_at_once_trains_as_one_array(solver: str, name: str, weighted: bool) -> None:
    X, y = table()
    kind, y = targets(X, y)[name]
    w = np.random.default_rng(1).random(M) if weighted else None
    one = kind(solver=solver, **WHOLE).fit(X, y, w)
    for given in ((rows(X), rows(y), None if w is None else rows(w)), (rows(X, (200, 40)), y, w)):
        found = kind(solver=solver, **WHOLE).fit(*given)
        np.testing.assert_allclose(found.loss_curve_, one.loss_curve_, rtol=1e-9)
        for V, expected in zip(found.coefs_ + found.intercepts_, one.coefs_ + one.intercepts_, strict=True):
            assert type(V) is np.ndarray
            np.testing.assert_allclose(V, expected, rtol=0, atol=1e-7 if solver == "lbfgs" else 1e-10)
        assert found.score(*given) == pytest.approx(found.score(X, y, w), rel=1e-12)


@pytest.mark.parametrize("name", targets(*table()))
def test_predictions_are_lazy_and_those_of_one_array(name: str) -> None:
    X, y = table()
    kind, y = targets(X, y)[name]
    model = kind(**OPTIONS).fit(X, y)
    computed = 0

    def counts(block: np.ndarray) -> np.ndarray:
        nonlocal computed
        computed += len(block)
        return block

    x = rows(X).map_blocks(counts, dtype=X.dtype, meta=X[:0])
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(model, method):
            found, expected = getattr(model, method)(x), getattr(model, method)(X)
            assert isinstance(found, da.Array)
            assert computed == 0
            assert (found.shape, found.dtype.kind) == (expected.shape, expected.dtype.kind)
            np.testing.assert_array_equal(found[-9:].compute(), expected[-9:])
            assert computed in (ROWS[-1], ROWS[-1] * 2)  # of two chunks of columns
            np.testing.assert_array_equal(found.compute(), expected)
            computed = 0


def test_mini_batches_learn_and_see_every_row_once_an_epoch() -> None:
    X, y = table("float32")
    options: dict[str, Any] = OPTIONS | {"batch_size": 32, "max_iter": 60, "learning_rate_init": 0.02, "dropout": 0.1}
    model = MLPClassifier(class_weight="balanced", **options).fit(rows(X), rows(y))
    assert model.coefs_[0].dtype == np.float32
    assert model.t_ == M * model.n_iter_
    assert model.score(rows(X), y) > 0.9
    again = MLPClassifier(class_weight="balanced", **options).fit(rows(X), y)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


def test_partial_fit_goes_on() -> None:
    X, y = table()
    model = MLPClassifier(**OPTIONS).partial_fit(rows(X), rows(y), classes=["no", "yes"])
    losses = [model.partial_fit(rows(X), y).loss_ for _ in range(8)]
    assert model.t_ == 9 * M
    assert losses[-1] < losses[0]


def test_validation_examples_of_the_host_stop_early() -> None:
    X, y = table()
    options: dict[str, Any] = OPTIONS | {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 200}
    model = MLPClassifier(**options).fit(rows(X), y, X_val=X[:50], y_val=y[:50])
    assert model.n_iter_ < 200
    assert max(model.validation_scores_) == model.best_validation_score_ == model.score(X[:50], y[:50])


def test_data_frames() -> None:
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = table()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(b=range(M))
    x, labels = dd.from_pandas(frame, npartitions=4), dd.from_pandas(pd.Series(y), npartitions=4)
    one = MLPClassifier(**WHOLE).fit(frame, y)
    found = MLPClassifier(**WHOLE).fit(x, labels)
    np.testing.assert_allclose(found.coefs_[0], one.coefs_[0], rtol=0, atol=1e-10)
    assert list(found.feature_names_in_) == list("abcd")
    predicted = found.predict(x)
    assert isinstance(predicted, da.Array)
    np.testing.assert_array_equal(predicted.compute(), found.predict(frame))
    np.testing.assert_allclose(found.predict_proba(x[x.a > 0]).compute(), found.predict_proba(frame[frame.a > 0]))
    assert found.score(x, labels) == found.score(frame, y)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(x[list("abc")])
    with pytest.raises(ValueError, match="could not convert"):
        MLPClassifier(**OPTIONS).fit(x.assign(a="text"), labels)
    with pytest.raises(ValueError, match="2-dimensional"):
        MLPClassifier(**OPTIONS).fit(x.a, labels)


@pytest.mark.parametrize("dtypes", [{"a": "Float64", "b": "Int64"}, {"a": "Float32", "c": "boolean"}])
def test_data_frames_whose_dtypes_have_a_value_for_what_is_missing(dtypes: dict[str, str]) -> None:
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = table()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(b=range(M), c=X[:, 2] > 0).astype(dtypes)
    one, found = (MLPClassifier(**WHOLE).fit(x, y) for x in (frame, dd.from_pandas(frame, npartitions=4)))
    np.testing.assert_allclose(found.coefs_[0], one.coefs_[0], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(found.predict(dd.from_pandas(frame, npartitions=3)).compute(), one.predict(frame))
    gaps = frame.assign(a=frame.a.where(X[:, 0] < 1))
    with pytest.raises(ValueError, match=r"in the chunk of examples from \d+ on: .* nan"):
        MLPClassifier(**WHOLE).fit(dd.from_pandas(gaps, npartitions=4), y)


def test_predictions_of_sparse_chunks() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X, y = table()
    model = MLPClassifier(**WHOLE).fit(X, y)
    x = rows(X).map_blocks(sparse.csr_array, dtype=X.dtype)
    np.testing.assert_array_equal(model.predict(x).compute(), model.predict(X))


BAD: dict[str, tuple[type, Any, str]] = {
    "features": (ValueError, lambda m, x, y: m.predict(x[:, :3]), "X has 3 features"),
    "one axis": (ValueError, lambda m, x, y: m.predict(x[:, 0]), "Expected 2D array"),
    "rows": (ValueError, lambda m, x, y: m.fit(x, y[:9]), "X and y must have as many rows.*240 and 9"),
    "no y": (ValueError, lambda m, x, y: m.fit(x, None), "y must be given"),
    "no rows": (ValueError, lambda m, x, y: m.fit(x[:0], y[:0]), "at least one|0 sample"),
    "no columns": (ValueError, lambda m, x, y: m.fit(x[:, :0], y), r"0 feature\(s\)"),
    "unknown": (ValueError, lambda m, x, y: m.fit(x[x[:, 0] > 0], y), r"X\.compute_chunk_sizes\(\)"),
    "NaN": (ValueError, lambda m, x, y: m.fit(da.where(x > 2, np.nan, x), y), "in the chunk of examples from .* nan"),
    "NaN to predict": (ValueError, lambda m, x, y: m.predict(x * np.nan).compute(), "Input X contains NaN"),
    "another number of rows": (
        ValueError,
        lambda m, x, y: m.predict(x.map_blocks(lambda V: V[1:], dtype=x.dtype)).compute(),
        r"a chunk of X says that it has \d+ rows, and has .*compute_chunk_sizes\(\)",
    ),
    "another number of rows to fit": (
        ValueError,
        lambda m, x, y: m.fit(x.map_blocks(lambda V: V[1:], dtype=x.dtype), y),
        r"in the chunk of examples from \d+ on: X says",
    ),
    "early stopping": (ValueError, lambda m, x, y: m.set_params(early_stopping=True).fit(x, y), "X_val and y_val"),
    "validation": (TypeError, lambda m, x, y: m.fit(x, y, X_val=x, y_val=y), "X_val must be an array of the host"),
    "text": (TypeError, lambda m, x, y: MLPRegressor().fit(x, y), "y must hold real numbers"),
    "complex": (ValueError, lambda m, x, y: m.fit(x * 1j, y), "Complex data not supported"),
    "weights": (ValueError, lambda m, x, y: m.fit(x, y, y == "?"), "at least one non-zero"),
    "not fitted": (NotFittedError, lambda m, x, y: MLPClassifier().predict(x), "not fitted"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    X, y = table()
    error, call, message = BAD[name]
    with pytest.raises(error, match=message):
        call(MLPClassifier(**OPTIONS).fit(X, y), rows(X), rows(y))
