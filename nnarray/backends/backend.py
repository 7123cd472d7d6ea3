"""A backend: an array namespace, one of its devices, and the way to and from the host."""

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from nnarray.backends.steps import steps_for
from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Namespace

FLOATS = ("float32", "float64")
"""The dtypes in which a network computes."""


@dataclass(frozen=True)
class Backend:
    """Where arrays live and what computes with them.

    `name` is "numpy", "cupy", "torch", "jax" or another namespace's own name, `xp` its Array API namespace and
    `device` the device on which `asarray` makes arrays.
    """

    name: str
    xp: Namespace
    device: Any

    @property
    def steps(self) -> Steps:
        """The steps of the equations, bound to `xp`."""
        return steps_for(self.xp)

    def dtype(self, name: str) -> Any:
        """The namespace's dtype called `name`, "float32" or "float64".

        Raises ValueError for another name, and for float64 where JAX has it switched off.
        """
        if name not in FLOATS:
            msg = f'dtype must be "float32" or "float64", got {name!r}'
            raise ValueError(msg)
        if name == "float64" and self.name == "jax" and not _jax_has_float64():
            msg = (
                "JAX computes in float32 unless told otherwise; for float64 set JAX_ENABLE_X64=1 in the environment, "
                'or call jax.config.update("jax_enable_x64", True) before any other use of JAX'
            )
            raise ValueError(msg)
        return getattr(self.xp, name)

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """`x`, an array of any namespace or a nested list, as an array of this backend on its device.

        `dtype` is "float32" or "float64"; without it, x's own. What is already in place is returned as it is.
        """
        wanted = None if dtype is None else self.dtype(dtype)
        if self._holds(x):
            return x if wanted is None else self.xp.astype(x, wanted, copy=False)
        host = to_numpy(x)
        if dtype is not None:
            host = host.astype(dtype, copy=False)
        if self.name == "numpy":
            return host
        if self.name == "torch":
            host = _as_torch_takes_it(host)
        return self.xp.asarray(host, device=self.device)

    def to_numpy(self, x: Array) -> npt.NDArray[Any]:
        """`x` as a NumPy array on the host; on the host already, its memory is shared."""
        return to_numpy(x)

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it; nothing to wait for on NumPy."""
        if self.name == "cupy":
            self.xp.cuda.Device(getattr(self.device, "id", None)).synchronize()
        elif self.name == "torch" and getattr(self.device, "type", "cpu") == "cuda":
            self.xp.cuda.synchronize(self.device)
        elif self.name == "jax":
            import jax

            jax.block_until_ready(jax.device_put(0.0, self.device))

    def _holds(self, x: Any) -> bool:
        if not array_api_compat.is_array_api_obj(x):
            return False
        if self.name == "numpy":
            return type(x) is np.ndarray
        return bool(array_api_compat.array_namespace(x) is self.xp and array_api_compat.device(x) == self.device)

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, device={str(self.device)!r})"


def to_numpy(x: Any) -> npt.NDArray[Any]:
    """`x`, an array of any namespace and device or a nested list, as a NumPy array on the host."""
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    if array_api_compat.is_cupy_array(x):
        return np.asarray(x.get())
    if array_api_compat.is_torch_array(x):
        return np.asarray(x.detach().cpu().numpy())
    if array_api_compat.is_array_api_obj(x) and not array_api_compat.is_jax_array(x) and hasattr(x, "to_device"):
        xp = array_api_compat.array_namespace(x)
        x = x.to_device(xp.__array_namespace_info__().default_device())
    return np.asarray(x)


def _as_torch_takes_it(host: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`host` as torch can share it: native bytes, no negative strides, writable; a copy only where it isn't so."""
    native = host.astype(host.dtype.newbyteorder("="), copy=False)
    if native.flags.writeable and all(stride >= 0 for stride in native.strides):
        return native
    return native.copy(order="K") if all(stride >= 0 for stride in native.strides) else np.ascontiguousarray(native)


def _jax_has_float64() -> bool:
    import jax

    return bool(jax.config.jax_enable_x64)
