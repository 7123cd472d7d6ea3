"""A backend: an array namespace, one of its devices, and the way to and from the host."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from nnarray.backends.quiet import quiet
from nnarray.backends.steps import steps_for
from nnarray.backends.torch_steps import compiled_steps
from nnarray.backends.tracing import at_once, is_compiled_by_torch, is_traced_by_jax, torch_transforms
from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Namespace

FLOATS = ("float32", "float64")
"""The dtypes in which a network computes."""

PRECISIONS = ("tf32", "bfloat16", "float16")
"""What products of float32 may round their operands to on CuPy."""

MOST_OF_CUBLAS = 2**31 - 1
"""cuBLAS counts in 32 bits."""


@dataclass(frozen=True)
class Backend:
    """Where arrays live and what computes with them.

    Made by `nn.backend`.

    Parameters
    ----------
    name : str
        "numpy", "cupy", "torch", "jax" or another namespace's own name.
    xp : namespace
        Its Array API namespace.
    device : object
        The device on which `asarray` makes arrays; None for the namespace's default.
    precision : {"tf32", "bfloat16", "float16"}, optional
        To what float32 products round what they multiply, on CuPy; they add up in float32. None rounds nothing.

    Examples
    --------
    >>> from nnarray import backend
    >>> place = backend("numpy")
    >>> place.asarray([[1, 2]], "float32").dtype.name, place.is_host
    ('float32', True)
    """

    name: str
    xp: Namespace
    device: Any
    precision: str | None = None

    @property
    def steps(self) -> Steps:
        """The steps of the equations, bound to `xp`."""
        if self.name == "torch" and is_compiled_by_torch():
            return compiled_steps(self.xp)
        return steps_for(self.xp)

    @property
    def is_host(self) -> bool:
        """Whether its arrays are NumPy's: their values are known at once, and threads of this process compute them."""
        return self.name == "numpy"

    @property
    def jits(self) -> bool:
        """Whether the library compiles whole functions for each shape, as JAX does."""
        return self.name == "jax"

    @property
    def is_seen_by_numpy(self) -> bool:
        """Whether NumPy reads its arrays where they lie: JAX's on the CPU, of which JAX compiles each question."""
        return self.name == "jax" and getattr(self.device, "platform", "") == "cpu"

    @property
    def most_columns(self) -> int | None:
        """The columns that its products can count; None where memory ends before."""
        return MOST_OF_CUBLAS if self.name == "cupy" else None

    def dtype(self, name: str) -> Any:
        """The namespace's dtype of this name.

        Parameters
        ----------
        name : {"float32", "float64"}
            What a network computes in.

        Returns
        -------
        dtype

        Raises
        ------
        ValueError
            For another name, for float64 where JAX has it switched off, and with a precision of float32's.
        """
        if name not in FLOATS:
            msg = f'dtype must be "float32" or "float64", got {name!r}'
            raise ValueError(msg)
        if name == "float64" and self.precision is not None:
            msg = f'the precision "{self.precision}" is one of float32\'s, got dtype "float64"'
            raise ValueError(msg)
        if name == "float64" and self.name == "jax" and not _jax_has_float64():
            msg = (
                "JAX computes in float32 unless told otherwise; for float64 set JAX_ENABLE_X64=1 in the environment, "
                'or call jax.config.update("jax_enable_x64", True) before any other use of JAX'
            )
            raise ValueError(msg)
        return getattr(self.xp, name)

    @quiet
    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """`x` as an array of this backend on its device.

        Parameters
        ----------
        x : array or nested sequence
            Of any namespace, device and shape.
        dtype : {"float32", "float64"}, optional
            Of the result; left out, x's own. A float64 too large for float32 becomes an infinity.

        Returns
        -------
        array
            Of x's shape; x itself where it is in place already.

        Raises
        ------
        ValueError
            For another dtype, see `dtype`.
        TypeError
            For what is masked or sparse and, where `dtype` is given, for what holds no real numbers.
        """
        wanted = None if dtype is None else self.dtype(dtype)
        if self._holds(x):
            if wanted is None or x.dtype == wanted:
                return x
            require_numbers(x, "x", self)
            if self.is_seen_by_numpy and not is_traced_by_jax(x):
                return self.asarray(np.asarray(x).astype(dtype))
            with self.current(), at_once(x):
                return self.xp.astype(x, wanted, copy=False)
        host = to_numpy(x)
        if dtype is not None:
            require_numbers(host, "x", None)
            host = host.astype(dtype, copy=False)
        if self.name == "numpy":
            return host
        host = host.astype(host.dtype.newbyteorder("="), copy=False)
        if self.name == "jax":  # whose own asarray would compile two programs for every shape
            import jax

            with at_once():
                return jax.device_put(host, self.device, may_alias=False)
        with self.current():
            return self.xp.asarray(_as_torch_takes_it(host) if self.name == "torch" else host, device=self.device)

    def to_numpy(self, x: Array) -> npt.NDArray[Any]:
        """`x` as a NumPy array on the host.

        Parameters
        ----------
        x : array or nested sequence
            Of any namespace, device and shape.

        Returns
        -------
        numpy.ndarray
            Of x's shape and dtype (NumPy has no bfloat16: torch's becomes float32). It shares the memory of what is on
            the host already, and need not be writable.

        Raises
        ------
        TypeError
            For what is masked or sparse.
        """
        return to_numpy(x)

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it; nothing to wait for on NumPy."""
        if self.name == "cupy":
            self.xp.cuda.Device(getattr(self.device, "id", None)).synchronize()
        elif self.name == "torch" and getattr(self.device, "type", "cpu") == "cuda":
            self.xp.cuda.synchronize(self.device)
        elif self.name == "jax":
            import jax

            jax.block_until_ready(jax.live_arrays())  # JAX offers no wait for a whole device

    def numbers(self, arrays: Sequence[Array]) -> list[Any]:
        """The values of several arrays, all in one copy on CuPy; elsewhere that would be compiled per length.

        Parameters
        ----------
        arrays : sequence of array, shape ()
            Of this backend.

        Returns
        -------
        list
            Python's numbers.
        """
        if self.name == "cupy":
            arrays = list(self.to_numpy(self.xp.stack(list(arrays))))
        return [self.to_numpy(x).item() for x in arrays]

    def current(self) -> AbstractContextManager[Any]:
        """A block in which CuPy's current device is this one; on other backends, nothing."""
        block: AbstractContextManager[Any] = self.device if self.name == "cupy" else nullcontext()
        return block

    def untracked(self) -> AbstractContextManager[Any]:
        """A block in which torch keeps no history for its autograd; the other namespaces never do.

        Under torch.func it does nothing: what is differentiated there is what the block computes.
        """
        keeps_none = self.name == "torch" and not torch_transforms()
        block: AbstractContextManager[Any] = self.xp.no_grad() if keeps_none else nullcontext()
        return block

    def _holds(self, x: Any) -> bool:
        if not array_api_compat.is_array_api_obj(x):
            return False
        if self.name == "numpy":
            return type(x) is np.ndarray
        if array_api_compat.array_namespace(x) is not self.xp:
            return False
        return bool(self.device is None or is_traced_by_jax(x) or array_api_compat.device(x) == self.device)

    def __hash__(self) -> int:
        return hash((self.name, str(self.device), self.precision))  # CuPy's devices have no hash

    def __repr__(self) -> str:
        precision = "" if self.precision is None else f", precision={self.precision!r}"
        return f"Backend({self.name!r}, device={str(self.device)!r}{precision})"


def to_numpy(x: Any) -> npt.NDArray[Any]:
    """`x`, an array of any namespace and device or a nested list, as a NumPy array on the host.

    NumPy has no bfloat16: torch's becomes float32. Raises TypeError for what is masked or sparse.
    """
    require_plain(x, "x")
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    if array_api_compat.is_cupy_array(x):
        return np.asarray(x.get())
    if array_api_compat.is_torch_array(x):
        x = x.detach().cpu().resolve_conj().resolve_neg()
        return np.asarray((x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy())
    if array_api_compat.is_array_api_obj(x) and not array_api_compat.is_jax_array(x) and hasattr(x, "to_device"):
        xp = array_api_compat.array_namespace(x)
        x = x.to_device(xp.__array_namespace_info__().default_device())
    return np.asarray(x)


def require_plain(x: Any, argument: str) -> None:
    """Raise TypeError naming `argument` for a masked or sparse array: NumPy would drop the mask, or wrap the whole."""
    if isinstance(x, np.ma.MaskedArray):
        msg = f"{argument} must not be masked, got a {type(x).__name__}; fill it or leave the masked examples out"
        raise TypeError(msg)
    of_torch = array_api_compat.is_torch_array(x)
    if str(x.layout) != "torch.strided" if of_torch else "sparse" in type(x).__module__:
        msg = f"{argument} must be a dense array, got a sparse {type(x).__name__}; use .toarray() or .to_dense()"
        raise TypeError(msg)


def require_numbers(x: Array, argument: str, backend: Backend | None) -> None:
    """Raise TypeError naming `argument` for an array of anything but real numbers and booleans; None means NumPy."""
    if backend is None or backend.name == "numpy":
        real = x.dtype.kind in "biuf" or x.dtype.name == "bfloat16"
    else:
        real = backend.xp.isdtype(x.dtype, ("bool", "integral", "real floating"))
    if not real:
        msg = f"{argument} must hold real numbers, got dtype {x.dtype}"
        raise TypeError(msg)


def _as_torch_takes_it(host: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`host` as torch can share it: writable, strides of whole items, none negative; a copy only where it isn't so."""
    if host.flags.writeable and all(stride >= 0 and stride % host.itemsize == 0 for stride in host.strides):
        return host
    return host.copy(order="K") if all(stride >= 0 for stride in host.strides) else np.ascontiguousarray(host)


def _jax_has_float64() -> bool:
    import jax

    return bool(jax.config.jax_enable_x64)
