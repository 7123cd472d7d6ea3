"""From a table and what the options say of it to the parts that training takes."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli.columns import Feature, categories_among, convert_all, decide, fit, standardisation
from nnarray.cli.errors import CommandError
from nnarray.cli.names import listed_names
from nnarray.cli.notes import (
    cell_notes,
    leak_notes,
    missing_notes,
    repeat_notes,
    spelling_notes,
    target_notes,
    total_notes,
    unseen_notes,
)
from nnarray.cli.options import Reading
from nnarray.cli.preparation import Part, Split, split
from nnarray.cli.remembered import Remembered, remembered
from nnarray.cli.roles import features_and_target, require_columns, words
from nnarray.cli.rows import kept_rows, rows_of, weighing_rows
from nnarray.cli.table import Table
from nnarray.cli.tables import read_table, resolve, resolve_one
from nnarray.cli.targets import (
    CLASSIFYING,
    Target,
    codes_of,
    numbers_of,
    understand,
)
from nnarray.files import Model
from nnarray.files.preprocessing import Preprocessing, Scaling

NOTHING_KNOWN = Remembered()


@dataclass
class Prepared:
    """A table, ready to train on."""

    source: str
    rows: int
    features: list[str] | None
    target_name: str | None
    target: Target
    preprocessing: Preprocessing
    training: Part
    validation: Part | None
    test: Part | None
    split: Split | None
    """the rows of each part; None where other files gave one"""
    kept_rows: npt.NDArray[Any]
    """the rows of the table, of which some may have been left out"""
    constant: list[str]
    """the columns that are ignored since they never vary"""
    thousands: str | None = None
    """the mark between thousands in the table's numbers"""
    notes: list[str] = field(default_factory=list)

    def Y(self, values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
        """Y (n[L], m) of these targets as training sees them, standardised where they are real numbers."""
        scaling = self.preprocessing.target
        return self.target.Y(values if scaling is None else scaling(values)).astype(dtype)


def reading_of(arguments: argparse.Namespace, known: Remembered = NOTHING_KNOWN) -> Reading:
    """How to read a file, by the options, and where these say nothing as in training."""
    na = arguments.na if arguments.na is not None else known.na
    header = arguments.header if arguments.header is not None else known.header
    return Reading(
        arguments.sep, arguments.decimal, arguments.thousands, arguments.encoding, header, na, known.thousands
    )


def prepare(arguments: argparse.Namespace, start: Model | None = None) -> Prepared:
    """Read the table, understand its columns, split its rows and measure their scales.

    With a model to `start` from, its columns, scales and classes are taken instead.
    """
    chosen = _choose(arguments, start)
    table, kept = chosen.table, chosen.kept
    target = _understood(chosen, arguments, start)
    features = _decided(chosen, arguments) if start is None else []  # a bad cell is told before anything else
    parts = _split(arguments, kept.size, target)
    learnt = _learn(chosen, features, target, parts) if start is None else _taken_from(start, chosen)
    own = [
        _part(learnt.preprocessing, learnt.values, kept[rows], target.values[rows], arguments.dtype, chosen.weights)
        if rows.size
        else None
        for rows in parts
    ]
    assert own[0] is not None
    prepared = Prepared(
        table.source,
        kept.size,
        chosen.names if table.names is not None else None,
        chosen.target,
        target,
        learnt.preprocessing,
        _balanced(own[0], target, arguments),
        own[1],
        own[2],
        parts,
        kept,
        list(learnt.constant),
        table.thousands,
        [
            *table.notes,
            *spelling_notes(target.classes),
            *missing_notes(learnt.preprocessing, chosen.names, learnt.values),
            *target_notes(target, kept, parts),
            *total_notes(
                [*chosen.names, chosen.target or "the target"],
                [*(None if own is None else own[kept] for own in learnt.values), target.values[: kept.size]],
            ),
            *leak_notes(learnt.preprocessing, chosen.names, learnt.values, target, kept, parts.training),
            *learnt.notes,
        ],
    )
    prepared.validation = _of_file(arguments.validation, prepared, arguments) or own[1]
    prepared.test = _of_file(arguments.test, prepared, arguments) or own[2]
    for source, one in ((arguments.validation, prepared.validation), (arguments.test, prepared.test)):
        prepared.notes += repeat_notes(source, one, prepared.training)
    return prepared


class Chosen(NamedTuple):
    """A table, and which of its columns and rows are what."""

    table: Table
    names: list[str]
    """the features"""
    target: str | None
    y: npt.NDArray[Any]
    kept: npt.NDArray[Any]
    """the rows that count"""
    weights: npt.NDArray[Any] | None


class Learnt(NamedTuple):
    """What is done with the columns, their values in the table, and what is to be said of them."""

    preprocessing: Preprocessing
    values: list[Any]
    notes: list[str]
    constant: Sequence[str] = ()


def _choose(arguments: argparse.Namespace, start: Model | None) -> Chosen:
    known = {} if start is None else start.metadata
    if start is not None:
        arguments.target = arguments.target or known.get("target")
        arguments.features = arguments.features or known.get("features", [])
    columns = () if start is None or start.preprocessing is None else start.preprocessing.columns
    categories = categories_among(known.get("features"), columns)
    known_reading = NOTHING_KNOWN if start is None else remembered(start, None)
    reading, ids = reading_of(arguments, known_reading), arguments.id or known_reading.id
    arguments.na, arguments.header = reading.na, reading.header
    table = read_table(
        arguments.data,
        arguments.labels,
        reading=reading,
        as_written=[*words(arguments.categorical), *words(ids), *categories],
        target=arguments.target,
        has_classes=_has_classes(arguments, start),
    )
    if not arguments.id:  # another table may lack those of the model's
        arguments.id = [name for name in ids if name in (table.names or ())]
    names, target = features_and_target(table, arguments)
    arguments.id = resolve(arguments.id, table.names, table.source, "--id")
    y, weights = _targets(table, target), _weights(table, arguments)
    kept = kept_rows(table, names, y, arguments.missing, target)
    if kept.size < table.m:
        table.notes.append(f"{table.m - kept.size} rows with missing cells are left out")
    if table.y is None:
        table.target = target
    return Chosen(table, names, target, y, weighing_rows(table, kept, weights), weights)


def _has_classes(arguments: argparse.Namespace, start: Model | None) -> bool:
    """Whether the target is known to be classes, by the options or by the model to start from."""
    if start is not None:
        return start.classes is not None
    return arguments.output in CLASSIFYING


def _understood(chosen: Chosen, arguments: argparse.Namespace, start: Model | None) -> Target:
    """The target; of a model to start from, with its classes and its output."""
    table, y = chosen.table, chosen.y[chosen.kept]
    rows = rows_of(table, chosen.kept)
    if start is None:
        return understand(y, arguments.output, rows if table.y is None else None)
    classes, output = start.classes, start.network.output
    return Target(output, classes, numbers_of(y, rows) if classes is None else codes_of(y, classes, rows))


def _decided(chosen: Chosen, arguments: argparse.Namespace) -> list[Feature]:
    """What each feature is, with what the options say of it."""
    table = chosen.table
    return decide(
        table,
        chosen.names,
        resolve(arguments.categorical, table.names, table.source, "--categorical"),
        resolve(arguments.numeric, table.names, table.source, "--numeric"),
    )


def _learn(chosen: Chosen, features: Sequence[Feature], target: Target, parts: Split) -> Learnt:
    """What the training part's columns become."""
    table, names = chosen.table, chosen.names
    fitted = fit(features, chosen.kept[parts.training])
    preprocessing = Preprocessing(tuple(fitted.columns), _target_scaling(target, parts.training))
    if not preprocessing.n_x:
        msg = (
            f"{table.source} has nothing to learn from: {listed_names(names)} "
            f"{'is' if len(names) == 1 else 'are'} the same in every row of the training part, or an id"
        )
        raise CommandError(msg)
    return Learnt(preprocessing, [feature.values for feature in features], fitted.notes, fitted.constant)


def _taken_from(start: Model, chosen: Chosen) -> Learnt:
    """What the columns are to a model to start from."""
    preprocessing = start.preprocessing
    assert preprocessing is not None
    if len(chosen.names) != len(preprocessing.columns):
        msg = f"{chosen.table.source} has {len(chosen.names)} features, the model takes {len(preprocessing.columns)}"
        raise CommandError(msg)
    before = chosen.table.names
    chosen.table.names = chosen.names if before is None else before
    values = convert_all(chosen.table, chosen.names, preprocessing.columns)
    chosen.table.names = before
    return Learnt(
        preprocessing,
        values,
        [f"the column {said}" for said in unseen_notes(preprocessing.columns, chosen.names, values)],
    )


def _targets(table: Table, target: str | None) -> npt.NDArray[Any]:
    if table.y is not None:
        return table.y
    assert target is not None
    return table.column(target)


def _split(arguments: argparse.Namespace, m: int, target: Target) -> Split:
    """The rows of the three parts; a part that comes from a file of its own takes none."""
    validation, test = (0.0 if isinstance(s, str) else s for s in (arguments.validation, arguments.test))
    if validation + test >= 1:
        msg = f"--validation {validation:g} and --test {test:g} leave nothing to train on"
        raise CommandError(msg)
    return split(m, target.strata, validation, test, arguments.seed)


def _target_scaling(target: Target, rows: npt.NDArray[Any]) -> Scaling | None:
    if target.output != "identity":
        return None
    try:
        scaling = standardisation(target.values[rows])
    except CommandError as problem:
        msg = f"the targets {problem}"
        raise CommandError(msg) from None
    if scaling is None:
        msg = f"the target is {target.values[rows][0]:g} in every row of the training part: there is nothing to learn"
        raise CommandError(msg)
    return scaling


def _weights(table: Table, arguments: argparse.Namespace) -> npt.NDArray[Any] | None:
    """How much each row counts beside the others: those that count at all do by 1 on average, in whatever units."""
    name = arguments.weights
    if not name:
        return None
    column = table.column(resolve_one(name, table, "--weights"))
    kind = column.dtype.kind
    numbers = column if kind in "iuf" else table.numbers(column) if kind == "O" else np.full(table.m, np.nan)
    bad = np.flatnonzero(~((numbers >= 0) & (numbers < np.inf)))
    if bad.size:
        more = f" (and {bad.size - 1} more such)" if bad.size > 1 else ""
        msg = (
            f"{table.source}, {table.where(int(bad[0]), name)} is no weight{more}: these are finite numbers ≥ 0; give "
            "the row one, 0 to leave it out"
        )
        raise CommandError(msg)
    weights = numbers.astype("float64") / (float(numbers.max()) or 1.0)
    return np.asarray(weights / (weights[weights > 0].mean() if weights.any() else 1.0))


def _balanced(part: Part, target: Target, arguments: argparse.Namespace) -> Part:
    """The training part with its weights, of which each class has the same sum where --class-weight says so."""
    weights = part.weights
    if arguments.class_weight is not None:
        if target.classes is None:
            msg = "--class-weight balanced needs a target of classes"
            raise CommandError(msg)
        own = np.ones(part.m) if weights is None else weights[0]
        sums = np.bincount(part.values, own, len(target.classes))
        weights = (own * own.sum() / (len(target.classes) * np.maximum(sums, 1e-300)[part.values]))[None]
    return part._replace(weights=None if weights is None else weights.astype(arguments.dtype))


def _part(
    preprocessing: Preprocessing,
    values: Sequence[Any],
    rows: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    dtype: str,
    weights: npt.NDArray[Any] | None,
) -> Part:
    m = next(len(own) for own in values if own is not None)  # ignored columns of a model's may be None
    whole = rows.size == m and bool(np.all(rows == np.arange(rows.size)))
    X = preprocessing.X(
        [
            None if not column.width else own if whole else own[rows]
            for column, own in zip(preprocessing.columns, values, strict=True)
        ],
        dtype,
    )
    return Part(X, targets, None if weights is None else weights[rows][None])


def _of_file(source: Any, prepared: Prepared, arguments: argparse.Namespace) -> Part | None:
    """The part in a file of its own."""
    if not isinstance(source, str):
        return None
    if prepared.features is None or prepared.target_name is None:
        msg = f"{source}: a file of its own for a part needs a table with the names of its columns"
        raise CommandError(msg)
    columns = prepared.preprocessing.columns
    table = read_table(
        source,
        reading=reading_of(arguments)._replace(known_thousands=prepared.thousands),
        as_written=categories_among(prepared.features, columns),
        target=prepared.target_name,
        has_classes=prepared.target.classes is not None,
    )
    used = [name for name, column in zip(prepared.features, columns, strict=True) if column.width]
    require_columns(table, used if table.y is not None else [*used, prepared.target_name])
    values = convert_all(table, prepared.features, columns)
    table.target = prepared.target_name
    y = _targets(table, prepared.target_name)
    kept = kept_rows(table, used, y, arguments.missing, prepared.target_name)
    classes, rows = prepared.target.classes, rows_of(table, kept)
    targets = numbers_of(y[kept], rows) if classes is None else codes_of(y[kept], classes, rows)
    cells = [None if own is None else own[kept] for own in values]
    prepared.notes += [f"in {source}, the column {said}" for said in cell_notes(columns, prepared.features, cells)]
    return _part(prepared.preprocessing, values, kept, targets, arguments.dtype, None)
