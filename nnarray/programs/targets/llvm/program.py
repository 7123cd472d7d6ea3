"""A graph as machine code: loops and products are functions, shared by all programs, that a driver calls in turn."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.programs.graph import Graph, Input, Node, Scalar
from nnarray.programs.lowering import outputs_of_their_own, sums_over_all_in_parts, sums_over_columns_as_products
from nnarray.programs.memory import ALIGNMENT, Memory
from nnarray.programs.products import StridesError, gemm, strides_in_entries
from nnarray.programs.schedule import Limits, Loop, Plan, Product
from nnarray.programs.targets import numpy_calls
from nnarray.programs.targets.expressions import function_of
from nnarray.programs.targets.idle import keep_watch
from nnarray.programs.targets.llvm import driver
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled
from nnarray.programs.targets.llvm.driver import Fill, Step, Tables
from nnarray.programs.targets.llvm.loops import LoopCode
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.products import Blas, ProductCode, is_call

LIMITS = Limits(chain=64, nodes=2**31, order="C")

ROOM = 4096
"""Bytes, of which the room for tables is a multiple, so that an arena suits all arrays that a program is bound to."""

MOST_BOUND = 16
"""Ways in which arrays lie that a program keeps what it needs for, the last ones that came."""

TRANSPOSED, PLAIN = 112, 111
"""CblasTrans and CblasNoTrans"""

Strides = Mapping[Node, tuple[int, int]]
"""Of the nodes in callers' arrays, in entries along rows and columns."""


class Arena(NamedTuple):
    """Memory for one call at a time: room for tables, and after it the nodes between the steps."""

    memory: npt.NDArray[np.uint8]
    address: int
    """of its first aligned byte"""


class Program:
    """The graph as machine code.

    Called with its inputs and outputs in the graph's order, it fills the outputs and returns the result. Any number of
    threads may call it, and other threads run on meanwhile. Arrays whose strides BLAS cannot read are left to NumPy's
    calls. Raises ValueError, before anything is computed, for arrays of other shapes or dtypes than the graph's.
    """

    def __init__(self, graph: Graph, blas: Blas) -> None:
        self._traced, self.plan, self.blas = graph, Plan(lowered(graph), LIMITS), blas
        self.graph, self.works_in_place, self.memory = self.plan.graph, self.plan.works_in_place, Memory(self.plan)
        is_array = [isinstance(x, Input) for x in graph.inputs] + [True] * len(graph.outputs)
        self._arrays_of = _getter([i for i, x in enumerate(is_array) if x])
        self._scalars_of = _getter([i for i, x in enumerate(is_array) if not x])
        self._has_result, self._dtype = graph.result is not None, graph.dtype
        self.given_arrays: list[Node] = [*graph.arrays, *self.graph.outputs.values()]
        place_of = {name: len(graph.arrays) + i for i, name in enumerate(graph.outputs)}
        self.given: dict[Node, int] = {x: i for i, x in enumerate(graph.arrays)}
        self.given |= {node: place_of[name] for node, name in self.memory.outputs.items()}
        self.scalars = list(dict.fromkeys(s for node in graph.nodes for s in node.sources if isinstance(s, Scalar)))
        self._numbers = function_of(graph.scalars, self.scalars)
        self._pack = struct.Struct(f"{len(self.given_arrays)}q{len(self.scalars)}d").pack
        self._bound: list[Bound] = []
        self.idle: list[Arena] = []
        keep_watch(self)

    def __call__(self, *given: Any) -> Any:
        """Compute with these arrays and numbers."""
        filled = (*given, np.empty((), self._dtype)) if self._has_result else given
        arrays = self._arrays_of(filled)
        table = self._pack(*map(id, arrays), *self._numbers(*self._scalars_of(given)))
        for bound in self._bound:
            if bound.run(table):
                break
        else:
            try:
                self._bind(arrays).run(table)
            except StridesError:
                return self._numpy_calls(*given)
        return filled[-1][()] if self._has_result else None

    def numbers(self, *scalars: float) -> tuple[float, ...]:
        """What machine code is given of the numbers that a call is given."""
        return tuple(map(float, self._numbers(*scalars)))

    def call(self, arrays: Sequence[Any]) -> "Call":
        """A call on these arrays, the outputs and the result among them, which can be made from machine code."""
        bound = self._bind(arrays)
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
        """An arena with so much room for tables."""
        try:
            arena = self.idle.pop()
        except IndexError:
            arena = None
        if arena is None or arena.memory.nbytes < room + self.memory.size + ALIGNMENT:
            memory = np.empty(room + self.memory.size + ALIGNMENT, np.uint8)
            arena = Arena(memory, memory.ctypes.data + -memory.ctypes.data % ALIGNMENT)
        return arena

    def parts(self) -> Iterator[Product | Loop]:
        """What is called in turn."""
        for stage in self.plan.stages:
            if isinstance(stage, Product):
                yield stage
            else:
                yield from stage.loops

    def _bind(self, arrays: Sequence[Any]) -> "Bound":
        for x, node in zip(arrays, self.given_arrays, strict=True):
            if x.shape != node.shape or x.dtype != node.dtype:
                msg = f"expected an array of shape {node.shape} and dtype {node.dtype}, got {x.shape} and {x.dtype}"
                raise ValueError(msg)
        bound = Bound(self, arrays)
        self._bound = [*self._bound[1 - MOST_BOUND :], bound]
        return bound


class Call(NamedTuple):
    """A call that may be made again and again, by one thread at a time."""

    bound: "Bound"
    arena: Arena
    given: npt.NDArray[np.int64]
    arrays: Sequence[Any]
    numbers: npt.NDArray[np.float64]
    """in the last words of `given`"""

    @property
    def words(self) -> tuple[int, ...]:
        """The driver, %plan, %given, %memory, how many arrays there are and how many numbers."""
        addresses = driver.driver().address, self.bound.plan, self.given.ctypes.data, self.arena.address
        return *addresses, len(self.arrays), self.numbers.size


class Bound:
    """A program for arrays of certain classes, dtypes, shapes and strides."""

    def __init__(self, program: Program, arrays: Sequence[Any]) -> None:
        self._program = program
        self._strides = {
            node: strides_in_entries(arrays[i].strides, arrays[i].itemsize) for node, i in program.given.items()
        }
        self._unit = frozenset([node for node, (_, across) in self._strides.items() if across == 1])
        self._tables = Tables([], [], [], [], [])
        functions = [self._function(part) for part in program.parts()]
        self.room = len(self._tables.words) * 8
        self.room += -self.room % ROOM
        places = [Fill(word, self.room + offset) for word, offset in self._tables.places]
        plan = driver.plan(arrays, self._tables._replace(places=places))
        self.plan, self._driver = plan.ctypes.data, driver.driver().run
        self._kept = plan, functions, [(type(x), x.dtype) for x in arrays]

    def run(self, given: bytes) -> bool:
        """Compute, unless the arrays are others than those it is for."""
        arena = self._program.take_arena(self.room)
        done = not self._driver(self.plan, given, arena.address)
        self._program.idle.append(arena)
        return done

    def _function(self, part: Product | Loop) -> Compiled:
        """The function of a part, whose step and table are added."""
        code = Code("float" if self._program.graph.dtype == np.float32 else "double")
        places = Places(code, self._program.given, self._unit)
        if isinstance(part, Product):
            ProductCode(part, places, self._program.blas).write()
        else:
            LoopCode(part, self._program.plan, places).write()
        function = compiled(code.function("%table"))
        self._tables.steps.append(Step(function.address, len(self._tables.words)))
        for key in places.keys:
            self._tables.words.append(self._word(part, *key))
        return function

    def _word(self, part: Product | Loop, what: object, of: Any, *axis: Any) -> int:
        """What a table holds under a key; 0 where each call fills it in."""
        at, program = len(self._tables.words), self._program
        if what == "number":
            self._tables.numbers.append(Fill(at, len(program.given_arrays) + program.scalars.index(of)))
            return 0
        if what == "address" and of in program.given:
            self._tables.data.append(Fill(at, program.given[of]))
            return 0
        if what == "address":
            self._tables.places.append(Fill(at, program.memory.offsets[of]))
            return 0
        if what == "stride":
            return self._strides_of(of)[axis[0]]
        if what == "gemm":
            assert isinstance(part, Product)
            return self._gemm(part)[of]
        return int(of)

    def _strides_of(self, node: Node) -> tuple[int, int]:
        """In entries along rows and columns; what lies in the arena is dense and in C order."""
        if node.operation == "transpose":
            return self._strides_of(node.nodes[0])[::-1]
        return self._strides.get(node, (node.matrix_shape[1], 1))

    def _gemm(self, product: Product) -> dict[str, int]:
        """BLAS's arguments."""
        node, A, B = product
        how = gemm((A.matrix_shape, B.matrix_shape), *map(self._strides_of, (A, B, node)))
        flags = [TRANSPOSED if is_transposed else PLAIN for is_transposed in how.transposes]
        names = ("swapped", "A", "B", "m", "n", "k", "lda", "ldb", "ldc")
        return dict(zip(names, (int(how.swapped), *flags, how.m, how.n, how.k, *how.leading), strict=True))


def suits(graph: Graph) -> bool:
    """Whether machine code is the faster target: not where the largest product is one of a matrix and a vector.

    NumPy gives these to BLAS's gemv, and what is called here, gemm, takes twice as long.
    """
    products = [node for node in graph.nodes if node.operation == "matmul"]
    if not products:
        return True
    largest = max(products, key=lambda node: math.prod(node.matrix_shape) * node.nodes[0].matrix_shape[1])
    return 1 not in largest.shape or not is_call(Product(largest, *largest.nodes))


def lowered(graph: Graph) -> Graph:
    """The graph as a CPU computes it."""
    graph = sums_over_all_in_parts(sums_over_columns_as_products(graph), lambda _: 1)
    return outputs_of_their_own(graph)


def _getter(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What takes these places of a sequence."""
    return itemgetter(*places) if len(places) > 1 else lambda given: [given[i] for i in places]
