"""Estimators with batch normalisation, and with averaged weights; torch's modules and plain loops as oracles."""

import io
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib  # type: ignore[import-untyped]
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator
from test_batch_norm import examples, torch_module
from test_sklearn_extras import TINY, blobs, line

import nnarray as nn
from nnarray.sklearn import MLPClassifier, MLPRegressor

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NETWORK = nn.Network((4, 6, 5, 3), "tanh", "softmax", batch_norm=True)
X, Y = examples((4, 6, 5, 3), "softmax", 40)
ROWS, LABELS = X.T.copy(), Y.argmax(axis=0)
SGD: dict[str, Any] = {
    "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.3, "alpha": 0.0, "shuffle": False, "random_state": 0,
}  # fmt: skip


def predicted_by_torch(module: Any) -> np.ndarray:
    found: np.ndarray = module.eval()(torch.tensor(ROWS)).softmax(1).detach().numpy()
    return found


def trained_by_torch(params: Any, *, batch_size: int, epochs: int, averaging: float | None = None) -> Any:
    """A module of torch after plain gradient descent, or the average along the way."""
    model = torch_module(NETWORK, params)
    averaged = torch.optim.swa_utils.AveragedModel(
        model,
        avg_fn=lambda mean, value, t: mean + (value - mean) * ((1 - averaging) / (1 - averaging ** (int(t) + 1))),
        use_buffers=True,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for start in list(range(0, len(ROWS), batch_size)) * epochs:
        part = slice(start, start + batch_size)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(ROWS[part])), torch.tensor(LABELS[part])).backward()
        optimizer.step()
        if averaging is not None:
            averaged.update_parameters(model)
    return model if averaging is None else averaged.module


@pytest.mark.parametrize("average", [None, 0.7])
@pytest.mark.parametrize("batch_size", [40, 16])
def test_runs_are_torchs(batch_size: int, average: float | None) -> None:
    first = NETWORK.init(seed=2, dtype="float64")
    options = SGD | {"batch_size": batch_size, "average": average}
    model = MLPClassifier.from_network(NETWORK, first, **options)
    for _ in range(4):
        model.partial_fit(ROWS, LABELS)
    wanted = trained_by_torch(first, batch_size=batch_size, epochs=4, averaging=average)
    np.testing.assert_allclose(model.predict_proba(ROWS), predicted_by_torch(wanted), rtol=0, atol=1e-10)
    network, params = model.to_network()
    assert network == NETWORK
    for seen, module in zip(params.averages, (wanted[1], wanted[4]), strict=True):
        np.testing.assert_allclose(seen.mean[:, 0], module.running_mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(seen.variance[:, 0], module.running_var, rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_an_average_is_that_of_the_weights_after_each_update(solver: str, batch_norm: bool) -> None:
    data, options = blobs(m=64), TINY | {"solver": solver, "batch_norm": batch_norm, "shuffle": False, "batch_size": 16}
    beta, plain, made = 0.8, MLPClassifier(**options), []
    for start in list(range(0, 64, 16)) * 3:
        part = slice(start, start + 16)
        plain.partial_fit(data[0][part], data[1][part], classes=[0, 1, 2])
        made.append(plain.to_network()[1].variables.copy())
    weights = [beta**age for age in range(len(made))][::-1]
    wanted = sum(w * V for w, V in zip(weights, made, strict=True)) / sum(weights)
    model = MLPClassifier(**options, average=beta)
    for _ in range(3):
        model.partial_fit(*data, classes=[0, 1, 2])
        model = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(model.to_network()[1].variables, wanted, rtol=1e-9, atol=1e-12)
    trained = model.set_params(average=None).partial_fit(*data)
    np.testing.assert_allclose(
        trained.to_network()[1].vector, plain.partial_fit(*data).to_network()[1].vector, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_fit_is_as_many_calls_of_partial_fit(batch_norm: bool) -> None:
    data, options = line(m=48), TINY | {"average": 0.9, "batch_norm": batch_norm, "shuffle": False, "dropout": 0.0}
    fitted, called = MLPRegressor(**options).fit(*data), MLPRegressor(**options)
    for _ in range(TINY["max_iter"]):
        called.partial_fit(*data)
    np.testing.assert_allclose(fitted.predict(data[0]), called.predict(data[0]), rtol=1e-12)


class TestWhatIsFitted:
    @pytest.mark.parametrize("options", [{}, {"average": 0.9}, {"solver": "lbfgs"}], ids=str)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_coefs_are_folded_and_predict_what_the_estimator_predicts(self, options, dtype) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY | {"hidden_layer_sizes": (6, 5)} | options, batch_norm=True, dtype=dtype).fit(X, y)
        A = X.astype(dtype)
        for l, (C, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            assert C.dtype == dtype
            Z = A @ C + b
            A = np.maximum(Z, 0) if l < 2 else np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(A, model.predict_proba(X), atol=1e-5 if dtype == "float32" else 1e-12)
        network, params = model.to_network()
        np.testing.assert_allclose(network.predict(params, X.T.astype(dtype)).T, A, atol=1e-5)
        folded = network.folded(params)[1]
        for C, b, (W, intercept) in zip(model.coefs_, model.intercepts_, folded, strict=True):
            np.testing.assert_array_equal(C, W.T)
            np.testing.assert_array_equal(b, intercept[:, 0])

    def test_first_weights_are_those_without_it(self) -> None:
        X, y = blobs()
        options = TINY | {"learning_rate_init": 1e-300, "max_iter": 1}
        plain, normalized = (MLPClassifier(**options, batch_norm=flag).fit(X, y) for flag in (False, True))
        ours, theirs = (model.to_network()[1] for model in (normalized, plain))
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.W, other.W)
        np.testing.assert_array_equal(ours[-1].b, theirs[-1].b)

    @pytest.mark.parametrize("options", [{"batch_norm": True}, {"average": 0.9}, {"batch_norm": True, "average": 0.5}])
    @pytest.mark.parametrize("library", ["pickle", "joblib", "skops"])
    def test_files_go_on_to_the_bit(self, options, library) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY, **options).partial_fit(X, y, classes=[0, 1, 2])
        if library == "pickle":
            again = pickle.loads(pickle.dumps(model))
        elif library == "joblib":
            joblib.dump(model, file := io.BytesIO())
            file.seek(0)
            again = joblib.load(file)
        else:
            skops = pytest.importorskip("skops.io")
            trusted = ["nnarray.sklearn.classifier.MLPClassifier"]
            again = skops.loads(skops.dumps(model), trusted=trusted)
        for one in (model, again):
            one.partial_fit(X, y)
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(again.to_network()[1].variables, model.to_network()[1].variables)

    def test_settings_are_parameters(self) -> None:
        model = clone(MLPRegressor(batch_norm=True, average=0.9, input_dropout=0.1, l1=0.2))
        assert {
            "batch_norm": True,
            "average": 0.9,
            "input_dropout": 0.1,
            "l1": 0.2,
        }.items() <= model.get_params().items()
        assert "batch_norm=True" in repr(model)
        with pytest.raises(TypeError, match="positional"):
            MLPRegressor("squared_error", (5,), "relu", True)  # type: ignore[misc]

    def test_networks_and_back(self) -> None:
        X, y = blobs()
        model = MLPClassifier(**TINY, batch_norm=True).fit(X, y)
        again = MLPClassifier.from_network(*model.to_network(), **TINY)
        assert again.batch_norm
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        network, params = again.to_network()
        np.testing.assert_array_equal(params.variables, model.to_network()[1].variables)
        again.partial_fit(X, y)
        with pytest.raises(ValueError, match="averages"):
            MLPClassifier.from_network(network, [tuple(layer) for layer in params])
        with pytest.raises(ValueError, match="batch normalisation"):
            MLPClassifier.from_network(network, network.folded(params)[1])

    def test_exports_are_folded(self) -> None:
        skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
        from nnarray.onnx import register_sklearn_converters

        register_sklearn_converters()
        X, y = blobs()
        model = MLPClassifier(**TINY, batch_norm=True).fit(X, y)
        made = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
        session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        labels, probabilities = session.run(None, {"X": X})
        np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(labels, model.predict(X))
        assert "BatchNormalization" not in {node.op_type for node in made.graph.node}


class TestTraining:
    @pytest.mark.parametrize("options", [{"batch_norm": True}, {"average": 0.9}, {"batch_norm": True, "average": 0.9}])
    def test_early_stopping_gives_back_the_best_of_what_it_gives(self, options) -> None:
        X, y = blobs(m=90)
        given = TINY | {"max_iter": 80, "learning_rate_init": 0.3, "n_iter_no_change": 5, "early_stopping": True}
        model = MLPClassifier(**given, **options).fit(X, y, X_val=X[:30], y_val=y[::-1][:30])
        assert model.n_iter_ < 80
        assert model.score(X[:30], y[::-1][:30]) == model.best_validation_score_ == max(model.validation_scores_)

    def test_validation_is_at_test_time(self) -> None:
        X, y = line()
        model = MLPRegressor(**TINY, batch_norm=True, average=0.9).fit(X, y, X_val=X[:20], y_val=y[:20])
        wanted = 0.5 * np.mean((model.predict(X[:20]) - y[:20]) ** 2)
        assert model.validation_loss_curve_[-1] == pytest.approx(wanted)

    @pytest.mark.parametrize("options", [{"batch_norm": True}, {"average": 0.9}, {"batch_norm": True, "average": 0.9}])
    def test_a_warm_start_goes_on_from_what_was_trained(self, options) -> None:
        X, y = line()
        cold = MLPRegressor(**TINY, **options).fit(X, y)
        warm = MLPRegressor(**TINY, **options, warm_start=True).fit(X, y)
        trained = warm._standing(nn.backend("numpy")).copy()
        warm.set_params(learning_rate_init=1e-300, max_iter=1).fit(X, y)
        size = sum(n * (n_prev + 1) for n_prev, n in pairwise((4, 5, 1)))
        np.testing.assert_allclose(warm.to_network()[1].variables[:size], trained[:size], rtol=1e-14)
        assert "average" not in options or abs(cold.coefs_[0] - warm.coefs_[0]).max() > 1e-3

    def test_l_bfgs_takes_the_whole_batchs_mean_and_variance(self) -> None:
        X, y = line(m=80)
        model = MLPRegressor(
            hidden_layer_sizes=(6,),
            solver="lbfgs",
            activation="tanh",
            batch_norm=True,
            alpha=0.1,
            max_iter=500,
            random_state=0,
        ).fit(X, y)
        network, params = model.to_network()
        J, g = network.gradients(params, X.T, y[None, :], l2=0.1)
        assert model.loss_ == pytest.approx(float(J), rel=1e-10)
        assert abs(g.vector).max() < 0.05
        Z = params[0].W @ X.T
        np.testing.assert_allclose(params.averages[0].mean[:, 0], Z.mean(axis=1), rtol=1e-10)
        np.testing.assert_allclose(params.averages[0].variance[:, 0], Z.var(axis=1, ddof=1), rtol=1e-10)
        assert model.score(X, y) > 0.9

    @pytest.mark.parametrize("m", [201, 401, 7])
    def test_batches_that_were_not_asked_for_are_never_of_one_example(self, m: int) -> None:
        X, y = line(m=m)
        model = MLPRegressor(hidden_layer_sizes=(5,), batch_norm=True, max_iter=2, random_state=0).fit(X, y)
        assert np.isfinite(model.predict(X)).all()

    @pytest.mark.parametrize("batch_size", [1, 12, 20])
    def test_batches_of_one_example_are_refused(self, batch_size: int) -> None:
        X, y = line(m=61)
        with pytest.raises(ValueError, match="batch_norm needs at least 2 examples in every batch"):
            MLPRegressor(batch_norm=True, batch_size=batch_size).fit(X, y)
        model = MLPRegressor(batch_norm=True)
        for solver in ("adam", "lbfgs"):
            with pytest.raises(ValueError, match=r"batch_norm needs at least 2 examples.* n_samples = 1"):
                model.set_params(solver=solver).fit(X[:1], y[:1])
        assert not hasattr(model, "loss_")

    def test_what_does_not_go_with_them_is_refused(self) -> None:
        X, y = line()
        with pytest.raises(ValueError, match='average needs solver="sgd" or "adam"'):
            MLPRegressor(solver="lbfgs", average=0.9).fit(X, y)
        for wrong in (1.0, -0.1, "much"):
            with pytest.raises(ValueError, match="'average' parameter"):
                MLPRegressor(average=wrong).fit(X, y)
        with pytest.raises(ValueError, match="'batch_norm' parameter"):
            MLPRegressor(batch_norm="yes").fit(X, y)
        model = MLPRegressor(**TINY).fit(X, y)
        with pytest.raises(ValueError, match="fitted with batch_norm=False, which now is True"):
            model.set_params(batch_norm=True).partial_fit(X, y)
        da = pytest.importorskip("dask.array")
        with pytest.raises(ValueError, match="of the chunk of 20 examples from 0 on, in batches of 19"):
            MLPRegressor(**TINY | {"batch_size": 19}, batch_norm=True).fit(da.from_array(X, chunks=(20, 4)), y)
        averaged = MLPRegressor(**TINY, average=0.9).fit(da.from_array(X, chunks=(60, 4)), y)
        assert np.isfinite(averaged.predict(X)).all()

    @pytest.mark.parametrize("options", [{"batch_norm": True}, {"average": 0.9}, {"batch_norm": True, "average": 0.9}])
    @pytest.mark.parametrize("backend", ["torch", "jax"])
    def test_backends_agree(self, options, backend) -> None:
        pytest.importorskip(backend)
        X, y = blobs()
        here, there = (
            MLPClassifier(**TINY, **options, backend=name, dtype="float64").fit(X, y) for name in ("numpy", backend)
        )
        np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), rtol=0, atol=1e-10)
        there.partial_fit(X, y)


CHECKED = (MLPClassifier(max_iter=60, batch_norm=True), MLPRegressor(max_iter=60, average=0.5))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("estimator", CHECKED, ids=str)
def test_scikit_learns_checks_pass_but_for_weights_that_mean_and_variance_do_not_see(estimator) -> None:
    for instance, check in estimator_checks_generator(estimator):
        name = str(check)
        if "array_api" in name or (estimator.batch_norm and "sample_weight_equivalence" in name):
            continue
        try:
            check(instance)
        except pytest.skip.Exception:
            pass
        except Exception as error:
            if type(error).__name__ != "SkipTest":
                raise


@pytest.mark.parametrize("options", [{}, {"batch_size": 10}, {"solver": "lbfgs"}, {"average": 0.9}], ids=str)
def test_averages_that_are_not_finite_are_no_fit(options) -> None:
    generator = np.random.default_rng(0)
    X = (generator.normal(size=(20, 2)) * 1e25).astype("f4")  # whose variance is no float32
    model = MLPClassifier((4,), batch_norm=True, max_iter=3, **options)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(X, generator.integers(0, 2, 20))
