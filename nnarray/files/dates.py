"""How dates are written in tables, and the same dates as ISO 8601."""

import re

ISO, COMPACT = "ISO8601", "%Y%m%d"
"""Two of the layouts; COMPACT is a date as one whole number, 20260131. The others say what comes first."""

MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAY = r"(?:(?:mon|tue|tues|wed|wednes|thu|thur|thurs|fri|sat|satur|sun)(?:day)?,? )"
NTH = "(?:st|nd|rd|th)"
HALF = r"(?: ?[AaPp]\.?[Mm]\.?)"
CLOCK = rf"\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?{HALF}?"
OFFSET = r"(?: ?(?:Z|[+-]\d{2}:?\d{2}))?"
TIME = rf"(?:,?[ T]{CLOCK}{OFFSET})?"

ISO_PATTERN = re.compile(
    r"\d{4}-\d{2}(-\d{2})?([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$|\d{8}T\d{4,6}Z?$"
)
COMPACT_PATTERN = re.compile(r"\d{8}$")
"""Of days since 1970, such numbers would be those of the year 29349 and later."""

NUMERIC_PATTERN = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}})({TIME})$")
YEAR_FIRST_PATTERN = re.compile(rf"(\d{{4}})([/.-])(\d{{1,2}})\2(\d{{1,2}})({TIME})$")
NAMED_PATTERN = re.compile(
    rf"{WEEKDAY}?(?:(\d{{1,2}}){NTH}?[ -]({MONTH})[ -](\d{{4}})|({MONTH}) (\d{{1,2}}){NTH}?,? (\d{{4}}))({TIME})$",
    re.IGNORECASE,
)
TIME_PATTERN = re.compile(rf",?[ T](\d{{1,2}})(:[\d:.,]+)({HALF})?({OFFSET})$")


def as_iso(text: str, layout: str) -> str | None:
    """A date in ISO 8601, its hours counted to 24; None for a text that is no date of the layout.

    Of any layout, a date with the year first is one.
    """
    if ISO_PATTERN.match(text):
        return text
    if match := YEAR_FIRST_PATTERN.match(text):
        year, _, month, day, time = match.groups()
    elif layout == COMPACT and COMPACT_PATTERN.match(text):
        year, month, day, time = text[:4], text[4:6], text[6:], ""
    elif layout in {"day", "month"} and (match := NUMERIC_PATTERN.match(text)):
        first, _, second, year, time = match.groups()
        day, month = (first, second) if layout == "day" else (second, first)
    elif layout == "named" and (match := NAMED_PATTERN.match(text)):
        *named, time = match.groups()
        day, name, year = named[:3] if named[0] else (named[4], named[3], named[5])
        month = str(MONTHS.index(name[:3].lower()) + 1)
    else:
        return None
    clock = _clock(time)
    return None if clock is None else f"{year}-{month:0>2}-{day:0>2}{clock}"


def _clock(time: str) -> str | None:
    """The time of a date as ISO 8601 has it; None for 14:30 PM."""
    match = TIME_PATTERN.match(time)
    if match is None:
        return ""
    hour, rest, half, offset = match.groups()
    if half:
        if int(hour) > 12:
            return None
        hour = str(int(hour) % 12 + 12 * ("p" in half.lower()))
    return f"T{hour:0>2}{rest.replace(',', '.')}{offset.strip()}"
