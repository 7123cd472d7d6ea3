"""Programs for NumPy's arrays: machine code where there is a compiler, else NumPy's calls."""

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from nnarray.backends.cblas import cblas
from nnarray.backends.primitives import plain_primitives
from nnarray.programs.protocols import CompiledSteps, PackedProgram, Program

if TYPE_CHECKING:
    from nnarray.programs.graph import Graph
    from nnarray.programs.training_step import StepArrays

VARIABLE = "NNARRAY_MACHINE_CODE"
"""Set to 0 in the environment, programs on NumPy are NumPy's calls. Read once."""


@lru_cache(maxsize=1)
def unavailable_reason() -> str | None:
    """Why programs are not compiled to machine code on this machine; None where they are."""
    from nnarray.programs.targets.llvm import arrays

    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    if find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    if not arrays.are_known():
        return "NumPy's arrays do not lie in memory as its headers say"
    if cblas() is None:
        return "no OpenBLAS was found"
    return _compiler_fails()


def is_made() -> bool:
    """Whether programs are machine code, which several threads may share; not where plain primitives are asked for."""
    return not plain_primitives() and unavailable_reason() is None


def new_program(graph: "Graph", *, shared: bool) -> Program:
    """The graph compiled; one that is `shared` is in pieces for several threads."""
    blas = cblas()
    if blas is not None and unavailable_reason() is None:
        from nnarray.programs.targets.llvm import program

        return program.Program(graph, blas, shared=shared)
    from nnarray.programs.targets import numpy_calls

    return numpy_calls.Program(graph)


def packed_program(program: Program | None, groups: Sequence[int]) -> PackedProgram | None:
    """The program for arrays of which each holds so many of its own, side by side; None if it is no machine code."""
    if unavailable_reason() is not None:
        return None
    from nnarray.programs.targets.llvm import program as target

    return target.Packed(program, groups) if isinstance(program, target.Program) else None


def new_compiled_steps(
    gradient: Any, update: Any, arrays: "StepArrays", *, columns: int, steps: int
) -> CompiledSteps | None:
    """Steps of these programs as one call; None where they are no machine code, or it cannot read the arrays."""
    from nnarray.programs.products import StridesError
    from nnarray.programs.targets.llvm import program
    from nnarray.programs.targets.llvm import training_step as target

    if not (isinstance(gradient, program.Program) and isinstance(update, program.Program)):
        return None
    for V in arrays.examples:
        if not (isinstance(V, np.ndarray) and V.dtype == arrays.g.dtype and V.flags.aligned):
            return None
    try:
        return target.TrainingSteps(gradient, update, arrays, columns=columns, steps=steps)
    except StridesError:
        return None


def _compiler_fails() -> str | None:
    """Why LLVM does not compile for this processor; None where it does."""
    from nnarray.programs.targets.llvm.driver import driver

    try:
        driver()
    except (RuntimeError, OSError, ImportError) as error:
        return f"LLVM does not compile for this processor: {error}"
    return None
