"""`nnarray info MODEL`: what a model file holds."""

from collections.abc import Iterator, Mapping
from typing import Any

from nnarray.cli.output import quoted
from nnarray.cli.remembered import remembered
from nnarray.cli.targets import listed
from nnarray.files import Model, read_model
from nnarray.files.preprocessing import Category, Column, Date, Number

MOST_COLUMNS = 200
"""Columns that are shown one by one."""


def describe(path: str) -> Iterator[str]:
    """The parts of the description, each with a title."""
    model = read_model(path, "numpy")
    training = model.metadata.get("training", {})
    yield f"layers\n{model.network.summary()}"
    yield f"parameters\n  {model.params.dtype}, format {2 if model.preprocessing else 1}"
    yield f"inputs\n{_columns(model)}"
    yield f"target\n{_target(model)}"
    for title in ("settings", "split", "scores", "versions"):
        known = training.get(title)
        if isinstance(known, Mapping) and known:
            yield f"{title}\n{_pairs(known)}"


def _pairs(known: Mapping[str, Any]) -> str:
    return "\n".join(f"  {name.replace('_', ' '):16}{_value(value)}" for name, value in known.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _columns(model: Model) -> str:
    """A line for every column: its name, its kind, and what is done with it."""
    names = model.metadata.get("features")
    if model.preprocessing is None:
        known = ", ".join(map(quoted, names)) if names else "without names"
        return f"  {model.network.sizes[0]} numbers, as the table has them: {known}"
    columns = model.preprocessing.columns
    shown = names or [f"column {k + 1}" for k in range(len(columns))]
    rows = [("  column", "kind", "what is done with it")]
    rows += [(f"  {quoted(name)}", c.kind, _done(c)) for name, c in zip(shown, columns, strict=True)][:MOST_COLUMNS]
    more = f"\n  … ({len(columns)} in all)" if len(columns) > MOST_COLUMNS else ""
    ids = ", ".join(map(quoted, remembered(model, None).id))
    carried = f"\n  carried through by predict, as ids: {ids}" if ids else ""
    return _flush_left(rows) + more + carried


def _done(column: Column) -> str:
    if isinstance(column, Number):
        mean, scale = column.scaling
        return f"(x - {mean:.6g}) / {scale:.6g}; missing: {column.fill:.6g}"
    if isinstance(column, Category):
        names = ["a missing one" if name is None else name for name in column.categories]
        return f"{len(names)} categories: {listed(names)}"
    if isinstance(column, Date):
        return ", ".join(column.scalings)
    return "left out: in training the same in every row, empty, or all different as ids are"


def _target(model: Model) -> str:
    name = model.metadata.get("target")
    classes = model.metadata.get("classes")
    what = f"{len(classes)} classes: {listed(classes)}" if classes else model.network.output
    scaling = model.preprocessing.target if model.preprocessing else None
    scaled = f"; {scaling.mean:.6g} + {scaling.scale:.6g} A[L]" if scaling else ""
    return f"  {quoted(name) if name else 'without a name'}: {what}{scaled}"


def _flush_left(rows: list[tuple[str, str, str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    return "\n".join(f"{a.ljust(widths[0])}  {b.ljust(widths[1])}  {c}" for a, b, c in rows)
