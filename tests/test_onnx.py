"""ONNX: what nnarray writes runs elsewhere with the same numbers, and what others write is read."""

import json
import os
import warnings
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem

import nnarray as nn
from nnarray.core.activations import ACTIVATIONS

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

HIDDEN = tuple(ACTIVATIONS)
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def run(model: Any, X: np.ndarray) -> list[Any]:
    """What onnxruntime makes of examples as rows."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: X}))


def drawn(seed: int) -> tuple[nn.Network, list[Any], np.ndarray, str]:
    """A network of random depth, widths, activations, output and dtype, with weights of moderate size, and X."""
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 6))
    output = OUTPUTS[seed % 4]
    sizes = [int(n) for n in rng.integers(1, 33, depth + 1)]
    sizes[-1] += output == "softmax"
    hidden = [HIDDEN[i] for i in rng.integers(0, len(HIDDEN), depth - 1)]
    dtype = ("float32", "float64")[seed // 4 % 2]
    network, layers, X, _ = problem(tuple(sizes), hidden, output, m=int(rng.integers(1, 50)), seed=seed)
    layers = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
    return network, layers, X.astype(dtype), dtype


class TestRoundTrip:
    @pytest.mark.parametrize("tens", range(24))
    def test_240_drawn_networks_run_and_come_back(self, tens) -> None:
        for seed in range(10 * tens, 10 * tens + 10):
            network, layers, X, dtype = drawn(seed)
            model = nn.to_onnx(
                network, layers, opset=(13, 15, 17, 21)[seed % 4 if dtype == "float32" else seed // 8 % 2]
            )
            (A,) = run(model, np.ascontiguousarray(X.T))
            expected = network.predict(layers, X).T
            assert (A.dtype, A.shape) == (expected.dtype, expected.shape)
            largest = np.maximum(np.abs(expected), 1.0)
            assert np.abs((A - expected) / largest).max() <= TOLERANCE[dtype], (seed, network)
            again, params = nn.from_onnx(model)
            assert (again, params.dtype) == (network, dtype)
            np.testing.assert_array_equal(params.vector, nn.Parameters.from_layers(layers).vector)

    def test_any_number_of_examples(self) -> None:
        network, layers, _, _ = drawn(5)
        model = nn.to_onnx(network, layers)
        for m in (1, 2, 1000):
            X = np.ones((m, network.sizes[0]), "float64")
            assert run(model, X)[0].shape == (m, network.sizes[-1])

    def test_parameters_of_every_namespace(self, space: Space) -> None:
        network, layers, X, _ = problem((3, 4, 2), "tanh", "softmax", m=5)
        (A,) = run(nn.to_onnx(network, space.pairs(layers, "float64")), X.T)
        np.testing.assert_allclose(A, network.predict(layers, X).T, rtol=1e-12)

    def test_names_classes_and_the_network_are_metadata(self, tmp_path) -> None:
        network, layers, _, _ = problem((3, 4, 2), "tanh", "softmax", m=5)
        metadata = {"classes": ["grün", "赤"], "features": ["a", "b", "c"], "target": "colour", "user": {"epochs": 3}}
        onnx.save(nn.to_onnx(network, layers, metadata=metadata), tmp_path / "m.onnx")
        held = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
        described = {"format": 1, "sizes": [3, 4, 2], "hidden": ["tanh"], "output": "softmax", **metadata}
        assert held == {**metadata, "nnarray": described}
        assert nn.from_onnx(tmp_path / "m.onnx")[0] == nn.from_onnx(str(tmp_path / "m.onnx"))[0] == network
        assert nn.from_onnx((tmp_path / "m.onnx").read_bytes())[0] == network

    @pytest.mark.parametrize("opset", range(13, 23))
    def test_opsets(self, opset) -> None:
        network, layers, X, _ = problem((3, 4, 4, 2), ("relu", "leaky_relu"), "sigmoid", m=5)
        model = nn.to_onnx(network, layers, opset=opset)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        np.testing.assert_allclose(run(model, X.T)[0], network.predict(layers, X).T, rtol=1e-12)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"opset": 12}, ValueError, "opset must be from 13 to"),
            ({"opset": 17.5}, TypeError, "opset must be a whole number"),
            ({"opset": 999}, ValueError, "opset must be from 13 to"),
            ({"network": (3, 2)}, TypeError, "network must be a Network"),
            ({"network": nn.Network((3, 5))}, ValueError, "params must fit"),
            ({"params": [(np.full((2, 3), np.nan), np.zeros((2, 1)))]}, ValueError, "params must be finite"),
            ({"metadata": {"features": ["a"]}}, ValueError, "features"),
            ({"metadata": {"colour": 1}}, ValueError, "colour"),
        ],
    )
    def test_what_makes_no_model(self, change, error, message) -> None:
        arguments = {"network": nn.Network((3, 2)), "params": nn.Network((3, 2)).init(), **change}
        with pytest.raises(error, match=message):
            nn.to_onnx(**arguments)


def graph(nodes: list[Any], constants: dict[str, Any], outputs: tuple[str, ...] = ("Y",), n_x: Any = 3) -> Any:
    """A model as another tool would write it."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    X = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", n_x])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph(nodes, "g", [X], ends, held), opset_imports=opsets, ir_version=8)


node = helper.make_node
W1, b1, W2, b2 = (
    np.random.default_rng(0).normal(size=shape).astype("float32") for shape in ((3, 4), (4,), (4, 2), (2,))
)
ROWS = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")


def assert_read(model: Any, expected: nn.Network, X: np.ndarray = ROWS, which: int = 0, **options: Any) -> None:
    """The network is this one and predicts what onnxruntime makes of the graph."""
    network, params = nn.from_onnx(model, **options)
    assert network == expected
    found = np.asarray(run(model, X)[which])
    A = network.predict(params, X.reshape(len(X), -1).T).T
    if network.sizes[-1] == 1 and found.ndim == 2 and found.shape[1] == 2:
        A = np.concatenate([1 - A, A], axis=1)
    if not options:
        np.testing.assert_allclose(found.reshape(A.shape), A, rtol=2e-6, atol=1e-6)


class TestGraphsOfOthers:
    def test_keras_as_tf2onnx_writes_it(self) -> None:
        names = "m/dense/MatMul/ReadVariableOp:0", "m/dense/BiasAdd/ReadVariableOp:0"
        nodes = [
            node("MatMul", ["X", names[0]], ["m/dense/MatMul:0"]),
            node("Add", ["m/dense/MatMul:0", names[1]], ["m/dense/BiasAdd:0"]),
            node("Relu", ["m/dense/BiasAdd:0"], ["m/dense/Relu:0"]),
            node("MatMul", ["m/dense/Relu:0", "W2"], ["m/dense_1/MatMul:0"]),
            node("Add", ["m/dense_1/MatMul:0", "b2"], ["m/dense_1/BiasAdd:0"]),
            node("Softmax", ["m/dense_1/BiasAdd:0"], ["Y"]),
        ]
        model = graph(nodes, {names[0]: W1, names[1]: b1, "W2": W2, "b2": b2})
        assert_read(model, nn.Network((3, 4, 2), output="softmax"))

    def test_gemm_in_all_its_forms(self) -> None:
        nodes = [
            node("Flatten", ["X"], ["x"]),
            node("Gemm", ["x", "W1T", "b1"], ["z1"], transB=1, alpha=0.5, beta=2.0),
            node("LeakyRelu", ["z1"], ["a1"]),
            node("Dropout", ["a1"], ["d1"]),
            node("Constant", [], ["W2"], value=numpy_helper.from_array(W2)),
            node("Transpose", ["W2"], ["W2T"], perm=[1, 0]),
            node("Transpose", ["W2T"], ["W2TT"]),
            node("Gemm", ["d1", "W2TT"], ["z2"]),
            node("Identity", ["z2"], ["i2"]),
            node("Add", ["b2", "i2"], ["z3"]),
            node("Reshape", ["z3", "shape"], ["Y"]),
        ]
        model = graph(nodes, {"W1T": W1.T.copy(), "b1": b1, "b2": b2, "shape": np.array([-1, 2])})
        assert_read(model, nn.Network((3, 4, 2), hidden="leaky_relu", output="identity"))
        for output in OUTPUTS:
            assert_read(model, nn.Network((3, 4, 2), hidden="leaky_relu", output=output), output=output)

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_other_dtypes(self, dtype) -> None:
        model = graph([node("Gemm", ["X", "W", "b"], ["Y"])], {"W": W1.astype(dtype), "b": b1.astype(dtype)})
        _, params = nn.from_onnx(model)
        assert params.dtype == ("float64" if dtype == "float64" else "float32")
        np.testing.assert_array_equal(params[0].W, W1.astype(dtype).T)

    @pytest.mark.parametrize("dynamo", [False, True])
    def test_pytorch_s_own_export(self, tmp_path, dynamo) -> None:
        torch = pytest.importorskip("torch")
        if dynamo:
            pytest.importorskip("onnxscript")
        make = torch.nn
        body = make.Sequential(make.Linear(6, 5), make.ReLU(), make.Dropout(0.5), make.Linear(5, 4, bias=False))
        module = make.Sequential(make.Flatten(), body, make.Tanh(), make.Linear(4, 3), make.Softmax(dim=1)).eval()
        path = tmp_path / "m.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (torch.ones(2, 2, 3),), str(path), dynamo=dynamo, verbose=False)
        network, params = nn.from_onnx(path)
        assert network == nn.Network((6, 5, 4, 3), hidden=("relu", "tanh"), output="softmax")
        X = torch.randn(9, 2, 3)
        A = network.predict(params, X.reshape(9, 6).numpy().T).T
        np.testing.assert_allclose(A, module(X).detach().numpy(), rtol=1e-5, atol=1e-6)

    def test_keras_s_own_export(self, tmp_path, monkeypatch) -> None:
        pytest.importorskip("torch")
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            keras = pytest.importorskip("keras")
            layers = keras.layers
            model = keras.Sequential(
                [
                    layers.Input((6,)),
                    layers.Dense(5, activation="relu"),
                    layers.Dropout(0.2),
                    layers.Dense(4, activation="tanh"),
                    layers.Dense(1, activation="sigmoid"),
                ]
            )
            X = np.random.default_rng(0).normal(size=(7, 6)).astype("float32")
            expected = model.predict(X, verbose=0)
            model.export(str(tmp_path / "m.onnx"), format="onnx", verbose=False)
        network, params = nn.from_onnx(tmp_path / "m.onnx")
        assert network == nn.Network((6, 5, 4, 1), hidden=("relu", "tanh"))
        np.testing.assert_allclose(network.predict(params, X.T).T, expected, rtol=1e-5, atol=1e-6)

    LAYER = (node("Gemm", ["X", "W", "b"], ["z"]),)
    REFUSED: tuple[tuple[str, list[Any], dict[str, Any], tuple[str, ...]], ...] = (
        ("Conv", [node("Conv", ["X", "W"], ["Y"])], {}, ("Y",)),
        ("Mul", [*LAYER, node("Mul", ["z", "b"], ["Y"])], {}, ("Y",)),
        ("Sub", [*LAYER, node("Sub", ["z", "b"], ["Y"])], {}, ("Y",)),
        ("Softplus", [*LAYER, node("Softplus", ["z"], ["Y"])], {}, ("Y",)),
        ("it ends in Relu", [*LAYER, node("Relu", ["z"], ["Y"])], {}, ("Y",)),
        ("Exp", [*LAYER, node("Exp", ["z"], ["a"]), node("MatMul", ["a", "V"], ["Y"])], {}, ("Y",)),
        ("LeakyRelu", [*LAYER, node("LeakyRelu", ["z"], ["Y"], alpha=0.2)], {}, ("Y",)),
        ("Softmax", [*LAYER, node("Softmax", ["z"], ["Y"], axis=0)], {}, ("Y",)),
        ("transA", [node("Gemm", ["X", "W"], ["Y"], transA=1)], {}, ("Y",)),
        ("fits the layer before", [*LAYER, node("MatMul", ["z", "W"], ["Y"])], {}, ("Y",)),
        ("constant weights", [node("MatMul", ["W", "X"], ["Y"])], {}, ("Y",)),
        ("Relu, Add", [*LAYER, node("Relu", ["z"], ["r"]), node("Add", ["z", "r"], ["Y"])], {}, ("Y",)),
        ("bias must be constant", [node("Gemm", ["X", "W", "b"], ["Y"])], {"b": np.ones((3, 4), "f")}, ("Y",)),
        ("not all finite", [*LAYER, node("Identity", ["z"], ["Y"])], {"b": np.full(4, np.nan, "f")}, ("Y",)),
        ("nothing", [], {}, ("X",)),
        ("Gemm is of the domain 'own'", [node("Gemm", ["X", "W", "b"], ["Y"], domain="own")], {}, ("Y",)),
        ("Elu is of the domain 'own'", [*LAYER, node("Elu", ["z"], ["Y"], domain="own")], {}, ("Y",)),
        ("Reshape", [*LAYER, node("Reshape", ["z", "s"], ["Y"])], {"s": np.array([-1, 1])}, ("Y",)),
    )

    @pytest.mark.parametrize(("message", "nodes", "constants", "outputs"), REFUSED, ids=[r[0] for r in REFUSED])
    def test_what_is_no_dense_network(self, message, nodes, constants, outputs) -> None:
        model = graph(nodes, {"W": W1, "b": b1, "V": W2, **constants}, outputs)
        with pytest.raises(nn.ModelFileError, match=message):
            nn.from_onnx(model)

    def test_sequences_are_no_rows_until_they_are_flattened(self) -> None:
        constants = {"W": W1, "V": np.ones((6, 2), "f")}
        for dims, nodes, is_read in (
            (["N", 7, 3], [node("MatMul", ["X", "W"], ["Y"])], False),
            (["N", 2, 3], [node("Flatten", ["X"], ["x"]), node("MatMul", ["x", "V"], ["Y"])], True),
            ([5, 2, 3], [node("Reshape", ["X", "s"], ["x"]), node("MatMul", ["x", "V"], ["Y"])], True),
            ([5, 2, 3], [node("Reshape", ["X", "t"], ["x"]), node("MatMul", ["x", "V"], ["Y"])], False),
        ):
            model = graph(nodes, {**constants, "s": np.array([5, 6]), "t": np.array([4, 6])})
            model.graph.input[0].CopyFrom(helper.make_tensor_value_info("X", TensorProto.FLOAT, dims))
            if is_read:
                assert nn.from_onnx(model)[0] == nn.Network((6, 2), output="identity")
                continue
            with pytest.raises(nn.ModelFileError, match=r"rows of a matrix|Reshape"):
                nn.from_onnx(model)

    def test_two_inputs_and_a_tensor_elsewhere(self) -> None:
        model = graph([node("Gemm", ["X", "W", "b"], ["Y"])], {"b": b1})
        model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [3, 4]))
        with pytest.raises(nn.ModelFileError, match="one input, got 2"):
            nn.from_onnx(model)
        model = graph([node("Gemm", ["X", "W", "b"], ["Y"])], {"W": W1, "b": b1})
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        with pytest.raises(nn.ModelFileError, match="another file"):
            nn.from_onnx(model)

    @pytest.mark.parametrize("content", [b"", b"\0" * 50, b"PK\x03\x04", bytes(range(256)), b"\x1b[31m" * 1000])
    def test_what_is_no_model(self, tmp_path, content) -> None:
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(nn.ModelFileError, match=r"m\.onnx is not") as caught:
            nn.from_onnx(tmp_path / "m.onnx")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000
        with pytest.raises(FileNotFoundError):
            nn.from_onnx(tmp_path / "missing")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX pipes")
    def test_a_pipe_is_not_waited_on_nor_a_device_read(self, tmp_path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", "/dev/zero"):
            with pytest.raises(nn.ModelFileError, match="is not a valid ONNX model: it is not a regular file"):
                nn.from_onnx(path)

    def test_damaged_models_are_refused_or_whole(self) -> None:
        network, layers, _, _ = drawn(9)
        content, rng = nn.to_onnx(network, layers).SerializeToString(), np.random.default_rng(0)
        refused = 0
        for _ in range(400):
            damaged = bytearray(content)
            for at in rng.integers(len(content), size=rng.integers(1, 4)):
                damaged[at] = rng.integers(256)
            try:
                assert np.isfinite(nn.from_onnx(bytes(damaged))[1].vector).all()
            except nn.ModelFileError:
                refused += 1
        assert 20 < refused < 400

    def test_an_output_that_contradicts_the_graph(self) -> None:
        network, layers, _, _ = problem((3, 2), (), "softmax", m=2)
        with pytest.raises(ValueError, match="output must be 'softmax'"):
            nn.from_onnx(nn.to_onnx(network, layers), output="sigmoid")


def estimators() -> list[Any]:
    sklearn = pytest.importorskip("nnarray.sklearn")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    y, three = X[:, 0] > 0, np.array(["a", "b", "c"])[np.digitize(X[:, 1], [-0.5, 0.5])]
    small: dict[str, Any] = {"max_iter": 20, "random_state": 0}
    mlp, regressor = sklearn.MLPClassifier, sklearn.MLPRegressor
    return [
        *(
            (f"binary {activation}", mlp((5,), activation, **small).fit(X, y.astype(int)))
            for activation in sklearn.settings.ACTIVATIONS
        ),
        ("booleans", mlp((5,), **small).fit(X, y)),
        ("text", mlp((5,), **small).fit(X, np.where(y, "yes", "no"))),
        ("three classes", mlp((5, 4), ["tanh", "leaky_relu"], **small).fit(X, three)),
        ("no hidden layer", mlp((), solver="lbfgs", **small).fit(X, three)),
        ("two labels", mlp((5,), **small).fit(X, (X[:, :2] > 0).astype(int))),
        ("three labels", mlp((5,), **small).fit(X, (X[:, :3] > 0).astype(int))),
        ("two units", mlp.from_network(*problem((4, 3, 2), "tanh", "softmax", m=1)[:2])),
        ("numbers", regressor(hidden_layer_sizes=(5,), **small).fit(X, X[:, 0])),
        ("several numbers", regressor(hidden_layer_sizes=(5,), **small).fit(X, X[:, :3])),
        ("counts", regressor("poisson", hidden_layer_sizes=(5,), **small).fit(X, rng.poisson(2.0, 80))),
    ]


@pytest.mark.filterwarnings("ignore")
class TestConverters:
    @pytest.fixture(autouse=True)
    def _converters(self) -> None:
        self.skl2onnx = pytest.importorskip("skl2onnx")
        from nnarray.onnx import register_sklearn_converters

        register_sklearn_converters()

    def convert(self, model: Any, dtype: str, n_x: int = 4, **options: Any) -> Any:
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        kind = FloatTensorType if dtype == "float32" else DoubleTensorType
        return self.skl2onnx.convert_sklearn(
            model, initial_types=[("X", kind([None, n_x]))], target_opset={"": 17, "ai.onnx.ml": 3}, **options
        )

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_estimators(self, dtype) -> None:
        X = np.random.default_rng(1).normal(size=(50, 4)).astype(dtype)
        for name, model in estimators():
            is_classifier = hasattr(model, "predict_proba")
            made = self.convert(model, dtype, options={id(model): {"zipmap": False}} if is_classifier else None)
            found = run(made, X)
            tolerance = {"rtol": 20 * TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
            if not is_classifier:
                np.testing.assert_allclose(np.squeeze(found[0]), model.predict(X), err_msg=name, **tolerance)
                continue
            assert found[0].tolist() == model.predict(X).tolist(), name
            np.testing.assert_allclose(found[1], model.predict_proba(X), err_msg=name, **tolerance)
            assert found[1].dtype == dtype

    def test_pipelines(self) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        X = 100 + 30 * np.random.default_rng(1).normal(size=(90, 4))
        y = (X[:, 0] > X[:, 1]).astype(int)
        pipeline = make_pipeline(StandardScaler(), sklearn.MLPClassifier((8,), max_iter=50, random_state=0)).fit(X, y)
        narrow = X.astype("float32")
        labels, probabilities = run(self.convert(pipeline, "float32"), narrow)
        assert labels.tolist() == pipeline.predict(narrow).tolist()
        found = [[row[0], row[1]] for row in probabilities]  # ZipMap's, which is of float32 alone
        np.testing.assert_allclose(found, pipeline.predict_proba(narrow), atol=1e-5)
        labels, found = run(self.convert(pipeline, "float64", options={"zipmap": False}), X)
        np.testing.assert_allclose(found, pipeline.predict_proba(X), rtol=1e-10)
        pipeline = make_pipeline(StandardScaler(), sklearn.MLPRegressor(max_iter=9, random_state=0)).fit(X, X[:, :2])
        np.testing.assert_allclose(run(self.convert(pipeline, "float64"), X)[0], pipeline.predict(X), rtol=1e-10)

    def test_ensembles_of_them(self) -> None:
        sklearn = pytest.importorskip("nnarray.sklearn")
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.ensemble import BaggingClassifier, StackingClassifier
        from sklearn.multioutput import MultiOutputRegressor

        X = np.random.default_rng(1).normal(size=(80, 4)).astype("float32")
        y = np.digitize(X[:, 1], [-0.5, 0.5])
        one = sklearn.MLPClassifier((5,), max_iter=20, random_state=0)
        for model in (
            BaggingClassifier(one, n_estimators=2),
            StackingClassifier([("a", one), ("b", one)]),
            CalibratedClassifierCV(one),
        ):
            model.fit(X, y)
            labels, found = run(self.convert(model, "float32", options={"zipmap": False}), X)
            assert labels.tolist() == model.predict(X).tolist()
            np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-5)
        model = MultiOutputRegressor(sklearn.MLPRegressor(max_iter=20, random_state=0)).fit(X, X[:, :2])
        np.testing.assert_allclose(run(self.convert(model, "float32"), X)[0], model.predict(X), atol=1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_scikit_learn_s_own_exports_are_read(self, dtype) -> None:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        X = np.random.default_rng(1).normal(size=(80, 4)).astype(dtype)
        y, three = (X[:, 0] > 0).astype(int), np.digitize(X[:, 1], [-0.5, 0.5])
        small: dict[str, Any] = {"max_iter": 20, "random_state": 0}
        for model, output in (
            (MLPClassifier((5,), "tanh", **small).fit(X, y), "sigmoid"),
            (MLPClassifier((5, 3), "logistic", **small).fit(X, three), "softmax"),
            (MLPClassifier((5,), **small).fit(X, np.array(["a", "b", "c"])[three]), "softmax"),
            (MLPClassifier((5,), **small).fit(X, (X[:, :3] > 0).astype(int)), "sigmoid"),
            (MLPRegressor(hidden_layer_sizes=(5,), activation="identity", **small).fit(X, X[:, 0]), "identity"),
        ):
            for zipmap in (True, False) if hasattr(model, "classes_") else (None,):
                options = None if zipmap is None else {id(model): {"zipmap": zipmap}}
                network, params = nn.from_onnx(self.convert(model, dtype, options=options))
                assert (network.output, params.dtype) == (output, dtype)
                A = network.predict(params, X.T).T
                expected = model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)[:, None]
                if A.shape[1] == 1 and expected.shape[1] == 2:
                    expected = expected[:, 1:]
                np.testing.assert_allclose(A, expected, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-6)

    def test_ours_come_back_too(self) -> None:
        """Of activations that are one operator, or two that are known; skl2onnx's graphs have no functions."""
        composed = ("gelu", "gelu_tanh", "softplus", "elu", "selu")
        for name, model in estimators():
            if name.split()[-1] in composed:
                continue
            network, params = nn.from_onnx(self.convert(model, "float64"))
            expected, own = model.to_network()
            assert network == expected, name
            np.testing.assert_allclose(params.vector, own.vector, rtol=1e-15, err_msg=name)


def test_without_onnx_the_extra_is_named(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"extra nnarray\[onnx\]"):
        nn.to_onnx(nn.Network((2, 1)), nn.Network((2, 1)).init())
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    from nnarray.onnx import register_sklearn_converters

    with pytest.raises(ImportError, match="install skl2onnx"):
        register_sklearn_converters()
