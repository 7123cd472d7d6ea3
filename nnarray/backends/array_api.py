"""A backend: an array namespace, one of its devices, and the capabilities that the floors above ask for.

Here it is any namespace of the Array API standard; numpy.py, cupy/, torch.py and jax.py say what differs on theirs.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import array_api_compat
import numpy as np
import numpy.typing as npt

from nnarray.backends.concrete import is_traced_by_jax
from nnarray.backends.library import Library, to_numpy
from nnarray.backends.masks import drawn_by_numpy
from nnarray.backends.primitives import primitives_for
from nnarray.backends.quiet import quiet
from nnarray.core import primitives as core
from nnarray.core.typing import Array, Namespace
from nnarray.programs.protocols import CompiledSteps, PackedProgram, Program

if TYPE_CHECKING:
    from nnarray.backends.uploads import Uploads
    from nnarray.programs.graph import Graph
    from nnarray.programs.training_step import StepArrays

FLOATS = ("float32", "float64")
"""The dtypes in which a network computes."""

PRECISIONS = ("tf32", "bfloat16", "float16")
"""What products of float32 may round their operands to on CuPy."""


@dataclass(frozen=True)
class Backend(Library):
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
        To what float32 products round what they multiply, on CuPy; they add up in float32. None rounds nothing. See
        `nnarray.backend`.

    Examples
    --------
    >>> from nnarray import backend
    >>> own = backend("numpy")
    >>> own.asarray([[1, 2]], "float32").dtype.name, own.is_host
    ('float32', True)
    """

    name: str
    xp: Namespace
    device: Any
    precision: str | None = None

    library: ClassVar[str] = ""
    """The library's name here."""

    namespace: ClassVar[str] = ""
    """The name of its namespace's module."""

    is_host: ClassVar[bool] = False
    """Whether its arrays are NumPy's: their values are known at once, and threads of this process compute them."""

    precisions: ClassVar[Sequence[str]] = ()
    """What its products of float32 can round their operands to."""

    most_columns: ClassVar[int | None] = None
    """The columns that its products can count; None where memory ends before."""

    # ------------------------------------------------------------------------------------------------- the way there

    @classmethod
    def on(cls, device: Any) -> "Backend":
        """The backend on a device in the library's words; None is the library's own default."""
        raise NotImplementedError

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """Why the library cannot run on this machine, with the remedy; None where it can."""
        raise NotImplementedError

    @property
    def device_name(self) -> Any:
        """What `backend` takes for this device, also in another process."""
        return str(self.device)

    # ------------------------------------------------------------------------------------------------- arrays

    @property
    def is_seen_by_numpy(self) -> bool:
        """Whether NumPy reads its arrays in place, though they are not NumPy's."""
        return False

    @property
    def primitives(self) -> core.Primitives:
        """The primitives of the equations, bound to `xp`."""
        return primitives_for(self.xp)

    @property
    def primitives_of_values(self) -> core.Primitives:
        """The primitives for arrays that have values, which nothing transforms, where the library compiles them."""
        return self.primitives

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
            return self._converted(x, wanted)
        host = to_numpy(x)
        if dtype is not None:
            require_numbers(host, "x", None)
            host = host.astype(dtype, copy=False)
        return self._placed(host)

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

    def current(self) -> AbstractContextManager[Any]:
        """A block in which CuPy's current device is this one; on other backends, nothing."""
        return nullcontext()

    def untracked(self) -> AbstractContextManager[Any]:
        """A block in which torch keeps no history for its autograd; the other namespaces never do.

        Under torch.func it does nothing: what is differentiated there is what the block computes.
        """
        return nullcontext()

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
        return [self.to_numpy(x).item() for x in arrays]

    def sum(self, x: Array) -> float:
        """The sum of all values."""
        return number(self.xp.sum(x))

    def copied(self, x: Array) -> Array:
        """The same values in memory of their own."""
        return self.xp.asarray(x, copy=True)

    @property
    def overwrites(self) -> bool:
        """Whether an update that may write over theta and the running means does so."""
        return self.compiles

    def shared_with_numpy(self, arrays: Sequence[Array]) -> list[np.ndarray] | None:
        """The arrays as NumPy's, in the same memory; None where NumPy cannot read it, or must not compute with it."""
        return None

    def rough_sum(self, x: Array) -> float:
        """A sum that is not finite if a value is not, however much it is rounded."""
        return self.sum(x)

    def extent(self, x: Array) -> tuple[float, float]:
        """The smallest and the largest value; NaN where there is one."""
        return number(self.xp.min(x)), number(self.xp.max(x))

    def looked_into(self, x: Array) -> "tuple[Array, Backend]":
        """The array as one looks into it without changing it, and the backend of what one sees."""
        return x, self

    def on_device(self, order: np.ndarray) -> Array:
        """An order, where columns are taken in it."""
        return self.asarray(order)

    def new_matrix(self, shape: tuple[int, int], dtype: Any) -> Array:
        """A matrix with a column for each example, not filled; on a GPU each column is contiguous."""
        return self.xp.empty(shape[::-1], dtype=dtype, device=self.device).T

    def for_products(self, x: Array, dtype: Any) -> Array:
        """`x`, a matrix, as the library's products take it where it lies, in `dtype`; else a copy that is so."""
        return x

    def multiplies(self, x: Array, dtype: Any) -> bool:
        """Whether the library's products in `dtype` take the matrix `x` where it lies."""
        return True

    def is_narrow(self, x: Any) -> bool:
        """Whether `x` is in the narrower float of the precision, in which programs read examples where they lie."""
        return False

    def for_a_run(self, X: Array) -> Array:
        """Examples (n_x, m) as many steps read them fastest: a copy, where there is room for one that is faster."""
        return X

    def side_by_side(self, x: Array) -> Array:
        """`x`, a vector, as the backend's programs take it."""
        return x

    def knows(self, x: Array, check: str) -> bool:
        """Whether this very array object has passed the check before."""
        return False

    def know(self, x: Array, check: str) -> None:
        """Remember that the array object passed the check, where looking again would synchronise with the device."""

    # ------------------------------------------------------------------------------------------------- programs

    @property
    def jits(self) -> bool:
        """Whether the library itself compiles whole functions for each shape; not with plain primitives."""
        return False

    def jit(self, function: Callable[..., Any], *, donated: Sequence[int] = ()) -> Callable[..., Any]:
        """The function of arrays, as the library compiles it for each shape, where `jits` says so.

        It may write over the arguments at the positions `donated`, which nobody may use after the call.
        """
        return function

    def gathered(self, V: Array, rows: Array) -> Array:
        """These columns of a matrix, in a function that is jitted."""
        return self.xp.take(V, rows, axis=1)

    @property
    def compiles(self) -> bool:
        """Whether equations are compiled for the backend; not where the environment asks for plain primitives."""
        return False

    @property
    def entries_at_once(self) -> int | None:
        """How many entries of a long vector a program should get per call; None for all."""
        return None

    def new_program(self, graph: "Graph", *, captured: bool = False, shared: bool = True) -> Program:
        """The graph compiled.

        One that is to be `captured`, on CuPy, finds its numbers on the device. One that is `shared`, in machine code,
        is in pieces for several threads.
        """
        raise NotImplementedError

    def packed_program(self, program: Program | None, groups: Sequence[int]) -> PackedProgram | None:
        """The program for arrays of which each holds so many of its own, side by side; None where there is none."""
        return None

    def compiles_steps(self, *, whole: bool) -> bool:
        """Whether a training step can be one call; on JAX only on batches smaller than the `whole`."""
        return False

    gathers_all: ClassVar[bool] = True
    """Whether compiled steps on all columns take them in any order, not only as they stand."""

    def replays(self, *arrays: Any) -> bool:
        """Whether programs may be replayed on these: the backend's own arrays, of one dtype."""
        return False

    def release_memory(self) -> bool:
        """Release what is held to be fast and not needed; whether there was any."""
        return False

    def new_compiled_steps(
        self, gradient: Any, update: Any, arrays: "StepArrays", *, columns: int, steps: int
    ) -> CompiledSteps | None:
        """Steps of these programs, on batches of so many columns, at most so many an epoch; None if they cannot be."""
        raise NotImplementedError

    def draws(self, bits: "np.random.PCG64") -> bool:
        """Whether masks of the stream are drawn on the device."""
        return False

    def mask(self, bits: "np.random.PCG64", first: int, shape: tuple[int, int], rate: float, dtype: str) -> Array:
        """A mask (n, columns) of inverted dropout, its entries those of the stream from number `first` on."""
        return self.asarray(drawn_by_numpy(bits, first, shape, rate), dtype)

    # ------------------------------------------------------------------------------------------------- memory

    def fits(self, size: int, *, beside: int = 0) -> bool:
        """Whether so many bytes of examples may lie on the device, `beside` others.

        They have to leave as much again to compute in.
        """
        return True

    def new_uploads(self, shape: tuple[int, int], dtype: Any) -> "Uploads":
        """Places on the device for tiles of up to shape[0] examples of shape[1] numbers."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- of its arrays

    def is_real(self, dtype: Any) -> bool:
        """Whether it is a dtype of real numbers or booleans."""
        return bool(self.xp.isdtype(dtype, ("bool", "integral", "real floating")))

    def _holds(self, x: Any) -> bool:
        if not array_api_compat.is_array_api_obj(x) or array_api_compat.array_namespace(x) is not self.xp:
            return False
        return bool(self.device is None or is_traced_by_jax(x) or array_api_compat.device(x) == self.device)

    def _converted(self, x: Array, dtype: Any) -> Array:
        with self.current():
            return self.xp.astype(x, dtype, copy=False)

    def _placed(self, host: npt.NDArray[Any]) -> Array:
        with self.current():
            return self.xp.asarray(native(host), device=self.device)

    def __hash__(self) -> int:
        return hash((self.name, str(self.device), self.precision))  # CuPy's devices have no hash

    def __repr__(self) -> str:
        precision = "" if self.precision is None else f", precision={self.precision!r}"
        return f"Backend({self.name!r}, device={str(self.device)!r}{precision})"


def native(host: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`host` with its bytes in this machine's order."""
    return host.astype(host.dtype.newbyteorder("="), copy=False)


def number(x: Array) -> float:
    """The value of a 0-d array; torch's leaves its autograd history behind, or torch would warn."""
    return float(x.detach() if hasattr(x, "detach") else x)


def require_numbers(x: Array, argument: str, backend: Backend | None) -> None:
    """Raise TypeError naming `argument` for an array of anything but real numbers and booleans; None means NumPy."""
    if not (is_real_on_host(x.dtype) if backend is None else backend.is_real(x.dtype)):
        msg = f"{argument} must hold real numbers, got dtype {x.dtype}"
        raise TypeError(msg)


def is_real_on_host(dtype: np.dtype[Any]) -> bool:
    """Whether it is a dtype of NumPy's, or ml_dtypes' bfloat16, of real numbers or booleans."""
    return dtype.kind in "biuf" or dtype.name == "bfloat16"
