"""Interrupts at many points of one call: at each a child is forked, is interrupted there, and tells what is wrong.

A call is traced once, not once for each point. Only for calls that need no thread but their own, as a fork takes no
threads along.
"""

import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from interrupting import INSIDE, BrokenError, State, Tracer

from nnarray.backends import BLAS_THREADS, blas

PATIENCE = 60
"""Seconds after which a child hangs."""


class ThreadsOfBlas:
    """BLAS's threads and who computes with them; nnarray gives a forked child's BLAS all of its threads back."""

    def __init__(self) -> None:
        self.known = dict(vars(BLAS_THREADS))
        self.settings = blas._settings(blas._libraries().shared)

    def set_again(self) -> None:
        """Set in the child what there was in its parent."""
        vars(BLAS_THREADS).update(self.known)
        blas._set(blas._libraries().shared, self.settings)
        BLAS_THREADS._lock.release()  # which the fork has locked once more


class Forks(Tracer):
    """Forks where a place in the code, told apart by its caller as well, is met the 1st, 2nd, 8th, 64th … time.

    In the Python that nnarray calls, of each so many places one is taken, the first time that it is met.
    `may_fork` tells where a fork would meddle with what the parent is doing, such as writing a file; those points are
    left, by their numbers, in `left`.
    """

    def __init__(
        self,
        act: Callable[[], Any],
        *,
        opcodes: bool,
        outside: int,
        may_fork: Callable[[], bool],
        after_each: Callable[[], Any],
    ) -> None:
        super().__init__(0, act, opcodes=opcodes)
        self.may_fork, self.after_each, self.outside = may_fork, after_each, outside
        self.places, self.left, self.wrong, self.forks = dict[Any, int](), list[int](), list[str](), 0
        self.pipe: int | None = None

    def __call__(self, frame: FrameType, event: str, of: Any) -> Any:
        seen = self.seen
        went_on = super().__call__(frame, event, of)
        if self.seen > seen and self.pipe is None and self._is_chosen(frame, event):
            if self.may_fork():
                self._fork(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}, {event}")
            else:
                self.left.append(self.seen)
        return went_on

    def _is_chosen(self, frame: FrameType, event: str) -> bool:
        above = frame.f_back
        place = frame.f_code, frame.f_lasti, event, above and (above.f_code, above.f_lineno)
        self.places[place] = times = self.places.get(place, 0) + 1
        if not frame.f_code.co_filename.startswith(INSIDE):
            return times == 1 and len(self.places) % self.outside == 0
        return times in {1, 2, 8, 64, 512}

    def _fork(self, where: str) -> None:
        here, there = os.pipe()
        self.forks += 1
        threads = ThreadsOfBlas()
        child = os.fork()
        if child == 0:
            threads.set_again()
            os.close(here)
            sys.settrace(None)
            self.pipe = there
            self.act()
            return
        os.close(there)
        said = b""
        while select.select([here], [], [], PATIENCE)[0] and (part := os.read(here, 65536)):
            said += part
        os.close(here)
        if said[-2:] != b"\n.":
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if said != b"\n.":
            told = said.removesuffix(b"\n.").decode() or f"it hangs or died, {os.waitstatus_to_exitcode(status)}"
            self.wrong.append(f"{where} {self.seen}: {told}")
        self.after_each()


def forked_faults(
    call: Callable[[], Any],
    *,
    act: Callable[[], Any],
    opcodes: bool = False,
    outside: int = 1,
    check: Callable[[], Any] = lambda: None,
    may_fork: Callable[[], bool] = lambda: True,
    after_each: Callable[[], Any] = lambda: None,
) -> Forks:
    """What was wrong after the call was broken off at its places, each in a child of its own.

    `call` returns true if an interrupt ended it. What it leaves is compared with what was there before, `check` raises
    for what else is wrong, and no interrupt may be swallowed. `after_each` is called after each child.
    """
    before, ignored = State.now(), list[str]()
    tracer = Forks(act, opcodes=opcodes, may_fork=may_fork, after_each=after_each, outside=outside)

    def note(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, ResourceWarning):
            ignored.append(repr(unraisable.exc_value))

    hook, sys.unraisablehook = sys.unraisablehook, note
    ended: Any = None
    try:
        ended = tracer.run(call)
    except (KeyboardInterrupt, BrokenError):
        ended = True
    except BaseException:
        if tracer.pipe is None:
            raise
        ended = traceback.format_exc()
    sys.unraisablehook = hook
    if tracer.pipe is not None:
        _tell(tracer, ended, before, ignored, check)
    return tracer


def _tell(tracer: Forks, ended: Any, before: State, ignored: Sequence[str], check: Callable[[], Any]) -> None:
    """What is wrong in this child; and end it."""
    found = list[str]()
    try:
        assert tracer.pipe is not None
        if ended is not True:
            found.append(ended or "it was swallowed")
        gc.collect(0)
        after = State.now()
        if tracer.opcodes:
            after = after._replace(is_locked=False)
        if after != before:
            found.append(after.other_than(before))
        if ignored:
            found.append(f"ignored: {ignored}")
        check()
    except BaseException as error:
        found.append(f"{error!r} {traceback.format_exc()[-1500:]}")
    finally:
        os.write(tracer.pipe or 2, ("; ".join(found) + "\n.").encode()[-60_000:])
        os._exit(0)


class Folder:
    """Files that the children of a call write: put back after each of them, and no fork while one is being written."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, dict[Path, bytes]()

    def may_fork(self) -> bool:
        """Whether no file in it is open, and none is temporary; what is there is remembered."""
        opened = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        if any(name.startswith(str(self.path)) for name in opened) or self.temporary():
            return False
        self.content = self.now()
        return True

    def now(self) -> dict[Path, bytes]:
        """All files."""
        return {path: path.read_bytes() for path in self.path.rglob("*") if path.is_file()}

    def temporary(self) -> list[Path]:
        """What is left of a save."""
        return list(self.path.rglob("*.tmp"))

    def check(self) -> None:
        """Raise for a temporary file."""
        assert self.temporary() == []

    def put_back(self) -> None:
        """Write what was there."""
        for path in self.now().keys() - self.content.keys():
            path.unlink()
        for path, content in self.content.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
