"""CuPy: arrays on a GPU, computed by CUDA programs that are queued while the host goes on."""

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

from nnarray.backends.array_api import PRECISIONS, Backend, is_real_on_host
from nnarray.backends.availability import opening, why_not
from nnarray.backends.masks import is_known
from nnarray.backends.numpy import is_blas_matrix
from nnarray.backends.primitives import plain_primitives
from nnarray.core.typing import Array
from nnarray.programs.protocols import CompiledSteps, Program

if TYPE_CHECKING:
    from nnarray.backends.cupy.device import CupyDevice
    from nnarray.backends.uploads import Uploads
    from nnarray.programs.graph import Graph
    from nnarray.programs.training_step import StepArrays

NARROW = ("bfloat16", "float16")
"""The precisions that are floats of their own."""

SHARE = 4
"""Of what is free, a copy of examples may take one part in so many."""

INSTALL = 'pip install cupy-cuda13x (cupy-cuda12x for a CUDA 12 driver), the extra "cuda13" ("cuda12")'


class CupyBackend(Backend):
    """CuPy on one GPU."""

    library, namespace = "cupy", "array_api_compat.cupy"
    most_columns = 2**31 - 1  # cuBLAS counts in 32 bits
    precisions = PRECISIONS
    gathers_all = False

    @classmethod
    def on(cls, device: Any) -> Backend:
        """The GPU by its number, or a `cupy.cuda.Device`."""
        import array_api_compat.cupy as xp

        with opening(cls.library, device):
            chosen = device if isinstance(device, xp.cuda.Device) else xp.cuda.Device(device)
            count = xp.cuda.runtime.getDeviceCount()
            if not 0 <= chosen.id < count:
                msg = f"there are {count} of them, numbered from 0"
                raise ValueError(msg)
            return cls(cls.library, xp, chosen)

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """Why CuPy, the driver or CUDA's libraries do not work."""
        return why_not("cupy", INSTALL) or _why_no_gpu()

    @property
    def device_name(self) -> Any:
        """The GPU's number."""
        return getattr(self.device, "id", None)

    def synchronize(self) -> None:
        """The GPU."""
        self.xp.cuda.Device(getattr(self.device, "id", None)).synchronize()

    def current(self) -> AbstractContextManager[Any]:
        """The GPU as CuPy's current one."""
        block: AbstractContextManager[Any] = self.device
        return block

    def numbers(self, arrays: Sequence[Array]) -> list[Any]:
        """All of them with one copy from the device."""
        return list(self.to_numpy(self.xp.stack(list(arrays))).tolist())

    def for_products(self, x: Array, dtype: Any) -> Array:
        """With contiguous rows or columns."""
        if self.multiplies(x, dtype):
            return x
        return x.astype(x.dtype if self.is_narrow(x) else dtype, order="F")

    def is_real(self, dtype: Any) -> bool:
        """By kind, as CuPy's isdtype knows no bfloat16."""
        return is_real_on_host(dtype)

    def multiplies(self, x: Array, dtype: Any) -> bool:
        """With contiguous rows or columns."""
        return bool((x.dtype == dtype or self.is_narrow(x)) and is_blas_matrix(x))

    def is_narrow(self, x: Any) -> bool:
        """Bfloat16 as ml_dtypes has it."""
        return self.precision in NARROW and str(getattr(x, "dtype", "")) == self.precision

    def for_a_run(self, X: Array) -> Array:
        """By columns, as steps gather them and kernels read them, and in the narrower float of the precision."""
        dtype = _narrow_dtype(self.precision) or X.dtype
        is_by_columns = X.shape[0] == 1 or X.strides[0] == X.itemsize
        if not self.compiles or (X.dtype == dtype and is_by_columns):
            return X
        if not self.fits(X.size * dtype.itemsize * SHARE // 2):
            return X
        try:
            with self.current():
                return X.astype(dtype, order="F")
        except MemoryError:
            return X

    def side_by_side(self, x: Array) -> Array:
        """Made contiguous."""
        if x.strides == (x.itemsize,):
            return x
        with self.current():
            return x.copy()

    def knows(self, x: Array, check: str) -> bool:
        """Looking into the array again would wait for the GPU in every call that gets it."""
        passed = _passed.get((id(x), check))
        return passed is not None and passed() is x

    def know(self, x: Array, check: str) -> None:
        """Remembered through a weak reference, for as long as the array lives."""
        key = id(x), check
        _passed[key] = weakref.ref(x, partial(_passed.pop, key))  # no Python, in which a Ctrl-C would be ignored

    @property
    def compiles(self) -> bool:
        """To CUDA kernels."""
        return not plain_primitives()

    def new_program(self, graph: "Graph", *, captured: bool = False, shared: bool = True) -> Program:
        """CUDA kernels and cuBLAS's products; `shared`, replayed where the same arrays come again."""
        from nnarray.backends.cupy.device import CupyDevice
        from nnarray.backends.cupy.replays import Replays, may_replay
        from nnarray.programs.targets.cuda import program

        device = gpu()
        several = shared and not captured and isinstance(device, CupyDevice) and may_replay(graph, self.precision)
        on_device = captured or several
        made = program.Program(graph, device=device, operands=self.precision, numbers_on_device=on_device)
        return Replays(made, several=several) if isinstance(device, CupyDevice) and not captured else made

    def compiles_steps(self, *, whole: bool) -> bool:
        """As a CUDA graph."""
        return not plain_primitives()

    def new_compiled_steps(
        self, gradient: Any, update: Any, arrays: "StepArrays", *, columns: int, steps: int
    ) -> CompiledSteps | None:
        """As a CUDA graph; None where CUDA or cuBLAS refuses, or where there is no room."""
        from nnarray.backends.cupy.cublas import refusals
        from nnarray.backends.cupy.graph import GraphedSteps

        refused: tuple[type[Exception], ...] = (*refusals(), MemoryError)
        X, *others = arrays.examples
        try:
            if X.shape[1] == columns:  # all of them, which no kernel gathers
                arrays = arrays._replace(examples=[self.for_products(X, X.dtype), *others])
            return GraphedSteps(gradient, update, arrays, columns=columns, steps=steps)
        except refused:
            return None

    def replays(self, *arrays: Any) -> bool:
        """Of arrays of this GPU, while it is the current one."""
        import cupy

        device, dtype = self.device_name, arrays[0].dtype
        for x in arrays:
            if type(x) is not cupy.ndarray or x.dtype is not dtype or x.data.device_id != device:
                return False
        return not plain_primitives() and bool(cupy.cuda.runtime.getDevice() == device)

    def release_memory(self) -> bool:
        """What captured graphs hold, and ones that no program reads any more."""
        with self.current():
            return gpu().release()

    def draws(self, bits: Any) -> bool:
        """PCG64's, by a kernel."""
        return self.compiles and is_known(bits)

    def mask(self, bits: Any, first: int, shape: tuple[int, int], rate: float, dtype: str) -> Array:
        """Drawn on the GPU, with the host's bits."""
        if not self.draws(bits):
            return super().mask(bits, first, shape, rate, dtype)
        from nnarray.backends.cupy.masks import drawn_on_gpu

        with self.current():
            return drawn_on_gpu(gpu(), self.device_name, bits, first, shape, rate, dtype)

    def fits(self, size: int, *, beside: int = 0) -> bool:
        """Measured by what is free on the GPU."""
        with self.current():
            return size <= (gpu().room() - beside) // 2

    def new_uploads(self, shape: tuple[int, int], dtype: Any) -> "Uploads":
        """Through pinned memory."""
        from nnarray.backends.uploads import Uploads

        return Uploads(gpu(), shape, dtype)

    @staticmethod
    def owns(x: Any) -> bool:
        """CuPy's ndarrays."""
        return bool(array_api_compat.is_cupy_array(x))

    @staticmethod
    def fetched(x: Any) -> np.ndarray:
        """In one copy."""
        return np.asarray(x.get())


def _narrow_dtype(precision: str | None) -> Any:
    """The dtype of a narrower float; None for other precisions, and where there is no package with bfloat16."""
    if precision != "bfloat16":
        return np.dtype("float16") if precision == "float16" else None
    with suppress(ImportError):
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return None


_passed: dict[tuple[int, str], Any] = {}
"""What passed a check: a weak reference to the array, by its id and the check's name."""


@lru_cache(maxsize=1)
def gpu() -> "CupyDevice":
    """What runs programs on the GPU."""
    from nnarray.backends.cupy.device import CupyDevice

    return CupyDevice()


@lru_cache(maxsize=1)
def _why_no_gpu() -> str | None:
    """Why CuPy, which is installed, does not compute."""
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy is installed, but no GPU or driver answers ({error}); install the NVIDIA driver, see `nvidia-smi`"
    if count == 0:
        return "CuPy is installed, but no GPU is visible; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    try:
        ones = cupy.ones((2, 2), dtype=cupy.float32)
        (ones @ ones + ones).get()
    except Exception as error:
        return (
            f"CuPy sees a GPU, but its CUDA libraries don't work ({type(error).__name__}: {error}); "
            'pip install "cupy-cuda13x[ctk]" (or "cupy-cuda12x[ctk]") brings them'
        )
    return None
