"""A loop over columns in registers as the text of CUDA C.

Each column is a lane's. If a vector of more than FEW rows takes part it is a warp's, of more than TALLEST a block's:
such vectors are spread over its lanes, and every lane holds all others. What a lane holds of a vector is an array whose
indices are all constant once the loops over them are unrolled, so that it lies in registers.
"""

import re
from collections.abc import Sequence

from nnarray.programs.graph import Input, Node, Partial, Reduction, Source
from nnarray.programs.schedule import Loop, Plan
from nnarray.programs.targets.cuda.loops import OPERATIONS, THREADS, WARP, LoopText, indented
from nnarray.programs.targets.cuda.parameters import Columns, Parameters, Pointer, Warps

FEW = 16
"""Rows of a vector that every lane holds as a whole."""

TALLEST = 1216
"""Rows of a vector that is spread over a warp; the lanes of a block hold taller ones."""

SHARED = 5632
"""Entries of W that a block shares: a float64 takes 8 of the 48 kB that every GPU has."""

MOST_WARPS = 8192
"""Each has several columns where there are more: what a block shares is loaded once for all of them."""


class RegistersText(LoopText):
    """One loop of a kernel over columns in registers."""

    def __init__(self, loop: Loop, number: int, plan: Plan, parameters: Parameters, *, is_last: bool) -> None:
        super().__init__(loop, number, plan, parameters, is_last=is_last)
        self._partials = [node for node in self.nodes if isinstance(node, Partial)]
        self._known = dict[Node, str]()
        self._lines = list[str]()
        self._shared = dict[Node, str]()
        leaves = [leaf for node in self.nodes for leaf in plan.leaves(node, self.nodes)]
        made = [node for node in self.nodes if not isinstance(node, Partial)]
        vectors = [*leaves, *made, *(V for node in self._partials for V in node.nodes)]
        heights = [V.matrix_shape[0] for V in self._in_column(vectors)]
        self._by_warps, self.by_blocks = max(heights) > FEW, max(heights) > TALLEST
        for leaf in leaves:
            if leaf.matrix_shape[1] == loop.shape[1] and not isinstance(leaf, Partial):
                self._vector(leaf)
        if self._by_warps and made:
            meet = "__syncthreads" if self.by_blocks else "__syncwarp"
            self._lines.append(f"{meet}();  // all lanes have loaded what one may now write over")
        for node in made:
            self._vector(node)
            self._lines += self._stored_vector(node)
        for node in self._partials:
            for V in node.nodes:
                self._vector(V)

    def _in_column(self, vectors: Sequence[Node]) -> list[Node]:
        """These and what they are computed from, but W of products."""
        found = dict.fromkeys(vectors)
        for node in (todo := list(found)):
            below = () if self.plan.is_loaded(node, self.nodes) else node.nodes
            new = [V for V in (below[1:] if node.operation == "matvec" else below) if V not in found]
            found.update(dict.fromkeys(new))
            todo += new
        return list(found)

    @property
    def by_columns(self) -> Sequence[Node]:
        """Tall vectors, of which the lanes of a warp load neighbours."""
        return [node for node in self._known if isinstance(node, Input) and node.matrix_shape[0] > FEW]

    @property
    def warps(self) -> int:
        """As many as there are parts of sums; where there are none, as give each column a lane, or a warp.

        Of tall vectors, so many blocks.
        """
        columns = self.loop.shape[1]
        parts = [node.parts for node in self._partials]
        return parts[0] if parts else min(MOST_WARPS, columns if self._by_warps else -(-columns // WARP))

    @property
    def blocks(self) -> int:
        """Of all warps."""
        return self.warps if self.by_blocks else -(-self.warps * WARP // THREADS)

    def _body(self) -> list[str]:
        warps, columns = self.parameters.name(Warps(self.number)), self.parameters.name(Columns(self.number))
        begin, step = ("part", "warps") if self._by_warps else ("part * WARP + lane", "warps * WARP")
        lanes = "BLOCK" if self.by_blocks else "WARP"
        sums = {node: f"sums{i}" for i, node in enumerate(self._partials)}
        added = [line for node, name in sums.items() for line in self._added(node, name)]
        return [
            *[line for W, name in self._shared.items() for line in self._fill(W, name)],
            *(["__syncthreads();"] if self._shared else []),
            *(["__shared__ T of_warps[BLOCK / WARP];"] if self.by_blocks else []),
            f"const int lane = threadIdx.x % {lanes};",
            f"const Index warps = {warps};",
            f"for (Index part = first / {lanes}; part < warps; part += threads / {lanes}) {{",
            *(f"    T {name}[{self._size_of_sums(node)}] = {{}};" for node, name in sums.items()),
            f"    for (Index c = {begin}; c < {columns}; c += {step}) {{",
            *indented(indented([*self._lines, *added])),
            "    }",
            *indented([line for node, name in sums.items() for line in self._stored_sums(node, name)]),
            "}",
        ]

    def _vector(self, node: Node) -> str:
        """The name of what a lane holds of a node's column, loaded or computed on first use."""
        if node in self._known:
            return self._known[node]
        rows = node.matrix_shape[0]
        if node.operation != "ones" and not self.plan.is_loaded(node, self.nodes):
            if isinstance(node, Reduction):
                return self._reduced(node)
            if node.operation == "matvec":
                return self._product(node)
            text = OPERATIONS[node.operation].format(*(self._operand(s, rows) for s in node.sources))
        elif node.operation == "ones":
            text = "T(1)"
        else:
            text = f"load({self.parameters.name(Pointer(node))}, {self._index(node)})"
        name = self._declare(node)
        if self._is_dense_fours(node) and self.plan.is_loaded(node, self.nodes):
            four = f"const auto four = load_four({self.parameters.name(Pointer(node))}, {_place_of_four(rows)});"
            self._lines += _each_four(rows, [four, *_each_of_four(f"{name}[j + k] = load(four.x, k);")])
        else:
            self._lines += _each(rows, [f"{name}[j] = {text};"])
        return name

    def _is_dense_fours(self, node: Node) -> bool:
        """Whether a lane's four neighbours lie side by side in memory, at a multiple of their size."""
        is_whole = node.matrix_shape[1] == self.loop.shape[1] and node not in self.parameters.outside
        return _is_in_fours(node.matrix_shape[0]) and is_whole and self.plan.order(node) == "F"

    def _declare(self, node: Node) -> str:
        name = self._known[node] = self._new_name()
        kind, start = "bool" if node.dtype == bool else "T", " = {}" if _is_guarded(node.matrix_shape[0]) else ""
        self._lines.append(f"{kind} {name}[{_size(node.matrix_shape[0])}]{start};")
        return name

    def _operand(self, source: Source, rows: int) -> str:
        """Entry j of a source; one of a single row is the same for all."""
        if not isinstance(source, Node):
            return self._source_text(source, {}, [])
        return f"{self._vector(source)}[{'j' if source.matrix_shape[0] == rows else '0'}]"

    def _reduced(self, node: Reduction) -> str:
        V = node.nodes[0]
        of, rows, is_sum = self._vector(V), V.matrix_shape[0], node.operation == "sum"
        name = self._declare(node)
        step = f"{name}[0] += {of}[j];" if is_sum else f"{name}[0] = maximum({name}[0], {of}[j]);"
        self._lines += [f"{name}[0] = {'0' if is_sum else 'LOWEST'};", *_each(rows, [step])]
        if rows > FEW:
            assert rows <= TALLEST or is_sum
            self._lines.append(f"{name}[0] = {_sum_of(name + '[0]', rows) if is_sum else f'max_of({name}[0], WARP)'};")
        return name

    def _product(self, node: Node) -> str:
        """W V: each entry the sum of few terms, or few entries to each of which every lane adds its terms."""
        W, V = node.nodes
        of, (rows, terms) = self._vector(V), W.matrix_shape
        term = f"x += {self._weight(W)} * {of}[i];"
        name = self._declare(node)
        whole = [f"x = {_sum_of('x', terms)};"] if terms > FEW else []
        lines = ["T x = 0;", *_each(terms, [term], "s", "i"), *whole, f"{name}[j] = x;"]
        self._lines += [*_each(rows, lines), "FORGET_LOADS;"]
        return name

    def _weight(self, W: Node) -> str:
        """Entry (r, s) of W, which the block shares if there is room for it."""
        W, r, s = (W, "r", "s") if W.base is W else (W.base, "s", "r")
        held = [W, *self._shared]
        if sum([rows * columns for rows, columns in (V.matrix_shape for V in dict.fromkeys(held))]) > SHARED:
            place = self._index(W, r, s)
            if self.by_blocks:  # offsets of 64 bits would take twice the registers
                place = place.replace("stride", "(int)stride")
            return f"load({self.parameters.name(Pointer(W))}, {place})"
        name = self._shared.setdefault(W, f"shared{self.number}_{len(self._shared)}")
        return f"{name}[{r} * {W.matrix_shape[1]} + {s}]"

    def _fill(self, W: Node, name: str) -> list[str]:
        """W in the block's shared memory, by rows."""
        rows, columns = W.matrix_shape
        return [
            f"alignas(16) __shared__ T {name}[{rows * columns}];",
            f"for (int i = threadIdx.x; i < {rows * columns}; i += blockDim.x) {{",
            f"    const Index r = i / {columns}, c = i % {columns};",
            f"    {name}[i] = load({self.parameters.name(Pointer(W))}, {self._index(W)});",
            "}",
        ]

    def _size_of_sums(self, node: Partial) -> str:
        return " * ".join([_size(V.matrix_shape[0]) for V in node.nodes])

    def _added(self, node: Partial, name: str) -> list[str]:
        """The column's share in the sums."""
        D, *more = node.nodes
        if not more:
            return _each(D.matrix_shape[0], [f"{name}[j] += {self._known[D]}[j];"])
        rows = more[0].matrix_shape[0]
        line = f"{name}[j * {_size(rows)} + i] += {self._known[D]}[j] * {self._known[more[0]]}[i];"
        return _each(D.matrix_shape[0], _each(rows, [line], "s", "i"))

    def _stored_sums(self, node: Partial, name: str) -> list[str]:
        """A part of each sum, in the row of that sum; where each lane had columns of its own, those of all lanes."""
        rows, columns = (node.nodes[0].matrix_shape[0], node.nodes[-1].matrix_shape[0] if node.nodes[1:] else 1)
        entry, place = (f"[j * {_size(columns)} + i]", f"r * {columns} + s") if node.nodes[1:] else ("[j]", "r")
        whole = [] if self._by_warps else [f"{name}{entry} = sum_of({name}{entry}, WARP);"]
        one = "if (lane == 0) " if max(rows, columns) <= FEW else ""
        pointer = self.parameters.name(Pointer(node))
        lines = [*whole, f"{one}store({pointer}, (Index)({place}) * warps + part, {name}{entry});"]
        return _each(rows, _each(columns, lines, "s", "i") if node.nodes[1:] else lines)

    def _stored_vector(self, node: Node) -> list[str]:
        rows = node.matrix_shape[0]
        if self._is_dense_fours(node):
            lines = [
                f"Four<{self.parameters.type_of(node)}> four;",
                *_each_of_four(f"store(four.x, k, {self._known[node]}[j + k]);"),
                f"store_four({self.parameters.name(Pointer(node))}, {_place_of_four(rows)}, four);",
            ]
            return _each_four(rows, lines)
        one = "if (lane == 0) " if self._by_warps and rows <= FEW else ""
        return _each(rows, [one + self._store(node, f"{self._known[node]}[j]")])


def _each(rows: int, lines: Sequence[str], r: str = "r", j: str = "j") -> list[str]:
    """The lines for each row r that a lane holds, as entry j."""
    guard = [f"if ({r} >= {rows}) continue;"] if _is_guarded(rows) else []
    row = f"const int {r} = {_row(rows, j)};"
    named = [row] if any([re.search(rf"\b{r}\b", line) for line in [*guard, *lines]]) else []
    return [
        "#pragma unroll",
        f"for (int {j} = 0; {j} < {_size(rows)}; {j}++) {{",
        *indented([*named, *guard, *lines]),
        "}",
    ]


def _each_four(rows: int, lines: Sequence[str]) -> list[str]:
    """The lines for each four neighbours that a lane holds, from its entry j on."""
    return ["#pragma unroll", f"for (int j = 0; j < {_size(rows)}; j += 4) {{", *indented(lines), "}"]


def _each_of_four(line: str) -> list[str]:
    return ["#pragma unroll", f"for (int k = 0; k < 4; k++) {line}"]


def _place_of_four(rows: int) -> str:
    return f"c * {rows} + j * WARP + lane * 4"


def _row(rows: int, j: str) -> str:
    """The row that is a lane's entry j; lanes have four neighbours at a time where that leaves none without."""
    if rows <= FEW:
        return j
    return f"{j} / 4 * 4 * WARP + lane * 4 + {j} % 4" if _is_in_fours(rows) else f"lane + {j} * {_lanes(rows)}"


def _is_in_fours(rows: int) -> bool:
    return FEW < rows <= TALLEST and rows % (4 * WARP) == 0


def _is_guarded(rows: int) -> bool:
    """Whether the last entries of some lanes are beyond the vector."""
    return rows > FEW and rows % (THREADS if rows > TALLEST else WARP) > 0


def _size(rows: int) -> str:
    """How many entries a lane holds."""
    return str(rows) if rows <= FEW else f"(({rows} + {_lanes(rows)} - 1) / {_lanes(rows)})"


def _lanes(rows: int) -> str:
    """The lanes over which a vector is spread."""
    return "BLOCK" if rows > TALLEST else "WARP"


def _sum_of(x: str, rows: int) -> str:
    """The sum of what the lanes of a spread vector hold."""
    return f"sum_of_block({x}, of_warps)" if rows > TALLEST else f"sum_of({x}, WARP)"
