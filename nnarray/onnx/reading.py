"""Plain dense ONNX graphs as networks."""

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.backends import quiet
from nnarray.backends.reading import excerpt, require_regular
from nnarray.core.activations import LEAK
from nnarray.files import ModelFileError
from nnarray.network import Network, Parameters
from nnarray.network.names import OutputName
from nnarray.onnx.constants import constants_of
from nnarray.onnx.library import onnx_library

COMPOSED = ("gelu", "gelu_tanh", "softplus", "elu", "selu")
"""The functions that models of `to_onnx` define."""
HIDDEN = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
    "Softplus": "softplus",
    "Elu": "elu",
    "Selu": "selu",
    "Gelu": "gelu",
    "Gelu tanh": "gelu_tanh",
    **{name: name for name in ("silu", *COMPOSED)},
}
OUTPUTS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "Exp": "exp"}
PASSING = {"Identity", "Dropout", "Flatten", "Cast", "Reshape", "Squeeze"}
"""Nodes that leave each example's numbers as they are (Reshape and Squeeze: if the shape is right)."""
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "nnarray")
"""Of operators that are known; one of another domain may do anything under the same name."""

LABELLING = {"ArgMax", "Greater", "GreaterOrEqual", "Binarizer", "ZipMap", "ReduceSum"}
"""Nodes that turn predictions into labels, where the predictions are an output, too."""


@quiet
def from_onnx(model: Any, *, output: OutputName | None = None) -> tuple[Network, Parameters]:
    """The network of a plain dense ONNX graph, and its parameters on the host.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        A chain of Gemm, or of MatMul and Add, with Relu, LeakyRelu, Tanh or Sigmoid between them, from one input with
        examples as rows, as PyTorch, Keras and skl2onnx write it. BatchNormalization is folded into the layer before
        it, or, after an activation or before the first layer, into the next. Nodes that turn predictions into labels
        are ignored.
    output : {'sigmoid', 'softmax', 'identity', 'exp'}, optional
        The network's output; by default by the chain's last node: Sigmoid, Softmax, Exp, else 'identity'. Give it for
        graphs that end in logits.

    Returns
    -------
    (Network, Parameters)
        `network.predict(params, X)` is the graph's prediction of X.T, transposed. In float64 where the graph's weights
        are, else in float32.

    Raises
    ------
    ImportError
        Where onnx is missing (the extra `onnx`).
    ModelFileError
        For an invalid ONNX model, and for a graph that is not a dense network, naming the node.
    ValueError
        For an `output` that contradicts the graph's end.
    """
    name, proto = _loaded(model)
    try:
        found = _Chain(proto.graph).read()
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError) as error:
        msg = f"{name} is not a dense network that can be read: {excerpt(str(error))}"
        raise ModelFileError(msg) from None
    end = "identity" if found.end is None else found.end
    if output not in (None, end) and found.end is not None:
        msg = f"output must be {end!r}, which the graph ends in, or left out, got {output!r}"
        raise ValueError(msg)
    sizes = (found.layers[0][0].shape[1], *(W.shape[0] for W, _ in found.layers))
    try:
        network = Network(sizes, hidden=found.hidden, output=output or end)  # type: ignore[arg-type]
        return network, Parameters.from_layers(found.layers)
    except ValueError as error:
        msg = f"{name} is not a dense network that can be read: {excerpt(str(error))}"
        raise ModelFileError(msg) from None


def _loaded(model: Any) -> tuple[str, Any]:
    """The model's name for messages, and the model."""
    onnx = onnx_library()
    if isinstance(model, onnx.ModelProto):
        return "the model", model
    name = "the model" if isinstance(model, bytes) else os.fspath(model)
    content = model
    if not isinstance(model, bytes):
        require_regular("ONNX model", model)
        with open(model, "rb") as file:
            content = file.read()
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's own, which it has under other names in every release
        msg = f"{name} is not an ONNX model: {excerpt(str(error))}"
        raise ModelFileError(msg) from None
    return name, proto


class Found(NamedTuple):
    """The layers found in a graph."""

    layers: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
    hidden: list[str]
    end: str | None
    """the output that its last node is, or None for a layer"""


class _Chain:
    """A graph, read from its input on. Names are those of its values."""

    def __init__(self, graph: Any) -> None:
        self.nodes = list(graph.node)
        strange = [node for node in self.nodes if node.domain not in DOMAINS]
        if strange:
            msg = f"its node {strange[0].op_type} is of the domain {strange[0].domain!r}, whose operators are not known"
            raise ValueError(msg)
        self.constants = constants_of(graph)
        self.outputs = {value.name for value in graph.output}
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            msg = f"its graph must have one input, got {len(inputs)}"
            raise ValueError(msg)
        self.at: str = inputs[0].name
        first = inputs[0].type.tensor_type.shape.dim[:1]
        self.batch = [dim.dim_value for dim in first if dim.HasField("dim_value")]
        """how many examples the graph takes, where it takes one number of them only"""
        self.has_rows = len(inputs[0].type.tensor_type.shape.dim) in (0, 2)
        """whether an example is a row, or so unless a shape says otherwise"""
        self.users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(node)
        self.layers: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self.lines: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        """scale and shift of the normalisations since the last activation, which fold into the next layer"""
        self.between: list[str | None] = []

    def read(self) -> Found:
        """Follow the chain to its end."""
        for _ in self.nodes:  # a chain has no more steps
            if not self._step():
                break
        if self.lines:
            msg = "BatchNormalization comes behind its last activation, where no layer follows that it folds into"
            raise ValueError(msg)
        if not self.layers:
            msg = f"its input goes into {self._users_named()}, where Gemm or MatMul was expected"
            raise ValueError(msg)
        if not self._is_prediction(self.at):
            msg = f"after its last layer comes {self._users_named()}, which is no part of a dense network"
            raise ValueError(msg)
        *between, last = self.between
        if last is not None and last not in OUTPUTS:
            msg = f"it ends in {last}, where a layer, {', '.join(OUTPUTS)} was expected"
            raise ValueError(msg)
        wrong = [op for op in between if op is not None and op not in HIDDEN]
        if wrong:
            msg = f"between its layers is {wrong[0]}, where {', '.join(HIDDEN)} was expected"
            raise ValueError(msg)
        hidden = ["identity" if op is None else HIDDEN[op] for op in between]
        dtype = np.float64 if any(W.dtype == np.float64 for W, _ in self.layers) else np.float32
        layers = [(W.astype(dtype), b.astype(dtype).reshape(-1, 1)) for W, b in self.layers]
        if not all(np.isfinite(V).all() for pair in layers for V in pair):
            msg = "its weights are not all finite"
            raise ValueError(msg)
        return Found(layers, hidden, None if last is None else OUTPUTS[last])

    def _step(self) -> bool:
        """Consume the next node, or the nodes of one activation; return whether there was one."""
        users = self.users.get(self.at, [])
        if self._takes_leaky_relu(users) or self._takes_silu(users):
            return True
        if len(users) != 1 or (self.at in self.outputs and self.layers):
            return False
        (node,) = users
        if node.op_type in PASSING and self._passes(node):
            self.at, self.has_rows = node.output[0], self.has_rows or node.op_type in ("Flatten", "Reshape")
        elif node.op_type in ("Gemm", "MatMul"):
            self._take_layer(node)
        elif node.op_type == "BatchNormalization":
            self._take_normalization(node)
        elif node.op_type == "Add" and self._adds_bias(node):
            self.at = node.output[0]
        elif self.layers and self.between[-1] is None and not self.lines and self._is_activation(node):
            self.between[-1] = _name_of(node)
            self.at = node.output[0]
        else:
            return False
        return True

    def _take_layer(self, node: Any) -> None:
        settings = _settings(node)
        if not self.has_rows or node.input[0] != self.at or node.input[1] not in self.constants:
            msg = f"{node.op_type} must multiply the examples, rows of a matrix, by constant weights"
            raise ValueError(msg)
        W = self.constants[node.input[1]]
        if node.op_type == "MatMul" or not settings.get("transB", 0):
            W = W.T
        if W.ndim != 2 or (self.layers and W.shape[1] != self.layers[-1][0].shape[0]):
            msg = f"the weights of {node.op_type} must be a matrix that fits the layer before, got shape {W.shape}"
            raise ValueError(msg)
        b = np.zeros(W.shape[0], W.dtype)
        if node.op_type == "Gemm":
            if settings.get("transA", 0):
                msg = "Gemm must take examples as rows, got transA=1"
                raise ValueError(msg)
            W = settings.get("alpha", 1.0) * W
            if len(node.input) > 2 and node.input[2]:
                b = settings.get("beta", 1.0) * self._bias(node.input[2], W)
        for scale, shift in reversed(self.lines):
            if scale.shape != W.shape[1:]:
                msg = f"BatchNormalization of {len(scale)} features comes before weights of shape {W.shape}"
                raise ValueError(msg)
            W, b = (W * scale).astype(W.dtype), (b + W @ shift).astype(b.dtype)
        self.lines = []
        self.layers.append((W, b))
        self.between.append(None)
        self.at = node.output[0]

    def _take_normalization(self, node: Any) -> None:
        """Fold it into the layer before it, or behind an activation keep it for the next one."""
        scale, shift = self._line_of(node)
        if not self.layers or self.between[-1] is not None:
            self.lines.append((scale, shift))
        else:
            W, b = self.layers[-1]
            if scale.shape != b.shape:
                msg = f"BatchNormalization of {len(scale)} features comes behind weights of shape {W.shape}"
                raise ValueError(msg)
            self.layers[-1] = (scale[:, None] * W).astype(W.dtype), (scale * b + shift).astype(b.dtype)
        self.at = node.output[0]

    def _line_of(self, node: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The scale and the shift of a BatchNormalization with its running averages."""
        settings, given = _settings(node), [self.constants.get(name) for name in node.input[1:]]
        known = [np.asarray(V, dtype="float64") for V in given if V is not None]
        if settings.get("training_mode", 0) or not self.has_rows or node.input[0] != self.at:
            msg = "BatchNormalization must be of examples as rows, and not in training mode"
            raise ValueError(msg)
        if len(known) != 4 or any(V.ndim != 1 or V.shape != known[0].shape for V in known):
            msg = "BatchNormalization must have a constant scale, bias, mean and variance, one of each per feature"
            raise ValueError(msg)
        gamma, beta, mean, variance = known
        scale = gamma / np.sqrt(variance + settings.get("epsilon", 1e-5))
        return scale, beta - scale * mean

    def _bias(self, name: str, W: npt.NDArray[Any]) -> npt.NDArray[Any]:
        b = self.constants.get(name)
        if b is None or b.shape not in {(), (1,), (1, 1), (W.shape[0],), (1, W.shape[0])}:
            msg = f"a bias must be constant, of shape ({W.shape[0]},), got {None if b is None else b.shape}"
            raise ValueError(msg)
        return np.broadcast_to(b.reshape(-1), (W.shape[0],))

    def _adds_bias(self, node: Any) -> bool:
        """Whether the node adds a constant to a layer's product; then it is added to the layer's bias."""
        (other,) = [name for name in node.input if name != self.at] or [""]
        if not self.layers or self.between[-1] is not None or other not in self.constants:
            return False
        W, b = self.layers[-1]
        self.layers[-1] = W, b + self._bias(other, W)
        return True

    def _takes_leaky_relu(self, users: list[Any]) -> bool:
        """Whether the next nodes are max(0.01 Z, Z); then they are taken."""
        if sorted(node.op_type for node in users) != ["Max", "Mul"] or not self.layers or self.between[-1] is not None:
            return False
        most, product = sorted(users, key=lambda node: str(node.op_type))
        factors = [self.constants[name] for name in product.input if name in self.constants]
        if len(factors) != 1 or factors[0].size != 1 or float(factors[0].reshape(())) != LEAK:
            return False
        if set(most.input) != {self.at, product.output[0]}:
            return False
        self.between[-1], self.at = "LeakyRelu", most.output[0]
        return True

    def _takes_silu(self, users: list[Any]) -> bool:
        """Whether the next nodes are Z sigmoid(Z); then they are taken."""
        if sorted(node.op_type for node in users) != ["Mul", "Sigmoid"] or not self.layers:
            return False
        product, sigmoid = sorted(users, key=lambda node: str(node.op_type))
        if self.between[-1] is not None or set(product.input) != {self.at, sigmoid.output[0]}:
            return False
        self.between[-1], self.at = "silu", product.output[0]
        return True

    def _passes(self, node: Any) -> bool:
        """Whether the node leaves each example's numbers as they are."""
        if node.op_type == "Flatten":
            return bool(_settings(node).get("axis", 1) == 1)
        if node.op_type == "Cast":
            return _settings(node).get("to") in (1, 10, 11, 16)  # float32, float16, float64, bfloat16
        if node.op_type in ("Reshape", "Squeeze"):
            width = self.layers[-1][0].shape[0] if self.layers else None
            known = self.constants.get(node.input[1]) if node.op_type == "Reshape" else np.array([-1])
            if known is None:
                return False
            shape = known.tolist()
            examples = [-1, 0, *self.batch]
            if width is None:
                return len(shape) == 2 and shape[0] in examples
            return shape in [[m, n] for m in examples for n in (-1, width)] or (width == 1 and shape == [-1])
        return True

    def _is_activation(self, node: Any) -> bool:
        settings = _settings(node)
        if node.domain == "nnarray":
            return node.op_type in COMPOSED
        if node.op_type == "LeakyRelu":
            return bool(np.float32(settings.get("alpha", 0.01)) == np.float32(LEAK))
        if node.op_type == "Elu":
            return bool(settings.get("alpha", 1.0) == 1.0)
        if node.op_type == "Selu":
            return not settings
        if node.op_type == "Softmax":
            return settings.get("axis", -1) in (-1, 1)
        return not node.domain and node.op_type in {**HIDDEN, **OUTPUTS}

    def _is_prediction(self, name: str) -> bool:
        """Whether the value is an output, itself or beside its complement, and only labels are computed from it."""
        users = self.users.get(name, [])
        complement = [node for node in users if node.op_type == "Sub" and self._is_complement(node, name)]
        found = name in self.outputs
        for node in users:
            is_pair = bool(complement) and list(node.input) == [complement[0].output[0], name]
            if node.op_type in LABELLING or node in complement:
                found = found or node.op_type == "ZipMap"
            elif (node.op_type == "Concat" and is_pair) or (node.op_type in PASSING and self._passes(node)):
                found = self._is_prediction(node.output[0]) or found
            else:
                return False
        return found

    def _is_complement(self, node: Any, name: str) -> bool:
        one = self.constants.get(node.input[0])
        return node.input[1] == name and one is not None and one.size == 1 and float(one.reshape(())) == 1.0

    def _users_named(self) -> str:
        return ", ".join(node.op_type for node in self.users.get(self.at, [])) or "nothing"


def _name_of(node: Any) -> str:
    """The node's operator, with its approximation where it has one."""
    approximates = _settings(node).get("approximate", b"none") == b"tanh"
    return f"{node.op_type} tanh" if approximates else str(node.op_type)


def _settings(node: Any) -> dict[str, Any]:
    get = onnx_library().helper.get_attribute_value
    return {attribute.name: get(attribute) for attribute in node.attribute}
