"""JAX: arrays that cannot be written, and functions compiled for each shape."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import array_api_compat
import numpy as np

from nnarray.backends.array_api import Backend, native
from nnarray.backends.availability import opening, why_not
from nnarray.backends.concrete import at_once, is_traced_by_jax
from nnarray.backends.numpy import NUMPY
from nnarray.backends.primitives import plain_primitives
from nnarray.core import vector
from nnarray.core.primitives import Primitives, bind
from nnarray.core.typing import Array, Namespace


class JaxBackend(Backend):
    """JAX on one of its devices."""

    library, namespace = "jax", "jax.numpy"

    @classmethod
    def on(cls, device: Any) -> Backend:
        """The device by its name, such as "cpu:0", or a `jax.Device`."""
        import jax

        with opening(cls.library, device), at_once():
            if isinstance(device, str):
                platform, _, index = device.partition(":")
                device = jax.devices(platform)[int(index or 0)]
            return cls(cls.library, jax.numpy, jax.numpy.zeros(0, device=device).device)

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """Why jax does not import."""
        return why_not("jax", "pip install jax")

    @property
    def device_name(self) -> Any:
        """Its platform and its number."""
        return f"{self.device.platform}:{self.device.id}"

    @property
    def is_seen_by_numpy(self) -> bool:
        """On the CPU."""
        return getattr(self.device, "platform", "") == "cpu"

    @property
    def primitives(self) -> Primitives:
        """Core's, with faster ones of linear layers, and theta taken apart and put together in one call."""
        return _primitives(self.xp, apart=False)

    @property
    def primitives_of_values(self) -> Primitives:
        """On the CPU, products of several layers are not fused into one."""
        return _primitives(self.xp, apart=self.is_seen_by_numpy)

    def dtype(self, name: str) -> Any:
        """The dtype, where JAX has it switched on."""
        found = super().dtype(name)
        if name == "float64" and not _has_float64():
            msg = (
                "JAX computes in float32 unless told otherwise; for float64 set JAX_ENABLE_X64=1 in the environment, "
                'or call jax.config.update("jax_enable_x64", True) before any other use of JAX'
            )
            raise ValueError(msg)
        return found

    def synchronize(self) -> None:
        """JAX offers no wait for a whole device: for all arrays that are alive."""
        import jax

        jax.block_until_ready(jax.live_arrays())

    def sum(self, x: Array) -> float:
        """Also while JAX traces a function."""
        with at_once(x):
            return super().sum(x)

    def extent(self, x: Array) -> tuple[float, float]:
        """As one looks into it; also while JAX traces a function."""
        seen, own = self.looked_into(x)
        with at_once(x):
            return super().extent(x) if own is self else own.extent(seen)

    def looked_into(self, x: Array) -> tuple[Array, Backend]:
        """On the CPU as NumPy's, where it lies: JAX would compile, and keep, a program for every shape."""
        return (np.asarray(x), NUMPY) if self.is_seen_by_numpy else (x, self)

    def on_device(self, order: np.ndarray) -> Array:
        """On the CPU, NumPy takes the columns."""
        return order if self.is_seen_by_numpy else self.asarray(order)

    @property
    def jits(self) -> bool:
        """JAX does."""
        return not plain_primitives()

    def jit(self, function: Callable[..., Any], *, donated: Sequence[int] = ()) -> Callable[..., Any]:
        """JAX releases what it compiled once the returned function is dropped."""
        import jax

        jitted: Callable[..., Any] = jax.jit(function, donate_argnums=tuple(donated))
        return jitted

    def gathered(self, V: Array, rows: Array) -> Array:
        """On CPUs in C order: else XLA makes them the rows of a table and reads V across its lines of cache."""
        found = super().gathered(V, rows)
        return _in_rows(found) if self.is_seen_by_numpy else found

    def compiles_steps(self, *, whole: bool) -> bool:
        """As one compiled function."""
        return self.jits and not whole

    @staticmethod
    def owns(x: Any) -> bool:
        """Arrays and tracers."""
        return bool(array_api_compat.is_jax_array(x))

    @staticmethod
    def fetched(x: Any) -> np.ndarray:
        """In one copy."""
        return np.asarray(x)

    def _converted(self, x: Array, dtype: Any) -> Array:
        if self.is_seen_by_numpy and not is_traced_by_jax(x):
            return self._placed(np.asarray(x).astype(dtype))
        with at_once(x):
            return super()._converted(x, dtype)

    def _placed(self, host: np.ndarray) -> Array:
        import jax  # whose own asarray would compile two programs for every shape

        with at_once():
            return jax.device_put(native(host), self.device, may_alias=False)


def _has_float64() -> bool:
    import jax

    return bool(jax.config.jax_enable_x64)


@lru_cache(maxsize=2)
def _primitives(xp: Namespace, *, apart: bool) -> Primitives:
    import jax

    primitives = bind(DifferentiableNamespace(xp))
    if plain_primitives():
        return primitives
    return primitives._replace(
        linear_forward=partial(linear_forward, primitives, apart=apart),
        linear_backward=partial(linear_backward, primitives),
        join=jax.jit(primitives.join, inline=True),
        split=lambda theta, sizes: _split(xp, tuple(sizes))(theta),
    )


@lru_cache(maxsize=64)
def _split(xp: Namespace, sizes: tuple[int, ...]) -> Any:
    import jax

    return jax.jit(partial(vector.split, sizes=sizes, xp=xp), inline=True)


def linear_forward(primitives: Primitives, A_prev: Array, W: Array, b: Array, *, apart: bool) -> Array:
    """Z = W A_prev + b; on CPUs, JAX multiplies by a vector several times faster than by a matrix of one row.

    There it also fuses the products of several layers into one, which took 23 s for 60 000 predictions of
    (784, 512, 512, 10), and `apart` 0.7 s. What is told its layout is fused with nothing; but under vmap it is another
    axis's layout, and the numbers of second derivatives were wrong.
    """
    if W.shape[0] == 1:
        return (W[0, :] @ A_prev)[None, :] + b
    Z = primitives.linear_forward(A_prev, W, b)
    return _in_rows(Z) if apart else Z


def _in_rows(Z: Array) -> Array:
    """Z, told to be laid out in C order."""
    try:
        from jax.experimental.layout import Layout, with_layout_constraint
    except ImportError:  # of JAX before 0.5
        return Z
    return with_layout_constraint(Z, Layout(major_to_minor=(0, 1)))


def linear_backward(primitives: Primitives, dZ: Array, A_prev: Array, *, m: Array) -> tuple[Array, Array]:
    """dW = (1/m) dZ A_prevᵀ and db = (1/m) Σ_columns dZ."""
    if dZ.shape[0] > 1:
        return primitives.linear_backward(dZ, A_prev, m=m)
    return (A_prev @ dZ[0, :])[None, :] / m, primitives.xp.sum(dZ, axis=1, keepdims=True) / m


class DifferentiableNamespace:
    """JAX's namespace with other derivatives where functions have a kink.

    Where both arguments are the same, it is that of the first one, of |x| at 0 it is 1; JAX's are halves of both.
    """

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def maximum(self, x1: Array | float, x2: Array | float) -> Array:
        """The larger of both."""
        return self._of_two("maximum", x1, x2)

    def minimum(self, x1: Array | float, x2: Array | float) -> Array:
        """The smaller of both."""
        return self._of_two("minimum", x1, x2)

    def abs(self, x: Array) -> Array:
        """|x|."""
        return _abs()(x) if self.xp.isdtype(x.dtype, "real floating") else self.xp.abs(x)

    def _of_two(self, name: str, x1: Array | float, x2: Array | float) -> Array:
        dtype = self.xp.result_type(x1, x2)
        if not self.xp.isdtype(dtype, "real floating"):
            return getattr(self.xp, name)(x1, x2)
        return _of_two(name)(self.xp.asarray(x1, dtype=dtype), self.xp.asarray(x2, dtype=dtype))


@lru_cache
def _of_two(name: str) -> Any:
    """jnp.maximum or jnp.minimum."""
    import jax
    import jax.numpy as jnp

    def jvp(arguments: Any, tangents: Any) -> Any:
        x1, x2 = arguments
        first = x1 >= x2 if name == "maximum" else x1 <= x2
        return function(x1, x2), jnp.where(first, *tangents)

    function = jax.custom_jvp(getattr(jnp, name))
    function.defjvp(jvp)
    return function


@lru_cache
def _abs() -> Any:
    """jnp.abs."""
    import jax
    import jax.numpy as jnp

    def jvp(arguments: Any, tangents: Any) -> Any:
        return function(*arguments), jnp.where(arguments[0] >= 0, tangents[0], -tangents[0])

    function = jax.custom_jvp(jnp.abs)
    function.defjvp(jvp)
    return function
