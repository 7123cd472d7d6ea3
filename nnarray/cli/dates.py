"""Columns of dates: how they are written, and the days since 1970 that they are."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.files.preprocessing import as_days

ISO = "ISO8601"

TIME = r"([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?)?"
ISO_PATTERN = re.compile(
    r"\d{4}-\d{2}(-\d{2})?([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$|\d{8}T\d{4,6}Z?$"
)
NUMERIC_PATTERN = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}){TIME}$")
YEAR_FIRST_PATTERN = re.compile(rf"\d{{4}}[/.]\d{{1,2}}[/.]\d{{1,2}}{TIME}$")
NAMED_PATTERN = re.compile(
    rf"(\d{{1,2}})[ -]([A-Za-z]{{3,9}})[ -](\d{{4}}){TIME}$|([A-Za-z]{{3,9}}) (\d{{1,2}}),? (\d{{4}}){TIME}$"
)
UNREAD = {
    "times of day": (re.compile(r"\d{1,3}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?$"), "as hours, such as 14.5"),
    "dates with a year of two digits": (re.compile(rf"\d{{1,2}}([./-])\d{{1,2}}\1\d{{2}}{TIME}$"), "as 2026-01-31"),
    "months": (re.compile(r"[A-Za-z]{3,9}[ -](\d{2}|\d{4})$|\d{1,2}[/-]\d{4}$|\d{4}/\d{1,2}$"), "as 2026-01"),
    "quarters": (re.compile(r"\d{4}[ -]?Q[1-4]$|Q[1-4][ -]?\d{4}$"), "as their first month, such as 2026-04"),
    "weeks": (re.compile(r"\d{4}-?W\d{2}(-?\d)?$"), "as their first day, such as 2026-01-26"),
}
"""What is written so that it is not read, each with what would be."""

COMPACT = "%Y%m%d"
LOOKED_AT = 1000


def find_layout(texts: Sequence[str]) -> str | None:
    """How the dates in a column of texts are written; None if they are no dates.

    "ISO8601", or "year", "day", "month" or "named" for what comes first. Raises CommandError where day and month cannot
    be told apart, and for what is not read, such as times without a date.
    """
    looked_at = texts[:LOOKED_AT]
    if all(map(ISO_PATTERN.match, looked_at)):
        return ISO
    if all(map(YEAR_FIRST_PATTERN.match, looked_at)):
        return "year"
    if all(map(NAMED_PATTERN.match, looked_at)):
        return "named"
    for kind, (pattern, remedy) in UNREAD.items():
        if all(map(pattern.match, looked_at)):
            msg = f"{kind}, such as {texts[0]!r}, are not read: write them {remedy}"
            raise CommandError(msg)
    found = [NUMERIC_PATTERN.match(text) for text in texts] if NUMERIC_PATTERN.match(texts[0]) else [None]
    return _day_or_month([match for match in found if match]) if all(found) else None


def _day_or_month(found: Sequence[Any]) -> str:
    first, second = max(int(match[1]) for match in found), max(int(match[3]) for match in found)
    if second > 12 >= first:
        return "month"
    if first > 12 >= second or (max(first, second) <= 12 and all(match[2] == "." for match in found)):
        return "day"
    msg = (
        f"of dates such as {found[0][0]!r} it cannot be told which is the day and which the month: write them as "
        "2026-01-31"
    )
    raise CommandError(msg)


def read_days(texts: npt.NDArray[Any], layout: str) -> npt.NDArray[np.float64]:
    """Dates as days since 1970 in UTC; NaN for what is no date, and where one is missing."""
    import pandas

    how: dict[str, Any] = {"format": ISO} if layout == ISO else {"format": "mixed", "dayfirst": layout == "day"}
    if layout == COMPACT:
        how = {"format": COMPACT}
    moments = pandas.to_datetime(pandas.Series(texts, dtype=object), errors="coerce", utc=True, **how)
    return as_days(moments)


def is_compact(values: npt.NDArray[Any]) -> bool:
    """Whether a column of whole numbers is one of dates as 20260131, in every row."""
    if values.dtype.kind not in "iu" or len(values) < 20 or values.min() < 19000101 or values.max() > 21001231:
        return False
    month, day = values // 100 % 100, values % 100
    if month.min() < 1 or month.max() > 12 or day.min() < 1 or day.max() > 31 or np.unique(values).size < 10:
        return False
    return not np.isnan(read_days(values.astype(str).astype(object), COMPACT)).any()
