"""What a kernel is given: each parameter is named and declared when the kernel's text first asks for it."""

from collections.abc import Container
from dataclasses import dataclass

from nnarray.programs.graph import Node, Partial, Scalar


@dataclass(frozen=True)
class Pointer:
    """A parameter: the first entry of a node."""

    node: Node


@dataclass(frozen=True)
class Stride:
    """A parameter: from one row (axis 0) or column (axis 1) of a caller's array to the next, in entries."""

    node: Node
    axis: int


@dataclass(frozen=True)
class Number:
    """A parameter: a scalar, computed on the host."""

    scalar: Scalar


@dataclass(frozen=True)
class Columns:
    """A parameter: how often a loop goes over its rows (in the order "C", its columns)."""

    loop: int


@dataclass(frozen=True)
class Stop:
    """A parameter: the first block that is beyond a loop's."""

    loop: int


@dataclass(frozen=True)
class Parts:
    """A parameter: in how many parts sums over columns are."""

    partial: Partial


@dataclass(frozen=True)
class Warps:
    """A parameter: how many warps share the columns of a loop in registers, each with a part of its sums."""

    loop: int


Parameter = Pointer | Stride | Number | Columns | Stop | Parts | Warps


class Parameters:
    """The parameters of a kernel, in the order in which they were asked for.

    `outside` are the nodes that lie in callers' arrays, whose strides are parameters; `written` are those that the
    kernel stores, `narrow` those in the narrower float, whose type in C is `narrow_type`. With `numbers_on_device` a
    number is the address of a double that the kernel loads, else the double.
    """

    def __init__(
        self,
        outside: Container[Node],
        written: Container[Node],
        narrow: Container[Node],
        narrow_type: str,
        *,
        numbers_on_device: bool,
    ) -> None:
        self.outside, self.numbers_on_device = outside, numbers_on_device
        self._written, self._narrow, self._narrow_type = written, narrow, narrow_type
        self._names: dict[Parameter, str] = {}

    @property
    def asked_for(self) -> list[Parameter]:
        """All so far."""
        return list(self._names)

    def name(self, parameter: Parameter) -> str:
        """The name of a parameter, which is declared with this."""
        return self._names.setdefault(parameter, f"{type(parameter).__name__.lower()}{len(self._names)}")

    def type_of(self, node: Node) -> str:
        """In C, the type of the node's entries in memory."""
        return self._narrow_type if node in self._narrow else "T"

    def declared(self, kernel: str) -> str:
        """In C, the struct that the kernel is given, of 8 bytes for each parameter."""
        return f"struct {kernel}_given {{\n" + "".join(f"    {self._declaration(p)};\n" for p in self._names) + "};\n"

    def unpacked(self) -> str:
        """In C, each parameter out of the struct, `given`."""
        return "".join(f"    {self._declaration(p)} = given.{name};\n" for p, name in self._names.items())

    @property
    def layout(self) -> str:
        """Of the struct, in the letters of Python's `struct`: "d" for a double, "q" for addresses and integers."""
        by_value = not self.numbers_on_device
        return "".join("d" if isinstance(p, Number) and by_value else "q" for p in self._names)

    def _declaration(self, parameter: Parameter) -> str:
        name = self._names[parameter]
        if isinstance(parameter, Number):
            return f"const double* {name}" if self.numbers_on_device else f"double {name}"
        if not isinstance(parameter, Pointer):
            return f"long long {name}"
        const = "" if parameter.node in self._written else "const "
        return f"{const}{self.type_of(parameter.node)}* {name}"
