"""A product of matrices: small ones are loops, large ones are in blocks where vectors are long, others are BLAS's."""

from collections.abc import Mapping

from nnarray.programs.graph import Node, Scalar
from nnarray.programs.products import Blas
from nnarray.programs.schedule import Product
from nnarray.programs.targets.llvm import blocked, few_terms, streamed
from nnarray.programs.targets.llvm.few_terms import FEW
from nnarray.programs.targets.llvm.places import Places

SMALL = 256
"""Entries of a product of rows, beyond which it is BLAS's. Of sums of 512 terms in float32, loops take 0.88 of BLAS's
time for 128 entries, 1.15 for 256 and 1.28 for 512 (a core of an AMD EPYC)."""

BY_COLUMNS = 102
"""CblasColMajor"""


def is_call(stage: Product) -> bool:
    """Whether a product is a call of BLAS."""
    (rows, terms), columns = stage.A.matrix_shape, stage.B.matrix_shape[1]
    if _is_sum_of_rows(stage):
        return rows * columns > SMALL and stage.B.operation != "ones"
    return terms > FEW or rows > SMALL


def is_blocked(stage: Product) -> bool:
    """Whether it is computed in blocks instead."""
    return is_call(stage) and blocked.suits(stage)


def _is_sum_of_rows(stage: Product) -> bool:
    """Whether each entry is a sum along two rows: B is transposed, or a column of ones."""
    return stage.B.operation in {"transpose", "ones"}


def vector_of(stage: Product) -> int | None:
    """Which of A and B is a vector, if BLAS multiplies a matrix by it; else None."""
    (rows, _), columns = stage.A.matrix_shape, stage.B.matrix_shape[1]
    return 1 if columns == 1 else 0 if rows == 1 else None


def matrix_and_vector(stage: Product) -> tuple[Node, Node]:
    """The operands of such a product."""
    return (stage.A, stage.B) if vector_of(stage) == 1 else (stage.B, stage.A)


class ProductCode:
    """The code of one product; a large one `packs` what it reads again and again."""

    def __init__(self, stage: Product, places: Places, blas: Blas, *, packs: bool) -> None:
        self.stage, self.places, self.blas, self.code = stage, places, blas, places.code
        self._packs = packs

    def write(self) -> None:
        """Write it."""
        if is_call(self.stage) and streamed.suits(self.stage, self.places):
            streamed.Streamed(self.stage, self.places, *self._sizes()[1:]).write()
        elif self._packs and is_blocked(self.stage):
            blocked.BlockedProduct(self.stage, self.places, self._scale()).write()
        elif is_call(self.stage):
            self._call()
        elif _is_sum_of_rows(self.stage):
            self._sums_along_rows()
        elif few_terms.suits(self.stage, self.places):
            few_terms.FewTerms(self.stage, self.places, *self._sizes()).write()
        else:
            self._sums_of_few()

    def _sums_along_rows(self) -> None:
        """Each entry after the other; its terms are added in an order that suits vectors."""
        _, A, B, _ = self.stage
        T, total = self.code.T, self.code.variable(self.code.T)
        rows, columns, terms = self._sizes()
        with self.code.loop(rows) as i, self.code.loop(columns) as j:
            self.code.do(f"store {T} {self.code.constant(0.0)}, ptr {total}")
            with self.code.loop(terms, parallel=True) as k:
                term = self.code.arithmetic("fmul", self.places.load(A, i, k), self.places.load(B, k, j))
                before = self.code.value(f"load {T}, ptr {total}")
                added = self.code.arithmetic("fadd", before, term, flags="reassoc contract")
                self.code.do(f"store {T} {added}, ptr {total}")
            x = self.code.value(f"load {T}, ptr {total}")
            self.places.store(self.stage.node, i, j, self.code.arithmetic("fmul", x, self._scale(), flags=""))

    def _sums_of_few(self) -> None:
        """A row of the product at once; the few terms of each sum are written out."""
        _, A, B, _ = self.stage
        rows, columns, _ = self._sizes()
        with self.code.loop(rows) as i:
            left = [self.places.load(A, i, str(k)) for k in range(A.matrix_shape[1])]
            with self.code.loop(columns, parallel=True) as j:
                total = self.code.arithmetic("fmul", left[0], self.places.load(B, "0", j))
                for k, x in enumerate(left[1:], 1):
                    term = self.code.arithmetic("fmul", x, self.places.load(B, str(k), j))
                    total = self.code.arithmetic("fadd", total, term)
                self._store(i, j, total)

    def _call(self) -> None:
        """BLAS by columns, of which `arguments` says how; what it says is in the table."""
        if vector_of(self.stage) is None:
            return self._gemm()
        matrix, x = matrix_and_vector(self.stage)
        operands = [self._given("transposed", "i32"), *(self._given(name, self._whole) for name in "mn")]
        operands += [f"{self.code.T} {self._scale()}", f"ptr {self._address(matrix)}", self._given("lda", self._whole)]
        operands += [f"ptr {self._address(x)}", self._given("incx", self._whole), self._beta()]
        operands += [f"ptr {self._address(self.stage.node)}", self._given("incy", self._whole)]
        return self._do(self.blas.gemv, operands)

    def _gemm(self) -> None:
        node, A, B, _ = self.stage
        one, other = self._address(A), self._address(B)
        is_swapped = self.code.value(f"icmp ne i64 {self.places.word('blas', 'swapped')}, 0")
        left = self.code.value(f"select i1 {is_swapped}, ptr {other}, ptr {one}")
        right = self.code.value(f"select i1 {is_swapped}, ptr {one}, ptr {other}")
        operands = [self._given(name, "i32") for name in "AB"] + [self._given(name, self._whole) for name in "mnk"]
        operands += [f"{self.code.T} {self._scale()}", f"ptr {left}", self._given("lda", self._whole)]
        operands += [f"ptr {right}", self._given("ldb", self._whole), self._beta()]
        self._do(self.blas.gemm, [*operands, f"ptr {self._address(node)}", self._given("ldc", self._whole)])

    def _do(self, functions: Mapping[str, int], operands: list[str]) -> None:
        address = functions[self.code.T]
        self.code.do(f"call void inttoptr (i64 {address} to ptr)({', '.join([f'i32 {BY_COLUMNS}', *operands])})")

    @property
    def _whole(self) -> str:
        return f"i{self.blas.bits}"

    def _address(self, V: Node) -> str:
        return self.places.word("address", V.base, kind="ptr")

    def _given(self, name: str, kind: str) -> str:
        wide = self.places.word("blas", name)
        return f"{kind} {wide if kind == 'i64' else self.code.value(f'trunc i64 {wide} to {kind}')}"

    def _beta(self) -> str:
        """1 or 0: whether the product is added to what is there."""
        number = self.places.word("blas", "beta")
        return f"{self.code.T} {self.code.value(f'sitofp i64 {number} to {self.code.T}')}"

    def _scale(self) -> str:
        """What the product is multiplied by."""
        return self.places.number_in_table(self.stage.scale)

    def _store(self, i: str, j: str, total: str) -> None:
        """Store an entry, multiplied."""
        is_plain = not isinstance(self.stage.scale, Scalar) and self.stage.scale == 1.0
        x = total if is_plain else self.code.arithmetic("fmul", total, self._scale(), flags="")
        self.places.store(self.stage.node, i, j, x)

    def _sizes(self) -> tuple[str, str, str]:
        (rows, terms), columns = self.stage.A.matrix_shape, self.stage.B.matrix_shape[1]
        return self.places.word("rows", rows), self.places.word("columns", columns), self.places.word("terms", terms)
