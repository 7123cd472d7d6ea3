"""Tools of others on nnarray's functions, as their own users call them; each is skipped where it is not installed."""

import importlib
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

import nnarray as nn

NETWORK = nn.Network((2, 8, 1), hidden="tanh")


def circle(m: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """X (2, m), and whether each point lies within the circle, (1, m)."""
    X = np.random.default_rng(0).normal(size=(2, m))
    return X, (np.sum(X**2, axis=0, keepdims=True) < 1.5).astype(float)


X, Y = circle()
THETA = NETWORK.init(seed=0, dtype="float64").vector


def J(theta: Any) -> float:
    return float(NETWORK.cost(NETWORK.parameters(theta), X, Y, l2=0.1))


def slope(theta: Any) -> np.ndarray:
    return NETWORK.gradients(NETWORK.parameters(theta), X, Y, l2=0.1)[1].vector


class TestScipy:
    @pytest.fixture(autouse=True)
    def optimize(self) -> Any:
        return pytest.importorskip("scipy.optimize")

    @pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "Newton-CG", "SLSQP", "trust-constr"])
    def test_minimize(self, optimize, method) -> None:
        found = optimize.minimize(J, THETA, jac=slope, method=method, options={"maxiter": 100})
        assert found.fun < 0.6 * J(THETA)
        assert found.fun == J(found.x)

    def test_check_grad_and_approx_fprime(self, optimize) -> None:
        assert optimize.check_grad(J, slope, THETA) < 1e-6
        np.testing.assert_allclose(optimize.approx_fprime(THETA, J), slope(THETA), atol=1e-6)

    def test_least_squares_by_the_jacobian(self, optimize) -> None:
        network = nn.Network((2, 4, 1), hidden="tanh", output="identity")

        def residuals(theta: np.ndarray) -> np.ndarray:
            return network.predict(network.parameters(theta), X)[0] - Y[0]

        def jacobian(theta: np.ndarray) -> np.ndarray:
            params = network.parameters(theta)
            return np.stack(
                [network.vjp(params, X[:, k : k + 1])[1](np.ones((1, 1)))[0].vector for k in range(X.shape[1])]
            )

        theta = network.init(seed=0, dtype="float64").vector
        found = optimize.least_squares(residuals, theta, jac=jacobian, max_nfev=30)
        assert found.cost < 0.2 * float(np.sum(residuals(theta) ** 2)) / 2


class TestJax:
    @pytest.fixture(autouse=True)
    def jax(self) -> Any:
        return pytest.importorskip("jax")

    @pytest.fixture
    def data(self, jax) -> tuple[Any, Any]:
        return jax.numpy.asarray(X, "float32"), jax.numpy.asarray(Y, "float32")

    def test_optax(self, jax, data) -> None:
        optax = pytest.importorskip("optax")
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03))
        params = NETWORK.init(seed=0, backend="jax")

        @jax.jit
        def step(params: Any, state: Any) -> Any:
            value, gradients = jax.value_and_grad(NETWORK.cost)(params, *data)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        state, values = optimizer.init(params), []
        for _ in range(200):
            params, state, value = step(params, state)
            values.append(float(value))
        assert isinstance(params, nn.Parameters)
        assert values[-1] < 0.3 * values[0]
        assert NETWORK.score(params, *data) > 0.9

    def test_optax_of_our_gradients(self, jax, data) -> None:
        optax = pytest.importorskip("optax")
        params, optimizer = NETWORK.init(seed=0, backend="jax"), optax.sgd(0.5)
        before, gradients = NETWORK.gradients(params, *data)
        updates, _ = optimizer.update(gradients, optimizer.init(params))
        found = optax.apply_updates(params, updates)
        np.testing.assert_allclose(found.vector, params.vector - 0.5 * gradients.vector, rtol=1e-6)
        assert NETWORK.cost(found, *data) < before

    def test_jaxopt(self, jax, data) -> None:
        jaxopt = pytest.importorskip("jaxopt")
        solver = jaxopt.LBFGS(lambda theta: NETWORK.cost(NETWORK.parameters(theta), *data, l2=0.1), maxiter=100)
        found, _ = solver.run(jax.numpy.asarray(THETA, "float32"))
        assert J(np.asarray(found, "float64")) < 0.6 * J(THETA)

    def test_optimistix(self, jax, data) -> None:
        optimistix = pytest.importorskip("optimistix")
        params = NETWORK.init(seed=0, backend="jax")
        solver = optimistix.BFGS(rtol=1e-4, atol=1e-4)
        found = optimistix.minimise(
            lambda params, _: NETWORK.cost(params, *data, l2=0.1), solver, params, max_steps=200, throw=False
        ).value
        assert isinstance(found, nn.Parameters)
        assert float(NETWORK.cost(found, *data, l2=0.1)) < 0.6 * J(THETA)

    def test_blackjax(self, jax, data) -> None:
        """In float64, as the tests switch JAX to it, and with it blackjax's own numbers."""
        blackjax = pytest.importorskip("blackjax")

        def log_density(theta: Any) -> Any:
            return -X.shape[1] * NETWORK.cost(NETWORK.parameters(theta), *data, l2=1.0)

        theta = jax.numpy.asarray(THETA, "float64")
        sampler = blackjax.hmc(
            log_density, step_size=0.05, inverse_mass_matrix=jax.numpy.ones_like(theta), num_integration_steps=10
        )
        step, state, taken = jax.jit(sampler.step), sampler.init(theta), 0
        for key in jax.random.split(jax.random.key(1), 100):
            state, info = step(key, state)
            taken += int(info.is_accepted)
        assert 50 < taken <= 100
        assert bool(jax.numpy.isfinite(state.position).all())

    def test_flatten_util_and_serialisation(self, jax) -> None:
        params = NETWORK.init(seed=0, backend="jax")
        flat, back = importlib.import_module("jax.flatten_util").ravel_pytree(params)
        np.testing.assert_array_equal(flat, params.vector)
        assert isinstance(back(flat), nn.Parameters)


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self) -> Any:
        return pytest.importorskip("torch")

    def test_an_optimiser_of_torch_moves_theta(self, torch) -> None:
        theta = torch.tensor(THETA, requires_grad=True)
        data = torch.asarray(X), torch.asarray(Y)
        optimizer = torch.optim.LBFGS([theta], max_iter=50, line_search_fn="strong_wolfe")

        def closure() -> Any:
            optimizer.zero_grad()
            value = NETWORK.cost(NETWORK.parameters(theta), *data, l2=0.1)
            value.backward()
            return value

        optimizer.step(closure)
        assert J(theta.detach().numpy()) < 0.6 * J(THETA)

    def test_a_module_and_a_data_loader(self, torch) -> None:
        module = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())
        network, params = nn.from_torch(module)
        found = network.predict(params, torch.asarray(X, dtype=torch.float32))
        np.testing.assert_allclose(found, module(torch.asarray(X.T, dtype=torch.float32)).detach().T, atol=1e-6)
        rows = torch.utils.data.TensorDataset(torch.asarray(X.T), torch.asarray(Y.T))
        loader = torch.utils.data.DataLoader(rows, batch_size=16)
        result = nn.train(NETWORK, lambda: ((x.T, y.T) for x, y in loader), epochs=60, optimizer=nn.Adam(0.03))
        assert len(result.history) == 60
        assert result.history[-1].cost < 0.6 * result.history[0].cost

    def test_functional_call_over_an_ensemble(self, torch) -> None:
        thetas = torch.stack([torch.asarray(NETWORK.init(seed=s, dtype="float64").vector) for s in range(4)])
        found = torch.func.vmap(lambda theta: NETWORK.predict(NETWORK.parameters(theta), torch.asarray(X)))(thetas)
        for s in range(4):
            np.testing.assert_allclose(found[s], NETWORK.predict(NETWORK.init(seed=s, dtype="float64"), X), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
class TestScikitLearn:
    @pytest.fixture(autouse=True)
    def model(self) -> Any:
        pytest.importorskip("sklearn")
        from nnarray.sklearn import MLPClassifier

        return MLPClassifier((8,), activation="gelu", max_iter=30, random_state=0, tol=0.0, n_iter_no_change=100)

    def test_model_selection_and_inspection(self, model) -> None:
        from sklearn.inspection import permutation_importance
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        pipeline = make_pipeline(StandardScaler(), model)
        search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1e-2]}, cv=2).fit(X.T, Y[0])
        assert search.best_score_ > 0.5
        importance = permutation_importance(search, X.T, Y[0], n_repeats=2, random_state=0)
        assert importance.importances_mean.shape == (2,)

    def test_joblib_and_pickle(self, model, tmp_path) -> None:
        import joblib

        model.fit(X.T, Y[0])
        joblib.dump(model, tmp_path / "m.joblib")
        for again in (joblib.load(tmp_path / "m.joblib"), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(again.predict_proba(X.T), model.predict_proba(X.T))

    def test_skops(self, model) -> None:
        io = pytest.importorskip("skops.io")
        content = io.dumps(model.fit(X.T, Y[0]))
        unknown = io.get_untrusted_types(data=content)
        assert unknown == ["nnarray.sklearn.classifier.MLPClassifier"]
        again = io.loads(content, trusted=unknown)
        np.testing.assert_array_equal(again.predict_proba(X.T), model.predict_proba(X.T))

    def test_skl2onnx_and_onnxruntime(self, model) -> None:
        skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from nnarray.onnx import register_sklearn_converters

        register_sklearn_converters()
        pipeline = make_pipeline(StandardScaler(), model).fit(X.T, Y[0].astype(int))
        made = skl2onnx.to_onnx(pipeline, X.T[:1], options={"zipmap": False})
        session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        label, probabilities = session.run(None, {session.get_inputs()[0].name: X.T.copy()})
        np.testing.assert_array_equal(label, pipeline.predict(X.T))
        np.testing.assert_allclose(probabilities, pipeline.predict_proba(X.T), atol=1e-9)


def test_dask_arrays() -> None:
    """Predictions of a dask array of blocks, as dask's users ask for them; and dask's namespace itself."""
    da = pytest.importorskip("dask.array")
    params = NETWORK.parameters(THETA)
    blocks = da.from_array(X, chunks=(2, 16))
    predicted = partial(NETWORK.predict, params)
    by_block = da.map_blocks(predicted, blocks, chunks=((1,), blocks.chunks[1]), dtype="float64", meta=np.empty((0, 0)))
    np.testing.assert_allclose(by_block.compute(scheduler="threads"), NETWORK.predict(params, X), rtol=1e-12)
    pairs, targets = [(da.asarray(W), da.asarray(b)) for W, b in params], da.from_array(Y, chunks=(1, 16))
    for found, wanted in (
        (NETWORK.predict(pairs, blocks), NETWORK.predict(params, X)),
        (NETWORK.cost(pairs, blocks, targets, l2=0.1), NETWORK.cost(params, X, Y, l2=0.1)),
        (NETWORK.gradients(pairs, blocks, targets, l2=0.1)[1].vector, slope(THETA)),
        (NETWORK.vjp(pairs, blocks)[1](targets)[1], NETWORK.vjp(params, X)[1](Y)[1]),
        (NETWORK.score(pairs, blocks, targets), NETWORK.score(params, X, Y)),
    ):
        assert isinstance(found, da.Array)
        np.testing.assert_allclose(found.compute(scheduler="sync"), wanted, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("hidden", ["relu", "sigmoid", "gelu", "selu"])
def test_ndonnx_builds_a_graph_for_any_m(hidden) -> None:
    ndx, runtime = pytest.importorskip("ndonnx"), pytest.importorskip("onnxruntime")
    network = nn.Network((2, 5, 3), hidden=hidden, output="softmax")
    params = network.init(seed=1, dtype="float64")
    given = ndx.argument(shape=(2, "m"), dtype=ndx.float64)
    A = network.predict([(ndx.asarray(W), ndx.asarray(b)) for W, b in params], given)
    session = runtime.InferenceSession(ndx.build({"X": given}, {"A": A}).SerializeToString())
    for m in (1, 64):
        (found,) = session.run(None, {"X": X[:, :m]})
        np.testing.assert_allclose(found, network.predict(params, X[:, :m]), rtol=1e-12)
