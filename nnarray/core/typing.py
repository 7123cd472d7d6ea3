"""Names for the types that the Array API standard leaves to each library: an array, a namespace such as `numpy`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Array: TypeAlias = Any
Namespace: TypeAlias = Any
Pairs: TypeAlias = Sequence[tuple[Array, Array]]  # (W[1], b[1]), …, (W[L], b[L]), or their gradients
Layers: TypeAlias = Sequence[Sequence[Array]]  # the same, and (W, beta, gamma) for a layer with batch normalisation
Function: TypeAlias = Callable[..., Array]
