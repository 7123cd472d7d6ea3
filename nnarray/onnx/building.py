"""A network's layers as ONNX nodes, added to a graph by any builder."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nnarray.core.activations import LEAK

HostPairs: TypeAlias = Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""(W, b) of each layer, W (n[l], n[l-1]) and b (n[l], 1), on the host in one dtype."""

Operator: TypeAlias = tuple[str, dict[str, Any]]
"""An ONNX operator of one input, with its attributes."""

OUTPUTS: dict[str, Operator] = {
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "identity": ("Identity", {}),
    "exp": ("Exp", {}),
}

ACTIVATIONS: dict[str, Operator] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "identity": ("Identity", {}),
}

ACTIVATIONS_OF_FLOAT32: dict[str, Operator] = {
    "leaky_relu": ("LeakyRelu", {"alpha": LEAK}),
    "softplus": ("Softplus", {}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {}),
}
"""Those that runtimes have in float32 alone, or whose attributes are of float32."""


class Graph(Protocol):
    """A graph that is being built. Values have names, of examples as rows."""

    dtype: Any

    def constant(self, value: npt.NDArray[Any], what: str) -> str:
        """The name of a new constant."""

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The name of a new node's output."""

    def composed(self, name: str, Z: str) -> str:
        """The name of g(Z), for an activation without an ONNX operator."""


def add_layers(graph: Graph, A: str, layers: HostPairs, hidden: Sequence[str], output: str) -> str:
    """The name of A[L], (m, n[L]), for A[0] of shape (m, n_x)."""
    operators = ACTIVATIONS | (ACTIVATIONS_OF_FLOAT32 if graph.dtype == np.float32 else {})
    for l, (W, b) in enumerate(layers, 1):
        Z = graph.node("Gemm", A, graph.constant(W, f"W{l}"), graph.constant(b[:, 0], f"b{l}"), transB=1)
        if l < len(layers) and hidden[l - 1] == "silu":
            A = graph.node("Mul", Z, graph.node("Sigmoid", Z))
        elif l < len(layers) and hidden[l - 1] not in operators:
            A = graph.composed(hidden[l - 1], Z)
        else:
            op, attributes = OUTPUTS[output] if l == len(layers) else operators[hidden[l - 1]]
            A = graph.node(op, Z, **attributes)
    return A
