"""What a command changes in its process while it runs. Enter each as `with Ended(it), it:`."""

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from nnarray.backends import filter_again
from nnarray.cli.output import note


class Interruption:
    """Whether Ctrl-C came to a command, and nothing has answered it yet.

    Libraries swallow KeyboardInterrupt, or make an ImportError of it, as compiled modules do while they are imported.
    """

    def __init__(self) -> None:
        self.came = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """What the signal calls."""
        self.came = True
        signal.default_int_handler(number, frame)

    def again(self) -> None:
        """Raise KeyboardInterrupt where it was swallowed."""
        if self.came:
            raise KeyboardInterrupt

    def answered(self) -> None:
        """Forget it: what it asked for has been done."""
        self.came = False


INTERRUPTION = Interruption()


def interruptible(run: Callable[[Sequence[str]], int], words: Sequence[str]) -> int:
    """The exit code of `run`. Raises KeyboardInterrupt where Ctrl-C came, whatever was made of it."""
    try:
        code = run(words)
    except Exception:
        INTERRUPTION.again()
        raise
    if code == 0:
        INTERRUPTION.again()
    return code


class TerminatedAsInterrupted:
    """A block that notes Ctrl-C, and in which SIGTERM does what it does, also where it is ignored (the background)."""

    def __init__(self) -> None:
        self.came = False
        self._before = dict[int, Any]()

    def __enter__(self) -> "TerminatedAsInterrupted":
        if threading.current_thread() is threading.main_thread():
            self._listen(signal.SIGTERM, self._terminate)
            INTERRUPTION.answered()
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
                self._listen(signal.SIGINT, self._interrupt_if_terminated)
            elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._listen(signal.SIGINT, INTERRUPTION.note)
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


class OptionsOfSklearn:
    """A block that leaves scikit-learn's options, which it changes within calls, as they were."""

    def __init__(self) -> None:
        self._before = self._now()

    def __enter__(self) -> "OptionsOfSklearn":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Set them again."""
        configuring = sys.modules.get("sklearn._config")
        before = self._before or getattr(configuring, "_global_config", None)  # those of a first import
        if configuring is not None and before is not None and self._now() != before:
            configuring.set_config(**before)

    @staticmethod
    def _now() -> dict[str, Any] | None:
        configuring = sys.modules.get("sklearn._config")
        return None if configuring is None else configuring.get_config()
