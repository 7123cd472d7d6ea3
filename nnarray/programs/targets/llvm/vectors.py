"""Vectors in LLVM IR, for the code that LLVM need not vectorise."""

from collections.abc import Sequence

from nnarray.programs.targets.llvm.code import Code

LINE = 64
"""Bytes of a cache line."""

LANES = {"float": LINE // 4, "double": LINE // 8}
"""Of a vector that is as long as a line."""


class Vectors:
    """Vectors of so many `lanes` of the code's float. One without a mask is whole."""

    def __init__(self, code: Code, lanes: int) -> None:
        self.lanes, self._code, self._kind = lanes, code, f"<{lanes} x {code.T}>"

    def splat(self, x: str) -> str:
        """X in all lanes."""
        return self._splat(x, self._code.T)

    def first(self, count: str) -> str:
        """A mask of so many lanes."""
        numbers = ", ".join(f"i64 {i}" for i in range(self.lanes))
        return self._code.value(f"icmp ugt <{self.lanes} x i64> {self._splat(count, 'i64')}, <{numbers}>")

    def variable(self, x: float) -> str:
        """The address of a variable that is x in all lanes now."""
        address = self._code.variable(self._kind)
        self._code.do(f"store {self._kind} {self.splat(self._code.constant(x))}, ptr {address}")
        return address

    def read(self, variable: str) -> str:
        """What the variable is."""
        return self._code.value(f"load {self._kind}, ptr {variable}")

    def set(self, variable: str, x: str) -> None:
        """Let the variable be x."""
        self._code.do(f"store {self._kind} {x}, ptr {variable}")

    def fused(self, x: str, y: str, z: str) -> str:
        """x y + z, rounded once where processors can."""
        term = self._code.value(f"fmul contract {self._kind} {x}, {y}")
        return self._code.value(f"fadd contract {self._kind} {z}, {term}")

    def multiply(self, x: str, y: str) -> str:
        """The product, rounded by itself."""
        return self._code.value(f"fmul {self._kind} {x}, {y}")

    def add(self, x: str, y: str) -> str:
        """The sum."""
        return self._code.value(f"fadd {self._kind} {x}, {y}")

    def transposed(self, rows: Sequence[str]) -> Sequence[str]:
        """As many vectors as there are lanes, as rows of a square: its columns."""
        half = self.lanes // 2
        for _ in range(self.lanes.bit_length() - 1):  # rows i and i + half, one entry after the other
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [self._interleaved(x, y, first) for x, y in pairs for first in (0, half)]
        return rows

    def _interleaved(self, x: str, y: str, first: int) -> str:
        """Of x and y, the entries from the `first` on, one of each after the other."""
        places = [place for i in range(first, first + self.lanes // 2) for place in (i, i + self.lanes)]
        mask = ", ".join(f"i32 {place}" for place in places)
        return self._code.value(f"shufflevector {self._kind} {x}, {self._kind} {y}, <{self.lanes} x i32> <{mask}>")

    def select(self, condition: str, x: str, y: str) -> str:
        """x where the condition, a single one, holds, else y."""
        return self._code.value(f"select i1 {condition}, {self._kind} {x}, {self._kind} {y}")

    def first_entry(self, x: str) -> str:
        """What x has in its first lane."""
        return self._code.value(f"extractelement {self._kind} {x}, i64 0")

    def sum(self, x: str, start: str) -> str:
        """Start and all lanes of x."""
        T = self._code.T
        return self._code.value(f"call reassoc {T} @llvm.vector.reduce.fadd({T} {start}, {self._kind} {x})")

    def load(self, address: str, i: int = 0, mask: str | None = None) -> str:
        """The vector i of those that begin at an address."""
        address = self._address(address, i)
        if mask is None:
            return self._code.value(f"load {self._kind}, ptr {address}, align 1")
        operands = f"ptr {address}, i32 1, <{self.lanes} x i1> {mask}, {self._kind} zeroinitializer"
        return self._code.value(f"call {self._kind} @llvm.masked.load({operands})")

    def store(self, address: str, x: str, i: int = 0, mask: str | None = None) -> None:
        """Store x there."""
        address = self._address(address, i)
        if mask is None:
            return self._code.do(f"store {self._kind} {x}, ptr {address}, align 1")
        operands = f"{self._kind} {x}, ptr {address}, i32 1, <{self.lanes} x i1> {mask}"
        return self._code.do(f"call void @llvm.masked.store({operands})")

    def _address(self, address: str, i: int) -> str:
        return self._code.value(f"getelementptr {self._kind}, ptr {address}, i64 {i}") if i else address

    def _splat(self, x: str, T: str) -> str:
        kind = f"<{self.lanes} x {T}>"
        first = self._code.value(f"insertelement {kind} poison, {T} {x}, i64 0")
        return self._code.value(f"shufflevector {kind} {first}, {kind} poison, <{self.lanes} x i32> zeroinitializer")
