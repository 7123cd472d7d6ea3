"""Interrupts at every point of a call: a signal raised at each event that Python's tracing shows."""

import dis
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import InvalidStateError
from functools import cache
from inspect import CO_GENERATOR
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

import nnarray as nn
from nnarray.backends import BLAS_THREADS, blas

INSIDE, TESTS = str(Path(nn.__file__).parent), str(Path(__file__).parent)


LOOKING = "CALL", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "RESUME"
"""How the instructions begin after which CPython looks for signals."""


@cache
def instructions(code: CodeType) -> dict[int, str]:
    """The names of the instructions by their places."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


class BrokenError(BaseException):
    """What the handler of another signal raises."""


class State(NamedTuple):
    """What a call leaves as it was, however it ends."""

    blas: list[int]
    blocks: int
    outside: int
    handler: Any
    terminated: Any
    errors: dict[str, str]
    backend: str
    options: dict[str, Any]
    torch: tuple[Any, ...]
    jax: tuple[Any, ...]
    warnings: tuple[Any, ...]
    settings: tuple[Any, ...]
    environment: dict[str, str]
    threads: list[str]
    streams: tuple[Any, ...]
    is_locked: bool
    descriptor: int

    def other_than(self, before: "State") -> str:
        """What is not as it was."""
        found = zip(self._fields, before, self, strict=True)
        return ", ".join([f"{name}: {then!r} became {now!r}" for name, then, now in found if then != now])

    @classmethod
    def now(cls) -> "State":
        libraries = blas._libraries()
        return cls(
            blas._settings([*libraries.shared, *libraries.of_each_thread]),
            len(BLAS_THREADS._live()),
            BLAS_THREADS.outside(),
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            np.geterr(),
            nn.backend().name,
            _sklearn_s_options(),
            _torch_s_state(),
            _jax_s_state(),
            (len(warnings.filters), warnings.filters[:2], warnings.showwarning),
            _settings_of_others(),
            dict(os.environ),
            _threads_of_others(),
            (sys.stdout, sys.stderr, sys.excepthook),
            _is_locked(),
            _free_descriptor(),
        )


def _sklearn_s_options() -> dict[str, Any]:
    sklearn = sys.modules.get("sklearn")
    return {} if sklearn is None else sklearn.get_config()


def _torch_s_state() -> tuple[Any, ...]:
    torch = sys.modules.get("torch")
    if torch is None:
        return ()
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.is_inference_mode_enabled(),
    )


def _jax_s_state() -> tuple[Any, ...]:
    jax = sys.modules.get("jax")
    if jax is None:
        return ()
    from jax.extend.core import get_opaque_trace_state

    config = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_device,
        config.jax_disable_jit,
        get_opaque_trace_state(),
    )


def _settings_of_others() -> tuple[Any, ...]:
    """matplotlib's and dask's."""
    plotting, dask = sys.modules.get("matplotlib"), sys.modules.get("dask.config")
    return plotting and repr(plotting.rcParams), dask and repr(dask.config)


def _threads_of_others() -> list[str]:
    """The threads that are no helpers, which wait for the next call, and not tqdm's, of which there is one at most."""
    names = [thread.name for thread in threading.enumerate() if type(thread).__name__ != "TMonitor"]
    return sorted(name for name in names if not name.startswith("nnarray"))


def _is_locked() -> bool:
    """Whether this thread holds the lock of BLAS's threads, for which others would wait."""
    lock: Any = BLAS_THREADS._lock
    return bool(lock._is_owned())


def _settled(before: State, after: State) -> tuple[State, State]:
    """The states without what other threads do: those of earlier tests open and close files meanwhile."""
    if after.descriptor == before.descriptor:
        return before, after
    time.sleep(0.5)
    after = after._replace(descriptor=_free_descriptor())
    if after.descriptor < before.descriptor:
        before = before._replace(descriptor=after.descriptor)
    return before, after


def _free_descriptor() -> int:
    """The lowest number that no open file has."""
    number = os.dup(1)
    os.close(number)
    return number


def _is_called_by_tests(frame: FrameType) -> bool:
    """Whether this is another library's function that a test calls for itself."""
    above = frame.f_back
    return (
        above is not None
        and above.f_code.co_filename.startswith(TESTS)
        and not frame.f_code.co_filename.startswith(INSIDE)
    )


def _is_swallowed(frame: FrameType) -> bool:
    """Whether this is another library's hash, comparison, length or array: to C code that asks, any exception is none.

    (matplotlib's, by pybind11, takes a transformation that gives no array for none.) And matplotlib's callbacks of weak
    references, of which Python ignores what they raise.
    """
    return frame.f_code.co_name in SWALLOWED and not is_inside(frame)


SWALLOWED = {"__hash__", "__eq__", "__len__", "__array__", "_remove_proxy", "_cb"}


def _ends_a_block_of_others(frame: FrameType) -> bool:
    """Whether another library begins to leave its own `with`, which nobody leaves if a signal comes there."""
    above = frame.f_back
    return frame.f_code.co_name == "__exit__" and above is not None and not is_inside(above) and not is_inside(frame)


def _leaves_a_block(frame: FrameType) -> bool:
    """Whether the body of a `with` is over and its end not called yet: there the interpreter looks for no signal."""
    names, place = instructions(frame.f_code), frame.f_lasti
    return [names.get(place + 2 * i) for i in range(4)] in LEAVING


LEAVING = [["LOAD_CONST"] * 3 + [call] for call in ("PRECALL", "CALL")]
"""How the instructions begin that call `__exit__` without an error."""


class Tracer:
    """Counts the events of a call and acts at one of them.

    Events in nnarray are its calls, lines and returns, and with `opcodes` every instruction. In the Python that it
    calls, the standard library's among it, they are those at which a signal can come, as the interpreter looks for one
    there: after a call and before a loop goes round, and not where a function returns. None is in a generator that is
    resumed only to be closed.
    """

    def __init__(self, at: int, act: Callable[[], Any], *, opcodes: bool) -> None:
        self.at, self.act, self.opcodes, self.seen, self.where = at, act, opcodes, 0, "nowhere"
        self._before, self._closed = dict[int, str](), set[int]()  # by id: to keep frames is to keep what they hold

    def __call__(self, frame: FrameType, event: str, of: Any) -> Any:
        if frame.f_code.co_filename.startswith(TESTS) or _is_called_by_tests(frame) or _is_swallowed(frame):
            return None
        if event in ("call", "exception"):  # between what raises and the first instruction of a handler comes no signal
            self._before.pop(id(frame), None)
        if event == "call":
            self._closed.discard(id(frame))
        if frame.f_code.co_flags & CO_GENERATOR and self._may_close(frame, event, of):
            return self
        if event == "line" and _leaves_a_block(frame):
            return self
        if event == "return" and frame.f_code.co_name == "__enter__":  # nor between it and the block
            return self
        if not frame.f_code.co_filename.startswith(INSIDE):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            looks = event != "opcode" or self._looks_for_signals(frame)
            if event == "return" or not looks or (event == "call" and _ends_a_block_of_others(frame)):
                return self
        elif self.opcodes:
            frame.f_trace_opcodes = True
        self.seen += 1
        if self.seen == self.at:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}, {event} {self.at}"
            sys.settrace(None)  # what follows is faster
            self.act()
        return self

    def _looks_for_signals(self, frame: FrameType) -> bool:
        """Whether the instruction before this one was one after which a signal's handler may run."""
        before = self._before.get(id(frame), "")
        self._before[id(frame)] = instructions(frame.f_code).get(frame.f_lasti, "")
        return before.startswith(LOOKING)

    def _may_close(self, frame: FrameType, event: str, of: Any) -> bool:
        """Whether this event of a generator is one of its being closed, or like the first of those."""
        if event == "call":
            return True
        if event == "exception" and of[0] is GeneratorExit:
            self._closed.add(id(frame))
        return id(frame) in self._closed

    def run(self, call: Callable[[], Any]) -> Any:
        gc.disable()  # what other libraries do at a collection may be interrupted anywhere, and Python ignores it there
        sys.settrace(self)
        try:
            return call()
        finally:
            sys.settrace(None)
            gc.enable()
            self._before.clear()
            self._closed.clear()


def points(call: Callable[[], Any], *, opcodes: bool) -> int:
    """How many events a call has."""
    tracer = Tracer(0, lambda: None, opcodes=opcodes)
    tracer.run(call)
    return tracer.seen


def place_of(frame: FrameType, event: str) -> Any:
    """A place in the code, told apart by what leads there: nnarray's last three functions; to places outside, one."""
    return frame.f_code, frame.f_lasti, event, tuple(islice(_callers(frame), 3 if is_inside(frame) else 1))


def is_inside(frame: FrameType) -> bool:
    """Whether the frame is of nnarray."""
    return frame.f_code.co_filename.startswith(INSIDE)


def _callers(frame: FrameType) -> Iterator[tuple[CodeType, int | None]]:
    above = frame.f_back
    while above is not None:
        if is_inside(above):
            yield above.f_code, above.f_lineno
        above = above.f_back


class Places(Tracer):
    """The events of each place in the code."""

    def __init__(self, *, opcodes: bool) -> None:
        super().__init__(0, lambda: None, opcodes=opcodes)
        self.events: dict[Any, list[int]] = {}

    def __call__(self, frame: FrameType, event: str, of: Any) -> Any:
        seen = self.seen
        went_on = super().__call__(frame, event, of)
        if self.seen > seen:
            self.events.setdefault(place_of(frame, event), []).append(self.seen)
        return went_on


def places(call: Callable[[], Any], *, opcodes: bool, of: str = "") -> list[int]:
    """Of each place that a call goes through, its first event and its last; `of` is how the file's name ends."""
    tracer = Places(opcodes=opcodes)
    tracer.run(call)
    chosen = [events for (code, *_), events in tracer.events.items() if code.co_filename.endswith(of)]
    return sorted({event for events in chosen for event in (events[0], events[-1])})


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def break_off() -> None:
    """What a handler of another signal may do, which no handler of SIGINT can put off."""
    raise BrokenError


def faults(
    call: Callable[[], Any],
    *,
    act: Callable[[], Any],
    chosen: Iterable[int],
    opcodes: bool,
    check: Callable[[], Any] = lambda: None,
) -> list[str]:
    """Run the call once for each chosen point, broken off there; what was wrong afterwards.

    `call` returns true if an interrupt ended it. What it leaves is compared with what was there before, `check` raises
    for what else is wrong, and no interrupt may be swallowed.
    """
    gc.collect()  # what earlier tests left may hold files open
    before, found, ignored = State.now(), list[str](), list[Any]()

    def note(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, ResourceWarning):  # of a file that was open, and is closed thereby
            ignored.append(repr(unraisable.exc_value))

    hook, sys.unraisablehook = sys.unraisablehook, note
    try:
        for at in chosen:
            tracer = Tracer(at, act, opcodes=opcodes)
            try:
                if not tracer.run(call) and tracer.seen >= at:
                    found.append(f"{tracer.where}: it was swallowed")
            except (KeyboardInterrupt, BrokenError, InvalidStateError):  # the last, of a future that has its result
                pass
            gc.collect(0)
            before, after = _settled(before, State.now())
            if opcodes and after.is_locked:  # between the last instruction of a `with` and its end comes no signal
                after = after._replace(is_locked=False)
                BLAS_THREADS._lock = type(BLAS_THREADS)()._lock
            if after != before:
                found.append(f"{tracer.where}: {after.other_than(before)}")
                vars(BLAS_THREADS).update(vars(type(BLAS_THREADS)()))
                blas._set(blas._libraries().shared, before.blas)
                signal.signal(signal.SIGINT, before.handler)
            if ignored:
                found.append(f"{tracer.where}: ignored: {ignored}")
                ignored.clear()
            try:
                check()
            except Exception as error:
                found.append(f"{tracer.where}: {error!r}")
    finally:
        sys.unraisablehook = hook
    return found


def helpers_at_rest() -> bool:
    """Whether no helper is in the middle of a tile; idle ones wait for work."""
    return not any(
        thread.name.startswith("nnarray") and any("engine" in name for name in _files(thread))
        for thread in threading.enumerate()
    )


def _files(thread: threading.Thread) -> list[str]:
    frame, files = sys._current_frames().get(thread.ident or 0), []
    while frame is not None:
        files.append(os.path.relpath(frame.f_code.co_filename, INSIDE))
        frame = frame.f_back
    return [name for name in files if not name.startswith("..")]


def run(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, which imports what the tests import."""
    path = os.pathsep.join([TESTS, str(Path(INSIDE).parent)])
    command, env = [sys.executable, "-c", code, *words], os.environ | {"PYTHONPATH": path} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=env)
