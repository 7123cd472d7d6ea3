"""The files for results, checked before training, so that no result is lost because it cannot be written."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from nnarray.backends.atomic import require_writable
from nnarray.backends.reading import is_of_folder
from nnarray.cli.errors import CommandError
from nnarray.cli.output import note, one_line, shortened

LONGEST_NAME = 200


def check_path(option: str, name: str | None, *, force: bool = True) -> None:
    """Raise CommandError where a file of this name could not be written; without `force`, also where one is there."""
    if name is None:
        return
    shown = f"{option} {shortened(name)}"
    try:
        path = Path(os.path.realpath(name)) if name else Path()
        is_folder, exists, is_file = path.is_dir() or is_of_folder(name), path.exists(), path.is_file()
    except (OSError, ValueError) as error:
        msg = f"{shown}: {error.strerror if isinstance(error, OSError) else error}"
        raise CommandError(msg) from None
    if is_folder:
        msg = f"{shown}: this is a folder, not a file"
    elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"{shown}: there is no folder '{shortened(Path(name).parent)}' that can be written to"
    elif exists and not is_file:
        msg = f"{shown}: this is no regular file, it cannot be replaced"
    elif exists and not force:
        msg = f"{shortened(name)} is there already: --force overwrites it, --out names another place"
    else:
        reason = _cannot_write(path)
        if reason is None:
            return
        msg = f"{shown}: {reason}"
    raise CommandError(msg)


def check_apart(written: Mapping[str, str | None], read: Mapping[str, object]) -> None:
    """Raise CommandError where one result would be written over another, or over a file that is read."""
    taken = {os.path.realpath(name): option for option, name in read.items() if _is_file(name)}
    for option, name in written.items():
        if name is None:
            continue
        path = os.path.realpath(name)
        if path in taken:
            msg = f"{option} {name} would be written over {taken[path]}, which is the same file: name another one"
            raise CommandError(msg)
        taken[path] = option


def _is_file(name: object) -> TypeGuard[str]:
    """Whether it names a file, and not a bundled data set or a share of the rows."""
    return isinstance(name, str) and os.path.isfile(name)


def _cannot_write(path: Path) -> str | None:
    """Why no file of this name can be written."""
    try:
        require_writable(path)
    except OSError as error:
        return error.strerror
    return None


def write_or_beside(name: str, write: Callable[[str], Any]) -> str:
    """Write a file where it was asked, or else beside: in the working or the temporary folder. Where it is, then.

    Raises OSError, which names the file that was asked for, where none of them takes it.
    """
    try:
        write(name)
    except OSError as error:
        for folder in _further_folders():
            other = os.path.join(folder, f"nnarray-{os.getpid()}-{_end_of(os.path.basename(name))}")
            try:
                write(other)
            except OSError:
                continue
            reason = error.strerror or error
            note(f"{shortened(name)} cannot be written ({reason}); written to {one_line(other)} in its place")
            return other
        raise OSError(error.errno, error.strerror or str(error), name) from error
    return name


def _further_folders() -> Iterator[str]:
    for folder in (os.getcwd, tempfile.gettempdir):
        with suppress(OSError):  # of a working folder that is gone
            yield folder()


def _end_of(name: str) -> str:
    """The end of a file's name, which says its format, in bytes that leave room for more in front."""
    while len(os.fsencode(name)) > LONGEST_NAME:
        name = name[1:]
    return name


def as_json(content: object) -> str:
    """Content as one JSON object, in ASCII."""
    return json.dumps(content, indent=2)


def as_csv(header: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, with lines that end in a line feed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
