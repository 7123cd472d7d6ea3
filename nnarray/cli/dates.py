"""Columns of dates: their formats, and their conversion to days since 1970."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.cli.output import quoted
from nnarray.files.cells import COMPACT, COMPACT_PATTERN, as_days

ISO = "ISO8601"

MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
WEEKDAY = r"(?:(?:mon|tue|tues|wed|wednes|thu|thur|thurs|fri|sat|satur|sun)(?:day)?,? )"
NTH = "(?:st|nd|rd|th)"
CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
OFFSET = r"(?: ?(?:Z|[+-]\d{2}:?\d{2}))?"
TIME = rf"(?:,?[ T]{CLOCK}{OFFSET})?"
ISO_PATTERN = re.compile(
    r"\d{4}-\d{2}(-\d{2})?([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$|\d{8}T\d{4,6}Z?$"
)
NUMERIC_PATTERN = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}})({TIME})$")
YEAR_FIRST_PATTERN = re.compile(rf"\d{{4}}([/.-])\d{{1,2}}\1\d{{1,2}}{TIME}$")
NAMED_PATTERN = re.compile(
    rf"{WEEKDAY}?(?:\d{{1,2}}{NTH}?[ -]{MONTH}[ -]\d{{4}}|{MONTH} \d{{1,2}}{NTH}?,? \d{{4}}){TIME}$",
    re.IGNORECASE,
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
    written = pandas.Series([_year_first(text, layout) for text in different], dtype=object)
    moments = pandas.to_datetime(written, errors="coerce", utc=True, format=ISO)
    rest = np.flatnonzero(moments.isna() & written.notna())
    if rest.size:
        moments.iloc[rest] = pandas.to_datetime(written.iloc[rest], errors="coerce", utc=True, format="mixed")
    return np.asarray(np.append(as_days(moments), np.nan)[codes])


def _year_first(text: str, layout: str) -> str | None:
    """A date rewritten so that day and month are unambiguous; None for a text that is no date of the layout.

    pandas would take 31/01/2026 for one with the month first, 2026-01-02 for one with the day first, and "now" for one.
    """
    if ISO_PATTERN.match(text) or YEAR_FIRST_PATTERN.match(text):
        return text.replace(",", ".")
    if layout == COMPACT and COMPACT_PATTERN.match(text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if layout == "named" and NAMED_PATTERN.match(text):
        return text
    match = NUMERIC_PATTERN.match(text)
    if match is None or layout not in {"day", "month"}:
        return None
    first, second = match[1].rjust(2, "0"), match[3].rjust(2, "0")
    day, month = (first, second) if layout == "day" else (second, first)
    return f"{match[4]}-{month}-{day}{match[5].replace(',', '.')}"


def is_compact(values: npt.NDArray[Any]) -> bool:
    """Whether a column of whole numbers is one of dates as 20260131, in every row."""
    if values.dtype.kind not in "iu" or len(values) < 20 or values.min() < 19000101 or values.max() > 21001231:
        return False
    month, day = values // 100 % 100, values % 100
    if month.min() < 1 or month.max() > 12 or day.min() < 1 or day.max() > 31 or np.unique(values).size < 10:
        return False
    return not np.isnan(read_days(values.astype(str).astype(object), COMPACT)).any()
