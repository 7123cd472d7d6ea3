"""The way in for a caller's arrays: whose they are, whether they can be used, and their conversion."""

import math
import sys
from typing import Any

import array_api_compat
import numpy as np

from nnarray.backends.array_api import FLOATS, Backend, require_numbers
from nnarray.backends.concrete import is_concrete, is_traced_by_jax
from nnarray.backends.library import LIBRARIES, require_plain, to_numpy
from nnarray.backends.numpy import NUMPY
from nnarray.core.typing import Array

COLUMNS_AT_ONCE = 4096
"""of examples that are looked through for the one that is wrong"""

NUMPY_FLOATS = {name: np.dtype(name) for name in FLOATS}
"""The dtypes by name; a name costs more to look up than a step may take."""


def backend_of(x: Any) -> Backend | None:
    """The backend that the array `x` lives on; None for what is no array, such as a list."""
    if isinstance(x, (np.ndarray, np.generic)):
        return NUMPY
    if not array_api_compat.is_array_api_obj(x):
        return None
    xp = array_api_compat.array_namespace(x)
    device = None if is_traced_by_jax(x) else array_api_compat.device(x)
    known = next((library for library in LIBRARIES.values() if library.namespace == xp.__name__), None)
    return Backend(xp.__name__, xp, device) if known is None else known(known.library, xp, device)


def same_backend(**arrays: Any) -> Backend | None:
    """The one backend of all these arguments, lists and None aside; None if none of them is an array.

    Raises TypeError naming two arguments that live in different namespaces or on different devices.
    """
    found: tuple[str, Backend] | None = None
    for argument, x in arrays.items():
        if x is None:
            continue
        own = x if isinstance(x, Backend) else backend_of(x)
        if own is None:
            continue
        if found is None:
            found = argument, own
        elif found[1] is not own and not _agree(found[1], own):
            msg = (
                f"{found[0]} is on {_described(found[1])} and {argument} is on {_described(own)}; "
                f"{_remedy({found[0]: found[1], argument: own})}"
            )
            raise TypeError(msg)
        elif found[1].device is None:
            found = argument, own
    return None if found is None else found[1]


def _remedy(found: dict[str, Backend]) -> str:
    """What to do about arguments on two backends."""
    chunked = [argument for argument, own in found.items() if own.name.endswith("dask.array")]
    if chunked:
        return f"a dask array is not taken here, give {chunked[0]}.compute()"
    return "bring them to one place first, for instance with nn.backend(...).asarray"


def convert(x: Any, argument: str, *, backend: Backend, dtype: str) -> Array:
    """`x` as an array of `backend` in `dtype`; one that is already so is returned as it is, never copied.

    Integers, booleans and other floats are converted. Raises TypeError for complex numbers, objects, text, masked and
    sparse arrays, ValueError for ragged lists, naming `argument`.
    """
    if type(x) is np.ndarray and backend.is_host and x.dtype == NUMPY_FLOATS[dtype]:
        return x
    own = backend_of(x)
    if own is None or own is NUMPY:
        x, own = host_array(x, argument), NUMPY
    else:
        require_plain(x, argument)
    require_numbers(x, argument, own)
    return backend.asarray(x, dtype)


def convert_examples(X: Any, argument: str, *, backend: Backend, dtype: str) -> Array:
    """`convert`; but examples in the narrower float of the backend's precision stay in it."""
    if not backend.is_narrow(X):
        return convert(X, argument, backend=backend, dtype=dtype)
    require_plain(X, argument)
    return backend.asarray(X)


def is_sparse(x: Any) -> bool:
    """Whether `x` is one of SciPy's sparse arrays or matrices."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(x))


def for_products(x: Array, dtype: Any, backend: Backend) -> Array:
    """`x`, a matrix, as BLAS takes it where it lies: in `dtype`, rows or columns contiguous; else a copy that is so.

    A sparse one, whose products are SciPy's, is brought into `dtype`.
    """
    return x.astype(dtype, copy=False) if is_sparse(x) else backend.for_products(x, dtype)


def host_array(x: Any, argument: str) -> np.ndarray:
    """`x`, an array or nested lists, as a NumPy array; raises as `convert` does for what makes no array."""
    require_plain(x, argument)
    try:
        host = to_numpy(x)
    except ValueError as error:
        msg = f"{argument} must be a rectangular array of numbers: {error}"
        raise ValueError(msg) from None
    if host.dtype == object and host.ndim == 0:
        msg = f"{argument} must be an array or nested lists of numbers, got {type(x).__name__}"
        raise TypeError(msg)
    return host


def all_finite(x: Array, backend: Backend) -> bool:
    """Whether every value is finite. One sum finds out; only where it overflowed is every value looked at."""
    if is_sparse(x):
        x = x.data
    x, backend = backend.looked_into(x)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(backend.rough_sum(x)) or all(map(math.isfinite, backend.extent(x)))


def require_finite_in(dtype: str, X: Array, argument: str, backend: Backend) -> None:
    """`require_finite` for examples; those on the host are brought into `dtype` only later, tile by tile."""
    if not isinstance(X, np.ndarray):
        return require_finite(X, argument, backend)
    largest = float(np.finfo(dtype).max)
    if X.dtype.itemsize > np.dtype(dtype).itemsize and max(map(abs, NUMPY.extent(X))) > largest:
        for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
            with np.errstate(over="ignore"):
                part = X[:, start : start + COLUMNS_AT_ONCE].astype(dtype)
            require_finite(part, argument, NUMPY, first=start)
    return require_finite(X, argument, NUMPY)


def require_finite(x: Array, argument: str, backend: Backend, *, first: int = 0) -> None:
    """Raise ValueError naming `argument`, and where, if it holds NaN or an infinity; one that is not concrete passes.

    `first` is the column of `argument` at which x begins.
    """
    if not is_concrete(x) or backend.knows(x, "finite"):
        return
    if all_finite(x, backend):
        backend.know(x, "finite")
        return
    host = x.toarray() if is_sparse(x) else backend.to_numpy(x)
    at = [int(i) for i in np.argwhere(~np.isfinite(host))[0]]
    value = host[tuple(at)]
    at[-1] += first
    msg = f"{argument} must be finite in {host.dtype.name}, got {value} at {at}"
    raise ValueError(msg)


def _agree(one: Backend, other: Backend) -> bool:
    if one.xp is not other.xp:
        return False
    return one.device is None or other.device is None or one.device == other.device


def _described(backend: Backend) -> str:
    return f"{backend.name} (traced)" if backend.device is None else f'{backend.name} (device "{backend.device}")'
