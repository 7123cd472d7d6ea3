"""Child processes that end with their parent, a GPU emulated in them where that is asked for, files that stay whole."""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # else JAX takes three quarters of the GPU's memory for itself
}
"""Of every part."""

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have Linux kill this process when its parent ends, however that ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def emulate() -> Any:
    """The tests' emulated GPU, if NNARRAY_EMULATE_GPU asks for it: before CuPy runs anything."""
    if os.environ.get("NNARRAY_EMULATE_GPU", "0") == "0":
        return None
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    import emulator

    return emulator.Emulator()


def write_json(path: Path, content: Any) -> None:
    """The old file or the new one, whole, wherever the process is killed."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(content, indent=1, default=str) + "\n")
    new.replace(path)
