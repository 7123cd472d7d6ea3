"""From a table's columns to X, and from A[L] to the target's units: what a model does around its network.

Columns are scaled in float64 and rounded afterwards, once: a date, a coordinate or an id in the billions keeps the
digits that tell its rows apart, which folding (x - mean)/scale into float32 weights would lose.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.backends import backend_of, to_numpy
from nnarray.files.cells import Floats, as_categories, as_days, as_numbers

FARTHEST = 1e9
"""Scaled numbers are clipped here, so that none is infinite in float32 and none makes the network overflow."""

FOLDABLE = 2.0**10
"""|mean| / scale up to which a network that takes raw inputs is as good in float32: it costs 10 of 24 bits."""


MOST_SHOWN = 20
"""Labels of a table that a message repeats."""


class Scaling(NamedTuple):
    """(x - mean) / scale, in float64."""

    mean: float
    scale: float

    def __call__(self, x: Floats) -> Floats:
        """The scaled numbers of x."""
        with np.errstate(all="ignore"):
            scaled: Floats = np.clip((x - self.mean) / self.scale, -FARTHEST, FARTHEST)
        return scaled

    def undo(self, z: npt.NDArray[Any]) -> Floats:
        """The numbers x whose scaled ones are z, in float64."""
        x: Floats = np.asarray(z, dtype="float64") * self.scale + self.mean
        return x


@dataclass(frozen=True)
class Number:
    """A column of numbers, which becomes one input; a missing one (NaN) is replaced by `fill`."""

    scaling: Scaling
    fill: float
    kind: ClassVar[str] = "number"
    width: ClassVar[int] = 1

    def encode(self, values: Any, missing: Sequence[str] = ()) -> Floats:
        """The input of every example, shape (m, 1)."""
        x = as_numbers(values, missing)
        if np.isinf(x).any():
            msg = f"a number must be finite, or NaN where it is missing, got {x[np.isinf(x)][0]:g}"
            raise ValueError(msg)
        return self.scaling(np.where(np.isnan(x), self.fill, x))[:, None]


@dataclass(frozen=True)
class Category:
    """A column of texts, one-hot encoded with one input per category; the category None is a missing cell.

    An unknown text is 0 in all categories.
    """

    categories: tuple[str | None, ...]
    kind: ClassVar[str] = "category"

    @property
    def width(self) -> int:
        """How many inputs it becomes."""
        return len(self.categories)

    def codes(self, values: Any, missing: Sequence[str] = ()) -> npt.NDArray[np.int64]:
        """The index of every value's category, shape (m,); -1 for an unknown value."""
        places = {category: code for code, category in enumerate(self.categories)}
        texts = as_categories(values, self.categories, missing)
        return np.fromiter((places.get(text, -1) for text in texts), "int64", len(texts))

    def encode(self, values: Any, missing: Sequence[str] = ()) -> Floats:
        """The inputs of every example, shape (m, categories)."""
        return np.vstack([np.eye(self.width), np.zeros(self.width)])[self.codes(values, missing)]


@dataclass(frozen=True)
class Date:
    """A column of dates, which becomes the days since 1970 and where in the year, the week and the day they are."""

    scalings: dict[str, Scaling]
    """those of DATE_PARTS that varied in training"""
    fill: float
    """replaces a missing date, in days since 1970"""
    layout: str = "ISO8601"
    """the date format of the table's texts, for the code that parses them; `encode` itself takes ISO 8601"""
    kind: ClassVar[str] = "date"

    @property
    def width(self) -> int:
        """How many inputs it becomes."""
        return len(self.scalings)

    def encode(self, values: Any, missing: Sequence[str] = ()) -> Floats:
        """The inputs of every example, shape (m, width)."""
        days = as_days(values, self.layout, missing)
        days = np.where(np.isnan(days), self.fill, days)
        return np.column_stack([scaling(DATE_PARTS[name](days)) for name, scaling in self.scalings.items()])


@dataclass(frozen=True)
class Ignored:
    """A column without information in training, such as a constant."""

    kind: ClassVar[str] = "ignored"
    width: ClassVar[int] = 0

    def encode(self, values: Any, missing: Sequence[str] = ()) -> Floats:
        """No input, shape (m, 0)."""
        return np.empty((len(values), 0))


Column = Number | Category | Date | Ignored

LAYOUTS = ("ISO8601", "year", "month", "day", "named", "%Y%m%d")
"""How dates may be written: ISO 8601, what comes first in them, or as one whole number."""


PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""In days."""


def _turn(period: float, function: Callable[[Floats], Any]) -> Callable[[Floats], Floats]:
    """The phase of the days on a circle of `period` days."""
    return lambda days: np.asarray(function(2 * np.pi / period * (days % period)), dtype="float64")


DATE_PARTS: dict[str, Callable[[Floats], Floats]] = {"days": lambda days: days} | {
    f"{unit}_{name}": _turn(period, function)
    for unit, period in PERIODS.items()
    for name, function in (("sin", np.sin), ("cos", np.cos))
}
"""The encodings of a date, from days since 1970; a periodic one is a point on a circle: December meets January."""


@dataclass(frozen=True)
class Preprocessing:
    """The columns that a model takes, in the order of its inputs, and the scaling of a target of real numbers."""

    columns: tuple[Column, ...]
    target: Scaling | None = None

    @property
    def n_x(self) -> int:
        """How many inputs the columns become."""
        return sum(column.width for column in self.columns)

    def X(
        self,
        table: Sequence[Any],
        dtype: str = "float64",
        names: Sequence[str] | None = None,
        missing: Sequence[str] = (),
    ) -> npt.NDArray[Any]:
        """The network's inputs (n_x, m), as a transposed table in C order, of columns of m values each.

        A column is scaled in float64 and then rounded to `dtype`. An ignored column may be None. A text that is among
        `missing` marks a missing cell, unless it is a category itself. Raises ValueError,
        and TypeError for scalars, for a column by its name or number.
        """
        m, first = None, ""
        rows = np.empty((0, 0), dtype)
        at = 0
        for i, (column, values) in enumerate(zip(self.columns, table, strict=True)):
            if not column.width:
                continue
            name = f"the column {names[i]!r}" if names is not None else f"column {i}"
            length = _length(values, name)
            if m is None:
                m, first = length, name
                rows = np.empty((m, self.n_x), dtype)
            if length != m:
                msg = f"{name} has {length} value{'s' * (length != 1)}, and {first} has {m}"
                raise ValueError(msg)
            try:
                rows[:, at : at + column.width] = column.encode(values, missing)
            except (ValueError, TypeError) as error:
                msg = f"{name}: {error}"
                raise type(error)(msg) from None
            at += column.width
        return rows.T

    def answers(self, A: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A[L] in the target's own units: float64 where the target was scaled."""
        return A if self.target is None else self.target.undo(A)


def _length(values: Any, name: str) -> int:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        msg = f"{name} must be a sequence of m values, got {values!r}; that of a single example is [{values!r}]"
        raise TypeError(msg)
    return len(values)


def columns_of(data: Any, names: Sequence[str] | None, preprocessing: Preprocessing) -> list[Any]:
    """The model's columns of a table, by name, or the rows of an array (columns, m)."""
    labels = labels_of(data)
    if labels is not None:
        if names is None:
            msg = "the model's columns have no names: give it an array of shape (columns, m)"
            raise TypeError(msg)
        used = [name for name, column in zip(names, preprocessing.columns, strict=True) if column.width]
        found = _found(used, labels)
        return [data[found[name]] if name in found else None for name in names]
    is_plain = backend_of(data) is None or np.ma.isMaskedArray(data)  # whose mask to_numpy would lose
    rows = np.asanyarray(data) if is_plain else to_numpy(data)
    expected = len(preprocessing.columns)
    if rows.ndim != 2 or rows.shape[0] != expected:
        msg = f"X must have shape (columns, m) = ({expected}, m), one example per column, got {rows.shape}"
        raise ValueError(msg)
    return list(rows)


def labels_of(data: Any) -> list[Any] | None:
    """The labels of the columns of a mapping, a data frame, an Arrow table or a structured array; None for another."""
    if isinstance(data, Mapping):
        return list(data)
    structured = getattr(getattr(data, "dtype", None), "names", None)
    names = getattr(data, "column_names", structured)  # the columns of an Arrow table are its data
    if names is None and hasattr(data, "columns"):
        names = data.columns
    return None if names is None else list(names)


def _found(names: Sequence[str], labels: Sequence[Any]) -> dict[str, Any]:
    """The label of each of these columns: its name, or else the only one that reads so, without spaces around.

    A file's names are texts without spaces around; those of its data frame may be numbers, or have spaces.
    """
    alike: dict[str, list[Any]] = {}
    for label in labels:
        alike.setdefault(str(label).strip(), []).append(label)
    found = {name: name if name in alike.get(name, ()) else alike[name][0] for name in names if name in alike}
    unclear = [name for name, label in found.items() if label != name and len(alike[name]) > 1]
    missing = [*unclear, *(name for name in names if name not in found)]
    if missing:
        shown = ", ".join(map(repr, labels[:MOST_SHOWN])) + ", …" * (len(labels) > MOST_SHOWN)
        needed = ", ".join(map(repr, missing))
        msg = f"the model needs the columns {needed}, one of each; the table has {shown or 'none'}"
        raise ValueError(msg)
    return found


def fold(
    layers: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]], preprocessing: Preprocessing
) -> list[tuple[Floats, Floats]]:
    """The layers that compute from raw columns what `layers` compute from prepared ones, in float64.

    W (x - mean)/scale + b = (W/scale) x + (b - (W/scale) mean); an ignored column gets the weight 0. The last layer's Z
    is turned back into the target's own units. Raises ValueError for columns that are not numbers.
    """
    scalings = [_scaling_of(column) for column in preprocessing.columns]
    folded = [(np.asarray(W, dtype="float64"), np.asarray(b, dtype="float64")) for W, b in layers]
    W, b = folded[0]
    raw = np.zeros((W.shape[0], len(scalings)))
    raw[:, [scaling is not None for scaling in scalings]] = W / [s.scale for s in scalings if s is not None]
    folded[0] = raw, b - raw @ np.array([[s.mean if s is not None else 0.0] for s in scalings])
    if preprocessing.target is not None:
        mean, scale = preprocessing.target
        W, b = folded[-1]
        folded[-1] = W * scale, b * scale + mean
    return folded


def folds_into_float32(preprocessing: Preprocessing) -> bool:
    """Whether the folded network loses nothing that matters in float32."""
    scalings = [*(_scaling_of(column) for column in preprocessing.columns), preprocessing.target]
    return all(abs(s.mean) <= FOLDABLE * s.scale and 1e-18 < s.scale < 1e18 for s in scalings if s is not None)


def _scaling_of(column: Column) -> Scaling | None:
    if isinstance(column, Category | Date):
        msg = f"it takes a column of the kind {column.kind!r}"
        raise ValueError(msg)
    return column.scaling if isinstance(column, Number) else None


def to_plain(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessing as the JSON of a model file."""
    target = preprocessing.target
    plain: dict[str, Any] = {"columns": [_plain_column(column) for column in preprocessing.columns]}
    return plain if target is None else plain | {"target": target._asdict()}


def _plain_column(column: Column) -> dict[str, Any]:
    if isinstance(column, Number):
        return {"kind": column.kind, **column.scaling._asdict(), "fill": column.fill}
    if isinstance(column, Category):
        return {"kind": column.kind, "categories": list(column.categories)}
    if isinstance(column, Date):
        parts = {name: scaling._asdict() for name, scaling in column.scalings.items()}
        return {"kind": column.kind, "parts": parts, "fill": column.fill, "layout": column.layout}
    return {"kind": column.kind}


def from_plain(plain: dict[str, Any]) -> Preprocessing:
    """The preprocessing that the JSON of a model file describes. Raises ValueError for what `to_plain` cannot write."""
    _require(set(plain) <= {"columns", "target"}, "an object with columns and target", plain)
    _require(isinstance(plain["columns"], list) and bool(plain["columns"]), "a list of columns", plain["columns"])
    target = _scaling(plain["target"]) if "target" in plain else None
    return Preprocessing(tuple(map(_column, plain["columns"])), target)


def _column(plain: Any) -> Column:
    kind = plain.get("kind") if isinstance(plain, dict) else None
    _require(type(kind) is str and kind in _KEYS and set(plain) == _KEYS[kind], f"one of {', '.join(_KEYS)}", plain)
    if kind == "number":
        return Number(_scaling({"mean": plain["mean"], "scale": plain["scale"]}), _number(plain["fill"]))
    if kind == "category":
        return Category(_categories(plain["categories"]))
    if kind == "date":
        parts = plain["parts"]
        _require(isinstance(parts, dict) and set(parts) <= set(DATE_PARTS) and bool(parts), "parts of a date", parts)
        _require(plain["layout"] in LAYOUTS, f"a layout of {', '.join(LAYOUTS)}", plain["layout"])
        scalings = {name: _scaling(scaling) for name, scaling in parts.items()}
        return Date(scalings, _number(plain["fill"]), plain["layout"])
    return Ignored()


_KEYS = {
    "number": {"kind", "mean", "scale", "fill"},
    "category": {"kind", "categories"},
    "date": {"kind", "parts", "fill", "layout"},
    "ignored": {"kind"},
}


def _categories(plain: Any) -> tuple[str | None, ...]:
    right = isinstance(plain, list) and bool(plain) and all(type(name) is str or name is None for name in plain)
    _require(right and len(set(plain)) == len(plain), "different texts", plain)
    return tuple(plain)


def _scaling(plain: Any) -> Scaling:
    _require(isinstance(plain, dict) and set(plain) == {"mean", "scale"}, "a mean and a scale", plain)
    scaling = Scaling(_number(plain["mean"]), _number(plain["scale"]))
    _require(scaling.scale > 0, "a positive scale", plain)
    return scaling


def _number(plain: Any) -> float:
    # an int beyond float's range is compared, not converted, so that it cannot overflow
    _require(type(plain) in (int, float) and abs(plain) <= 1.7976931348623157e308, "a finite number", plain)
    return float(plain)


def _require(right: bool, expected: str, got: Any) -> None:
    if not right:
        text = ascii(got)
        msg = f'"preprocessing" must hold {expected}, got {text if len(text) <= 60 else text[:60] + "…"}'
        raise ValueError(msg)
