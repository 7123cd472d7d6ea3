"""LLVM IR as text: values that are named as they come up, and counted loops."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

BITS = {"float": ("i32", 23, 127), "double": ("i64", 52, 1023)}
"""Of each float: the integer of its size, the bits of its fraction and the bias of its exponent."""


def constant(x: float, T: str) -> str:
    """The number as a constant of type T; LLVM wants the bits of a double, whatever T is."""
    rounded = float(np.float32(x)) if T == "float" else float(x)
    return f"0x{struct.unpack('>Q', struct.pack('>d', rounded))[0]:016X}"


FUNCTION = "program"
FIRST_LOOP = 3

UNMASKED, MASKED = [f'!2 = !{{!"llvm.loop.vectorize.predicate.enable", i1 {is_masked}}}' for is_masked in "01"]
"""What masked loops say of themselves; `compiler`, which knows the processor, puts the second in the first's place."""

METADATA = ["!0 = distinct !{}", '!1 = !{!"llvm.loop.parallel_accesses", !0}', UNMASKED]
"""Loads and stores of nodes are in the group !0, and parallel loops say so of all in it."""

PARALLEL = ", !1"
"""What only the metadata of a parallel loop have."""


class Code:
    """The body of a function, written line by line.

    Counters and sums live in memory on the stack, which LLVM turns into registers.
    """

    def __init__(self, T: str) -> None:
        self.T = T
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._loops: list[str] = []
        self._names = 0

    def function(self, *parameters: str) -> str:
        """The whole function, and the metadata of its loops. It returns 0, or 1 where something required is not so."""
        body = ["entry:", *self._entry, "  br label %start", "start:", *self._lines, "  ret i32 0", "refused:"]
        body.append("  ret i32 1")
        return "\n".join(
            [
                f"define i32 @{FUNCTION}({', '.join(f'ptr {name}' for name in parameters)}) {{",
                *body,
                "}",
                *METADATA,
                *self._loops,
                "",
            ]
        )

    def value(self, expression: str) -> str:
        """The name of what the expression gives."""
        name = self._new("%v")
        self._lines.append(f"  {name} = {expression}")
        return name

    def do(self, instruction: str) -> None:
        """An instruction that gives nothing."""
        self._lines.append(f"  {instruction}")

    def variable(self, kind: str) -> str:
        """The address of a variable on the stack."""
        name = self._new("%a")
        self._entry.append(f"  {name} = alloca {kind}")
        return name

    def initially(self, instruction: str) -> None:
        """An instruction that gives nothing, once, before everything else."""
        self._entry.append(f"  {instruction}")

    def at_entry(self, expression: str) -> str:
        """The name of what the expression gives, once, before everything else."""
        name = self._new("%e")
        self._entry.append(f"  {name} = {expression}")
        return name

    def require(self, condition: str) -> None:
        """Go on only if the condition holds."""
        following = self._new("met")
        self.do(f"br i1 {condition}, label %{following}, label %refused")
        self._lines.append(f"{following}:")

    def parameter(self, table: str, slot: int, kind: str) -> str:
        """What a table holds in a slot, loaded once, before everything else."""
        address = self.at_entry(f"getelementptr inbounds i64, ptr {table}, i64 {slot}")
        return self.at_entry(f"load {kind}, ptr {address}")

    def word(self, table: str, i: str, kind: str = "i64") -> str:
        """What a table of words of 8 bytes holds at i, now."""
        return self.value(f"load {kind}, ptr {self.value(f'getelementptr i64, ptr {table}, i64 {i}')}")

    @contextmanager
    def loop(
        self, stop: str, *, step: int = 1, parallel: bool = False, masked: bool = False, may_be_empty: bool = False
    ) -> Iterator[str]:
        """A loop of a counter from 0 up to stop; if `parallel`, no iteration loads what another one stored.

        If `masked`, its last entries, too few for a vector, become one in which the others are masked out, where a
        processor can do that: one loop instead of three to compile, and slower by an instruction or two per vector.
        Unless it `may_be_empty`, LLVM need not provide for that.
        """
        counter, number = self.variable("i64"), self._next()
        self.do(f"store i64 0, ptr {counter}")
        if may_be_empty:
            is_some = self.value(f"icmp ne i64 {stop}, 0")
            self.do(f"br i1 {is_some}, label %body{number}, label %after{number}")
        else:
            self.do(f"br label %body{number}")
        self._lines.append(f"body{number}:")
        i = self.value(f"load i64, ptr {counter}")
        yield i
        following = self.value(f"add nuw nsw i64 {i}, {step}")
        self.do(f"store i64 {following}, ptr {counter}")
        go_on = self.value(f"icmp ult i64 {following}, {stop}")
        self.do(f"br i1 {go_on}, label %body{number}, label %after{number}, !llvm.loop !{number + FIRST_LOOP}")
        name = f"!{number + FIRST_LOOP}"
        self._loops.append(f"{name} = distinct !{{{name}{PARALLEL * parallel}{', !2' * masked}}}")
        self._lines.append(f"after{number}:")

    @contextmanager
    def branch(self, condition: str) -> Iterator[None]:
        """What is done only if the condition holds."""
        number = self._next()
        self.do(f"br i1 {condition}, label %then{number}, label %join{number}")
        self._lines.append(f"then{number}:")
        yield
        self.do(f"br label %join{number}")
        self._lines.append(f"join{number}:")

    @contextmanager
    def forever(self) -> Iterator[Callable[[str], None]]:
        """A loop without a counter; what it gives leaves the loop if a condition holds."""
        number = self._next()
        self.do(f"br label %again{number}")
        self._lines.append(f"again{number}:")

        def leave(condition: str) -> None:
            following = self._new("stay")
            self.do(f"br i1 {condition}, label %left{number}, label %{following}")
            self._lines.append(f"{following}:")

        yield leave
        self.do(f"br label %again{number}")
        self._lines.append(f"left{number}:")

    def add(self, x: str, y: str) -> str:
        """x + y of whole numbers."""
        return self.value(f"add nsw i64 {x}, {y}")

    def smaller(self, x: str, y: str) -> str:
        """The smaller one of two whole numbers."""
        return self.value(f"call i64 @llvm.smin(i64 {x}, i64 {y})")

    def times(self, x: str, y: str) -> str:
        """The product of whole numbers."""
        return "0" if "0" in (x, y) else x if y == "1" else self.value(f"mul nsw i64 {x}, {y}")

    def arithmetic(self, operation: str, *operands: str, flags: str = "contract") -> str:
        """A floating-point operation; contract lets a product and a sum round once."""
        return self.value(f"{operation} {flags} {self.T} {', '.join(operands)}")

    def constant(self, x: float) -> str:
        """A constant of the code's float."""
        return constant(x, self.T)

    def _next(self) -> int:
        self._names += 1
        return self._names

    def _new(self, prefix: str) -> str:
        return f"{prefix}{self._next()}"
