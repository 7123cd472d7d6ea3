"""The kinds of a table's columns, numbers, categories or dates, and their encodings: decided once, in training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli import dates
from nnarray.cli.errors import CommandError
from nnarray.cli.output import quoted
from nnarray.cli.table import MOST_TOLD, Table, is_missing
from nnarray.cli.units import are_like_numbers, find_quantities
from nnarray.files.cells import as_categories, as_days, as_text
from nnarray.files.dates import COMPACT, ISO
from nnarray.files.preprocessing import DATE_PARTS, Category, Column, Date, Ignored, Number, Scaling

WIDEST = 10.0
"""How far from the mean standardisation may leave a training example, in a column that is nearly constant."""

SAME_OR_MISSING = "is the same wherever it is not missing, and is ignored (--categorical keeps it)"

LARGEST = 1e300
"""Beyond it, sums and differences of numbers overflow."""

FARTHEST, LOOKED_AT = 1000.0, 10_000
"""From which distance an outlier makes the others of its column useless, and how many numbers are checked."""

REMEDY = "Mend such cells or mark them as missing with --na"
REMEDY_IN_TRAINING = (
    "Mend such cells, mark them as missing with --na, take the column as categories with --categorical or leave it out "
    "with --drop"
)

MOST_CATEGORIES, FEWEST_OF_MANY = 100, 3
"""The most categories of a column, and the fewest rows of a category that is kept where there are more."""
FEWEST_QUANTITIES, MOST_QUANTITIES = 3, 20
"""The number of different values with units from which a column is reported, and up to which it is categorical."""
NINES = [sign * (10**digits - 1) for digits in range(2, 12) for sign in (-1, 1)]
ENDS = [number for bits in (15, 31, 63) for number in (-(2**bits), 2**bits - 1)]
MARKS = {float(number): str(number) for number in (*NINES, *ENDS)}
DAYS = ("0001-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "2999-12-31", "9999-01-01", "9999-12-31")
DAY_MARKS = {float(np.datetime64(day).astype("int64")): day for day in DAYS}
"""Numbers, and days since 1970, that people and programs write where they have none."""

FEWEST_FOR_IDS = 20
"""Rows from which on a column whose cells are all different looks like an id."""


class Feature(NamedTuple):
    """A column of the table, converted: numbers or days with NaN, or texts with None."""

    name: str
    kind: str
    """that of the column it becomes: "number", "category" or "date" """
    values: npt.NDArray[Any]
    layout: str = ISO
    """how dates are written"""
    note: str = ""
    """a note on how it was interpreted"""


def decide(
    table: Table, names: Sequence[str], categorical: Sequence[str] = (), numeric: Sequence[str] = ()
) -> list[Feature]:
    """The kind of each of these columns. Raises CommandError, which lists all columns that can't be interpreted."""
    features, problems = [], []
    for index, name in enumerate(names):
        values = table.columns[index] if table.names is None else table.column(name)
        try:
            features.append(_decide(table, name, values, name in categorical, name in numeric))
        except CommandError as problem:
            problems.append(str(problem))
    _raise(table.source, problems, REMEDY_IN_TRAINING)
    return features


def convert(table: Table, name: str, column: Column) -> npt.NDArray[Any]:
    """The values of a column whose kind was decided in training. Raises CommandError for cells that don't fit it."""
    values = table.column(name)
    if isinstance(column, Category):
        return np.array(as_categories(_as_texts(values), column.categories), dtype=object)
    if isinstance(column, Date):
        return _as_dates(table, name, values, column.layout)
    return _as_numbers(table, name, values)


def categories_among(names: Sequence[str] | None, columns: Sequence[Column]) -> list[str]:
    """The columns whose cells are kept as they are written."""
    pairs = zip(names, columns, strict=True) if names is not None else ()
    return [name for name, column in pairs if isinstance(column, Category)]


def convert_all(table: Table, names: Sequence[str], columns: Sequence[Column]) -> list[Any]:
    """The values of the model's columns in another table; None for the ignored ones."""
    converted: list[Any] = []
    problems = []
    for name, column in zip(names, columns, strict=True):
        try:
            converted.append(convert(table, name, column) if column.width else None)
        except CommandError as problem:
            problems.append(str(problem))
    _raise(table.source, problems, REMEDY)
    return converted


def _raise(source: str, problems: Sequence[str], remedy: str) -> None:
    if problems:
        more = f"; and {len(problems) - MOST_TOLD} more columns" if len(problems) > MOST_TOLD else ""
        told = "; ".join(problems[:MOST_TOLD]) + more
        msg = f"{source}, {told}{'' if told.endswith('?') else '.'} {remedy}"
        raise CommandError(msg)


def _decide(table: Table, name: str, values: npt.NDArray[Any], is_category: bool, is_number: bool) -> Feature:
    if is_category:
        return Feature(name, "category", _as_texts(values))
    if is_number:
        return Feature(name, "number", _as_numbers(table, name, values))
    layout = _layout(table, name, values)
    if layout is not None:
        return Feature(name, "date", _as_dates(table, name, values, layout), layout)
    if values.dtype.kind != "O" or (name not in table.codes and _are_numbers(table, values)):
        return Feature(name, "number", _as_numbers(table, name, values))
    return Feature(name, "category", values, note=_of_quantities(name, values))


def _of_quantities(name: str, texts: npt.NDArray[Any]) -> str:
    """The note on categories that are numbers with units. Raises CommandError where there are too many."""
    found = find_quantities(texts.tolist())
    if found is None or found.different < FEWEST_QUANTITIES:
        return ""
    if found.different <= MOST_QUANTITIES:
        return f"has numbers with units, such as {quoted(found.example)}: they are categories, unless written alone"
    msg = (
        f"column {quoted(name)}: numbers with units, such as {quoted(found.example)}, are not read: write the numbers "
        "alone, all in one unit"
    )
    raise CommandError(msg)


def _are_numbers(table: Table, values: npt.NDArray[Any]) -> bool:
    """Whether most of a column's texts are numbers, if only with a unit, and so the others are mistakes.

    More than half of its cells are, or of its different texts where these are many: a mark for what is missing may come
    more often than all numbers.
    """
    counts = Counter(values.tolist())
    counts.pop(None, None)
    are_numbers = are_like_numbers(list(counts)) | ~np.isnan(table.numbers(np.array(list(counts), dtype=object)))
    cells, different = np.fromiter(counts.values(), "int64", len(counts))[are_numbers].sum(), are_numbers.sum()
    return not counts or bool(2 * cells > counts.total() or 2 * different > max(len(counts), 2 * MOST_QUANTITIES))


def _as_texts(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values if values.dtype.kind == "O" else np.array([as_text(value) for value in values.tolist()], dtype=object)


def _layout(table: Table, name: str, values: npt.NDArray[Any]) -> str | None:
    """How the dates of a column are written; None where it has none."""
    if values.dtype.kind == "M":
        return ISO
    if values.dtype.kind != "O":
        return COMPACT if table.names is not None and dates.is_compact(values) else None
    texts = [text for text in values if text is not None]
    try:
        return dates.find_layout(texts) if texts else None
    except CommandError as problem:
        msg = f"column {quoted(name)}: {problem}"
        raise CommandError(msg) from None


def _as_numbers(table: Table, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column of numbers as they are; of texts as float64. Raises CommandError for cells that are no finite number."""
    if values.dtype.kind == "M":
        msg = f"column {quoted(name)}: dates, and numbers are asked for"
        raise CommandError(msg)
    texts = values.dtype.kind == "O"
    numbers = table.numbers(values) if texts else values.astype("uint8") if values.dtype.kind == "b" else values
    bad = np.flatnonzero(np.isinf(numbers) | (np.isnan(numbers) & ~is_missing(values)) if texts else np.isinf(numbers))
    if bad.size:
        row = int(bad[0])
        msg = f"{table.where(row, name)} is not a finite number{_others(bad)}{table.hint(name, row)}"
        raise CommandError(msg)
    return numbers


def _as_dates(table: Table, name: str, values: npt.NDArray[Any], layout: str) -> npt.NDArray[np.float64]:
    if values.dtype.kind == "M":
        return as_days(values)
    values = _as_texts(values)
    days = dates.read_days(values, layout)
    bad = np.flatnonzero(np.isnan(days) & ~is_missing(values))
    if bad.size:
        msg = f"{table.where(int(bad[0]), name)} is no date as others in its column{_others(bad)}"
        raise CommandError(msg)
    return days


def _others(bad: npt.NDArray[Any]) -> str:
    return f" (and {bad.size - 1} more such)" if bad.size > 1 else ""


class Fitted(NamedTuple):
    """The encodings of the columns, notes on some of them, and those that are constant and so ignored."""

    columns: list[Column]
    notes: list[str]
    constant: list[str]


def fit(features: Sequence[Feature], rows: npt.NDArray[Any]) -> Fitted:
    """The encoding of each column, fitted to the training part's rows."""
    columns: list[Column] = []
    notes: list[str] = []
    problems = []
    constant = []
    for feature in features:
        try:
            column, said = _fit(feature, rows)
        except CommandError as problem:
            problems.append(f"the numbers of column {quoted(feature.name)} {problem}")
            continue
        columns.append(column)
        constant += [feature.name] if isinstance(column, Ignored) and not said else []
        notes += [f"the column {quoted(feature.name)} {said}"] if said else []
    if problems:
        raise CommandError("; ".join(problems[:10]))
    return Fitted(columns, notes, constant)


def _fit(feature: Feature, rows: npt.NDArray[Any]) -> tuple[Column, str]:
    values = feature.values[rows]
    if feature.kind == "category":
        return _category(feature, values)
    known = values[~is_missing(values)] if values.dtype.kind == "f" else values
    if not known.size:
        return Ignored(), "is empty in the training part and is ignored"
    with np.errstate(over="ignore"):
        fill = float(np.median(known))
    numbered = rows[~is_missing(values)] if known.size < values.size else rows
    if feature.kind == "date":
        return _date(feature, known, fill, numbered)
    scaling = standardisation(known, fill, values.size)
    if scaling is None:
        return Ignored(), "" if known.size == values.size else SAME_OR_MISSING
    return Number(scaling, fill), repeated_mark(known) or outlier(known, numbered, fill) or _id_warning(feature, known)


def _category(feature: Feature, values: npt.NDArray[Any]) -> tuple[Column, str]:
    counts = Counter(values.tolist())
    missing = counts.pop(None, 0)
    if len(counts) + bool(missing) < 2:
        return Ignored(), ""
    if len(counts) == values.size - missing >= FEWEST_FOR_IDS:
        return Ignored(), "looks like an id, since all its texts are different: it is left out (see --id and --drop)"
    chosen = sorted(counts)
    said = feature.note
    if len(counts) > MOST_CATEGORIES:
        chosen = sorted(name for name, count in counts.most_common(MOST_CATEGORIES) if count >= FEWEST_OF_MANY)
        said = f"has {len(counts)} categories: the {len(chosen)} most frequent are kept, the others count as none"
    if len(chosen) + bool(missing) < 2:
        return Ignored(), f"has {len(counts)} categories of a row or two each: it is left out"
    return Category((*chosen, None) if missing else tuple(chosen)), said


def _date(feature: Feature, known: npt.NDArray[Any], fill: float, rows: npt.NDArray[Any]) -> tuple[Column, str]:
    parts = {name: standardisation(part(known), 0.0, 0) for name, part in DATE_PARTS.items()}
    scalings = {name: scaling for name, scaling in parts.items() if scaling is not None and scaling.scale > 1e-9}
    if "days" not in scalings:
        return Ignored(), ""
    said = repeated_mark(known, DAY_MARKS)
    if not said and (said := outlier(known, rows, fill)):
        said = f"(in days since 1970) {said}"
    return Date(scalings, fill, feature.layout), said


def _id_warning(feature: Feature, known: npt.NDArray[Any]) -> str:
    if known.dtype.kind not in "iu" or known.size < FEWEST_FOR_IDS or np.unique(known).size < known.size:
        return ""
    return "may be an id, since its whole numbers are all different: if so, leave it out (see --id and --drop)"


def outlier(known: npt.NDArray[Any], rows: npt.NDArray[Any], median: float) -> str:
    """The note on an outlier beside which all other numbers are nearly equal; `rows` are the numbers' rows.

    Such a one lies FARTHEST times as far from the median as nine tenths of those that differ from it. Standardisation
    gives at least a tenth of the way to it the length 1, so that these others stay within ±10 / FARTHEST: a network's
    weights would have to be a hundred times their first sizes to see them. Of 10⁶ normal numbers the farthest lies 3
    times as far, of 10⁶ log-normal ones, as incomes are, with σ = 1.5 up to 500 times.
    """
    step = max(1, known.size // LOOKED_AT)
    distances = np.abs(known.astype("float64") - median)
    others = distances[::step]
    others = others[others > 0]
    index = int(distances.argmax())
    if not others.size:
        return ""
    usual = float(np.quantile(others, 0.9, method="lower"))
    if distances[index] / FARTHEST <= usual:
        return ""
    return (
        f"has {known[index]:g} in row {rows[index] + 1}, {float(distances[index]) / usual:.0e} times as far from the "
        "median as nine tenths of the others, which scaled beside it are next to the same: is it a mistake? (see --na)"
    )


def repeated_mark(known: npt.NDArray[Any], marks: Mapping[float, str] = MARKS) -> str:
    """The note on a number such as -9999 that comes several times, farther from all others than they are apart."""
    for extreme in (float(known.min()), float(known.max())):
        if extreme not in marks:
            continue
        others = known[known != extreme].astype("float64")
        count = known.size - others.size
        if count > 1 and others.size and np.abs(others - extreme).min() > np.ptp(others) > 0:
            mark = marks[extreme]
            return f"has {mark} in {count} rows, far from all others: if it marks a missing cell, say --na={mark}"
    return ""


def standardisation(known: npt.NDArray[Any], fill: float = 0.0, m: int = 0) -> Scaling | None:
    """Mean 0 and standard deviation 1 for these numbers and, up to m of them, `fill`; None for a constant column.

    The scale of a column that is nearly always the same is so large that no example ends up beyond ±10. All is computed
    of numbers that are divided by the largest, so that none as small as 1e-310 or as large as 1e300 is lost.
    """
    x = np.concatenate([known.astype("float64"), np.full(max(m - known.size, 0), fill)])
    largest = float(np.abs(x).max())
    if largest > LARGEST:
        msg = f"are too large to standardise, such as {largest:g}"
        raise CommandError(msg)
    lowest, highest = float(x.min()), float(x.max())
    if lowest == highest:
        return None
    unit = 2.0 ** np.clip(np.floor(np.log2(highest - lowest)), -1000, 1000)
    deviation = (x - lowest) / unit
    offset = float(deviation.mean())
    scale = max(float(deviation.std()), (highest - lowest) / unit / WIDEST)
    return Scaling(lowest + offset * unit, scale * unit)
