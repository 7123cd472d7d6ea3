"""Training steps as one call: batches are gathered, their gradients computed, and theta updated in place, in turn."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.programs.helpers import with_helpers
from nnarray.programs.products import strides_in_entries
from nnarray.programs.schedule import Loop
from nnarray.programs.targets.idle import SpareBlocks
from nnarray.programs.targets.llvm import driver, team
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled
from nnarray.programs.targets.llvm.pieces import PIECE_ENTRIES, Span, spans_of
from nnarray.programs.targets.llvm.program import Call, Program
from nnarray.programs.targets.llvm.team import Stage
from nnarray.programs.training_step import StepArrays

FIRST, LAST, STEP = range(3)
"""Words of the steps' table: from which step to which, and the one that is being made."""

FIXED = ("job", "numbers", "J", "costs")
OF_A_CALL = ("filler", "plan", "given", "memory", "arrays", "numbers")
"""Of the table, what comes after that, and of each of the two calls."""

Pair = tuple[int, int]
"""The addresses of a function and of its table."""

_spare = SpareBlocks()
"""Of batches: the pages of new memory take longer than to gather what they hold."""


class TrainingSteps:
    """Steps on batches of `columns` columns, of which an epoch has at most `steps`.

    Where they are all columns that there are, nothing is gathered. Raises StridesError for layers that BLAS, or
    examples that a loop, cannot read.
    """

    def __init__(self, gradient: Program, update: Program, arrays: StepArrays, *, columns: int, steps: int) -> None:
        dtype, vectors, examples = arrays.g.dtype, arrays.vectors, arrays.examples
        self._gathers = columns < examples[0].shape[1]
        shapes = [(columns, V.shape[0]) for V in examples] if self._gathers else []
        self._blocks = [_spare.take(rows * count * dtype.itemsize) for count, rows in shapes]
        batch = [block.view(dtype).reshape(shape).T for block, shape in zip(self._blocks, shapes, strict=True)]
        batch = batch or list(examples)
        J = np.empty((), dtype)
        self._gradient, self._update, self.vectors = gradient, update, vectors
        self.costs, self._order = np.empty(steps, dtype), np.zeros(steps * columns * self._gathers, np.int64)
        calls = [
            gradient.call([*batch, *arrays.layers, *arrays.gradients, J]),
            update.call([*vectors, arrays.g, *vectors]),
        ]
        self._numbers = np.zeros((steps, sum([call.numbers.size for call in calls])), np.float64)
        self._table = np.zeros(STEP + 1 + len(FIXED) + len(calls) * len(OF_A_CALL), np.int64)
        self._tables = list[npt.NDArray[np.int64]]()
        stages, of_update = (call.bound.stages(call.arena.address) for call in calls)
        if self._gathers:
            stages = self._with_gathering(examples, batch, columns, gradient.strands, stages)
        known_after = [len(stages) - len(gradient.parts.stages) + n for n in _known_after(gradient, update, arrays)]
        stages = _joined(stages, of_update, known_after)
        self._job = team.Job(stages, calls[0].arena.address + calls[0].bound.panels, gradient.threads)
        fixed = [self._job.address, *(V.ctypes.data for V in (self._numbers, J, self.costs))]
        self._table[STEP + 1 :] = [*fixed, *(word for call in calls for word in _words(call))]
        self._run = _function("float" if dtype == np.float32 else "double").run
        self._kept, self._calls = (arrays, batch, J), list(zip((gradient, update), calls, strict=True))
        self._at = 0

    def begin(self, order: Any, numbers: Sequence[tuple[Sequence[float], Sequence[float]]], _: Any) -> None:
        """Begin an epoch: the `order` of the columns, and what each step's two programs are given as numbers."""
        if self._gathers:
            self._order[: order.shape[0]] = order
        of_gradient, of_update = self._gradient.numbers, self._update.numbers
        self._numbers[: len(numbers)] = [(*of_gradient(*one), *of_update(*other)) for one, other in numbers]
        self._at = 0

    def launch(self, count: int) -> None:
        """Make the next `count` steps; other threads run on meanwhile."""
        self._table[FIRST], self._table[LAST] = self._at, self._at + count
        helped = with_helpers.get() if self._job.most > 1 else None
        if self._make() if helped is None else helped(self._job, self._make):
            msg = "the arrays of a training run have changed their place"
            raise RuntimeError(msg)
        self._at += count

    def mark(self) -> None:
        """None: they are made."""

    def release(self) -> None:
        """Give back the memory of the batches and between the calls; no step is made after that."""
        blocks, self._blocks, calls, self._calls = self._blocks, [], self._calls, []
        for block in blocks:
            _spare.give_back(block)
        for program, call in calls:
            program.give_back(call.arena)

    def _make(self) -> int:
        return self._run(self._table.ctypes.data, None, None)

    def _with_gathering(
        self,
        examples: Sequence[Any],
        batch: Sequence[Any],
        columns: int,
        strands: tuple[int, Sequence[Span]] | None,
        stages: Sequence[Stage],
    ) -> list[Stage]:
        """The stages with what gathers a batch: a strand gathers its own columns, else that is a stage by itself."""
        both = list(zip(examples, batch, strict=True))
        if strands is None:
            spans = [(V, out, span) for V, out in both for span in spans_of(columns, out.size // PIECE_ENTRIES)]
            gathering = Stage([self._gather(V, out, columns, span) for V, out, span in spans], 0)
            return [gathering, *[Stage(pieces, waits + 1) for pieces, waits in stages]]
        at, spans_of_strands = strands
        of_columns = [
            self._in_turn([*[self._gather(V, out, columns, span) for V, out in both], strand])
            for span, strand in zip(spans_of_strands, stages[at].pieces, strict=True)
        ]
        return [*stages[:at], stages[at]._replace(pieces=of_columns), *stages[at + 1 :]]

    def _gather(self, V: Any, out: Any, columns: int, span: Span) -> Pair:
        """What gathers some columns of a batch of one array."""
        fixed = self._table[STEP:].ctypes.data, self._order.ctypes.data, columns
        down, across = strides_in_entries(V.strides, V.itemsize)
        function = _gathering("float" if V.dtype == np.float32 else "double", down == 1)
        return self._with_table(function, *fixed, V.ctypes.data, down, across, V.shape[0], out.ctypes.data, *span)

    def _in_turn(self, calls: Sequence[Pair]) -> Pair:
        """One call that makes these in turn."""
        return self._with_table(team.in_turn(), len(calls), *[word for call in calls for word in call])

    def _with_table(self, function: Compiled, *words: int) -> Pair:
        self._tables.append(np.array(words, np.int64))
        return function.address, self._tables[-1].ctypes.data


def _known_after(gradient: Program, update: Program, arrays: StepArrays) -> list[int]:
    """Of each piece of the update's first stage, after how many of the gradient's stages its entries of g are known.

    And theta is read no more. Empty where a piece reads others' entries, too.
    """
    first, entries = update.parts.stages[0], arrays.g.shape[0]
    if any([not isinstance(s.part, Loop) or (s.part.kind, s.part.shape[1]) != ("entries", entries) for [s] in first]):
        return []
    ends = accumulate([V.size for V in arrays.gradients], initial=0)  # of what is in g, and averages
    known = list(zip(pairwise(ends), gradient.completed, strict=False))
    return [
        max([done for (start, stop), done in known if start < piece.columns.stop and piece.columns.start < stop])
        for [piece] in first
    ]


def _joined(gradient: Sequence[Stage], update: Sequence[Stage], known_after: Sequence[int]) -> list[Stage]:
    """The update's stages after the gradient's; but theirs that can be begun earlier come as early as they can.

    So who has nothing left to add up goes on, while others still do.
    """
    first, *others = update
    known_after = known_after or [len(gradient)] * len(first.pieces)
    placed = list[tuple[int, Stage]]()
    for waits in sorted(set(known_after)):
        pieces = [piece for piece, known in zip(first.pieces, known_after, strict=True) if known == waits]
        at = [i for i in range(waits, len(gradient)) if gradient[i].waits >= waits]
        placed.append((min(at, default=len(gradient)), Stage(pieces, waits)))
    stages = list[Stage]()
    for i in range(len(gradient) + 1):
        stages += [stage for at, stage in placed if at == i]
        stages += gradient[i : i + 1]
    stages = [Stage(pieces, waits + sum([at < waits for at, _ in placed])) for pieces, waits in stages]
    return [*stages, *[Stage(pieces, len(stages) - 1 + waits) for pieces, waits in others]]


def _words(call: Call) -> Sequence[int]:
    addresses = driver.filler().address, call.bound.plan, call.given.ctypes.data, call.arena.address
    return *addresses, len(call.arrays), call.numbers.size


@lru_cache(maxsize=4)
def _gathering(T: str, is_contiguous: bool) -> Compiled:
    """Copy some columns of the step's batch side by side; `is_contiguous` says whether an example's entries are."""
    code = Code(T)
    kinds = ("ptr", "ptr", "i64", "ptr", "i64", "i64", "i64", "ptr", "i64", "i64")
    words = [code.parameter("%table", i, kind) for i, kind in enumerate(kinds)]
    step, order, columns, source, down, across, rows, batch, start, stop = words
    first = code.add(code.times(code.value(f"load i64, ptr {step}"), columns), start)
    with code.loop(code.value(f"sub i64 {stop}, {start}")) as j:
        column = code.times(code.word(order, code.add(first, j)), across)
        out = code.times(code.add(start, j), rows)
        with code.loop(rows, parallel=True) as r:
            entry = code.add(column, r if is_contiguous else code.times(r, down))
            x = code.value(f"load {T}, ptr {_entry(code, source, entry)}, align 1, !llvm.access.group !0")
            code.do(f"store {T} {x}, ptr {_entry(code, batch, code.add(out, r))}, !llvm.access.group !0")
    return compiled(code.function("%table", "%unused"))


@lru_cache(maxsize=2)
def _function(T: str) -> Compiled:
    """The steps: for each, the numbers are put in place and the tables filled, and then a round of the job is run."""
    code = Code(T)
    slots = iter(range(STEP + 1, 1000))

    def word(kind: str = "i64") -> str:
        return code.parameter("%table", next(slots), kind)

    first, last = code.parameter("%table", FIRST, "i64"), code.parameter("%table", LAST, "i64")
    at = code.at_entry(f"getelementptr i64, ptr %table, i64 {STEP}")
    job, numbers, J, costs = (word("ptr") for _ in FIXED)
    calls = [[word("i64" if name in ("arrays", "numbers") else "ptr") for name in OF_A_CALL] for _ in range(2)]
    width = code.add(*[count for *_, count in calls])
    with code.loop(code.value(f"sub i64 {last}, {first}")) as i:
        step = code.add(first, i)
        code.do(f"store i64 {step}, ptr {at}")
        row = code.times(step, width)
        for function, plan, given, memory, arrays, count in calls:
            with code.loop(count, may_be_empty=True) as k:
                number = code.word(numbers, code.add(row, k))
                address = code.value(f"getelementptr i64, ptr {given}, i64 {code.add(arrays, k)}")
                code.do(f"store i64 {number}, ptr {address}")
            row = code.add(row, count)
            refused = code.value(f"call i32 {function}(ptr {plan}, ptr {given}, ptr {memory})")
            code.require(code.value(f"icmp eq i32 {refused}, 0"))
        code.value(f"call i32 inttoptr (i64 {team.leader().address} to ptr)(ptr {job})")
        cost = code.value(f"load {T}, ptr {J}")
        code.do(f"store {T} {cost}, ptr {_entry(code, costs, step)}")
    return compiled(code.function("%table", "%unused", "%neither"))


def _entry(code: Code, array: str, i: str) -> str:
    return code.value(f"getelementptr {code.T}, ptr {array}, i64 {i}")
