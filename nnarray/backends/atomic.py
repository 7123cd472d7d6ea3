"""Writing a file so that the old one or the new one is there, whole, whatever happens."""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress

try:
    import fcntl
except ImportError:  # on Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.nnarray-[0-9a-f]{16}\.tmp")
"""The names of temporary files."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to a temporary file in the same directory, then rename it to `path`.

    On any failure the temporary file is removed and what was at `path` stays. Where the process is killed it remains,
    until the next call for the same directory removes it. The file gets the permissions that `open(path, "wb")` would
    give it, and a link is followed, as `open` does. Raises OSError that names `path`, not the temporary file.
    """
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    try:
        mode = _mode_of(target)
        remove_abandoned(directory)
        while not _write(target, os.path.join(directory, f".nnarray-{secrets.token_hex(8)}.tmp"), content, mode):
            pass
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    _flush_directory(directory)


def remove_abandoned(directory: str) -> None:
    """Remove the temporary files in a directory that no living process is writing: those that nobody has locked."""
    with suppress(OSError), os.scandir(directory) as entries:
        names = [entry.name for entry in entries if TEMPORARY.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):
                _remove_if_unlocked(os.path.join(directory, name))


def _remove_if_unlocked(path: str) -> None:
    if fcntl is None:
        os.unlink(path)
        return
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(file)


def _write(target: str, temporary: str, content: bytes, mode: int | None) -> bool:
    """Write and rename; false where another process took the file for abandoned before it was locked."""
    file: int | None = None
    try:
        # umask takes its share of 0o666, as it does in open()
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if not _lock(file):
            return False
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        if mode is not None:
            os.chmod(temporary, mode)
        os.fsync(file)
        if fcntl is None:
            os.close(file)
            file = None
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        if file is not None:
            with suppress(OSError):  # all that it holds is on the disk, or was given up
                os.close(file)
    return True


def _lock(file: int) -> bool:
    """Lock a new file, so that others see that somebody writes it; false if it has been removed meanwhile."""
    if fcntl is None:
        return True
    with suppress(OSError):  # there are file systems without locks; on those nothing is taken for abandoned
        fcntl.flock(file, fcntl.LOCK_EX)
    return os.fstat(file).st_nlink > 0


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
    with suppress(OSError):
        file = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
