"""Recorded equations replayed on NumPy without making an array.

A program is the source of a Python function: NumPy calls one after the other, each into a buffer made beforehand. A
buffer whose value nobody needs any more is used again, and an elementwise call works in place where it can. The numbers
are those of the recorded calls, bit for bit.

>>> from nnarray.backends.recording import Recording
>>> recording = Recording("float32")
>>> Z = recording.input("Z", (3, 8))
>>> print(Program(recording, outputs={"A": recording.maximum(Z, 0.0) * 2.0 + 1.0}).source)
def replay(Z, A):
    maximum(Z, zeros_8, out=v0)
    multiply(v0, 2.0, v0)
    add(v0, 1.0, A)
"""

import math
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends.blocks import Blocks
from nnarray.backends.recording import ELEMENTWISE, Call, Recording, Scalar, Shape, Value, needed

NUMPY_FUNCTIONS = {name: getattr(np, name) for name in (*ELEMENTWISE, "copyto", "dot", "matmul")}

ALIGNMENT = 64
"""Bytes; a cache line."""


class Program:
    """Recorded calls with a name for every array in them.

    Called with the inputs and the outputs, in the order in which they were named, it fills the outputs and returns what
    `returns` stands for. `over` says of an output which input's memory it may be given. Any number of threads may call
    it: each replay has buffers to itself. Raises ValueError where an input is still read after it was written over.
    """

    works_in_place = True

    def __init__(
        self,
        recording: Recording,
        *,
        returns: Value | None = None,
        outputs: Mapping[str, Value] = MappingProxyType({}),
        over: Mapping[str, Value] = MappingProxyType({}),
    ) -> None:
        calls = needed(recording.calls, {value.base for value in (returns, *outputs.values()) if value is not None})
        calls = [_with_row_of_zeros(call, recording) for call in calls]
        self.constants, self._blocks, self._views = recording.constants, Blocks(), dict[str, View]()
        made = {call.value for call in calls}
        for name, value in outputs.items():
            if value in made and not value.name and value is not returns:
                value.name = name
            else:  # it has a place already: copy it from there
                calls.append(Call("copyto", (value,), Value(recording, value.shape, value.dtype, name)))
        _check_order(calls, over)
        sums_last = any(call.value is returns and call.is_sum for call in calls)
        self._name_buffers(calls, returns, returned_at_once=sums_last)
        lines = [_returning(call) if call.value is returns and sums_last else _line(call) for call in calls]
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
        return len(self._idle) * sum(self._blocks.sizes)

    def forget_buffers(self) -> None:
        """Let the waiting buffers go; the next replay makes new ones."""
        self._idle.clear()

    def _name_buffers(self, calls: Sequence[Call], returns: Value | None, *, returned_at_once: bool) -> None:
        """Give each call's value a buffer: that of an operand it may write over, a free one, or a new one."""
        last_read = {base: i for i, call in enumerate(calls) for base in call.bases}
        if returns is not None:
            last_read[returns.base] = len(calls)
        block_of: dict[Value, int] = {}
        for i, call in enumerate(calls):
            value = call.value
            dying = [base for base in dict.fromkeys(call.bases) if base in block_of and last_read[base] == i]
            if value.name == "" and not (returned_at_once and value is returns):
                heirs = [d for d in dying if call.is_elementwise and _alike(d, value)]
                heir = heirs[0] if heirs else None
                block_of[value] = block_of.pop(heir) if heir else self._blocks.take(_bytes(value))
                value.name = heir.name if heir else f"v{len(self._views)}"
                self._views.setdefault(value.name, View(block_of[value], value.shape, value.dtype))
            for base in dying:
                if base in block_of:
                    self._blocks.give_back(block_of.pop(base))

    def _with_buffers(self) -> FunctionType:
        """The function with new buffers."""
        blocks = [np.empty(size + ALIGNMENT, np.uint8) for size in self._blocks.sizes]
        aligned = [block[-block.ctypes.data % ALIGNMENT :] for block in blocks]
        buffers = {
            name: aligned[view.block][: _bytes(view)].view(view.dtype).reshape(view.shape)
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
        written = [call.value.name for call in calls].index(name)
        if overwritten in {base for call in calls[written + 1 :] for base in call.bases}:
            msg = f"{name} cannot be written over {overwritten.name}, which is read after it"
            raise ValueError(msg)


def _with_row_of_zeros(call: Call, recording: Recording) -> Call:
    """A maximum with 0 as one with a row of zeros, against which NumPy is faster."""
    if call.function != "maximum" or call.operands[1] != 0.0 or not call.value.shape[1:]:
        return call
    columns = call.value.shape[-1]
    zeros = recording.constant(f"zeros_{columns}", np.zeros(columns, call.value.dtype))
    return Call("maximum", (call.operands[0], zeros), call.value)


def _line(call: Call) -> str:
    """The call as source."""
    given = [o.expression if isinstance(o, Value | Scalar) else repr(o) for o in call.operands]
    out = call.value.name
    if call.function == "copyto":
        return f"copyto({out}, {given[0]})"
    if call.function.endswith(".reduce"):
        V, axis, keepdims = given
        return f"{call.function}({V}, {axis}, None, {out}, {keepdims})"
    if call.function == "maximum":  # whose third positional argument NumPy will give another meaning
        return f"maximum({', '.join(given)}, out={out})"
    if call.function == "matmul" and 1 in call.value.shape:  # where matmul may let no other thread run
        return f"dot({', '.join([*given, out])})"
    return f"{call.function}({', '.join([*given, out])})"


def _bytes(value: Value | View) -> int:
    return math.prod(value.shape) * value.dtype.itemsize


def _alike(one: Value, other: Value) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _returning(call: Call) -> str:
    """The call as source, where its result is what the program returns: a sum over all."""
    V, axis, _ = call.operands
    return f"result = {call.function}({V.expression}, {axis})"


def _compiled(source: str) -> CodeType:
    module = compile(source, "<recording>", "exec")
    return [constant for constant in module.co_consts if isinstance(constant, CodeType)][0]  # noqa: RUF015
