"""A column of pandas' as the array that it is to us."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError


def pandas_or_refuse(name: str) -> Any:
    """The library, or CommandError that says how to get it."""
    try:
        import pandas
    except ImportError:
        msg = f"reading {name} needs pandas, which is not installed: pip install pandas (nnarray's extra [tables])"
        raise CommandError(msg) from None
    return pandas


def arrays_of(frame: Any) -> Iterator[npt.NDArray[Any] | None]:
    """Each column of numbers as it lies in the frame, None for another; a series of each takes six times as long."""
    arrays = getattr(frame, "_iter_column_arrays", None)
    if arrays is None:  # it is private, and none of what a later pandas has to keep
        return ((values_of(column) if column.dtype.kind in "iuf" else None) for _, column in frame.items())
    return (np.asarray(array) if array.dtype.kind in "iuf" else None for array in arrays())


def values_of(column: Any) -> npt.NDArray[Any]:
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
