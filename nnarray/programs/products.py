"""A product of matrices in BLAS's terms, without copying them.

BLAS knows matrices by columns: a first entry, and the distance from one column to the next. One whose rows lie together
is, to it, its transpose.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple


class Blas(NamedTuple):
    """CBLAS: where its gemm and gemv lie, by the name of the float, and the bits of its integers."""

    gemm: Mapping[str, int]
    gemv: Mapping[str, int]
    bits: int


class StridesError(ValueError):
    """BLAS, or a loop, cannot read a matrix where it lies."""


def strides_in_entries(strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    """Strides in bytes as those along rows and columns; a vector is a row. Raises StridesError for parts of entries."""
    rows, columns = (0, 0, *strides)[-2:]
    if rows % itemsize or columns % itemsize:  # a field of records
        msg = f"strides {tuple(strides)} are no multiples of the {itemsize} bytes of an entry"
        raise StridesError(msg)
    return rows // itemsize, columns // itemsize


class Gemm(NamedTuple):
    """C = op(A) op(B) in BLAS's letters: op(A) is m × k, op(B) k × n; `swapped` says that A is the right factor."""

    swapped: bool
    transposes: tuple[bool, bool]
    m: int
    n: int
    k: int
    leading: tuple[int, int, int]


@lru_cache(maxsize=1024)
def gemm(
    shapes: tuple[tuple[int, int], tuple[int, int]],
    left: tuple[int, int],
    right: tuple[int, int],
    out: tuple[int, int],
) -> Gemm:
    """How BLAS makes `out` of `left` and `right`, given their strides in entries along rows and columns.

    A result by rows is the transpose, right times left, by columns. Raises StridesError for what BLAS cannot read.
    """
    (m, k), (_, n) = shapes
    by_columns, leading = _read(out, (m, n))
    if not by_columns:
        swapped = gemm(((n, k), (k, m)), right[::-1], left[::-1], out[::-1])
        return swapped._replace(swapped=True)
    (a_plain, lda), (b_plain, ldb) = _read(left, (m, k)), _read(right, (k, n))
    return Gemm(False, (not a_plain, not b_plain), m, n, k, (lda, ldb, leading))


class Strided(NamedTuple):
    """C = A B of matrices with their strides in entries along rows and columns, where C's rows are contiguous.

    `swapped` says that A is the right factor, as written by the caller, transposed, B the left one and C its transpose.
    """

    swapped: bool
    m: int
    n: int
    k: int
    left: tuple[int, int]
    right: tuple[int, int]
    down: int
    """from a row of C to the next"""


def strided(
    shapes: tuple[tuple[int, int], tuple[int, int]],
    left: tuple[int, int],
    right: tuple[int, int],
    out: tuple[int, int],
) -> Strided:
    """How `out` is made of `left` and `right`; raises StridesError for what BLAS cannot read either."""
    (m, k), (_, n) = shapes
    of_blas = gemm(shapes, left, right, out)
    down = of_blas.leading[2]
    if of_blas.swapped:  # to BLAS, which knows columns, as C lies by rows
        return Strided(False, m, n, k, left, right, down)
    return Strided(True, n, m, k, right[::-1], left[::-1], down)


class Gemv(NamedTuple):
    """y = op(M) x in BLAS's letters: M, as it lies by columns, is m × n, and the vectors have strides."""

    transposed: bool
    m: int
    n: int
    lda: int
    incx: int
    incy: int


def gemv(shape: tuple[int, int], matrix: tuple[int, int], x: int, y: int) -> Gemv:
    """How BLAS multiplies a matrix of this shape and these strides in entries by a vector, given the vectors' strides.

    Raises StridesError for what BLAS cannot read.
    """
    by_columns, leading = _read(matrix, shape)
    if x < 1 or y < 1:
        msg = f"BLAS cannot go along a vector in strides of {min(x, y)}"
        raise StridesError(msg)
    m, n = shape if by_columns else shape[::-1]
    return Gemv(not by_columns, m, n, leading, x, y)


def _read(strides: tuple[int, int], shape: tuple[int, int]) -> tuple[bool, int]:
    """Whether the matrix lies by columns, and the distance from one of these (or of its rows) to the next."""
    (down, across), (rows, columns) = strides, shape
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return True, max(across if columns > 1 else rows, rows)
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return False, max(down if rows > 1 else columns, columns)
    msg = f"BLAS cannot read a matrix of shape {shape} with strides {strides}"
    raise StridesError(msg)
