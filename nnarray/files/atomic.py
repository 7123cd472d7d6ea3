"""Writing a file so that the old one or the new one is there, whole, whatever happens."""

import contextlib
import errno
import os
import secrets
import stat


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to a temporary file in the same directory, then rename it to `path`.

    On any failure the temporary file is removed and what was at `path` stays. The file gets the permissions that
    `open(path, "wb")` would give it, and a link is followed, as `open` does. Raises OSError.
    """
    place = os.path.realpath(path)
    mode = _mode_of(place)
    directory = os.path.dirname(place)
    temporary = os.path.join(directory, f".nnarray-{secrets.token_hex(8)}.tmp")
    try:
        _write_new(temporary, content, mode)
        os.replace(temporary, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _flush_directory(directory)


def _write_new(path: str, content: bytes, mode: int | None) -> None:
    # umask takes its share of 0o666, as it does in open()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        if mode is not None:
            os.chmod(path, mode)
        os.fsync(file)
    finally:
        os.close(file)


def _mode_of(path: str) -> int | None:
    """The permissions of the regular file at `path`; None if nothing is there. A pipe or device is never replaced."""
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found):
        raise OSError(errno.EINVAL, "not a regular file, it cannot be replaced", path)
    return stat.S_IMODE(found)


def _flush_directory(directory: str) -> None:
    """Make the rename last through a power cut, where the system can; the file is whole either way."""
    with contextlib.suppress(OSError):
        file = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
