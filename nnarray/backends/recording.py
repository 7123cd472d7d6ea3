"""Equations written down once for given shapes: core's functions run on values that stand for arrays.

A `Value` notes what is asked of it, so recording has no formula of its own. The same call on the same values is noted
once. What is made of the calls is the programs' business: `numpy_programs` replays them on NumPy, `cuda` makes kernels
of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Operand = Any
"""a Value, a Scalar or a Python number"""

ELEMENTWISE = frozenset(
    "abs add divide exp greater greater_equal log log1p maximum multiply negative sqrt subtract tanh".split()  # noqa: SIM905
)
COMPARISONS = frozenset({"greater", "greater_equal"})


class Value:
    """An array to be: its shape and dtype, and operators that note what is asked of them.

    `name` is what the source calls it. A transposed value is another look at the memory of its `base`. `order` is which
    neighbours are expected to lie together in memory: "F", those of a column, or "C", those of a row.
    """

    def __init__(
        self, recording: "Recording", shape: Shape, dtype: Any, name: str = "", base: "Value | None" = None
    ) -> None:
        self.recording, self.shape, self.dtype = recording, shape, np.dtype(dtype)
        self.name, self.base, self.order = name, base or self, "F"

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

    def __rtruediv__(self, other: Operand) -> "Value":
        return self.recording.elementwise("divide", other, self)

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
        if isinstance(other, Value):
            return NotImplemented
        return Scalar(f"({self.expression} / {other.expression})")

    def __rtruediv__(self, other: float) -> "Scalar":
        return Scalar(f"({other!r} / {self.expression})")

    def __mul__(self, V: Value) -> Value:
        return V.recording.elementwise("multiply", self, V)


class Call:
    """A function of NumPy's, its operands and the value that it makes."""

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
    def is_elementwise(self) -> bool:
        """Whether each entry depends on those at its own place alone."""
        return self.function in ELEMENTWISE


class Recording:
    """The calls noted so far. As a namespace, it notes what core's functions ask of it."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.inputs: list[Value | Scalar] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.calls: list[Call] = []
        self._known: dict[Any, Value] = {}

    def input(self, name: str, shape: Shape, *, order: str = "F") -> Value:
        """An array that is given at each replay."""
        value = Value(self, shape, self.dtype, name)
        value.order = order
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

    def sum(self, V: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """The sum over an axis, or over all."""
        return self._reduce("add", V, axis, keepdims)

    def max(self, V: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """The largest along an axis, or of all."""
        return self._reduce("maximum", V, axis, keepdims)

    def astype(self, V: Value, dtype: Any) -> Value:
        """V in another dtype, which a comparison can give at once."""
        makers = [call for call in self.calls if call.value is V]
        maker = makers[0] if makers else None
        if maker is not None and maker.function in COMPARISONS:
            return self.call(maker.function, maker.operands, V.shape, dtype)
        return self.call("copyto", (V,), V.shape, dtype)

    def transpose(self, V: Value) -> Value:
        """V's memory, seen the other way."""
        return self._once(("T", V), lambda: Value(self, V.shape[::-1], V.dtype, base=V.base))

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name not in ELEMENTWISE:
            raise AttributeError(name)
        return lambda *operands: self.elementwise(name, *operands)

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


def needed(calls: Sequence[Call], wanted: set[Value]) -> list[Call]:
    """The calls without those whose value nobody reads."""
    kept: list[Call] = []
    for call in reversed(calls):
        if call.value in wanted:
            kept.append(call)
            wanted.update(call.bases)
    return kept[::-1]


def _key(operand: Operand) -> Any:
    if isinstance(operand, Value):
        return operand
    return type(operand), operand.expression if isinstance(operand, Scalar) else operand
