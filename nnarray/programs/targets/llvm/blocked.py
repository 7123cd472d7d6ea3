"""A product of large matrices without BLAS, on processors with 32 vectors as long as a cache line.

After Goto & van de Geijn (2008): panels of B, some terms of some columns, are packed as the kernel reads them, and stay
in the second cache while it computes, in registers, some rows of a panel after the other. BLAS packs A as well, and
clears C first. How an entry is added up depends on the number of its terms alone, however the product is cut.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from nnarray.programs.schedule import Product
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled_together, has_long_vectors
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.vectors import LANES, LINE, Vectors

ROWS, WIDE = 12, 2
"""Of a tile, whose sums take 24 registers: its rows, and the vectors of each; panels are as wide."""

FEW_LEFT = 8
"""Of the last rows of A; so few have a kernel of their own. (512 rows take 0.6 % less time.)"""

PANELS, COLUMN_BYTES = 8, 2048
"""Panels that are packed at once, and bytes of each of their columns at most."""

ROOM = PANELS * WIDE * LANES["float"] * COLUMN_BYTES
"""Bytes of those panels, at most; twice the bytes of an entry come with half the lanes. Each thread has its own room,
which stays in its cache."""

FEWEST_OPERATIONS = 2**22
"""Of such a product; smaller ones are BLAS's or loops. (Half of it is worth it, too, but not the 45 ms to compile.)"""

FEW_ROWS = 128
"""Of a product for which B is read where it lies, if its rows are contiguous. (Of 64 rows that takes 0.92 to 1.05 of
the time with packing, of 10 half of it; of 512, with rows of 2048, 1.0 in float32 and 1.12 in float64.)"""

MOST_OF_A = {"float32": 2**20, "float64": 2**30}
"""Entries of its A, which is read where it lies. (On a core of an AMD EPYC, OpenBLAS takes 1.00 to 1.08 times as long
for layers of 512 in float32 and 1.07 to 1.24 in float64; for layers of 2048, 0.88 to 1.00 and 1.09.)"""

DOWN, ACROSS, TERMS, COLUMNS, ROWS_LEFT, NEXT_ROW, NEXT_TERM, ADDS, SCALE, DEPTH, WORDS = range(11)
"""Words for packing and for the kernel: strides of what they read, what there is of terms, columns and rows, and for
the kernel, from a row of C and a term of B to the next, whether to add to what is there, and by what to multiply."""


def suits(stage: Product) -> bool:
    """Whether a product is computed so: by its sizes, and the machine."""
    (rows, terms), columns = stage.A.matrix_shape, stage.B.matrix_shape[1]
    is_large = rows * terms * columns * 2 >= FEWEST_OPERATIONS and min(rows, columns) > 1
    return is_large and rows * terms <= MOST_OF_A[stage.node.dtype.name] and has_long_vectors()


def block_of(columns: int, terms: int, itemsize: int) -> tuple[int, int]:
    """How many columns and terms are packed at once: about as many each time, of whole panels and vectors."""
    lanes = LINE // itemsize
    return _share(columns, PANELS * WIDE * lanes, WIDE * lanes), _share(terms, COLUMN_BYTES // itemsize, lanes)


def _share(length: int, most: int, multiple: int) -> int:
    """Of a length that is cut into as few parts of at most so much as it can be."""
    each = -(-length // -(-length // most))
    return each + -each % multiple


class BlockedProduct:
    """The code of such a product, multiplied by `scale`."""

    def __init__(self, stage: Product, places: Places, scale: str) -> None:
        self._stage, self._places, self._code, self._scale = stage, places, places.code, scale
        self._width = WIDE * LANES[self._code.T]
        self._of_packing, self._of_kernel = (self._code.variable(f"[{WORDS} x i64]") for _ in range(2))

    def write(self) -> None:
        """Write it."""
        code, given = self._code, self._given
        self._addresses = dict(zip("ABC", self._matrices(), strict=True))
        for at, name in ((DOWN, "down of B"), (ACROSS, "across of B"), (DEPTH, "depth")):
            self._set(self._of_packing, at, given(name))
        for at, name in ((DOWN, "down of A"), (ACROSS, "across of A"), (NEXT_ROW, "down of C")):
            self._set(self._of_kernel, at, given(name))
        self._set(self._of_kernel, SCALE, self._scale, code.T)
        with self._parts(given("k"), given("depth")) as (k, terms):
            for words in (self._of_packing, self._of_kernel):
                self._set(words, TERMS, terms)
            self._set(self._of_kernel, ADDS, k)
            with self._parts(given("n"), given("width")) as (j, columns):
                packed_from = self._pack(k, j, columns)
                with self._parts(given("m"), str(ROWS)) as (i, rows):
                    self._set(self._of_kernel, ROWS_LEFT, rows)
                    self._row_of_tiles((i, rows), k, (j, columns), packed_from)

    def _pack(self, k: str, j: str, columns: str) -> str:
        """Pack some terms of some columns of B, but what is read where it lies; from which column on."""
        code = self._code
        whole_panels = code.times(code.value(f"udiv i64 {columns}, {self._width}"), str(self._width))
        first = code.value(f"select i1 {self._reads_B()}, i64 {whole_panels}, i64 0")
        left = code.value(f"sub i64 {columns}, {first}")
        self._set(self._of_packing, COLUMNS, left)
        with code.branch(code.value(f"icmp ne i64 {left}, 0")):
            packing = str(functions_of(code.T).packing.address)
            self._call(packing, self._entry("B", k, code.add(j, first)), self._panel(first), self._of_packing)
        return first

    def _reads_B(self) -> str:
        """Whether panels that are whole need not be packed."""
        has_rows = self._code.value(f"icmp eq i64 {self._given('across of B')}, 1")
        are_few = self._code.value(f"icmp ule i64 {self._given('m')}, {FEW_ROWS}")
        return self._code.value(f"and i1 {has_rows}, {are_few}")

    def _row_of_tiles(self, rows: tuple[str, str], k: str, columns: tuple[str, str], packed_from: str) -> None:
        """Some rows of A with each panel; which rows and columns, that is where they begin and how many there are."""
        code, (i, its_rows), (j, of_all) = self._code, rows, columns
        A, functions = self._entry("A", i, k), functions_of(code.T)
        are_few = code.value(f"icmp ule i64 {its_rows}, {FEW_LEFT}")
        of_rows = code.value(f"select i1 {are_few}, i64 {functions.of_few.address}, i64 {functions.kernel.address}")
        with self._parts(of_all, str(self._width)) as (panel, its_columns):
            self._set(self._of_kernel, COLUMNS, its_columns)
            is_narrow = code.value(f"icmp ule i64 {its_columns}, {LANES[code.T]}")
            kernel = code.value(f"select i1 {is_narrow}, i64 {functions.narrow_kernel.address}, i64 {of_rows}")
            is_packed = code.value(f"icmp uge i64 {panel}, {packed_from}")
            column = code.add(j, panel)
            B, packed = self._entry("B", k, column), self._panel(panel)
            to_next = code.value(f"select i1 {is_packed}, i64 {self._width}, i64 {self._given('down of B')}")
            self._set(self._of_kernel, NEXT_TERM, to_next)
            terms_of_B = code.value(f"select i1 {is_packed}, ptr {packed}, ptr {B}")
            self._call(kernel, A, terms_of_B, self._of_kernel, self._entry("C", i, column))

    @contextmanager
    def _parts(self, length: str, most: str) -> Iterator[tuple[str, str]]:
        """For each part of a length: where it begins, and how long it is, at most so much."""
        code = self._code
        count = code.value(f"udiv i64 {code.add(length, code.value(f'sub i64 {most}, 1'))}, {most}")
        with code.loop(count) as part:
            start = code.times(part, most)
            yield start, code.smaller(code.value(f"sub i64 {length}, {start}"), most)

    def _panel(self, column: str) -> str:
        """Where the panel of a column begins."""
        entry = self._code.times(column, self._given("depth"))
        return _address(self._code, "%room", entry)

    def _entry(self, matrix: str, i: str, j: str) -> str:
        """The address of an entry of A, B or C."""
        down = self._code.times(i, self._given(f"down of {matrix}"))
        across = j if matrix == "C" else self._code.times(j, self._given(f"across of {matrix}"))
        return _address(self._code, self._addresses[matrix], self._code.add(down, across))

    def _matrices(self) -> tuple[str, str, str]:
        """Where A, B and C begin; of a C whose columns are contiguous, the transpose is computed, Bᵀ Aᵀ."""
        code, (node, A, B, _) = self._code, self._stage
        one, other, C = (self._places.word("address", V.base, kind="ptr") for V in (A, B, node))
        is_swapped = code.value(f"icmp ne i64 {self._given('swapped')}, 0")
        left = code.value(f"select i1 {is_swapped}, ptr {other}, ptr {one}")
        return left, code.value(f"select i1 {is_swapped}, ptr {one}, ptr {other}"), C

    def _given(self, name: str) -> str:
        return self._places.word("blocked", name)

    def _set(self, words: str, at: int, x: str, kind: str = "i64") -> None:
        self._code.do(f"store {kind} {x}, ptr {self._code.value(f'getelementptr i64, ptr {words}, i64 {at}')}")

    def _call(self, address: str, *given: str) -> None:
        function = self._code.value(f"inttoptr i64 {address} to ptr")
        self._code.value(f"call i32 {function}({', '.join(f'ptr {x}' for x in given)})")


class Functions(NamedTuple):
    """What products in blocks of one float call."""

    kernel: Compiled
    of_few: Compiled
    """for the last rows"""
    narrow_kernel: Compiled
    """for one vector of columns, or fewer"""
    packing: Compiled


@lru_cache(maxsize=2)
def functions_of(T: str) -> Functions:
    """These, compiled together."""
    return Functions(*compiled_together([kernel(T, WIDE), kernel(T, WIDE, FEW_LEFT), kernel(T, 1), packing(T)]))


def kernel(T: str, wide: int, height: int = ROWS) -> str:
    """A tile: C = A P or C += A P, times a scale, of some rows of A and a panel P, of whose columns C has the first.

    It has as many as `height` rows and `wide` vectors, or fewer. Rows that are not there are the last one once more.
    """
    code, lanes = Code(T), LANES[T]
    vectors = Vectors(code, lanes)
    down, across, terms, columns, rows, next_row, next_term, adds = (
        code.parameter("%how", at, "i64") for at in (DOWN, ACROSS, TERMS, COLUMNS, ROWS_LEFT, NEXT_ROW, NEXT_TERM, ADDS)
    )
    scale, last = vectors.splat(code.parameter("%how", SCALE, T)), code.value(f"sub i64 {rows}, 1")
    numbers = [code.smaller(str(i), last) for i in range(height)]
    rows_of_A, rows_of_C = (
        [_address(code, matrix, code.times(r, to_next)) for r in numbers]
        for matrix, to_next in (("%A", down), ("%C", next_row))
    )
    for C in rows_of_C:  # which is needed in some microseconds
        for v in range(wide):
            line = code.value(f"getelementptr i8, ptr {C}, i64 {v * LINE}")
            code.do(f"call void @llvm.prefetch(ptr {line}, i32 1, i32 3, i32 1)")
    sums = [[vectors.variable(0.0) for _ in range(wide)] for _ in range(height)]
    with code.loop(terms) as k:
        row, entry = _address(code, "%panel", code.times(k, next_term)), code.times(k, across)
        terms_of_B = [vectors.load(row, v) for v in range(wide)]
        for row_of_A, of_row in zip(rows_of_A, sums, strict=True):
            a = vectors.splat(code.value(f"load {T}, ptr {_address(code, row_of_A, entry)}"))
            for total, b in zip(of_row, terms_of_B, strict=True):
                vectors.set(total, vectors.fused(a, b, vectors.read(total)))
    masks = [_mask(vectors, code, columns, v * lanes) for v in range(wide)]
    goes_on = code.value(f"icmp ne i64 {adds}, 0")
    for total in [total for of_row in sums for total in of_row]:
        vectors.set(total, vectors.multiply(vectors.read(total), scale))
    with code.branch(goes_on):
        for of_row, C in zip(sums, rows_of_C, strict=True):
            for v, (total, mask) in enumerate(zip(of_row, masks, strict=True)):
                vectors.set(total, vectors.add(vectors.load(C, v, mask), vectors.read(total)))
    for of_row, C in zip(sums, rows_of_C, strict=True):
        for v, (total, mask) in enumerate(zip(of_row, masks, strict=True)):
            vectors.store(C, vectors.read(total), v, mask)
    return code.function("%A", "%panel", "%how", "%C")


def packing(T: str) -> str:
    """Panels, term by term; columns that are not there are anything, and so are terms after the last."""
    code, lanes = Code(T), LANES[T]
    vectors = Vectors(code, lanes)
    down, across, terms, columns, depth = (
        code.parameter("%how", at, "i64") for at in (DOWN, ACROSS, TERMS, COLUMNS, DEPTH)
    )
    width = WIDE * lanes
    panels = code.at_entry(f"udiv i64 {code.at_entry(f'add i64 {columns}, {width - 1}')}, {width}")
    to_next = code.at_entry(f"mul i64 {depth}, {width}")
    are_rows = code.value(f"icmp eq i64 {across}, 1")
    ahead = code.times(down, "8")
    with code.branch(are_rows), code.loop(terms) as k:
        row, out = _address(code, "%from", code.times(k, down)), _address(code, "%panel", code.times(k, str(width)))
        with code.loop(panels) as panel:
            first = code.times(panel, str(width))
            start, to = _address(code, row, first), _address(code, out, code.times(panel, to_next))
            left = code.value(f"sub i64 {columns}, {first}")
            for v in range(WIDE):
                line = code.value(f"getelementptr i8, ptr {_address(code, start, ahead)}, i64 {v * LINE}")
                code.do(f"call void @llvm.prefetch(ptr {line}, i32 0, i32 3, i32 1)")
                vectors.store(to, vectors.load(start, v, _mask(vectors, code, left, v * lanes)), v)
    last = code.value(f"sub i64 {columns}, 1")
    with code.branch(code.value(f"xor i1 {are_rows}, true")), code.loop(panels) as panel, code.loop(str(WIDE)) as half:
        of_panel, in_panel = code.times(panel, str(width)), code.times(half, str(lanes))
        at = [code.smaller(code.add(code.add(of_panel, in_panel), str(i)), last) for i in range(lanes)]
        starts = [_address(code, "%from", code.times(column, across)) for column in at]
        out = _address(code, "%panel", code.add(code.times(panel, to_next), in_panel))
        with code.loop(terms, step=lanes) as k:
            mask = vectors.first(code.value(f"sub i64 {terms}, {k}"))
            square = [vectors.load(_address(code, start, k), mask=mask) for start in starts]
            for i, column in enumerate(vectors.transposed(square)):
                vectors.store(_address(code, out, code.times(code.add(k, str(i)), str(width))), column)
    return code.function("%from", "%panel", "%how")


def _address(code: Code, start: str, entry: str) -> str:
    return code.value(f"getelementptr {code.T}, ptr {start}, i64 {entry}")


def _mask(vectors: Vectors, code: Code, columns: str, before: int) -> str:
    """The lanes of a vector of a panel that hold columns which are there."""
    return vectors.first(code.value(f"call i64 @llvm.usub.sat.i64(i64 {columns}, i64 {before})"))
