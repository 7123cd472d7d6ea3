"""A lowering for targets that hold columns in registers: small products there, and sums over columns in parts.

A vector of few rows is held by every lane of a warp, one of many is spread over the lanes. Where a product W V has few
rows or few terms, a column of it is made of a column of V that is in registers already; where a sum over columns has
few entries, such as those of db or of a small dW, lanes add them up as the columns pass.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from nnarray.programs.graph import ELEMENTWISE, Graph, Input, Node, Partial, Reduction


class Registers(NamedTuple):
    """What a lane of a warp can hold."""

    few: int
    """rows of a vector that every lane holds as a whole"""
    many: int
    """rows of a vector that is spread over the lanes"""
    lanes: int
    """of a warp"""
    sums: int
    """entries of all the sums over columns that a lane adds up at once"""
    products: int
    """entries of all the products W V of a column that a lane holds until the way back"""
    shared: int
    """entries of all the W that a block holds at once"""

    def entries(self, rows: int) -> int:
        """Entries of a vector in each lane."""
        return rows if rows <= self.few else -(-rows // self.lanes)


def columns_in_registers(graph: Graph, room: Registers, parts_of: Callable[[int], int]) -> Graph:
    """The graph with its small products and sums over columns made in registers, as far as there is room.

    `parts_of` says of a number of columns in how many parts they are added up.
    """
    return graph.rewritten(_Columns(room, parts_of).rewrite)


class _Columns:
    """What is known of the nodes so far: which have a column for each example, and what their columns take."""

    def __init__(self, room: Registers, parts_of: Callable[[int], int]) -> None:
        self._room, self._parts_of = room, parts_of
        self._tallest = dict[Node, int]()
        """of nodes with a column per example, the most rows of what a column is computed from, itself included"""
        self._level = dict[Node, int]()
        """products of BLAS and totals on the way to a node: what a loop holds at once has one level"""
        self._stored = set[Node]()
        self._sums = Counter[int]()
        """by level, the entries of the sums that a lane holds"""
        self._products = Counter[int]()
        """by level, their entries"""
        self._shared = dict[int, dict[Node, int]]()
        """by level, the W of small products and their entries"""

    def rewrite(self, was: Node, node: Node) -> Node:
        """The node, made in registers if it can be."""
        levels = [self._level.get(base, 0) + (base in self._stored) for base in was.reads]
        self._level[was] = max(levels, default=0)
        lowered = self._lowered(was, node)
        if lowered is not node and lowered.operation != "matvec":
            self._stored.add(was)
        return lowered

    def _lowered(self, was: Node, node: Node) -> Node:
        if was.operation == "matmul":
            return self._product(was, node)
        if isinstance(was, Reduction) and was.operation == "sum" and was.axis != 0:
            return self._sum(was, node)
        heights = [self._height(base) for base in was.nodes]
        is_by_column = was.operation in ELEMENTWISE | {"copy"} or (isinstance(was, Reduction) and was.axis == 0)
        if is_by_column and any(heights):
            self._tallest[was] = max([was.matrix_shape[0], *heights])
        return node

    def _product(self, was: Node, node: Node) -> Node:
        A, B = was.nodes
        height, (n, k) = self._height(B), A.matrix_shape
        if self._is_of_parameters(A) and height:
            self._tallest[was] = max(n, height)
            is_small = min(n, k) <= self._room.few and max(n, k, height) <= self._room.many
            if is_small and self._is_worth_it(B, n) and self._is_shared(was, A.base):
                return replace(node, operation="matvec")
            self._tallest[was] = n
        elif self._height(A) and B.operation == "transpose" and self._height(B.base):
            is_small = min(n, B.shape[1]) <= self._room.few
            if is_small and self._has_room(was, [A, B.base], self._room.entries(n) * self._room.entries(B.shape[1])):
                V = node.nodes[1].base
                return self._total("outer_sums", (node.nodes[0], V), k, was)
        self._stored.add(was)
        return node

    def _is_shared(self, was: Node, W: Node) -> bool:
        """Whether there is room for W, or it is there already, and for the product."""
        level, (rows, columns) = self._level[was], W.matrix_shape
        held, entries = self._shared.setdefault(level, {}), self._room.entries(was.matrix_shape[0])
        size = 0 if W in held else rows * columns
        if sum(held.values()) + size > self._room.shared or self._products[level] + entries > self._room.products:
            return False
        held[W] = rows * columns
        self._products[level] += entries
        return True

    def _is_worth_it(self, B: Node, n: int) -> bool:
        """Tall examples are, if they are read once for both the product and dW."""
        entries = self._room.entries(B.matrix_shape[0])
        return B.matrix_shape[0] <= self._room.few or not isinstance(B, Input) or n * entries <= self._room.sums // 2

    def _sum(self, was: Reduction, node: Node) -> Node:
        V, (rows, columns) = was.nodes[0], was.nodes[0].matrix_shape
        is_total = was.axis is None and was.shape == () and rows == 1
        if not (is_total or (was.axis == 1 and was.keepdims)) or not self._height(V):
            return node
        if not self._has_room(was, [V], self._room.entries(rows)):
            return node
        if not is_total:
            return self._total("row_sums", node.nodes, columns, was)
        parts = self._parts_of(columns)
        partial = Partial("row_sums", node.nodes, (parts, 1), was.dtype, parts)
        return Reduction("sum", (partial,), was.shape, was.dtype, 0, True)

    def _height(self, node: Node) -> int:
        """Rows of what its column is computed from; 0 if it has no columns of examples."""
        if isinstance(node, Input):
            return node.shape[0] if node.per_example else 0
        if node in self._stored:
            return node.matrix_shape[0] if node in self._tallest else 0
        return self._tallest.get(node, 0)

    def _has_room(self, was: Node, vectors: list[Node], entries: int) -> bool:
        level = self._level[was]
        if max(map(self._height, vectors)) > self._room.many or self._sums[level] + entries > self._room.sums:
            return False
        self._sums[level] += entries
        return True

    def _total(self, operation: str, vectors: tuple[Node, ...], columns: int, was: Node) -> Node:
        parts = self._parts_of(columns)
        shape = was.matrix_shape[0] * was.matrix_shape[1], parts
        return Node("total", (Partial(operation, vectors, shape, was.dtype, parts),), was.shape, was.dtype)

    @staticmethod
    def _is_of_parameters(A: Node) -> bool:
        return isinstance(A.base, Input) and not A.base.per_example
