"""llvmlite, which turns LLVM IR into functions of this process."""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

from nnarray.programs.targets.llvm.code import FUNCTION

SPEED = 3
"""LLVM's level of optimisation."""

_lock = Lock()


class Compiled(NamedTuple):
    """A function, which is called with addresses while other threads run on, and what owns its code."""

    run: Callable[..., int]
    address: int
    engine: Any


def compiled(source: str) -> Compiled:
    """The function of the source."""
    with _lock:
        return _compiled(source)


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Compiled:
    llvm, machine = _machine()
    module = llvm.parse_assembly(source)
    module.verify()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=SPEED)
    options.loop_vectorization, options.loop_unrolling, options.loop_interleaving = True, False, True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    address = engine.get_function_address(FUNCTION)
    run = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(address)
    return Compiled(run, address, engine)


def _machine() -> tuple[Any, Any]:
    """llvmlite's binding, and a machine like this one; an engine takes it for its own."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target, features = llvm.Target.from_default_triple(), llvm.get_host_cpu_features().flatten()
    return llvm, target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=SPEED, jit=True)
