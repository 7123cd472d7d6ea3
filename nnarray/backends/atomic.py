"""Writing a file so that the old one or the new one is there, whole, whatever happens."""

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nnarray.backends.blas import Ended

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
    with naming(path):
        target = os.path.realpath(path)
        directory = os.path.dirname(target)
        mode = _mode_of(target)
        remove_abandoned(directory)
        while not _write(target, _temporary_in(directory), content, mode):
            pass
    _flush_directory(directory)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError, naming `path`, where `write_atomically` cannot write it: now, not after the work that it keeps.

    An empty file is made beside it, and removed. One that is there already stays as it is: `os.rmdir` of a file fails,
    as no folder where it could be replaced, and else with the reason (it is immutable, or another's in a folder such as
    /tmp, where only owners may).
    """
    with naming(path):
        target = os.path.realpath(path)
        if _mode_of(target) is not None:
            with suppress(NotADirectoryError, FileNotFoundError):
                os.rmdir(target)
        require_room_for_files(os.path.dirname(target))


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """A context whose OSError names `path`, and so does that of a working folder that is gone, which has no name."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


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
    opened = Opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with Ended(opened), opened as file:
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)


def require_room_for_files(directory: str | os.PathLike[str]) -> None:
    """Raise OSError where no file can be made in a directory; tried with an empty one, which is removed."""
    trial = Trial(_temporary_in(directory))
    with Ended(trial), trial:
        trial.make()


class Trial:
    """An empty file, removed at its end. Enter it as `with Ended(trial), trial:`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def make(self) -> None:
        """Make the file."""
        open(self._path, "xb").close()

    def end(self) -> None:
        """Remove it; a second time, nothing."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.end()


class Opened:
    """A descriptor that `os.open` returns, closed once at its end. Enter it as `with Ended(opened), opened:`.

    It is stored and closed within calls of C, between which and their effect no interrupt can come.
    """

    def __init__(self, path: str, flags: int) -> None:
        self._opening = map(os.open, [path], [flags])
        self._opened: list[int] = []
        self._closing = map(os.close, self._opened)

    def end(self) -> None:
        """Close it; a second time, nothing."""
        list(self._closing)

    def __enter__(self) -> int:
        self._opened.extend(self._opening)
        return self._opened[0]

    def __exit__(self, *_: object) -> None:
        self.end()


def _temporary_in(directory: str | os.PathLike[str]) -> str:
    return os.path.join(directory, f".nnarray-{os.urandom(8).hex()}.tmp")


def _write(target: str, temporary: str, content: bytes, mode: int | None) -> bool:
    """Write and rename; false where another process took the file for abandoned before it was locked."""
    file = None
    try:
        file = io.FileIO(temporary, "xb")  # which is closed with its last reference at the latest
        if not _lock(file.fileno()):
            return False
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        if mode is not None:
            os.chmod(temporary, mode)
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        if file is not None:
            with suppress(OSError):  # all that it holds is on the disk, or was given up
                file.close()
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
    opened = Opened(directory, os.O_RDONLY)
    with suppress(OSError), Ended(opened), opened as file:
        os.fsync(file)
