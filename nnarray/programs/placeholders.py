"""Functions on arrays that may be a caller's own, losses and update rules: called as they are, or traced in a program.

While a program is traced, a caller's function gets placeholders for its arrays and, instead of the namespace,
one that traces. Whatever cannot be traced raises NotTraceableError, never a wrong number: equations that need it are
computed as they stand.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnarray.core.typing import Array, Namespace
from nnarray.programs.graph import COMPARISONS, ELEMENTWISE, Scalar
from nnarray.programs.trace import Trace, Traced


class NotTraceableError(TypeError):
    """A caller's function does what a program cannot."""


def call_with(function: Callable[..., Array], *arrays: Array, xp: Namespace) -> Array:
    """`function(*arrays, xp=xp)` in the dtype of the first array, traced where `xp` traces."""
    if isinstance(xp, Trace):
        return _traced(function, arrays, xp)
    result = function(*arrays, xp=xp)
    return result if result.dtype == arrays[0].dtype else xp.astype(result, arrays[0].dtype)


def _traced(function: Callable[..., Array], arrays: tuple[Traced, ...], trace: Trace) -> Traced:
    namespace = Standard(trace)
    with _traceable():
        result = function(*(Placeholder(V, namespace) for V in arrays), xp=namespace)
    return _in_its_dtype(result, trace)


def traced_rule(
    rule: Callable[..., Sequence[Array]], vectors: Sequence[Traced], g: Traced, t: Scalar, alpha: Scalar, trace: Trace
) -> list[Traced]:
    """`rule(*vectors, g=g, t=t, alpha=alpha, xp=xp)`, each of what it makes a new vector in the trace's dtype."""
    namespace = OfVectors(trace)
    given = [Placeholder(V, namespace) for V in vectors]
    numbers = {"t": NumberPlaceholder(t), "alpha": NumberPlaceholder(alpha)}
    with _traceable():
        made = list(rule(*given, g=Placeholder(g, namespace), **numbers, xp=namespace))
    found = [_in_its_dtype(V, trace) for V in made]
    nodes = {V.node for V in found if not V.node.is_view and V.shape == g.shape}
    if not len(nodes) == len(found) == len(vectors):
        msg = "it gives something else than a new vector for each that it is given"
        raise NotTraceableError(msg)
    return found


@contextmanager
def _traceable() -> Iterator[None]:
    """A block for a caller's function, which raises NotTraceableError for whatever it raises.

    Computed as it stands, the function raises it again, or doesn't.
    """
    try:
        yield
    except Exception as error:
        msg = f"it cannot be traced: {error}"
        raise NotTraceableError(msg) from error


def _in_its_dtype(result: Any, trace: Trace) -> Traced:
    if not isinstance(result, Placeholder):
        msg = f"it gave a {type(result).__name__} while it was traced"
        raise NotTraceableError(msg)
    V = result.value
    return V if V.dtype == trace.dtype else trace.astype(V, trace.dtype)


class NumberPlaceholder:
    """A Python number of a function that is traced, such as t. What looks at its value cannot be traced."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, scalar: Scalar) -> None:
        self.scalar = scalar

    def __bool__(self) -> bool:
        """Raise NotTraceableError: a branch would hold for the number at hand alone."""
        msg = "it looks at a number"
        raise NotTraceableError(msg)

    def __eq__(self, other: object) -> bool:
        """As `bool`."""
        return bool(self)


class Placeholder:
    """An array of a function that is traced. It has a shape and a dtype, and no values to look at."""

    __array_ufunc__ = None  # NumPy's numbers leave operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Traced, namespace: "Standard") -> None:
        self.value, self.namespace = value, namespace
        self.shape, self.dtype, self.ndim = value.shape, value.dtype, len(value.shape)

    def __bool__(self) -> bool:
        """Raise NotTraceableError: a branch would hold for the arrays at hand alone."""
        msg = "it looks at values"
        raise NotTraceableError(msg)

    def __pow__(self, power: Any) -> "Placeholder":
        return self.namespace.pow(self, power)


class Standard:
    """The functions of the standard that a program can run; any other is an AttributeError."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.float32, self.float64 = np.dtype("float32"), np.dtype("float64")

    def __getattr__(self, name: str) -> Callable[..., Placeholder]:
        if name not in ELEMENTWISE:
            raise AttributeError(name)
        operands_of = self._truths if name.startswith("logical_") else self._floats
        return lambda *operands: self._wrapped(self._trace.elementwise(name, *operands_of(*operands)))

    def where(self, condition: Placeholder, one: Any, other: Any) -> Placeholder:
        """`one` where the condition holds, else `other`."""
        return self._wrapped(self._trace.where(*self._truths(condition), *self._floats(one, other)))

    def clip(self, x: Placeholder, min: Any = None, max: Any = None) -> Placeholder:
        """`x` within these bounds."""
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def pow(self, x: Placeholder, power: Any) -> Placeholder:
        """A small whole power, as a product."""
        if power not in {1, 2, 3, 4} or isinstance(power, Placeholder):
            msg = f"the power {power!r}"
            raise NotTraceableError(msg)
        product = x
        for _ in range(int(power) - 1):
            product = self.multiply(product, x)
        return product

    def square(self, x: Placeholder) -> Placeholder:
        """`x` times itself."""
        return self.multiply(x, x)

    def zeros_like(self, x: Placeholder) -> Placeholder:
        """Zeros in the shape of `x`."""
        return self.multiply(self.ones_like(x), 0.0)

    def ones_like(self, x: Placeholder) -> Placeholder:
        """Ones in the shape of `x`."""
        return self._wrapped(self._trace.ones_like(_float(x)))

    def astype(self, x: Placeholder, dtype: Any, copy: bool = True) -> Placeholder:
        """`x` in the trace's dtype, or as truths."""
        if np.dtype(dtype) == np.dtype("bool"):
            return x if _is_truth(x) else self.not_equal(x, 0.0)
        if np.dtype(dtype) != self._trace.dtype:
            msg = f"a cast to {np.dtype(dtype)}, in a program of {self._trace.dtype}"
            raise NotTraceableError(msg)
        return self._wrapped(self._trace.astype(x.value, dtype))

    def sum(self, x: Placeholder, *, axis: int, keepdims: bool = False) -> Placeholder:
        """The sum over the units of each column."""
        return self._wrapped(self._trace.sum(*self._units(x, axis, keepdims)))

    def max(self, x: Placeholder, *, axis: int, keepdims: bool = False) -> Placeholder:
        """The largest of the units of each column."""
        return self._wrapped(self._trace.max(*self._units(x, axis, keepdims)))

    def _units(self, x: Placeholder, axis: int, keepdims: bool) -> tuple[Traced, int, bool]:
        if axis not in {0, -2} or not keepdims:
            msg = "it reduces something else than units, with keepdims=True"
            raise NotTraceableError(msg)
        return _float(x), 0, True

    def _wrapped(self, value: Traced) -> Placeholder:
        return Placeholder(value, self)

    def _floats(self, *given: Any) -> list[Any]:
        """The operands of arithmetic, in which truths beside an array of floats are its zeros and ones."""
        operands = [x.value if isinstance(x, Placeholder) else _number(x) for x in given]
        dtypes = {V.dtype for V in operands if isinstance(V, Traced)}
        if dtypes == {np.dtype(bool)}:  # what comes of it is each library's to say
            msg = "arithmetic of truths alone"
            raise NotTraceableError(msg)
        return [V.trace.astype(V, V.trace.dtype) if isinstance(V, Traced) and _is_truth(V) else V for V in operands]

    def _truths(self, *given: Any) -> list[Traced]:
        """Conditions, and the operands of logic."""
        operands = [x.value for x in given if isinstance(x, Placeholder) and _is_truth(x)]
        if len(operands) < len(given):
            msg = "something else than a comparison is taken for truths"
            raise NotTraceableError(msg)
        return operands


class OfVectors(Standard):
    """The same for functions of vectors, which may reduce them whole."""

    def sum(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        """The sum of all entries."""
        return self._wrapped(self._trace.sum(_whole(x, axis), None, keepdims))

    def max(self, x: Placeholder, *, axis: Any = None, keepdims: bool = False) -> Placeholder:
        """The largest of all entries."""
        return self._wrapped(self._trace.max(_whole(x, axis), None, keepdims))


def _whole(x: Placeholder, axis: Any) -> Traced:
    if axis is not None:
        msg = f"it reduces the axis {axis!r}"
        raise NotTraceableError(msg)
    return _float(x)


def _is_truth(V: Any) -> bool:
    return isinstance(V, Traced | Placeholder) and V.dtype == np.dtype("bool")


def _float(x: Placeholder) -> Traced:
    if _is_truth(x):
        msg = "arithmetic of truths alone"
        raise NotTraceableError(msg)
    return x.value


def _number(x: Any) -> float | Scalar:
    """A number that stands in the program, as Python's float, or one that the program is given."""
    if isinstance(x, NumberPlaceholder):
        return x.scalar
    if not isinstance(x, int | float | np.integer | np.floating):
        msg = f"a {type(x).__name__} among the operands"
        raise NotTraceableError(msg)
    if not math.isfinite(x):  # which not every target can write
        msg = f"the number {x!r}"
        raise NotTraceableError(msg)
    return float(x)


def _operator(name: str) -> Callable[..., Any]:
    return lambda self, *other: getattr(self.namespace, name)(self, *other)


def _reflected(name: str) -> Callable[..., Any]:
    return lambda self, other: getattr(self.namespace, name)(other, self)


OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}
UNARY = {"neg": "negative", "abs": "abs", "invert": "logical_not"}
COMPARED = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
LOGICAL = {"and": "logical_and", "or": "logical_or"}


def _of_numbers(operation: str, *, reflected: bool) -> Callable[..., Any]:
    def compute(self: NumberPlaceholder, other: Any) -> Any:
        if not isinstance(other, NumberPlaceholder | int | float | np.integer):  # NumPy's float32 would round
            return NotImplemented
        sources = _number(self), _number(other)
        return NumberPlaceholder(Scalar(operation, sources[::-1] if reflected else sources))

    return compute


for _name, _function in (OPERATORS | {"pow": "power"}).items():
    setattr(NumberPlaceholder, f"__{_name}__", _of_numbers(_function, reflected=False))
    setattr(NumberPlaceholder, f"__r{_name}__", _of_numbers(_function, reflected=True))
for _name, _function in (OPERATORS | UNARY | COMPARED | LOGICAL).items():
    assert _function in ELEMENTWISE | COMPARISONS
    setattr(Placeholder, f"__{_name}__", _operator(_function))
for _name, _function in OPERATORS.items():
    setattr(Placeholder, f"__r{_name}__", _reflected(_function))
