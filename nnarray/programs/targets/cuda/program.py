"""Recorded equations as a list of kernels and products, ready to be run."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np

from nnarray.programs.memory import Memory
from nnarray.programs.products import Gemm, gemm
from nnarray.programs.recording import Recording, Value
from nnarray.programs.schedule import Fusion, Launch, Product, matrix_shape
from nnarray.programs.targets.cuda.source import THREADS, Columns, Kernel, Number, Pointer, Stop, Stride

Table = list[Any]
"""Of one run: where everything lies, strides, numbers. A parameter is a slot of it."""

Step = Callable[[Table], None]


class Device(Protocol):
    """What runs a program: CuPy on a GPU."""

    def place(self, x: Any) -> tuple[int, tuple[int, ...]]:
        """Where an array's first entry lies, and the array's strides in bytes."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array, not filled; raises MemoryError where there is no room for it."""

    def ones(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of ones, in C order, that nobody writes to."""

    def kernel(self, source: str, name: str) -> Callable[[int, int, tuple[Any, ...]], None]:
        """The kernel of that name: called with the number of blocks, of threads in a block, and the arguments."""

    def product(self, dtype: str, operands: str) -> Callable[[Gemm, int, int, int], None]:
        """Products of matrices in `dtype` of operands in the float `operands`: called with where A, B and C begin."""


class Slots(NamedTuple):
    """Of a caller's array: where it lies, and its strides in entries."""

    pointer: int
    rows: int
    columns: int


class Program:
    """What was recorded, as kernels and products; every value between them lies in one arena, allocated for each run.

    Called with the inputs and the outputs in the order in which they were named, it fills the outputs and returns what
    `returns` stands for, an array without axes. It waits for nothing: all is queued on the device. `operands` is the
    float in which products take their operands: the recording's own, or "tf32", "bfloat16" or "float16". Raises
    MemoryError, before anything is queued, where there is no room for the arena.

    With `numbers_on_device`, kernels load what `numbers` returns from device memory, where `run` says that it lies, so
    that numbers may change from one replay of a captured run to the next.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        device: Device,
        returns: Value | None = None,
        outputs: Mapping[str, Value],
        operands: str | None = None,
        numbers_on_device: bool = False,
    ) -> None:
        self.device, self.dtype, self._returns = device, recording.dtype, returns is not None
        self.numbers_on_device = numbers_on_device
        operands = operands or self.dtype.name
        narrow = operands if operands in {"bfloat16", "float16"} else ""
        named = dict(outputs) if returns is None else {**outputs, "J": returns}
        self.fusion = Fusion(recording, named, narrow_operands=bool(narrow))
        self.memory = Memory(self.fusion)
        inputs = {x: x.name for x in recording.inputs if isinstance(x, Value)}
        self._outside = inputs | self.memory.outputs
        launches = [step for step in self.fusion.steps if isinstance(step, Launch)]
        self.kernels = [
            Kernel(step, self.fusion, self._outside, f"launch_{i}", narrow, numbers_on_device=numbers_on_device)
            for i, step in enumerate(launches)
        ]
        self.source = f"typedef {'double' if self.dtype == np.float64 else 'float'} T;\n\n"
        self.source += "\n".join(kernel.source for kernel in self.kernels)
        jobs = [job for launch in launches for job in launch.jobs]
        self.works_in_place = [job.kind for job in jobs] == ["entries"] and len(self.fusion.steps) == 1
        """whether every entry is read by the thread that writes over it, and by no other"""
        self._fixed: Table = []
        self._slots: dict[Any, int] = {}
        self._ones = {value: device.ones(value.shape, value.dtype) for value in self._constants_of(recording)}
        kernels, product = iter(self.kernels), device.product(self.dtype.name, operands)
        self._steps = [
            self._bound_launch(next(kernels)) if isinstance(step, Launch) else self._bound_product(step, product)
            for step in self.fusion.steps
        ]
        self._array_slots = [self._slots_of(name) for name in (*inputs.values(), *named)]
        self._arena_slots = [(self._slot(value), offset) for value, offset in self.memory.offsets.items()]
        self._is_array = [isinstance(x, Value) for x in recording.inputs] + [True] * len(named)
        scalars = ", ".join(x.expression for x in recording.inputs if not isinstance(x, Value))
        expressions = [key.expression for key in self._slots if isinstance(key, Number)]
        self.number_slots = [self._slots[Number(expression)] for expression in expressions]
        self.scalars = self._is_array.count(False)
        self._numbers = eval(f"lambda {scalars}: ({''.join(f'{e}, ' for e in expressions)})")

    def numbers(self, *scalars: float) -> tuple[float, ...]:
        """What kernels need of the numbers that a run is given."""
        return tuple(map(float, self._numbers(*scalars)))

    def __call__(self, *given: Any) -> Any:
        """Queue a run on these arrays and numbers."""
        return self.run(given, [])

    def run(self, given: Sequence[Any], kept: list[Any], numbers_at: int = 0) -> Any:
        """Queue a run; `kept` collects the memory that it takes. Numbers on the device are at `numbers_at`."""
        J = [self.device.empty((), self.dtype)] if self._returns else []
        table = self._fixed.copy()
        if self.memory.size:
            arena = self.device.empty((self.memory.size,), np.uint8)
            kept.append(arena)
            begin, _ = self.device.place(arena)
            for slot, offset in self._arena_slots:
                table[slot] = begin + offset
        given = (*given, *J)
        arrays = [x for x, is_array in zip(given, self._is_array, strict=True) if is_array]
        for x, slots in zip(arrays, self._array_slots, strict=True):
            table[slots.pointer], strides = self.device.place(x)
            table[slots.rows], table[slots.columns] = _entries(strides, x.itemsize)
        scalars = [x for x, is_array in zip(given, self._is_array, strict=True) if not is_array]
        if self.numbers_on_device:
            for i, slot in enumerate(self.number_slots):
                table[slot] = numbers_at + i * 8
        else:
            for slot, number in zip(self.number_slots, self.numbers(*scalars), strict=True):
                table[slot] = number
        for step in self._steps:
            step(table)
        return J[0] if J else None

    def _constants_of(self, recording: Recording) -> list[Value]:
        """The ones that products take."""
        bases = [o.base for step in self.fusion.steps if isinstance(step, Product) for o in (step.A, step.B)]
        return [value for value in dict.fromkeys(bases) if value.name in recording.constants]

    def _bound_launch(self, kernel: Kernel) -> Step:
        ends, columns = list[int](), list[int]()
        for job, blocks in zip(kernel.jobs, kernel.blocks, strict=True):
            ends.append((ends[-1] if ends else 0) + blocks)
            columns.append(job.shape[0] if job.order == "C" and job.kind != "columns" else job.shape[1])
        fixed = {Stop(i): end for i, end in enumerate(ends)} | {Columns(i): n for i, n in enumerate(columns)}
        slots = [self._fixed_slot(fixed[p]) if p in fixed else self._slot(p) for p in kernel.parameters]
        run, arguments = self.device.kernel(self.source, kernel.name), _getter(slots)

        def launch(table: Table) -> None:
            run(ends[-1], THREADS, arguments(table))

        return launch

    def _bound_product(self, step: Product, product: Callable[[Gemm, int, int, int], None]) -> Step:
        shapes = matrix_shape(step.A), matrix_shape(step.B)
        places = [self._place_of(value) for value in (step.A, step.B, step.value)]
        pointers, strides = _getter([pointer for pointer, _ in places]), [_getter(slots) for _, slots in places]

        def multiply(table: Table) -> None:
            how = gemm(shapes, *(of(table) for of in strides))
            A, B, C = pointers(table)
            product(how, *((B, A) if how.swapped else (A, B)), C)

        return multiply

    def _place_of(self, value: Value) -> tuple[int, list[int]]:
        """The slots of where a value begins and of its strides in entries."""
        base, (rows, columns) = value.base, matrix_shape(value.base)
        if base in self._outside:
            slots = self._slots_of(self._outside[base])
            pointer, strides = slots.pointer, [slots.rows, slots.columns]
        else:
            by_columns = self.fusion.order(base) == "F" and base not in self._ones
            pointer = self._slot(base)
            strides = [self._fixed_slot(n) for n in ((1, rows) if by_columns else (columns, 1))]
        return pointer, strides if base is value else strides[::-1]

    def _slots_of(self, name: str) -> Slots:
        return Slots(*(self._slot((name, what)) for what in Slots._fields))

    def _slot(self, key: Any) -> int:
        """The slot of a parameter, of a value in the arena or of a property of a caller's array."""
        if isinstance(key, Pointer | Stride) and key.value in self._outside:
            slots = self._slots_of(self._outside[key.value])
            return slots[0] if isinstance(key, Pointer) else slots[1 + key.axis]
        if isinstance(key, Pointer):
            key = key.value
        if key in self._ones:
            return self._fixed_slot(self.device.place(self._ones[key])[0])
        return self._new_slot(key, None)

    def _fixed_slot(self, number: int) -> int:
        return self._new_slot(("fixed", number), number)

    def _new_slot(self, key: Any, content: Any) -> int:
        if key not in self._slots:
            self._slots[key] = len(self._fixed)
            self._fixed.append(content)
        return self._slots[key]


def _entries(strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Strides in entries along rows and columns; a vector is a row."""
    rows, columns = (0, 0, *strides)[-2:]
    return rows // itemsize, columns // itemsize


def _getter(slots: list[int]) -> Callable[[Table], tuple[Any, ...]]:
    return itemgetter(*slots) if len(slots) > 1 else lambda table: tuple(table[slot] for slot in slots)
