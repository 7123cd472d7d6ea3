"""Columns of dates: their formats, and their conversion to days since 1970."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.cli.output import quoted
from nnarray.files.cells import as_days
from nnarray.files.dates import (
    CLOCK,
    COMPACT,
    ISO,
    ISO_PATTERN,
    MONTH,
    NAMED_PATTERN,
    NTH,
    NUMERIC_PATTERN,
    TIME,
    YEAR_FIRST_PATTERN,
    as_iso,
)

WRITTEN = {ISO: ISO_PATTERN, "year": YEAR_FIRST_PATTERN, "named": NAMED_PATTERN, "numeric": NUMERIC_PATTERN}
"""The supported dates; for numeric ones the order of day and month is still to be determined."""

UNREAD = {
    "times of day": (rf"{CLOCK}|\d{{1,3}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?", "as hours, such as 14.5"),
    "durations": (
        r"-?\d+ days?,? -?\d{1,2}:\d{2}:\d{2}(?:\.\d+)?|P(?=[\dT])(?:\d+[YMWD])*(?:T(?:\d+(?:\.\d+)?[HMS])+)?",
        "as hours, such as 14.5",
    ),
    "dates with a year of two digits": (
        rf"\d{{1,2}}([./-])\d{{1,2}}\1\d{{2}}{TIME}|\d{{1,2}}[ -]{MONTH}[ -]\d{{2}}{TIME}",
        "as 2026-01-31",
    ),
    "months": (
        rf"{MONTH}[ -]'?(?:\d{{2}}|(?:19|20)\d{{2}})|(?:0?[1-9]|1[0-2])[./-](?:19|20)\d{{2}}|"
        r"(?:19|20)\d{2}[./](?:0?[1-9]|1[0-2])|(?:19|20)\d{2}-[1-9]",
        "as 2026-01",
    ),
    "dates without a year": (rf"\d{{1,2}}[ -]{MONTH}|{MONTH}[ -]\d{{1,2}}{NTH}", "as 2026-01-31"),
    "quarters": (r"\d{4}[ -]?Q[1-4]|Q[1-4][ -]?\d{4}", "as their first month, such as 2026-04"),
    "weeks": (r"\d{4}-?W\d{2}(?:-?\d)?", "as their first day, such as 2026-01-26"),
    "dates with the name of a time zone": (
        rf"(?:\d{{4}}([/.-])\d{{1,2}}\1\d{{1,2}}|\d{{1,2}}([./-])\d{{1,2}}\2\d{{4}})[ T]{CLOCK} ?[A-Za-z][A-Za-z/_]+",
        "as 2026-01-31T14:30+01:00",
    ),
    "dates with such names of months": (
        r"\d{1,2}\.?[ -](?:de )?[^\W\d_]{3,10}\.?[ -](?:de )?(?:19|20)\d{2}",
        "as 2026-01-31",
    ),
}
"""Formats that are not supported, each with what to write instead."""

UNREAD_PATTERNS = {kind: re.compile(f"(?:{pattern})$", re.IGNORECASE) for kind, (pattern, _) in UNREAD.items()}

START = re.compile(r"-?P?T?\d|[A-Za-z]{3,9}[ .,-]|Q[1-4]")
"""The beginning of every date or time: a text without it is none of the above."""

LOOKED_AT, PROBED, LONGEST = 1000, 50, 60


def find_layout(texts: Sequence[str]) -> str | None:
    """How the dates in a column are written, by more than half of the texts that are looked at; None if it has none.

    "ISO8601", or "year", "day", "month" or "named" for what comes first. Raises CommandError where day and month cannot
    be told apart, and for what is not read, such as times without a date.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    different = Counter(texts[:LOOKED_AT])
    if not any(map(_kind, list(different)[:: len(different) // PROBED + 1])):
        return None
    for text, count in different.items():
        kind = _kind(text)
        if kind is not None:
            counts[kind] += count
            examples.setdefault(kind, text)
    if 2 * counts.total() <= min(len(texts), LOOKED_AT):
        return None
    kind = counts.most_common(1)[0][0]
    if kind in UNREAD:
        msg = f"{kind}, such as {quoted(examples[kind])}, are not read: write them {UNREAD[kind][1]}"
        raise CommandError(msg)
    return _day_or_month(texts) if kind == "numeric" else kind


def _kind(text: str) -> str | None:
    if len(text) > LONGEST or not START.match(text):
        return None
    patterns = (WRITTEN, UNREAD_PATTERNS)
    return next((kind for known in patterns for kind, pattern in known.items() if pattern.match(text)), None)


def _day_or_month(texts: Sequence[str]) -> str:
    found = [match for text in set(texts) if (match := NUMERIC_PATTERN.match(text))]
    first, second = max(int(match[1]) for match in found), max(int(match[3]) for match in found)
    if second > 12 >= first:
        return "month"
    if first > 12 >= second or (max(first, second) <= 12 and all(match[2] == "." for match in found)):
        return "day"
    example = next(text for text in texts if NUMERIC_PATTERN.match(text))
    msg = (
        f"of dates such as {quoted(example)} it cannot be told which is the day and which the month: write them as "
        "2026-01-31"
    )
    raise CommandError(msg)


def read_days(texts: npt.NDArray[Any], layout: str) -> npt.NDArray[np.float64]:
    """The days since 1970 in UTC; NaN for a missing date and for what has neither this layout nor the year first."""
    import pandas

    codes, different = pandas.factorize(np.asarray(texts, dtype=object))
    written = pandas.Series([as_iso(text, layout) for text in different], dtype=object)
    moments = pandas.to_datetime(written, errors="coerce", utc=True, format=ISO)
    return np.asarray(np.append(as_days(moments), np.nan)[codes])


def is_compact(values: npt.NDArray[Any]) -> bool:
    """Whether a column of whole numbers is one of dates as 20260131, in every row where it is not missing."""
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if values.dtype.kind not in "iuf" or len(known) < 20 or known.min() < 19000101 or known.max() > 21001231:
        return False
    if np.any(known % 1):
        return False
    known = known.astype("int64")
    month, day = known // 100 % 100, known % 100
    if month.min() < 1 or month.max() > 12 or day.min() < 1 or day.max() > 31 or np.unique(known).size < 10:
        return False
    return not np.isnan(read_days(known.astype(str).astype(object), COMPACT)).any()
