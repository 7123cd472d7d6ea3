"""A target that every machine has: NumPy calls one after the other, each into memory that was allocated beforehand.

A program is the source of a Python function. An elementwise call works in place where it can.

>>> from nnarray.programs.trace import Trace
>>> trace = Trace("float32")
>>> Z = trace.input("Z", (3, 8))
>>> print(Program(trace.graph({"A": trace.maximum(Z, 0.0) * 2.0 + 1.0})).source)
def replay(Z, A):
    maximum(Z, zeros_8, out=v0)
    multiply(v0, 2.0, v0)
    add(v0, 1.0, A)
"""

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.programs.graph import ELEMENTWISE, Graph, Node, Reduction, Shape, Source
from nnarray.programs.lowering import outputs_of_their_own, sums_over_columns_as_products
from nnarray.programs.memory import ALIGNMENT, Memory
from nnarray.programs.schedule import Limits, Plan, Product
from nnarray.programs.targets.idle import keep_watch, make_room
from nnarray.programs.targets.scalars import python_expression

ONE_CALL_AT_A_TIME = Limits(chain=1, nodes=1)

FUNCTIONS = {name: getattr(np, name) for name in (*ELEMENTWISE - {"where"}, "copyto", "dot", "matmul")}

REDUCTIONS = {"sum": "add.reduce", "max": "maximum.reduce"}


class Program:
    """The graph as a sequence of NumPy calls.

    Called with its inputs and outputs in the graph's order, it fills the outputs and returns the result. Any number of
    threads may call it: each replay has an arena to itself. `works_in_place` says whether outputs may lie over inputs
    as the graph would like it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = outputs_of_their_own(sums_over_columns_as_products(graph))
        plan = Plan(self.graph, ONE_CALL_AT_A_TIME)
        self.works_in_place = plan.works_in_place and not any(map(self._destroys, self.graph.over))
        self.memory = Memory(plan)
        self._views: dict[View, str] = {}
        self._names = {x: x.name for x in graph.arrays} | self.memory.outputs
        for node, begin in self.memory.offsets.items():
            view = View(begin, node.shape, node.dtype)
            self._names[node] = self._views.setdefault(view, f"v{len(self._views)}")
        self._constants: dict[str, npt.NDArray[Any]] = {}
        calls = [self._call(stage.node if isinstance(stage, Product) else stage.nodes[0]) for stage in plan.stages]
        if graph.result is not None:
            calls.append(f"return {graph.result}[()]")
        self.source = "\n    ".join([f"def replay({', '.join(self._parameters())}):", *calls])
        self._code = _compiled(self.source)
        self._idle: list[FunctionType] = []
        keep_watch(self)

    def __call__(self, *given: Any) -> Any:
        """Replay on these arrays and numbers."""
        try:
            replay = self._idle.pop()
        except IndexError:
            replay = self._with_arena()
        result = replay(*given)
        self._idle.append(replay)
        return result

    @property
    def idle_bytes(self) -> int:
        """The bytes kept for the next replay."""
        return len(self._idle) * self.memory.size

    def release(self) -> None:
        """Release the memory kept; the next replay allocates again."""
        self._idle.clear()

    def _parameters(self) -> Iterator[str]:
        yield from (x.name for x in self.graph.inputs)
        yield from (name for name in self.graph.outputs if name != self.graph.result)

    def _destroys(self, name: str) -> bool:
        """Whether the output, over its input, takes from that input what `where` has overwritten by then."""
        node = self.graph.outputs[name]
        return node.operation == "where" and node.sources[1] is self.graph.over[name]

    def _call(self, node: Node) -> str:
        """The call that computes the node."""
        out, given = self._names[node], [self._text(source) for source in node.sources]
        if node.operation == "copy":
            return f"copyto({out}, {given[0]})"
        if isinstance(node, Reduction):
            return f"{REDUCTIONS[node.operation]}({given[0]}, {node.axis}, None, {out}, {node.keepdims})"
        if node.operation == "where":
            return f"copyto({out}, {given[2]}); copyto({out}, {given[1]}, where={given[0]})"
        if node.operation in {"maximum", "minimum"}:  # whose third positional argument NumPy will give another meaning
            given = [self._zeros(node) if x == "0.0" else x for x in given]
            return f"{node.operation}({', '.join(given)}, out={out})"
        if node.operation == "matmul" and 1 in node.shape:  # where matmul may let no other thread run
            return f"dot({given[0]}, {given[1]}, {out})"
        return f"{node.operation}({', '.join([*given, out])})"

    def _text(self, source: Source) -> str:
        if not isinstance(source, Node):
            return python_expression(source)
        if source.operation == "transpose":
            return f"{self._text(source.nodes[0])}.T"
        if source.operation == "ones":
            return self._constant("ones_" + "_".join(map(str, source.shape)), np.ones(source.shape, source.dtype))
        return self._names[source]

    def _zeros(self, node: Node) -> str:
        """A row of zeros: where V is in the cache, a maximum with it takes half the time of one with the number."""
        if not node.shape[1:]:
            return "0.0"
        columns = node.shape[-1]
        return self._constant(f"zeros_{columns}", np.zeros(columns, node.dtype))

    def _constant(self, name: str, array: npt.NDArray[Any]) -> str:
        self._constants.setdefault(name, array)
        return name

    def _with_arena(self) -> FunctionType:
        """The function with new memory."""
        make_room(self.memory.size)
        memory = np.empty(self.memory.size + ALIGNMENT, np.uint8)
        arena = memory[-memory.ctypes.data % ALIGNMENT :]
        views = {name: np.ndarray(view.shape, view.dtype, arena, view.begin) for view, name in self._views.items()}
        if self.graph.result is not None:
            views[self.graph.result] = np.empty((), self.graph.outputs[self.graph.result].dtype)
        return FunctionType(self._code, FUNCTIONS | self._constants | views)


class View(NamedTuple):
    """A part of the arena."""

    begin: int
    shape: Shape
    dtype: np.dtype[Any]


def _compiled(source: str) -> CodeType:
    module = compile(source, "<program>", "exec")
    [code] = [constant for constant in module.co_consts if isinstance(constant, CodeType)]
    return code
