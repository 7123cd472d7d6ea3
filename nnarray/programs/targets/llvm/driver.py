"""The one function that runs every program: it checks the arrays, fills the tables in, and calls step after step.

It is given three addresses. `%plan` holds for arrays of the same classes, dtypes, shapes and strides; `%given` changes
with each call: the array objects, then numbers; `%memory` is the tables of the steps, followed by the arena.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.programs.targets.llvm import arrays
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled


class Step(NamedTuple):
    """A call: the function's address, and at which word of the memory its table begins."""

    function: int
    table: int


class Fill(NamedTuple):
    """A word of the memory, and what of %given goes there: the data of an array object, or a number."""

    word: int
    given: int


def plan(
    given: Sequence[Any], data: Sequence[Fill], numbers: Sequence[Fill], steps: Sequence[Step]
) -> npt.NDArray[Any]:
    """%plan for arrays like these."""
    words = [len(given), len(data), len(numbers), len(steps)]
    for x in given:
        words += [id(type(x)), id(x.dtype), x.ndim]
        for length, stride in zip(x.shape, x.strides, strict=True):
            words += [length, stride]
    for pair in (*data, *numbers, *steps):
        words += pair
    return np.array(words, np.int64)


@lru_cache(maxsize=1)
def driver() -> Compiled:
    """The function, which returns 1 if it did nothing because the arrays are others than those of %plan."""
    code = Code("double")
    at = code.variable("i64")
    code.do(f"store i64 4, ptr {at}")

    def following() -> str:
        """The next word of %plan."""
        i = code.value(f"load i64, ptr {at}")
        code.do(f"store i64 {code.add(i, '1')}, ptr {at}")
        return code.word("%plan", i)

    def field(address: str, offset: int, kind: str) -> str:
        return code.value(f"load {kind}, ptr {code.value(f'getelementptr i8, ptr {address}, i64 {offset}')}")

    def require_equal(found: str, expected: str) -> None:
        code.require(code.value(f"icmp eq i64 {found}, {expected}"))

    count, data, numbers, steps = (code.parameter("%plan", i, "i64") for i in range(4))
    with code.loop(count) as i:
        owner = code.word("%given", i, "ptr")
        require_equal(field(owner, arrays.TYPE, "i64"), following())
        require_equal(field(owner, arrays.DTYPE, "i64"), following())
        axes = following()
        require_equal(code.value(f"zext i32 {field(owner, arrays.RANK, 'i32')} to i64"), axes)
        with code.loop(axes) as axis:
            for offset in (arrays.DIMENSIONS, arrays.STRIDES):
                require_equal(code.word(field(owner, offset, "ptr"), axis), following())
    with code.loop(data):
        word = code.value(f"getelementptr i64, ptr %memory, i64 {following()}")
        owner = code.word("%given", following(), "ptr")
        code.do(f"store i64 {field(owner, arrays.DATA, 'i64')}, ptr {word}")
    with code.loop(numbers):
        word = code.value(f"getelementptr i64, ptr %memory, i64 {following()}")
        code.do(f"store i64 {code.word('%given', following())}, ptr {word}")
    with code.loop(steps):
        function = code.value(f"inttoptr i64 {following()} to ptr")
        table = code.value(f"getelementptr i64, ptr %memory, i64 {following()}")
        code.value(f"call i32 {function}(ptr {table})")
    return compiled(code.function("%plan", "%given", "%memory"))
