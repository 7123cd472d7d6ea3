"""Networks as estimators and as PyTorch's modules, and back."""

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray.core.activations import ACTIVATIONS

NETWORKS = [
    ((4, 1), (), "sigmoid"),
    ((4, 6, 1), ("relu",), "sigmoid"),
    ((4, 6, 5, 3), ("tanh", "leaky_relu"), "sigmoid"),
    ((4, 6, 3), ("sigmoid",), "softmax"),
    ((4, 3, 5, 2), ("identity", "relu"), "softmax"),
    ((4, 6, 2), ("leaky_relu",), "identity"),
    ((4, 5, 5, 1), ("tanh", "tanh"), "identity"),
    ((4, 5, 2), ("sigmoid",), "exp"),
    *(((4, 5, 4, 2), (name, name), "identity") for name in ACTIVATIONS),
]


@pytest.mark.parametrize(("sizes", "hidden", "output"), NETWORKS)
class TestEstimators:
    def estimator(self, network: nn.Network, layers: Any, **parameters: Any) -> Any:
        pytest.importorskip("sklearn")
        from nnarray.sklearn import MLPClassifier, MLPRegressor

        kind = MLPClassifier if network.output in ("sigmoid", "softmax") else MLPRegressor
        return kind.from_network(network, layers, **parameters)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_there_and_back(self, sizes, hidden, output, dtype) -> None:
        network, layers, X, _ = problem(sizes, hidden, output, m=30)
        layers = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
        X = X.astype(dtype)
        model = self.estimator(network, layers)
        again, params = model.to_network()
        assert (again, params.dtype) == (network, dtype)
        np.testing.assert_array_equal(params.vector, nn.Parameters.from_layers(layers).vector)
        A = network.predict(layers, X)
        found = getattr(model, "predict_proba", model.predict)(X.T)
        found = found[:, 1] if found.ndim == 2 and sizes[-1] == 1 else found
        np.testing.assert_allclose(found.reshape(30, -1), A.T, rtol=1e-6 if dtype == "float32" else 1e-13)
        params.vector[...] = 0
        assert np.any(model.coefs_[0]), "a network's parameters are its own"

    def test_a_fitted_one_s_network_predicts_the_same(self, sizes, hidden, output) -> None:
        network, layers, X, Y = problem(sizes, hidden, output, m=40)
        y = Y.T if output != "softmax" else np.array(["a", "b", "c"])[Y.argmax(axis=0)]
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        named = {"classes": np.array(["a", "b", "c"])[: sizes[-1]]} if output == "softmax" else {}
        model = self.estimator(network, layers, solver="sgd", random_state=1, **named)
        before = model.coefs_[0].copy()
        for _ in range(3):
            model.partial_fit(X.T, y)
        assert not np.array_equal(model.coefs_[0], before)
        found, params = model.to_network()
        assert found == network
        A = getattr(model, "predict_proba", model.predict)(X.T)
        A = A[:, 1] if A.ndim == 2 and sizes[-1] == 1 else A
        np.testing.assert_allclose(A.reshape(40, -1), found.predict(params, X).T, rtol=1e-13)
        assert model.score(X.T, y) == pytest.approx(found.score(params, X, Y), rel=1e-12)

    def test_one_step_is_that_of_a_fit_from_these_parameters(self, sizes, hidden, output) -> None:
        network, layers, X, Y = problem(sizes, hidden, output, m=40)
        y = Y.argmax(axis=0) if output == "softmax" else Y[0] if sizes[-1] == 1 else Y.T
        options = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "learning_rate_init": 0.1, "batch_size": 40}
        model = self.estimator(network, layers, shuffle=False, **options).partial_fit(X.T, y)
        g = network.gradients(layers, X, Y)[1]
        expected, _ = nn.GradientDescent(0.1).update(layers, g, nn.GradientDescent(0.1).init(layers))
        np.testing.assert_allclose(model.to_network()[1].vector, expected.vector, rtol=1e-10, atol=1e-14)


class TestFromNetwork:
    NETWORK, LAYERS, X, Y = problem((4, 5, 3), "relu", "softmax", m=20)

    def test_classes_are_its_labels(self) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        model = sklearn.MLPClassifier.from_network(self.NETWORK, self.LAYERS, classes=["hi", "lo", "mid"])
        at = self.NETWORK.predict(self.LAYERS, self.X).argmax(axis=0)
        assert model.predict(self.X.T).tolist() == np.array(["hi", "lo", "mid"])[at].tolist()
        binary, layers, X, _ = problem((4, 1), (), "sigmoid", m=20)
        model = sklearn.MLPClassifier.from_network(binary, layers, classes=[-1, 1])
        assert model.predict(X.T).tolist() == np.where(binary.predict(layers, X)[0] > 0.5, 1, -1).tolist()

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_inside_scikit_learn(self) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        from sklearn.base import clone
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        model = sklearn.MLPClassifier.from_network(self.NETWORK, self.LAYERS, random_state=0, max_iter=400)
        pipeline = make_pipeline(FunctionTransformer(), model)
        np.testing.assert_array_equal(pipeline.predict(self.X.T), model.predict(self.X.T))
        fresh = clone(model).fit(self.X.T, model.predict(self.X.T))
        assert fresh.to_network()[0].hidden == ("relu",)

    def test_parameters_of_every_namespace(self, space: Space) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        model = sklearn.MLPClassifier.from_network(self.NETWORK, space.pairs(self.LAYERS, "float64"))
        A = self.NETWORK.predict(self.LAYERS, self.X)
        np.testing.assert_allclose(model.predict_proba(self.X.T), A.T, rtol=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (((4, 5, 3), LAYERS), {}, TypeError, "network must be a Network"),
            ((nn.Network((4, 3), output="softmax"), LAYERS), {}, ValueError, "params must fit"),
            (
                (nn.Network((4, 5, 3), output="identity"), LAYERS),
                {},
                ValueError,
                "or 'softmax', got 'identity'",
            ),
            ((NETWORK, LAYERS), {"classes": [1, 2]}, ValueError, "classes must be the 3 different labels"),
            ((NETWORK, LAYERS), {"classes": [1, 2, 2]}, ValueError, "classes must be the 3 different labels"),
            ((NETWORK, LAYERS), {"classes": ["b", "a", "c"]}, ValueError, "ascending order"),
            ((nn.Network((4, 5, 3)), LAYERS), {"classes": ["a", "b", "c"]}, ValueError, "must be left out"),
            ((NETWORK, LAYERS), {"colour": 1}, TypeError, "colour"),
        ],
    )
    def test_what_makes_no_classifier(self, arguments, options, error, message) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        with pytest.raises(error, match=message):
            sklearn.MLPClassifier.from_network(*arguments, **options)

    def test_what_makes_no_regressor(self) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        with pytest.raises(ValueError, match="'identity' or 'exp', got 'softmax'"):
            sklearn.MLPRegressor.from_network(self.NETWORK, self.LAYERS)
        from sklearn.exceptions import NotFittedError

        with pytest.raises(NotFittedError):
            sklearn.MLPRegressor().to_network()


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        self.torch = pytest.importorskip("torch")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("sizes", "hidden", "output"), NETWORKS)
    def test_there_and_back(self, sizes, hidden, output, dtype) -> None:
        network, layers, X, _ = problem(sizes, hidden, output, m=30)
        layers = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
        drawn = self.torch.get_rng_state()
        module = nn.to_torch(network, layers)
        assert self.torch.equal(self.torch.get_rng_state(), drawn), "PyTorch's generator is the caller's"
        rows = self.torch.tensor(X.T.astype(dtype))
        A = network.predict(layers, X.astype(dtype))
        found = module(rows).detach().numpy()
        rounding = np.finfo("float32").eps if dtype == "float32" else 0.0  # of sums of size 1, which may cancel out
        np.testing.assert_allclose(found, A.T, rtol=2e-5 if dtype == "float32" else 1e-12, atol=rounding)
        pickled = pickle.loads(pickle.dumps(module))
        np.testing.assert_array_equal(pickled(rows).detach().numpy(), found)
        again, params = nn.from_torch(module)
        assert (again, params.dtype, params.backend.name) == (network, dtype, "torch")
        np.testing.assert_array_equal(params.vector.numpy(), nn.Parameters.from_layers(layers).vector)
        with self.torch.no_grad():
            module[0].weight.zero_()
        assert np.any(params[0].W.numpy()), "a network's parameters are its own"
        assert np.any(layers[0][0])

    def test_training_goes_on_there(self) -> None:
        network, layers, X, Y = problem((4, 5, 3), "tanh", "softmax", m=30)
        module = nn.to_torch(network, layers)
        logits = module[:-1](self.torch.tensor(X.T))
        loss = self.torch.nn.functional.cross_entropy(logits, self.torch.tensor(Y.argmax(axis=0)))
        loss.backward()
        J, g = network.gradients(layers, X, Y)
        assert loss.item() == pytest.approx(float(J), rel=1e-12)
        np.testing.assert_allclose(module[0].weight.grad.numpy(), g[0].W, rtol=1e-10, atol=1e-14)

    def test_modules_of_others(self) -> None:
        make = self.torch.nn
        body = make.Sequential(make.Linear(6, 5, bias=False), make.ReLU(), make.Dropout(0.3))
        rest = {"a": make.Linear(5, 4), "b": make.Identity(), "c": make.Linear(4, 2)}
        module = make.Sequential(OrderedDict(flat=make.Flatten(), body=body, **rest)).eval()
        network, params = nn.from_torch(module, output="softmax")
        assert network == nn.Network((6, 5, 4, 2), hidden=("relu", "identity"), output="softmax")
        X = self.torch.randn(7, 2, 3)
        expected = self.torch.softmax(module(X), dim=1).detach().numpy()
        np.testing.assert_allclose(network.predict(params, X.reshape(7, 6).T).numpy().T, expected, rtol=1e-5)
        assert nn.from_torch(make.Linear(3, 1))[0] == nn.Network((3, 1), output="identity")
        half = nn.from_torch(make.Linear(3, 1).to(self.torch.bfloat16))[1]
        assert half.dtype == "float32"

    def test_modules_that_are_no_networks(self) -> None:
        make = self.torch.nn
        Linear, Sequential = make.Linear, make.Sequential

        class Own(make.Module):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                super().__init__()
                self.layer = Linear(2, 2)

        for module in (
            3.0,
            make.ReLU(),
            Sequential(),
            Own(),
            Sequential(make.Conv1d(1, 1, 1), Linear(2, 1)),
            Sequential(make.Tanh(), Linear(2, 1)),
            Sequential(Linear(2, 2), make.ReLU(), make.Tanh(), Linear(2, 1)),
            Sequential(Linear(2, 2), make.LeakyReLU(0.2), Linear(2, 1)),
            Sequential(Linear(2, 2), make.Softmax(dim=1), Linear(2, 1)),
            Sequential(Linear(2, 2), make.Softmax(dim=0)),
            Sequential(Linear(2, 2), make.LogSoftmax(dim=1)),
            Sequential(Linear(2, 2), make.ReLU()),
        ):
            with pytest.raises(TypeError, match="module"):
                nn.from_torch(module)
        with pytest.raises(ValueError, match="output must be 'softmax'"):
            nn.from_torch(Sequential(Linear(2, 2), make.Softmax(dim=1)), output="sigmoid")

    def test_what_would_be_another_function_is_refused(self) -> None:
        make = self.torch.nn
        Linear, Sequential = make.Linear, make.Sequential
        named = {name: type(name, (getattr(make, name),), {}) for name in ("Linear", "ReLU", "Sequential")}
        for kind in named.values():
            kind.__module__ = "elsewhere"
        for module in (
            named["Sequential"](Linear(2, 2), make.ReLU(), Linear(2, 1)),
            Sequential(named["Linear"](2, 2), make.ReLU(), Linear(2, 1)),
            Sequential(Linear(2, 2), named["ReLU"](), Linear(2, 1)),
        ):
            with pytest.raises(TypeError, match=r"module must be of torch\.nn's own classes, got .* of elsewhere"):
                nn.from_torch(module)
        with pytest.raises(TypeError, match=r"got Softplus.*threshold=1\.0"):
            nn.from_torch(Sequential(Linear(2, 2), make.Softplus(threshold=1.0), Linear(2, 1)))
        for place in ("register_forward_hook", "register_forward_pre_hook"):
            for k in (0, 1):
                module = Sequential(Linear(2, 2), make.ReLU(), Linear(2, 1))
                handle = getattr([module, module[1]][k], place)(lambda *_: None)
                with pytest.raises(TypeError, match=r"module must have no forward hooks(.|\n)*remove it first"):
                    nn.from_torch(module)
                handle.remove()
                assert nn.from_torch(module)[0].sizes == (2, 2, 1)

    def test_parameters_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="params must fit"):
            nn.to_torch(nn.Network((2, 1)), nn.Network((3, 1)).init())
        with pytest.raises(TypeError, match="network must be"):
            nn.to_torch((2, 1), nn.Network((2, 1)).init())


def test_a_bias_without_its_second_axis_is_refused_with_the_remedy(space: Space) -> None:
    W, b = space.asarray(np.ones((3, 2))), space.asarray(np.ones(3))
    with pytest.raises(ValueError, match=r"b\[1\] must have shape .*got \(3,\); make it b\[:, None\]"):
        nn.Network((2, 3)).predict([(W, b)], space.asarray(np.ones((2, 1))))
