"""Batch normalisation of PyTorch's modules and of ONNX graphs: read as such where it fits, else folded."""

import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from conftest import Space
from test_batch_norm import examples

import nnarray as nn

torch = pytest.importorskip("torch")

make = torch.nn
BN, Linear, Sequential, Tanh, ReLU = make.BatchNorm1d, make.Linear, make.Sequential, make.Tanh, make.ReLU


def trained(*modules: Any, dtype: Any = torch.float64) -> Any:
    """A module whose averages, gamma and beta are those of no beginning, in evaluation mode."""
    module = deepcopy(Sequential(*modules)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, BN):
            for V in (part.running_var, *([] if part.weight is None else [part.weight.data])):
                V.uniform_(0.5, 2, generator=generator)
            for V in (part.running_mean, *([] if part.bias is None else [part.bias.data])):
                V.normal_(generator=generator)
    return module.eval()


READ: dict[str, Any] = {
    "behind each": (Linear(4, 6), BN(6), Tanh(), Linear(6, 5), BN(5), ReLU(), Linear(5, 3)),
    "without bias": (Linear(4, 6, bias=False), BN(6), Tanh(), make.Dropout(0.3), Linear(6, 3)),
    "without gamma": (Linear(4, 6), BN(6, affine=False), Tanh(), Linear(6, 3)),
    "without an activation": (Linear(4, 6), BN(6), Linear(6, 3), make.Softmax(dim=1)),
    "of the inputs, too": (BN(4), Linear(4, 6), BN(6), Tanh(), Linear(6, 3), BN(3)),
    "twice there": (BN(4), BN(4), Linear(4, 6), BN(6), Tanh(), BN(6), Linear(6, 3)),
    "other momentum": (Linear(4, 6), BN(6, momentum=None), Tanh(), Linear(6, 3)),
}
FOLDED: dict[str, Any] = {
    "behind some": (Linear(4, 6), BN(6), Tanh(), Linear(6, 5), ReLU(), Linear(5, 3)),
    "behind the activation": (Linear(4, 6), Tanh(), BN(6), make.Dropout(0.1), Linear(6, 3)),
    "before the first": (BN(4), Linear(4, 6), Tanh(), Linear(6, 3)),
    "another eps": (Linear(4, 6), BN(6, eps=1e-3), Tanh(), Linear(6, 3)),
    "twice": (Linear(4, 6), BN(6), BN(6), Tanh(), BN(6), BN(6, affine=False), Linear(6, 3)),
    "behind the last": (Linear(4, 6), Tanh(), Linear(6, 3), BN(3)),
    "one layer": (BN(4), Linear(4, 3, bias=False), BN(3), make.Softmax(dim=1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "is_read"), [*((name, True) for name in READ), *((name, False) for name in FOLDED)])
def test_modules_predict_as_they_do_in_evaluation_mode(name, is_read, dtype) -> None:
    module = trained(*(READ | FOLDED)[name], dtype=dtype)
    network, params = nn.from_torch(module)
    assert network.batch_norm == is_read
    X = torch.tensor(examples((4, 3), "softmax", 9)[0].T.copy()).to(dtype)
    with torch.no_grad():
        wanted = module(X).numpy()
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(network.predict(params, X.T).numpy().T, wanted, **tolerance)
    assert params.dtype == str(dtype).removeprefix("torch.")
    for V in module.parameters():
        V.data.zero_()
    assert np.any(params[0].W.numpy()), "a network's parameters are its own"


def test_what_is_read_trains_as_the_module_does() -> None:
    module = trained(*READ["behind each"])
    network, params = nn.from_torch(module)
    X, Y = examples((4, 6, 5, 3), "softmax", 30)
    network = nn.Network(network.sizes, network.hidden, "softmax", batch_norm=True)
    result = nn.train(
        network, torch.tensor(X), torch.tensor(Y), params=params, optimizer=nn.GradientDescent(0.2), epochs=4
    )
    optimizer = torch.optim.SGD(module.train().parameters(), lr=0.2)
    for _ in range(4):
        optimizer.zero_grad()
        make.functional.cross_entropy(module(torch.tensor(X.T.copy())), torch.tensor(Y.T.copy())).backward()
        optimizer.step()
    wanted = module.eval()(torch.tensor(X.T.copy())).softmax(1).detach().numpy()
    np.testing.assert_allclose(network.predict(result.params, torch.tensor(X)).numpy().T, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_there_and_back(space: Space, dtype) -> None:
    network = nn.Network((4, 6, 5, 3), ("gelu", "relu"), "softmax", batch_norm=True)
    X, Y = examples((4, 6, 5, 3), "softmax", 30)
    here = [space.asarray(V, dtype) for V in (X, Y)]
    params = nn.train(network, *here, epochs=3, dtype=dtype).params
    module = nn.to_torch(network, params)
    assert not module.training
    assert [type(part).__name__ for part in module][:3] == ["Linear", "BatchNorm1d", "GELU"]
    assert module[0].bias is None
    assert (module[1].eps, module[1].momentum) == (1e-5, pytest.approx(0.1))
    found = module(torch.tensor(X.T.astype(dtype))).detach().numpy()
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found.T, space.to_numpy(network.predict(params, here[0])), rtol=0, atol=tolerance)
    again, theirs = nn.from_torch(module)
    assert again == network
    np.testing.assert_array_equal(theirs.vector.numpy(), space.to_numpy(params.vector))
    np.testing.assert_array_equal(theirs.statistics.numpy(), space.to_numpy(params.statistics))


def test_training_goes_on_there_to_the_same_gradients() -> None:
    network = nn.Network((4, 6, 3), "tanh", "softmax", batch_norm=True)
    X, Y = examples((4, 6, 3), "softmax", 30)
    params = network.init(dtype="float64")
    module = nn.to_torch(network, params).train()
    logits = module[:-1](torch.tensor(X.T.copy()))
    make.functional.cross_entropy(logits, torch.tensor(Y.T.copy())).backward()
    _, g = network.gradients(params, X, Y)
    np.testing.assert_allclose(module[0].weight.grad.numpy(), g[0].W, rtol=0, atol=1e-12)
    np.testing.assert_allclose(module[1].weight.grad.numpy(), g[0].gamma[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(module[1].running_var.numpy(), params.moved(g.vector, g).averages[0].variance[:, 0])


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ((Linear(4, 6), BN(6, track_running_stats=False), Tanh(), Linear(6, 3)), "track_running_stats=False"),
        ((Linear(4, 6), Tanh(), Linear(6, 3), make.Softmax(dim=1), BN(3)), "behind its last activation"),
        ((BN(4),), "behind its last activation|Linear or a Sequential"),
        ((Linear(4, 6), Tanh(), BN(6), ReLU(), Linear(6, 3)), "got ReLU"),
        ((Linear(4, 6), BN(5), Tanh(), Linear(6, 3)), "of another size"),
        ((BN(1), Linear(4, 3)), "of another size"),
        ((Linear(4, 6), make.LazyBatchNorm1d(), Tanh(), Linear(6, 3)), "LazyBatchNorm1d"),
        ((Linear(4, 6), make.LayerNorm(6), Tanh(), Linear(6, 3)), "LayerNorm"),
        ((Linear(4, 6), make.BatchNorm2d(6), Tanh(), Linear(6, 3)), "BatchNorm2d"),
    ],
    ids=str,
)
def test_what_cannot_be_read_says_why(modules, told) -> None:
    with pytest.raises(TypeError, match=told):
        nn.from_torch(Sequential(*modules))


def test_parameters_without_averages_say_so() -> None:
    network = nn.Network((4, 6, 3), batch_norm=True)
    with pytest.raises(ValueError, match="averages"):
        nn.to_torch(network, [tuple(layer) for layer in network.init()])


class TestOnnx:
    @pytest.fixture(autouse=True)
    def _onnx(self) -> None:
        self.onnx = pytest.importorskip("onnx")

    def graph(self, module: Any, **settings: Any) -> Any:
        """The nodes that PyTorch's documentation and ONNX's give for each of its parts."""
        helper, numpy_helper = self.onnx.helper, self.onnx.numpy_helper
        nodes, constants, at = [], [], "X"

        def constant(V: Any) -> str:
            constants.append(numpy_helper.from_array(V.detach().numpy().copy(), f"c{len(constants)}"))
            return constants[-1].name

        for i, part in enumerate(module):
            kind, inputs, attributes = type(part).__name__, [], {}
            if kind == "Linear":
                b = torch.zeros_like(part.weight[:, 0]) if part.bias is None else part.bias
                kind, inputs, attributes = "Gemm", [constant(part.weight), constant(b)], {"transB": 1}
            elif kind == "BatchNorm1d":
                ones = torch.ones_like(part.running_var)
                pair = (ones, 0 * ones) if part.weight is None else (part.weight, part.bias)
                kind, attributes = "BatchNormalization", {"epsilon": part.eps} | settings
                inputs = [constant(V) for V in (*pair, part.running_mean, part.running_var)]
            elif kind in ("Dropout", "ReLU", "Softmax"):
                kind = {"ReLU": "Relu", "Dropout": "Identity"}.get(kind, kind)
            nodes.append(helper.make_node(kind, [at, *inputs], [f"z{i}"], **attributes))
            at = f"z{i}"
        kind = self.onnx.TensorProto.FLOAT
        values = [helper.make_tensor_value_info(name, kind, ["m", None]) for name in ("X", at)]
        return helper.make_model(helper.make_graph(nodes, "graph", values[:1], values[1:], constants))

    @pytest.mark.parametrize("name", [*READ, *FOLDED])
    def test_graphs_are_folded(self, name) -> None:
        module = trained(*(READ | FOLDED)[name], dtype=torch.float32)
        model = self.graph(module)
        network, params = nn.from_onnx(model)
        assert not network.batch_norm
        X = examples((4, 3), "softmax", 9)[0].T.astype("float32").copy()
        found = network.predict(params, X.T).T
        np.testing.assert_allclose(found, module(torch.tensor(X)).detach().numpy(), rtol=1e-5, atol=1e-5)
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(found, session.run(None, {"X": X})[0], rtol=1e-5, atol=1e-5)

    def test_pytorchs_own_export(self, tmp_path) -> None:
        module = trained(*FOLDED["twice"], dtype=torch.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (torch.ones(2, 4),), str(tmp_path / "m.onnx"), dynamo=False, verbose=False)
        network, params = nn.from_onnx(tmp_path / "m.onnx")
        X = torch.randn(9, 4)
        wanted = module(X).detach().numpy()
        np.testing.assert_allclose(network.predict(params, X.numpy().T).T, wanted, rtol=1e-5, atol=1e-5)

    def test_what_cannot_be_read_says_why(self) -> None:
        behind = trained(Linear(4, 6), Tanh(), Linear(6, 3), make.Softmax(dim=1), BN(3), dtype=torch.float32)
        with pytest.raises(nn.ModelFileError, match="behind its last activation"):
            nn.from_onnx(self.graph(behind))
        module = trained(*READ["behind each"], dtype=torch.float32)
        with pytest.raises(nn.ModelFileError, match="not in training mode"):
            nn.from_onnx(self.graph(module, training_mode=1))
        for position, told in ((1, "constant scale"), (4, "constant scale")):
            model = self.graph(module)
            (node,) = [node for node in model.graph.node if node.op_type == "BatchNormalization"][:1]
            node.input[position] = "missing"
            with pytest.raises(nn.ModelFileError, match=told):
                nn.from_onnx(model)
        for wrong in ((Linear(4, 6), BN(5), Tanh(), Linear(6, 3)), (BN(3), Linear(4, 3))):
            with pytest.raises(nn.ModelFileError, match="BatchNormalization of"):
                nn.from_onnx(self.graph(trained(*wrong, dtype=torch.float32)))
