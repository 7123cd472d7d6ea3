"""Which rows of a table count: those without missing cells, where these are dropped, and those that weigh anything."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.cli.output import note
from nnarray.cli.table import Table, is_missing
from nnarray.cli.targets import refuse_missing


def kept_rows(
    table: Table, names: Sequence[str], y: npt.NDArray[Any], missing: str, target: str | None
) -> npt.NDArray[Any]:
    """The rows that count, by --missing: all, those without a missing cell, or all if none has one."""
    columns = [table.columns[index] if table.names is None else table.column(name) for index, name in enumerate(names)]
    if missing == "drop":
        holes = is_missing(y)
        for values in columns:
            holes |= is_missing(values)
        if holes.all():
            msg = f"{table.source} has a missing cell in every row"
            raise CommandError(msg)
        return np.flatnonzero(~holes)
    refuse_missing(table, y, str(target))
    if missing == "refuse":
        refuse_holes(table, names, columns)
    return np.arange(table.m)


def weighing_rows(table: Table, kept: npt.NDArray[Any], weights: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """The rows among these that weigh anything."""
    if weights is None or np.all(weights[kept] > 0):
        return kept
    weighing = np.asarray(kept[weights[kept] > 0])
    if not weighing.size:
        msg = f"{table.source}: all weights are 0"
        raise CommandError(msg)
    table.notes.append(f"{kept.size - weighing.size} rows of weight 0 are left out")
    return weighing


def refuse_holes(table: Table, names: Sequence[str], columns: Sequence[Any], *, fills: bool = True) -> None:
    """Raise CommandError that tells of all columns with missing cells: forbidden, or with nothing that `fills` them."""
    found = []
    for name, values in zip(names, columns, strict=True):
        holes = np.flatnonzero(is_missing(values)) if values is not None else np.empty(0)
        if holes.size:
            found.append(f"{table.where(int(holes[0]), name)} (and {holes.size - 1} more such)")
    if found:
        more = f"; and {len(found) - 10} more columns" if len(found) > 10 else ""
        why = "which --missing refuse forbids" if fills else "for which the model has nothing to take"
        msg = f"{table.source} has missing cells, {why}: {'; '.join(found[:10])}{more}"
        raise CommandError(msg)


def without_holes(table: Table, names: Sequence[str], target: str) -> Table:
    """The rows without a missing cell in these columns and without a missing target; others are noted."""
    y = table.column(target) if table.y is None else table.y
    kept = kept_rows(table, names, y, "drop", target)
    if kept.size == table.m:
        return table
    note(f"note: {table.m - kept.size} rows with missing cells are left out")
    rest = rows_of(table, kept)
    rest.columns = [values[kept] for values in table.columns]
    rest.y = None if table.y is None else y[kept]
    return rest


def rows_of(table: Table, kept: npt.NDArray[Any]) -> Table:
    """The table, for messages about rows that may have been renumbered."""
    return table if kept.size == table.m else Renumbered(table, kept)


class Renumbered(Table):
    """A table of which some rows are left out."""

    def __init__(self, table: Table, kept: npt.NDArray[Any]) -> None:
        super().__init__(**vars(table))
        self._kept = kept

    def where(self, row: int, name: str) -> str:
        """Where the cell stands in the whole table."""
        return super().where(int(self._kept[row]), name)
