"""Interrupts at many points of one call: at each a child is forked, is interrupted there, and tells what is wrong.

A call is traced once, not once for each point. Only for calls that need no thread but their own, as a fork takes no
threads along.
"""

import gc
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from pathlib import Path
from types import FrameType
from typing import Any

from interrupting import BrokenError, Places, State, Tracer, is_inside, place_of

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
    """Forks where a place in the code is met the first time and the last, outside of nnarray the first time.

    Of places outside, one of so many is taken. `before_each` and `after_each` are called before and after each child.
    """

    def __init__(
        self,
        act: Callable[[], Any],
        met: dict[Any, int],
        *,
        opcodes: bool,
        outside: int,
        before_each: Callable[[], Any],
        after_each: Callable[[], Any],
    ) -> None:
        super().__init__(0, act, opcodes=opcodes)
        self.before_each, self.after_each, self.outside = before_each, after_each, outside
        self.met, self.times, self.wrong, self.forks = met, dict[Any, int](), list[str](), 0
        self.pipe: int | None = None
        self.fonts: list[Any] = []

    def __call__(self, frame: FrameType, event: str, of: Any) -> Any:
        seen = self.seen
        went_on = super().__call__(frame, event, of)
        if self.seen > seen and self.pipe is None and self._is_chosen(frame, event):
            self._fork(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}, {event}")
        return went_on

    def _is_chosen(self, frame: FrameType, event: str) -> bool:
        place = place_of(frame, event)
        self.times[place] = times = self.times.get(place, 0) + 1
        if not is_inside(frame):
            return times == 1 and len(self.times) % self.outside == 0
        return times in {1, self.met.get(place)}

    def _fork(self, where: str) -> None:
        self.before_each()
        here, there = os.pipe()
        self.forks += 1
        threads, self.fonts = ThreadsOfBlas(), _fonts()
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


def _fonts() -> list[Any]:
    """matplotlib's, which it closes in a forked child, unless somebody has them."""
    manager = sys.modules.get("matplotlib.font_manager")
    return [] if manager is None else gc.get_referents(manager._get_font)


def forked_faults(
    call: Callable[[], Any],
    *,
    act: Callable[[], Any],
    opcodes: bool = False,
    outside: int = 1,
    check: Callable[[], Any] = lambda: None,
    before_each: Callable[[], Any] = lambda: None,
    after_each: Callable[[], Any] = lambda: None,
) -> Forks:
    """What was wrong after the call was broken off at its places, each in a child of its own.

    `call` returns true if an interrupt ended it. What it leaves is compared with what was there before, `check` raises
    for what else is wrong, and no interrupt may be swallowed.
    """
    known = Places(opcodes=opcodes)
    known.run(call)
    met = {place: len(events) for place, events in known.events.items()}
    gc.collect()
    before, ignored = State.now(), list[str]()
    tracer = Forks(act, met, opcodes=opcodes, outside=outside, before_each=before_each, after_each=after_each)

    def note(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, ResourceWarning):
            ignored.append(repr(unraisable.exc_value))

    hook, sys.unraisablehook = sys.unraisablehook, note
    ended: Any = None
    gc.freeze()  # a child that collects garbage need not look at all that there was before, nor copy it
    try:
        ended = tracer.run(call)
    except (KeyboardInterrupt, BrokenError, InvalidStateError):  # the last, of a future that has its result
        ended = True
    except BaseException:
        if tracer.pipe is None:
            raise
        ended = traceback.format_exc()
    finally:
        gc.unfreeze()
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
        if tracer.fonts:  # which are open twice where a child draws
            after = after._replace(descriptor=before.descriptor)
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
    """Files that the children of a call write, open ones too: put back after each of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, dict[Path, bytes]()
        self.links, self.places = dict[Path, Path](), dict[int, int]()
        self._beside = Path(tempfile.mkdtemp(dir=path.parent))

    def remember(self) -> None:
        """All that is there, and where in its open files the next byte goes."""
        self.content = self.now()
        for link in self.links.values():
            link.unlink()
        self.links = {path: self._beside / str(i) for i, path in enumerate(self.content)}
        for path, link in self.links.items():
            link.hardlink_to(path)
        self.places = {fd: os.lseek(fd, 0, os.SEEK_CUR) for fd in self._opened()}

    def put_back(self) -> None:
        """The same files, with what they held."""
        for path in self.now().keys() - self.content.keys():
            path.unlink()
        for path, content in self.content.items():
            if not (path.exists() and path.samefile(self.links[path])):
                path.unlink(missing_ok=True)
                path.hardlink_to(self.links[path])
            if path.read_bytes() != content:
                path.write_bytes(content)
        for fd, place in self.places.items():
            os.lseek(fd, place, os.SEEK_SET)

    def now(self) -> dict[Path, bytes]:
        """All files."""
        return {path: path.read_bytes() for path in self.path.rglob("*") if path.is_file()}

    def check(self) -> None:
        """Raise for what is left of a save."""
        assert list(self.path.rglob("*.tmp")) == []

    def _opened(self) -> list[int]:
        found = list[int]()
        for fd in map(int, os.listdir("/dev/fd")):
            found += [fd] if os.path.realpath(f"/dev/fd/{fd}").startswith(f"{self.path}{os.sep}") else []
        return found
