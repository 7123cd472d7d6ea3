"""What a command changes in its process while it runs. Enter each as `with Ended(it), it:`."""

import signal
import threading
import warnings
from typing import Any

from nnarray.backends import filter_again
from nnarray.cli.output import note


class TerminatedAsInterrupted:
    """A block in which SIGTERM does what Ctrl-C does, also where Ctrl-C is ignored, as in the background."""

    def __init__(self) -> None:
        self.came = False
        self._before = dict[int, Any]()

    def __enter__(self) -> "TerminatedAsInterrupted":
        if threading.current_thread() is threading.main_thread():
            self._listen(signal.SIGTERM, self._terminate)
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
                self._listen(signal.SIGINT, self._interrupt_if_terminated)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Give the signals their handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _listen(self, number: int, handler: Any) -> None:
        before = signal.getsignal(number)
        if before is not None:  # one that is not Python's could not be given back
            self._before[number] = before
            signal.signal(number, handler)

    def _terminate(self, *_: object) -> None:
        self.came = True
        signal.raise_signal(signal.SIGINT)

    def _interrupt_if_terminated(self, *_: object) -> None:
        if self.came:
            raise KeyboardInterrupt


class WarningsInALine:
    """A block in which a warning is told without the line of our code that gave it."""

    def __init__(self) -> None:
        self._before = warnings.filters, warnings.showwarning

    def __enter__(self) -> "WarningsInALine":
        filter_again(self._before[0][:])
        warnings.showwarning = lambda message, *_, **__: note(f"nnarray: warning: {message}")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Filter and tell warnings as before."""
        filters, warnings.showwarning = self._before
        filter_again(filters)
