"""A product whose sums have few terms: vectors of columns, some rows at once, and the terms one after the other.

The code is the same for all sizes, so that the layers of a network share one function.
"""

from nnarray.programs.graph import Scalar
from nnarray.programs.schedule import Product
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.vectors import LANES, Vectors

FEW = 16
"""Terms of such a sum, at most."""

WIDE, ROWS, ROWS_OF_REST = 4, 2, 4
"""Vectors that are computed at once and of how many rows; and of how many rows where there is one vector, masked."""


def suits(stage: Product, places: Places) -> bool:
    """Whether the entries of each row of what is made are contiguous."""
    return places.has_contiguous_rows(stage.node)


class FewTerms:
    """The code of such a product, whose sizes are `rows`, `columns` and `terms`.

    Of a B whose rows are not contiguous, as in a batch whose examples are, each block of columns is copied first.
    """

    def __init__(self, stage: Product, places: Places, rows: str, columns: str, terms: str) -> None:
        self._stage, self._places, self._code = stage, places, places.code
        self._rows, self._columns, self._terms = rows, columns, terms
        self._vectors = Vectors(self._code, LANES[self._code.T])
        is_copied = not places.has_contiguous_rows(stage.B)
        self._copied = self._code.variable(f"[{FEW * self._across} x {self._code.T}]") if is_copied else None
        has_several = self._code.at_entry(f"icmp ugt i64 {terms}, 1")
        self._early = self._code.at_entry(f"select i1 {has_several}, i64 2, i64 0")

    def write(self) -> None:
        """Write it. Where the last columns are too few for a vector, the rest of it is masked out."""
        code, lanes = self._code, self._vectors.lanes
        width = str(self._across)
        blocks = code.value(f"udiv i64 {self._columns}, {width}")
        with code.loop(blocks, may_be_empty=True) as block:
            self._block(code.times(block, width), width, [None] * WIDE, ROWS)
        done = code.times(blocks, width)
        rest = code.value(f"sub i64 {self._columns}, {done}")
        with code.loop(self._quotient(rest, lanes), may_be_empty=True) as block:
            before = code.times(block, str(lanes))
            length = code.smaller(code.value(f"sub i64 {rest}, {before}"), str(lanes))
            self._block(code.add(done, before), length, [self._vectors.first(length)], ROWS_OF_REST)

    def _block(self, column: str, length: str, masks: list[str | None], at_once: int) -> None:
        """So many columns, some rows at once: the last one again where there are fewer."""
        code = self._code
        last = code.value(f"sub i64 {self._rows}, 1")
        if self._copied is not None:
            with code.loop(length) as j, code.loop(self._terms) as k:
                x = self._places.load_anyhow(self._stage.B, k, code.add(column, j))
                code.do(f"store {code.T} {x}, ptr {self._copy(self._copied, k, j)}")
        with code.loop(self._quotient(self._rows, at_once)) as group:
            first = code.times(group, str(at_once))
            rows = [code.smaller(code.add(first, str(i)), last) for i in range(at_once)]
            sums = [[self._vectors.variable(-0.0) for _ in masks] for _ in rows]
            with code.loop(self._terms) as counter:
                self._add(self._term(counter), rows, column, length, masks, sums)
            for row, totals in zip(rows, sums, strict=True):
                self._store(row, column, length, masks, totals)

    def _add(
        self, k: str, rows: list[str], column: str, length: str, masks: list[str | None], sums: list[list[str]]
    ) -> None:
        """Add the terms k; the first of a sum to -0, which changes no product."""
        _, A, B, _ = self._stage
        copied = self._copied
        address = self._places.span(B, k, column, length) if copied is None else self._copy(copied, k, "0")
        right = [self._vectors.load(address, v, mask) for v, mask in enumerate(masks)]
        for row, totals in zip(rows, sums, strict=True):
            left = self._vectors.splat(self._places.load_anyhow(A, row, k))
            for total, x in zip(totals, right, strict=True):
                self._vectors.set(total, self._vectors.fused(left, x, self._vectors.read(total)))

    def _term(self, counter: str) -> str:
        """The second term, then the first one: where terms are written out, LLVM fuses the first product last."""
        is_early = self._code.value(f"icmp ult i64 {counter}, {self._early}")
        return self._code.value(f"xor i64 {counter}, {self._code.value(f'zext i1 {is_early} to i64')}")

    def _store(self, row: str, column: str, length: str, masks: list[str | None], totals: list[str]) -> None:
        node, _, _, scale = self._stage
        address = self._places.span(node, row, column, length)
        for v, (mask, total) in enumerate(zip(masks, totals, strict=True)):
            x = self._vectors.read(total)
            if isinstance(scale, Scalar) or scale != 1.0:
                x = self._vectors.multiply(x, self._vectors.splat(self._places.number(scale)))
            self._vectors.store(address, x, v, mask)

    def _copy(self, copied: str, k: str, j: str) -> str:
        """The address of the entry (k, j) of the block that is copied."""
        entry = self._code.add(self._code.times(k, str(self._across)), j)
        return self._code.value(f"getelementptr {self._code.T}, ptr {copied}, i64 {entry}")

    @property
    def _across(self) -> int:
        """Columns of a block."""
        return WIDE * self._vectors.lanes

    def _quotient(self, x: str, y: int) -> str:
        """x / y, rounded up."""
        return self._code.value(f"udiv i64 {self._code.add(x, str(y - 1))}, {y}")
