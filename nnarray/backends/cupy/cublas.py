"""Products that a CUDA graph may capture: cuBLAS called directly, with a handle and a workspace of the caller's."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

_capture = threading.local()

_one_at_a_time = threading.RLock()


class ProductError(RuntimeError):
    """cuBLAS, called directly, does not do what it was asked for."""


@lru_cache(maxsize=1)
def refusals() -> tuple[type[Exception], ...]:
    """The errors of CUDA and cuBLAS, by which they refuse to capture something."""
    from cupy_backends.cuda.api.driver import CUDADriverError
    from cupy_backends.cuda.api.runtime import CUDARuntimeError

    try:
        from cupy_backends.cuda.libs.cublas import CUBLASError
    except ImportError:  # where the library is not there, it refuses nothing
        return CUDARuntimeError, CUDADriverError, ProductError
    return CUDARuntimeError, CUDADriverError, CUBLASError, ProductError


def captured_product() -> Any:
    """While this thread captures, cuBLAS's gemmEx that may be captured, with its handle; else None."""
    return getattr(_capture, "product", None)


@contextmanager
def capturing_products(stream: Any, workspace: Any) -> Iterator[None]:
    """A block in which this thread's products go to `stream`; one thread after the other is in such a block.

    CuPy's handle refuses while a stream is captured, and cuBLAS by itself would allocate.
    """
    with _one_at_a_time:
        _capture.product = _product_on(stream, workspace)
        try:
            yield
        finally:
            _capture.product = None


def _product_on(stream: Any, workspace: Any) -> Any:
    """cuBLAS's gemmEx that queues on this stream and has this workspace."""
    blas, handle = _blas(), _handle(_device_id())
    _check(blas.cublasSetStream_v2(handle, ctypes.c_void_p(stream.ptr)))
    _check(blas.cublasSetWorkspace_v2(handle, ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(workspace.nbytes)))

    def gemm(*arguments: int) -> None:
        places = (6, 7, 10, 13, 14)  # of alpha, A, B, beta and C; the first argument stands for CuPy's handle
        given = [ctypes.c_void_p(a) if i in places else ctypes.c_int(a) for i, a in enumerate(arguments)]
        _check(blas.cublasGemmEx(handle, *given[1:]))

    return gemm


@lru_cache(maxsize=1)
def _blas() -> Any:
    """The library that CuPy uses, whose name has the number of CUDA's version."""
    from cupy.cuda.device import get_cublas_handle
    from cupy.cuda.runtime import runtimeGetVersion

    get_cublas_handle()  # which loads the library
    name = f"libcublas.so.{runtimeGetVersion() // 1000}"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        msg = f"CuPy's cuBLAS was not found under its name, {name}: {error}"
        raise ProductError(msg) from error


@cache
def _handle(_: int) -> ctypes.c_void_p:
    """The handle of a device, the current one."""
    handle = ctypes.c_void_p()
    _check(_blas().cublasCreate_v2(ctypes.byref(handle)))
    return handle


def _device_id() -> int:
    import cupy

    return int(cupy.cuda.Device().id)


def _check(status: int) -> None:
    if status:
        msg = f"cuBLAS failed with status {status}"
        raise ProductError(msg)
