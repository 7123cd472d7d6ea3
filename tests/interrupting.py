"""Interrupts at every point of a call: a signal raised at each event that Python's tracing shows inside nnarray."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

import nnarray as nn
from nnarray.backends import BLAS_THREADS, blas

INSIDE = str(Path(nn.__file__).parent)


class BrokenError(Exception):
    """What the handler of another signal raises."""


class State(NamedTuple):
    """What a call leaves as it was, however it ends."""

    blas: list[int]
    blocks: int
    outside: int
    handler: Any
    errors: dict[str, str]
    backend: str

    @classmethod
    def now(cls) -> "State":
        libraries = blas._libraries()
        return cls(
            blas._settings([*libraries.shared, *libraries.of_each_thread]),
            len(BLAS_THREADS._live()),
            BLAS_THREADS.outside(),
            signal.getsignal(signal.SIGINT),
            np.geterr(),
            nn.backend().name,
        )


class Tracer:
    """Counts the events inside nnarray and acts at one of them; `opcodes` sees every instruction, not only lines."""

    def __init__(self, at: int, act: Callable[[], Any], *, opcodes: bool) -> None:
        self.at, self.act, self.opcodes, self.seen, self.where = at, act, opcodes, 0, "nowhere"

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(INSIDE):
            return None
        if self.opcodes:
            frame.f_trace_opcodes = True
        self.seen += 1
        if self.seen == self.at:
            name, line = os.path.relpath(frame.f_code.co_filename, INSIDE), frame.f_lineno
            self.where = f"{name}:{line} in {frame.f_code.co_qualname}, {event} {self.at}"
            self.act()
        return self

    def run(self, call: Callable[[], Any]) -> Any:
        sys.settrace(self)
        try:
            return call()
        finally:
            sys.settrace(None)


def points(call: Callable[[], Any], *, opcodes: bool) -> int:
    """How many events a call has."""
    tracer = Tracer(0, lambda: None, opcodes=opcodes)
    tracer.run(call)
    return tracer.seen


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
    chosen: Iterator[int] | range,
    opcodes: bool,
    check: Callable[[], Any] = lambda: None,
) -> list[str]:
    """Run the call once for each chosen point, broken off there; what was wrong afterwards.

    `call` returns true if an interrupt ended it. What it leaves is compared with what was there before, `check` raises
    for what else is wrong, and no interrupt may be swallowed.
    """
    before, found, ignored = State.now(), list[str](), list[Any]()
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: ignored.append(repr(unraisable.exc_value))
    try:
        for at in chosen:
            tracer = Tracer(at, act, opcodes=opcodes)
            try:
                if not tracer.run(call) and tracer.seen >= at:
                    found.append(f"{tracer.where}: it was swallowed")
            except (KeyboardInterrupt, BrokenError):
                pass
            gc.collect(0)
            after = State.now()
            if after != before:
                found.append(f"{tracer.where}: {after}")
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
