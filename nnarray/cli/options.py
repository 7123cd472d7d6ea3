"""What the options say of a table."""

from typing import NamedTuple

from nnarray.files.cells import MISSING


class Reading(NamedTuple):
    """How to read a file, where it is not clear of itself."""

    sep: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    header: bool | None = None
    na: tuple[str, ...] = MISSING
    known_thousands: str | None = None
    """the mark between thousands in the table that training read, for a file that shows none clearly"""


DEFAULT = Reading()
"""What a file shows of itself."""
