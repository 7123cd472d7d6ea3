"""Ctrl-C between two steps, never within one; and SIGTERM, where there is something to do before it ends the run."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupts:
    """A block in which Ctrl-C can be put off: what comes within `with interrupts.put_off:` breaks in at its end.

    The signal's handler is changed once for the whole block, so that putting off costs a step next to nothing. Only the
    main thread is ever interrupted; in others, the block changes nothing. Enter it as `with Ended(block), block:`.
    """

    def __init__(self) -> None:
        self.put_off = PutOff()
        self.before_termination: Callable[[], None] | None = None
        """what is done before SIGTERM does what it would do without this block, unless it is ignored"""
        self._before = dict[int, Any]()

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            interrupts = signal.getsignal(signal.SIGINT)
            if callable(interrupts):
                self._listen(signal.SIGINT, interrupts, interrupts)
            if self.before_termination is not None:
                ends = signal.getsignal(signal.SIGTERM)
                if callable(ends) or ends is signal.SIG_DFL:
                    self._listen(signal.SIGTERM, ends, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Give signals their handlers back, and what is still put off to those; a second time, nothing."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self.put_off.note:
                signal.signal(number, handler)
        self.put_off.deliver()

    def _listen(self, number: int, before: Any, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._before[number], self.put_off.handlers[number] = before, handler
        signal.signal(number, self.put_off.note)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """Do what is to be done, then what would have been done before this block."""
        handler, todo, self.before_termination = self._before[number], self.before_termination, None
        try:
            if todo is not None:  # the first time
                todo()
        finally:
            if callable(handler):
                handler(number, frame)
            else:
                signal.signal(number, handler)
                signal.raise_signal(number)


class PutOff:
    """Within it, a signal is only noted."""

    def __init__(self) -> None:
        self.handlers = dict[int, Callable[[int, FrameType | None], Any]]()
        self._within = False
        self._came = dict[int, FrameType | None]()

    def note(self, number: int, frame: FrameType | None) -> None:
        """What the signals call."""
        if self._within:
            self._came[number] = frame
        else:
            self.handlers[number](number, frame)

    def poll(self) -> None:
        """Give what was noted to the handler, and go on putting off."""
        while self._came:
            number = next(iter(self._came))
            self.handlers[number](number, self._came.pop(number))

    def deliver(self) -> None:
        """Give what was noted to the handlers."""
        self._within = False
        self.poll()

    def __enter__(self) -> None:
        self._within = True

    def __exit__(self, *_: object) -> None:
        self.deliver()


class Terminations:
    """From `begin` on, SIGTERM is only noted; at its end, what came does what it would have done.

    Only the main thread's process is ever told; in others, and where SIGTERM is ignored, it changes nothing.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def begin(self) -> None:
        """Note SIGTERM."""
        handler = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread() and (callable(handler) or handler is signal.SIG_DFL):
            self._before = handler
            signal.signal(signal.SIGTERM, self._note)

    def end(self) -> None:
        """Give SIGTERM its handler back, and what came to it; a second time, nothing."""
        before, self._before = self._before, None
        if before is not None and signal.getsignal(signal.SIGTERM) == self._note:
            signal.signal(signal.SIGTERM, before)
        if self.came:
            self.came = False
            signal.raise_signal(signal.SIGTERM)

    def _note(self, *_: object) -> None:
        self.came = True
