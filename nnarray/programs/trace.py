"""Tracing: core's functions called on placeholders, whose operators add nodes to a graph.

A trace has no formula of its own. As a namespace `xp` it offers what core asks of the standard, and the same operation
on the same sources is one node.

>>> trace = Trace("float32")
>>> Z = trace.input("Z", (3, 8))
>>> graph = trace.graph({"A": trace.maximum(Z, 0.0) * 2.0 + 1.0})
>>> [node.operation for node in graph.nodes]
['maximum', 'multiply', 'add']
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from nnarray.programs import graph
from nnarray.programs.graph import (
    COMPARISONS,
    ELEMENTWISE,
    Graph,
    Input,
    Node,
    Reduction,
    Scalar,
    Shape,
    Source,
)

RESULT = "result"
NOTHING: Mapping[str, Any] = MappingProxyType({})

Operand = Any
"""a Traced, a Scalar or a Python number"""


class Traced:
    """A placeholder for an array: its node, with operators that add nodes to the trace."""

    def __init__(self, trace: "Trace", node: Node) -> None:
        self.trace, self.node = trace, node

    @property
    def shape(self) -> Shape:
        """Of the array to be."""
        return self.node.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array to be."""
        return self.node.dtype

    @property
    def T(self) -> "Traced":
        """The transpose, in the same memory."""
        if self.node.operation == "transpose":
            return Traced(self.trace, self.node.nodes[0])
        return self.trace.once(("transpose", self.node), lambda: graph.transpose(self.node))

    def __add__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("add", self, other)

    def __radd__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("add", other, self)

    def __sub__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("subtract", self, other)

    def __rsub__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("subtract", other, self)

    def __mul__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("multiply", self, other)

    def __rmul__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("multiply", other, self)

    def __truediv__(self, other: Operand) -> "Traced":
        return self if isinstance(other, int) and other == 1 else self.trace.elementwise("divide", self, other)

    def __rtruediv__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("divide", other, self)

    def __neg__(self) -> "Traced":
        return self.trace.elementwise("negative", self)

    def __gt__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("greater", self, other)

    def __ge__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("greater_equal", self, other)

    def __lt__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("less", self, other)

    def __le__(self, other: Operand) -> "Traced":
        return self.trace.elementwise("less_equal", self, other)

    def __matmul__(self, other: "Traced") -> "Traced":
        shape = self.shape[0], other.shape[1]
        return self.trace.once(
            ("matmul", self.node, other.node),
            lambda: Node("matmul", (self.node, other.node), shape, self.dtype),
        )


class Trace:
    """The nodes traced so far, in `dtype`; the namespace `xp` of core's functions while they are traced."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._inputs: list[Input | Scalar] = []
        self._traced: dict[Any, Traced] = {}

    def input(self, name: str, shape: Shape, *, order: str = "F", per_example: bool = False) -> Traced:
        """An array that the program is given."""
        node = Input("input", (), shape, self.dtype, name, order, per_example)
        self._inputs.append(node)
        return Traced(self, node)

    def scalar(self, name: str) -> Scalar:
        """A Python number that the program is given."""
        scalar = Scalar("given", (), name)
        self._inputs.append(scalar)
        return scalar

    def graph(
        self,
        outputs: Mapping[str, Traced] = NOTHING,
        *,
        result: Traced | None = None,
        over: Mapping[str, Traced] = NOTHING,
        narrow: Sequence[Traced] = (),
    ) -> Graph:
        """What makes the `outputs`, by name, and the `result`, an array without axes that a program returns.

        `over` says of outputs which input's memory they may be given; `narrow` are inputs in a narrower float.
        """
        named = {name: traced.node for name, traced in outputs.items()}
        if result is not None:
            named[RESULT] = result.node
        nodes = tuple(traced.node for traced in self._traced.values() if not traced.node.is_view)
        overwritten = {name: traced.node for name, traced in over.items() if isinstance(traced.node, Input)}
        returned, stored = None if result is None else RESULT, frozenset(traced.node for traced in narrow)
        return Graph(tuple(self._inputs), nodes, named, returned, overwritten, stored).needed()

    def ones(self, shape: Shape, *, dtype: Any) -> Traced:
        """Ones."""
        return self.once(("ones", shape, np.dtype(dtype)), lambda: graph.ones(shape, dtype))

    def ones_like(self, V: Traced) -> Traced:
        """Ones in the shape of V."""
        return self.ones(V.shape, dtype=V.dtype)

    def elementwise(self, operation: str, *operands: Operand) -> Traced:
        """An operation on each entry; shapes broadcast."""
        arrays = [operand for operand in operands if isinstance(operand, Traced)]
        shape = np.broadcast_shapes(*(V.shape for V in arrays))
        dtype = np.dtype(np.bool_) if operation in COMPARISONS else np.result_type(*(V.dtype for V in arrays))
        return self._elementwise(operation, tuple(map(_source, operands)), shape, dtype)

    def where(self, condition: Traced, one: Operand, other: Operand) -> Traced:
        """One where the condition holds, else the other; shapes broadcast."""
        operands = condition, one, other
        shape = np.broadcast_shapes(*(V.shape for V in operands if isinstance(V, Traced)))
        return self._elementwise("where", tuple(map(_source, operands)), shape, self.dtype)

    def sum(self, V: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        """The sum over an axis, or over all."""
        return self._reduction("sum", V, axis, keepdims)

    def max(self, V: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        """The largest along an axis, or of all."""
        return self._reduction("max", V, axis, keepdims)

    def astype(self, V: Traced, dtype: Any) -> Traced:
        """V in another dtype, which a comparison has at once."""
        if V.node.operation in COMPARISONS:
            return self._elementwise(V.node.operation, V.node.sources, V.shape, np.dtype(dtype))
        return self._elementwise("copy", (V.node,), V.shape, np.dtype(dtype))

    def once(self, key: Any, make: Callable[[], Node]) -> Traced:
        """The node with this key, created on first use: equal operations on equal sources are one node."""
        if key not in self._traced:
            self._traced[key] = Traced(self, make())
        return self._traced[key]

    def __getattr__(self, name: str) -> Callable[..., Traced]:
        if name not in ELEMENTWISE:
            raise AttributeError(name)
        return lambda *operands: self.elementwise(name, *operands)

    def _elementwise(self, operation: str, sources: tuple[Source, ...], shape: Shape, dtype: np.dtype[Any]) -> Traced:
        key = operation, *((type(source), repr(source) if source == 0 else source) for source in sources), dtype  # -0.0
        return self.once(key, lambda: Node(operation, sources, shape, dtype))

    def _reduction(self, operation: str, V: Traced, axis: int | None, keepdims: bool) -> Traced:
        if axis is not None and V.shape[axis] == 1 and keepdims:
            return V
        kept = tuple(1 if axis in (None, i) else n for i, n in enumerate(V.shape))
        shape = kept if keepdims else tuple(n for i, n in enumerate(V.shape) if axis not in (None, i))
        return self.once(
            (operation, V.node, axis, keepdims),
            lambda: Reduction(operation, (V.node,), shape, V.dtype, axis, keepdims),
        )


def _source(operand: Operand) -> Source:
    return operand.node if isinstance(operand, Traced) else operand
