"""A network's layers as ONNX nodes, put into a graph of any maker."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nnarray.core.activations import LEAK

HostPairs: TypeAlias = Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""(W, b) of each layer, W (n[l], n[l-1]) and b (n[l], 1), on the host in one dtype."""


class Graph(Protocol):
    """A graph that is being built. Values have names, of examples as rows."""

    dtype: Any

    def constant(self, value: npt.NDArray[Any], what: str) -> str:
        """The name of a new constant."""

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The name of what a new node makes of its inputs."""


def add_layers(graph: Graph, A: str, layers: HostPairs, hidden: Sequence[str], output: str) -> str:
    """The name of A[L], (m, n[L]), for A[0] of shape (m, n_x)."""
    for l, (W, b) in enumerate(layers, 1):
        weights, biases = graph.constant(W, f"W{l}"), graph.constant(b[:, 0], f"b{l}")
        Z = graph.node("Gemm", A, weights, biases, transB=1)
        A = OUTPUTS[output](graph, Z) if l == len(layers) else _activation(graph, Z, hidden[l - 1])
    return A


def _activation(graph: Graph, Z: str, name: str) -> str:
    if name not in ACTIVATIONS:
        msg = f"hidden layers of an ONNX graph may be {', '.join(map(repr, ACTIVATIONS))}, got {name!r}"
        raise ValueError(msg)
    return ACTIVATIONS[name](graph, Z)


def _op(op: str, **attributes: Any) -> Callable[[Graph, str], str]:
    return lambda graph, Z: graph.node(op, Z, **attributes)


def _leaky_relu(graph: Graph, Z: str) -> str:
    """LeakyRelu, whose slope ONNX holds in float32; in float64 max(0.01 Z, Z)."""
    if graph.dtype == np.float32:
        return graph.node("LeakyRelu", Z, alpha=LEAK)
    return graph.node("Max", graph.node("Mul", Z, graph.constant(np.array(LEAK), "leak")), Z)


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "relu": _op("Relu"),
    "tanh": _op("Tanh"),
    "sigmoid": _op("Sigmoid"),
    "leaky_relu": _leaky_relu,
    "identity": _op("Identity"),
}

OUTPUTS: dict[str, Callable[[Graph, str], str]] = {
    "sigmoid": _op("Sigmoid"),
    "softmax": _op("Softmax", axis=-1),
    "identity": _op("Identity"),
    "exp": _op("Exp"),
}
