"""llvmlite, which turns LLVM IR into functions of this process."""

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

from nnarray.programs.targets.llvm.code import FUNCTION, MASKED, PARALLEL, UNMASKED
from nnarray.programs.tasks import in_another_thread

SPEED = 3
"""LLVM's level of optimisation for what goes over arrays."""

MASKS, LONG = "+avx512vl", "+avx512f"
"""What x86-64 processors have that load and store vectors in part, and whose vectors are as long as a cache line."""

_numbers = count()
_engines = dict[str, tuple[Any, Any, Sequence[str], Any]]()
_functions = dict[str, "Compiled"]()


class Compiled(NamedTuple):
    """A function, which is called with addresses while other threads run on."""

    run: Callable[..., int]
    address: int


def compiled(source: str) -> Compiled:
    """The function of the source. It stays for as long as the process."""
    [function] = compiled_together([source])
    return function


def compiled_together(sources: Sequence[str]) -> list[Compiled]:
    """The same of several: what is new is one module, as each module takes LLVM 2 to 3 ms besides its functions.

    Each call of LLVM takes a lock of llvmlite's, which an interrupt would leave locked: no signal comes where it is
    called. Two threads that compile the same at the same time get a function each.
    """
    new = [source for source in dict.fromkeys(sources) if source not in _functions]
    if new:
        _functions.update(in_another_thread(lambda: _compiled(new)))
    return [_functions[source] for source in sources]


def has_long_vectors() -> bool:
    """Whether the processor has vectors of 64 bytes, and 32 of them."""
    _, _, features, _ = _engines.get("") or in_another_thread(_engine)
    return LONG in features


def _compiled(sources: Sequence[str]) -> dict[str, Compiled]:
    llvm, machine, features, engine = _engine()
    options = llvm.create_pipeline_tuning_options(speed_level=SPEED)
    options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    names, linked = {source: f"{FUNCTION}{next(_numbers)}" for source in sources}, _module(llvm, machine)
    for vectorises in {PARALLEL in source for source in sources}:
        module = _module(llvm, machine)
        for source in [source for source in sources if (PARALLEL in source) == vectorises]:
            text = source.replace(UNMASKED, MASKED) if MASKS in features else source
            module.link_in(llvm.parse_assembly(text.replace(f"@{FUNCTION}(", f"@{names[source]}(")))
        module.verify()
        (builder.getModulePassManager() if vectorises else _passes_as_written(llvm)).run(module, builder)
        linked.link_in(module)
    engine.add_module(linked)
    engine.finalize_object()
    return {source: _function_at(engine.get_function_address(name)) for source, name in names.items()}


def _module(llvm: Any, machine: Any) -> Any:
    """A module for the machine, without functions yet."""
    module = llvm.parse_assembly("")
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    return module


def _function_at(address: int) -> Compiled:
    run = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(address)
    return Compiled(run, address)


def _passes_as_written(llvm: Any) -> Any:
    """For what has no parallel loop to vectorise: variables in registers. All passes take 26 ms of an EPYC, not 12."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    return passes


def _engine() -> tuple[Any, Any, Sequence[str], Any]:
    """llvmlite's binding, a machine like this one, what it can, and the engine that holds what is compiled.

    There is one engine: of threads that make one at the same time, all take the first.
    """
    if "" not in _engines:
        llvm, machine, features = _machine()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine()[1])
        _engines.setdefault("", (llvm, machine, features.split(","), engine))
    return _engines[""]


def _machine() -> tuple[Any, Any, str]:
    """llvmlite's binding, a machine like this one, and what it can."""
    import llvmlite.binding as llvm

    _lock_while_forking(getattr(llvm.ffi.lib, "_lock", None))
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target, cpu = llvm.Target.from_default_triple(), llvm.get_host_cpu_name()
    features = str(llvm.get_host_cpu_features().flatten())
    return llvm, target.create_target_machine(cpu=cpu, features=features, opt=SPEED, jit=True), features


@cache
def _lock_while_forking(lock: Any) -> None:
    """Fork only while no thread is in LLVM: a child would inherit a lock that nobody unlocks."""
    if lock is not None and hasattr(os, "register_at_fork"):
        leave = partial(lock.__exit__, None, None, None)
        os.register_at_fork(before=lock.__enter__, after_in_parent=leave, after_in_child=leave)
