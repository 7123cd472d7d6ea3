"""Tables in files, read by pandas: text with separators, packed or not, and Parquet."""

import contextlib
import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.dialect import Dialect, find_dialect, not_decoded
from nnarray.cli.errors import CommandError
from nnarray.cli.names import listed_names
from nnarray.cli.options import Reading
from nnarray.cli.output import quoted
from nnarray.cli.streams import Source, refuse_dense
from nnarray.cli.table import Table

MANY = 1000
"""Columns from which on pandas takes longer for each of them than for what is in them."""

EXACT = 2.0**53
"""Up to here float64 tells whole numbers apart."""

BYTES_PER_CELL, LARGE = 8, 2**31
"""Of numbers in memory, and how many bytes of them a Parquet file of any size may hold: in it, equal ones need none."""


def read_file(
    path: str, reading: Reading, as_written: Sequence[str], target: str | None, *, has_classes: bool = False
) -> Table:
    """The table in a file. The columns in `as_written` are kept as text, and so are the labels of the target.

    `target` names the target's column; None stands for the last one. Fractions are labels where it `has_classes`.
    """
    source = Source(path)
    if source.start(4) == b"PAR1":
        return _read_parquet(source, reading)
    return _read_text(source, find_dialect(source, reading), reading, as_written, target, has_classes=has_classes)


def pandas_or_refuse(name: str) -> Any:
    """The library, or CommandError that says how to get it."""
    try:
        import pandas
    except ImportError:
        msg = f"reading {name} needs pandas, which is not installed: pip install pandas (nnarray's extra [tables])"
        raise CommandError(msg) from None
    return pandas


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
    names, places, notes = _named(source.name, dialect)
    place_of = dict(zip(names, places, strict=True))
    texts = {place_of[name] for name in as_written if name in place_of}
    place = place_of.get(names[-1] if target is None else target)
    if place is not None and (has_classes or not dialect.has_fractions(place)):
        texts.add(place)
    codes = {name for name, one in place_of.items() if dialect.has_codes(one)}
    texts |= {place_of[name] for name in codes}
    origin = Origin(source, dialect, place_of)
    frame = _parsed(pandas, source, dialect, reading, texts, origin)
    mixed = _mixed(pandas, frame)
    if mixed - texts:  # cells that are numbers in one part of the file and texts in another, or a bad target
        frame = _parsed(pandas, source, dialect, reading, texts | mixed, origin)
    if not len(frame):
        msg = f"{source.name} has no rows below its header"
        raise CommandError(msg)
    _refuse_short_rows(frame[len(dialect.names) - 1], origin)
    wanted = set(places)
    columns = [values for k, values in _columns(frame) if k in wanted]
    table = Table(source.name, list(names), columns, names[-1], origin, notes)
    table.codes = frozenset(codes)
    table.decimal, table.thousands = dialect.decimal, dialect.thousands
    return table


def _columns(frame: Any) -> Iterable[tuple[int, npt.NDArray[Any]]]:
    """Each column's place and its values; many columns of numbers at once, where taking them out one by one is slow."""
    if frame.shape[1] <= MANY:
        return ((k, _values(column)) for k, column in frame.items())
    of_dtype: dict[Any, list[int]] = {}
    for k, dtype in enumerate(frame.dtypes):
        of_dtype.setdefault(dtype, []).append(k)
    found: dict[int, npt.NDArray[Any]] = {}
    for dtype, places in of_dtype.items():
        if dtype.kind in "iuf":
            alike = frame if len(of_dtype) == 1 else frame[places]
            found |= zip(places, np.ascontiguousarray(alike.to_numpy().T), strict=True)
        else:
            found |= {k: _values(frame[k]) for k in places}
    return sorted(found.items(), key=itemgetter(0))


def _mixed(pandas: Any, frame: Any) -> set[int]:
    """The columns whose cells are of several types."""
    objects = [k for k, dtype in enumerate(frame.dtypes) if dtype.kind == "O" and dtype.name == "object"]
    pure = {"string", "empty", "boolean"}
    return {k for k in objects if pandas.api.types.infer_dtype(frame[k], skipna=True) not in pure}


def _named(name: str, dialect: Dialect) -> tuple[list[str], list[int], list[str]]:
    """The named columns, their places in a row, and what is to be said of the others."""
    places = list(range(len(dialect.names)))
    notes = []
    if len(places) > 1 and dialect.names[0] == "":
        places = places[1:]
        notes.append("its first column has no name and is left out, as an index")
    names = [dialect.names[k] for k in places]
    if len(names) > 1 and names[-1] == "":  # a separator at the end of the line
        names, places = names[:-1], places[:-1]
    if not names or "" in names:
        msg = f"{name} needs a first line with a name for every column, got {listed_names(dialect.names)}"
        raise CommandError(msg)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(one for one in names if one in seen or seen.add(one))  # type: ignore[func-returns-value]
        msg = f"{name} has two columns called {quoted(twice)}"
        raise CommandError(msg)
    return names, places, notes


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
        origin.refuse_ragged_row()
        reason = str(error).removeprefix("Error tokenizing data. C error: ")
        msg = f"{source.name} cannot be read as a table: {reason}"
        raise CommandError(msg) from None


def _values(column: Any) -> npt.NDArray[Any]:
    """A column as numbers with NaN (durations in seconds), as moments, or as texts with None."""
    if column.dtype.kind in "iuf":
        return np.asarray(column.to_numpy())
    if column.dtype.kind == "m":
        return np.asarray(column.dt.total_seconds(), dtype="float64")
    if column.dtype.kind == "M":
        moments = column.dt.tz_convert(None) if getattr(column.dtype, "tz", None) is not None else column
        return np.asarray(moments, dtype="datetime64[us]")
    if column.dtype.kind == "b" and not column.hasnans:
        return np.where(np.asarray(column, dtype=bool), "True", "False").astype(object)
    if column.dtype.name in {"str", "string", "category"}:  # each different text once, however often it is there
        codes, different = column.factorize()
        return np.asarray(np.array([*map(_stripped, different), None], dtype=object)[codes])
    texts = column.to_numpy(dtype=object, na_value=None)
    return np.array([None if text is None else _stripped(text) for text in texts], dtype=object)


def _stripped(cell: Any) -> Any:
    """A text without spaces at its ends, bytes as UTF-8; a number, which pandas leaves as an int, as text."""
    return (cell.decode() if isinstance(cell, bytes) else str(cell)).strip()


def _refuse_short_rows(last: Any, origin: "Origin") -> None:
    """Where the last cell is missing, the row may be cut off: pandas fills what lacks."""
    if last.isna().any():
        origin.refuse_ragged_row()


def _read_parquet(source: Source, reading: Reading) -> Table:
    pandas = pandas_or_refuse(source.name)
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        msg = f"reading {source.name} needs pyarrow: pip install pyarrow (nnarray's extra [tables])"
        raise CommandError(msg) from None
    try:
        with source.open_packed() as stream:
            packed = io.BytesIO(stream.read())
        file = ParquetFile(packed)
        described = file.metadata
        unpacked_size = described.num_rows * described.num_columns * BYTES_PER_CELL
        if unpacked_size > LARGE:
            refuse_dense(source.name, unpacked_size, packed.getbuffer().nbytes)
        texts = [k for k in range(described.num_columns) if described.schema.column(k).physical_type == "BYTE_ARRAY"]
        names = [
            described.schema.column(k).path for k in texts
        ]  # each different text is held once, however often it is there
        _refuse_nested(source.name, described.schema)
        frame = pandas.read_parquet(packed, read_dictionary=names)
    except CommandError:
        raise
    except Exception as error:
        msg = f"{source.name} cannot be read as Parquet: {error}"
        raise CommandError(msg) from error
    names = [str(name) for name in frame.columns]
    if not names or not len(frame) or len(set(names)) < len(names):
        msg = f"{source.name} must have rows, and columns of different names; it has {listed_names(names)}"
        raise CommandError(msg)
    exact = _rounded_integers(file, frame)
    of_bytes = [field.name for field in file.schema_arrow if "binary" in str(field.type)]
    columns = []
    for k, label in enumerate(frame.columns):
        try:
            columns.append(_without(_values(exact.get(label, frame.iloc[:, k])), reading.na))
        except UnicodeDecodeError:
            msg = f"{source.name}, column {quoted(names[k])}: bytes that are no text: leave it out of the file"
            raise CommandError(msg) from None
    notes = [f"the column {quoted(name)} holds bytes, which are read as UTF-8" for name in names if name in of_bytes]
    return Table(source.name, names, columns, names[-1], None, notes)


def _rounded_integers(file: Any, frame: Any) -> dict[Any, Any]:
    """Columns of integers beyond 2^53 with gaps, as objects: as float64 they would be rounded."""
    wide = {field.name for field in file.schema_arrow if str(field.type) in {"int64", "uint64"}}
    gappy = [name for name in frame.columns if name in wide and frame[name].hasnans]
    rounded = [name for name in gappy if frame[name].abs().max() >= EXACT]
    if not rounded:
        return {}
    table = file.read(columns=rounded)
    return {name: table.column(name).to_pandas(integer_object_nulls=True) for name in rounded}


def _without(values: npt.NDArray[Any], missing: Sequence[str]) -> npt.NDArray[Any]:
    """A column in which texts that mark a missing cell are missing."""
    if values.dtype.kind == "O":
        marked = frozenset(missing)
        values[[value in marked for value in values]] = None
    return values


def _refuse_nested(name: str, schema: Any) -> None:
    """Raise CommandError for columns of lists and records."""
    columns = [schema.column(k) for k in range(len(schema))]
    nested = list(dict.fromkeys(one.path.split(".")[0] for one in columns if _is_nested(one)))
    if nested:
        msg = f"{name} has lists or records in {listed_names(nested)}: leave these out, or write their parts as columns"
        raise CommandError(msg)


def _is_nested(column: Any) -> bool:
    return bool(column.max_repetition_level or column.path != column.name)


@dataclass(frozen=True)
class Origin:
    """The file that a table was read from, to say where a cell stands and how it is written."""

    source: Source
    dialect: Dialect
    places: dict[str, int]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row's last line and its cells."""
        with io.TextIOWrapper(self.source.open(), encoding=self.dialect.encoding, newline="") as lines:
            reader = self.dialect.cells(lines)
            with contextlib.suppress(csv.Error, UnicodeDecodeError):  # what pandas said of the file stands
                for cells in reader:
                    line = reader.line_num
                    if line > self.dialect.header_lines and (len(cells) > 1 or any(cell.strip() for cell in cells)):
                        yield line, cells

    def cell(self, row: int, name: str) -> tuple[int, str]:
        """The line in the file and the cell as written, of row 0, 1, …"""
        for k, (line, cells) in enumerate(self.rows()):
            if k == row:
                place = self.places[name]
                return line, cells[place].strip() if place < len(cells) else ""
        return 0, ""

    def refuse_ragged_row(self) -> None:
        """Raise CommandError for the first row with more or fewer cells than there are columns."""
        expected = len(self.dialect.names)
        for line, cells in self.rows():
            if len(cells) != expected and not (len(cells) == expected + 1 and not cells[-1].strip()):
                msg = f"{self.source.name}, line {line}: the row has {len(cells)} cells, the header has {expected}"
                raise CommandError(msg)
