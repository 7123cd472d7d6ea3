"""A product of matrices: small ones are loops, the others are BLAS's."""

from typing import NamedTuple

from nnarray.programs.schedule import Product
from nnarray.programs.targets.llvm.places import Places

FEW = 16
"""Terms of a sum that are written out one by one."""

SMALL = 256
"""Entries of a product whose sums are long; from here on BLAS is faster."""

BY_COLUMNS = 102
"""CblasColMajor"""


class Blas(NamedTuple):
    """gemm of CBLAS: where it lies for float and for double, and the bits of its integers."""

    sgemm: int
    dgemm: int
    bits: int


def is_call(stage: Product) -> bool:
    """Whether a product is a call of BLAS."""
    (rows, terms), columns = stage.A.matrix_shape, stage.B.matrix_shape[1]
    if _is_sum_of_rows(stage):
        return rows * columns > SMALL and stage.B.operation != "ones"
    return terms > FEW or rows > SMALL


def _is_sum_of_rows(stage: Product) -> bool:
    """Whether each entry is a sum along two rows: B is transposed, or a column of ones."""
    return stage.B.operation in {"transpose", "ones"}


class ProductCode:
    """The code of one product."""

    def __init__(self, stage: Product, places: Places, blas: Blas) -> None:
        self.stage, self.places, self.blas, self.code = stage, places, blas, places.code

    def write(self) -> None:
        """Write it."""
        if is_call(self.stage):
            self._call()
        elif _is_sum_of_rows(self.stage):
            self._sums_along_rows()
        else:
            self._sums_of_few()

    def _sums_along_rows(self) -> None:
        """Each entry after the other; its terms are added in an order that suits vectors."""
        node, A, B = self.stage
        T, total = self.code.T, self.code.variable(self.code.T)
        rows, columns, terms = self._sizes()
        with self.code.loop(rows) as i, self.code.loop(columns) as j:
            self.code.do(f"store {T} {self.code.constant(0.0)}, ptr {total}")
            with self.code.loop(terms, parallel=True) as k:
                term = self.code.arithmetic("fmul", self.places.load(A, i, k), self.places.load(B, k, j))
                before = self.code.value(f"load {T}, ptr {total}")
                added = self.code.arithmetic("fadd", before, term, flags="reassoc contract")
                self.code.do(f"store {T} {added}, ptr {total}")
            self.places.store(node, i, j, self.code.value(f"load {T}, ptr {total}"))

    def _sums_of_few(self) -> None:
        """A row of the product at once; the few terms of each sum are written out."""
        node, A, B = self.stage
        rows, columns, _ = self._sizes()
        with self.code.loop(rows) as i:
            left = [self.places.load(A, i, str(k)) for k in range(A.matrix_shape[1])]
            with self.code.loop(columns, parallel=True) as j:
                total = self.code.arithmetic("fmul", left[0], self.places.load(B, "0", j))
                for k, x in enumerate(left[1:], 1):
                    term = self.code.arithmetic("fmul", x, self.places.load(B, str(k), j))
                    total = self.code.arithmetic("fadd", total, term)
                self.places.store(node, i, j, total)

    def _call(self) -> None:
        """gemm by columns, of which `products.gemm` says how; what it says is in the table."""
        node, A, B = self.stage
        T, whole = self.code.T, f"i{self.blas.bits}"
        one, other, C = (self.places.word("address", V.base, kind="ptr") for V in (A, B, node))

        def given(name: str, kind: str) -> str:
            wide = self.places.word("gemm", name)
            return f"{kind} {wide if kind == 'i64' else self.code.value(f'trunc i64 {wide} to {kind}')}"

        is_swapped = self.code.value(f"icmp ne i64 {self.places.word('gemm', 'swapped')}, 0")
        left = self.code.value(f"select i1 {is_swapped}, ptr {other}, ptr {one}")
        right = self.code.value(f"select i1 {is_swapped}, ptr {one}, ptr {other}")
        arguments = [f"i32 {BY_COLUMNS}", given("A", "i32"), given("B", "i32"), *(given(name, whole) for name in "mnk")]
        arguments += [f"{T} {self.code.constant(1.0)}", f"ptr {left}", given("lda", whole)]
        arguments += [f"ptr {right}", given("ldb", whole)]
        arguments += [f"{T} {self.code.constant(0.0)}", f"ptr {C}", given("ldc", whole)]
        address = self.blas.sgemm if T == "float" else self.blas.dgemm
        self.code.do(f"call void inttoptr (i64 {address} to ptr)({', '.join(arguments)})")

    def _sizes(self) -> tuple[str, str, str]:
        (rows, terms), columns = self.stage.A.matrix_shape, self.stage.B.matrix_shape[1]
        return self.places.word("rows", rows), self.places.word("columns", columns), self.places.word("terms", terms)
