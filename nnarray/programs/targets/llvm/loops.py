"""One loop of a plan as LLVM IR. The innermost loop goes along rows, whose entries are contiguous, and vectorises.

A sum of all entries goes down columns where it is those of a caller's arrays that are contiguous.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nnarray.programs.graph import COMPARISONS, Node, Source
from nnarray.programs.schedule import Loop, Plan
from nnarray.programs.targets.llvm.operations import OPERATIONS, maximum
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.vectors import Vectors

BLOCK = 128
"""Columns that are reduced at once; their sums and maxima lie on the stack."""

Known = dict[Source, str]
"""Values that were computed or loaded for the entry at hand."""


class LoopCode:
    """The code of one loop."""

    def __init__(self, loop: Loop, plan: Plan, places: Places) -> None:
        self.loop, self.nodes, self.plan, self.places = loop, loop.nodes, plan, places
        self.code = places.code

    def write(self) -> None:
        """Write it."""
        {"entries": self._entries, "columns": self._columns, "sums": self._sum}[self.loop.kind]()

    def _entries(self) -> None:
        with self._each_entry() as (r, c, known):
            made = [(node, self._value(node, r, c, known)) for node in self.nodes]
            for node, x in made:
                self.places.store(node, r, c, x)

    def _sum(self) -> None:
        """All entries in one sum, of doubles; its terms are added in an order that suits vectors."""
        [part], [V], T, total = self.nodes, self.nodes[0].nodes, self.code.T, self.code.variable("double")
        self.code.do(f"store double {0.0}, ptr {total}")
        each_entry = self._each_entry_by_columns if self._stands() else self._each_entry
        with each_entry() as (r, c, known):
            x = self._value(V, r, c, known)
            term = x if T == "double" else self.code.value(f"fpext float {x} to double")
            before = self.code.value(f"load double, ptr {total}")
            self.code.do(f"store double {self.code.value(f'fadd reassoc double {before}, {term}')}, ptr {total}")
        x = self.code.value(f"load double, ptr {total}")
        self.places.store(part, "0", "0", x if T == "double" else self.code.value(f"fptrunc double {x} to float"))

    @contextmanager
    def _each_entry(self) -> Iterator[tuple[str, str, Known]]:
        if self.loop.shape[1] == 1:
            with self.code.loop(self._rows(), parallel=True) as r:
                yield r, "0", {}
            return
        with self.code.loop(self._rows()) as r:
            known = self._same_along_the_row(self.nodes, self.loop.shape[0], r)
            with self.code.loop(self._count(), parallel=True) as c:
                yield r, c, known

    def _stands(self) -> bool:
        """Whether all that is loaded has contiguous columns."""
        leaves = [leaf for node in self.nodes for leaf in self.plan.leaves(node, self.nodes)]
        return all(leaf.matrix_shape == self.loop.shape and self.places.has_contiguous_columns(leaf) for leaf in leaves)

    @contextmanager
    def _each_entry_by_columns(self) -> Iterator[tuple[str, str, Known]]:
        with self.code.loop(self._count()) as c, self.code.loop(self._rows(), parallel=True) as r:
            yield r, c, {}

    def _columns(self) -> None:
        """Blocks of columns: their sums and maxima over rows first, then what is stored, row by row."""
        found = (r for node in self.nodes for r in self.plan.reductions(node, self.nodes))
        buffers = {reduction: self.code.variable(f"[{BLOCK} x {self.code.T}]") for reduction in dict.fromkeys(found)}
        with self.code.loop(self._count(), step=BLOCK) as first:
            left = self.code.value(f"sub i64 {self._count()}, {first}")
            is_last = self.code.value(f"icmp ult i64 {left}, {BLOCK}")
            width = self.code.value(f"select i1 {is_last}, i64 {left}, i64 {BLOCK}")
            known = dict[Node, str]()
            for together in self._independent(buffers):
                self._reduce(together, buffers, first, width, known)
                known |= {reduction: buffers[reduction] for reduction in together}
            for rows in sorted({node.matrix_shape[0] for node in self.nodes}, reverse=True):
                self._store_rows(rows, first, width, buffers)

    def _independent(self, reductions: Iterable[Node]) -> list[list[Node]]:
        """The reductions over equally many rows, and of those that need none of the same group; in order."""
        level, groups = dict[Node, int](), dict[tuple[int, int], list[Node]]()
        for reduction in reductions:
            needed = self.plan.reductions(reduction, self.nodes)[:-1]
            level[reduction] = 1 + max([level[node] for node in needed], default=0)
            groups.setdefault((level[reduction], reduction.nodes[0].matrix_shape[0]), []).append(reduction)
        return [groups[key] for key in sorted(groups)]

    def _reduce(
        self, together: list[Node], buffers: dict[Node, str], first: str, width: str, known_before: dict[Node, str]
    ) -> None:
        """Sums and maxima of each column of the block, one row after the other."""
        block = Vectors(self.code, BLOCK)
        for reduction in together:
            start = self.code.constant(0.0 if reduction.operation == "sum" else -math.inf)
            block.store(buffers[reduction], block.splat(start))
        rows = together[0].nodes[0].matrix_shape[0]
        with self._each_of_block(rows, together, first, width, known_before) as (r, c, j, known):
            for reduction in together:
                x, before = self._value(reduction.nodes[0], r, c, known), self._get(buffers[reduction], j)
                is_sum = reduction.operation == "sum"
                after = self.code.arithmetic("fadd", before, x) if is_sum else maximum(self.code, before, x)
                self._set(buffers[reduction], j, after)

    def _store_rows(self, rows: int, first: str, width: str, buffers: dict[Node, str]) -> None:
        """The nodes of this many rows."""
        nodes = [node for node in self.nodes if node.matrix_shape[0] == rows]
        with self._each_of_block(rows, nodes, first, width, buffers) as (r, c, _, known):
            made = [(node, self._value(node, r, c, known)) for node in nodes]
            for node, x in made:
                self.places.store(node, r, c, x)

    @contextmanager
    def _each_of_block(
        self, rows: int, nodes: list[Node], first: str, width: str, buffers: dict[Node, str]
    ) -> Iterator[tuple[str, str, str, Known]]:
        with self.code.loop(self.places.word("rows", rows)) as r:
            same = self._same_along_the_row(nodes, rows, r)
            with self.code.loop(width, parallel=True, masked=True) as j:
                known = same | {reduction: self._get(buffer, j) for reduction, buffer in buffers.items()}
                yield r, self.code.add(first, j), j, known

    def _rows(self) -> str:
        """How many rows it goes over."""
        return self.places.word("rows", self.loop.shape[0])

    def _count(self) -> str:
        """How many columns the loop goes over."""
        return self.places.word("columns", self.loop.shape[1])

    def _same_along_the_row(self, nodes: Iterable[Node], rows: int, r: str) -> Known:
        """What has one column and these rows, or one, loaded before the loop along the row."""
        leaves = dict.fromkeys(leaf for node in nodes for leaf in self.plan.leaves(node, self.nodes))
        shapes = (rows, 1), (1, 1)
        return {leaf: self.places.load(leaf, r, "0") for leaf in leaves if leaf.matrix_shape in shapes}

    def _value(self, source: Source, r: str, c: str, known: Known) -> str:
        """What a node is at (r, c), or a number."""
        if not isinstance(source, Node):
            return self.places.number(source)
        if source not in known:
            known[source] = self._loaded_or_computed(source, r, c, known)
        return known[source]

    def _loaded_or_computed(self, node: Node, r: str, c: str, known: Known) -> str:
        if self.plan.is_loaded(node.base, self.nodes):
            return self.places.load(node, r, c)
        return self._computed(node, [self._value(source, r, c, known) for source in node.sources])

    def _computed(self, node: Node, sources: list[str]) -> str:
        if node.operation == "copy":
            x, is_truth = sources[0], node.nodes[0].dtype == bool
        else:
            x, is_truth = OPERATIONS[node.operation](self.code, *sources), node.operation in COMPARISONS
        return self.code.value(f"uitofp i1 {x} to {self.code.T}") if is_truth and node.dtype != bool else x

    def _get(self, buffer: str, j: str) -> str:
        address = self.code.value(f"getelementptr {self.code.T}, ptr {buffer}, i64 {j}")
        return self.code.value(f"load {self.code.T}, ptr {address}, !llvm.access.group !0")

    def _set(self, buffer: str, j: str, x: str) -> None:
        address = self.code.value(f"getelementptr {self.code.T}, ptr {buffer}, i64 {j}")
        self.code.do(f"store {self.code.T} {x}, ptr {address}, !llvm.access.group !0")
