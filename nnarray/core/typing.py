"""Names for the types that the Array API standard leaves to each library: an array, a namespace such as `numpy`."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

Array: TypeAlias = Any
Namespace: TypeAlias = Any
Pairs: TypeAlias = Sequence[tuple[Array, Array]]  # (W[1], b[1]), …, (W[L], b[L]), or their gradients
Layers: TypeAlias = Sequence[Sequence[Array]]  # the same, and (W, beta, gamma) for a layer with batch normalisation
Function: TypeAlias = Callable[..., Array]


class OnDevice(Protocol):
    """An array that is somewhere: of NumPy, CuPy, torch or JAX, and none of dask, nor a list."""

    @property
    def shape(self) -> Any: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    @property
    def device(self) -> Any: ...  # noqa: D102


ArrayT = TypeVar("ArrayT", bound=OnDevice)
"""The type of X, which what is computed of X has, too."""
