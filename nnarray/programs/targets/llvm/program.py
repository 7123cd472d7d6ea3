"""A graph as machine code: loops and products are functions, shared by all programs, that a driver calls in turn."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import accumulate, islice
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.programs.graph import Graph, Input, Node, Scalar
from nnarray.programs.helpers import with_helpers
from nnarray.programs.lowering import (
    divisions_by_numbers_as_products,
    entries_at_once,
    outputs_of_their_own,
    products_without_zero,
    scaled_products,
    sums_over_all_in_parts,
    sums_over_columns_as_products,
)
from nnarray.programs.memory import ALIGNMENT, Memory
from nnarray.programs.products import Blas, StridesError, strides_in_entries
from nnarray.programs.schedule import Limits, Loops, Plan, Product, made_by
from nnarray.programs.targets import numpy_calls
from nnarray.programs.targets.arguments import taking
from nnarray.programs.targets.idle import LIMIT, keep_watch, living, make_room
from nnarray.programs.targets.llvm import driver
from nnarray.programs.targets.llvm.blocked import ROOM
from nnarray.programs.targets.llvm.bound import Bound, Cut, Placement, Unbound, layout_of
from nnarray.programs.targets.llvm.columns import ColumnBlocks, Strands
from nnarray.programs.targets.llvm.pieces import THREADS, Piece, Span, are_worth_sharing, stages_of
from nnarray.programs.targets.llvm.products import is_blocked
from nnarray.programs.targets.scalars import function_of

LIMITS = Limits(chain=64, nodes=2**31, order="C")

MOST_BOUND = 16
"""Ways in which arrays lie that a program keeps what it needs for, the last ones that came."""


LARGE = 2**23
"""Bytes of an arena that another program's may take the place of, such as one for the last tile, a narrower one."""


class Arena(NamedTuple):
    """Memory for one call at a time: room for tables, after it the nodes between the steps, and then panels."""

    memory: npt.NDArray[np.uint8]
    address: int
    """of its first aligned byte"""


class Program:
    """The graph as machine code.

    Called with its inputs and outputs in the graph's order, it fills the outputs and returns the result. Any number of
    threads may call it, and other threads run on meanwhile. Arrays whose strides BLAS cannot read are left to NumPy's
    calls. Where it is `shared`, large parts are cut into pieces for several threads. Raises ValueError, before anything
    is computed, for arrays of other shapes or dtypes than the graph's.
    """

    def __init__(self, graph: Graph, blas: Blas, *, shared: bool = True) -> None:
        self._traced = graph
        cut = _cut(Plan(lowered(graph), LIMITS), shared=shared)
        self.plan, self.memory = cut.plan, cut.memory
        self.graph, self.works_in_place = self.plan.graph, self.plan.works_in_place
        is_array = [isinstance(x, Input) for x in graph.inputs] + [True] * len(graph.outputs)
        self._arrays_of = taking([i for i, x in enumerate(is_array) if x])
        self._scalars_of = taking([i for i, x in enumerate(is_array) if not x])
        self._has_result, self._dtype = graph.result is not None, graph.dtype
        self.given_arrays: list[Node] = [*graph.arrays, *self.graph.outputs.values()]
        word_of = {name: len(graph.arrays) + i for i, name in enumerate(graph.outputs)}
        self.given: dict[Node, int] = {x: i for i, x in enumerate(graph.arrays)}
        self.given |= {node: word_of[name] for node, name in self.memory.outputs.items()}
        used = [s for node in self.graph.nodes for s in node.sources if isinstance(s, Scalar)]
        self.scalars = list(dict.fromkeys(used))
        self.threads = THREADS if shared else 1
        packs = not cut.reads_once and any([_packs(s) for stage in cut.stages for strand in stage for s in strand])
        self._panels = ROOM * self.threads * packs
        self.parts = Unbound(*cut, self.scalars, blas, self.threads)
        self._numbers = function_of(graph.scalars, self.scalars)
        self._arrays = Packed(self, [1] * len(self.given_arrays))
        self.idle: list[Arena] = []
        keep_watch(self)

    def __call__(self, *given: Any) -> Any:
        """Compute with these arrays and numbers."""
        filled = (*given, np.empty((), self._dtype)) if self._has_result else given
        try:
            self._arrays.run(self._arrays_of(filled), self._numbers(*self._scalars_of(given)))
        except StridesError:
            return self._numpy_calls(*given)
        return filled[-1][()] if self._has_result else None

    def numbers(self, *scalars: float) -> tuple[float, ...]:
        """What machine code is given of the numbers that a call is given."""
        return tuple(map(float, self._numbers(*scalars)))

    @cached_property
    def completed(self) -> Sequence[int]:
        """Of each output, how many stages are done when it is complete, and the parameters are read no more."""
        made, read = dict[Node, int](), 0
        for done, stage in enumerate(self.parts.stages, 1):
            for part in {id(piece.part): piece.part for strand in stage for piece in strand}.values():
                alone = part if isinstance(part, Product) else Loops([part])
                made.update(dict.fromkeys(made_by(alone), done))
                if any([isinstance(x, Input) and not x.per_example for x in self.plan.reads(alone)]):
                    read = done
        return [
            max([read, *[made[node] for node, name in self.memory.outputs.items() if name == output]])
            for output in self.graph.outputs
        ]

    @property
    def strands(self) -> tuple[int, Sequence[Span]] | None:
        """Which stage takes columns through several parts, and which columns each of its strands takes.

        None if there is no such stage, or examples are read before it.
        """
        read = set[Node]()
        for at, (strands, stage) in enumerate(zip(self.parts.stages, self.plan.stages, strict=False)):
            if len(strands[0]) > 1 and not any([x.per_example for x in self.graph.arrays if x in read]):
                return at, [strand[0].columns for strand in strands]
            read.update(self.plan.reads(stage))
        return None

    def call(self, arrays: Sequence[Any]) -> "Call":
        """A call on these arrays, the outputs and the result among them, which can be made from machine code."""
        bound = self._arrays.bind(arrays)
        given = np.array([*map(id, arrays), *[0] * len(self.scalars)], np.int64)
        return Call(bound, self.take_arena(bound.room), given, arrays, given[len(arrays) :].view(np.float64))

    @cached_property
    def _numpy_calls(self) -> numpy_calls.Program:
        return numpy_calls.Program(self._traced)

    @property
    def idle_bytes(self) -> int:
        """The memory that waits for the next call."""
        return sum([arena.memory.nbytes for arena in self.idle])

    def release(self) -> None:
        """Free the memory that waits; the next call allocates anew."""
        self.idle.clear()

    def take_arena(self, room: int) -> Arena:
        """An arena with so much room for tables: this program's own, another's that waits, or a new one."""
        size = room + self.memory.size + self._panels + ALIGNMENT
        arena: Arena | None
        try:
            arena = self.idle.pop()
        except IndexError:
            arena = _of_another(size) if size >= LARGE else None
        if arena is None or arena.memory.nbytes < size:
            make_room(size)
            memory = np.empty(size, np.uint8)
            arena = Arena(memory, memory.ctypes.data + -memory.ctypes.data % ALIGNMENT)
        return arena

    def give_back(self, arena: Arena) -> None:
        """Keep an arena for the next call, unless it is very large."""
        if arena.memory.nbytes <= LIMIT:
            make_room(arena.memory.nbytes)
            self.idle.append(arena)

    def run(self, bound: Bound, given: bytes) -> bool:
        """Compute, unless the arrays are others than those it is for."""
        arena, helped = self.take_arena(bound.room), with_helpers.get() if bound.is_shared else None
        if helped is None:
            refused = driver.driver().run(bound.plan, given, arena.address)
        elif not (refused := driver.filler().run(bound.plan, given, arena.address)):
            job = bound.job(arena.address)
            helped(job, job.round)
        self.idle.append(arena)
        return not refused


class Packed:
    """A program for arrays of which each holds one or several of the program's own, one after the other.

    `groups` says how many each holds of the inputs, the outputs and the result, in the order in which the program is
    given them. An array of several is a vector.
    """

    def __init__(self, program: Program, groups: Sequence[int]) -> None:
        self._program, self.numbers = program, program.numbers
        left = iter(program.given_arrays)
        self._groups = [list(islice(left, count)) for count in groups]
        self._pack = struct.Struct(f"{len(groups)}q{len(program.scalars)}d").pack
        self._bound: list[Bound] = []
        self._refused: list[Any] = []

    def run(self, arrays: Sequence[npt.NDArray[Any]], numbers: Sequence[float]) -> None:
        """Compute.

        Raises ValueError for arrays of other shapes or dtypes, and StridesError, which is one, for what BLAS cannot
        read where it lies, both before anything is computed.
        """
        if self._ran(arrays, numbers):
            return
        arrays = [_with_known_dtype(x) for x in arrays]
        if not self._ran(arrays, numbers):
            self._program.run(self.bind(arrays), self._pack(*map(id, arrays), *numbers))

    def _ran(self, arrays: Sequence[npt.NDArray[Any]], numbers: Sequence[float]) -> bool:
        """Whether arrays like these have come before, in which case it has computed."""
        given = self._pack(*map(id, arrays), *numbers)
        return any(self._program.run(bound, given) for bound in self._bound)

    def bind(self, arrays: Sequence[npt.NDArray[Any]]) -> Bound:
        """The program for arrays that lie like these; raises as `run` does."""
        layout = layout_of(arrays)
        for bound in self._bound:
            if bound.layout == layout:
                return bound
        strides = [x.strides for x in arrays]
        if strides in self._refused:  # to find that out takes longer than a small step
            msg = "BLAS cannot read arrays that lie like these"
            raise StridesError(msg)
        placements = list[Placement]()
        for x, nodes in zip(arrays, self._groups, strict=True):
            shape = nodes[0].shape if len(nodes) == 1 else (sum([prod(node.shape) for node in nodes]),)
            if x.shape != shape or x.dtype != nodes[0].dtype:
                msg = f"expected an array of shape {shape} and dtype {nodes[0].dtype}, got {x.shape} and {x.dtype}"
                raise ValueError(msg)
        try:
            for i, (x, nodes) in enumerate(zip(arrays, self._groups, strict=True)):
                placements += _side_by_side(i, x, nodes)
            placed = {node: placements[i] for node, i in self._program.given.items()}
            bound = Bound(self._program.parts, arrays, placed)
        except StridesError:
            self._refused = [*self._refused[1 - MOST_BOUND :], strides]
            raise
        self._bound = [*self._bound[1 - MOST_BOUND :], bound]
        return bound


def _with_known_dtype(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array with NumPy's own object for its dtype: each that was unpickled has another, which looks like it."""
    known = np.dtype(x.dtype.str)
    return x if x.dtype is known else x.view(known)


def _side_by_side(i: int, x: npt.NDArray[Any], nodes: Sequence[Node]) -> Iterator[Placement]:
    """Where the nodes lie in array i: one anyhow, several as matrices in C order, one after the other."""
    if len(nodes) == 1:
        return iter([Placement(i, 0, strides_in_entries(x.strides, x.itemsize))])
    if x.strides != (x.itemsize,):
        msg = "the entries of a vector are not side by side"
        raise StridesError(msg)
    firsts = accumulate([prod(node.shape) for node in nodes], initial=0)
    pairs = zip(firsts, nodes, strict=False)
    return iter([Placement(i, first * x.itemsize, (node.matrix_shape[1], 1)) for first, node in pairs])


class Call(NamedTuple):
    """A call that may be made again and again, by one thread at a time."""

    bound: Bound
    arena: Arena
    given: npt.NDArray[np.int64]
    arrays: Sequence[Any]
    numbers: npt.NDArray[np.float64]
    """in the last words of `given`"""


def _cut(plan: Plan, *, shared: bool) -> Cut:
    """The plan, cut; one by columns has its stages in another order."""
    blocks = ColumnBlocks(plan)
    if blocks.are_several:
        plan_of_blocks = plan.with_stages(blocks.stages)
        memory = Memory(plan_of_blocks)
        if blocks.suits(memory):
            stages = blocks.strands()
            return Cut(plan_of_blocks, stages, range(len(stages)), memory, reads_once=True)
    if shared and are_worth_sharing(plan) and (strands := Strands(plan)).are_worth_it:
        plan_of_strands = plan.with_stages(strands.stages)
        memory = Memory(plan_of_strands, strands.together)
        if strands.fit(memory):
            return Cut(plan_of_strands, strands.strands(), strands.waits, memory)
    stages = stages_of(plan, shared=shared)
    return Cut(plan, stages, range(len(stages)), Memory(plan))


def _of_another(size: int) -> Arena | None:
    """An arena of so many bytes or more that waits for another program's next call."""
    for keeper in living():
        if isinstance(keeper, Program):
            with suppress(IndexError):  # other threads take from it at the same time
                arena = keeper.idle.pop()
                if arena.memory.nbytes >= size:
                    return arena
                keeper.idle.append(arena)
    return None


def _packs(piece: Piece) -> bool:
    return isinstance(piece.part, Product) and is_blocked(piece.part)


def lowered(graph: Graph) -> Graph:
    """The graph as a CPU computes it."""
    graph = divisions_by_numbers_as_products(sums_over_columns_as_products(products_without_zero(graph)))
    graph = outputs_of_their_own(sums_over_all_in_parts(scaled_products(graph), lambda _: 1))
    return entries_at_once(graph)
