"""What core asks for, as a graph of frozen nodes: each is an operation on nodes, scalars and Python numbers.

Nothing here knows how a node is computed or written. `trace` builds graphs, `lowering` rewrites them, `schedule` orders
them, and the targets print them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

Shape = tuple[int, ...]

COMPARISONS = frozenset(
    "equal greater greater_equal less less_equal logical_and logical_not logical_or not_equal".split()  # noqa: SIM905
)
"""What gives truths."""

ELEMENTWISE = COMPARISONS | frozenset(
    "abs add divide exp expm1 floor log log1p maximum minimum multiply negative sign sqrt subtract tanh where".split()  # noqa: SIM905
)


@dataclass(frozen=True, eq=False)
class Node:
    """A value of the graph: the result of an operation on its sources.

    The operation is one of ELEMENTWISE, or "copy" (also into another dtype), "matmul", "sum", "max", "transpose", and
    without sources "input" or "ones". Lowering adds "matvec", a product of which each column is made in registers,
    "partial_sums", those of a `Partial`, and "total", their sum.
    """

    operation: str
    sources: "tuple[Source, ...]"
    shape: Shape
    dtype: np.dtype[Any]

    @cached_property
    def base(self) -> "Node":
        """The node whose memory this one shares: of a transpose, its source's; else itself."""
        return self.nodes[0].base if self.operation == "transpose" else self

    @cached_property
    def nodes(self) -> "tuple[Node, ...]":
        """The sources that are arrays."""
        return tuple([source for source in self.sources if isinstance(source, Node)])

    @cached_property
    def reads(self) -> "tuple[Node, ...]":
        """The nodes whose memory the sources share."""
        return tuple([node.base for node in self.nodes])

    @cached_property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape as that of a matrix: a number is 1 × 1, a vector is a row."""
        rows, columns = (1, 1, *self.shape)[-2:]
        return rows, columns

    @property
    def is_reduction(self) -> bool:
        """Whether it is a sum or a maximum."""
        return self.operation in {"sum", "max"}

    @property
    def is_view(self) -> bool:
        """Whether nothing is computed for it: an input, ones, or a transpose."""
        return self.operation in {"input", "ones", "transpose"}


@dataclass(frozen=True, eq=False)
class Input(Node):
    """An input array. `order` is its memory order: "F", columns are contiguous, or "C", rows are.

    One `per_example` has a column for each example of a batch.
    """

    name: str
    order: str = "F"
    per_example: bool = False


@dataclass(frozen=True, eq=False)
class Reduction(Node):
    """A sum or a maximum over the axis, None for all."""

    axis: int | None
    keepdims: bool


@dataclass(frozen=True, eq=False)
class Partial(Node):
    """Sums over columns, each part over some of them: "row_sums" of V, or "outer_sums" of the entries of D Vᵀ.

    Its memory is a matrix of one row for each sum, where the parts are side by side.
    """

    parts: int


@dataclass(frozen=True, eq=False)
class Rectified(Node):
    """max(A B + b, 0), a "matmul" that adds the column b and rectifies before it stores; its sources are A, B and b."""


@dataclass(frozen=True)
class Scalar:
    """A symbolic Python number: a named input of the program, or an operation on scalars and Python numbers."""

    operation: str
    sources: "tuple[Scalar | float, ...]" = ()
    name: str = ""

    def __rpow__(self, base: float) -> "Scalar":
        return Scalar("power", (base, self))

    def __pow__(self, power: float) -> "Scalar":
        return Scalar("power", (self, power))

    def __rsub__(self, other: float) -> "Scalar":
        return Scalar("subtract", (other, self))

    def __rmul__(self, other: float) -> "Scalar":
        return Scalar("multiply", (other, self))

    def __truediv__(self, other: "Scalar") -> "Scalar":
        return Scalar("divide", (self, other)) if isinstance(other, Scalar | int | float) else NotImplemented

    def __rtruediv__(self, other: float) -> "Scalar":
        return Scalar("divide", (other, self))


Source = Node | Scalar | int | float


@dataclass(frozen=True)
class Graph:
    """What a program computes: the `outputs`, by name, from the `inputs`."""

    inputs: tuple[Input | Scalar, ...]
    """in the order in which a program is given them"""
    nodes: tuple[Node, ...]
    """what is computed, each after its sources, in the order in which core asked for it"""
    outputs: Mapping[str, Node]
    """in the order in which a program is given the arrays that it fills"""
    result: str | None = None
    """the output, without axes, that a program is not given an array for but returns"""
    over: Mapping[str, Input] = field(default_factory=dict)
    """the inputs whose memory the caller would like to give to outputs, by the output's name"""
    narrow: frozenset[Node] = frozenset()
    """nodes that are stored in a narrower float than they are computed in, or come in it"""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of every node but comparisons."""
        return self.arrays[0].dtype

    @property
    def arrays(self) -> list[Input]:
        """The inputs that are arrays."""
        return [x for x in self.inputs if isinstance(x, Input)]

    @property
    def scalars(self) -> list[Scalar]:
        """The inputs that are Python numbers."""
        return [x for x in self.inputs if isinstance(x, Scalar)]

    def needed(self) -> "Graph":
        """The graph without dead nodes."""
        wanted, kept = {node.base for node in self.outputs.values()}, list[Node]()
        for node in reversed(self.nodes):
            if node in wanted:
                kept.append(node)
                wanted.update(node.reads)
        return replace(self, nodes=tuple(kept[::-1]))

    def rewritten(self, rewrite: Callable[[Node, Node], Node]) -> "Graph":
        """The graph with each node replaced by `rewrite(node, the same node on its replaced sources)`.

        What `rewrite` returns may have new sources of its own.
        """
        return self._rewritten(rewrite, {})

    def by_rows(self, inputs: Collection[Node]) -> "Graph":
        """The graph with these inputs in C order."""
        return self._rewritten(lambda _, node: node, {x: replace(x, order="C") for x in self.arrays if x in inputs})

    def _rewritten(self, rewrite: Callable[[Node, Node], Node], inputs: Mapping[Any, Any]) -> "Graph":
        replaced, nodes = dict[Node, Node](inputs), dict[Node, None]()

        def add(node: Node) -> None:
            for source in node.nodes:
                if source.base not in nodes and not source.base.is_view:
                    add(source.base)
            if not node.is_view:
                nodes[node] = None

        for node in self.nodes:
            replaced[node] = rewrite(node, with_sources(node, replaced))
            add(replaced[node].base)
        outputs = {name: _replaced(node, replaced) for name, node in self.outputs.items()}
        narrow = frozenset(_replaced(node, replaced) for node in self.narrow)
        given = tuple([inputs.get(x, x) for x in self.inputs])
        over = {name: inputs.get(x, x) for name, x in self.over.items()}
        return Graph(given, tuple(nodes), outputs, self.result, over, narrow)


def with_sources(node: Node, replaced: Mapping[Node, Node]) -> Node:
    """The node on replaced sources; itself where none was replaced."""
    sources = tuple(_replaced(s, replaced) if isinstance(s, Node) else s for s in node.sources)
    unchanged = all([one is other for one, other in zip(sources, node.sources, strict=True)])
    return node if unchanged else replace(node, sources=sources)


def _replaced(node: Node, replaced: Mapping[Node, Node]) -> Node:
    return with_sources(node, replaced) if node.operation == "transpose" else replaced.get(node, node)


def transpose(node: Node) -> Node:
    """A transposed view of the node's memory."""
    return Node("transpose", (node,), node.shape[::-1], node.dtype)


def copy(node: Node) -> Node:
    """A copy of the node, in memory of its own."""
    return Node("copy", (node,), node.shape, node.dtype)


def ones(shape: Shape, dtype: Any) -> Node:
    """A constant array of ones."""
    return Node("ones", (), shape, np.dtype(dtype))
