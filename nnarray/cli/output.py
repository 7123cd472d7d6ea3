"""All output to a terminal: nothing in a file may move the cursor or raise an encoding error."""

import contextlib
import sys
import unicodedata
from typing import Any, TextIO

LONGEST = 200
"""How many characters of a cell, a label or an option a message repeats."""

IN_ASCII = str.maketrans(
    {"²": "^2", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "‖": "|", "–": "-", "ĝ": "g^", "—": "-"}
)
"""The replacements for characters in our own messages on a terminal that supports ASCII only."""


def say(text: Any = "", *, end: str = "\n", stream: TextIO | None = None) -> None:
    """Print to standard output, or another stream."""
    _write(stream or sys.stdout, f"{text}{end}")


def note(text: Any) -> None:
    """Print to standard error, ignoring a closed one."""
    with contextlib.suppress(OSError, ValueError):
        _write(sys.stderr, f"{text}\n")


def visible(text: str) -> str:
    r"""The text with all characters escaped but visible ones, spaces and line ends.

    Control characters, terminal escapes, marks that turn the direction of writing and halves of surrogate pairs.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or _is_visible(c) else ascii(c)[1:-1] for c in text)


def one_line(text: Any) -> str:
    """A label or a name for a message: in full, escaped, and without line ends."""
    return visible(str(text)).replace("\n", r"\n")


def quoted(value: Any) -> str:
    """A cell, a label or a name as it stands in a message: in quotes, escaped, and cut where it is long."""
    text = str(value)
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r}… ({len(text)} characters)"


def shortened(name: Any) -> str:
    """A file's name for a message: escaped, and of a long one both ends, which tell folder and file."""
    text = one_line(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"


def _is_visible(character: str) -> bool:
    return character.isprintable() and unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # it was closed before we began
        return
    text = visible(text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(IN_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    write_through(stream, text)


def write_through(stream: TextIO, text: str) -> None:
    """Write text as it is. Raises OSError that names the stream."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if stream is sys.stderr else "standard output"
        raise OSError(error.errno, error.strerror, name) from error
