"""Programs: traced equations in the form in which a backend runs them again and again."""

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nnarray.backends.backend import Backend
from nnarray.backends.steps import plain_steps
from nnarray.programs.steps import StepArrays

if TYPE_CHECKING:
    from nnarray.backends.cupy.device import CupyDevice
    from nnarray.backends.cupy.uploads import Uploads
    from nnarray.programs.graph import Graph


MACHINE_CODE_VARIABLE = "NNARRAY_MACHINE_CODE"
"""Set to 0 in the environment, programs on NumPy are NumPy's calls. Read once."""


class Program(Protocol):
    """Called with the inputs and the outputs of a graph, in its order, it fills the outputs and returns the result.

    `works_in_place` says whether outputs may lie in the memory of the inputs that the graph would like them over.
    """

    works_in_place: bool

    def __call__(self, *given: Any) -> Any:
        """Run on these arrays and numbers."""


def has_programs(backend: Backend) -> bool:
    """Whether equations are compiled for the backend; not where the environment asks for plain steps."""
    return backend.name in {"numpy", "cupy"} and not plain_steps()


def new_program(graph: "Graph", backend: Backend, *, captured: bool = False, shared: bool = True) -> Program:
    """The graph compiled for the backend.

    One that is to be `captured`, on CuPy, finds its numbers on the device. One that is `shared`, in machine code, is in
    pieces for several threads.
    """
    if backend.name == "numpy":
        return _of_this_machine(graph, shared=shared)
    from nnarray.programs.targets.cuda import program

    return program.Program(graph, device=gpu(), operands=backend.precision, numbers_on_device=captured)


def _of_this_machine(graph: "Graph", *, shared: bool) -> Program:
    """Machine code where there is a compiler, else NumPy's calls."""
    from nnarray.backends.cblas import cblas

    blas = cblas()
    if blas is not None and machine_code_is_unavailable() is None:
        from nnarray.programs.targets.llvm import program

        return program.Program(graph, blas, shared=shared)
    from nnarray.programs.targets import numpy_calls

    return numpy_calls.Program(graph)


def shares_programs() -> bool:
    """Whether the programs on NumPy are in pieces that several threads may share."""
    return not plain_steps() and machine_code_is_unavailable() is None


def entries_at_once(backend: Backend) -> int | None:
    """Of long vectors, how many entries a program should be given: for NumPy's calls, what fits a cache; None: all."""
    return 2**16 if backend.name == "numpy" and machine_code_is_unavailable() else None


@lru_cache(maxsize=1)
def machine_code_is_unavailable() -> str | None:
    """Why programs are not compiled to machine code on this machine; None where they are."""
    from nnarray.backends.cblas import cblas
    from nnarray.programs.targets.llvm import arrays

    if os.environ.get(MACHINE_CODE_VARIABLE) == "0":
        return f"{MACHINE_CODE_VARIABLE} is 0"
    if find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    if not arrays.are_known():
        return "NumPy's arrays do not lie in memory as its headers say"
    if cblas() is None:
        return "no OpenBLAS was found"
    return _compiler_fails()


def _compiler_fails() -> str | None:
    """Why LLVM does not compile for this processor; None where it does."""
    from nnarray.programs.targets.llvm.driver import driver

    try:
        driver()
    except (RuntimeError, OSError, ImportError) as error:
        return f"LLVM does not compile for this processor: {error}"
    return None


class PackedProgram(Protocol):
    """A program whose parameters are one vector, and its gradients another."""

    def run(self, arrays: Any, numbers: Any) -> None:
        """Compute; raises ValueError, before that, if it is not for arrays like these."""

    def numbers(self, *scalars: float) -> tuple[float, ...]:
        """What `run` is given of the numbers that a program is given."""


def packed_program(program: Program | None, groups: Sequence[int]) -> PackedProgram | None:
    """The program for arrays of which each holds so many of its own, side by side; None if it is no machine code."""
    if machine_code_is_unavailable() is not None:
        return None
    from nnarray.programs.targets.llvm import program as machine_code

    return machine_code.Packed(program, groups) if isinstance(program, machine_code.Program) else None


class Steps(Protocol):
    """Training steps on mini-batches, each made with one call."""

    costs: Any
    """of the steps since the epoch began, on the device"""
    vectors: Any
    """theta and the running means: the same arrays all the time, or others after each call"""

    def begin(self, order: Any, numbers: Any, vectors: Any) -> None:
        """Begin an epoch.

        It is given the order of the columns, on the device, what both programs of each step are given as numbers, and
        theta and the running means.
        """

    def launch(self, count: int) -> None:
        """Make the next `count` steps, or queue them."""


def captures_steps(backend: Backend, *, whole: bool) -> bool:
    """Whether a training step can be one call: a graph on CuPy, machine code on NumPy, what JAX compiled on JAX.

    Steps on the `whole` batch can on NumPy alone.
    """
    if backend.name == "numpy":
        return shares_programs()
    return not whole and not plain_steps() and backend.name in {"cupy", "jax"}


def new_captured_steps(
    backend: Backend, gradient: Any, update: Any, arrays: StepArrays, *, columns: int, steps: int
) -> "Steps | None":
    """Steps of these programs; None where they cannot be one call: see `CapturedSteps` and machine code's `Steps`."""
    new = _on_gpu if backend.name == "cupy" else _in_machine_code
    return new(gradient, update, arrays, columns, steps)


def _in_machine_code(gradient: Any, update: Any, arrays: StepArrays, columns: int, steps: int) -> "Steps | None":
    from nnarray.programs.products import StridesError
    from nnarray.programs.targets.llvm import program
    from nnarray.programs.targets.llvm import steps as machine_code

    if not (isinstance(gradient, program.Program) and isinstance(update, program.Program)):
        return None
    for V in arrays.examples:
        if not (isinstance(V, np.ndarray) and V.dtype == arrays.g.dtype and V.flags.aligned):
            return None
    try:
        return machine_code.Steps(gradient, update, arrays, columns=columns, steps=steps)
    except StridesError:
        return None


def _on_gpu(gradient: Any, update: Any, arrays: StepArrays, columns: int, steps: int) -> "Steps | None":
    from nnarray.backends.cupy.graph import CapturedSteps

    try:
        return CapturedSteps(gradient, update, arrays, columns=columns, steps=steps)
    except (RuntimeError, MemoryError):  # of CUDA, of cuBLAS or of the pool
        return None


def new_uploads(backend: Backend, shape: tuple[int, int], dtype: Any) -> "Uploads":
    """Places on the GPU for tiles of up to shape[0] examples of shape[1] numbers."""
    from nnarray.backends.cupy.uploads import Uploads

    return Uploads(gpu(), shape, dtype)


def fits(size: int, backend: Backend, *, beside: int = 0) -> bool:
    """Whether so many bytes of examples may lie on the backend's device, `beside` others.

    They have to leave as much again to compute in.
    """
    if backend.name != "cupy":
        return True
    with backend.current():
        return size <= (gpu().room() - beside) // 2


@lru_cache(maxsize=1)
def gpu() -> "CupyDevice":
    """What runs programs on the GPU."""
    from nnarray.backends.cupy.device import CupyDevice

    return CupyDevice()
