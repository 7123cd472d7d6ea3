"""A training step as one call: a batch is gathered, its gradient computed, and theta updated in place."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nnarray.programs.products import strides_in_entries
from nnarray.programs.steps import StepArrays
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled
from nnarray.programs.targets.llvm.program import Program


class Steps:
    """Steps on batches of `columns` columns, of which an epoch has at most `steps`.

    Raises StridesError for layers that BLAS, or examples that a loop, cannot read.
    """

    def __init__(self, gradient: Program, update: Program, arrays: StepArrays, *, columns: int, steps: int) -> None:
        dtype, vectors = arrays.g.dtype, arrays.vectors
        batch = [np.empty((columns, V.shape[0]), dtype).T for V in arrays.examples]
        J = np.empty((), dtype)
        self._gradient, self._update = gradient, update
        self.costs, self._order = np.empty(steps, dtype), np.zeros(steps * columns, np.int64)
        self._calls = [
            gradient.call([*batch, *arrays.layers, *arrays.gradients, J]),
            update.call([*vectors, arrays.g, *vectors]),
        ]
        self._numbers = np.zeros((steps, sum([call.numbers.size for call in self._calls])), np.float64)
        places = list(map(_gathered, arrays.examples, batch))
        step = _function("float" if dtype == np.float32 else "double", tuple(place.down == 1 for place in places))
        fixed = [columns, *(V.ctypes.data for V in (self._order, self._numbers, J, self.costs))]
        words = [*fixed, *(word for place in places for word in place), *(w for c in self._calls for w in c.words)]
        self._table = np.array(words, np.int64)
        self._run, self._address = step.run, self._table.ctypes.data
        self._kept = step, arrays, batch, J
        self._at = 0

    def begin(self, order: Any, numbers: Sequence[tuple[Sequence[float], Sequence[float]]]) -> None:
        """Begin an epoch: the `order` of the columns, and what each step's two programs are given as numbers."""
        self._order[: order.shape[0]] = order
        for row, (one, other) in zip(self._numbers, numbers, strict=False):
            row[:] = (*self._gradient.numbers(*one), *self._update.numbers(*other))
        self._at = 0

    def launch(self) -> None:
        """Make the next step; other threads run on meanwhile."""
        if self._run(self._address, None, self._at):
            msg = "the arrays of a training run have changed their place"
            raise RuntimeError(msg)
        self._at += 1


class Gathered(NamedTuple):
    """Words of the table: an array of examples by its address and strides in entries, and where a batch of it goes."""

    source: int
    down: int
    across: int
    rows: int
    batch: int


def _gathered(V: Any, batch: Any) -> Gathered:
    return Gathered(V.ctypes.data, *strides_in_entries(V.strides, V.itemsize), V.shape[0], batch.ctypes.data)


FIXED = ("columns", "order", "numbers", "J", "costs")
WORDS = ("driver", "plan", "given", "memory", "arrays", "numbers")
"""Of a table: what comes first, and of each of the two calls."""


@lru_cache(maxsize=16)
def _function(T: str, contiguous: tuple[bool, ...]) -> Compiled:
    """The step, for arrays of examples of which each is contiguous along a column or not.

    It is given its table and which step of the epoch it is.
    """
    code = Code(T)
    slots = iter(range(1000))

    def word(kind: str = "i64") -> str:
        return code.parameter("%table", next(slots), kind)

    columns, order, numbers, J, costs = word(), *(word("ptr") for _ in FIXED[1:])
    step = code.value("ptrtoint ptr %step to i64")
    first = code.times(step, columns)
    for is_contiguous in contiguous:
        source, down, across, rows, batch = word("ptr"), word(), word(), word(), word("ptr")
        with code.loop(columns) as j:
            column = code.times(code.word(order, code.add(first, j)), across)
            out = code.times(j, rows)
            with code.loop(rows, parallel=True) as r:
                place = code.add(column, r if is_contiguous else code.times(r, down))
                x = code.value(f"load {T}, ptr {_entry(code, source, place)}, align 1, !llvm.access.group !0")
                code.do(f"store {T} {x}, ptr {_entry(code, batch, code.add(out, r))}, !llvm.access.group !0")
    calls = [[word() for _ in WORDS] for _ in range(2)]
    counts = [count for *_, count in calls]
    row = code.times(step, code.add(*counts))
    for driver, plan, given, memory, arrays, count in calls:
        with code.loop(count) as i:
            number = code.word(numbers, code.add(row, i))
            table = code.value(f"inttoptr i64 {given} to ptr")
            code.do(
                f"store i64 {number}, ptr {code.value(f'getelementptr i64, ptr {table}, i64 {code.add(arrays, i)}')}"
            )
        row = code.add(row, count)
        function, *addresses = (code.value(f"inttoptr i64 {x} to ptr") for x in (driver, plan, given, memory))
        refused = code.value(f"call i32 {function}({', '.join(f'ptr {address}' for address in addresses)})")
        code.require(code.value(f"icmp eq i32 {refused}, 0"))
    cost = code.value(f"load {T}, ptr {J}")
    code.do(f"store {T} {cost}, ptr {_entry(code, costs, step)}")
    return compiled(code.function("%table", "%unused", "%step"))


def _entry(code: Code, array: str, i: str) -> str:
    return code.value(f"getelementptr {code.T}, ptr {array}, i64 {i}")
