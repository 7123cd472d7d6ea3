"""Core's activations as ONNX nodes: called on values of a graph under construction, they add their nodes to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnarray.core.activations import ACTIVATIONS
from nnarray.onnx.building import Graph


def trace(graph: Graph, Z: str, name: str) -> str:
    """The name of g(Z), of the operations that core's g consists of."""
    traced: Value = ACTIVATIONS[name].g(Value(graph, Z), xp=Namespace)
    return traced.name


class Value:
    """A value of the graph, with the operators of an array."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name, self.dtype = graph, name, graph.dtype

    def op(self, op: str, *others: Any, **attributes: Any) -> Value:
        """The output of a node on this value and others, which may be numbers."""
        names = [other.name if isinstance(other, Value) else self.constant(other) for other in others]
        return Value(self.graph, self.graph.node(op, self.name, *names, **attributes))

    def constant(self, number: float) -> str:
        """The name of a number."""
        return self.graph.constant(np.array(number), "number")

    def __add__(self, other: Any) -> Value:
        return self.op("Add", other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Value:
        return self.op("Mul", other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Value:
        return self.op("Sub", other)

    def __rsub__(self, other: float) -> Value:
        return Value(self.graph, self.constant(other)).op("Sub", self)

    def __truediv__(self, other: Any) -> Value:
        return self.op("Div", other)

    def __rtruediv__(self, other: float) -> Value:
        return Value(self.graph, self.constant(other)).op("Div", self)

    def __neg__(self) -> Value:
        return self.op("Neg")

    def __gt__(self, other: Any) -> Value:
        return self.op("Greater", other)

    def __ge__(self, other: Any) -> Value:
        return self.op("GreaterOrEqual", other)


def _of_both(op: str, x: Any, y: Any) -> Value:
    """The output of a commutative node on a value and another value or a number."""
    value, other = (x, y) if isinstance(x, Value) else (y, x)
    made: Value = value.op(op, other)
    return made


class Namespace:
    """The functions of the standard that activations use."""

    exp = staticmethod(lambda x: x.op("Exp"))
    abs = staticmethod(lambda x: x.op("Abs"))
    tanh = staticmethod(lambda x: x.op("Tanh"))
    floor = staticmethod(lambda x: x.op("Floor"))
    sqrt = staticmethod(lambda x: x.op("Sqrt"))
    maximum = staticmethod(lambda x, y: _of_both("Max", x, y))
    minimum = staticmethod(lambda x, y: _of_both("Min", x, y))
    log1p = staticmethod(lambda x: (1.0 + x).op("Log"))  # ONNX has neither; what is lost is eps beside 1
    expm1 = staticmethod(lambda x: x.op("Exp") - 1.0)

    @staticmethod
    def astype(x: Value, dtype: Any) -> Value:
        """0 and 1 for false and true."""
        from nnarray.onnx.library import onnx_library

        return x.op("Cast", to=onnx_library().helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
