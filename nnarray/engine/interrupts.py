"""Ctrl-C between two steps, never within one."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """A block in which Ctrl-C can be put off: what comes within `with interrupts.put_off:` breaks in at its end.

    The signal's handler is changed once for the whole block, so that putting off costs a step next to nothing. Only the
    main thread is ever interrupted; in others, the block changes nothing. Enter it as `with Ended(block), block:`.
    """

    def __init__(self) -> None:
        self.put_off = PutOff()

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.put_off.handler = handler
                signal.signal(signal.SIGINT, self.put_off.note)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Give the signal its handler back, and what is still put off to that; a second time, nothing."""
        if self.put_off.handler is not None and signal.getsignal(signal.SIGINT) == self.put_off.note:
            signal.signal(signal.SIGINT, self.put_off.handler)
        self.put_off.deliver()


class PutOff:
    """Within it, an interrupt is only noted."""

    def __init__(self) -> None:
        self.handler: Any = None
        self._within = False
        self._came: tuple[int, FrameType | None] | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """What SIGINT calls."""
        if self._within:
            self._came = number, frame
        else:
            self.handler(number, frame)

    def poll(self) -> None:
        """Give what was noted to the handler, and go on putting off."""
        came, self._came = self._came, None
        if came is not None:
            self.handler(*came)

    def deliver(self) -> None:
        """Give what was noted to the handler."""
        self._within = False
        if self._came is not None:
            came, self._came = self._came, None
            self.handler(*came)

    def __enter__(self) -> None:
        self._within = True

    def __exit__(self, *_: object) -> None:
        self.deliver()
