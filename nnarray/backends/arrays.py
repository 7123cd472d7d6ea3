"""The way in for a caller's arrays: whose they are, whether they can be used, and their conversion."""

import math
import sys
import weakref
from typing import Any

import array_api_compat
import numpy as np

from nnarray.backends.backend import FLOATS, Backend, require_numbers, require_plain, to_numpy
from nnarray.backends.tracing import at_once, is_concrete, is_traced_by_jax
from nnarray.core.typing import Array

NUMPY = Backend("numpy", np, "cpu")

COLUMNS_AT_ONCE = 4096
"""of examples that are looked through for the one that is wrong"""

NUMPY_FLOATS = {name: np.dtype(name) for name in FLOATS}
"""The dtypes by name; a name costs more to look up than a step may take."""

KNOWN_NAMESPACES = {"array_api_compat.cupy": "cupy", "array_api_compat.torch": "torch", "jax.numpy": "jax"}


def backend_of(x: Any) -> Backend | None:
    """The backend that the array `x` lives on; None for what is no array, such as a list."""
    if type(x) is np.ndarray:
        return NUMPY
    if isinstance(x, (np.ndarray, np.generic)):
        return NUMPY
    if not array_api_compat.is_array_api_obj(x):
        return None
    xp = array_api_compat.array_namespace(x)
    device = None if is_traced_by_jax(x) else array_api_compat.device(x)
    return Backend(KNOWN_NAMESPACES.get(xp.__name__, xp.__name__), xp, device)


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
                f"{found[0]} is on {_place(found[1])} and {argument} is on {_place(own)}; "
                "bring them to one place first, for instance with nn.backend(...).asarray"
            )
            raise TypeError(msg)
        elif found[1].device is None:
            found = argument, own
    return None if found is None else found[1]


def convert(x: Any, argument: str, *, backend: Backend, dtype: str) -> Array:
    """`x` as an array of `backend` in `dtype`; one that is already so is returned as it is, never copied.

    Integers, booleans and other floats are converted. Raises TypeError for complex numbers, objects, text, masked and
    sparse arrays, ValueError for ragged lists, naming `argument`.
    """
    if type(x) is np.ndarray and backend.name == "numpy" and x.dtype == NUMPY_FLOATS[dtype]:
        return x
    own = backend_of(x)
    if own is None or own is NUMPY:
        x, own = host_array(x, argument), NUMPY
    else:
        require_plain(x, argument)
    require_numbers(x, argument, own)
    return backend.asarray(x, dtype)


def is_sparse(x: Any) -> bool:
    """Whether `x` is one of SciPy's sparse arrays or matrices."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(x))


def new_matrix(shape: tuple[int, int], dtype: Any, backend: Backend) -> Array:
    """A matrix with a column for each example, not filled; on a GPU each column is contiguous."""
    if backend.name == "numpy":
        return np.empty(shape, dtype)
    return backend.xp.empty(shape[::-1], dtype=dtype, device=backend.device).T


def for_products(x: Array, dtype: Any, backend: Backend) -> Array:
    """`x`, a matrix, as BLAS takes it where it lies: in `dtype`, rows or columns contiguous; else a copy that is so.

    A sparse one, whose products are SciPy's, is brought into `dtype`.
    """
    if is_sparse(x):
        return x.astype(dtype, copy=False)
    if backend.name not in {"numpy", "cupy"}:
        return x
    if x.dtype == dtype and _is_blas_matrix(x) and (backend.name == "cupy" or x.flags.aligned):
        return x
    with np.errstate(over="ignore"):
        return x.astype(dtype, order="K" if backend.name == "numpy" else "F")


def side_by_side(x: Array, backend: Backend) -> Array:
    """`x`, a vector, as the backend's programs take it: on CuPy, with entries that lie side by side, else copied."""
    if backend.name != "cupy" or x.strides == (x.itemsize,):
        return x
    with backend.current():
        return x.copy()


def _is_blas_matrix(x: Array) -> bool:
    (rows, columns), (down, across), size = x.shape, x.strides, x.itemsize
    return bool(across == size and down >= columns * size and down % size == 0) or (
        down == size and across >= rows * size and across % size == 0
    )


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
    x, backend = looked_into(x, backend)
    with np.errstate(over="ignore", invalid="ignore"), at_once(x):
        total = float(np.add.reduce(x, axis=None)) if backend.name == "numpy" else number(backend.xp.sum(x))
        return math.isfinite(total) or bool(backend.xp.all(backend.xp.isfinite(x)))


def looked_into(x: Array, backend: Backend) -> tuple[Array, Backend]:
    """The array as one looks into it, without changing it: JAX's on the CPU, with NumPy, in the memory where it lies.

    JAX would compile, and keep, a program for every shape that it is asked about.
    """
    return (np.asarray(x), NUMPY) if backend.is_seen_by_numpy else (x, backend)


def on_device(order: np.ndarray, backend: Backend) -> Array:
    """An order where columns are taken in it: on the device, but for JAX's on the CPU, which NumPy takes."""
    return order if backend.is_seen_by_numpy else backend.asarray(order)


def number(x: Array) -> float:
    """The value of a 0-d array; torch's leaves its autograd history behind, or torch would warn."""
    return float(x.detach() if hasattr(x, "detach") else x)


def extent(x: Array, backend: Backend) -> tuple[float, float]:
    """The smallest and the largest value; NaN where there is one."""
    x, backend = looked_into(x, backend)
    if backend.name == "numpy":
        return float(np.minimum.reduce(x, axis=None)), float(np.maximum.reduce(x, axis=None))
    with at_once(x):
        return number(backend.xp.min(x)), number(backend.xp.max(x))


_passed: dict[tuple[int, str], Any] = {}
"""What passed a check: a weak reference to the array, by its id and the check's name."""


def is_known(x: Array, check: str, backend: Backend) -> bool:
    """Whether this very array of CuPy's passed the check before.

    To look into it again would be to wait for the GPU, in each call that it is given to.
    """
    if backend.name != "cupy":
        return False
    passed = _passed.get((id(x), check))
    return passed is not None and passed() is x


def know(x: Array, check: str, backend: Backend) -> None:
    """Remember that the array passed the check, for as long as it lives."""
    if backend.name == "cupy":
        key = id(x), check
        _passed[key] = weakref.ref(x, lambda _: _passed.pop(key, None))


def require_finite_in(dtype: str, X: Array, argument: str, backend: Backend) -> None:
    """`require_finite` for examples; those on the host are brought into `dtype` only later, tile by tile."""
    if not isinstance(X, np.ndarray):
        return require_finite(X, argument, backend)
    largest = float(np.finfo(dtype).max)
    if X.dtype.itemsize > np.dtype(dtype).itemsize and max(map(abs, extent(X, NUMPY))) > largest:
        for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
            with np.errstate(over="ignore"):
                part = X[:, start : start + COLUMNS_AT_ONCE].astype(dtype)
            require_finite(part, argument, NUMPY, first=start)
    return require_finite(X, argument, NUMPY)


def require_finite(x: Array, argument: str, backend: Backend, *, first: int = 0) -> None:
    """Raise ValueError naming `argument`, and where, if it holds NaN or an infinity; one that is not concrete passes.

    `first` is the column of `argument` at which x begins.
    """
    if not is_concrete(x) or is_known(x, "finite", backend):
        return
    if all_finite(x, backend):
        know(x, "finite", backend)
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


def _place(backend: Backend) -> str:
    return f"{backend.name} (traced)" if backend.device is None else f'{backend.name} (device "{backend.device}")'
