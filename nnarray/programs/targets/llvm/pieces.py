"""How the parts of a plan are cut, by sizes and the machine: into pieces that threads may share.

A piece is computed by the function of its part, from a table of its own: other addresses, fewer rows or columns. What
is cut has the same bits whoever computes it, and in whatever order its pieces come.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from nnarray.programs.graph import Graph, Node
from nnarray.programs.schedule import Loop, Plan, Product, Stage
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

THREADS = 16
"""That share a plan at most: each has room of its own to pack in."""

BLOCKED_COLUMNS = 64
"""Of a product in blocks that is cut by columns: what each piece packs then is its own."""

WORTH_SHARING = 10**7
"""Operations of a graph's products below which none is cut: a forward pass of a step that no other thread helps."""


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


Strand = Sequence[Piece]
"""What a thread computes before it takes something else."""


def whole(part: Part) -> Piece:
    """All of it."""
    (rows, columns), terms = _shape(part), part.A.matrix_shape[1] if isinstance(part, Product) else 0
    return Piece(part, Span(0, rows), Span(0, columns), Span(0, terms))


def are_worth_sharing(plan: Plan) -> bool:
    """Whether its products are large enough for several threads, and its loops can be cut."""
    return _operations(plan) >= WORTH_SHARING and _cuts_loops(plan.graph)


def stages_of(plan: Plan, *, shared: bool) -> list[list[Strand]]:
    """The pieces of each stage, of which none waits for another; unless they are `shared`, a part is one piece."""
    cut = pieces_of if shared and (_operations(plan) == 0 or are_worth_sharing(plan)) else lambda part: [whole(part)]
    return [each_alone([piece for part in parts_of(stage) for piece in cut(part)]) for stage in plan.stages]


def each_alone(pieces: Sequence[Piece]) -> list[Strand]:
    """A strand of each."""
    return [[piece] for piece in pieces]


def parts_of(stage: Stage) -> Sequence[Part]:
    """The products and loops of a stage."""
    return [stage] if isinstance(stage, Product) else stage.loops


def pieces_of(part: Part) -> list[Piece]:
    """The pieces that a part is cut into."""
    all_of_it, count = whole(part), _count(part)
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
        each, most = operations(part), MOST_PIECES if is_blocked(part) else MOST_COPIES
        wanted = min(max(min(each // PIECE_OPERATIONS, 2), each // MANY_OPERATIONS), most)
    else:
        wanted = 1 if part.kind == "sums" else part.shape[0] * part.shape[1] // PIECE_ENTRIES
    return _power_of_two(wanted)


def _goes_by_columns(part: Part) -> bool:
    return isinstance(part, Loop) and part.kind == "columns"


def _shares(length: int, count: int) -> Iterator[Span]:
    """Spans of nearly the same length."""
    ends = [i * length // count // MULTIPLE * MULTIPLE for i in range(count)]
    return (Span(*pair) for pair in pairwise([*ends, length]) if pair[0] < pair[1])


def spans_of(length: int, wanted: int) -> list[Span]:
    """Spans of a length, about as many."""
    return list(_shares(length, _power_of_two(wanted)))


def _power_of_two(wanted: int) -> int:
    """Into how many pieces something is cut that would make so many."""
    return 1 << (min(wanted, MOST_PIECES).bit_length() - 1) if wanted > 1 else 1


def _operations(plan: Plan) -> int:
    return sum([operations(part) for stage in plan.stages for part in parts_of(stage)])


def operations(part: Part) -> int:
    """Additions and multiplications of a product; loops count for nothing."""
    if not isinstance(part, Product):
        return 0
    rows, columns = part.node.matrix_shape
    return 2 * rows * columns * part.A.matrix_shape[1]


def _shape(part: Part) -> tuple[int, int]:
    return part.node.matrix_shape if isinstance(part, Product) else part.shape
