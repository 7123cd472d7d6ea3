"""A network as an ONNX model."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nnarray.backends import require_concrete
from nnarray.files.description import to_json
from nnarray.network import Network, Parameters
from nnarray.network.network import require_network
from nnarray.network.numbers import check_count
from nnarray.onnx.building import HostPairs, add_layers
from nnarray.onnx.library import onnx_library
from nnarray.onnx.tracing import trace

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET, DEFAULT_OPSET = 13, 17
INPUT, OUTPUT = "X", "A"
DOMAIN = "nnarray"
"""The domain of the functions that a model defines."""


def network_to_onnx(network: Network, params: Any, *, opset: int, metadata: Mapping[str, Any]) -> "onnx.ModelProto":
    """What `to_onnx` writes of a network."""
    onnx = onnx_library()
    require_network(network)
    network, params = network.folded(params) if network.batch_norm else (network, Parameters.from_layers(params))
    if params.sizes != network.sizes:
        msg = f"params must fit the network of sizes {network.sizes}, got sizes {params.sizes}"
        raise ValueError(msg)
    opset = check_opset(opset)
    layers = host_layers(params)
    graph = Nodes(np.dtype(params.dtype))
    text = to_json(network, metadata)
    A = add_layers(graph, INPUT, layers, network.hidden, network.output)
    graph.output(OUTPUT, "Identity", A)
    kind = onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    ends = [(INPUT, kind, ["m", network.sizes[0]])], [(OUTPUT, kind, ["m", network.sizes[-1]])]
    return finished(graph, *ends, opset=opset, description=text, entries=metadata)


def check_opset(opset: Any) -> int:
    """The opset as an int. Raises TypeError and ValueError for one that is none, too old or not yet known."""
    checked: int = check_count(opset, "opset")
    newest = onnx_library().defs.onnx_opset_version()
    if not OLDEST_OPSET <= checked <= newest:
        msg = f"opset must be from {OLDEST_OPSET} to {newest}, the newest of the installed onnx, got {checked!r}"
        raise ValueError(msg)
    return checked


def host_layers(params: Parameters) -> HostPairs:
    """The layers on the host. Raises ValueError for parameters that are not finite."""
    require_concrete("nn.to_onnx", params=params.vector)
    layers = [(params.backend.to_numpy(W), params.backend.to_numpy(b)) for W, b in params]
    if not all(np.isfinite(V).all() for pair in layers for V in pair):
        msg = "params must be finite, got NaN or infinity"
        raise ValueError(msg)
    return layers


End: TypeAlias = tuple[str, int, list[Any]]
"""An input or an output of a graph: its name, the kind of its numbers, its shape."""


def finished(
    graph: "Nodes",
    inputs: Sequence[End],
    outputs: Sequence[End],
    *,
    opset: int,
    description: str,
    entries: Iterable[str],
    domains: Mapping[str, int] | None = None,
) -> "onnx.ModelProto":
    """The graph as a model, whose metadata are the description and, each by its own name, these entries of it."""
    onnx = onnx_library()
    helper, opsets = onnx.helper, [onnx.helper.make_opsetid("", opset)]
    named = {**(domains or {}), **({DOMAIN: 1} if graph.functions else {})}
    ends = [[helper.make_tensor_value_info(*end) for end in some] for some in (inputs, outputs)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "network", *ends, graph.constants),
        opset_imports=[*opsets, *(helper.make_opsetid(*domain) for domain in named.items())],
        functions=[body.function(name, opsets) for name, body in graph.functions.items()],
        ir_version=max(helper.find_min_ir_version_for(opsets), 8 if graph.functions else 0),
        producer_name="nnarray",
    )
    held = json.loads(description)
    own = {key: json.dumps(held[key], ensure_ascii=False) for key in entries}
    helper.set_model_props(model, {**own, "nnarray": description})
    onnx.checker.check_model(model)
    return model


class Nodes:
    """The nodes and constants of a graph of its own, and the functions of the activations that ONNX lacks."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.functions: dict[str, Body] = {}
        self.taken = {INPUT, OUTPUT, ""}

    def constant(self, value: npt.NDArray[Any], what: str) -> str:
        """The name of a new constant, of the graph's dtype."""
        return self.constant_as_it_is(np.asarray(value, dtype=self.dtype), what)

    def constant_as_it_is(self, value: npt.NDArray[Any], what: str) -> str:
        """The name of a new constant of any kind; texts are of dtype object."""
        name = self.fresh(what)
        held = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).reshape(np.shape(value))
        self.constants.append(onnx_library().numpy_helper.from_array(held, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The name of what a new node makes of its inputs."""
        return self.output(self.fresh(f"{op}_{len(self.nodes)}"), op, *inputs, **attributes)

    def output(self, name: str, op: str, *inputs: str, **attributes: Any) -> str:
        """A new node whose output has a reserved name, such as that of an output of the graph."""
        self.nodes.append(onnx_library().helper.make_node(op, [*inputs], [name], name=name, **attributes))
        return name

    def fresh(self, name: str) -> str:
        """The name, or a similar one that is not in use yet; it is reserved from now on."""
        found = name
        while found in self.taken:
            found = f"{name}_{len(self.taken)}" if found == name else f"{found}_"
        self.taken.add(found)
        return found

    def composed(self, name: str, Z: str) -> str:
        """The name of g(Z), by a function of the model that bears the activation's name; leaky_relu is two nodes."""
        if name == "leaky_relu":
            return trace(self, Z, name)
        if name not in self.functions:
            body = Body(self.dtype)
            body.result = trace(body, "Z", name)
            self.functions[name] = body
        return self.node(name, Z, domain=DOMAIN)


class Body:
    """The body of a function of Z, whose constants are nodes of its own."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.result = "Z"

    def constant(self, value: npt.NDArray[Any], what: str) -> str:
        """The name of a new constant."""
        held = onnx_library().numpy_helper.from_array(np.asarray(value, dtype=self.dtype), what)
        return self.node("Constant", value=held)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The name of what a new node makes of its inputs."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(onnx_library().helper.make_node(op, [*inputs], [name], **attributes))
        return name

    def composed(self, name: str, Z: str) -> str:
        """The name of g(Z)."""
        return trace(self, Z, name)

    def function(self, name: str, opsets: list[Any]) -> Any:
        """The function, by its name."""
        return onnx_library().helper.make_function(DOMAIN, name, ["Z"], [self.result], self.nodes, opsets)
