"""Names for the types that the Array API standard leaves to each library: an array, a namespace such as `numpy`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Array: TypeAlias = Any
Namespace: TypeAlias = Any
Pairs: TypeAlias = Sequence[tuple[Array, Array]]  # (W[1], b[1]), …, (W[L], b[L]), or their gradients
Layers: TypeAlias = Sequence[Sequence[Array]]  # the same, and (W, beta, gamma) for a layer with batch normalisation
Names: TypeAlias = Sequence[str]  # of activations: g[1], …, g[L-1]
Masks: TypeAlias = Sequence[Array]  # of inverted dropout: D[1], …, D[L-1], or none
Function: TypeAlias = Callable[..., Array]
