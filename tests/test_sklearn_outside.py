"""What the estimators owe to those around them: files of other tools, data frames, old versions, type checkers."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space

pytest.importorskip("sklearn")

import pandas as pd  # type: ignore[import-untyped]
from sklearn import neural_network

import nnarray as nn
from nnarray import backends, sklearn
from nnarray.sklearn import MLPClassifier, MLPRegressor, optimizers

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

X = np.random.default_rng(0).normal(size=(120, 4))
y = X[:, 0] > 0
SMALL: dict[str, Any] = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 15}
ROOT = Path(__file__).resolve().parent.parent


class TestOneClass:
    @pytest.mark.parametrize("label", [0, 1, "a", 7.0, True], ids=repr)
    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    def test_early_stopping_is_scikit_learn_s(self, label, solver) -> None:
        labels = np.array([label] * 120)
        options = SMALL | {"early_stopping": True, "solver": solver}
        found = MLPClassifier(**options).fit(X, labels)
        expected = neural_network.MLPClassifier(**options).fit(X, labels)
        assert found.validation_scores_ == expected.validation_scores_ == [1.0] * 12
        assert (found.n_iter_, found.best_validation_score_) == (expected.n_iter_, expected.best_validation_score_)
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), rtol=1e-9)
        assert found.predict(X).tolist() == expected.predict(X).tolist() == labels.tolist()

    def test_given_validation_examples_are_all_right(self) -> None:
        labels = np.zeros(120, int)
        model = MLPClassifier(**SMALL).fit(X, labels, X_val=-9 * X, y_val=labels)
        assert model.validation_scores_ == [1.0] * 15 == [model.score(-9 * X, labels)] * 15


def host_arrays(model: Any) -> dict[str, np.ndarray]:
    found = {"predict": model.predict(X), **{f"coefs {i}": C for i, C in enumerate(model.coefs_)}}
    found |= {f"intercepts {i}": b for i, b in enumerate(model.intercepts_)}
    for method in ("predict_proba", "predict_log_proba"):
        if hasattr(model, method):
            found[method] = getattr(model, method)(X)
    return found


class TestArraysOnTheHost:
    @pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "cupy"])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_they_are_the_caller_s_own(self, backend, solver) -> None:
        if reason := backends.unavailable_reason(backend):
            pytest.skip(f"{backend}: {reason}")
        models: list[Any] = [
            MLPClassifier(backend=backend, solver=solver, **SMALL).fit(X, y),
            MLPClassifier(backend=backend, solver=solver, **SMALL).fit(X, (4 * X[:, 0]).astype(int)),
            MLPRegressor(backend=backend, solver=solver, **SMALL).fit(X, X[:, 0]),
            MLPRegressor(backend=backend, solver=solver, **SMALL).fit(X, X[:, :2]),
        ]
        if solver == "adam":
            models.append(MLPRegressor(backend=backend, **SMALL).partial_fit(X, X[:, 0]).partial_fit(X, X[:, 0]))
        for model in models:
            for name, array in host_arrays(model).items():
                assert array.flags.writeable, name
                array[...] = 0
            assert not np.any(model.coefs_[0])

    def test_what_is_written_into_them_reaches_nothing_else(self) -> None:
        model = MLPRegressor(backend="torch", **SMALL).fit(X, X[:, 0])
        before = model.predict(X)
        model.predict(X)[...] = 7
        np.testing.assert_array_equal(model.predict(X), before)

    def test_another_backend_goes_on_where_memory_was_read_only(self) -> None:
        pytest.importorskip("jax")
        model = MLPClassifier(backend="jax", **SMALL).partial_fit(X, y, classes=[False, True])
        again = pickle.loads(pickle.dumps(model)).set_params(backend="numpy")
        expected = MLPClassifier(**SMALL).partial_fit(X, y, classes=[False, True]).partial_fit(X, y)
        np.testing.assert_allclose(again.partial_fit(X, y).coefs_[0], expected.coefs_[0], rtol=1e-9)


TEXTS = {
    "array": np.array(["a", "b"] * 60),
    "digits": np.array(["1.5", "2"] * 60),
    "list": ["a", "b"] * 60,
    "objects": np.array(["a", 3] * 60, dtype=object),
    "two columns": np.array([["a", "b"]] * 120),
    "two columns of objects": np.array([["a", 1]] * 120, dtype=object),
    "series": pd.Series(["a", "b"] * 60),
    "string": pd.Series(["a", "b"] * 60).astype("string"),
    "category": pd.Series(["a", "b"] * 60).astype("category"),
    "dates": np.array(["2020-01-01", "2021-01-01"] * 60, dtype="datetime64[D]"),
    "frame": pd.DataFrame({"u": ["a", "b"] * 60, "v": [1.0, 2.0] * 60}),
}


class TestTargetsOfARegressor:
    @pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
    def test_text_is_y_s_fault(self, text) -> None:
        for call in ("fit", "partial_fit"):
            with pytest.raises(TypeError, match=r"^y must hold real numbers, got dtype .*MLPClassifier"):
                getattr(MLPRegressor(**SMALL), call)(X, text)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize(
        ("target", "dtype"),
        [
            (np.array([None, 1.0] * 60), None),
            (X[:, 0].astype(np.longdouble) * np.longdouble("1e4000"), None),
            (X[:, 0] * 1e300, "float32"),
        ],
        ids=["None", "longdouble", "float32"],
    )
    def test_what_is_not_finite_is_refused_before_training(self, target, dtype, solver) -> None:
        model = MLPRegressor(solver=solver, dtype=dtype, **SMALL)
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"^(y must be finite|Input y contains)"):
            model.fit(X, target)
        assert not hasattr(model, "loss_curve_")

    @pytest.mark.parametrize(
        "same",
        [
            X[:, 0].astype(np.longdouble),
            X[:, 0].astype(object),
            pd.Series(X[:, 0]).astype("Float64"),
            pd.DataFrame({"y": X[:, 0]}).astype("Float64"),
            X[:, 0].tolist(),
        ],
        ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', '')}",
    )
    def test_other_holders_of_the_same_numbers(self, same) -> None:
        with pytest.MonkeyPatch().context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # a column, where a vector was expected
            found = MLPRegressor(**SMALL).fit(X, same)
        np.testing.assert_array_equal(found.coefs_[0], MLPRegressor(**SMALL).fit(X, X[:, 0]).coefs_[0])


class TestTables:
    FRAME = pd.DataFrame(
        {
            "a": pd.Series(X[:, 0]).astype("Float64"),
            "b": X[:, 1],
            "c": pd.Series((9 * X[:, 2]).astype(int)).astype("Int32"),
            "d": pd.Series(X[:, 3] > 0).astype("boolean"),
        }
    )
    PLAIN = np.column_stack([X[:, 0], X[:, 1], (9 * X[:, 2]).astype(int), X[:, 3] > 0])

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_nullable_columns_are_their_numbers(self, solver) -> None:
        options = SMALL | {"solver": solver}
        found = MLPClassifier(**options).fit(self.FRAME, pd.Series(y).astype("boolean"))
        expected = MLPClassifier(**options).fit(self.PLAIN, y)
        np.testing.assert_allclose(found.predict_proba(self.FRAME), expected.predict_proba(self.PLAIN), rtol=1e-6)
        assert list(found.feature_names_in_) == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("column", ["a", "c", "d"])
    def test_a_missing_value_is_refused(self, column) -> None:
        frame = self.FRAME.copy()
        frame.loc[3, column] = pd.NA
        model = MLPClassifier(**SMALL)
        with pytest.raises(ValueError, match="Input X contains NaN"):
            model.fit(frame, y)
        assert not hasattr(model, "coefs_")
        with pytest.raises(ValueError, match="Input X contains NaN"):
            model.fit(self.FRAME, y).predict(frame)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_long_doubles_become_doubles(self, solver, order) -> None:
        long = np.asarray(X, dtype=np.longdouble, order=order)
        found = MLPClassifier(solver=solver, **SMALL).fit(long, y, sample_weight=np.ones(120, np.longdouble))
        expected = MLPClassifier(solver=solver, **SMALL).fit(X, y, sample_weight=np.ones(120))
        assert found.predict_proba(long).dtype == np.float64
        np.testing.assert_allclose(found.predict_proba(long), expected.predict_proba(X), rtol=1e-9)

    def test_long_doubles_that_no_double_holds_are_refused(self) -> None:
        long = X.astype(np.longdouble) * np.longdouble("1e4000")
        if np.finfo(np.longdouble).max == np.finfo(float).max:
            pytest.skip("long double is no longer than double here")
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="Input X contains infinity"):
            MLPClassifier(**SMALL).fit(long, y)
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="X must be finite"):
            MLPClassifier(**SMALL).fit(X, y).predict(long)


def holds_only_plain(value: Any) -> bool:
    """Whether a state is of Python's own types, NumPy's and scikit-learn's, which every reader of such files trusts."""
    if isinstance(value, dict):
        return all(holds_only_plain(item) for item in (*value, *value.values()))
    if type(value) in (list, tuple):
        return all(map(holds_only_plain, value))
    return value is None or type(value).__module__.split(".")[0] in {"builtins", "numpy", "sklearn"}


class TestState:
    @pytest.mark.parametrize("learning_rate", ["constant", "adaptive", "invscaling"])
    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_it_is_plain_and_goes_on_as_it_would_have(self, solver, learning_rate, early_stopping) -> None:
        options = SMALL | {"solver": solver, "learning_rate": learning_rate, "early_stopping": early_stopping}
        model = MLPClassifier(warm_start=True, class_weight={False: 1.0, True: 2.0}, **options).fit(X, y)
        assert holds_only_plain(model.__getstate__())
        again = pickle.loads(pickle.dumps(model))
        for one in (model, again):
            one.random_state = np.random.RandomState(3)
            one.fit(X, y) if solver == "lbfgs" or early_stopping else one.partial_fit(X, y)
        np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])
        assert model.loss_curve_ == again.loss_curve_

    def test_hyperparameters_set_later_leave_the_optimizer_as_it_was(self) -> None:
        model = MLPRegressor(solver="sgd", learning_rate="adaptive", **SMALL).partial_fit(X, X[:, 0])
        again = pickle.loads(pickle.dumps(model)).set_params(momentum=0.1, nesterovs_momentum=False)
        formula = again._optimizer.formula
        assert (type(again._optimizer), formula) == (optimizers.Adaptive, optimizers.Momentum(0.9, nesterov=True))

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_skops_asks_for_the_estimator_alone(self, solver) -> None:
        io = pytest.importorskip("skops.io")
        for model in (MLPClassifier(solver=solver, **SMALL).fit(X, y), MLPRegressor(solver=solver, **SMALL).fit(X, X)):
            kind = f"{type(model).__module__}.{type(model).__name__}"
            held = io.dumps(model)
            assert io.get_untrusted_types(data=held) == [kind]
            assert kind in sklearn.__doc__
            again = io.loads(held, trusted=[kind])
            np.testing.assert_array_equal(again.predict(X), model.predict(X))


OTHER_VERSION = """
import importlib.metadata, sys
real = importlib.metadata.version
def version(name):
    if name == "scikit-learn":
        if {found!r} is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return {found!r}
    return real(name)
importlib.metadata.version = version
if {found!r} is None:
    sys.modules["sklearn"] = None
import nnarray.sklearn
"""


class TestVersions:
    @pytest.mark.parametrize("found", ["1.8.2", "1.6.0rc1", "0.24.2"])
    def test_an_older_one_is_named(self, found) -> None:
        error = self.error_with(found)
        assert error == f"ImportError: nnarray.sklearn needs scikit-learn ≥ 1.9, found {found}"

    def test_none_at_all(self) -> None:
        error = self.error_with(None)
        assert error.startswith("ImportError: nnarray.sklearn needs scikit-learn ≥ 1.9, found none; ")

    def error_with(self, found: str | None) -> str:
        program = OTHER_VERSION.format(found=found)
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", program], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    def test_private_names_are_imported_in_one_file(self) -> None:
        for path in (ROOT / "nnarray").rglob("*.py"):
            lines = path.read_text(encoding="utf-8").splitlines()
            private = [line for line in lines if "sklearn" in line and "import" in line and " sklearn" in f" {line}"]
            private = [line for line in private if "from sklearn" in line and ("._" in line or "import _" in line)]
            assert not private or path.name == "private.py", (path, private)


USER_FILE = ROOT / "tests" / "typed.py"


def checked(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A type checker's run from outside of the project."""
    env = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(words, cwd=ROOT / "tests", env=env, capture_output=True, encoding="utf-8", check=False)


def test_mypy_accepts_a_user_s_file_and_refuses_its_slips(tmp_path) -> None:
    pytest.importorskip("mypy")
    options = ("--strict", "--warn-unused-ignores", "--config-file=", f"--cache-dir={tmp_path}")
    done = checked("mypy", *options, USER_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_accepts_a_user_s_file_and_refuses_its_slips(tmp_path) -> None:
    pytest.importorskip("basedpyright")
    config = tmp_path / "pyrightconfig.json"
    whole = {"include": [str(USER_FILE)], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    whole |= {"enableTypeIgnoreComments": True, "reportUnnecessaryTypeIgnoreComment": "error"}
    config.write_text(json.dumps(whole), encoding="utf-8")
    done = checked("basedpyright", "--project", config, "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr


def test_saving_into_a_folder_that_is_not_there_names_the_path(space: Space, tmp_path) -> None:
    network = nn.Network((2, 1))
    path = tmp_path / "missing" / "model.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        nn.save(path, network, space.pairs(network.init(backend="numpy")))
    assert caught.value.filename == str(path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as refused:
        nn.save(tmp_path / "file" / "model", network, network.init())
    assert refused.value.filename == str(tmp_path / "file" / "model")
