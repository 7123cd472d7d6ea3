"""Tables in files, read by pandas: text with separators, packed or not; Parquet is in `parquet`."""

import contextlib
import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.dialect import WHOLE, Dialect, find_dialect, is_code, not_decoded, refuse_unclear_thousands
from nnarray.cli.errors import CommandError
from nnarray.cli.names import listed_names
from nnarray.cli.options import Reading
from nnarray.cli.output import quoted
from nnarray.cli.parquet import read_parquet
from nnarray.cli.series import arrays_of, pandas_or_refuse, values_of
from nnarray.cli.streams import Source
from nnarray.cli.table import Table

MANY = 1000
"""Columns from which on pandas takes longer for each of them than for what is in them."""


def read_file(
    path: str, reading: Reading, as_written: Sequence[str], target: str | None, *, has_classes: bool = False
) -> Table:
    """The table in a file. The columns in `as_written` are kept as text, and so are the labels of the target.

    `target` names the target's column; None stands for the last one. Fractions are labels where it `has_classes`.
    """
    source = Source(path)
    if source.start(4) == b"PAR1":
        return read_parquet(source, reading)
    return _read_text(source, find_dialect(source, reading), reading, as_written, target, has_classes=has_classes)


def _read_text(
    source: Source,
    dialect: Dialect,
    reading: Reading,
    as_written: Sequence[str],
    target: str | None,
    *,
    has_classes: bool,
) -> Table:
    pandas = pandas_or_refuse(source.name)
    names, indices, notes = _named(source.name, dialect)
    index_of = dict(zip(names, indices, strict=True))
    texts = {index_of[name] for name in as_written if name in index_of}
    index = index_of.get(names[-1] if target is None else target)
    if index is not None and (has_classes or not dialect.has_fractions(index)):
        texts.add(index)
    codes = {one for one in indices if dialect.has_codes(one)}
    texts |= codes
    origin = Origin(source, dialect, index_of)
    frame = _parsed(pandas, source, dialect, reading, texts, origin)
    begun = _begun_whole(frame, dialect)
    _refuse_later_thousands(begun, origin, reading)
    codes |= (later := _later_codes(begun, origin, reading) - texts)
    mixed = _mixed(pandas, frame) | later
    if mixed - texts:  # codes, numbers in one part of the file and texts in another, or a bad target
        frame = _parsed(pandas, source, dialect, reading, texts | mixed, origin)
    if not len(frame):
        msg = f"{source.name} has no rows below its header"
        raise CommandError(msg)
    _refuse_short_rows(frame[len(dialect.names) - 1], origin)
    if len(dialect.names) == 1:
        origin.refuse_blank_line()
    wanted = set(indices)
    columns = [values for k, values in _columns(frame) if k in wanted]
    table = Table(source.name, list(names), columns, names[-1], origin, notes)
    table.codes = frozenset(name for name, one in index_of.items() if one in codes)
    table.decimal, table.thousands = dialect.decimal, dialect.thousands
    return table


def _columns(frame: Any) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Each column's index and its values."""
    for k, array in enumerate(arrays_of(frame)):
        yield k, array if array is not None else values_of(frame[k])


def _begun_whole(frame: Any, dialect: Dialect) -> dict[int, npt.NDArray[Any]]:
    """The columns of numbers whose first cell tells little of others, where there are more than the dialect is of."""
    some = dialect.begun_whole() if len(frame) > len(dialect.sample) else []
    if not some:
        return {}
    return {k: array for k, array in zip(some, arrays_of(frame[some]), strict=True) if array is not None}


def _later_codes(begun: dict[int, npt.NDArray[Any]], origin: "Origin", reading: Reading) -> set[int]:
    """The columns read as whole numbers of which some cell, wherever it stands, has a zero in front."""
    whole = [k for k, array in begun.items() if _are_whole(array)]
    if not whole or not origin.has_zeros_in_front():
        return set()
    codes = {k for _, cells in origin.rows() for k in whole if k < len(cells) and is_code(cells[k].strip())}
    if not codes:
        return codes
    known = ((k, cells[k].strip()) for _, cells in origin.rows() for k in codes if k < len(cells))
    return codes - {k for k, cell in known if cell not in reading.na and not WHOLE.match(cell)}


def _are_whole(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind in "iu" or (array.dtype.kind == "f" and not np.any(array[np.isfinite(array)] % 1))


def _refuse_later_thousands(begun: dict[int, npt.NDArray[Any]], origin: "Origin", reading: Reading) -> None:
    """As `refuse_unclear_thousands`, of all cells and not only of those that the dialect was found by."""
    dialect = origin.dialect
    unclear = [k for k, array in begun.items() if _may_be_thousands(array)]
    if unclear and (reading.decimal, dialect.thousands) == (None, None):
        rows = ([cells[k].strip() for k in unclear if k < len(cells)] for _, cells in origin.rows())
        body = [["" if cell in reading.na else cell for cell in row] for row in rows]
        refuse_unclear_thousands(origin.source.name, [dialect.names[k] for k in unclear], body, dialect.decimal)


def _may_be_thousands(array: npt.NDArray[Any]) -> bool:
    """Whether fractions are of three digits beside wholes, all below a thousand: 1.234 beside 940."""
    if array.dtype.kind != "f":
        return False
    x = np.abs(array[np.isfinite(array)])
    is_whole = x % 1 == 0
    parts = x[~is_whole]
    if not (parts.size and is_whole.any() and parts.min() > 1 and x.max() < 1000):
        return False
    return float(np.abs(parts * 1000 - np.rint(parts * 1000)).max()) < 1e-6


def _mixed(pandas: Any, frame: Any) -> set[int]:
    """The columns whose cells are of several types."""
    objects = [k for k, dtype in enumerate(frame.dtypes) if dtype.kind == "O" and dtype.name == "object"]
    pure = {"string", "empty", "boolean"}
    return {k for k in objects if pandas.api.types.infer_dtype(frame[k], skipna=True) not in pure}


def _named(name: str, dialect: Dialect) -> tuple[list[str], list[int], list[str]]:
    """The named columns, their indices in a row, and what is to be said of the others."""
    indices = list(range(len(dialect.names)))
    notes = []
    if len(indices) > 1 and dialect.names[0] == "":
        indices = indices[1:]
        notes.append("its first column has no name and is left out, as an index")
    names = [dialect.names[k] for k in indices]
    if len(names) > 1 and names[-1] == "":  # a separator at the end of the line
        names, indices = names[:-1], indices[:-1]
    if not names or "" in names:
        msg = f"{name} needs a first line with a name for every column, got {listed_names(dialect.names)}"
        raise CommandError(msg)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(one for one in names if one in seen or seen.add(one))  # type: ignore[func-returns-value]
        msg = f"{name} has two columns called {quoted(twice)}: rename one of them"
        raise CommandError(msg)
    return names, indices, notes


def _as_texts(names: Sequence[int], texts: set[int], reading: Reading) -> dict[str, Any]:
    """The arguments by which read_csv keeps columns as texts; dtypes would make a series of each of many columns."""
    if len(names) <= MANY:
        return {"dtype": dict.fromkeys(texts, str)} if texts else {}
    missing = frozenset(reading.na)
    return {"converters": dict.fromkeys(texts, lambda cell: None if cell in missing else cell)}


def _parsed(pandas: Any, source: Source, dialect: Dialect, reading: Reading, texts: set[int], origin: "Origin") -> Any:
    """The rows as a data frame with columns 0, 1, …"""
    names = list(range(len(dialect.names)))
    try:
        with source.open() as stream, warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            warnings.simplefilter("ignore", pandas.errors.DtypeWarning)
            return pandas.read_csv(
                stream,
                sep=dialect.separator,
                header=None,
                names=names,
                skiprows=dialect.header_rows,
                index_col=False,
                na_values=list(reading.na),
                keep_default_na=False,
                decimal=dialect.decimal,
                encoding=dialect.encoding,
                skipinitialspace=True,
                **_as_texts(names, texts, reading),
            )
    except UnicodeDecodeError as error:
        raise CommandError(not_decoded(source.name, dialect.encoding, error)) from None
    except pandas.errors.EmptyDataError:
        msg = f"{source.name} has no rows below its header"
        raise CommandError(msg) from None
    except (pandas.errors.ParserError, pandas.errors.ParserWarning, OverflowError) as error:
        if "EOF inside string" in str(error):
            msg = f"{source.name}, line {origin.last_row_begins()}: a quotation mark opens a cell that never ends"
            raise CommandError(msg) from None
        origin.refuse_ragged_row()
        reason = str(error).removeprefix("Error tokenizing data. C error: ")
        msg = f"{source.name} cannot be read as a table: {reason}"
        raise CommandError(msg) from None


def _refuse_short_rows(last: Any, origin: "Origin") -> None:
    """Where the last cell is missing, the row may be cut off: pandas fills what lacks."""
    if last.isna().any():
        origin.refuse_ragged_row()


@dataclass(frozen=True)
class Origin:
    """The file that a table was read from, to say where a cell stands and how it is written."""

    source: Source
    dialect: Dialect
    indices: dict[str, int]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row's last line and its cells."""
        width = len(self.dialect.names)
        with io.TextIOWrapper(self.source.open(), encoding=self.dialect.encoding, newline="") as lines:
            reader = self.dialect.cells(lines)
            for cells in _readable(reader):
                line, is_row = reader.line_num, len(cells) > 1 or cells == [""] * width or any(map(str.strip, cells))
                if line > self.dialect.header_lines and is_row:
                    yield line, cells

    def has_zeros_in_front(self) -> bool:
        """Whether a cell may be a whole number with a zero in front; looked for in the bytes, not cell by cell."""
        ends, digits = (np.isin(np.arange(256), list(some)) for some in (self._ends(), b"0123456789"))
        before = b"\n"
        for block in self._blocks():
            text = np.frombuffer(before + block + b"\n\n", np.uint8)
            zeros = np.flatnonzero(text[1:-2] == ord("0")) + 1
            zeros = zeros[ends[text[zeros - 1]] & digits[text[zeros + 1]]]
            if (ends | digits)[text[zeros + 2]].any():
                return True
            before = block[-3:]
        return False

    def _ends(self) -> bytes:
        """What may stand before and after a cell."""
        return b" \t\r\n\"'" + (self.dialect.separator.encode() if len(self.dialect.separator) == 1 else b"")

    def _blocks(self) -> Iterator[bytes]:
        """The file in an encoding whose digits are those of ASCII."""
        with self.source.open() as stream:
            if "0".encode(self.dialect.encoding) == b"0":
                yield from iter(partial(stream.read, 2**20), b"")
            else:
                lines = io.TextIOWrapper(stream, encoding=self.dialect.encoding)
                yield from (block.encode() for block in iter(partial(lines.read, 2**20), ""))

    def refuse_blank_line(self) -> None:
        """Raise CommandError for a blank line above a row: where there is one column, it may be a missing cell."""
        blank = 0
        with io.TextIOWrapper(self.source.open(), encoding=self.dialect.encoding, newline="") as lines:
            reader = csv.reader(lines)
            for cells in _readable(reader):
                is_blank = not cells or (cells != [""] and not any(map(str.strip, cells)))  # not of "" in quotes
                if reader.line_num <= self.dialect.header_lines:
                    continue
                if blank and not is_blank:
                    msg = (
                        f"{self.source.name}, line {blank} is blank: in a table of one column that may be a missing "
                        'cell; write "" for one, and leave blank lines out'
                    )
                    raise CommandError(msg)
                blank = blank or (reader.line_num if is_blank else 0)

    def cell(self, row: int, name: str) -> tuple[int, str]:
        """The line in the file and the cell as written, of row 0, 1, …"""
        for k, (line, cells) in enumerate(self.rows()):
            if k == row:
                index = self.indices[name]
                return line, cells[index].strip() if index < len(cells) else ""
        return 0, ""

    def last_row_begins(self) -> int:
        """The line in which the last row begins."""
        ends = [self.dialect.header_lines, *(line for line, _ in self.rows())]
        return ends[-2] + 1

    def refuse_ragged_row(self) -> None:
        """Raise CommandError for the first row with more or fewer cells than there are columns."""
        expected = len(self.dialect.names)
        for line, cells in self.rows():
            if len(cells) != expected and not (len(cells) == expected + 1 and not cells[-1].strip()):
                msg = f"{self.source.name}, line {line}: the row has {len(cells)} cells, the header has {expected}"
                raise CommandError(msg)


def _readable(reader: Any) -> Iterator[list[str]]:
    """The rows up to one that csv cannot read: what pandas said of the file stands."""
    with contextlib.suppress(csv.Error, UnicodeDecodeError):
        yield from reader
