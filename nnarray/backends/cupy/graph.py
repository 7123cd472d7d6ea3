"""A training step on mini-batches as one CUDA graph: captured once, then replayed with one call per step.

The graph gathers the batch, runs the programs of the gradient and of the update, and advances: a counter in device
memory says which step of the epoch it is, so everything that changes from step to step is data that kernels read.
"""

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from nnarray.programs.products import strides_in_entries
from nnarray.programs.steps import StepArrays
from nnarray.programs.targets.cuda.program import Program

THREADS = 256
"""of a block"""

WORKSPACE_BYTES = 32 * 2**20
"""Of cuBLAS, as large as NVIDIA recommends for Hopper; a captured product may not allocate its own."""

SOURCE = """
extern "C" __global__ void gather_columns(
    const {T}* V, long long down, long long across, long long rows, {T}* batch, long long columns,
    const long long* order, const long long* step
) {{
    const long long stride = (long long)gridDim.x * blockDim.x, first = *step * columns;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * columns; i += stride)
        batch[i] = V[i % rows * down + order[first + i / rows] * across];
}}
extern "C" __global__ void next_step(
    long long* step, const {T}* J, {T}* costs, double* numbers, const double* table, long long count
) {{
    const long long next = *step + 1;
    for (long long i = 0; i < count; i++) numbers[i] = table[next * count + i];
    costs[next - 1] = *J;
    *step = next;
}}
"""


class GraphedSteps:
    """Steps on batches of `columns` columns, of which an epoch has at most `steps`.

    `gradient` and `update` are programs with their numbers on the device. Raises RuntimeError where CUDA or cuBLAS
    refuses to capture them, MemoryError where they do not fit.
    """

    def __init__(self, gradient: Program, update: Program, arrays: StepArrays, *, columns: int, steps: int) -> None:
        import cupy

        self._cupy, self._gradient, self._update, self.vectors = cupy, gradient, update, arrays.vectors
        dtype = arrays.g.dtype
        counts = len(gradient.number_slots), len(update.number_slots)
        self._order = cupy.zeros(steps * columns, np.int64)
        self._step = cupy.zeros((), np.int64)
        self._table = cupy.zeros((steps + 1, sum(counts)), np.float64)
        self._numbers = cupy.zeros(sum(counts), np.float64)
        self.costs = cupy.empty(steps, dtype)
        self._batch = [cupy.empty((columns, V.shape[0]), dtype).T for V in arrays.examples]
        self._kept: list[Any] = [arrays]
        workspace = cupy.empty(WORKSPACE_BYTES, np.uint8)
        self._kept.append(workspace)
        module = _module("double" if dtype == np.float64 else "float")
        gather, next_step = module.get_function("gather_columns"), module.get_function("next_step")

        def step() -> None:
            for V, batch in zip(arrays.examples, self._batch, strict=True):
                rows, blocks = V.shape[0], -(-V.size // V.shape[1] * columns // THREADS)
                down, across = strides_in_entries(V.strides, V.itemsize)
                gather((blocks,), (THREADS,), (V, down, across, rows, batch, columns, self._order, self._step))
            numbers_at = self._numbers.data.ptr
            given = [*self._batch, *arrays.layers, *[None] * gradient.scalars, *arrays.gradients]
            J = gradient.run(given, self._kept, numbers_at)
            self._kept.append(J)
            given = [*arrays.vectors, arrays.g, None, None, *arrays.vectors]
            update.run(given, self._kept, numbers_at + 8 * counts[0])
            next_step((1,), (1,), (self._step, J, self.costs, self._numbers, self._table, sum(counts)))

        stream = cupy.cuda.Stream(non_blocking=True)
        with capturing_products(stream, workspace), stream:
            begin_capture(stream)
            try:
                step()
            finally:
                self._graph = stream.end_capture()
        self._kept.append(stream)

    def begin(self, order: Any, numbers: Sequence[tuple[Sequence[float], Sequence[float]]], _: Any) -> None:
        """Begin an epoch: the `order` of the columns, on the device, and of each step what both programs are given."""
        table = np.array([[*self._gradient.numbers(*one), *self._update.numbers(*other)] for one, other in numbers])
        self._order[: order.shape[0]] = order
        self._table[: len(numbers)].set(table.reshape(len(numbers), -1))
        self._numbers[...] = self._table[0]
        self._step.fill(0)

    def launch(self, count: int) -> None:
        """Queue the next `count` steps on the current stream."""
        for _ in range(count):
            self._graph.launch(self._cupy.cuda.get_current_stream())


def begin_capture(stream: Any) -> None:
    """Let the stream record what is queued on it; raises CuPy's CUDARuntimeError where it cannot."""
    stream.begin_capture()


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


@lru_cache(maxsize=16)
def _module(T: str) -> Any:
    import cupy

    return cupy.RawModule(code=SOURCE.format(T=T))
