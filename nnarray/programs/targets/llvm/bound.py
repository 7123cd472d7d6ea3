"""A program for arrays that lie in memory in one way: every piece with its function and its table."""

import struct
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from nnarray.programs.graph import Node, Scalar
from nnarray.programs.memory import Memory
from nnarray.programs.products import Blas, Gemm, Gemv, gemm, gemv, strided
from nnarray.programs.schedule import Plan, Product
from nnarray.programs.targets.llvm import driver
from nnarray.programs.targets.llvm.blocked import block_of
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled_together
from nnarray.programs.targets.llvm.driver import Address, Fill, TableCall, Tables
from nnarray.programs.targets.llvm.loops import LoopCode
from nnarray.programs.targets.llvm.pieces import Part, Piece, Strand, whole
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.products import ProductCode, matrix_and_vector, vector_of
from nnarray.programs.targets.llvm.team import Job, in_turn
from nnarray.programs.targets.llvm.team import Stage as TeamStage

TABLES = 4096
"""Bytes, of which the room for tables is a multiple, so that an arena suits all arrays that a program is bound to."""

MOST_JOBS = 16
"""Memories with tables whose job is kept."""

TRANSPOSED, PLAIN = 112, 111
"""CblasTrans and CblasNoTrans"""


class Placement(NamedTuple):
    """Where a node lies: in which of the arrays that are given, from which byte on, and in what strides.

    These are in entries along rows and columns.
    """

    array: int
    offset: int
    strides: tuple[int, int]


class Cut(NamedTuple):
    """A plan in strands, stage by stage."""

    plan: Plan
    stages: Sequence[Sequence[Strand]]
    waits: Sequence[int]
    """of each stage, how many of those before it have to be done when it begins"""
    memory: Memory
    """between the stages"""
    reads_once: bool = False
    """an input, in blocks of so few columns that BLAS, too, packs nothing"""


class Unbound(NamedTuple):
    """What is bound: a cut plan, its numbers, BLAS, and how many threads have room for panels."""

    plan: Plan
    stages: Sequence[Sequence[Strand]]
    waits: Sequence[int]
    memory: Memory
    reads_once: bool
    scalars: Sequence[Scalar]
    blas: Blas
    threads: int


class Bound:
    """A program for `arrays` like these, in which nodes lie as `placements` says.

    Raises StridesError for matrices that BLAS cannot read.
    """

    def __init__(self, parts: Unbound, arrays: Sequence[np.ndarray], placements: Mapping[Node, Placement]) -> None:
        self._parts, self._placements, self._arrays = parts, placements, len(arrays)
        self._standing, self._unit = (
            frozenset([node for node, placement in placements.items() if placement.strides[axis] == 1])
            for axis in (0, 1)
        )
        self._tables, self._of_strands = Tables([], [], [], [], []), list[Fill]()
        pieces = [piece for stage in parts.stages for strand in stage for piece in strand]
        self._functions = self._functions_of({id(piece.part): piece.part for piece in pieces})
        for stage in parts.stages:
            for strand in stage:
                self._add(strand)
        self.is_shared = max(map(len, parts.stages)) > 1
        """whether there are strands for several threads"""
        self.room = len(self._tables.words) * 8
        self.room += -self.room % TABLES
        arena = [Fill(word, self.room + offset) for word, offset in self._tables.arena]
        self.panels = self.room + parts.memory.size
        """where in the memory of a call the panels begin"""
        self._plan = driver.plan(arrays, self._tables._replace(arena=[*arena, *self._of_strands]), self.panels)
        self.plan = self._plan.ctypes.data
        self.layout = layout_of(arrays)
        self._kept = [(type(x), x.dtype) for x in arrays]
        self._jobs = dict[int, Job]()

    def stages(self, memory: int) -> list[TeamStage]:
        """The functions of the pieces and the addresses of their tables, which are in `memory`."""
        calls = ((call.function, memory + 8 * call.table) for call in self._tables.calls)
        both = zip(self._parts.stages, self._parts.waits, strict=True)
        return [TeamStage(list(islice(calls, len(strands))), waits) for strands, waits in both]

    def job(self, memory: int) -> Job:
        """The pieces, with their tables in `memory`, for several threads."""
        job = self._jobs.get(memory)
        if job is None:
            job = Job(self.stages(memory), memory + self.panels, self._parts.threads)
            if len(self._jobs) >= MOST_JOBS:
                self._jobs = {}  # another one: other threads look into it
            self._jobs[memory] = job
        return job

    def _add(self, strand: Strand) -> None:
        """The call of a strand, and its table."""
        calls = [self._call(piece) for piece in strand]
        if len(calls) > 1:
            calls = [self._call_of_all(calls)]
        self._tables.calls.extend(calls)

    def _call_of_all(self, calls: Sequence[TableCall]) -> TableCall:
        """One call that makes these in turn: its table has their functions and the addresses of their tables."""
        words = self._tables.words
        call = TableCall(in_turn().address, len(words))
        words.append(len(calls))
        for function, table in calls:
            self._of_strands.append(Fill(len(words) + 1, 8 * table))
            words += function, 0
        return call

    def _call(self, piece: Piece) -> TableCall:
        """The call of a piece, and its table."""
        function, places = self._functions[id(piece.part)]
        call = TableCall(function.address, len(self._tables.words))
        product: Mapping[str, int] = {}
        if ("blas", "beta") in places.keys:
            product = self._blas(piece)
        elif ("blocked", "swapped") in places.keys:
            product = self._blocked(piece)
        for key in places.keys:
            is_known = key[0] in {"blas", "blocked"}
            self._tables.words.append(product.get(str(key[1]), 0) if is_known else self._word(piece, *key))
        return call

    def _functions_of(self, parts: Mapping[int, Part]) -> dict[int, tuple[Compiled, Places]]:
        """The function of each part, and what its table holds."""
        written = [self._source(part) for part in parts.values()]
        functions = compiled_together([source for source, _ in written])
        return {part: (f, places) for part, f, (_, places) in zip(parts, functions, written, strict=True)}

    def _source(self, part: Part) -> tuple[str, Places]:
        code = Code("float" if self._parts.plan.graph.dtype == np.float32 else "double")
        places = Places(code, self._placements, self._unit, self._standing)
        if isinstance(part, Product):
            ProductCode(part, places, self._parts.blas, packs=not self._parts.reads_once).write()
        else:
            LoopCode(part, self._parts.plan, places).write()
        return code.function("%table", "%room"), places

    def _word(self, piece: Piece, what: object, of: Any, *axis: Any) -> int:
        """What a table holds under a key; 0 where each call fills it in."""
        at = len(self._tables.words)
        if what == "number":
            self._tables.numbers.append(Fill(at, self._arrays + self._parts.scalars.index(of)))
            return 0
        if what == "address" and of in self._placements:
            placement = self._placements[of]
            self._tables.data.append(Address(at, placement.array, placement.offset + self._first_byte(piece, of)))
            return 0
        if what == "address":
            self._tables.arena.append(Fill(at, self._parts.memory.offsets[of] + self._first_byte(piece, of)))
            return 0
        return self._fixed(piece, what, of, *axis)

    def _fixed(self, piece: Piece, what: object, of: Any, *axis: Any) -> int:
        """What stays in a table: a stride, a number, a length."""
        if what == "stride":
            return self._strides(of)[axis[0]]
        if what == "constant":
            return bits_of(of)
        if what == "ahead":
            return piece.ahead
        if what == "limit":
            of = of.matrix_shape[axis[0]] - piece.first(of)[axis[0]]
        return piece.length(what, of) if what in ("rows", "columns", "terms") else int(of)

    def _first_byte(self, piece: Piece, base: Node) -> int:
        """Of the entries of a node that the piece reads or makes."""
        first = sum(start * stride for start, stride in zip(piece.first(base), self._strides(base), strict=True))
        return first * (1 if base.dtype == bool else base.dtype.itemsize)

    def _strides(self, node: Node) -> tuple[int, int]:
        """In entries along rows and columns; what lies in the arena is dense and in C order."""
        if node.operation == "transpose":
            return self._strides(node.nodes[0])[::-1]
        return self._placements[node].strides if node in self._placements else (node.matrix_shape[1], 1)

    def _blas(self, piece: Piece) -> Mapping[str, int]:
        """BLAS's arguments for a product."""
        part, numbers = _product_of(piece), {"beta": int(piece.adds)}
        if vector_of(part) is None:
            return numbers | _of_gemm(self._gemm(piece, part))
        how = self._gemv(piece, part)
        return numbers | how._asdict() | {"transposed": TRANSPOSED if how.transposed else PLAIN}

    def _blocked(self, piece: Piece) -> Mapping[str, int]:
        """Sizes and strides of a product in blocks."""
        part = _product_of(piece)
        m, n, k = piece.rows.length, piece.columns.length, piece.terms.length
        how = strided(((m, k), (k, n)), *map(self._strides, (part.A, part.B, part.node)))
        width, depth = block_of(how.n, k, part.node.dtype.itemsize)
        numbers = {"swapped": int(how.swapped), "down of C": how.down}
        for matrix, (down, across) in (("A", how.left), ("B", how.right)):
            numbers |= {f"down of {matrix}": down, f"across of {matrix}": across}
        return numbers | {"m": how.m, "n": how.n, "k": how.k, "width": width, "depth": depth}

    def _gemm(self, piece: Piece, part: Product) -> Gemm:
        m, n, k = piece.rows.length, piece.columns.length, piece.terms.length
        return gemm(((m, k), (k, n)), *map(self._strides, (part.A, part.B, part.node)))

    def _gemv(self, piece: Piece, part: Product) -> Gemv:
        """y = A x, or where A is the vector, its transpose, yᵀ = Bᵀ xᵀ."""
        matrix, x = matrix_and_vector(part)
        strides, axis = self._strides(matrix), 0
        shape = piece.rows.length, piece.terms.length
        if matrix is part.B:
            strides, axis, shape = strides[::-1], 1, (piece.columns.length, piece.terms.length)
        incx, incy = self._strides(x)[axis], self._strides(part.node)[axis]
        return gemv(shape, strides, incx if shape[1] > 1 else 1, incy if shape[0] > 1 else 1)


def _product_of(piece: Piece) -> Product:
    """The product that a piece is of, and within."""
    part = piece.part
    assert isinstance(part, Product)
    for span, whole_span in zip(piece[1:4], whole(part)[1:4], strict=True):
        assert 0 <= span.start < span.stop <= whole_span.stop
    return part


def bits_of(x: float) -> int:
    """A double as a word of a table."""
    [word] = struct.unpack("q", struct.pack("d", x))
    return int(word)


def layout_of(arrays: Sequence[np.ndarray]) -> list[tuple[Any, ...]]:
    """What arrays have to have in common for a bound program: all that its code compares."""
    return [(id(type(x)), id(x.dtype), x.shape, x.strides) for x in arrays]


def _of_gemm(how: Gemm) -> dict[str, int]:
    flags = [TRANSPOSED if is_transposed else PLAIN for is_transposed in how.transposes]
    names = ("swapped", "A", "B", "m", "n", "k", "lda", "ldb", "ldc")
    return dict(zip(names, (int(how.swapped), *flags, how.m, how.n, how.k, *how.leading), strict=True))
