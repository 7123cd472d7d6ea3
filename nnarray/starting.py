"""The first moments of the command `nnarray`: while it imports, Ctrl-C ends it in silence rather than with a traceback.

Imported before everything else. It changes nothing where nnarray is a library: only where this process is the command
itself, `nnarray` or `python -m nnarray`.
"""

import os
import signal
import sys
import threading
from itertools import pairwise


def begin() -> None:
    """Leave Ctrl-C to the system until `is_ready` is called, if this is the command's own process."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        BEGUN.append(True)


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
