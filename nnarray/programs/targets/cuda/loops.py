"""One loop of a kernel as the text of CUDA C."""

from collections.abc import Iterator, Sequence

from nnarray.programs.graph import Node, Partial, Scalar, Source
from nnarray.programs.schedule import Loop, Plan
from nnarray.programs.targets.cuda.parameters import Columns, Number, Parameters, Parts, Pointer, Stop, Stride

THREADS = 256
"""of a block"""

WARP = 32

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
            "entries": rows * columns * (WARP if self._totals else 1) // (4 if self._by_fours else 1),
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
    def _by_fours(self) -> bool:
        """Whether a thread takes four neighbours at once: all that it stores is dense and aligned, as in the arena."""
        return (
            self.loop.kind == "entries"
            and self.loop.order == "F"
            and self.loop.shape[0] % 4 == 0
            and not self._totals
            and all(map(self._is_dense, self.nodes))
        )

    def _is_dense(self, node: Node) -> bool:
        """Whether entry i of the loop is entry i of the node's memory, which begins at a multiple of 256 bytes."""
        return (
            node not in self.parameters.outside
            and node.operation != "ones"
            and node.matrix_shape == self.loop.shape
            and self.plan.order(node) == self.loop.order
        )

    def _fours(self) -> list[str]:
        """The entries, four neighbours of a column at once; what is not dense is loaded one by one."""
        leaves = [leaf for node in self.nodes for leaf in self.plan.leaves(node, self.nodes)]
        fours = {leaf: f"four{i}" for i, leaf in enumerate(dict.fromkeys(filter(self._is_dense, leaves)))}
        made = {node: f"made{i}" for i, node in enumerate(self.nodes)}
        pointers = {node: self.parameters.name(Pointer(node)) for node in (*fours, *made)}
        lines, known = list[str](), dict[Node, str]()
        for leaf, four in fours.items():
            known[leaf] = self._new_name()
            lines.append(f"const T {known[leaf]} = load({four}.x, k);")
        for node in self.nodes:
            self._compute(node, known, lines)
        lines += [f"store({four}.x, k, {known[node]});" for node, four in made.items()]
        return [
            self._total(),
            "for (Index begin = first * 4; begin < total; begin += threads * 4) {",
            *(f"    const auto {four} = load_four({pointers[leaf]}, begin);" for leaf, four in fours.items()),
            *(f"    Four<{self.parameters.type_of(node)}> {four};" for node, four in made.items()),
            "    #pragma unroll",
            "    for (int k = 0; k < 4; k++) {",
            "        const Index i = begin + k;",
            *indented(indented([*self._place(), *lines])),
            "    }",
            *(f"    store_four({pointers[node]}, begin, {four});" for node, four in made.items()),
            "}",
        ]

    def _entries(self) -> list[str]:
        if self._by_fours:
            return self._fours()
        if self._totals:
            return self._entries_by_warps()
        lines, known = list[str](), dict[Node, str]()
        for node in self.nodes:
            self._compute(node, known, lines)
        lines += [self._store(node, known[node]) for node in self.nodes]
        return [
            self._total(),
            "for (Index i = first; i < total; i += threads) {",
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
        rows, columns = self.loop.shape
        length = rows if self.loop.order == "F" else columns
        return f"const Index total = {length} * {self.parameters.name(Columns(self.number))};"

    def _place(self) -> list[str]:
        """The row r and the column c of entry i."""
        rows, columns = self.loop.shape
        inner, outer, length = ("r", "c", rows) if self.loop.order == "F" else ("c", "r", columns)
        if length == 1:
            return [f"const Index {outer} = i;"]
        return [f"const Index {inner} = i % {length}, {outer} = i / {length};"]

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
