"""scikit-learn's own MLPs as networks and back, and estimators as ONNX models: the same predictions."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nnarray as nn
from nnarray import sklearn as ours

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 5))
TARGETS = {
    "two classes": np.where(X[:, 0] > 0, "yes", "no"),
    "three classes": np.array([3, 5, 9])[np.argmax(X[:, :3], axis=1)],
    "floats as classes": np.argmax(X[:, :3], axis=1).astype(float),
    "several labels": (X[:, :4] > 0).astype(int),
    "a number": X @ [1.0, 2.0, 0.0, 0.0, 1.0],
    "two numbers": X[:, :2] ** 2,
}


def fitted(module: Any, kind: str, **settings: Any) -> Any:
    made = module.MLPRegressor if "number" in kind else module.MLPClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = made(
            **{"hidden_layer_sizes": (7, 4), "activation": "tanh", "max_iter": 20, "random_state": 1, **settings}
        )
        return model.fit(X, TARGETS[kind])


def of(model: Any) -> np.ndarray:
    """A[L], one row per example."""
    if not hasattr(model, "classes_"):
        return np.asarray(model.predict(X)).reshape(len(X), -1)
    A = model.predict_proba(X)
    return A[:, 1:] if model.n_outputs_ == 1 else A


class TestScikitLearn:
    @pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
    @pytest.mark.parametrize("kind", TARGETS)
    def test_a_network_of_its_mlp_predicts_the_same_and_goes_back(self, kind, activation) -> None:
        model = fitted(theirs, kind, activation=activation)
        network, params = nn.from_sklearn(model)
        np.testing.assert_allclose(network.predict(params, X.T).T, of(model), rtol=1e-12, atol=1e-14)
        if "number" in kind:
            both = nn.to_sklearn(network, params), ours.MLPRegressor.from_network(network, params)
        else:
            classes = None if kind == "several labels" else model.classes_
            both = (
                nn.to_sklearn(network, params, classes),
                ours.MLPClassifier.from_network(network, params, classes=classes),
            )
        for again in both:
            np.testing.assert_array_equal(again.predict(X).shape, model.predict(X).shape)
            if "number" in kind:
                np.testing.assert_allclose(again.predict(X), model.predict(X), rtol=1e-12, atol=1e-14)
            else:
                np.testing.assert_array_equal(again.predict(X), model.predict(X))

    def test_counts_and_float32(self) -> None:
        model = theirs.MLPRegressor(hidden_layer_sizes=(3,), loss="poisson", solver="lbfgs", random_state=0)
        model.fit(X.astype("float32"), np.arange(60.0) % 4)
        network, params = nn.from_sklearn(model)
        assert (network.output, params.dtype) == ("exp", model.coefs_[0].dtype.name)
        again = nn.to_sklearn(network, params)
        assert again.loss == "poisson"
        np.testing.assert_allclose(again.predict(X), network.predict(params, X.T)[0], rtol=1e-5)

    def test_what_goes_back_is_a_copy_that_trains_on(self) -> None:
        network = nn.Network((5, 6, 3), "tanh", "softmax")
        params = network.init(seed=2, dtype="float64")
        model = nn.to_sklearn(network, params, classes=[3, 5, 9]).set_params(learning_rate_init=0.01)
        before = params.vector.copy()
        for _ in range(200):
            model.partial_fit(X, TARGETS["three classes"])
        assert model.score(X, TARGETS["three classes"]) > 0.9
        np.testing.assert_array_equal(params.vector, before)

    def test_batch_normalisation_goes_folded(self) -> None:
        network = nn.Network((5, 4, 1), output="identity", batch_norm=True)
        params = nn.train(network, X.T, TARGETS["a number"][None], epochs=2, dtype="float64").params
        found = nn.to_sklearn(network, params).predict(X)
        np.testing.assert_allclose(found, network.predict(params, X.T)[0], rtol=1e-12)

    def test_what_is_refused(self) -> None:
        model = fitted(theirs, "a number")
        with pytest.raises(TypeError, match=r"got Pipeline; give its last step$"):
            nn.from_sklearn(make_pipeline(StandardScaler(), model))
        with pytest.raises(NotFittedError):
            nn.from_sklearn(theirs.MLPClassifier())
        gelu = nn.Network((2, 3, 1), "gelu")
        with pytest.raises(ValueError, match=r"one hidden activation of 'identity', .*, got \('gelu',\)"):
            nn.to_sklearn(gelu, gelu.init())
        mixed = nn.Network((2, 3, 3, 1), ["relu", "tanh"])
        with pytest.raises(ValueError, match="one hidden activation"):
            nn.to_sklearn(mixed, mixed.init())
        number = nn.Network((2, 1), output="identity")
        with pytest.raises(TypeError, match="classes must be left out"):
            nn.to_sklearn(number, number.init(), classes=[0, 1])

    def test_our_own_estimators_give_their_networks(self) -> None:
        model = fitted(ours, "three classes")
        network, params = nn.from_sklearn(model)
        np.testing.assert_array_equal(params.vector, model.to_network()[1].vector)
        assert network == model.to_network()[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestOnnx:
    @staticmethod
    def run(made: Any) -> dict[str, np.ndarray]:
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"X": X}), strict=True))

    @pytest.mark.parametrize("settings", [{}, {"batch_norm": True, "activation": "relu"}, {"average": 0.9}])
    @pytest.mark.parametrize("kind", TARGETS)
    def test_an_estimator_s_labels_probabilities_and_numbers(self, kind, settings) -> None:
        pytest.importorskip("onnx")
        model = fitted(ours, kind, **settings)
        found = self.run(nn.to_onnx(model))
        if "number" in kind:
            assert list(found) == ["prediction"]
            np.testing.assert_allclose(found["prediction"], of(model), rtol=1e-9, atol=1e-12)
            return
        assert list(found) == ["label", "probabilities"]
        np.testing.assert_array_equal(found["label"], model.predict(X))
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=1e-9, atol=1e-12)

    def test_a_model_file_and_names_of_columns(self, tmp_path) -> None:
        pytest.importorskip("onnx")
        network = nn.Network((5, 2), output="softmax")
        nn.save(tmp_path / "m.safetensors", network, network.init(), metadata={"classes": ["u", "v"]})
        model = nn.read_model(tmp_path / "m.safetensors")
        assert self.run(nn.to_onnx(model))["label"].tolist() == model.labels(X.T)
        import pandas as pd  # type: ignore[import-untyped]

        frame = pd.DataFrame(X, columns=list("abcde"))
        made = nn.to_onnx(ours.MLPRegressor(max_iter=2).fit(frame, TARGETS["a number"]))
        assert {entry.key: entry.value for entry in made.metadata_props}["features"] == '["a", "b", "c", "d", "e"]'

    def test_what_is_refused(self) -> None:
        pytest.importorskip("onnx")
        model = fitted(ours, "two classes")
        with pytest.raises(TypeError, match="params and metadata must be left out: MLPClassifier has its own"):
            nn.to_onnx(model, model.to_network()[1])
        with pytest.raises(TypeError, match=r"got Pipeline; nnarray.onnx.register_sklearn_converters\(\)"):
            nn.to_onnx(make_pipeline(StandardScaler(), model))
        with pytest.raises(TypeError, match=r"got MLPClassifier; nn.from_sklearn makes a network"):
            nn.to_onnx(fitted(theirs, "two classes"))
        with pytest.raises(NotFittedError):
            nn.to_onnx(ours.MLPClassifier())
        with pytest.raises(ValueError, match="one class alone"):
            nn.to_onnx(ours.MLPClassifier(max_iter=1).fit(X, ["same"] * 60))
