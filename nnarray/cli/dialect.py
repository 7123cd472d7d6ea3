"""How a text file writes a table: its encoding, separator, decimal mark and header, from its first lines."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nnarray.cli.errors import CommandError
from nnarray.cli.foreign import refuse_binary, refuse_foreign
from nnarray.cli.options import Reading
from nnarray.cli.output import quoted
from nnarray.cli.streams import Source

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": r"\s+"}
LOOKED_AT = 2**18
LONGEST_LINE = 2**22
MOST_COLUMNS = 50_000
LINES, LEAST_LINES, MOST_ABOVE = 200, 6, 50

MOST_CELLS = 1000
"""Cells of a row that are looked at for their marks."""

OTHER_MARK = {".": ",", ",": "."}
"""The decimal mark where the mark between thousands is told."""

FEW = 0.1
"""The share of numbers with one mark, beside those with the other, up to which they are mistakes."""

WITH_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?$")
WITH_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?$")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+$")
GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+$")
COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d+$")
POINT_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+$")
WHOLE = re.compile(r"[+-]?\d+$")
CODE = re.compile(r"0\d+$")

MARKED = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the mark at the start of a file."""

UNCLEAR_THOUSANDS = (
    r"[+-]?(?:\d{{1,3}}|[1-9]\d{{0,2}}{0}\d{{3}})$",
    r"[+-]?[1-9]\d{{0,2}}$",
    r"[+-]?[1-9]\d{{0,2}}{0}\d{{3}}$",
)
"""Of a column whose mark may be either: all its cells, those below a thousand, and those from there on."""

COMMENT = re.compile(r"#|%|//")

TOLD_SEPARATOR = re.compile(r'\ufeff?("?)sep=(?P<mark>[^\r\n"])\1[;,\t]*(\r\n|\n|\r)', re.IGNORECASE)
"""The line in which spreadsheets tell the separator, before the names."""


@dataclass(frozen=True)
class Dialect:
    """How the file writes a table."""

    encoding: str
    separator: str
    decimal: str
    thousands: str | None
    names: tuple[str, ...]
    """the columns' names, "" for one without"""
    header_lines: int
    """how many lines of the file come before the first row"""
    header_rows: int
    """the same, counting as one the lines that quotes hold together"""
    sample: tuple[tuple[str, ...], ...]
    """the first rows, a missing cell as an empty one"""

    def has_fractions(self, index: int) -> bool:
        """Whether the first cells of a column are numbers, not all of them whole: no labels, then."""
        cells = [row[index].replace(self.decimal, ".") for row in self.sample if index < len(row) and row[index]]
        numbers = [float(cell) if WITH_POINT.match(cell) or WHOLE.match(cell) else None for cell in cells]
        return None not in numbers and any(number % 1 for number in numbers if number is not None)

    def has_codes(self, index: int) -> bool:
        """Whether the first cells of a column are whole numbers, some with a zero in front: codes, not numbers."""
        cells = [row[index] for row in self.sample if index < len(row) and row[index]]
        return any(map(is_code, cells)) and all(map(WHOLE.match, cells))

    def begun_whole(self) -> list[int]:
        """The columns whose first cell is no text and no plain fraction: cells further down tell what they are."""
        first = [next((row[k] for row in self.sample if k < len(row) and row[k]), "0") for k in range(len(self.names))]
        whole = re.compile(rf"[+-]?\d+({re.escape(self.decimal)}\d{{3}})?$")
        return [k for k, cell in enumerate(first) if whole.match(cell)]

    def cells(self, lines: Iterable[str]) -> Any:
        """A reader of rows, from csv, that knows the line it is at."""
        return _cells(lines, self.separator)


def is_code(cell: str) -> bool:
    """Whether a cell is a whole number with a zero in front."""
    return cell[:1] == "0" and CODE.match(cell) is not None


def find_dialect(source: Source, reading: Reading) -> Dialect:
    """The dialect, with what `reading` says of it. Raises CommandError for what is not clear."""
    encoding, sample = _sample(source, reading.encoding)
    told = TOLD_SEPARATOR.match(sample)
    before = 1 if told else 0
    if told:
        sample = sample[told.end() :]
        reading = reading._replace(sep=reading.sep or told["mark"].replace(" ", "space"))
    refuse_foreign(source.name, sample)
    _refuse_lines_above(source.name, sample, reading, before)
    separator = _separator(source.name, sample, reading)
    rows, ends = _rows(sample, separator, LINES)
    if not rows:
        msg = f"{source.name} needs a first line with the names of its columns, it is empty"
        raise CommandError(msg)
    if len(rows[0]) > MOST_COLUMNS:
        msg = f"{source.name} has {len(rows[0])} columns, and a table may have {MOST_COLUMNS}"
        raise CommandError(msg)
    has_header = _has_header(source.name, rows, reading)
    body = rows[1:] if has_header else rows
    names = tuple(rows[0]) if has_header else tuple(str(k + 1) for k in range(len(rows[0])))
    if (
        len(names) > 1 and body and all(len(row) == len(names) + 1 and row[-1] for row in body)
    ):  # R writes no name for the rows' names
        names = ("", *names)
    body = [["" if cell in reading.na else cell for cell in row] for row in body]
    decimal, thousands = _marks(source.name, body, reading)
    if reading.decimal is None and thousands is None:
        refuse_unclear_thousands(source.name, names, body, decimal)
    lines, header_rows = ends[0] if has_header else (0, 0)
    header = lines + before, header_rows + before
    return Dialect(encoding, separator, decimal, thousands, names, *header, tuple(map(tuple, body)))


def _sample(source: Source, encoding: str | None) -> tuple[str, str]:
    """The encoding and the first whole lines."""
    start = source.start(LOOKED_AT)
    if len(start) == LOOKED_AT and len(start.splitlines()) <= LEAST_LINES:
        start = source.start(LONGEST_LINE)
    if b"\n" not in start and b"\r" not in start and len(start) == LONGEST_LINE:
        msg = f"{source.name} has a first line of more than {LONGEST_LINE >> 20} MiB: this is no table"
        raise CommandError(msg)
    if encoding is None:
        refuse_binary(source.name, start)
        encoding = next((name for mark, name in MARKED.items() if start.startswith(mark)), "utf-8")
    if b"\0" in start and not encoding.replace("_", "-").lower().startswith(("utf-16", "utf-32")):
        msg = f"{source.name} holds NUL bytes, so it is no text in UTF-8; if it is in UTF-16, say --encoding utf-16"
        raise CommandError(msg)
    try:
        text = start.decode(encoding, "strict" if len(start) < LOOKED_AT else "ignore")
    except LookupError:
        msg = f"--encoding {encoding}: there is no such encoding; latin-1, cp1252 and utf-16 are some"
        raise CommandError(msg) from None
    except UnicodeDecodeError as error:
        raise CommandError(not_decoded(source.name, encoding, error)) from None
    if len(start) >= LOOKED_AT:
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
    if len(start) > LOOKED_AT:
        text = "".join(islice(io.StringIO(text, newline=""), LEAST_LINES))
    return encoding, text


def not_decoded(name: str, encoding: str, error: UnicodeDecodeError) -> str:
    """What to say where bytes are no text in this encoding."""
    shown = encoding.upper()
    byte = error.object[error.start]
    return (
        f"{name} cannot be read as text in {shown} (byte 0x{byte:02x}): say what it is with --encoding, such as cp1252 "
        "or latin-1"
    )


def _cells(lines: Iterable[str], separator: str) -> Any:
    csv.field_size_limit(2**31 - 1)  # a cell of megabytes is to be told, not to end the search for it
    if separator == SEPARATORS["space"]:
        return csv.reader((" ".join(line.split()) + "\n" for line in lines), delimiter=" ")
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def _rows(sample: str, separator: str, count: int) -> tuple[list[list[str]], list[tuple[int, int]]]:
    """The first rows that are not blank; the line each ends at, and how many rows with the blank ones it makes."""
    reader = _cells(io.StringIO(sample, newline=""), separator)
    rows: list[list[str]] = []
    ends: list[tuple[int, int]] = []
    try:
        for number, row in enumerate(islice(reader, 3 * count), 1):
            if any(cell.strip() for cell in row) or len(row) > 1:
                rows.append([cell.strip() for cell in row])
                ends.append((reader.line_num, number))
            if len(rows) == count:
                break
    except csv.Error:  # what cannot be read is told where all of it is read
        pass
    return rows, ends


def _separator(name: str, sample: str, reading: Reading) -> str:
    if reading.sep is not None:
        return SEPARATORS.get(reading.sep, reading.sep)
    widths = {mark: [len(row) for row in _rows(sample, mark, LINES)[0]] for mark in SEPARATORS.values()}
    right = [mark for mark, found in widths.items() if found and _is_steady(found)]
    plain = [mark for mark in right if mark != SEPARATORS["space"]]
    if len(plain) > 1:
        shown = " or by ".join(repr(mark) for mark in plain)
        msg = f"{name} may be separated by {shown}: say which with --sep"
        raise CommandError(msg)
    if plain or right:
        return (plain or right)[0]
    wide = {mark: found[0] for mark, found in widths.items() if found and mark != SEPARATORS["space"]}
    best = max(wide, key=lambda mark: wide[mark], default=",")
    return best if wide.get(best, 1) > 1 else ","


def _refuse_lines_above(name: str, sample: str, reading: Reading, before: int) -> None:
    """Raise CommandError where titles or comments stand above the table; `before` lines are left out of the sample."""
    marks = list(SEPARATORS.values()) if reading.sep is None else [SEPARATORS.get(reading.sep, reading.sep)]
    found = {mark: _rows(sample, mark, LINES) for mark in marks}
    steady = [mark for mark, (rows, _) in found.items() if rows and _is_steady([*map(len, rows)])]
    for mark in steady or marks:
        rows, ends = found[mark]
        count = _lines_above(rows, is_steady=bool(steady), by_spaces=mark == SEPARATORS["space"])
        if count and not (steady and reading.header is False):
            first = next(filter(str.strip, sample.splitlines()), "")
            line = ends[count][0] + before
            msg = (
                f"{name}: {quoted(first)} looks like a title or a comment above the table, which begins in line "
                f"{line}: leave such lines out, as tail -n +{line} does"
            )
            raise CommandError(msg)


def _lines_above(rows: Sequence[Sequence[str]], *, is_steady: bool, by_spaces: bool) -> int:
    """How many of the first rows are titles or comments: marked so, or of one cell where the rest have several."""
    width = len(rows[-1]) if rows else 0
    if width < 2 or (is_steady and width < 3):
        return 0

    def is_above(row: Sequence[str]) -> bool:
        is_marked = COMMENT.match(row[0]) is not None
        is_lone = sum(map(bool, row)) <= 1 and not by_spaces
        return (is_marked or is_lone) if len(row) != width else is_lone and width > 2

    count = next((k for k, row in enumerate(rows) if not is_above(row)), len(rows))
    rest = rows[count:]
    if not 0 < count <= MOST_ABOVE or len(rest) < 2 or {*map(len, rest)} != {width}:
        return 0
    names_rows = width == 2 and count == 1 and all(WHOLE.match(c) or WITH_POINT.match(c) for c in rest[0])  # as R does
    return 0 if names_rows and not COMMENT.match(rows[0][0]) else count


def _is_steady(widths: Sequence[int]) -> bool:
    """Whether every row has as many cells as the first, or one more where that has no name for the rows' names."""
    rest = set(widths[1:])
    return widths[0] > 1 and (not rest or rest in ({widths[0]}, {widths[0] + 1}))


def _has_header(name: str, rows: Sequence[Sequence[str]], reading: Reading) -> bool:
    if reading.header is not None:
        return reading.header
    first, body = rows[0], rows[1:]
    if _is_sequence(first) or not _is_data(first, body):
        return True
    msg = (
        f"{name} needs a first line with the names of its columns, got {_shown(first)}: say --no-header if that is a "
        "row of the table, --header if these are names"
    )
    raise CommandError(msg)


def _is_data(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether a first line looks like a row: of numbers, with a fraction, or with texts that come again below them."""
    if any(WITH_POINT.match(cell) or WITH_COMMA.match(cell) for cell in first):
        return True
    if all(WHOLE.match(cell) for cell in first):
        return True
    columns = [{row[k] for row in body if k < len(row)} for k in range(min(len(first), 1000))]
    return any(cell in column for cell, column in zip(first, columns, strict=False) if cell and not WHOLE.match(cell))


def _is_sequence(first: Sequence[str]) -> bool:
    """Whether these are whole numbers in steps of one, as years and counted columns are."""
    cells = first[1:] if first[0] == "" else first
    if len(cells) < 3 or not all(WHOLE.match(cell) and len(cell) < 10 for cell in cells):
        return False
    return [int(cell) for cell in cells] == list(range(int(cells[0]), int(cells[0]) + len(cells)))


def _shown(cells: Sequence[str]) -> str:
    shown = ", ".join(map(quoted, cells[:4]))
    return f"{shown}, … ({len(cells)} in all)" if len(cells) > 4 else shown


def _marks(name: str, body: Sequence[Sequence[str]], reading: Reading) -> tuple[str, str | None]:
    """The decimal mark and that between thousands."""
    if reading.decimal is not None:
        if reading.decimal == reading.thousands:
            msg = f"--decimal and --thousands are both {reading.decimal!r}: one of them is another"
            raise CommandError(msg)
        return reading.decimal, reading.thousands
    if reading.thousands in OTHER_MARK:
        return OTHER_MARK[reading.thousands], reading.thousands
    cells = [cell for row in body for cell in row[:MOST_CELLS]]
    if reading.thousands is not None:  # an apostrophe or a space
        cells = [cell.replace(reading.thousands, "") for cell in cells]
    point, comma, grouped = (_count(cells, pattern.match) for pattern in (WITH_POINT, WITH_COMMA, GROUPED))
    if reading.known_thousands == "." and point and not comma and point == _count(cells, POINT_GROUPS.match):
        return ",", "."
    comma -= _count(cells, THOUSANDS.match)  # 1,234 may be either: a column of such is refused where it is read
    groups = _count(cells, COMMA_GROUPS.match)
    by_comma = groups > grouped and comma <= FEW * (point + groups)
    if reading.thousands is None and (grouped or by_comma):
        return (".", ",") if by_comma else (",", ".")
    if comma <= FEW * point:  # a cell that is refused where its column is read
        return ".", reading.thousands
    if point > FEW * comma:
        msg = f"{name} has numbers with a decimal point and others with a decimal comma: say which with --decimal"
        raise CommandError(msg)
    return ",", reading.thousands


def refuse_unclear_thousands(name: str, names: Sequence[str], body: Sequence[Sequence[str]], mark: str) -> None:
    """Raise CommandError for a column of 1.234 and 940: fractions would not all have three digits, and some none.

    Where all cells have the mark, it makes no difference: they are read as thousands.
    """
    clear, whole, grouped = (re.compile(pattern.format(re.escape(mark))) for pattern in UNCLEAR_THOUSANDS)
    for index in range(min(len(names), MOST_CELLS)):
        cells = [row[index] for row in body if index < len(row) and row[index]]
        marked = next(filter(grouped.match, cells), None)
        plain = next(filter(whole.match, cells), None)
        if marked is None or plain is None or not all(map(clear.match, cells)):
            continue
        what = {".": "point", ",": "comma"}[mark]
        msg = (
            f"{name}, column {quoted(names[index])} has numbers such as {marked!r} and {plain!r}: is the {what} the "
            f"decimal mark (--decimal {mark}) or between thousands (--thousands {mark})?"
        )
        raise CommandError(msg)


def _count(cells: Sequence[str], matches: Callable[[str], object]) -> int:
    return sum(1 for cell in cells if matches(cell))
