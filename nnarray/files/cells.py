"""The cells of a table's columns as what a model takes: numbers, days, and categories as training wrote them."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.files.dates import COMPACT, COMPACT_PATTERN, as_iso

Floats = npt.NDArray[np.float64]

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "#N/A", "<NA>", "NaT")
"""Texts that stand for a missing cell, unless training was told others."""

TRUTH = {"True", "False", None}
"""Categories that a table may write in small or in capital letters, too, or as 0 and 1."""

BITS = {"0": "False", "1": "True"}

YEAR = re.compile(r"\d{4}$")
WITH_OFFSET = re.compile(r".*[T ].*(Z|[+-]\d{2}(:?\d{2})?)$|\d{8}T")

LONGEST_NUMBER = 200


def marks_of_missing(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts that stood for a missing cell in the table that a model was trained on."""
    training = metadata.get("training")
    reading = training.get("reading") if isinstance(training, dict) else None
    marks = reading.get("na") if isinstance(reading, dict) else None
    if not isinstance(marks, list) or not marks or not all(isinstance(text, str) for text in marks):
        return MISSING
    return tuple(marks)


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN, or pandas' NA or NaT."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def as_text(value: Any) -> str | None:
    """A category as text; None for a missing one. A number that is whole is written without its point."""
    if is_missing(value):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def as_numbers(values: Any, missing: Sequence[str] = ()) -> Floats:
    """A column of numbers as float64, durations in seconds; NaN where one is missing."""
    x = _cells(values, missing)
    if x.dtype.kind == "O":
        x = np.array([_number(value) for value in x])
    if x.dtype.kind == "m":
        return np.asarray(np.where(np.isnat(x), np.nan, x / np.timedelta64(1, "s")), dtype="float64")
    if x.dtype.kind in "cM":
        msg = f"the model takes numbers here, got {'dates' if x.dtype.kind == 'M' else 'complex numbers'}"
        raise TypeError(msg)
    return without_marks(np.asarray(x, dtype="float64"), missing)


def without_marks(x: npt.NDArray[Any], missing: Sequence[str]) -> npt.NDArray[Any]:
    """Numbers of any dtype; where some are marks of missing cells, as float64 with NaN for them."""
    marks = numbers_among(tuple(missing))
    if not marks:
        return x
    marked = np.isin(x, marks)
    return np.where(marked, np.nan, x.astype("float64")) if marked.any() else x


@lru_cache(16)
def numbers_among(missing: tuple[str, ...]) -> list[float]:
    """The marks of missing cells that are numbers, such as -9999."""
    return [float(number) for number in map(exact, missing) if number is not None and number.is_finite()]


def as_days(values: Any, layout: str = "", missing: Sequence[str] = ()) -> Floats:
    """Dates as days since 1970 in UTC, NaN where one is missing: ISO texts, datetimes, or such numbers already.

    Of a column with the layout COMPACT, whole numbers as 20260131 are dates, too.
    """
    if getattr(getattr(values, "dtype", None), "tz", None) is not None:  # a pandas column with a time zone
        values = values.dt.tz_convert(None)
    values = _cells(values, missing)
    if layout == COMPACT and values.dtype.kind in "iufO":
        values = np.array([_with_dashes(value) for value in values.tolist()], dtype=object)
    are_numbers = {isinstance(value, int | float) for value in values if value is not None}
    if values.dtype.kind in "bcm" or len(are_numbers) > 1:
        msg = f"the model takes dates here, got {values.dtype if len(are_numbers) < 2 else 'numbers among them'}"
        raise TypeError(msg)
    if values.dtype.kind in "iuf" or are_numbers == {True}:
        return np.asarray(values, dtype="float64")
    try:
        if values.dtype.kind == "O":
            values = [_moment(value, layout) for value in values]
        moments = np.asarray(values, "datetime64[us]")
    except ValueError as error:
        msg = f"{error}; dates are datetimes, ISO texts (2024-03-01) or as training wrote them: see pandas.to_datetime"
        raise ValueError(msg) from None
    return np.asarray(np.where(np.isnat(moments), np.nan, moments.astype("int64") / 86_400e6))


def _moment(cell: Any, layout: str) -> Any:
    """A date of an object or a text, without its time zone. Raises ValueError for another text."""
    if isinstance(cell, str):
        text = cell if YEAR.match(cell) else as_iso(cell, layout)
        if text is None:
            msg = f"{cell!r} is no date"
            raise ValueError(msg)
        cell = datetime.fromisoformat(text) if WITH_OFFSET.match(text) else text
    is_aware = getattr(cell, "tzinfo", None) is not None and hasattr(cell, "astimezone")
    return cell.astimezone(UTC).replace(tzinfo=None) if is_aware else cell


def as_categories(values: Any, categories: Sequence[str | None], missing: Sequence[str] = ()) -> list[str | None]:
    """Cells as training wrote them: without spaces around; true and 1 as True; a number as the one equal to it."""
    values = _values(values if hasattr(values, "dtype") else np.array(list(values), dtype=object))
    texts = [as_text(value) for value in values]
    known = set(categories)
    unknown = {text: value for text, value in zip(texts, values, strict=True) if text is not None and text not in known}
    numbered: dict[Any, list[str]] = {}
    for name in categories if unknown else ():
        numbered.setdefault(None if name is None else exact(name), []).append(str(name))
    numbered.pop(None, None)
    found = {text: _category(text, value, known, numbered, missing) for text, value in unknown.items()}
    return [found.get(text, text) if text is not None else None for text in texts]


def _category(
    text: str, value: Any, known: set[str | None], numbered: dict[Any, list[str]], missing: Sequence[str]
) -> str | None:
    """The category of a text that is none as it stands; the text where it is none at all."""
    text = text.strip()
    if text in known or text in missing:
        return text if text in known else None
    if known <= TRUTH:
        return BITS.get(text, text.capitalize())
    number = exact_whole(text) if isinstance(value, str | bytes) else exact(text)  # of 1.10 and 1.1, each is a text
    equal = numbered.get(number, ())
    return equal[0] if len(equal) == 1 else text


def exact(text: str) -> Decimal | None:
    """The number that a text is; None for another text, a NaN, and for one that is too long."""
    try:
        number = Decimal(text) if "_" not in text and len(text) <= LONGEST_NUMBER else None
    except InvalidOperation:
        return None
    return None if number is None or number.is_nan() else number


def exact_whole(text: str) -> Decimal | None:
    """The whole number that a text is."""
    number = exact(text)
    is_whole = number is not None and number.is_finite() and number == number.to_integral_value()
    return number if is_whole else None


def _cells(values: Any, missing: Sequence[str] = ()) -> npt.NDArray[Any]:
    """A column as an array; where it holds objects, texts without spaces around, and None for what is missing."""
    array = _values(values)
    if array.dtype.kind not in "OUST":
        return array
    cells = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in array.tolist()]
    cells = [value.strip() if isinstance(value, str) else value for value in cells]
    return np.array([None if is_missing(cell) or cell in missing else cell for cell in cells], dtype=object)


def _values(values: Any) -> npt.NDArray[Any]:
    """A column as an array of shape (m,), None where it is masked."""
    array = np.asarray(values)
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):  # a list may hold other things beside texts
        array = np.array(list(values), dtype=object)
    if array.ndim != 1:
        msg = f"it must be one value for each example, shape (m,), got shape {array.shape}"
        raise ValueError(msg)
    if not np.ma.isMaskedArray(values):
        return array
    array = array.astype(object)
    array[np.ma.getmaskarray(values)] = None
    return array


def _number(cell: Any) -> Any:
    """A number of an object; of a duration, its seconds. What only Python takes for a number, 1_000, is none."""
    if hasattr(cell, "total_seconds"):
        return cell.total_seconds()
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        msg = f"could not convert string to float: {cell!r}"
        raise ValueError(msg)
    return np.nan if cell is None else cell if isinstance(cell, complex) else float(cell)


def _with_dashes(cell: Any) -> Any:
    """20260131 as 2026-01-31; every other cell as it is, days since 1970 among them."""
    text = as_text(cell)
    if text is None:
        return None
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if COMPACT_PATTERN.match(text) else cell
