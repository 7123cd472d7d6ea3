"""CuPy, which runs programs on a GPU: memory from its pool, kernels compiled by NVRTC, products by cuBLAS.

Everything is queued on CuPy's current stream of the current device; a run waits for nothing. CuPy has NVRTC flush
subnormal numbers of float32 to 0.
"""

import math
import struct
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from nnarray.backends.cupy.cublas import captured_product, current_device
from nnarray.backends.cupy.cublaslt import INFINITIES, RectifiedProducts, is_there
from nnarray.programs.products import Gemm
from nnarray.programs.targets.cuda.prelude import COMMON, DEVICE

COMPILER_OPTIONS = ("--std=c++17",)

ONES = 2**20
"""Arrays of ones have a multiple of so many entries, or are smaller and have a power of two."""


class CupyDevice:
    """What programs and uploads need of a GPU."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._ones: dict[Any, tuple[Any, list[Any]]] = {}
        """and weak references to what was given out of them"""
        self._lock = Lock()

    def place(self, x: Any) -> tuple[int, tuple[int, ...]]:
        """Where an array's first entry lies, and the array's strides in bytes."""
        return x.data.ptr, x.strides

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array from CuPy's pool; raises its OutOfMemoryError, a MemoryError, where there is no room."""
        try:
            return self._cupy.empty(shape, dtype)
        except MemoryError:
            if not self.release():
                raise
            return self._cupy.empty(shape, dtype)

    def ones(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of ones, which any stream may read at any time: it is complete when returned.

        Arrays of like sizes share their memory. It is kept: what runs on other streams may read it after the array.
        """
        size = math.prod(shape)
        length = min(1 << (size - 1).bit_length(), -(-size // ONES) * ONES)
        key = self._cupy.cuda.Device().id, np.dtype(dtype), length
        with self._lock:
            if key not in self._ones:
                self._ones[key] = self._cupy.ones(length, dtype), []
                self._cupy.cuda.get_current_stream().synchronize()
            ones, given = self._ones[key]
            part = ones[:size].reshape(shape)
            given[:] = [*(of for of in given if of() is not None), weakref.ref(part)]
        return part

    def release(self) -> bool:
        """Drop captured graphs, and ones that nobody has, of the current GPU; whether there were any."""
        from nnarray.backends.cupy.replays import KEPT

        return KEPT.clear() | self._release_ones()

    def _release_ones(self) -> bool:
        stream, device = self._cupy.cuda.get_current_stream(), self._cupy.cuda.Device()
        if stream.ptr and stream.is_capturing():  # when nothing can be waited for
            return False
        with self._lock:
            held = [(key, given) for key, (_, given) in self._ones.items() if key[0] == device.id]
            unused = [key for key, given in held if all([of() is None for of in given])]
            if unused:
                device.synchronize()  # which may still read them
            for key in unused:
                del self._ones[key]
        return bool(unused)

    def number(self) -> int:
        """Which GPU is CuPy's current one."""
        return current_device()

    def wait(self) -> None:
        """Wait for all that is queued on the current GPU."""
        self._cupy.cuda.Device().synchronize()

    def constant(self, host: np.ndarray) -> Any:
        """`host` on the current GPU, which any stream may read at any time: it is complete when returned."""
        x = self._cupy.asarray(host)
        self._cupy.cuda.get_current_stream().synchronize()
        return x

    def room(self) -> int:
        """The bytes that can still be allocated: what the GPU has free, what CuPy's pool and graphs hold for later."""
        from nnarray.backends.cupy.replays import KEPT

        free, _ = self._cupy.cuda.Device().mem_info
        return int(free) + int(self._cupy.get_default_memory_pool().free_bytes()) + KEPT.bytes

    def empty_pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new NumPy array in pinned memory."""
        import cupyx

        return cupyx.empty_pinned(shape, dtype)

    def copy(self, there: Any, here: Any, stream: Any) -> None:
        """Queue a copy from pinned memory on the stream."""
        there.set(here, stream=stream)

    def new_stream(self) -> Any:
        """A stream that waits for no other unless told."""
        return self._cupy.cuda.Stream(non_blocking=True)

    def current_stream(self) -> Any:
        """CuPy's current stream."""
        return self._cupy.cuda.get_current_stream()

    def new_event(self) -> Any:
        """An event without timing."""
        return self._cupy.cuda.Event(disable_timing=True)

    def kernel(self, source: str, name: str, layout: str) -> Callable[[int, int, Sequence[Any]], None]:
        """The kernel of that name; a source is compiled once, and CuPy keeps the binary on disk.

        Its arguments are one struct, as CuPy and CUDA take time for each argument.
        """
        function, pack, packed = _module(source).get_function(name), struct.Struct(layout).pack, np.void
        return lambda blocks, threads, arguments: function((blocks,), (threads,), (packed(pack(*arguments)),))

    def product(self, dtype: str, operands: str) -> Callable[[Gemm, int, int, int], None]:
        """cuBLAS's product in `dtype`, of operands in the float `operands`, with sums in float64 or float32."""
        from cupy.cuda.device import get_cublas_handle
        from cupy_backends.cuda.libs import cublas

        result, operand, compute = _cublas_types(dtype, operands)
        get_cublas_handle()  # which takes memory of its own, before programs take the rest
        factors = np.array([1, 0], "float64" if operands == "float64" else "float32")
        one, zero = factors.ctypes.data, factors[1:].ctypes.data

        def multiply(how: Gemm, A: int, B: int, C: int, factors: Any = factors) -> None:
            (a_transposed, b_transposed), (lda, ldb, ldc) = how.transposes, how.leading
            captured = captured_product()
            (captured or cublas.gemmEx)(
                0 if captured else get_cublas_handle(),
                int(a_transposed),
                int(b_transposed),
                how.m,
                how.n,
                how.k,
                one,
                A,
                operand,
                lda,
                B,
                operand,
                ldb,
                zero,
                C,
                result,
                ldc,
                compute,
                CUBLAS_GEMM_DEFAULT,
            )

        return multiply

    def rectified(self, dtype: str, operands: str) -> RectifiedProducts | None:
        """CuBLASLt's such products, of float32 and what is narrower; None where the library is missing."""
        result, operand, compute = _cublas_types(dtype, operands)
        return RectifiedProducts(result, operand, compute) if result in INFINITIES and is_there() else None


CUDA_R = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14, "tf32": 0}
"""cudaDataType_t of library_types.h."""

CUBLAS_COMPUTE = {"float32": 68, "float64": 70, "tf32": 77, "float16": 68, "bfloat16": 68}
"""cublasComputeType_t of cublas_api.h, by the operands' float: 32F, 64F and 32F_FAST_TF32."""

CUBLAS_GEMM_DEFAULT = -1


def _cublas_types(dtype: str, operands: str) -> tuple[int, int, int]:
    return CUDA_R[dtype], CUDA_R[operands], CUBLAS_COMPUTE[operands]


@lru_cache(maxsize=512)
def _module(source: str) -> Any:
    import cupy

    return cupy.RawModule(code=DEVICE + COMMON + source, options=COMPILER_OPTIONS)
