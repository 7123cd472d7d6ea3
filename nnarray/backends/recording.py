"""Equations written down once for given shapes, then replayed on NumPy without making an array.

Core's functions run on `Value`s, which stand for arrays and note what is asked of them, so recording has no formula of
its own. What comes out is the source of a Python function: NumPy calls one after the other, each into a buffer made
beforehand. The same call on the same values is made once, a buffer whose value nobody needs any more is used again, and
an elementwise call works in place where it can. The numbers are those of the calls as core makes them, bit for bit.

`Program.source` is the function's text:

>>> recording = Recording("float32")
>>> Z = recording.input("Z", (3, 8))
>>> print(recording.program(outputs={"A": recording.maximum(Z, 0.0) * 2.0 + 1.0}).source)
def replay(Z, A):
    maximum(Z, zeros_8, out=v0)
    multiply(v0, 2.0, v0)
    add(v0, 1.0, A)
"""

from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Operand = Any
"""a Value, a Scalar or a Python number"""

ELEMENTWISE = frozenset(
    "abs add divide exp greater greater_equal log log1p maximum multiply negative sqrt subtract tanh".split()  # noqa: SIM905
)
COMPARISONS = frozenset({"greater", "greater_equal"})

NUMPY_FUNCTIONS = {name: getattr(np, name) for name in (*ELEMENTWISE, "copyto", "matmul")}

ALIGNMENT = 64
"""Bytes; a cache line."""


class Value:
    """An array to be: its shape and dtype, and operators that note what is asked of them.

    `name` is what the source calls it. A transposed value is another look at the memory of its `base`.
    """

    def __init__(
        self, recording: "Recording", shape: Shape, dtype: Any, name: str = "", base: "Value | None" = None
    ) -> None:
        self.recording, self.shape, self.dtype = recording, shape, np.dtype(dtype)
        self.name, self.base = name, base or self

    @property
    def expression(self) -> str:
        """The value in the source."""
        return self.name if self.base is self else f"{self.base.name}.T"

    @property
    def T(self) -> "Value":
        """The transpose, in the same memory."""
        return self.recording.transpose(self)

    def __add__(self, other: Operand) -> "Value":
        return self.recording.elementwise("add", self, other)

    def __radd__(self, other: Operand) -> "Value":
        return self.recording.elementwise("add", other, self)

    def __sub__(self, other: Operand) -> "Value":
        return self.recording.elementwise("subtract", self, other)

    def __rsub__(self, other: Operand) -> "Value":
        return self.recording.elementwise("subtract", other, self)

    def __mul__(self, other: Operand) -> "Value":
        return self.recording.elementwise("multiply", self, other)

    def __rmul__(self, other: Operand) -> "Value":
        return self.recording.elementwise("multiply", other, self)

    def __truediv__(self, other: Operand) -> "Value":
        return self if isinstance(other, int) and other == 1 else self.recording.elementwise("divide", self, other)

    def __neg__(self) -> "Value":
        return self.recording.elementwise("negative", self)

    def __gt__(self, other: Operand) -> "Value":
        return self.recording.elementwise("greater", self, other)

    def __ge__(self, other: Operand) -> "Value":
        return self.recording.elementwise("greater_equal", self, other)

    def __matmul__(self, other: "Value") -> "Value":
        return self.recording.call("matmul", (self, other), (self.shape[0], other.shape[1]), self.dtype)


class Scalar:
    """A Python number to be, given at each replay or computed from such: an expression of the source."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __rpow__(self, base: float) -> "Scalar":
        return Scalar(f"{base!r} ** {self.expression}")

    def __rsub__(self, other: float) -> "Scalar":
        return Scalar(f"({other!r} - {self.expression})")

    def __rmul__(self, other: float) -> "Scalar":
        return Scalar(f"({other!r} * {self.expression})")

    def __pow__(self, power: float) -> "Scalar":
        return Scalar(f"({self.expression}) ** {power!r}")

    def __truediv__(self, other: "Scalar") -> "Scalar":
        return Scalar(f"({self.expression} / {other.expression})")

    def __rtruediv__(self, other: float) -> "Scalar":
        return Scalar(f"({other!r} / {self.expression})")

    def __mul__(self, V: Value) -> Value:
        return V.recording.elementwise("multiply", self, V)


class Call:
    """One line of the source: a NumPy function, its operands and the value that it makes."""

    def __init__(self, function: str, operands: Sequence[Operand], value: Value) -> None:
        self.function, self.operands, self.value = function, operands, value

    @property
    def bases(self) -> list[Value]:
        """The values that it reads."""
        return [operand.base for operand in self.operands if isinstance(operand, Value)]

    @property
    def is_sum(self) -> bool:
        """Whether it adds all of an array up."""
        return self.function == "add.reduce" and self.value.shape == ()

    @property
    def works_in_place(self) -> bool:
        """Whether it may write over what it reads."""
        return self.function in ELEMENTWISE

    def line(self) -> str:
        """The call as source."""
        given = [o.expression if isinstance(o, Value | Scalar) else repr(o) for o in self.operands]
        out = self.value.name
        if self.function == "copyto":
            return f"copyto({out}, {given[0]})"
        if self.function.endswith(".reduce"):
            V, axis, keepdims = given
            return f"{self.function}({V}, {axis}, None, {out}, {keepdims})"
        if self.function == "maximum":  # whose third positional argument NumPy will give another meaning
            return f"maximum({', '.join(given)}, out={out})"
        return f"{self.function}({', '.join([*given, out])})"


class Recording:
    """The calls noted so far. As a namespace, it notes what core's functions ask of it."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.inputs: list[Value | Scalar] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.calls: list[Call] = []
        self._known: dict[Any, Value] = {}

    def input(self, name: str, shape: Shape) -> Value:
        """An array that is given at each replay."""
        value = Value(self, shape, self.dtype, name)
        self.inputs.append(value)
        return value

    def scalar(self, name: str) -> Scalar:
        """A Python number that is given at each replay."""
        self.inputs.append(Scalar(name))
        return Scalar(name)

    def constant(self, name: str, array: npt.NDArray[Any]) -> Value:
        """An array that is the same at each replay; one name always stands for the same array."""
        self.constants[name] = array
        return self._once(("constant", name), lambda: Value(self, array.shape, array.dtype, name))

    def ones(self, shape: Shape, *, dtype: Any) -> Value:
        """Ones."""
        return self.constant("ones_" + "_".join(map(str, shape)), np.ones(shape, dtype))

    def ones_like(self, V: Value) -> Value:
        """Ones in the shape of V."""
        return self.ones(V.shape, dtype=V.dtype)

    def call(self, function: str, operands: Sequence[Operand], shape: Shape, dtype: Any) -> Value:
        """The value of a call; one that was made before is not made again."""

        def make() -> Value:
            self.calls.append(Call(function, operands, Value(self, shape, dtype)))
            return self.calls[-1].value

        return self._once((function, *map(_key, operands), np.dtype(dtype)), make)

    def elementwise(self, function: str, *operands: Operand) -> Value:
        """A function of each entry; shapes broadcast."""
        values = [operand for operand in operands if isinstance(operand, Value)]
        shape = np.broadcast_shapes(*(value.shape for value in values))
        dtype = np.bool_ if function in COMPARISONS else np.result_type(*(value.dtype for value in values))
        return self.call(function, operands, shape, dtype)

    def maximum(self, V: Value, other: Operand) -> Value:
        """The larger of each pair; against a row of zeros NumPy is faster than against the number 0."""
        if isinstance(other, float) and other == 0.0 and V.shape[1:]:
            other = self.constant(f"zeros_{V.shape[-1]}", np.zeros(V.shape[-1], V.dtype))
        return self.elementwise("maximum", V, other)

    def sum(self, V: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """The sum over an axis, or over all."""
        return self._reduce("add", V, axis, keepdims)

    def max(self, V: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """The largest along an axis, or of all."""
        return self._reduce("maximum", V, axis, keepdims)

    def astype(self, V: Value, dtype: Any) -> Value:
        """V in another dtype, which a comparison can give at once."""
        maker = next((call for call in self.calls if call.value is V), None)
        if maker is not None and maker.function in COMPARISONS:
            return self.call(maker.function, maker.operands, V.shape, dtype)
        return self.call("copyto", (V,), V.shape, dtype)

    def transpose(self, V: Value) -> Value:
        """V's memory, seen the other way."""
        return self._once(("T", V), lambda: Value(self, V.shape[::-1], V.dtype, base=V.base))

    def __getattr__(self, name: str) -> Callable[[Operand], Value]:
        if name not in ELEMENTWISE:
            raise AttributeError(name)
        return lambda V: self.elementwise(name, V)

    def program(
        self,
        *,
        returns: Value | None = None,
        outputs: Mapping[str, Value] = MappingProxyType({}),
        over: Mapping[str, Value] = MappingProxyType({}),
    ) -> "Program":
        """What was recorded, ready to be replayed: it writes the `outputs`, given by name, and returns a number.

        `over` says of an output which input's memory it may be given. Raises ValueError where that input is still read
        after the output is written.
        """
        return Program(self, returns, outputs, over)

    def _reduce(self, function: str, V: Value, axis: int | None, keepdims: bool) -> Value:
        if axis is not None and V.shape[axis] == 1 and keepdims:
            return V
        kept = tuple(1 if axis in (None, i) else n for i, n in enumerate(V.shape))
        shape = kept if keepdims else tuple(n for i, n in enumerate(V.shape) if axis not in (None, i))
        return self.call(f"{function}.reduce", (V, axis, keepdims), shape, V.dtype)

    def _once(self, key: Any, make: Callable[[], Value]) -> Value:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


class Program:
    """Recorded calls with a name for every array in them.

    Called with the inputs and the outputs, in the order in which they were named, it fills the outputs and returns what
    `returns` stands for. Any number of threads may call it: each replay has buffers to itself.
    """

    def __init__(
        self, recording: Recording, returns: Value | None, outputs: Mapping[str, Value], over: Mapping[str, Value]
    ) -> None:
        calls = _needed(recording.calls, {value.base for value in (returns, *outputs.values()) if value is not None})
        self.constants, self._blocks, self._views = recording.constants, list[int](), dict[str, View]()
        made = {call.value for call in calls}
        for name, value in outputs.items():
            if value in made and not value.name and value is not returns:
                value.name = name
            else:  # it has a place already: copy it from there
                calls.append(Call("copyto", (value,), Value(recording, value.shape, value.dtype, name)))
        _check_order(calls, over)
        sums_last = any(call.value is returns and call.is_sum for call in calls)
        self._name_buffers(calls, returns if sums_last else None)
        lines = [_returning(call) if call.value is returns and sums_last else call.line() for call in calls]
        parameters = [given.name if isinstance(given, Value) else given.expression for given in recording.inputs]
        parameters += list(outputs)
        if returns is not None:
            lines.append("return result" if sums_last else f"return {returns.name}[()]")
        self.source = "\n    ".join([f"def replay({', '.join(parameters)}):", *lines])
        self._code = _compiled(self.source)
        self._idle: list[FunctionType] = []

    def __call__(self, *given: Any) -> Any:
        """Replay on these arrays and numbers."""
        try:
            replay = self._idle.pop()
        except IndexError:
            replay = self._with_buffers()
        result = replay(*given)
        self._idle.append(replay)
        return result

    @property
    def idle_bytes(self) -> int:
        """The memory of buffers that wait for the next replay."""
        return len(self._idle) * sum(self._blocks)

    def forget_buffers(self) -> None:
        """Let the waiting buffers go; the next replay makes new ones."""
        self._idle.clear()

    def _name_buffers(self, calls: Sequence[Call], returns: Value | None) -> None:
        """Give each call's value a buffer: that of an operand it may write over, a free one, or a new one."""
        last_read = {base: i for i, call in enumerate(calls) for base in call.bases}
        free: list[int] = []
        block_of: dict[Value, int] = {}
        for i, call in enumerate(calls):
            value = call.value
            dying = [base for base in dict.fromkeys(call.bases) if base in block_of and last_read[base] == i]
            if value.name == "" and value is not returns:
                heir = next((d for d in dying if call.works_in_place and _alike(d, value)), None)
                block_of[value] = block_of.pop(heir) if heir else self._take(free, value)
                value.name = heir.name if heir else f"v{len(self._views)}"
                self._views.setdefault(value.name, View(block_of[value], value.shape, value.dtype))
            free += [block_of.pop(base) for base in dying if base in block_of]

    def _take(self, free: list[int], value: Value) -> int:
        """A free block, the smallest that is large enough, else the largest, which grows; a new one if none is free."""
        size = int(np.prod(value.shape)) * value.dtype.itemsize
        if not free:
            self._blocks.append(size)
            return len(self._blocks) - 1
        block = min(free, key=lambda b: (self._blocks[b] < size, abs(self._blocks[b] - size)))
        free.remove(block)
        self._blocks[block] = max(self._blocks[block], size)
        return block

    def _with_buffers(self) -> FunctionType:
        """The function with new buffers."""
        blocks = [np.empty(size + ALIGNMENT, np.uint8) for size in self._blocks]
        aligned = [block[-block.ctypes.data % ALIGNMENT :] for block in blocks]
        buffers = {
            name: aligned[view.block][: int(np.prod(view.shape)) * view.dtype.itemsize]
            .view(view.dtype)
            .reshape(view.shape)
            for name, view in self._views.items()
        }
        return FunctionType(self._code, NUMPY_FUNCTIONS | self.constants | buffers)


class View(NamedTuple):
    """A buffer's place: its block of memory, seen in a shape and a dtype."""

    block: int
    shape: Shape
    dtype: np.dtype[Any]


def _check_order(calls: Sequence[Call], over: Mapping[str, Value]) -> None:
    """Raise ValueError if an output would be written over an input that is still to be read."""
    for name, overwritten in over.items():
        written = next(i for i, call in enumerate(calls) if call.value.name == name)
        if any(overwritten in call.bases for call in calls[written + 1 :]):
            msg = f"{name} cannot be written over {overwritten.name}, which is read after it"
            raise ValueError(msg)


def _needed(calls: Sequence[Call], wanted: set[Value]) -> list[Call]:
    """The calls without those whose value nobody reads."""
    kept: list[Call] = []
    for call in reversed(calls):
        if call.value in wanted:
            kept.append(call)
            wanted.update(call.bases)
    return kept[::-1]


def _alike(one: Value, other: Value) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _returning(call: Call) -> str:
    """The call as source, where its result is what the program returns: a sum over all."""
    V, axis, _ = call.operands
    return f"result = {call.function}({V.expression}, {axis})"


def _compiled(source: str) -> CodeType:
    module = compile(source, "<recording>", "exec")
    return next(constant for constant in module.co_consts if isinstance(constant, CodeType))


def _key(operand: Operand) -> Any:
    if isinstance(operand, Value):
        return operand
    return type(operand), operand.expression if isinstance(operand, Scalar) else operand
