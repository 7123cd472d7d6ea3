"""Which recorded calls a GPU does in one go.

A product of matrices is a call of cuBLAS. What lies between two products becomes one launch of one kernel. A value is
stored where a product or the caller reads it; any other is computed in registers, by each kernel that needs it, from
what is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nnarray.programs.recording import Call, Recording, Value, needed

PARTIAL_SUMS = "partial sums"
"""The call that adds an array up into a few numbers, each the work of one warp."""

FEW, MANY, LARGE = 32, 1024, 2**15
"""How many numbers these are: few, or many for an array that has a large number of entries."""


DEEPEST = 64
"""Calls that follow from one another in registers; the value of the last is stored then."""

MOST_VALUES = 32
"""In a launch, so that its parameters fit into the 4096 bytes that every driver takes."""


class Product(NamedTuple):
    """value = A B, where A and B may be transposed."""

    value: Value
    A: Value
    B: Value


class Job(NamedTuple):
    """Values that are computed together: entry by entry, column by column, or as partial sums."""

    kind: str
    """"entries", "columns" or "sums" """
    shape: tuple[int, int]
    """rows and columns of what is gone over"""
    order: str
    """"F" or "C", in which the entries are gone over"""
    values: list[Value]


class Launch(NamedTuple):
    """Jobs of which none waits for another."""

    jobs: list[Job]


Step = Product | Launch


def matrix_shape(value: Value) -> tuple[int, int]:
    """The shape as that of a matrix: a number is 1 × 1, a vector is a row."""
    rows, columns = (1, 1, *value.shape)[-2:]
    return rows, columns


class Fusion:
    """The steps that make the `outputs`, given by name, out of what was recorded.

    With `narrow_operands`, what products take is stored in a narrower float: `narrow` says which values are.
    """

    def __init__(self, recording: Recording, outputs: Mapping[str, Value], *, narrow_operands: bool = False) -> None:
        self.narrow: set[Value] = set()
        self.makers: dict[Value, Call] = {}
        self._orders: dict[Value, str] = {}
        self._ends: set[Value] = set()
        """of chains that were cut; each has a job to itself"""
        for call in needed(recording.calls, {value.base for value in outputs.values()}):
            self._add_lowered(call)
        self.outputs = self._named_once(outputs)
        if narrow_operands:
            self._narrow_operands()
        for value in self.makers:  # from the first on, so that none is far from one whose order is known
            self.order(value)
        self.stored = self._stored()
        self.steps = list(self._steps())

    def is_loaded(self, value: Value, inside: Sequence[Value]) -> bool:
        """Whether a job that computes the values `inside` loads this one from memory."""
        return value not in self.makers or (value in self.stored and value not in inside)

    def leaves(self, value: Value, inside: Sequence[Value]) -> list[Value]:
        """What a job that computes the values `inside` loads for this one of them."""
        found, seen = dict[Value, None](), {value}

        def look_below(value: Value) -> None:
            for operand in self.makers[value].bases:
                if self.is_loaded(operand, inside):
                    found[operand] = None
                elif operand not in seen:
                    seen.add(operand)
                    look_below(operand)

        look_below(value)
        return list(found)

    def reductions(self, value: Value, inside: Sequence[Value]) -> list[Value]:
        """The sums and maxima over rows that such a job computes for this value, each after those that it needs."""
        found, seen = list[Value](), set[Value]()

        def look_below(value: Value) -> None:
            if value in seen or self.is_loaded(value, inside):
                return
            seen.add(value)
            for operand in self.makers[value].bases:
                look_below(operand)
            if self.makers[value].function.endswith(".reduce"):
                found.append(value)

        look_below(value)
        return found

    def order(self, value: Value) -> str:
        """Which neighbours lie together: a product takes after its right side, others after their operands."""
        if value not in self._orders:
            self._orders[value] = self._found_order(value)
        return self._orders[value]

    def reads(self, step: Step) -> list[Value]:
        """What the step finds in memory."""
        if isinstance(step, Product):
            return [step.A.base, step.B.base]
        return [leaf for job in step.jobs for value in job.values for leaf in self.leaves(value, job.values)]

    def _found_order(self, value: Value) -> str:
        if value.base is not value:
            return "C" if self.order(value.base) == "F" else "F"
        call = self.makers.get(value)
        if call is None:
            return value.order
        if call.function == "matmul":
            return self.order(call.operands[1])
        alike = [base for base in call.bases if base.shape == value.shape]
        return "C" if any(self.order(base) == "C" for base in alike) else "F"

    def _add(self, function: str, operands: Sequence[Value], value: Value) -> Value:
        self.makers[value] = Call(function, operands, value)
        return value

    def _add_lowered(self, call: Call) -> None:
        """The call as the GPU makes it: a sum over everything is one of partial sums."""
        if call.function != "matmul" and any(o.base is not o for o in call.operands if isinstance(o, Value)):
            msg = f"{call.function} of a transposed value cannot be fused"
            raise ValueError(msg)
        if call.function.endswith(".reduce") and call.operands[1] == 1:
            msg = "a sum over columns cannot be fused; it is a product with ones"
            raise ValueError(msg)
        if not call.is_sum:
            self.makers[call.value] = call
            return
        V = call.operands[0]
        rows, columns = matrix_shape(V)
        partial = Value(V.recording, (MANY if rows * columns >= LARGE else FEW, 1), V.dtype)
        self._add(PARTIAL_SUMS, [V], partial)
        self.makers[call.value] = Call("add.reduce", (partial, 0, True), call.value)

    def _named_once(self, outputs: Mapping[str, Value]) -> dict[str, Value]:
        """The outputs; one that is an input or another output, too, is a copy."""
        named: dict[str, Value] = {}
        for name, value in outputs.items():
            has_place = value not in self.makers or value in named.values()
            named[name] = self._copy(value) if has_place else value
        return named

    def _copy(self, value: Value) -> Value:
        return self._add("copyto", [value], Value(value.recording, value.shape, value.dtype))

    def _narrow_operands(self) -> None:
        """Let products read the narrower float: values of kernels are stored so, of others there are copies."""
        calls, copies = list(self.makers.values()), dict[Value, Value]()
        self.makers = {}
        outputs = set(self.outputs.values())
        for call in calls:
            if call.function != "matmul":
                self.makers[call.value] = call
                continue
            operands = []
            for operand in call.operands:
                base = operand.base
                of_kernel = base in self.makers and self.makers[base].function != "matmul" and base not in outputs
                if not of_kernel and base not in copies:
                    copies[base] = self._copy(base)
                narrow = base if of_kernel else copies[base]
                self.narrow.add(narrow)
                operands.append(narrow if operand is base else narrow.T)
            self._add("matmul", operands, call.value)

    def _stored(self) -> set[Value]:
        """What products and sums make, what they and the caller read, but what a sum can compute as it goes.

        And what would be the end of too long a chain.
        """
        in_memory, by_columns = ("matmul", PARTIAL_SUMS), self._by_columns()
        stored = set(self.outputs.values())
        for value, call in self.makers.items():
            if call.function in in_memory:
                stored.add(value)
                made = [base for base in call.bases if base in self.makers]
                stored.update(base for base in made if call.function == "matmul" or base in by_columns)
        depths: dict[Value, int] = {}
        for value, call in self.makers.items():
            computed = [depths[base] for base in call.bases if base in depths and base not in stored]
            depths[value] = 1 + max(computed, default=0)
            if depths[value] == DEEPEST:
                self._ends.add(value)
                stored.add(value)
        return stored

    def _by_columns(self) -> set[Value]:
        """The values into which sums or maxima over rows enter; asked before it is known what is stored."""
        found: set[Value] = set()
        for value, call in self.makers.items():
            is_computed = call.function not in {"matmul", PARTIAL_SUMS}
            if is_computed and (call.function.endswith(".reduce") or not found.isdisjoint(call.bases)):
                found.add(value)
        return found

    def _steps(self) -> Iterator[Step]:
        """Products in the order in which they were recorded, each after launches of what it needs."""
        done: set[Value] = set()
        waiting: list[Value] = []
        for value, call in self.makers.items():
            if call.function == "matmul":
                while any(operand.base in waiting for operand in call.operands):
                    yield self._launch(waiting, done)
                done.add(value)
                yield Product(value, *call.operands)
            elif value in self.stored:
                waiting.append(value)
        while waiting:
            yield self._launch(waiting, done)

    def _launch(self, waiting: list[Value], done: set[Value]) -> Launch:
        """All that can be computed now; it is done then, and waits no longer."""
        jobs: dict[object, Job] = {}
        for value in waiting:
            if sum(len(job.values) for job in jobs.values()) == MOST_VALUES:
                break
            key, job = self._job_for(value)
            job = jobs.get(key, job)
            together = [*job.values, value]
            if all(leaf in done or leaf not in self.makers for leaf in self.leaves(value, together)):
                job.values.append(value)
                jobs[key] = job
        if not jobs:
            msg = "none of the values that wait can be computed"
            raise RuntimeError(msg)
        launched = [value for job in jobs.values() for value in job.values]
        done.update(launched)
        waiting[:] = [value for value in waiting if value not in launched]
        return Launch(list(jobs.values()))

    def _job_for(self, value: Value) -> tuple[object, Job]:
        """An empty job of the value's kind, and what is the same for values that may share one."""
        call, shape, order = self.makers[value], matrix_shape(value), self.order(value)
        if call.function == PARTIAL_SUMS:
            V = call.operands[0]
            return value, Job("sums", matrix_shape(V), self.order(V), [])
        alone = value if value in self._ends else None
        if self.reductions(value, [value]):
            return (alone, "columns", shape[1]), Job("columns", shape, "F", [])
        return (alone, shape, order), Job("entries", shape, order, [])
