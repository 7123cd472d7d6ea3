"""Products that a CUDA graph may capture: cuBLAS called directly, with a handle and a workspace of the caller's."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

WORKSPACE_BYTES = 32 * 2**20
"""Of cuBLAS, as large as NVIDIA recommends for Hopper; a captured product may not allocate its own."""

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


def captured_workspace() -> Any:
    """While this thread captures, the workspace of its products; else None."""
    return getattr(_capture, "workspace", None)


@contextmanager
def capturing_products(stream: Any, workspace: Any) -> Iterator[None]:
    """A block in which this thread's products go to `stream`; one thread after the other is in such a block.

    CuPy's handle refuses while a stream is captured, and cuBLAS by itself would allocate.
    """
    with _one_at_a_time:
        _capture.product, _capture.workspace = _product_on(stream, workspace), workspace
        try:
            yield
        finally:
            _capture.product = _capture.workspace = None


def _product_on(stream: Any, workspace: Any) -> Any:
    """cuBLAS's gemmEx that queues on this stream and has this workspace."""
    blas, handle = _blas(), _handle(current_device())
    check(blas.cublasSetStream_v2(handle, ctypes.c_void_p(stream.ptr)))
    check(blas.cublasSetWorkspace_v2(handle, ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(workspace.nbytes)))

    def gemm(*arguments: int) -> None:
        places = (6, 7, 10, 13, 14)  # of alpha, A, B, beta and C; the first argument stands for CuPy's handle
        given = [ctypes.c_void_p(a) if i in places else ctypes.c_int(a) for i, a in enumerate(arguments)]
        check(blas.cublasGemmEx(handle, *given[1:]))

    return gemm


@lru_cache(maxsize=1)
def _blas() -> Any:
    return library("cublas")


def library(name: str) -> Any:
    """The library of CUDA that CuPy's cuBLAS is or uses, whose name has the number of CUDA's version."""
    from cupy.cuda.device import get_cublas_handle
    from cupy.cuda.runtime import runtimeGetVersion

    get_cublas_handle()  # which loads the library
    file = f"lib{name}.so.{runtimeGetVersion() // 1000}"
    try:
        return ctypes.CDLL(file)
    except OSError as error:
        msg = f"CuPy's {name} was not found under its name, {file}: {error}"
        raise ProductError(msg) from error


@cache
def _handle(_: int) -> ctypes.c_void_p:
    """The handle of a device, the current one."""
    handle = ctypes.c_void_p()
    check(_blas().cublasCreate_v2(ctypes.byref(handle)))
    return handle


def current_device() -> int:
    """The number of CuPy's current device."""
    import cupy

    return int(cupy.cuda.runtime.getDevice())


def check(status: int) -> None:
    """Raise ProductError for what cuBLAS says has failed."""
    if status:
        msg = f"cuBLAS failed with status {status}"
        raise ProductError(msg)
