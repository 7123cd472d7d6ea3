"""Core's steps for torch while it compiles or exports a function.

The compiler reads Python, array-api-compat's functions too, and stops where one asks `torch.result_type` for the dtype
of an array and a number together, as those of two arguments do. Here they are torch's own, and the number takes the
array's dtype, which is what the answer would be.
"""

import sys
from functools import lru_cache
from typing import Any

from nnarray.core.steps import Steps, bind
from nnarray.core.typing import Array, Namespace


class CompiledNamespace:
    """array-api-compat's namespace of torch, with torch's own functions of two arguments."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """The larger of both."""
        return sys.modules["torch"].maximum(*_tensors(x1, x2))

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """The smaller of both."""
        return sys.modules["torch"].minimum(*_tensors(x1, x2))


def _tensors(x1: Array | float, x2: Array | float) -> tuple[Array, Array]:
    return _like(x1, x2), _like(x2, x1)


def _like(x: Array | float, other: Array) -> Array:
    return sys.modules["torch"].full_like(other, x) if isinstance(x, (int, float)) else x


@lru_cache(maxsize=1)
def compiled_steps(xp: Namespace) -> Steps:
    """The steps that torch can compile."""
    return bind(CompiledNamespace(xp))
