"""A target for any namespace of arrays: the nodes of a graph one after the other, as its own functions have them.

It is for libraries that compile what they are called with themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nnarray.programs.graph import Graph, Node, Reduction, Scalar, Source


def evaluated(graph: Graph, arrays: Sequence[Any], numbers: Mapping[Scalar, Any], *, xp: Any) -> dict[str, Any]:
    """The outputs, by name, given the graph's arrays and what its scalars are, which may be arrays without axes."""
    known: dict[Node, Any] = dict(zip(graph.arrays, arrays, strict=True))

    def value(source: Source) -> Any:
        if isinstance(source, Scalar):
            return numbers[source]
        return known[source] if isinstance(source, Node) else source

    for node in graph.nodes:
        known[node] = _computed(node, [value(source) for source in node.sources], xp)
    return {name: known[node] for name, node in graph.outputs.items()}


def _computed(node: Node, sources: list[Any], xp: Any) -> Any:
    if isinstance(node, Reduction):
        return getattr(xp, node.operation)(sources[0], axis=node.axis, keepdims=node.keepdims)
    return xp.astype(getattr(xp, node.operation)(*sources), node.dtype)
