"""Ctrl-C between two steps, never within one."""

import signal
import threading
from types import FrameType, TracebackType


class Uninterrupted:
    """A block that Ctrl-C doesn't break into: what would have interrupted it does so at its end.

    Only the main thread is ever interrupted; in others, the block changes nothing.
    """

    def __enter__(self) -> None:
        self._came: FrameType | None = None
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)

    def _note(self, _: int, frame: FrameType | None) -> None:
        self._came = frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handler is None:
            return
        signal.signal(signal.SIGINT, self._handler)
        if self._came is not None:
            self._handler(signal.SIGINT, self._came)
