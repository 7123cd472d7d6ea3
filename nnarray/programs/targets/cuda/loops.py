"""One loop of a kernel as the text of CUDA C."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from nnarray.programs.graph import Node, Partial, Scalar, Source
from nnarray.programs.schedule import Loop, Plan
from nnarray.programs.targets.cuda.parameters import Columns, Number, Parameters, Parts, Pointer, Stop, Stride

THREADS = 256
"""of a block"""

WARP = 32

VECTOR_BYTES = 16
"""that one instruction loads or stores"""

FEWEST = 2**14
"""entries of a loop over parameters that are worth the text of a second loop"""

OPERATIONS = {
    "abs": "fabs({})",
    "add": "({} + {})",
    "copy": "T({})",
    "divide": "({} / {})",
    "equal": "({} == {})",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "floor": "floor({})",
    "greater": "({} > {})",
    "greater_equal": "({} >= {})",
    "less": "({} < {})",
    "less_equal": "({} <= {})",
    "log": "log({})",
    "log1p": "log1p({})",
    "logical_and": "({} && {})",
    "logical_not": "(!{})",
    "logical_or": "({} || {})",
    "maximum": "maximum({}, {})",
    "minimum": "minimum({}, {})",
    "multiply": "({} * {})",
    "negative": "(-{})",
    "not_equal": "({} != {})",
    "sign": "({0} != {0} ? {0} : T(({0} > 0) - ({0} < 0)))",
    "sqrt": "sqrt({})",
    "subtract": "({} - {})",
    "tanh": "tanh({})",
    "where": "({} ? {} : {})",
}


class LoopText:
    """One loop of a kernel, in the blocks from the loop's before up to its own last."""

    def __init__(self, loop: Loop, number: int, plan: Plan, parameters: Parameters, *, is_last: bool) -> None:
        self.loop, self.nodes, self.number, self.is_last = loop, loop.nodes, number, is_last
        self.plan, self.parameters = plan, parameters
        self._names = 0

    by_blocks = False
    """Whether a block has a column"""

    @property
    def by_columns(self) -> Sequence[Node]:
        """Of the arrays outside, those that are read far faster where the entries of a column are side by side."""
        return ()

    @property
    def warps(self) -> int:
        """So many share the columns, where it matters how many."""
        return 0

    @property
    def blocks(self) -> int:
        """As many as give every entry, column or partial sum a thread, or a warp."""
        rows, columns = self.loop.shape
        threads = {
            "entries": rows * columns * WARP if self._totals else -(-rows * columns // self._at_once),
            "columns": columns * (WARP if self._is_tall else 1),
            "sums": (self._parts if self.loop.kind == "sums" else 0) * WARP,
        }
        return -(-threads[self.loop.kind] // THREADS)

    def source(self) -> str:
        """The loop under its condition."""
        first = self.parameters.name(Stop(self.number - 1)) if self.number else "0"
        stop = "gridDim.x" if self.is_last else self.parameters.name(Stop(self.number))
        lines = [
            f"    {'else ' if self.number else ''}{'' if self.is_last else f'if (blockIdx.x < {stop}) '}{{",
            f"        const Index first = (Index)(blockIdx.x - {first}) * blockDim.x + threadIdx.x;",
            f"        const Index threads = (Index)({stop} - {first}) * blockDim.x;",
        ]
        return "\n".join([*lines, *("        " + line for line in self._body()), "    }", ""])

    def _body(self) -> list[str]:
        return {"entries": self._entries, "columns": self._columns, "sums": self._sums}[self.loop.kind]()

    def shapes(self) -> Iterator[tuple[int, int]]:
        """Of all that the loop goes over, loads and stores."""
        yield self.loop.shape
        for node in self.nodes:
            yield node.matrix_shape
            yield from (leaf.matrix_shape for leaf in self.plan.leaves(node, self.nodes))
            yield from (r.reads[0].matrix_shape for r in self.plan.reductions(node, self.nodes))
        if self._is_tall:
            yield self.loop.shape[1], WARP

    @property
    def _is_tall(self) -> bool:
        """Whether a column is worth a warp."""
        reductions = [r for node in self.nodes for r in self.plan.reductions(node, self.nodes)]
        operands = [reduction.reads[0] for reduction in reductions]
        return any([isinstance(V, Partial) or V.matrix_shape[0] > WARP for V in operands])

    @property
    def _totals(self) -> list[Node]:
        """What is added up of its parts, each entry by a warp."""
        return [node for node in self.nodes if node.operation == "total"]

    @property
    def _parts(self) -> int:
        return self.nodes[0].matrix_shape[0]

    @property
    def _axes(self) -> tuple[str, str]:
        """The place along which entries lie side by side, and the other one."""
        return ("r", "c") if self.loop.order == "F" else ("c", "r")

    @property
    def _length(self) -> int:
        """Entries side by side before the other place moves on."""
        return self.loop.shape[0 if self.loop.order == "F" else 1]

    @cached_property
    def _at_once(self) -> int:
        """How many neighbours a thread takes at once where all arrays lie dense: of the widest, 16 bytes."""
        rows, columns = self.loop.shape
        has_any_columns = self.loop.order == "F" and columns > 1
        if self._totals or (rows * columns < FEWEST and not has_any_columns):
            return 1
        return VECTOR_BYTES // max([self._itemsize(node) for node in [*self.nodes, *self._whole]])

    def _itemsize(self, node: Node) -> int:
        return 2 if self.parameters.type_of(node) != "T" else self.plan.graph.dtype.itemsize

    @cached_property
    def _whole(self) -> list[Node]:
        """What is loaded and has the loop's shape and, if it is not the caller's, the loop's order."""
        leaves = dict.fromkeys([leaf for node in self.nodes for leaf in self.plan.leaves(node, self.nodes)])
        alike = [leaf for leaf in leaves if leaf.matrix_shape == self.loop.shape and leaf.operation != "ones"]
        return [V for V in alike if V in self.parameters.outside or self.plan.order(V) == self.loop.order]

    def _several(self) -> list[str]:
        """The entries, neighbours at once where all arrays lie dense; what is beyond, or all, one by one."""
        n, length = self._at_once, self._length
        outside = [V for V in dict.fromkeys([*self._whole, *self.nodes]) if V in self.parameters.outside]
        dense = " && ".join(map(self._lies_dense, outside))
        whole = f"total / {n} * {n}" if length % n else "total"
        beyond = ["const Index beyond = whole + first;", *self._one_by_one("beyond")] if outside or length % n else []
        return [
            self._total(),
            f"const Index whole = {f'{dense} ? {whole} : 0' if dense else whole};",
            *self._neighbours(),
            *beyond,
        ]

    def _neighbours(self) -> list[str]:
        """The entries before `whole`, so many neighbours at once; what has another shape is loaded for each of them."""
        n, lines, known = self._at_once, list[str](), dict[Node, str]()
        loaded, made = (
            {V: f"{name}{i}" for i, V in enumerate(nodes)} for name, nodes in (("in", self._whole), ("out", self.nodes))
        )
        pointers = {node: self.parameters.name(Pointer(node)) for node in (*loaded, *made)}
        for leaf, several in loaded.items():
            known[leaf] = self._new_name()
            lines.append(f"const T {known[leaf]} = load({several}.x, k);")
        for node in self.nodes:
            self._compute(node, known, lines)
        lines += [f"store({several}.x, k, {known[node]});" for node, several in made.items()]
        return [
            f"for (Index begin = first * {n}; begin < whole; begin += threads * {n}) {{",
            *(f"    const auto {several} = load_several<{n}>({pointers[V]}, begin);" for V, several in loaded.items()),
            *(f"    Several<{n}, {self.parameters.type_of(node)}> {several};" for node, several in made.items()),
            *indented(self._place("begin", const="")),
            "    #pragma unroll",
            f"    for (int k = 0; k < {n}; k++) {{",
            *indented(indented([*lines, self._next()])),
            "    }",
            *(f"    store_several({pointers[node]}, begin, {several});" for node, several in made.items()),
            "}",
        ]

    def _next(self) -> str:
        """From one place to the next, without a division for each."""
        inner, outer = self._axes
        if self._length == 1:
            return f"{outer}++;"
        is_at_end = f"if (++{inner} == {self._length}) {inner} = 0, {outer}++;"
        return is_at_end if self._length % self._at_once else f"{inner}++;"

    def _lies_dense(self, node: Node) -> str:
        """Whether entry i of the loop is entry i of a caller's array, which begins at a multiple of what is moved."""
        strides = [self.parameters.name(Stride(node, axis)) for axis in ((0, 1) if self.loop.order == "F" else (1, 0))]
        places = self.parameters.name(Pointer(node)), *strides, self._length, self.parameters.name(Columns(self.number))
        return f"lies_dense<{self._at_once}>({', '.join(map(str, places))})"

    def _entries(self) -> list[str]:
        if self._at_once > 1:
            return self._several()
        return self._entries_by_warps() if self._totals else [self._total(), *self._one_by_one("first")]

    def _one_by_one(self, first: str) -> list[str]:
        lines, known = list[str](), dict[Node, str]()
        for node in self.nodes:
            self._compute(node, known, lines)
        lines += [self._store(node, known[node]) for node in self.nodes]
        return [
            f"for (Index i = {first}; i < total; i += threads) {{",
            *indented([*self._place(), *lines]),
            "}",
        ]

    def _entries_by_warps(self) -> list[str]:
        """Each entry by a warp, whose lanes add up the parts of its totals; one lane computes what follows."""
        lines, known, summed = list[str](), dict[Node, str](), list[str]()
        for node in self._totals:
            summed += self._total_of(node, known)
        for node in self.nodes:
            self._compute(node, known, lines)
        lines += [self._store(node, known[node]) for node in self.nodes]
        return [
            self._total(),
            "const int lane = threadIdx.x % WARP;",
            "for (Index i = first / WARP; i < total; i += threads / WARP) {",
            *indented([*self._place(), *summed, "if (lane == 0) {", *indented(lines), "}"]),
            "}",
        ]

    def _total_of(self, node: Node, known: dict[Node, str]) -> list[str]:
        """The sum of its parts, the same in every lane."""
        [partial], (rows, columns) = node.nodes, node.matrix_shape
        assert isinstance(partial, Partial)
        parts, name = self.parameters.name(Parts(partial)), self._new_name()
        known[node] = name
        entry = " + ".join(term for term, n in ((f"r * {columns}", rows), ("c", columns)) if n > 1) or "0"
        return [
            f"T {name} = 0;",
            f"for (Index p = lane; p < {parts}; p += WARP)",
            f"    {name} += load({self.parameters.name(Pointer(partial))}, ({entry}) * {parts} + p);",
            f"{name} = sum_of({name}, WARP);",
        ]

    def _sums(self) -> list[str]:
        [partial] = self.nodes
        lines, known = list[str](), dict[Node, str]()
        [V] = partial.nodes
        self._compute(V, known, lines)
        return [
            self._total(),
            f"for (Index part = first / WARP; part < {self._parts}; part += threads / WARP) {{",
            "    const int lane = threadIdx.x % WARP;",
            "    T sum = 0;",
            f"    for (Index i = part * WARP + lane; i < total; i += {self._parts} * WARP) {{",
            *indented(indented([*self._place(), *lines, f"sum += {known[V]};"])),
            "    }",
            "    sum = sum_of(sum, WARP);",
            f"    if (lane == 0) store({self.parameters.name(Pointer(partial))}, part, sum);",
            "}",
        ]

    def _columns(self) -> list[str]:
        known = dict[Node, str]()
        lines = ["const int lane = threadIdx.x % lanes;"]
        for node in self.nodes:
            for reduction in self.plan.reductions(node, self.nodes):
                if reduction not in known:
                    lines += self._reduction(reduction, known)
        for rows in sorted({node.matrix_shape[0] for node in self.nodes}, reverse=True):
            lines += self._stored_rows(rows, known)
        columns = self.parameters.name(Columns(self.number))
        return [
            f"const int lanes = {'WARP' if self._is_tall else '1'};",
            f"for (Index c = first / lanes; c < {columns}; c += threads / lanes) {{",
            *indented(lines),
            "}",
        ]

    def _reduction(self, node: Node, known: dict[Node, str]) -> list[str]:
        """A sum or maximum over rows; its name is known from then on."""
        operand, lines, inner = node.nodes[0], list[str](), dict(known)
        self._compute(operand, inner, lines)
        name = known[node] = self._new_name()
        step = (
            f"{name} += {inner[operand]};"
            if node.operation == "sum"
            else f"{name} = maximum({name}, {inner[operand]});"
        )
        rows = str(operand.matrix_shape[0])
        if isinstance(operand, Partial):
            rows = self.parameters.name(Parts(operand))
        return [
            f"T {name} = {'0' if node.operation == 'sum' else 'LOWEST'};",
            f"for (Index r = lane; r < {rows}; r += lanes) {{",
            *indented([*lines, step]),
            "}",
            f"{name} = {'sum_of' if node.operation == 'sum' else 'max_of'}({name}, lanes);",
        ]

    def _stored_rows(self, rows: int, known: dict[Node, str]) -> list[str]:
        """The nodes of this many rows, computed and stored."""
        nodes, lines, inner = [v for v in self.nodes if v.matrix_shape[0] == rows], list[str](), dict(known)
        for node in nodes:
            self._compute(node, inner, lines)
        lines += [self._store(node, inner[node]) for node in nodes]
        loop = f"for (Index r = lane; r < {rows}; r += lanes) {{" if rows > 1 else "if (lane == 0) {"
        return [loop, *indented(lines), "}"]

    def _total(self) -> str:
        return f"const Index total = {self._length} * {self.parameters.name(Columns(self.number))};"

    def _place(self, i: str = "i", const: str = "const ") -> list[str]:
        """The row r and the column c of entry i."""
        inner, outer = self._axes
        if self._length == 1:
            return [f"{const}Index {outer} = {i};"]
        return [f"{const}Index {inner} = {i} % {self._length}, {outer} = {i} / {self._length};"]

    def _compute(self, node: Node, known: dict[Node, str], lines: list[str]) -> None:
        """Add lines that compute or load the node at (r, c), unless it is known."""
        if node in known:
            return
        if node.operation == "ones":
            known[node] = "T(1)"
            return
        if self.plan.is_loaded(node, self.nodes):
            text = f"load({self.parameters.name(Pointer(node))}, {self._index(node)})"
        else:
            text = OPERATIONS[node.operation].format(*(self._source_text(s, known, lines) for s in node.sources))
        name = known[node] = self._new_name()
        lines.append(f"const {'bool' if node.dtype == bool else 'T'} {name} = {text};")

    def _source_text(self, source: Source, known: dict[Node, str], lines: list[str]) -> str:
        if isinstance(source, Node):
            self._compute(source, known, lines)
            return known[source]
        if isinstance(source, Scalar):
            number = self.parameters.name(Number(source))
            return f"T({'*' if self.parameters.numbers_on_device else ''}{number})"
        return f"T({source!r})"

    def _store(self, node: Node, name: str) -> str:
        return f"store({self.parameters.name(Pointer(node))}, {self._index(node)}, {name});"

    def _index(self, node: Node, r: str = "r", c: str = "c") -> str:
        """Where the entry (r, c) of a node lies; one of a single row or column is the same for all."""
        rows, columns = node.matrix_shape
        order = self.plan.order(node)
        if node in self.parameters.outside:
            row, column = (f"{axis} * {self.parameters.name(Stride(node, i))}" for i, axis in enumerate((r, c)))
        elif self.loop.kind in {"entries", "sums"} and (rows, columns) == self.loop.shape and order == self.loop.order:
            return "i"
        else:
            row, column = (r, f"{c} * {rows}") if order == "F" else (f"{r} * {columns}", c)
        return " + ".join(term for term, n in ((row, rows), (column, columns)) if n > 1) or "0"

    def _new_name(self) -> str:
        self._names += 1
        return f"x{self._names}"


def indented(lines: Sequence[str]) -> list[str]:
    """The lines one level further in."""
    return ["    " + line for line in lines]
