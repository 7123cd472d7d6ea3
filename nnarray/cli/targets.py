"""What a target column means: classes or numbers, and so which output and cost."""

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli.dates import LOOKED_AT, find_layout
from nnarray.cli.errors import CommandError
from nnarray.cli.output import LONGEST, quoted
from nnarray.cli.table import Table, is_missing
from nnarray.cli.units import are_like_numbers, find_quantities
from nnarray.files.cells import exact, exact_whole
from nnarray.network.names import OutputName

MOST_CLASSES = 20
LEAST_EXAMPLES = 5
LEAST_ROWS = 4
"""Rows to each class, on average, that a target needs even where it was said to be classes."""

WHOLE = re.compile(r"[+-]?\d+$")
WHOLE_OR_FRACTION = re.compile(r"[+-]?\d*[.,]?\d+$")
CODE = re.compile(r"[+-]?0\d+$")
"""A code of digits, such as a postal one: a number would not be written with a zero in front."""

CLASSIFYING = ("sigmoid", "softmax")
"""The outputs that tell classes."""

RULE = (
    "Text and booleans are classes, and so are codes of digits with a zero in front; whole numbers are classes if "
    f"there are at most {MOST_CLASSES} different ones with at least {LEAST_EXAMPLES} examples each on average; all "
    "else are real numbers, but classes where the output is said to be softmax or sigmoid. Labels are kept as the "
    "table writes them: then 1.10 and 1.1 are two. Two classes get the output sigmoid with one "
    "unit, more get softmax, real numbers get identity"
)


class Target(NamedTuple):
    """A target column, understood."""

    output: OutputName
    classes: list[Any] | None
    values: npt.NDArray[Any]
    """each example's class 0, 1, … where there are classes, else its number"""

    @property
    def units(self) -> int:
        """n[L]."""
        return len(self.classes) if self.classes is not None and self.output == "softmax" else 1

    def Y(self, values: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Y of shape (n[L], m), of these values or of all."""
        values = self.values if values is None else values
        if self.output == "softmax":
            return np.asarray(np.eye(self.units)[values].T)
        return np.asarray(values[None, :], dtype="float64")

    @property
    def strata(self) -> npt.NDArray[Any]:
        """For a split in proportion: each example's class, or the tenth of the real numbers that its own is in."""
        if self.classes is not None:
            return self.values
        ranks = np.argsort(np.argsort(self.values, kind="stable"), kind="stable")
        return np.asarray(ranks * 10 // ranks.size)

    def __str__(self) -> str:
        if self.classes is None:
            return f"real numbers from {self.values.min():g} to {self.values.max():g}"
        return f"{len(self.classes)} classes ({listed(self.classes)})"


def understand(y: npt.NDArray[Any], output: OutputName | None = None, table: Table | None = None) -> Target:
    """The target column `y`, shape (m,), as classes or numbers; `output` chooses instead of the rule.

    Texts of a file's `table` that are numbers throughout are taken for such, and told apart as they are written.
    """
    numbers = _numbers_in(y, table)
    y = _as_labels(y)
    if output is None and y.dtype.kind == "O":
        _refuse_what_is_no_class(y, table)
    if output in ("identity", "exp") or (output is None and not _is_classes(y, numbers)):
        return Target(output or "identity", None, _real(y, numbers, output, table))
    names, codes = np.unique(y.astype(str) if y.dtype.kind == "O" else y, return_inverse=True)
    classes = [_name(value) for value in names]
    if any(isinstance(name, str) for name in classes):
        classes = [*map(str, classes)]
    _check_classes(classes, codes, output, numbers)
    classes, codes = _in_order(classes, codes.reshape(-1))
    return Target(output or ("sigmoid" if len(classes) == 2 else "softmax"), classes, codes)


def _as_labels(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Dates as a table of text would write them; other targets as they are."""
    if y.dtype.kind != "M":
        return y
    days = y.astype("datetime64[D]")
    return (days if np.all(y == days) else y).astype(str).astype(object)


def _refuse_what_is_no_class(y: npt.NDArray[Any], table: Table | None) -> None:
    """Raise CommandError for dates and numbers with units of which there are more than there may be classes."""
    if _are_dates(y[:LOOKED_AT].tolist()):
        what, remedy = "dates or times", "as a number, such as the days since the first"
    elif _are_quantities(y[:LOOKED_AT], table):
        what, remedy = "numbers with units", "as numbers alone, all in one unit"
    else:
        return
    if len(set(y.tolist())) <= min(MOST_CLASSES, y.size / LEAST_EXAMPLES):
        return
    texts = y.tolist()
    row = next((k for k, text in enumerate(texts) if re.search(r"\d", text) and not WHOLE_OR_FRACTION.match(text)), 0)
    hint = table.hint(table.target, row) if table is not None and table.target is not None else ""
    msg = (
        f"the target is {what}, such as {quoted(texts[row])}, which are not read: write it {remedy} "
        f"(or say --output softmax if each is a class){hint}"
    )
    raise CommandError(msg)


def _are_dates(texts: list[str]) -> bool:
    try:
        return find_layout(texts) is not None
    except CommandError:
        return True


def _are_quantities(texts: npt.NDArray[Any], table: Table | None) -> bool:
    if find_quantities(texts.tolist()) is not None:
        return True
    if table is None or np.mean(np.isnan(table.numbers(texts))) <= 0.5:  # fewer are mistakes among numbers
        return False
    return bool((are_like_numbers(texts.tolist()) | ~np.isnan(table.numbers(texts))).all())


def _numbers_in(y: npt.NDArray[Any], table: Table | None) -> npt.NDArray[Any] | None:
    """The numbers that the targets are; NaN for a text among them, None where they are texts or booleans."""
    if y.dtype.kind in "iuf":
        return y
    if y.dtype.kind != "O" or table is None:
        return None
    texts = set(y.tolist())
    if len(texts) <= 1000 and any(CODE.match(text) for text in texts if isinstance(text, str)):
        return None
    numbers = table.numbers(y)
    return None if np.isnan(numbers).all() else numbers


def _is_classes(y: npt.NDArray[Any], numbers: npt.NDArray[Any] | None) -> bool:
    if numbers is None:
        return True
    different = np.unique(y.astype(str) if y.dtype.kind == "O" else y)
    if different.size <= min(MOST_CLASSES, y.size / LEAST_EXAMPLES):
        return bool(np.isnan(numbers).any() or np.all(numbers == np.floor(numbers)))
    return bool(np.mean(np.isnan(numbers)) > 0.5)


def _real(
    y: npt.NDArray[Any], numbers: npt.NDArray[Any] | None, output: OutputName | None, table: Table | None
) -> npt.NDArray[np.float64]:
    if numbers is None:
        msg = f"the output {output!r} needs a target of numbers, this one holds text such as {quoted(y[0])}"
        raise CommandError(msg)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise CommandError(_no_number(table, int(bad[0]), bad.size, y))
    if output == "exp" and numbers.min() < 0:
        msg = f"the output 'exp' models counts, and the target holds {numbers.min():g}"
        raise CommandError(msg)
    return numbers.astype("float64")


def _no_number(table: Table | None, row: int, count: int, y: npt.NDArray[Any]) -> str:
    if table is None or table.target is None or table.names is None:
        return f"the target {quoted(y[row])} in row {row + 1} is no finite number"
    more = f" (and {count - 1} more such)" if count > 1 else ""
    return (
        f"{table.source}, {table.where(row, table.target)} is not a finite number{more}, and the other targets are: "
        f"mend it, or mark it with --na and leave its row out with --missing drop{table.hint(table.target, row)}"
    )


def _in_order(classes: list[Any], codes: npt.NDArray[Any]) -> tuple[list[Any], npt.NDArray[Any]]:
    """The classes as numbers, in their order, where all of them are whole numbers in the usual writing."""
    if not all(isinstance(name, str) and WHOLE.match(name) and str(int(name)) == name for name in classes):
        return classes, codes
    numbers = [int(name) for name in classes]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    indices = np.empty(len(order), dtype="int64")
    indices[order] = np.arange(len(order))
    return [numbers[k] for k in order], indices[codes]


def _check_classes(
    classes: list[Any], codes: npt.NDArray[Any], output: str | None, numbers: npt.NDArray[Any] | None
) -> None:
    if len(classes) == 1:
        msg = f"the target is {quoted(classes[0])} in every row: there is nothing to learn"
    elif len(classes) > max(2, codes.size / LEAST_ROWS):
        remedy = "; use identity" if numbers is not None and not np.isnan(numbers).any() else ""
        msg = (
            f"the target has {len(classes)} different values in {codes.size} rows: too many to be classes, which need "
            f"{LEAST_ROWS} rows each on average{remedy}"
        )
    elif output == "sigmoid" and len(classes) > 2:
        msg = f"the output 'sigmoid' tells two classes apart, the target has {len(classes)}; use softmax"
    else:
        return
    raise CommandError(msg)


def _name(value: Any) -> Any:
    """A label as it would be written: whole numbers without a point, fractions in the fewest digits that tell them."""
    if isinstance(value, float | np.floating):
        return int(value) if value.is_integer() else str(value)
    return value.item() if isinstance(value, np.generic) else value


def refuse_missing(table: Table, y: npt.NDArray[Any], target: str) -> None:
    """Raise CommandError where a target is missing."""
    missing = np.flatnonzero(is_missing(y))
    if missing.size:
        more = f" (and {missing.size - 1} more such)" if missing.size > 1 else ""
        msg = (
            f"{table.source}, {table.where(int(missing[0]), target)} is a missing target{more}: give the row one, or "
            "leave such rows out with --missing drop (what marks a missing cell is for --na to say)"
        )
        raise CommandError(msg)


def codes_of(y: npt.NDArray[Any], classes: list[Any], table: Table) -> npt.NDArray[Any]:
    """Each label's index among a model's classes, compared as they are written.

    A label that is none of them as it is written is the class of the same whole number: 3.0 is the class 3.
    """
    y = _as_labels(y)
    known = {str(name): code for code, name in enumerate(classes)}
    different, indices = np.unique(y.astype(str) if y.dtype.kind == "O" else y, return_inverse=True)
    indices = indices.reshape(-1)
    codes = np.array([_code_of(str(_name(label)), known) for label in different])
    unknown = np.flatnonzero(codes[indices] < 0)
    if unknown.size:
        raise CommandError(_no_class(table, int(unknown[0]), unknown.size, y, classes))
    return np.asarray(codes[indices])


def _no_class(table: Table, row: int, count: int, y: npt.NDArray[Any], classes: list[Any]) -> str:
    label = str(_name(y[row]))
    where = f"row {row + 1} has the target {quoted(label)}, which"
    if table.y is None and table.target is not None and table.names is not None:
        where = f"{table.source}, {table.where(row, table.target)}"
    more = f" (and {count - 1} more rows such)" if count > 1 else ""
    alike = [name for name in map(str, classes) if name.casefold() == label.casefold()]
    meant = f"; did you mean {quoted(alike[0])}?" if alike else ""
    return f"{where} is none of the model's classes: {listed(classes)}{more}{meant}"


def _code_of(label: str, known: dict[str, int]) -> int:
    if label in known or len(label) > LONGEST:
        return known.get(label, -1)
    number = exact_whole(label)
    if number is None:  # of 1.10 and 1.1, each is a label of its own
        return -1
    same = [code for name, code in known.items() if exact(name) == number]
    return same[0] if len(same) == 1 else -1


def numbers_of(y: npt.NDArray[Any], table: Table) -> npt.NDArray[Any]:
    """A target of real numbers. Raises CommandError for text."""
    return _real(y, _numbers_in(y, table), "identity", table)


def listed(classes: list[Any]) -> str:
    """The names of classes, the first nine of more than ten; in quotes where one holds a comma or a space."""
    shown = [name if len(name) <= LONGEST else quoted(name) for name in map(str, classes)]
    if any(set(", \n") & set(name) for name in shown):
        shown = [quoted(name) for name in classes]
    return ", ".join(shown if len(shown) <= 10 else [*shown[:9], "…"])
