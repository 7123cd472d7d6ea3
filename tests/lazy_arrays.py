"""A namespace that builds graphs, as far as a function can tell: no array has a value, or says how many columns it has.

Behind each stands a NumPy array, for the tests to look at.
"""

import sys
from typing import Any

import numpy as np

float32, float64 = np.dtype("float32"), np.dtype("float64")
isdtype = np.isdtype
M = 6
"""columns; an axis of this length has the length None"""


def __getattr__(name: str) -> Any:
    function = getattr(np, name)

    def lazily(*given: Any, **options: Any) -> Any:
        options.pop("device", None)
        return _wrapped(function(*map(_bare, given), **options))

    return lazily


def _bare(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_bare, x))
    return x.computed if isinstance(x, Lazy) else M if x is None else x


def _wrapped(x: Any) -> Any:
    return Lazy(x) if isinstance(x, np.ndarray | np.generic) else x


class Lazy:
    """An array whose values nobody may ask for."""

    device = "somewhere"

    def __init__(self, computed: Any) -> None:
        self.computed = np.asarray(computed)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules[__name__]

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(None if n == M else n for n in self.computed.shape)

    @property
    def dtype(self) -> Any:
        return self.computed.dtype

    @property
    def ndim(self) -> int:
        return self.computed.ndim

    @property
    def size(self) -> int | None:
        return None if M in self.computed.shape else self.computed.size

    @property
    def T(self) -> "Lazy":
        return Lazy(self.computed.T)

    def to_device(self, device: Any) -> "Lazy":
        return self

    def __getitem__(self, key: Any) -> "Lazy":
        return Lazy(self.computed[key])

    def _refused(self, *_: Any) -> Any:
        msg = "a lazy array has no value"
        raise TypeError(msg)

    __bool__ = __int__ = __float__ = __index__ = __array__ = __iter__ = _refused


def _operator(name: str) -> Any:
    return lambda self, *other: Lazy(getattr(self.computed, name)(*map(_bare, other)))


for _name in "add radd sub rsub mul rmul truediv rtruediv neg gt ge lt le eq matmul pow".split():  # noqa: SIM905
    setattr(Lazy, f"__{_name}__", _operator(f"__{_name}__"))
