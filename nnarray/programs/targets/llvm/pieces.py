"""How the parts of a plan are cut, by sizes and the machine: into pieces that threads may share, or blocks of columns.

A piece is computed by the function of its part, from a table of its own: other addresses, fewer rows or columns. What
is cut has the same bits whoever computes it, and in whatever order its pieces come.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from nnarray.programs.graph import Graph, Node, Reduction
from nnarray.programs.memory import Memory
from nnarray.programs.schedule import Loop, Loops, Plan, Product, Stage, made_by
from nnarray.programs.targets.llvm.products import is_blocked, is_call

Part = Product | Loop

MOST_PIECES, MULTIPLE = 8, 16
"""How many pieces a part is cut into at most, and what their first rows or columns are multiples of."""

PIECE_OPERATIONS, PIECE_ENTRIES = 2**19, 2**13
"""Of a product, and of what a loop stores: a piece has no fewer, or sharing it would cost more than it gives."""

MANY_OPERATIONS = 2**27
"""Of each of more than two pieces of a product: BLAS copies an operand for each of them."""

PROCESSORS = os.cpu_count() or MOST_PIECES
MOST_COPIES = PROCESSORS if PROCESSORS in {1, 2, 4} else MOST_PIECES
"""How many pieces a product is cut into at most: of few processors, one for each. All that the machine has count, not
those that a process may use, on which no bit is to depend."""

BLOCKED_COLUMNS = 64
"""Of a product in blocks that is cut by columns: what each piece packs then is its own."""

WORTH_SHARING = 10**7
"""Operations of a graph's products below which none is cut: a forward pass of a step that no other thread helps."""

BLOCK_BYTES, COLUMNS_AT_ONCE = 2**18, 8
"""Of an input that is read for two products, about so much is in a core's cache for the second one: a multiple of so
many columns, which BLAS multiplies by a vector at once."""

MOST_ROWS = 16
"""Of a product that takes about as long as reading what it multiplies."""


class Span(NamedTuple):
    """From a start up to a stop."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many."""
        return self.stop - self.start


class Piece(NamedTuple):
    """The rows and columns of what a part makes, and of a product, the terms that are added up."""

    part: Part
    rows: Span
    columns: Span
    terms: Span
    adds: bool = False
    """to what is there already"""

    def length(self, what: str, of_all: int) -> int:
        """How many rows, columns or terms there are, where the part has `of_all` of them."""
        span: Span = getattr(self, what)
        return of_all if span == getattr(whole(self.part), what) else span.length

    @property
    def ahead(self) -> int:
        """How many terms the next piece has, if there is one of as many; else 0."""
        return self.terms.length if self.terms.stop + self.terms.length <= whole(self.part).terms.stop else 0

    def first(self, base: Node) -> tuple[int, int]:
        """The first row and column of a node that the piece reads or makes."""
        if isinstance(self.part, Loop):
            rows, columns = base.matrix_shape
            return self.rows.start if rows > 1 else 0, self.columns.start if columns > 1 else 0
        node, A, B, _ = self.part
        spans = {node: (self.rows, self.columns), A: (self.rows, self.terms), B: (self.terms, self.columns)}
        for V, (down, across) in spans.items():
            if V is base:
                return down.start, across.start
            if V.base is base:
                return across.start, down.start
        return 0, 0


def whole(part: Part) -> Piece:
    """All of it."""
    (rows, columns), terms = _shape(part), part.A.matrix_shape[1] if isinstance(part, Product) else 0
    return Piece(part, Span(0, rows), Span(0, columns), Span(0, terms))


def stages_of(plan: Plan, *, shared: bool) -> list[list[Piece]]:
    """The pieces of each stage, of which none waits for another; unless they are `shared`, a part is one piece."""
    operations = sum([_operations(part) for stage in plan.stages for part in parts_of(stage)])
    cuts = shared and (operations == 0 or (operations >= WORTH_SHARING and _cuts_loops(plan.graph)))
    return [[piece for part in parts_of(stage) for piece in _pieces(part, cuts)] for stage in plan.stages]


def parts_of(stage: Stage) -> Sequence[Part]:
    """The products and loops of a stage."""
    return [stage] if isinstance(stage, Product) else stage.loops


def _pieces(part: Part, cuts: bool) -> list[Piece]:
    all_of_it = whole(part)
    count = _count(part) if cuts else 1
    if count == 1:
        return [all_of_it]
    rows, columns = all_of_it.rows, all_of_it.columns
    if isinstance(part, Product) and is_blocked(part) and columns.length >= BLOCKED_COLUMNS * count:
        return [all_of_it._replace(columns=span) for span in _shares(columns.length, count)]
    if _goes_by_columns(part) or rows.length < max(columns.length * isinstance(part, Product), MULTIPLE * count):
        return [all_of_it._replace(columns=span) for span in _shares(columns.length, count)]
    return [all_of_it._replace(rows=span) for span in _shares(rows.length, count)]


def _cuts_loops(graph: Graph) -> bool:
    """Whether no loop reads an array both ways round, so that rows of what it makes are rows of what it reads."""
    turned = [V for node in graph.nodes if node.operation != "matmul" for V in node.nodes]
    return "transpose" not in [V.operation for V in turned]


def _count(part: Part) -> int:
    """Into how many pieces a part is cut."""
    if isinstance(part, Product):
        if not is_call(part) or part.A.base is part.B.base:
            return 1
        operations = _operations(part)
        most = MOST_PIECES if is_blocked(part) else MOST_COPIES
        wanted = min(max(min(operations // PIECE_OPERATIONS, 2), operations // MANY_OPERATIONS), most)
    else:
        wanted = 1 if part.kind == "sums" else part.shape[0] * part.shape[1] // PIECE_ENTRIES
    return _power_of_two(wanted)


def _goes_by_columns(part: Part) -> bool:
    return isinstance(part, Loop) and part.kind == "columns"


def _shares(length: int, count: int) -> Iterator[Span]:
    """Spans of nearly the same length."""
    ends = [i * length // count // MULTIPLE * MULTIPLE for i in range(count)]
    return (Span(*pair) for pair in pairwise([*ends, length]) if pair[0] < pair[1])


def shares(length: int, entries: int) -> Iterator[Span]:
    """Spans of a length, along which so many entries are copied."""
    return _shares(length, _power_of_two(entries // PIECE_ENTRIES))


def _power_of_two(wanted: int) -> int:
    """Into how many pieces something is cut that would make so many."""
    return 1 << (min(wanted, MOST_PIECES).bit_length() - 1) if wanted > 1 else 1


def _operations(part: Part) -> int:
    if not isinstance(part, Product):
        return 0
    rows, columns = part.node.matrix_shape
    return 2 * rows * columns * part.A.matrix_shape[1]


def _shape(part: Part) -> tuple[int, int]:
    return part.node.matrix_shape if isinstance(part, Product) else part.shape


class ColumnBlocks:
    """The stages of a plan in an order in which an input that is read for two products is read once.

    First run the stages `before`, which need no examples, and last those `after`. Between them, each block of columns
    goes through all stages of `block`: those that compute each column by itself, and products that are sums over
    columns, which accumulate from block to block.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._columns = plan, _with_columns(plan.graph)
        self.twice = self._read_twice()
        self.before, self.block, self.after = list[Stage](), list[Stage](), list[Stage]()
        made_here, made_late = set[Node](), set[Node]()
        for stage in [one for whole in plan.stages for one in _one_by_one(whole)]:
            read, made = set(plan.reads(stage)), set(made_by(stage))
            adds_up = isinstance(stage, Product) and self._adds_up(stage)
            if not read.isdisjoint(made_late):
                stages, found = self.after, made_late
            elif adds_up and self.twice in read:
                stages, found = self.block, made_late
            elif all([node in self._columns for node in made]) and not adds_up:
                stages, found = self.block, made_here
            elif read.isdisjoint(made_here):
                stages, found = self.before, set[Node]()
            else:
                stages, found = self.after, made_late
            stages.append(stage)
            found.update(made)
        self.columns = 0 if self.twice is None else self.twice.matrix_shape[1]

    @property
    def stages(self) -> list[Stage]:
        """All of them in this order."""
        return [*self.before, *self.block, *self.after]

    @property
    def are_several(self) -> bool:
        """Whether an input is read twice, and does not stay in the cache meanwhile."""
        return self.twice is not None and self._width() < self.columns

    def suits(self, memory: Memory) -> bool:
        """Whether this order is worth having, and sums that the blocks add to have buffers to themselves."""
        products = [stage for stage in self.block if isinstance(stage, Product)]
        sums = [stage for stage in products if self._adds_up(stage)]
        if not sums or not all([is_call(stage) and stage.node in memory.outputs for stage in sums]):
            return False
        if any([stage.A.base is stage.B.base for stage in products]):  # of which one piece needs two parts
            return False
        dtypes = {node.dtype for stage in self.block for node in made_by(stage)}
        return len(dtypes) == 1 and max([stage.node.matrix_shape[0] for stage in products]) <= MOST_ROWS

    def pieces(self) -> list[list[Piece]]:
        """The pieces of each stage in this order, block by block."""
        width, found = self._width(), [[whole(part)] for stage in self.before for part in parts_of(stage)]
        for start in range(0, self.columns, width):
            span = Span(start, min(start + width, self.columns))
            for stage in self.block:
                for part in parts_of(stage):
                    if isinstance(part, Product) and self._adds_up(part):
                        found.append([whole(part)._replace(terms=span, adds=start > 0)])
                    else:
                        found.append([whole(part)._replace(columns=span)])
        return [*found, *([whole(part)] for stage in self.after for part in parts_of(stage))]

    def _width(self) -> int:
        assert self.twice is not None
        columns = BLOCK_BYTES // (self.twice.matrix_shape[0] * self.twice.dtype.itemsize)
        return max(columns - columns % COLUMNS_AT_ONCE, COLUMNS_AT_ONCE)

    def _read_twice(self) -> Node | None:
        """An input with a column for each example that two products read."""
        products = [stage for stage in self._plan.stages if isinstance(stage, Product)]
        read = [node for product in products for node in self._plan.reads(product)]
        twice = [x for x in self._plan.graph.arrays if x in self._columns and read.count(x) > 1]
        return twice[0] if twice else None

    def _adds_up(self, product: Product) -> bool:
        """Whether the product is a sum over the examples, each a column of A and a row of B."""
        B = product.B
        return product.A in self._columns and B.operation == "transpose" and B.nodes[0] in self._columns


def _with_columns(graph: Graph) -> set[Node]:
    """The nodes that have a column for each example."""
    found: set[Node] = {x for x in graph.arrays if x.per_example}
    for node in graph.nodes:
        if node.operation == "partial_sums" or (isinstance(node, Reduction) and node.axis != 0):
            continue
        sources = list(node.nodes)
        if node.operation == "matmul":
            left, *sources = sources
            if left.base in found:
                continue
        single = [] if node.operation == "matmul" else [V for V in sources if V.matrix_shape[1] == 1]
        along, others = [V for V in sources if V in found], [V for V in sources if V not in found]
        if along and all([V in single and V.operation != "transpose" for V in others]):
            found.add(node)
    return found


def _one_by_one(stage: Stage) -> Iterator[Stage]:
    return iter([stage]) if isinstance(stage, Product) else (Loops([loop]) for loop in stage.loops)
