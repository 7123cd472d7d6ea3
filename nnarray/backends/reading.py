"""Files that are read as what anybody may have written: what is wrong in one is told, and nothing of it is run."""

import errno
import json
import os
import stat
from collections.abc import Callable
from typing import Any, TypeVar

from nnarray.backends.atomic import naming

T = TypeVar("T")

MESSAGE_CHARACTERS = 400
"""How much is shown of a message that may quote a file."""


class ModelFileError(ValueError):
    """A file that holds no valid model, or no valid checkpoint: truncated, corrupted, hostile, or never one."""


def read_as(kind: str, path: str, read: Callable[[str], T]) -> T:
    """What `read` makes of the file; ModelFileError for whatever is wrong inside it, which is then no valid `kind`.

    Raises as `open` does for what cannot be opened, and ModelFileError for a pipe, which would be waited on.
    """
    from safetensors import SafetensorError

    require_regular(kind, path)
    with open(path, "rb"):
        pass
    try:
        return read(path)
    except (SafetensorError, ValueError, OSError) as error:
        msg = f"{path} is not a valid {kind}: {excerpt(str(error))}"
        raise ModelFileError(msg) from None  # a traceback would show the cause uncut
    except (MemoryError, RecursionError) as error:
        msg = f"{path} is not a valid {kind}: it asks for more memory than there is ({type(error).__name__})"
        raise ModelFileError(msg) from None


def require_regular(kind: str, path: str | os.PathLike[str]) -> None:
    """Raise ModelFileError for a pipe, on which reading waits, and a device; as `open` does for what is not there."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        msg = f"{os.fspath(path)} is not a valid {kind}: it is not a regular file"
        raise ModelFileError(msg)


def is_of_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path can only be a folder's, such as "runs/", of which `os.path.realpath` makes a file's."""
    return bool(path) and os.path.basename(path) in ("", os.curdir, os.pardir)


def require_folder(path: str | os.PathLike[str]) -> None:
    """Raise OSError, naming the path as it was given, where no file can be written: it is a folder's, or in none."""
    if not os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if is_of_folder(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    with naming(path):
        folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        kind = errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
        raise OSError(kind, f"there is no folder {folder}", os.fspath(path))


def json_object(text: str) -> dict[str, Any]:
    """A description in strict JSON. Raises ValueError for any other text."""
    description = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    if not isinstance(description, dict):
        msg = f"its description is no JSON object but {short(description)}"
        raise ValueError(msg)
    return description


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def short(value: Any, most: int = 60) -> str:
    """The start of what a file holds, in ASCII, for an error message."""
    text = ascii(value)
    return text if len(text) <= most else text[:most] + "…"


def excerpt(message: str) -> str:
    """The start of a message that may quote a file, with what a terminal would act upon escaped."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message[:MESSAGE_CHARACTERS])
    return shown if len(message) <= MESSAGE_CHARACTERS else f"{shown}…"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        msg = "its description names a key twice"
        raise ValueError(msg)
    return result


def _refuse_constant(name: str) -> None:
    msg = f"its description holds {name}, which is no JSON"
    raise ValueError(msg)
