"""A graph as kernels and products, queued on a device."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nnarray.programs.graph import Graph, Input, Node, Rectified
from nnarray.programs.memory import Memory
from nnarray.programs.products import Gemm, StridesError, gemm, strides_in_entries
from nnarray.programs.schedule import Product, Stage
from nnarray.programs.targets.arguments import taking
from nnarray.programs.targets.cuda.device import Device, RectifiedProducts
from nnarray.programs.targets.cuda.kernel import Kernel
from nnarray.programs.targets.cuda.loops import THREADS, VECTOR_BYTES
from nnarray.programs.targets.cuda.parameters import Columns, Number, Parts, Pointer, Stop, Stride, Warps
from nnarray.programs.targets.cuda.planning import NARROW, planned
from nnarray.programs.targets.scalars import function_of

Table = list[Any]
"""Of one run: where everything lies, strides, numbers. A parameter is a slot of it."""

Call = Callable[[Table], None]


class Taken(NamedTuple):
    """The memory that a run takes."""

    result: Any
    """an array of one entry; None of a graph without a result"""
    arena: Any
    """of the nodes in between; None where there are none"""
    numbers: Any
    """of which kernels load the numbers; None where they are given them"""


class Slots(NamedTuple):
    """Of a caller's array: where it lies, and its strides in entries."""

    pointer: int
    rows: int
    columns: int


class Program:
    """The graph as kernels and products; every node between them lies in one arena, allocated for each run.

    Called with its inputs and outputs in the graph's order, it fills the outputs and returns the result. Nothing is
    waited for: all is queued on the device. `operands` is the float in which products take their operands: that of the
    graph, or "tf32", "bfloat16" or "float16". Raises MemoryError, before anything is queued, where there is no room for
    the arena.

    With `numbers_on_device`, kernels load what `numbers` returns from device memory, where `set_numbers` stores it or
    where `run` says that it lies, so that numbers may change from one replay of a captured run to the next. Products
    add b and rectify if it `rectifies` and the device has such; `suited` says for which arrays.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        device: Device,
        operands: str | None = None,
        numbers_on_device: bool = False,
        in_registers: bool = True,
        rectifies: bool = True,
    ) -> None:
        self.device, self.dtype, self.numbers_on_device = device, graph.dtype, numbers_on_device
        self._in_registers = in_registers
        self._traced, operands = (graph, operands), operands or self.dtype.name
        narrow = operands if operands in NARROW else ""
        rectified = device.rectified(self.dtype.name, operands) if rectifies else None
        narrow_rectified = device.rectified(narrow, operands) if narrow and rectified else rectified
        self._rectifies = rectified is not None and narrow_rectified is not None
        self.plan = planned(graph, operands, in_registers=in_registers, rectifies=self._rectifies)
        self.memory, self.works_in_place = Memory(self.plan), self.plan.works_in_place
        self.graph = self.plan.graph
        inputs = {x: x.name for x in graph.arrays}
        self._outside = inputs | self.memory.outputs
        loops = [stage for stage in self.plan.stages if not isinstance(stage, Product)]
        self.kernels = [
            Kernel(stage, self.plan, self._outside, f"launch_{i}", narrow, numbers_on_device=numbers_on_device)
            for i, stage in enumerate(loops)
        ]
        self.source = f"typedef {'double' if self.dtype == np.float64 else 'float'} T;\n\n"
        self.source += "\n".join(kernel.source for kernel in self.kernels)
        numbers = list(dict.fromkeys([p for k in self.kernels for p in k.parameters if isinstance(p, Number)]))
        self._stores_numbers = numbers_on_device and bool(numbers)
        self.source += storing_source(len(numbers)) if self._stores_numbers else ""
        held = {node for kernel in self.kernels for node in kernel.by_columns}
        copied = {V for node in self.graph.narrow if node.operation == "copy" for V in node.nodes}
        self._held = [i for i, x in enumerate(graph.arrays) if x in held]
        self._narrowed = [i for i, x in enumerate(graph.arrays) if x in copied and x.per_example]
        self._has_short_strides = any([kernel.by_blocks for kernel in self.kernels])
        self._fixed: Table = []
        self._ones: dict[Node, Any] = {}
        self._slots: dict[Any, int] = {}
        product = device.product(self.dtype.name, operands)
        narrow_product = device.product(narrow, operands) if narrow else product
        self._products = {False: (product, rectified), True: (narrow_product, narrow_rectified)}
        """by whether they store a narrow float"""
        self._asks: list[Callable[[Table], bool | None]] = []
        """whether there is each product that rectifies, in memory that is as in the table"""
        kernels = iter(self.kernels)
        self._calls = [self._bound(stage, kernels) for stage in self.plan.stages]
        names = [*inputs.values(), *graph.outputs]
        self._array_slots = [self._slots_of(name) for name in names]
        rectified_of = [V for node in self.graph.nodes if isinstance(node, Rectified) for V in (node, *node.reads)]
        self._rectified_arrays = [names.index(self._outside[V]) for V in rectified_of if V in self._outside]
        self._answers: dict[Any, bool] = {}
        self._arena_slots = [(self._slot(node), offset) for node, offset in self.memory.offsets.items()]
        self._is_array = [isinstance(x, Input) for x in graph.inputs] + [True] * len(graph.outputs)
        self.number_slots = [self._slots[number] for number in numbers]
        self.scalars = len(graph.scalars)
        self._numbers = function_of(graph.scalars, [number.scalar for number in numbers])
        if self._stores_numbers:
            self._store_numbers = device.kernel(self.source, "store_numbers", "q" + "d" * len(numbers))

    def numbers(self, *scalars: float) -> tuple[float, ...]:
        """What kernels need of the numbers that a run is given."""
        return tuple(map(float, self._numbers(*scalars)))

    def __call__(self, *given: Any) -> Any:
        """Queue a run on these arrays and numbers."""
        program = self.suited(given)
        taken = program.allocated()
        program.set_numbers(taken, self.scalars_of(given))
        return program.run(given, taken)

    def allocated(self, arena: Any = None) -> Taken:
        """Memory for a run, or for runs of which each is over before the next one begins; the arena may be there."""
        result = None if self.graph.result is None else self.device.empty((), self.dtype)
        if arena is None and self.memory.size:
            arena = self.device.empty((self.memory.size,), np.uint8)
        numbers = self.device.empty((len(self.number_slots),), np.float64) if self._stores_numbers else None
        return Taken(result, arena, numbers)

    def scalars_of(self, given: Sequence[Any]) -> tuple[Any, ...]:
        """The numbers among what a run is given."""
        return tuple([x for x, is_array in zip(given, self._is_array, strict=False) if not is_array])

    def set_numbers(self, taken: Taken, scalars: Sequence[float]) -> None:
        """Queue that these are the numbers of the next runs in this memory, if kernels load them."""
        if taken.numbers is not None:
            self._store_numbers(1, 1, (self.device.place(taken.numbers)[0], *self.numbers(*scalars)))

    def run(self, given: Sequence[Any], taken: Taken, numbers_at: int | None = None) -> Any:
        """Queue a run in this memory, which has to live until it is over. Numbers may be elsewhere, at `numbers_at`."""
        table = self._table(given, taken)
        if self._stores_numbers:
            begin = self.device.place(taken.numbers)[0] if numbers_at is None else numbers_at
            for i, slot in enumerate(self.number_slots):
                table[slot] = begin + i * 8
        else:
            for slot, number in zip(self.number_slots, self.numbers(*self.scalars_of(given)), strict=True):
                table[slot] = number
        for call in self._calls:
            call(table)
        return taken.result

    def _table(self, given: Sequence[Any], taken: Taken) -> Table:
        """Where everything lies, without the numbers."""
        table = self._fixed.copy()
        if taken.arena is not None:
            begin, _ = self.device.place(taken.arena)
            for slot, offset in self._arena_slots:
                table[slot] = begin + offset
        given = given if taken.result is None else (*given, taken.result)
        for x, slots in zip(self._arrays_of(given), self._array_slots, strict=True):
            table[slots.pointer], strides = self.device.place(x)
            table[slots.rows], table[slots.columns] = strides_in_entries(strides, x.itemsize)
        return table

    def _arrays_of(self, given: Sequence[Any]) -> list[Any]:
        return [x for x, is_array in zip(given, self._is_array, strict=False) if is_array]

    def suited(self, given: Sequence[Any]) -> "Program":
        """The program for arrays that lie as these do. Outputs may be written over; MemoryError as in a run."""
        if not (self._held or self._narrowed or self._asks):
            return self
        arrays = self._arrays_of(given)
        is_far = self._has_short_strides and any([_is_far(x) for x in arrays])
        if is_far or any([_is_by_rows(arrays[i]) for i in self._held]):
            return self._without_registers.suited(given)
        program = self._narrowing_rows if any([_is_by_rows(arrays[i]) for i in self._narrowed]) else self
        return program if program._can_rectify(given) else program._without_rectifying

    def _can_rectify(self, given: Sequence[Any]) -> bool:
        """Whether the device has all products that rectify, for arrays that lie so; asked once.

        What it depends on is the device, strides, and how far each array is aligned.
        """
        if not self._asks:
            return True
        arrays = self._arrays_of(given)
        places = [self.device.place(arrays[i]) for i in self._rectified_arrays]
        key = self.device.number(), *[(at % VECTOR_BYTES, strides) for at, strides in places]
        if key not in self._answers:
            taken = self.allocated()  # until all are asked
            table = self._table(given, taken)
            answers = [ask(table) for ask in self._asks]
            del taken
            if None in answers:
                return False
            self._answers[key] = all(answers)
        return self._answers[key]

    @cached_property
    def _without_registers(self) -> "Program":
        """The program that holds no column in registers, for such whose entries are not side by side."""
        return self._changed(self._traced[0], in_registers=False)

    @cached_property
    def _narrowing_rows(self) -> "Program":
        """The program for examples whose rows have their entries side by side, an order that narrowed copies keep."""
        graph, _ = self._traced
        return self._changed(graph.by_rows([graph.arrays[i] for i in self._narrowed]))

    @cached_property
    def _without_rectifying(self) -> "Program":
        """The program that adds b and rectifies in loops, for what the device has no products that do."""
        return self._changed(self._traced[0], rectifies=False)

    def _changed(self, graph: Graph, **changes: bool) -> "Program":
        options = {"numbers_on_device": self.numbers_on_device, "in_registers": self._in_registers} | changes
        return Program(graph, device=self.device, operands=self._traced[1], **options)

    def _bound(self, stage: Stage, kernels: Iterator[Kernel]) -> Call:
        if not isinstance(stage, Product):
            return self._bound_launch(next(kernels))
        product, rectified = self._products[stage.node in self.graph.narrow]
        return self._bound_product(stage, product) if stage.bias is None else self._bound_rectified(stage, rectified)

    def _bound_launch(self, kernel: Kernel) -> Call:
        ends, columns = list[int](), list[int]()
        fixed: dict[Any, int]
        for loop, blocks in zip(kernel.loops, kernel.blocks, strict=True):
            ends.append((ends[-1] if ends else 0) + blocks)
            columns.append(loop.shape[0] if loop.order == "C" and loop.kind != "columns" else loop.shape[1])
        fixed = {Stop(i): end for i, end in enumerate(ends)} | {Columns(i): n for i, n in enumerate(columns)}
        fixed |= {Warps(i): n for i, n in enumerate(kernel.warps)}
        fixed |= {p: p.partial.parts for p in kernel.parameters if isinstance(p, Parts)}
        slots = [self._fixed_slot(fixed[p]) if p in fixed else self._slot(p) for p in kernel.parameters]
        run, arguments = self.device.kernel(self.source, kernel.name, kernel.layout), taking(slots)

        def launch(table: Table) -> None:
            run(ends[-1], THREADS, arguments(table))

        return launch

    def _bound_product(self, stage: Product, product: Callable[[Gemm, int, int, int], None]) -> Call:
        shapes = stage.A.matrix_shape, stage.B.matrix_shape
        places = [self._place_of(node) for node in (stage.A, stage.B, stage.node)]
        pointers, strides = taking([pointer for pointer, _ in places]), [taking(slots) for _, slots in places]

        def multiply(table: Table) -> None:
            how = gemm(shapes, *(of(table) for of in strides))
            A, B, C = pointers(table)
            product(how, *((B, A) if how.swapped else (A, B)), C)

        return multiply

    def _bound_rectified(self, stage: Product, product: RectifiedProducts | None) -> Call:
        assert product is not None
        shapes = stage.A.matrix_shape, stage.B.matrix_shape
        places = [self._place_of(node) for node in (stage.A, stage.B, stage.node, *stage.node.nodes[2:])]
        pointers, strides = taking([pointer for pointer, _ in places]), [taking(slots) for _, slots in places]

        def ask(table: Table) -> bool | None:
            *matrices, (down, _) = [of(table) for of in strides]
            try:
                how = gemm(shapes, *matrices)
            except StridesError:
                return False
            A, B, C, b = pointers(table)
            return False if how.swapped or down != 1 else product.suits(how, A, B, b, C)

        def multiply(table: Table) -> None:
            A, B, C, b = pointers(table)
            product(gemm(shapes, *[of(table) for of in strides[:3]]), A, B, b, C)

        self._asks.append(ask)
        return multiply

    def _place_of(self, node: Node) -> tuple[int, list[int]]:
        """The slots of where a node begins and of its strides in entries."""
        base, (rows, columns) = node.base, node.base.matrix_shape
        if base in self._outside:
            slots = self._slots_of(self._outside[base])
            pointer, strides = slots.pointer, [slots.rows, slots.columns]
        else:
            by_columns = self.plan.order(base) == "F" and base.operation != "ones"
            pointer = self._slot(base)
            strides = [self._fixed_slot(n) for n in ((1, rows) if by_columns else (columns, 1))]
        return pointer, strides if base is node else strides[::-1]

    def _slots_of(self, name: str) -> Slots:
        return Slots(*(self._slot((name, what)) for what in Slots._fields))

    def _slot(self, key: Any) -> int:
        """The slot of a parameter, of a node in the arena or of a property of a caller's array."""
        if isinstance(key, Pointer | Stride) and key.node in self._outside:
            slots = self._slots_of(self._outside[key.node])
            return slots[0] if isinstance(key, Pointer) else slots[1 + key.axis]
        if isinstance(key, Pointer):
            key = key.node
        if isinstance(key, Node) and key.operation == "ones":
            if key not in self._ones:
                self._ones[key] = self.device.ones(key.shape, key.dtype)
            return self._fixed_slot(self.device.place(self._ones[key])[0])
        return self._new_slot(key, None)

    def _fixed_slot(self, number: int) -> int:
        return self._new_slot(("fixed", number), number)

    def _new_slot(self, key: Any, content: Any) -> int:
        if key not in self._slots:
            self._slots[key] = len(self._fixed)
            self._fixed.append(content)
        return self._slots[key]


def storing_source(count: int) -> str:
    """The kernel that stores so many numbers, which it is given, on the device."""
    fields = "".join(f" double number{i};" for i in range(count))
    lines = "".join(f"    given.place[{i}] = given.number{i};\n" for i in range(count))
    struct = f"struct store_numbers_given {{ double* place;{fields} }};\n"
    return f'\n{struct}extern "C" __global__ void store_numbers(const store_numbers_given given) {{\n{lines}}}\n'


def _is_by_rows(x: Any) -> bool:
    """Whether neighbouring threads would load entries of a column that lie far apart."""
    return bool(abs(x.strides[0]) > abs(x.strides[1]))


def _is_far(x: Any) -> bool:
    """Whether 32 bits do not hold the strides."""
    return max(map(abs, x.strides), default=0) >= 2**31
