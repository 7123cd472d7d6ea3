"""Names for the types that the Array API standard leaves to each library."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of some Array API namespace."""

Namespace: TypeAlias = Any
"""A module that holds the functions of the Array API standard, such as `array_api_compat.numpy`."""

Pairs: TypeAlias = Sequence[tuple[Array, Array]]
"""(W[1], b[1]), …, (W[L], b[L]), or their gradients."""

Function: TypeAlias = Callable[..., Array]
"""A function from arrays to an array."""
