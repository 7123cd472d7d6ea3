"""The first moments of the command `nnarray`: while it imports, Ctrl-C ends it in silence rather than with a traceback.

Imported before everything else. It changes nothing where nnarray is a library: only where this process is the command
itself, `nnarray` or `python -m nnarray`.
"""

import os
import sys
from itertools import pairwise

try:
    import _signal as signal  # type: ignore[import-not-found]  # without the milliseconds that `enum` takes to import
except ImportError:  # a Python without it
    import signal


def begin() -> None:
    """Leave Ctrl-C to the system until `is_ready` is called, if this is the command's own process."""
    if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:  # contextlib takes milliseconds as well
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            BEGUN.append(True)
        except ValueError:  # another thread than the main one
            pass


def is_command() -> bool:
    """Whether Python was started for the command, and not for another program that imports nnarray."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":  # what stands for the name while Python looks for the module
        return ("-m", "nnarray") in pairwise(sys.orig_argv)
    return os.path.basename(name) in ("nnarray", "nnarray.exe")


def is_ready() -> None:
    """From now on, Ctrl-C raises KeyboardInterrupt again."""
    if BEGUN:
        BEGUN.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)


BEGUN: list[bool] = []
begin()
