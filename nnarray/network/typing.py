"""What type checkers know of a caller's arrays."""

from typing import Any, Protocol, TypeVar


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
