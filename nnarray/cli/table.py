"""A table: columns of numbers, texts or dates, and where they come from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.cli.output import quoted
from nnarray.cli.units import THOUSANDS, are_like_numbers

MOST_TOLD = 6
"""Columns that one message tells of."""

WITH_COMMA = re.compile(r"[+-]?[\d.]*,[\d,]+$")


class Locator(Protocol):
    """What knows where a cell stands in its file."""

    def cell(self, row: int, name: str) -> tuple[int, str]:
        """The line and the cell as written, of row 0, 1, …"""


@dataclass
class Table:
    """Columns of m values each: numbers (NaN is a missing one), texts (None is one) or dates (NaT is one)."""

    source: str
    names: list[str] | None
    """the columns' names; None where they have none"""
    columns: list[npt.NDArray[Any]]
    target: str | None
    """the column that is the target unless another is named; of arrays and bundled sets the name of `y`"""
    origin: Locator | None = None
    notes: list[str] = field(default_factory=list)
    """what to say of how it was read"""
    y: npt.NDArray[Any] | None = None
    """the targets, where they came beside the columns"""
    codes: frozenset[str] = frozenset()
    """columns of digits that are kept as text for the zeros in front of some"""
    decimal: str = "."
    thousands: str | None = None
    unread: dict[str, str] = field(default_factory=dict)
    """columns that cannot be used, each with the reason"""
    placed: list[str] | None = None
    """the names of which `indices` tells where they are"""
    indices: dict[str, int] = field(default_factory=dict)

    @property
    def m(self) -> int:
        """How many rows it has."""
        return len(self.columns[0])

    def column(self, name: str) -> npt.NDArray[Any]:
        """The column of this name. Raises CommandError for one that cannot be used."""
        assert self.names is not None
        self.refuse_unread([name])
        if self.placed is not self.names:
            self.placed = self.names
            self.indices = {name: index for index, name in reversed(list(enumerate(self.names)))}
        return self.columns[self.indices[name]]

    def refuse_unread(self, names: Sequence[str]) -> None:
        """Raise CommandError that tells of all of these columns that cannot be used."""
        found = [f"column {quoted(name)}: {self.unread[name]}" for name in names if name in self.unread]
        if found:
            more = f"; and {len(found) - MOST_TOLD} more columns" if len(found) > MOST_TOLD else ""
            msg = f"{self.source}, {'; '.join(found[:MOST_TOLD])}{more}"
            raise CommandError(msg)

    def where(self, row: int, name: str) -> str:
        """Where a cell stands and how it is written, for a message: row 0, 1, … is told as 1, 2, …"""
        if self.origin is None:
            value = self.column(name)[row] if self.names and name in self.names else ""
            return f"row {row + 1}, column {quoted(name)}: {quoted(value)}"
        line, cell = self.origin.cell(row, name)
        return f"row {row + 1} (line {line}), column {quoted(name)}: {quoted(cell) if cell else 'the empty cell'}"

    def numbers(self, texts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Texts as float64, read as the file writes numbers; NaN for what is none.

        The mark between thousands has to stand before three digits: 31.12.2026 and 10.0.0.1 are no numbers.
        """
        import pandas

        written = list(texts)
        if self.thousands is not None:
            mark, decimal = re.escape(self.thousands), re.escape(self.decimal)
            grouped = re.compile(rf"[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{decimal}\d*)?$")
            written = [text.replace(self.thousands, "") if text and grouped.match(text) else text for text in written]
        if self.decimal != ".":
            marks = str.maketrans({self.decimal: ".", ".": self.decimal})
            written = [text and text.translate(marks) for text in written]
        numbers = pandas.to_numeric(pandas.Series(written, dtype=object), errors="coerce")
        return np.asarray(numbers, dtype="float64")

    def hint(self, name: str, row: int) -> str:
        """What else may help where a cell is no number."""
        cell = str(self.column(name)[row]) if self.names is not None else ""
        thousands = THOUSANDS.match(cell)
        if self.decimal == "." and WITH_COMMA.match(cell):
            return "; is its comma the decimal mark (--decimal ,) or between thousands (--thousands ,)?"
        if thousands and self.thousands is None and thousands[1] != self.decimal:
            option = f"--thousands {thousands[1]}" if thousands[1] in ".," else "see --thousands"
            return f"; is its {thousands[1]!r} between thousands ({option})?"
        if self.decimal == "," and "." in cell:
            return "; the decimal mark is the comma here (see --decimal)"
        if are_like_numbers([cell])[0]:
            return "; write such numbers alone, with - before one that is negative"
        return ""


def is_missing(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Which cells of a column are missing."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values))
    if values.dtype.kind == "O":
        return np.fromiter((value is None for value in values), bool, len(values))
    return np.zeros(len(values), dtype=bool)
