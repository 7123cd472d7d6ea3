"""The one function that runs every program: it checks the arrays, fills the tables in, and makes call after call.

It is given three addresses. `%plan` holds for arrays of the same classes, dtypes, shapes and strides; `%given` changes
with each call: the array objects, then numbers; `%memory` is room for the tables of the calls, followed by the arena.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.programs.targets.llvm import arrays
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled


class TableCall(NamedTuple):
    """A call: the function's address, and at which word of the memory its table begins."""

    function: int
    table: int


class Fill(NamedTuple):
    """A word of the tables that each call fills in, and from where: a word of %given, or an offset of %memory."""

    word: int
    source: int


class Address(NamedTuple):
    """A word of the tables that is the address of an entry: of which array object, and at which byte of it."""

    word: int
    source: int
    offset: int


class Tables(NamedTuple):
    """The tables of the calls."""

    words: list[int]
    """what stays"""
    data: list[Address]
    """addresses in the memory of array objects"""
    arena: list[Fill]
    """addresses in the arena"""
    numbers: list[Fill]
    calls: list[TableCall]


CALLS, FIRST_CALL, PANELS, FIRST_ARRAY = 5, 6, 7, 8
"""Words of %plan: how many calls there are, at which word the first of them is, from which byte of %memory on there is
room for panels, and at which word the first array is."""


def plan(given: Sequence[Any], tables: Tables, panels: int) -> npt.NDArray[np.int64]:
    """%plan for arrays like these, with the `panels` from this byte of %memory on."""
    words = [len(given), *[len(part) for part in tables], 0, panels]
    for x in given:
        words += [id(type(x)), id(x.dtype), x.ndim]
        for length, stride in zip(x.shape, x.strides, strict=True):
            words += [length, stride]
    words += tables.words
    for pair in (*tables.data, *tables.arena, *tables.numbers, *tables.calls):
        words += pair
    words[FIRST_CALL] = len(words) - 2 * len(tables.calls)
    return np.array(words, np.int64)


@lru_cache(maxsize=1)
def driver() -> Compiled:
    """The function, which returns 1 if it did nothing because the arrays are others than those of %plan."""
    code = Code("double")
    refused = code.value(f"call i32 inttoptr (i64 {filler().address} to ptr)(ptr %plan, ptr %given, ptr %memory)")
    code.require(code.value(f"icmp eq i32 {refused}, 0"))
    calls, first, panels = (code.parameter("%plan", i, "i64") for i in (CALLS, FIRST_CALL, PANELS))
    room = code.value(f"getelementptr i8, ptr %memory, i64 {panels}")
    pair = code.value(f"getelementptr i64, ptr %plan, i64 {first}")
    with code.loop(calls, may_be_empty=True) as i:
        call = code.value(f"getelementptr [2 x i64], ptr {pair}, i64 {i}")
        function, table = code.word(call, "0", "ptr"), code.word(call, "1")
        address = code.value(f"getelementptr i64, ptr %memory, i64 {table}")
        code.value(f"call i32 {function}(ptr {address}, ptr {room})")
    return compiled(code.function("%plan", "%given", "%memory"))


@lru_cache(maxsize=1)
def filler() -> Compiled:
    """The same, but for the calls, which somebody else makes."""
    code = Code("double")
    plan = PlanReader(code)
    count, words, data, arena, numbers = [code.parameter("%plan", i, "i64") for i in range(CALLS)]
    with code.loop(count, may_be_empty=True) as i:
        plan.require_same_array(code.word("%given", i, "ptr"))
    with code.loop(words, may_be_empty=True) as i:
        code.do(f"store i64 {plan.following()}, ptr {_table_word(code, i)}")
    with code.loop(data, may_be_empty=True):
        word = _table_word(code, plan.following())
        owner = code.word("%given", plan.following(), "ptr")
        code.do(f"store i64 {code.add(_field(code, owner, arrays.DATA, 'i64'), plan.following())}, ptr {word}")
    with code.loop(arena, may_be_empty=True):
        word = _table_word(code, plan.following())
        code.do(f"store ptr {code.value(f'getelementptr i8, ptr %memory, i64 {plan.following()}')}, ptr {word}")
    with code.loop(numbers, may_be_empty=True):
        word = _table_word(code, plan.following())
        code.do(f"store i64 {code.word('%given', plan.following())}, ptr {word}")
    return compiled(code.function("%plan", "%given", "%memory"))


class PlanReader:
    """Code that reads %plan word by word, from the first array on."""

    def __init__(self, code: Code) -> None:
        self._code, self._at = code, code.variable("i64")
        code.do(f"store i64 {FIRST_ARRAY}, ptr {self._at}")

    def following(self) -> str:
        """The next word."""
        i = self._code.value(f"load i64, ptr {self._at}")
        self._code.do(f"store i64 {self._code.add(i, '1')}, ptr {self._at}")
        return self._code.word("%plan", i)

    def require_same_array(self, x: str) -> None:
        """Return 1 unless the array object is of the class, dtype, shape and strides that come next."""
        code = self._code
        self._require_next(_field(code, x, arrays.TYPE, "i64"))
        self._require_next(_field(code, x, arrays.DTYPE, "i64"))
        axes = self._require_next(code.value(f"zext i32 {_field(code, x, arrays.RANK, 'i32')} to i64"))
        with code.loop(axes, may_be_empty=True) as axis:
            for offset in (arrays.DIMENSIONS, arrays.STRIDES):
                self._require_next(code.word(_field(code, x, offset, "ptr"), axis))

    def _require_next(self, found: str) -> str:
        expected = self.following()
        self._code.require(self._code.value(f"icmp eq i64 {found}, {expected}"))
        return expected


def _field(code: Code, address: str, offset: int, kind: str) -> str:
    return code.value(f"load {kind}, ptr {code.value(f'getelementptr i8, ptr {address}, i64 {offset}')}")


def _table_word(code: Code, i: str) -> str:
    return code.value(f"getelementptr i64, ptr %memory, i64 {i}")
