"""Where one function finds what it computes with: a table of words of 8 bytes, with all that its text leaves open.

Nothing in the text depends on a network or on m, so equal loops of all layers and networks are one function.
"""

import math
import os
from collections.abc import Container

from nnarray.programs.graph import Node, Scalar
from nnarray.programs.targets.llvm.code import Code

CHECKED = os.environ.get("NNARRAY_CHECKED_CODE") == "1"
"""In the environment, for tests: each load and store ends the process if it lies outside its node."""


WRITTEN_OUT = frozenset([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0])
"""Numbers for which LLVM knows a shorter way."""


class Places:
    """The address of each entry of each node.

    `keys` are what the words of the table have to hold, in their order: ("address", node), ("stride", node, axis),
    ("number", scalar), and what the function asks for besides. `outside` are the nodes in callers' arrays, whose
    strides may be any; `unit` are those of them whose rows are contiguous, and `standing` those whose columns are.
    """

    def __init__(
        self, code: Code, outside: Container[Node], unit: Container[Node], standing: Container[Node] = ()
    ) -> None:
        self.code, self._outside, self._unit, self._standing = code, outside, unit, standing
        self.keys: list[tuple[object, ...]] = []
        self._known: dict[object, str] = {}

    def word(self, *key: object, kind: str = "i64") -> str:
        """What the table holds under the key."""
        if key not in self._known:
            self._known[key] = self.code.parameter("%table", len(self.keys), kind)
            self.keys.append(key)
        return self._known[key]

    def number(self, x: Scalar | float) -> str:
        """The value of a scalar, or a number."""
        if isinstance(x, Scalar) or (math.isfinite(x) and x not in WRITTEN_OUT):
            return self.number_in_table(x)
        return self.code.constant(x)

    def number_in_table(self, x: Scalar | float) -> str:
        """The same, whatever it is: many numbers depend on how many examples there are."""
        key = ("number", x) if isinstance(x, Scalar) else ("constant", float(x))
        wide = self.word(*key, kind="double")
        if self.code.T == "double":
            return wide
        if ("rounded", key) not in self._known:
            self._known["rounded", key] = self.code.at_entry(f"fptrunc double {wide} to float")
        return self._known["rounded", key]

    def load(self, node: Node, r: str, c: str) -> str:
        """The entry (r, c); of a single row or column, the same for all r or c."""
        if node.operation == "ones":
            return self.code.constant(1.0)
        T = self._kind(node)
        loaded = self.code.value(f"load {T}, ptr {self._entry(node, r, c)}, align 1, !llvm.access.group !0")
        return self.code.value(f"icmp ne i8 {loaded}, 0") if T == "i8" else loaded

    def store(self, node: Node, r: str, c: str, x: str) -> None:
        """Store x as the entry (r, c)."""
        T = self._kind(node)
        if T == "i8":
            x = self.code.value(f"zext i1 {x} to i8")
        self.code.do(f"store {T} {x}, ptr {self._entry(node, r, c)}, align 1, !llvm.access.group !0")

    def has_contiguous_rows(self, node: Node) -> bool:
        """Whether the entries of each row are contiguous."""
        return node in self._unit or not (node in self._outside or node.is_view)

    def has_contiguous_columns(self, node: Node) -> bool:
        """Whether the entries of each column are contiguous, in a caller's array."""
        return node in self._standing

    def load_anyhow(self, node: Node, r: str, c: str) -> str:
        """The same as `load` of numbers, written in one way for all shapes and strides, transposed or not."""
        if CHECKED:
            self._check(node.base, *((r, c) if node.base is node else (c, r)), shortest=1)
        down, across = (self.code.times(i, self.word("stride", node, axis)) for axis, i in enumerate((r, c)))
        address = self._address(node.base, self.code.add(down, across))
        return self.code.value(f"load {self.code.T}, ptr {address}, align 1")

    def span(self, node: Node, r: str, c: str, length: str) -> str:
        """The address of so many contiguous entries of row r, from column c on, written in one way for all shapes.

        The node may be transposed, if the columns of what it transposes are contiguous.
        """
        if CHECKED:
            last = self.code.value(f"sub i64 {length}, 1")
            for column in (c, self.code.add(c, last)):
                self._check(node.base, *((r, column) if node.base is node else (column, r)), shortest=1)
        return self._address(node.base, self.code.add(self.code.times(r, self.word("stride", node, 0)), c))

    def _entry(self, node: Node, r: str, c: str) -> str:
        if node.operation == "transpose":
            return self._entry(node.nodes[0], c, r)
        if CHECKED:
            self._check(node, r, c)
        rows, columns = node.matrix_shape
        down = "0" if rows == 1 else self.code.times(r, self._stride(node, 0))
        across = "0" if columns == 1 else self.code.times(c, self._stride(node, 1))
        index = across if down == "0" else down if across == "0" else self.code.add(down, across)
        return self._address(node, index)

    def _address(self, node: Node, index: str) -> str:
        address = self.word("address", node, kind="ptr")
        return self.code.value(f"getelementptr {self._kind(node)}, ptr {address}, i64 {index}")

    def _check(self, node: Node, *entry: str, shortest: int = 2) -> None:
        """Stop the process at an entry that the node has not; axes below the shortest are not gone along."""
        for axis, i in enumerate(entry):
            if node.matrix_shape[axis] >= shortest:
                outside = self.code.value(f"icmp uge i64 {i}, {self.word('limit', node, axis)}")
                with self.code.branch(outside):
                    self.code.do("call void @llvm.trap()")

    def _stride(self, node: Node, axis: int) -> str:
        """From one row (axis 0) or column (axis 1) to the next, in entries; the arena's rows are contiguous."""
        if node not in self._outside and (axis == 1 or node.matrix_shape[1] == 1):
            return "1"
        if node in (self._standing, self._unit)[axis]:
            return "1"
        key = "whole stride", node, axis
        if key not in self._known:  # a sum, which LLVM does not hope to be 1: it would vectorise for that case alone
            one, other = self.word("stride", node, axis), self.word("nothing", 0)
            self._known[key] = self.code.at_entry(f"add i64 {one}, {other}")
        return self._known[key]

    def _kind(self, node: Node) -> str:
        return "i8" if node.dtype == bool else self.code.T
