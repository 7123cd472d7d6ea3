"""CuPy on a machine without a GPU: its kernels are compiled by the C++ compiler, its CUDA is that of cuda.cpp.

Everything of CuPy and of nnarray is what runs on a GPU: arrays, memory pool, streams, launches with their arguments,
calls of cuBLAS. Left out are speed, rounding (no fused multiply-add) and NVIDIA's own code: the compiler, which tests
of test_cuda.py ask for every kernel of nnarray's, cuBLAS, and the sorting of Thrust, whose part NumPy takes.

CuPy's wheel has CUDA's runtime linked in. Each of its functions is made to jump to the one of that name in cuda.cpp, or
to one that says it is missing. Works with CuPy for CUDA 13 on Linux for x86-64.
"""

import ctypes
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-w", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", f"-I{HERE}"]
SHARED = ["-shared", "-ldl"]

JUMP = b"\xff\x25\x00\x00\x00\x00"
"""jmp to the address that follows"""

READ_WRITE_RUN = 7

CALLS = ("launches", "products", "graphs", "to host", "to device", "on device", "fillings")
"""What the host asks of a device: kernels, products, graphs, copies, memory to be filled."""

RECTIFIES = ("usual", "nothing found", "loses NaN")
"""How cuBLASLt rectifies: as it should, never, or so that NaN becomes 0."""

VERSIONS = "libcublas.so.13 { global: *; };"
"""which CuPy asks cuBLAS's functions to have"""

KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")

NVIDIAS = {
    r'asm\("cvt\.rn\.bf16\.f32[^;]*;[^;]*;': "bits = emulator_bfloat16(x);",
    r'asm\("cvt\.rn\.f16\.f32[^;]*;[^;]*;': "bits = emulator_float16(x);",
    r'asm\("cvt\.f32\.f16[^;]*;[^;]*;': "x = emulator_float(bits);",
    r"extern __shared__ (?:__align__\(.*?\)\)? )?(\w+) (\w+)\[\];": r"\1* \2 = (\1*)emulator_shared;",
}
"""What only NVIDIA's compiler takes, and what stands for it: nnarray's lines of assembler, CuPy's shared memory."""


def missing() -> str | None:
    """What this machine lacks to emulate a GPU; None where all is there."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the emulator is for Linux on x86-64"
    for tool in ("c++", "nm"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    if find_spec("cupy_backends") is None:
        return "CuPy is not installed"
    if _headers() is None:
        return "CUDA's headers are not installed (nvidia-cuda-runtime, nvidia-cuda-crt)"
    return None


class Emulator:
    """The GPU's stand-in. There can be one in a process, before CuPy has run anything."""

    def __init__(self) -> None:
        os.environ.setdefault("CUPY_ACCELERATORS", "")  # those are compiled already, for GPUs
        os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
        self.folder, self.includes = _folder(), [f"-I{place}" for place in _include_folders()]
        self.cuda = self._library("libcuda.so.1", HERE / "cuda.cpp", HERE / "threads.cpp")
        from cupy_backends.cuda.api import runtime

        absent, versions = self._write("absent.cpp", _absent_products()), self._write("versions", VERSIONS)
        needs = self.folder / "libcuda.so.1"
        self._library("libcublas.so.13", HERE / "cublas.cpp", absent, needs, f"-Wl,--version-script={versions}")
        self.lt = self._library("libcublasLt.so.13", HERE / "cublaslt.cpp", needs)
        self._take_the_place_of(Path(runtime.__file__))
        from cuda import pathfinder
        from cupy.cuda import compiler, thrust

        load = pathfinder.load_nvidia_dynamic_lib
        pathfinder.load_nvidia_dynamic_lib = lambda name: None if name == "cublas" else load(name)  # is loaded
        self.flags = [*FLAGS, "-O1", *self.includes, "-DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_CPP"]
        compiler._compile_using_nvrtc_no_warning = self._compile
        compiler._get_nvrtc_version = lambda: (13, 0)
        compiler._get_arch = lambda: "90"
        compiler._get_arch_for_options_for_nvrtc = lambda arch=None: ("-arch=sm_90", "cubin")
        compiler._preprocess = lambda *_: ""
        thrust.sort, thrust.argsort = _sort, _argsort

    def count(self, what: str) -> int:
        """How often since `reset`: one of `CALLS`, "waits" of the host, what was "refused" in a capture, products that
        "rectified"."""
        return int(self.cuda.emulator_count(what.encode()))

    def calls(self) -> dict[str, int]:
        """How often the host called the device since `reset`, by kind; kinds that were not called are left out."""
        return {what: count for what in CALLS if (count := self.count(what))}

    @contextmanager
    def null(self) -> Iterator[None]:
        """A block in which what is queued is counted and not done: what takes time in it is the host's.

        Whatever is copied to the host is small numbers above 0, or true. What is made in it and kept, such as constants
        and graphs, holds nothing afterwards.
        """
        self.cuda.emulator_null(1)
        try:
            yield
        finally:
            self.cuda.emulator_null(0)

    @contextmanager
    def rectifying(self, how: str) -> Iterator[None]:
        """A block in which cuBLASLt finds such algorithms: one of `RECTIFIES`."""
        self.lt.emulator_rectifies(RECTIFIES.index(how))
        try:
            yield
        finally:
            self.lt.emulator_rectifies(0)

    def reset(self) -> None:
        """Count from 0."""
        self.cuda.emulator_reset()

    def limit_memory(self, size: int) -> None:
        """Let each device have so many bytes."""
        self.cuda.emulator_limit_memory(ctypes.c_size_t(size))

    def _library(self, name: str, *parts: Path | str) -> ctypes.CDLL:
        """A library of that name, compiled and loaded, so that CuPy finds it in the place of NVIDIA's."""
        path = self.folder / name
        _make(path, ["c++", *FLAGS, "-O2", *self.includes, *map(str, parts), f"-Wl,-soname,{name}", *SHARED])
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)

    def _write(self, name: str, text: str) -> Path:
        made = self.folder / f"{name}.{os.getpid()}"
        made.write_text(text)
        return made.replace(self.folder / name)

    def _take_the_place_of(self, runtime: Path) -> None:
        """Let every function of the runtime that CuPy has linked in jump to the emulator's."""
        maps = Path("/proc/self/maps").read_text().splitlines()
        begin = min(int(line.split("-")[0], 16) for line in maps if line.endswith(str(runtime.resolve())))
        libc = ctypes.CDLL(None)
        for address, name in _functions(runtime):
            place, page = begin + address, (begin + address) & ~4095
            code = JUMP + struct.pack("<Q", _address(self.cuda, name))
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(place + len(code) - page), READ_WRITE_RUN):
                msg = "this system lets no code be changed"
                raise OSError(msg)
            ctypes.memmove(place, code, len(code))

    def _compile(self, source: str, options: Any = (), *_: Any, **__: Any) -> tuple[bytes, dict[str, str]]:
        """In the place of a binary for a GPU, the path of a library."""
        defines = [option for option in options if option.startswith("-D")]
        for pattern, replacement in NVIDIAS.items():
            source = re.sub(pattern, replacement, source)
        meet = int("__sync" in source or "__shfl" in source)
        names = dict.fromkeys(KERNEL.findall(source))
        source = f'#include "{self._header(source)}"\n{source}\nextern "C" {{ int emulator_threads_meet = {meet}; }}\n'
        source += "".join(f"EMULATOR_KERNEL({name})\n" for name in names)
        path = self.folder / f"{hashlib.sha256((source + repr(defines)).encode()).hexdigest()[:32]}.so"
        if not path.exists():
            text = path.with_suffix(f".{os.getpid()}.{get_ident()}.cpp")
            text.write_text(source)
            _make(path, ["c++", *self.flags, *defines, str(text), *SHARED])
            text.unlink()
        return bytes(path) + b"\0", {}

    @cache  # noqa: B019
    def _prepared(self, *included: str) -> Path:
        """A header of these, compiled beforehand."""
        name = f"{'cupy' if len(included) > 1 else 'plain'}.h"
        if not (path := self.folder / name).exists():
            self._write(name, "#pragma once\n" + "".join(f"#include <{file}>\n" for file in included))
        _make(path.with_suffix(".h.gch"), ["c++", *self.flags, "-x", "c++-header", str(path)])
        return path

    def _header(self, source: str) -> Path:
        own = ["complex", "carray", "atomics", "float16"] if "cupy/" in source else []
        return self._prepared("kernel.h", *(f"cupy/{name}.cuh" for name in own))


def _make(path: Path, command: list[str]) -> None:
    """Compile to a file, unless it is there; other processes may be making the same one."""
    if path.exists():
        return
    made = path.with_suffix(f".{os.getpid()}.{get_ident()}")
    done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"the emulator cannot compile this: {done.stderr[:4000]}"
        raise RuntimeError(msg)
    made.replace(path)


def _folder() -> Path:
    """Where libraries are kept: one folder for each state of these files and of CuPy."""
    files = sorted(HERE.iterdir(), key=lambda file: file.name)
    state = "".join(file.read_text() for file in files if file.suffix in {".cpp", ".h", ".py"})
    state += version("cupy-cuda13x") + str(_include_folders())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "nnarray-emulator" / hashlib.sha256(state.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _headers() -> Path | None:
    spec = find_spec("nvidia")
    places = [Path(place) / "cu13" / "include" for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if (place / "crt" / "host_defines.h").exists()), None)


def _include_folders() -> list[Path]:
    """CUDA's headers, and those that come with CuPy."""
    spec = find_spec("cupy")
    assert spec is not None
    assert spec.origin is not None
    own = Path(spec.origin).parent / "_core" / "include"
    return [_headers() or own, own, own / "cupy" / "_cccl" / "libcudacxx", own / "cupy" / "_cccl" / "thrust"]


def _functions(library: Path) -> list[tuple[int, str]]:
    """Where CUDA's functions are in a library, and their names."""
    listed = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True).stdout
    return [(int(at, 16), name) for at, name in re.findall(r"^(\w+) [tT] (cuda[A-Z]\w+)$", listed, re.MULTILINE)]


def _address(cuda: ctypes.CDLL, name: str) -> int:
    try:
        function: Any = getattr(cuda, name)
    except AttributeError:
        function = _absent(name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def _absent(name: str) -> Any:
    def say() -> int:
        sys.stderr.write(f"emulator: {name} is missing\n")
        return 801  # cudaErrorNotSupported

    return ctypes.CFUNCTYPE(ctypes.c_int)(say)


def _absent_products() -> str:
    """The source of those functions of cuBLAS that CuPy names and cublas.cpp lacks."""
    spec = find_spec("cupy_backends.cuda.libs.cublas")
    assert spec is not None
    assert spec.origin is not None
    listed = subprocess.run(["nm", "-D", spec.origin], capture_output=True, text=True, check=True).stdout
    there = set(re.findall(r"(?:int |GEMM\()(cublas\w+)", (HERE / "cublas.cpp").read_text()))
    wanted = sorted(set(re.findall(r" U (cublas\w+)", listed)) - there)
    return "".join(f'extern "C" int {name}() {{ return 15; }}  // not supported\n' for name in wanted)


def _memory(place: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    import cupy

    cupy.cuda.Device().synchronize()
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(place), dtype).reshape(shape)


def _sort(dtype: Any, data: int, keys: int, shape: tuple[int, ...]) -> None:
    _memory(data, dtype, shape).sort(axis=-1)


def _argsort(dtype: Any, order: int, data: int, keys: int, shape: tuple[int, ...]) -> None:
    x = _memory(data, dtype, shape)
    _memory(order, np.intp, shape)[...] = x.argsort(axis=-1, kind="stable")
    x.sort(axis=-1)
