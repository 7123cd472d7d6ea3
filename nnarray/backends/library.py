"""Whose array it is, of any library, and the way from there to the host."""

from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nnarray.backends.array_api import Backend

LIBRARIES: dict[str, "type[Backend]"] = {}
"""The libraries with a file of their own, by name; `names` enters them."""


class Library:
    """What is asked of a library's arrays, as any namespace of the standard answers it."""

    @staticmethod
    def owns(x: Any) -> bool:
        """Whether `x` is an array of the library."""
        return bool(array_api_compat.is_array_api_obj(x))

    @staticmethod
    def fetched(x: Any) -> npt.NDArray[Any]:
        """`x`, an array of the library on any device, as NumPy's."""
        if hasattr(x, "to_device"):
            x = x.to_device(array_api_compat.array_namespace(x).__array_namespace_info__().default_device())
        return np.asarray(x)

    @staticmethod
    def is_dense(x: Any) -> bool:
        """Whether `x` is no sparse array."""
        return "sparse" not in type(x).__module__


def library_of(x: Any) -> type[Library]:
    """The library whose array `x` is; `Library` itself for other namespaces, and for what is no array."""
    return next((library for library in LIBRARIES.values() if library.owns(x)), Library)


def to_numpy(x: Any) -> npt.NDArray[Any]:
    """`x`, an array of any namespace and device or a nested list, as a NumPy array on the host.

    NumPy has no bfloat16: torch's becomes float32. Raises TypeError for what is masked or sparse.
    """
    require_plain(x, "x")
    return np.asarray(x) if isinstance(x, np.ndarray) else library_of(x).fetched(x)


def require_plain(x: Any, argument: str) -> None:
    """Raise TypeError naming `argument` for a masked or sparse array: NumPy would drop the mask, or wrap the whole."""
    if isinstance(x, np.ma.MaskedArray):
        msg = f"{argument} must not be masked, got a {type(x).__name__}; fill it or leave the masked examples out"
        raise TypeError(msg)
    if not library_of(x).is_dense(x):
        msg = f"{argument} must be a dense array, got a sparse {type(x).__name__}; use .toarray() or .to_dense()"
        raise TypeError(msg)
