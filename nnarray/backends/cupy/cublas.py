"""Products that a CUDA graph may capture: cuBLAS called directly, with a handle and a workspace of the caller's."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_capture = threading.local()


def captured_product() -> Any:
    """While this thread captures, cuBLAS's gemmEx that may be captured, with its handle; else None."""
    return getattr(_capture, "product", None)


@contextmanager
def capturing_products(stream: Any, workspace: Any) -> Iterator[None]:
    """A block in which this thread's products go to `stream` through a cuBLAS handle of its own.

    CuPy's refuses while a stream is captured, and cuBLAS by itself would allocate.
    """
    blas, handle = _blas(), _handle(threading.get_ident(), _device_id())
    _check(blas.cublasSetStream_v2(handle, ctypes.c_void_p(stream.ptr)))
    _check(blas.cublasSetWorkspace_v2(handle, ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(workspace.nbytes)))

    def gemm(*arguments: int) -> None:
        places = (6, 7, 10, 13, 14)  # of alpha, A, B, beta and C; the first argument stands for CuPy's handle
        given = [ctypes.c_void_p(a) if i in places else ctypes.c_int(a) for i, a in enumerate(arguments)]
        _check(blas.cublasGemmEx(handle, *given[1:]))

    _capture.product = gemm
    try:
        yield
    finally:
        _capture.product = None


@lru_cache(maxsize=1)
def _blas() -> Any:
    from cupy.cuda.device import get_cublas_handle

    get_cublas_handle()  # which loads the library
    for name in ("libcublas.so.13", "libcublas.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    msg = "cuBLAS was not found under its name"
    raise RuntimeError(msg)


@lru_cache(maxsize=64)
def _handle(thread: int, device: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _check(_blas().cublasCreate_v2(ctypes.byref(handle)))
    return handle


def _device_id() -> int:
    import cupy

    return int(cupy.cuda.Device().id)


def _check(status: int) -> None:
    if status:
        msg = f"cuBLAS failed with status {status}"
        raise RuntimeError(msg)
