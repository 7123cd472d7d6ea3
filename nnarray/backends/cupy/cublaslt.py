"""Products that add a column b and rectify before they store, by cuBLASLt: max(A B + b, 0).

The algorithm is chosen once for each shape, layout and alignment, by cuBLASLt's heuristic, which answers the same to
the same question; so a captured run has the bits of any other. Before its first use it is run on b = NaN: one that
turns NaN into 0 would hide a network that diverges, and is not used.

None of this has run on a card yet. What only a card can tell: that the heuristic answers the same each time; that
float32's, TF32's and the narrower floats' products have this epilogue, with b in the float of the result, also where
the operands are narrower than it; that matrices and b at a multiple of 16 bytes are aligned well enough, also for the
fastest algorithms; that cublasLtMatmul may be captured, in a workspace at a multiple of 512 bytes; that the algorithms
keep NaN; and that such a product takes less time than a product and a loop. Where cuBLASLt refuses, or NaN is lost, it
is a product and a loop.
"""

import ctypes
import weakref
from functools import cache, lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends.cupy.cublas import (
    WORKSPACE_BYTES,
    ProductError,
    captured_workspace,
    check,
    current_device,
    library,
)
from nnarray.programs.products import Gemm

TRANSA, TRANSB, EPILOGUE, BIAS_POINTER, BIAS_DATA_TYPE = 3, 4, 7, 8, 26
"""cublasLtMatmulDescAttributes_t of cublasLt.h."""

RELU_BIAS = 6
"""cublasLtEpilogue_t, RELU | BIAS."""

MAX_WORKSPACE_BYTES, MIN_ALIGNMENT_BYTES = 1, (5, 6, 7, 8)
"""cublasLtMatmulPreferenceAttributes_t; of A, B, C and D."""

REAL_32F = 0
"""cudaDataType_t of alpha and beta."""

NOT_SUPPORTED = 15
"""cublasStatus_t of the heuristic, where no algorithm suits."""

ALIGNED = 16
"""Bytes that one instruction loads: b begins at a multiple, and of matrices cuBLASLt is told no more."""

INFINITIES = {2: ("uint16", 0x7C00), 14: ("uint16", 0x7F80), 0: ("uint32", 0x7F800000)}
"""By cudaDataType_t: the bits of float16, bfloat16 and float32; those of NaN, without the sign, are greater."""


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t."""

    _fields_ = [("data", ctypes.c_uint64 * 8)]


class Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [
        ("algorithm", Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


class Chosen(NamedTuple):
    """What a product is asked for with: its description, the layouts of A, B and C, and the algorithm."""

    operation: ctypes.c_void_p
    layouts: list[ctypes.c_void_p]
    found: Found


class RectifiedProducts:
    """max(A B + b, 0) of factors of one cudaDataType_t, with the result and b of another and sums in float32.

    `compute` is the cublasComputeType_t. Queued on CuPy's current stream; A, B, b and C are where each begins.
    """

    def __init__(self, result: int, operand: int, compute: int) -> None:
        import cupy

        self._cupy, self._result, self._operand, self._compute = cupy, result, operand, compute
        self._chosen = dict[Any, Chosen | None]()
        self._lock = Lock()
        """held while the description says where b is"""
        self._factors = ctypes.c_float(1.0), ctypes.c_float(0.0)

    def suits(self, how: Gemm, A: int, B: int, b: int, C: int) -> bool | None:
        """Whether there is an algorithm, and it keeps NaN; None while the stream is captured. C is written over."""
        if how.swapped or b % ALIGNED:
            return False
        stream, key = self._cupy.cuda.get_current_stream(), _key(how, A, B, b, C)
        if key in self._chosen:
            return self._chosen[key] is not None
        if stream.ptr and stream.is_capturing():
            return None
        self._chosen[key] = self._choose(how, A, B, b, C)
        return self._chosen[key] is not None

    def __call__(self, how: Gemm, A: int, B: int, b: int, C: int) -> None:
        """Queue one."""
        chosen = self._chosen.get(_key(how, A, B, b, C))
        if chosen is None:
            msg = f"no product that rectifies was chosen for {how}; `suits` is to be asked before"
            raise ProductError(msg)
        self._queue(chosen, A, B, b, C)

    def _choose(self, how: Gemm, A: int, B: int, b: int, C: int) -> Chosen | None:
        """What cuBLASLt recommends, if it is there, runs and keeps NaN."""
        try:
            chosen = self._heuristic(how, b, _key(how, A, B, b, C))
            return chosen if chosen and self._keeps_nan(chosen, how, A, B, C) else None
        except ProductError:
            return None

    def _queue(self, chosen: Chosen, A: int, B: int, b: int, C: int) -> None:
        at, (one, zero), (layout_A, layout_B, layout_C) = ctypes.c_void_p, self._factors, chosen.layouts
        size, workspace = chosen.found.workspace, captured_workspace()
        if size and workspace is None:
            workspace = self._cupy.empty(size, np.uint8)  # which the pool keeps for this stream
        with self._lock:
            _set("MatmulDesc", chosen.operation, BIAS_POINTER, at(b))
            status = _lt().cublasLtMatmul(
                _handle(current_device()),
                chosen.operation,
                *(ctypes.byref(one), at(A), layout_A, at(B), layout_B),
                *(ctypes.byref(zero), at(C), layout_C, at(C), layout_C),
                ctypes.byref(chosen.found.algorithm),
                *(at(workspace.data.ptr if size else None), ctypes.c_size_t(size)),
                at(self._cupy.cuda.get_current_stream().ptr),
            )
        check(status)

    def _heuristic(self, how: Gemm, b: int, key: Any) -> Chosen | None:
        """The algorithm that cuBLASLt recommends; None where it has none."""
        operation, layouts, found, count = self._operation(how, b), self._layouts(how), Found(), ctypes.c_int()
        _, _, (A, B, _, C) = key
        preference = _made("MatmulPreference", found)
        _set("MatmulPreference", preference, MAX_WORKSPACE_BYTES, ctypes.c_uint64(WORKSPACE_BYTES))
        for attribute, alignment in zip(MIN_ALIGNMENT_BYTES, (A, B, C, C), strict=True):
            _set("MatmulPreference", preference, attribute, ctypes.c_uint32(alignment))
        arguments = operation, *layouts, layouts[2], preference, 1, ctypes.byref(found), ctypes.byref(count)
        status = _lt().cublasLtMatmulAlgoGetHeuristic(_handle(current_device()), *arguments)
        if status == NOT_SUPPORTED or (not status and (count.value < 1 or found.state)):
            return None
        check(status)
        return Chosen(operation, layouts, found)

    def _operation(self, how: Gemm, b: int) -> ctypes.c_void_p:
        operation = _made("MatmulDesc", self, self._compute, REAL_32F)
        for attribute, value in (
            (TRANSA, ctypes.c_int32(how.transposes[0])),
            (TRANSB, ctypes.c_int32(how.transposes[1])),
            (EPILOGUE, ctypes.c_uint32(RELU_BIAS)),
            (BIAS_DATA_TYPE, ctypes.c_int32(self._result)),
            (BIAS_POINTER, ctypes.c_void_p(b)),
        ):
            _set("MatmulDesc", operation, attribute, value)
        return operation

    def _layouts(self, how: Gemm) -> list[ctypes.c_void_p]:
        (a_transposed, b_transposed), (lda, ldb, ldc) = how.transposes, how.leading
        matrices = [
            (self._operand, *((how.k, how.m) if a_transposed else (how.m, how.k)), lda),
            (self._operand, *((how.n, how.k) if b_transposed else (how.k, how.n)), ldb),
            (self._result, how.m, how.n, ldc),
        ]
        return [
            _made("MatrixLayout", self, type_, ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(leading))
            for type_, rows, columns, leading in matrices
        ]

    def _keeps_nan(self, chosen: Chosen, how: Gemm, A: int, B: int, C: int) -> bool:
        """Whether b = NaN makes the last column of C all NaN."""
        cupy, (name, infinity) = self._cupy, INFINITIES[self._result]
        b = cupy.full(how.m * np.dtype(name).itemsize, 0xFF, np.uint8)
        self._queue(chosen, A, B, b.data.ptr, C)
        begin = C + (how.n - 1) * how.leading[2] * np.dtype(name).itemsize
        memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(begin, b.nbytes, self), 0)
        made = cupy.ndarray((how.m,), name, memory).get()
        return bool(np.all(made & np.iinfo(name).max >> 1 > infinity))


def _key(how: Gemm, *places: int) -> Any:
    """What an algorithm is chosen by: the device, the shapes, and how far A, B, b and C are aligned."""
    return current_device(), how, tuple([min(place & -place, ALIGNED) for place in places])


def is_there() -> bool:
    """Whether cuBLASLt is."""
    try:
        return bool(_lt())
    except ProductError:
        return False


@lru_cache(maxsize=1)
def _lt() -> Any:
    """The library that comes with cuBLAS."""
    return library("cublasLt")


@cache
def _handle(_: int) -> ctypes.c_void_p:
    """The handle of a device, the current one."""
    handle = ctypes.c_void_p()
    check(_lt().cublasLtCreate(ctypes.byref(handle)))
    return handle


def _made(what: str, owner: Any, *arguments: Any) -> ctypes.c_void_p:
    """A description of cuBLASLt's, which lives as long as the owner."""
    made = ctypes.c_void_p()
    check(getattr(_lt(), f"cublasLt{what}Create")(ctypes.byref(made), *arguments))
    weakref.finalize(owner, getattr(_lt(), f"cublasLt{what}Destroy"), made).atexit = False
    return made


def _set(what: str, described: ctypes.c_void_p, attribute: int, value: Any) -> None:
    set_ = getattr(_lt(), f"cublasLt{what}SetAttribute")
    check(set_(described, attribute, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))))
