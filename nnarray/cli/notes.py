"""What is said of a table before it is trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.columns import FEWEST_FOR_IDS, outlier, repeated_mark
from nnarray.cli.names import listed_names
from nnarray.cli.output import quoted
from nnarray.cli.preparation import Part, Split
from nnarray.cli.sketch import hashes
from nnarray.cli.table import is_missing
from nnarray.cli.targets import Target
from nnarray.files.cells import exact
from nnarray.files.preprocessing import Category, Column, Date, Number, Preprocessing
from nnarray.files.unseen import FAR

FEWEST_SUMMED = 10
"""Numbers of which a total is told by its being their sum."""


def spelling_notes(classes: Sequence[Any] | None) -> list[str]:
    """Which classes differ in nothing but upper and lower case, or are one number."""
    spellings: dict[str, list[str]] = {}
    numbers: dict[Any, list[str]] = {}
    for name in map(str, classes or ()):
        spellings.setdefault(name.casefold(), []).append(name)
        numbers.setdefault(exact(name), []).append(name)
    alike = [names for names in spellings.values() if len(names) > 1]
    same = [names for number, names in numbers.items() if number is not None and len(names) > 1]
    return [
        *(f"the classes {listed_names(names)} differ in upper and lower case only" for names in alike[:3]),
        *(f"the classes {listed_names(names)} are one number, written differently" for names in same[:3]),
    ]


def target_notes(target: Target, kept: npt.NDArray[Any], parts: Split) -> list[str]:
    """Whether one target is so far out that all others are next to the same, or marks missing ones."""
    if target.output != "identity":
        return []
    known = target.values[parts.training]
    said = repeated_mark(known) or outlier(known, kept[parts.training], float(np.median(known)))
    return [f"the target {said}"] if said else []


def total_notes(names: Sequence[str], values: Sequence[Any]) -> list[str]:
    """Whether the last row has the sums of the others, as a spreadsheet's row of totals does."""
    summed = [name for name, own in zip(names, values, strict=True) if own is not None and _ends_with_sum(own)]
    if not summed:
        return []
    return [f"the last row has the sums of all others in {listed_names(summed)}: if these are totals, leave it out"]


def _ends_with_sum(x: npt.NDArray[Any]) -> bool:
    """Whether the last of a column's numbers is the sum of the others, which have one sign."""
    if x.dtype.kind not in "iuf" or not np.isfinite(x[-1]):
        return False
    others, last = x[:-1][~is_missing(x[:-1])].astype("float64"), float(x[-1])
    if np.count_nonzero(others) < FEWEST_SUMMED or others.min() < 0 < others.max():
        return False
    with np.errstate(over="ignore"):
        return bool(abs(others.sum() - last) <= 1e-8 * abs(last))


def leak_notes(
    preprocessing: Preprocessing,
    names: Sequence[str],
    values: Sequence[Any],
    target: Target,
    kept: npt.NDArray[Any],
    training: npt.NDArray[Any],
) -> list[str]:
    """Which columns are the target in other units or under other names, in the training part of the kept rows."""
    rows, known = kept[training], target.values[training]
    notes = []
    for name, column, own in zip(names, preprocessing.columns, values, strict=True):
        if column.width and own is not None and _is_target(column, own[rows], known, target.classes):
            notes.append(
                f"the column {quoted(name)} tells the target alone, in other words or units: where it is known only "
                "afterwards, leave it out with --drop"
            )
    return notes


def _is_target(column: Column, own: npt.NDArray[Any], known: npt.NDArray[Any], classes: Sequence[Any] | None) -> bool:
    """Whether a column's values are a linear function of the targets, or each of one class and each class of one."""
    if own.size < FEWEST_FOR_IDS:
        return False
    if classes is None:
        return isinstance(column, Number) and _is_linear(own, known)
    codes = column.codes(own) if isinstance(column, Category) else None
    if codes is None and isinstance(column, Number) and np.unique(own[:1000]).size <= len(classes):
        codes = np.unique(own, return_inverse=True)[1]
    if codes is None or codes.min() < 0:
        return False
    different = np.unique(known).size
    return np.unique(codes).size == different == np.unique(codes * len(classes) + known).size


def _is_linear(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> bool:
    """Whether y is a linear function of x to four digits."""
    x, y = (_unit(v.astype("float64")) for v in (x, y))
    return bool(abs(x @ y) > 1 - 1e-8)


def _unit(v: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The deviations from the mean, as a vector of length 1; NaN where one is missing."""
    v = v / (float(np.abs(v).max()) or 1.0)
    v = v - v.mean()
    return np.asarray(v / (float(np.linalg.norm(v)) or 1.0))


def missing_notes(preprocessing: Preprocessing, names: Sequence[str], values: Sequence[Any]) -> list[str]:
    """What stands for missing cells, column by column."""
    notes = []
    for name, column, own in zip(names, preprocessing.columns, values, strict=True):
        holes = int(is_missing(own).sum()) if column.width else 0
        if holes:
            how = {"number": "taken for its median", "date": "taken for its median date"}.get(column.kind)
            notes.append(f"the column {quoted(name)} has {holes} missing cells, {how or 'a category of their own'}")
    return notes


def repeat_notes(source: Any, part: Part | None, training: Part) -> list[str]:
    """How many rows of a part that has a file of its own are trained on."""
    count = repeats(part, training) if isinstance(source, str) and part is not None else 0
    if not count or part is None:
        return []
    return [f"{count} of the {part.m} rows of {source} are the same as rows that are trained on"]


def repeats(part: Part, training: Part) -> int:
    """How many examples are, with their targets, among those of the training."""
    return int(np.isin(hashes(part.X, part.values), hashes(training.X, training.values)).sum())


def cell_notes(columns: Sequence[Column], names: Sequence[str], values: Sequence[Any]) -> list[str]:
    """What cells of another table than training's are missing, far out, or none of the categories, column by column."""
    notes = []
    for name, column, own in zip(names, columns, values, strict=True):
        holes = 0 if own is None else int(is_missing(own).sum())
        notes += [f"{quoted(name)} has {holes} missing cells"] if holes else []
        notes += unseen_notes([column], [name], [own])
    return notes


def unseen_notes(columns: Sequence[Column], names: Sequence[str], values: Sequence[Any]) -> list[str]:
    """What cells training had none like, column by column."""
    notes = []
    for name, column, own in zip(names, columns, values, strict=True):
        if own is None:
            continue
        unseen = np.flatnonzero(_is_unseen(column, own))
        if unseen.size:
            what = "texts that are none of its categories" if isinstance(column, Category) else FAR_CELLS
            notes.append(f"{quoted(name)} has {unseen.size} {what}, such as {quoted(np.asarray(own)[unseen[0]])}")
    return notes


FAR_CELLS = "cells far beyond all of the training's"


def _is_unseen(column: Column, own: Any) -> npt.NDArray[Any]:
    """Which texts are no category, and which numbers may be in another unit, or mistakes."""
    if isinstance(column, Category):
        return np.asarray((column.codes(own) < 0) & ~is_missing(own))
    scaling = column.scaling if isinstance(column, Number) else None
    if isinstance(column, Date):
        scaling = column.scalings.get("days")
    if scaling is None:
        return np.zeros(len(own), dtype=bool)
    return np.asarray(np.abs(scaling(np.asarray(own, dtype="float64"))) > FAR)
