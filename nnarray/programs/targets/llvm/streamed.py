"""A row times examples, or times their transpose, where each example is contiguous: at the pace of memory.

Both products of logistic regression are: Z = W X takes some examples at once, and dW = dZ Xᵀ reads them from the cache,
while the examples of the next block come in from memory.
"""

from collections.abc import Callable

from nnarray.programs.graph import Input, transpose
from nnarray.programs.schedule import Product
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.vectors import LANES, LINE, Vectors

AT_ONCE, ADDED_AT_ONCE = 8, 4
"""Examples whose products with a row are computed at once, and that are added to a row at once."""


def suits(stage: Product, places: Places) -> bool:
    """Whether a product is one of these."""
    node, A, B, _ = stage
    is_row_times_examples = A.matrix_shape[0] == 1 and isinstance(B.base, Input) and B.base.per_example
    are_rows = places.has_contiguous_rows(A) and places.has_contiguous_rows(node)
    return is_row_times_examples and are_rows and places.has_contiguous_columns(B.base)


class Streamed:
    """The code of such a product, of so many columns, each a sum of so many terms."""

    def __init__(self, stage: Product, places: Places, columns: str, terms: str) -> None:
        self._stage, self._places, self._code = stage, places, places.code
        self._columns, self._terms = columns, terms
        self._wide, self._single = Vectors(self._code, LANES[self._code.T]), Vectors(self._code, 1)
        self._examples = stage.B if stage.B.operation == "transpose" else transpose(stage.B)
        """as rows"""

    def write(self) -> None:
        """Write it."""
        if self._examples is self._stage.B:
            self._each(self._terms, ADDED_AT_ONCE, self._add)
        else:
            self._each(self._columns, AT_ONCE, self._multiply)

    def _each(self, count: str, at_once: int, write: Callable[[str, int], None]) -> None:
        """All examples: as many at once as may be, and the others by themselves."""
        code, groups = self._code, self._code.value(f"udiv i64 {count}, {at_once}")
        with code.loop(groups, may_be_empty=True) as group:
            write(code.times(group, str(at_once)), at_once)
        done = code.times(groups, str(at_once))
        with code.loop(code.value(f"sub i64 {count}, {done}"), may_be_empty=True) as i:
            write(code.add(done, i), 1)

    def _along(self, length: str, write: Callable[[Vectors, str], None], skipped: str = "0") -> None:
        """All entries of the examples: vectors from the first that are not `skipped` on, and others by themselves."""
        code, lanes = self._code, str(self._wide.lanes)
        blocks = code.value(f"udiv i64 {code.value(f'sub i64 {length}, {skipped}')}, {lanes}")
        with code.loop(blocks, may_be_empty=True) as block:
            write(self._wide, code.add(skipped, code.times(block, lanes)))
        in_vectors = code.times(blocks, lanes)
        with code.loop(code.value(f"sub i64 {length}, {in_vectors}"), may_be_empty=True) as i:
            is_after = code.value(f"icmp uge i64 {i}, {skipped}")
            write(self._single, code.add(i, code.value(f"select i1 {is_after}, i64 {in_vectors}, i64 0")))

    def _before_a_line(self, example: str) -> str:
        """Entries before the first that begins a cache line."""
        first = self._code.value(f"ptrtoint ptr {self._places.span(self._examples, example, '0', '1')} to i64")
        bytes_before = self._code.value(f"and i64 {self._code.value(f'sub i64 0, {first}')}, {LINE - 1}")
        entries = self._code.value(f"udiv i64 {bytes_before}, {LINE // self._wide.lanes}")
        return self._code.smaller(entries, self._columns)

    def _multiply(self, first: str, count: int) -> None:
        """The products of a row with some examples."""
        node, A, _, scale = self._stage
        examples = [self._code.add(first, str(i)) for i in range(count)]
        sums = {vectors: [vectors.variable(0.0) for _ in examples] for vectors in (self._wide, self._single)}

        def write(vectors: Vectors, r: str) -> None:
            row = vectors.load(self._places.span(A, "0", r, str(vectors.lanes)))
            for example, total in zip(examples, sums[vectors], strict=True):
                vectors.set(total, vectors.fused(row, self._entries(example, r, vectors), vectors.read(total)))

        self._along(self._terms, write)
        for example, total, end in zip(examples, sums[self._wide], sums[self._single], strict=True):
            x = self._wide.sum(self._wide.read(total), self._single.first_entry(self._single.read(end)))
            self._places.store(node, "0", example, self._code.arithmetic("fmul", x, self._places.number(scale)))

    def _add(self, first: str, count: int) -> None:
        """Some examples, each times its factor, added to the row, which begins as zeros unless it goes on."""
        code, (node, A, _, scale) = self._code, self._stage
        goes_on = self._places.word("blas", "beta")
        is_new = code.value(f"icmp eq i64 {code.value(f'or i64 {first}, {goes_on}')}, 0")
        examples = [code.add(first, str(i)) for i in range(count)]
        factors = [self._places.load_anyhow(A, "0", example) for example in examples]
        factors = [code.arithmetic("fmul", x, self._places.number(scale)) for x in factors]

        def write(vectors: Vectors, r: str) -> None:
            address = self._places.span(node, "0", r, str(vectors.lanes))
            total = vectors.select(is_new, vectors.splat(code.constant(0.0)), vectors.load(address))
            for example, x in zip(examples, factors, strict=True):
                total = vectors.fused(vectors.splat(x), self._entries(example, r, vectors), total)
                if vectors is self._wide:
                    self._fetch(example, r)
            vectors.store(address, total)

        self._along(self._columns, write, self._before_a_line(first))

    def _entries(self, example: str, r: str, vectors: Vectors) -> str:
        return vectors.load(self._places.span(self._examples, example, r, str(vectors.lanes)))

    def _fetch(self, example: str, r: str) -> None:
        """Into the second cache, what the next block will read; where none follows, what is in the first."""
        following = self._code.add(example, self._places.word("ahead", "terms"))
        address = self._places.span(self._examples, following, r, str(self._wide.lanes))
        self._code.do(f"call void @llvm.prefetch(ptr {address}, i32 0, i32 2, i32 1)")
