"""Tables in Parquet files, read by pandas and pyarrow."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.dialect import WHOLE, is_code
from nnarray.cli.errors import CommandError
from nnarray.cli.names import listed_names
from nnarray.cli.options import Reading
from nnarray.cli.output import quoted
from nnarray.cli.series import pandas_or_refuse, values_of
from nnarray.cli.streams import Source, refuse_dense
from nnarray.cli.table import Table
from nnarray.files.cells import without_marks

EXACT = 2.0**53
"""Up to here float64 tells whole numbers apart."""

BYTES_PER_CELL, LARGE = 8, 2**31
"""Of numbers in memory, and how many bytes of them a file of any size may hold: in it, equal ones need none."""

NESTED = "lists and records are not read: leave it out with --drop, or write its parts as columns"
NO_TEXT = "bytes that are no text: leave it out with --drop, or write it as text"


def read_parquet(source: Source, reading: Reading) -> Table:
    """The table in a Parquet file. An index with a name is a column, as it is where pandas writes CSV."""
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
        _look_before_reading(source.name, file, packed.getbuffer().nbytes)
        nested = _nested(file)
        flat = [name for name in file.schema_arrow.names if name not in nested]
        frame = pandas.read_parquet(packed, columns=flat if nested else None, read_dictionary=_texts(file))
    except CommandError:
        raise
    except Exception as error:
        msg = f"{source.name} cannot be read as Parquet: {error}"
        raise CommandError(msg) from error
    notes = [] if any(frame.index.names) or isinstance(frame.index, pandas.RangeIndex) else [UNNAMED_INDEX]
    index = [str(name) for name in frame.index.names if name is not None]  # the file has it last
    names = [*index, *(name for name in file.schema_arrow.names if name not in index)]
    return _table(source.name, file, frame.reset_index() if index else frame, names, nested, reading, notes)


UNNAMED_INDEX = "its index has no name and is left out"


def _look_before_reading(name: str, file: Any, size: int) -> None:
    """Raise CommandError for what is no table, or far larger than its file."""
    described, names = file.metadata, file.schema_arrow.names
    unpacked_size = described.num_rows * described.num_columns * BYTES_PER_CELL
    if unpacked_size > LARGE:
        refuse_dense(name, unpacked_size, size)
    if not names or not described.num_rows or len(set(names)) < len(names):
        msg = f"{name} must have rows, and columns of different names; it has {listed_names(names)}"
        raise CommandError(msg)


def _texts(file: Any) -> list[str]:
    """The columns of texts, of which each different one is held once, however often it is there."""
    schema = file.metadata.schema
    columns = [schema.column(k) for k in range(len(schema))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _nested(file: Any) -> set[str]:
    """The columns of lists and records."""
    schema = file.metadata.schema
    columns = [schema.column(k) for k in range(len(schema))]
    return {one.path.split(".")[0] for one in columns if one.max_repetition_level or one.path != one.name}


def _table(
    source: str, file: Any, frame: Any, names: list[str], nested: set[str], reading: Reading, notes: list[str]
) -> Table:
    """The table of these columns, but for an index without a name."""
    exact = _rounded_integers(file, frame)
    labels = {str(label): label for label in frame.columns}
    names = [name for name in names if name in nested or name in labels]
    columns, unread = [], dict.fromkeys(nested, NESTED)
    for name in names:
        column: npt.NDArray[Any] = np.full(len(frame), None)
        if name not in nested:
            try:
                column = _without(values_of(exact.get(labels[name], frame[labels[name]])), reading.na)
            except UnicodeDecodeError:
                unread[name] = NO_TEXT
        columns.append(column)
    of_bytes = {field.name for field in file.schema_arrow if "binary" in str(field.type)} - set(unread)
    notes += [f"the column {quoted(name)} holds bytes, which are read as UTF-8" for name in names if name in of_bytes]
    codes = frozenset(name for name, column in zip(names, columns, strict=True) if _are_codes(column))
    return Table(source, names, columns, names[-1], None, notes, codes=codes, unread=unread)


def _are_codes(values: npt.NDArray[Any]) -> bool:
    """Whether a column of texts holds whole numbers, some with a zero in front: codes, as in a text file."""
    if values.dtype.kind != "O":
        return False
    texts = {text for text in values if text is not None}
    if not all(isinstance(text, str) and WHOLE.match(text) for text in texts):
        return False
    return any(map(is_code, texts))


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
    """A column in which texts and numbers that mark a missing cell are missing."""
    if values.dtype.kind in "iuf":
        return without_marks(values, missing)
    if values.dtype.kind == "O":
        marked = frozenset(missing)
        values[[value in marked for value in values]] = None
    return values
