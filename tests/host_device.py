"""A GPU's stand-in on the host: CUDA programs run on NumPy's memory, their kernels compiled by the C++ compiler.

One thread does the work of the grid, block by block, and a warp has one lane. Products are NumPy's, on operands read as
BLAS would read them, by columns and leading dimensions, and rounded as the GPU rounds them.
"""

import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import array_api_compat.numpy as compat
import numpy as np

from nnarray.programs.products import Gemm
from nnarray.programs.targets.cuda.prelude import COMMON

HOST = """\
#define FUNCTION(name) static float name(float x) { return __builtin_##name##f(x); } \
    static double name(double x) { return __builtin_##name(x); }
namespace host {
FUNCTION(exp) FUNCTION(expm1) FUNCTION(fabs) FUNCTION(floor) FUNCTION(log) FUNCTION(log1p) FUNCTION(sqrt) FUNCTION(tanh)
#define __global__
#define __device__ static inline
#define WARP 1
#define BLOCK 1
#define __launch_bounds__(...)
#define LOWEST (-__builtin_inff())
struct dim { unsigned x; };
static dim blockIdx, threadIdx, blockDim, gridDim;
extern "C" void place(unsigned block, unsigned blocks) { blockIdx.x = block; gridDim.x = blocks; blockDim.x = 1; }
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
template <class V> static V __shfl_xor_sync(unsigned, V x, int) { return x; }
static void __syncwarp() {}
static void __syncthreads() {}
#define __shared__ static
__device__ float from_bfloat16(unsigned short bits) {
    unsigned wide = (unsigned)bits << 16;
    float x;
    __builtin_memcpy(&x, &wide, 4);
    return x;
}
__device__ unsigned short to_bfloat16(float x) {
    unsigned wide;
    __builtin_memcpy(&wide, &x, 4);
    return x != x ? 0x7fff : (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
}
typedef float floats __attribute__((vector_size(16)));
typedef short shorts __attribute__((vector_size(16)));
__device__ float from_float16(unsigned short bits) { return __builtin_ia32_vcvtph2ps(shorts{(short)bits})[0]; }
__device__ unsigned short to_float16(float x) { return __builtin_ia32_vcvtps2ph(floats{x}, 0)[0]; }
"""

COMPILER = [found] if (found := shutil.which("c++")) else None
if COMPILER is None and find_spec("ziglang"):
    COMPILER = [sys.executable, "-m", "ziglang", "c++"]


_folder = tempfile.TemporaryDirectory(prefix="nnarray-host-kernels-")


@cache
def _library(source: str) -> ctypes.CDLL:
    """The kernels, compiled."""
    assert COMPILER is not None
    text = Path(_folder.name) / f"{_library.cache_info().misses}.cpp"
    text.write_text(HOST + COMMON + source + "}\n")
    options = ["-O0", "-mf16c", "-shared", "-fPIC", "-ffp-contract=off", "-w"]
    subprocess.run([*COMPILER, *options, str(text), "-o", str(text.with_suffix(".so"))], check=True)
    return ctypes.CDLL(str(text.with_suffix(".so")))


class Stream:
    """What is queued here is done as late as CUDA may do it: when something waits for an event recorded after it."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []

    def wait_event(self, event: "Event") -> None:
        self.queue.append(event.happen)
        if isinstance(self, Now):
            self.run()

    def run(self) -> None:
        while self.queue:
            self.queue.pop(0)()


class Now(Stream):
    """The stream of programs, which the host runs at once."""


class Event:
    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.upto = 0
        self.host_knows = True

    def record(self, stream: Stream) -> None:
        self.stream, self.upto, self.host_knows = stream, len(stream.queue), False

    def synchronize(self) -> None:
        self.happen()
        self.host_knows = True

    def happen(self) -> None:
        if self.stream is not None:
            for _ in range(min(self.upto, len(self.stream.queue))):
                self.stream.queue.pop(0)()
            self.upto = 0


class HostDevice:
    """Counts what it runs: `launches`, `products`, `copies` and the `arrays` that it made.

    `room` bounds the bytes of one array, `free` is what it says is free, `rectifies` whether its products can.
    """

    def __init__(self, room: int | None = None, free: int = 2**40, *, rectifies: bool = True) -> None:
        self.most, self.free, self.rectifies = room, free, rectifies
        self.counts: Counter[str] = Counter()
        self.now = Now()
        self.largest = 0

    def room(self) -> int:
        return self.free

    def empty_pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.empty(shape, dtype)

    def new_stream(self) -> Stream:
        return Stream()

    def current_stream(self) -> Stream:
        return self.now

    def new_event(self) -> Event:
        return Event()

    def copy(self, there: Any, here: Any, stream: Stream) -> None:
        def copy() -> None:
            self.counts["copies"] += 1
            there[...] = here

        stream.queue.append(copy)

    def place(self, x: Any) -> tuple[int, tuple[int, ...]]:
        return x.ctypes.data, x.strides

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        x = np.empty(shape, dtype)
        if self.most is not None and x.nbytes > self.most:
            raise MemoryError(f"no room for {x.nbytes} bytes")
        self.largest = max(self.largest, x.nbytes)
        x.reshape(-1).view(np.uint8).fill(0xFF)  # NaN in every float: what is read before it was written shows
        self.counts["arrays"] += 1
        return x.view(DeviceArray)

    def ones(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.ones(shape, dtype)

    def release(self) -> bool:
        return False

    def constant(self, host: np.ndarray) -> Any:
        return host

    def kernel(self, source: str, name: str, layout: str) -> Callable[[int, int, tuple[Any, ...]], None]:
        library = _library(source)
        run = getattr(library, name)
        fields = [
            (f"field{i}", ctypes.c_double if letter == "d" else ctypes.c_longlong) for i, letter in enumerate(layout)
        ]
        given = type("Given", (ctypes.Structure,), {"_fields_": fields})

        def launch(blocks: int, threads: int, arguments: tuple[Any, ...]) -> None:
            self.counts["launches"] += 1
            c = given(*arguments)
            for block in range(blocks):
                library.place(block, blocks)
                run(c)

        return launch

    def product(self, dtype: str, operands: str) -> Callable[[Gemm, int, int, int], None]:
        def multiply(how: Gemm, A: int, B: int, C: int) -> None:
            self.counts["products"] += 1
            (a_transposed, b_transposed), (lda, ldb, ldc) = how.transposes, how.leading
            a = _matrix(A, (how.k, how.m) if a_transposed else (how.m, how.k), lda, _stored(dtype, operands))
            b = _matrix(B, (how.n, how.k) if b_transposed else (how.k, how.n), ldb, _stored(dtype, operands))
            c = _matrix(C, (how.m, how.n), ldc, _stored(dtype, dtype))
            a, b = _widened(a, operands), _widened(b, operands)
            c[...] = _narrowed((a.T if a_transposed else a) @ (b.T if b_transposed else b), dtype)

        return multiply

    def rectified(self, dtype: str, operands: str) -> "Rectified | None":
        return Rectified(self, dtype, operands) if self.rectifies and dtype != "float64" else None

    def number(self) -> int:
        return 0


class Rectified:
    """max(A B + b, 0), rounded once."""

    def __init__(self, device: HostDevice, dtype: str, operands: str) -> None:
        self.device, self.dtype, self.operands = device, dtype, operands

    def suits(self, how: Gemm, A: int, B: int, b: int, C: int) -> bool:
        return not how.swapped and b % 16 == 0

    def __call__(self, how: Gemm, A: int, B: int, b: int, C: int) -> None:
        assert self.suits(how, A, B, b, C)
        self.device.counts["rectified"] += 1
        kept = _stored(self.dtype, self.dtype)
        wide = np.empty((how.n, how.m), "float32").T
        plain = how._replace(leading=(*how.leading[:2], how.m))
        self.device.product("float32", self.operands)(plain, A, B, wide.ctypes.data)
        bias = _widened(_matrix(b, (how.m, 1), how.m, kept), self.dtype)
        _matrix(C, (how.m, how.n), how.leading[2], kept)[...] = _narrowed(np.maximum(wide + bias, 0.0), self.dtype)


def rounded(x: np.ndarray, operands: str) -> np.ndarray:
    """float32 rounded to a narrower float and back, to the nearest, ties to even."""
    if operands == "float16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float32)
    dropped = {"tf32": 13, "bfloat16": 16}[operands]
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits += (1 << (dropped - 1)) - 1 + (bits >> dropped & 1)
    return (bits >> dropped << dropped).astype(np.uint32).view(np.float32).reshape(x.shape)


def _stored(dtype: str, operands: str) -> str:
    return "uint16" if operands in ("bfloat16", "float16") else dtype


def _widened(x: np.ndarray, operands: str) -> np.ndarray:
    if operands == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    if operands == "float16":
        return x.view(np.float16).astype(np.float32)
    return rounded(x, operands) if operands == "tf32" else x


def _narrowed(x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (rounded(x, dtype).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(np.float16).view(np.uint16) if dtype == "float16" else x


def _matrix(begin: int, shape: tuple[int, int], leading: int, dtype: str) -> np.ndarray:
    """The matrix that lies by columns from `begin` on."""
    assert leading >= shape[0]
    size = np.dtype(dtype).itemsize
    return memory(begin, shape, dtype, (size, leading * size))


def memory(begin: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...]) -> np.ndarray:
    """The array that lies in memory from `begin` on."""
    size = np.dtype(dtype).itemsize + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    return np.ndarray(shape, dtype, (ctypes.c_char * size).from_address(begin), strides=strides)


class DeviceArray(np.ndarray):
    """An array that counts how often the host looks at its values."""

    looks: ClassVar[Counter[str]] = Counter()

    def _look(self, name: str) -> Any:
        DeviceArray.looks[name] += 1
        return getattr(np.asarray(self), name)

    def __float__(self) -> float:
        return self._look("__float__")()

    def __bool__(self) -> bool:
        return self._look("__bool__")()

    def __int__(self) -> int:
        return self._look("__int__")()

    def __index__(self) -> int:
        return self._look("__index__")()

    def item(self, *given: Any) -> Any:
        return self._look("item")(*given)

    def tolist(self) -> Any:
        return self._look("tolist")()


class DeviceNamespace:
    """NumPy's functions, giving arrays that count who looks."""

    __name__ = "device"

    def __getattr__(self, name: str) -> Any:
        found = getattr(compat, name)
        return self._counting(found) if callable(found) and not isinstance(found, type) else found

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            result = function(*given, **options)
            return np.asarray(result).view(DeviceArray) if isinstance(result, np.ndarray | np.generic) else result

        return call
