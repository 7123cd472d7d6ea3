"""A target in plain Python loops, one entry after the other, against which the others are held."""

from itertools import product
from typing import Any

import numpy as np

from nnarray.programs.graph import Graph, Input, Node, Partial, Scalar, Source
from nnarray.programs.memory import Memory
from nnarray.programs.schedule import Limits, Loop, Plan, Product

FUNCTIONS = {name: getattr(np, name) for name in "abs exp log log1p maximum negative sqrt tanh".split()}  # noqa: SIM905
FUNCTIONS |= {name: getattr(np, name) for name in ("add", "divide", "greater", "greater_equal", "multiply", "subtract")}
FUNCTIONS |= {"copy": lambda x: x, "power": lambda x, y: x**y}


class Program:
    """The plan of a graph, run on the arena that its memory asks for."""

    def __init__(self, graph: Graph, limits: Limits = Limits(chain=64, nodes=32)) -> None:  # noqa: B008
        self.graph, self.plan = graph, Plan(graph, limits)
        self.memory = Memory(self.plan)

    def __call__(self, *given: Any) -> Any:
        names = [x.name for x in self.graph.inputs] + list(self.graph.outputs)
        result = [] if self.graph.result is None else [np.full((), np.nan, self.graph.dtype)]
        self.given = dict(zip(names, [*given, *result], strict=True))
        self.arena = np.full(self.memory.size, 0xFF, np.uint8)  # NaN
        for stage in self.plan.stages:
            if isinstance(stage, Product):
                self.multiply(stage)
            else:
                for loop in stage.loops:
                    self.run(loop)
        return result[0] if result else None

    def array(self, node: Node) -> Any:
        """The stored array, as a matrix."""
        if node.operation == "transpose":
            return self.array(node.nodes[0]).T
        if node.operation == "ones":
            return np.ones(node.matrix_shape, node.dtype)
        if isinstance(node, Input) or node in self.memory.outputs:
            return self.given[node.name if isinstance(node, Input) else self.memory.outputs[node]].reshape(
                node.matrix_shape
            )
        return np.ndarray(node.matrix_shape, node.dtype, self.arena, self.memory.offsets[node])

    def multiply(self, stage: Product) -> None:
        A, B, C = map(self.array, (stage.A, stage.B, stage.node))
        for i, j in np.ndindex(C.shape):
            C[i, j] = sum(A[i, k] * B[k, j] for k in range(A.shape[1]))
            if stage.bias is not None:
                C[i, j] = max(C[i, j] + self.array(stage.bias)[i, 0], 0.0)

    def run(self, loop: Loop) -> None:
        """Column by column (or all at once, where entries are free to come in any order): compute, then store."""
        rows = range(loop.shape[0])
        if loop.kind == "sums":
            [parts], [V] = loop.nodes, loop.nodes[0].nodes
            total = sum(self.value(V, r, c, loop, {}) for r, c in product(rows, range(loop.shape[1])))
            self.array(parts)[...] = 0
            self.array(parts)[0, 0] = total
            return
        for c in range(loop.shape[1]):
            known: dict[Any, Any] = {}
            made = [(n, r, self.value(n, r, c, loop, known)) for n in loop.nodes for r in rows_of(n)]
            for node in loop.nodes:
                if isinstance(node, Partial):
                    self.add(node, c, loop, known)
            for node, r, x in made:
                self.array(node)[r, c] = x

    def add(self, node: Partial, c: int, loop: Loop, known: dict[Any, Any]) -> None:
        """Add a column's share to the sums, all in the part of column 0."""
        vectors = [[self.value(V, r, c, loop, known) for r in range(V.matrix_shape[0])] for V in node.nodes]
        sums = self.array(node).reshape(-1, node.parts)
        sums[...] = 0 if c == 0 else sums
        sums[:, 0] += [np.prod(factors) for factors in product(*vectors)]

    def value(self, source: Source, r: int, c: int, loop: Loop, known: dict[Any, Any]) -> Any:
        if isinstance(source, Scalar):
            return self.number(source)
        if not isinstance(source, Node):
            return source
        rows, columns = source.matrix_shape
        r, c = (r if rows > 1 else 0), (c if columns > 1 else 0)
        if (source, r, c) not in known:
            known[source, r, c] = self.compute(source, r, c, loop, known)
        return known[source, r, c]

    def compute(self, node: Node, r: int, c: int, loop: Loop, known: dict[Any, Any]) -> Any:
        if self.plan.is_loaded(node, loop.nodes):
            return self.array(node)[r, c]
        if node.operation == "matvec":
            A, V = self.array(node.nodes[0]), node.nodes[1]
            return sum(A[r, k] * self.value(V, k, c, loop, known) for k in range(A.shape[1]))
        if node.operation == "total":
            return self.array(node.nodes[0])[r * node.matrix_shape[1] + c].sum()
        if node.is_reduction:
            [V] = node.nodes
            entries = [self.value(V, k, c, loop, known) for k in range(V.matrix_shape[0])]
            return sum(entries) if node.operation == "sum" else max(entries)
        sources = [self.value(source, r, c, loop, known) for source in node.sources]
        return node.dtype.type(FUNCTIONS[node.operation](*sources))

    def number(self, scalar: Scalar | float) -> Any:
        if not isinstance(scalar, Scalar):
            return scalar
        sources = [self.number(source) for source in scalar.sources]
        return self.given[scalar.name] if scalar.operation == "given" else FUNCTIONS[scalar.operation](*sources)


def rows_of(node: Node) -> range:
    """Those that a loop stores of each column; sums over columns are stored in another way."""
    return range(0 if isinstance(node, Partial) else node.matrix_shape[0])
