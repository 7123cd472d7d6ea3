"""What runs a program: CuPy on a GPU."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nnarray.programs.products import Gemm


class RectifiedProducts(Protocol):
    """Products of a `Device` that add a column b and rectify before they store: max(A B + b, 0).

    Called with where A, B, b and C begin, in memory for which `suits` was true.
    """

    def suits(self, how: Gemm, A: int, B: int, b: int, C: int) -> bool | None:
        """Whether there is such a product for matrices that lie so, on the current device, and NaN stays NaN in it.

        C may be written over. None while it cannot be known.
        """

    def __call__(self, how: Gemm, A: int, B: int, b: int, C: int) -> None:
        """Queue one."""


class Device(Protocol):
    """What runs a program: CuPy on a GPU."""

    def place(self, x: Any) -> tuple[int, tuple[int, ...]]:
        """Where an array's first entry lies, and the array's strides in bytes."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array, not filled; raises MemoryError where there is no room for it."""

    def ones(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of ones, in C order, that nobody writes to."""

    def kernel(self, source: str, name: str, layout: str) -> Callable[[int, int, Sequence[Any]], None]:
        """The kernel of that name: called with the number of blocks, of threads in a block, and the arguments.

        The kernel gets them as one struct of this layout, in the letters of Python's `struct`.
        """

    def product(self, dtype: str, operands: str) -> Callable[[Gemm, int, int, int], None]:
        """Products in `dtype`, which may be as narrow, of operands in the float `operands`.

        Sums are float64's or float32's. Called with where A, B and C begin.
        """

    def rectified(self, dtype: str, operands: str) -> RectifiedProducts | None:
        """The like of such products, b in `dtype`; None where there are none."""

    def number(self) -> int:
        """Which device is the current one."""
