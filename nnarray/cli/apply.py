"""`nnarray predict` and `nnarray evaluate`: a saved model on a table."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray.cli import results
from nnarray.cli.columns import categories_among, convert_all
from nnarray.cli.errors import CommandError
from nnarray.cli.examples import reading_of
from nnarray.cli.notes import cell_notes
from nnarray.cli.options import Reading
from nnarray.cli.output import note, one_line, quoted, say, write_through
from nnarray.cli.paths import as_csv, as_json, check_apart, check_path, write_or_beside
from nnarray.cli.pictures import check_plot, draw_predictions
from nnarray.cli.preparation import split
from nnarray.cli.process import INTERRUPTION
from nnarray.cli.remembered import Remembered, remembered
from nnarray.cli.roles import require_columns, words
from nnarray.cli.rows import refuse_holes, without_holes
from nnarray.cli.sketch import Seen, seen, sketch
from nnarray.cli.table import Table
from nnarray.cli.tables import read_table, refuse_target, resolve
from nnarray.cli.targets import Target, codes_of, numbers_of, refuse_missing
from nnarray.files import Model, read_model, write_atomically
from nnarray.files.model import codes
from nnarray.files.preprocessing import Column, Number, Scaling


class Inputs(NamedTuple):
    """A table, and the network's inputs from it."""

    table: Table
    X: npt.NDArray[Any]
    """(n_x, m)"""


def predict(arguments: argparse.Namespace) -> int:
    """Write one line of CSV per example: its class and how probable that is, or its numbers."""
    check_path("--out", arguments.out)
    check_apart({"--out": arguments.out}, {"MODEL": arguments.model, "DATA": arguments.data})
    model = _model(arguments)
    classes = model.classes
    if arguments.probabilities and classes is None:
        msg = f"--probabilities: {arguments.model} predicts numbers, not classes"
        raise CommandError(msg)
    ids: Sequence[str] = words(arguments.id) or remembered(model, classes).id
    inputs = _inputs(model, arguments, ids=ids)
    header, rows = _answers(_predictions(model, inputs), model, classes, all_classes=arguments.probabilities)
    if arguments.id:
        ids = resolve(arguments.id, inputs.table.names, inputs.table.source, "--id")
    _write(arguments.out, *_with_ids(inputs.table, ids, header, rows))
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Print the accuracy and a table by class, or R² and RMSE."""
    _check_picture(arguments)
    model = _model(arguments)
    if model.network.sizes[-1] > 1 and model.network.output != "softmax":
        msg = f"{arguments.model} has {model.network.sizes[-1]} outputs for each example; evaluate handles one target"
        raise CommandError(msg)
    inputs = _inputs(model, arguments, arguments.labels, with_target=True)
    A, classes = _predictions(model, inputs), model.classes
    true = _true(inputs.table, classes)
    known = remembered(model, classes)
    found = results.figures(A, true, classes, known.baseline)
    trained_on = _trained_on(known, inputs, A, true, classes)
    if arguments.json:
        say(as_json({"data": inputs.table.source, "model": arguments.model} | found | trained_on))
    else:
        noted = f"note: {trained_on['said']}\n" if trained_on else ""
        headline = f"{results.headline(found)}, on {true.size} examples\n{noted}"
        say(f"{headline}{results.details(found)}{results.report(found)}")
    if arguments.plot:
        written = write_or_beside(arguments.plot, lambda path: draw_predictions(path, A, true, classes))
        if not arguments.json:
            say(f"picture written to {one_line(written)}")
    return 0


def _check_picture(arguments: argparse.Namespace) -> None:
    check_path("--plot", arguments.plot)
    check_apart({"--plot": arguments.plot}, {"MODEL": arguments.model, "DATA": arguments.data})
    if arguments.plot:
        check_plot(arguments.plot)


def _model(arguments: argparse.Namespace) -> Model:
    if arguments.data.lower().endswith(".safetensors"):
        msg = f"{arguments.data} is a model by its name, and stands where data should: the order is MODEL DATA"
        raise CommandError(msg)
    return read_model(arguments.model, arguments.backend)


def _inputs(
    model: Model,
    arguments: argparse.Namespace,
    labels: str | None = None,
    *,
    with_target: bool = False,
    ids: Sequence[str] = (),
) -> Inputs:
    """The table, and the role of its columns in the model."""
    columns, features = _columns(model), model.metadata.get("features")
    target = (arguments.target or model.metadata.get("target")) if with_target else None
    table = read_table(
        arguments.data,
        labels,
        reading=_reading(arguments, model),
        as_written=[*categories_among(features, columns), *ids],
        target=target,
        with_target=with_target,
        has_classes=with_target and model.classes is not None,
    )
    if table.y is not None and arguments.target is not None and arguments.target != table.target:
        refuse_target(table, arguments.target)
    table.target = target or table.target
    names = _names(table, model, arguments, with_target=with_target and table.y is None)
    if arguments.missing == "drop":
        used = [name for name, column in zip(names, columns, strict=True) if column.width]
        table = without_holes(table, used, str(table.target))
    values = convert_all(table, names, columns)
    _look_for_gaps(columns, names, values, table, arguments.missing, fills=model.preprocessing is not None)
    return Inputs(table, _X(model, values))


def _reading(arguments: argparse.Namespace, model: Model) -> Reading:
    """How to read the table; where the model knows its columns by name, the first line is taken for their names."""
    reading = reading_of(arguments, remembered(model, None))
    return reading._replace(header=True) if reading.header is None and "features" in model.metadata else reading


def _columns(model: Model) -> tuple[Column, ...]:
    """The columns that the model takes; for a network of raw numbers, as many as it has inputs."""
    if model.preprocessing is not None:
        return model.preprocessing.columns
    return (Number(Scaling(0.0, 1.0), 0.0),) * model.network.sizes[0]


def _names(table: Table, model: Model, arguments: argparse.Namespace, *, with_target: bool) -> list[str]:
    """The table's columns that the model takes, in its order, and the target's own among them.

    A model or a table without names takes all columns in their order, but those in --drop and the target.
    """
    features, columns = model.metadata.get("features"), _columns(model)
    drop = resolve(arguments.drop, table.names, table.source, "--drop")
    needed = [name for name in drop if name in (features or ())]
    if needed:
        msg = f"the model needs the column {quoted(needed[0])}: it cannot be left out with --drop"
        raise CommandError(msg)
    if table.names is not None and features is not None:
        used = [name for name, column in zip(features, columns, strict=True) if column.width]
        require_columns(table, [*used, *([str(table.target)] if with_target else [])])
        return list(features)
    if table.names is None:
        table.names = [f"column {k + 1}" for k in range(len(table.columns))]
    left_out = {*drop, *([table.target] if with_target else [])}
    names = [name for name in table.names if name not in left_out]
    if len(names) != len(columns):
        msg = f"{arguments.data} has {len(names)} feature columns, {arguments.model} takes {len(columns)}"
        raise CommandError(msg)
    return names


def _X(model: Model, values: Sequence[Any]) -> npt.NDArray[Any]:
    """X (n_x, m) in the dtype of the parameters; of numbers that are not finite in it, ValueError when it is used."""
    if model.preprocessing is not None:
        return model.preprocessing.X(values, model.params.dtype)
    with np.errstate(over="ignore"):
        return np.column_stack([np.asarray(own, dtype=model.params.dtype) for own in values]).T


def _look_for_gaps(
    columns: Sequence[Column], names: Sequence[str], values: Sequence[Any], table: Table, missing: str, *, fills: bool
) -> None:
    """Refuse missing cells where requested or where no fill value exists; else report them, and outliers."""
    if missing == "refuse" or not fills:
        refuse_holes(table, names, values, fills=fills)
    for said in cell_notes(columns, names, values):
        note(f"note: the column {said}")


def _predictions(model: Model, inputs: Inputs) -> npt.NDArray[Any]:
    """A[L] on the host, shape (n[L], m), in the target's own units."""
    params = model.params
    A = params.backend.to_numpy(model.network.predict(params, params.backend.asarray(inputs.X, params.dtype)))
    INTERRUPTION.again()
    return A if model.preprocessing is None else model.preprocessing.answers(A)


def _true(table: Table, classes: list[Any] | None) -> npt.NDArray[Any]:
    """The targets, as codes or numbers."""
    if table.y is not None:
        y = table.y
    else:
        y = table.column(str(table.target))
        refuse_missing(table, y, str(table.target))
    return numbers_of(y, table) if classes is None else codes_of(y, classes, table)


def _trained_on(
    known: Remembered, inputs: Inputs, A: npt.NDArray[Any], true: npt.NDArray[Any], classes: list[Any] | None
) -> dict[str, Any]:
    """The note where the model was trained on some of these rows, and its figures on the held-out ones."""
    again = seen(inputs.X, known.sketch)
    if not again.rows:
        return {}
    held = _held_out(known, inputs.X, true, classes)
    if held is not None and known.split is not None:
        again = Seen(known.split.trained_on, is_exact=True)
    said = f"{again} of these {true.size} rows were trained on"
    if held is None:
        return {"trained_on": again.rows, "said": f"{said}: what they show is no result to trust"}
    found = results.figures(A[:, held], true[held], classes, None)
    said += f"; on the {held.size} that were held out: {results.headline(found)}"
    return {"trained_on": again.rows, "held_out": found, "said": said}


def _held_out(
    known: Remembered, X: npt.NDArray[Any], true: npt.NDArray[Any], classes: list[Any] | None
) -> npt.NDArray[Any] | None:
    """The rows that training held out to the end, where this is the same table and so the same split."""
    how = known.split
    if how is None or how.rows != true.size or not how.test:
        return None
    target = Target("softmax" if classes else "identity", classes, true)
    parts = split(true.size, target.strata, how.validation, how.test, how.seed)
    return parts.test if tuple(sketch(X[:, parts.training])) == known.sketch else None


def _answers(
    A: npt.NDArray[Any], model: Model, classes: list[Any] | None, *, all_classes: bool
) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of predictions."""
    if classes is None:
        header = list(map(str, model.metadata.get("classes", ()))) or _numbered(A.shape[0])
        return header, [list(map(str, column)) for column in A.T.tolist()]
    said = codes(A)
    if all_classes:
        rows = [[str(classes[code]), *map(str, p)] for code, p in zip(said, _shares(A), strict=True)]
        return ["prediction", *(f"probability {name}" for name in classes)], rows
    chosen = A[said, np.arange(A.shape[1])] if A.shape[0] > 1 else np.where(said == 1, A[0], 1 - A[0])
    return ["prediction", "probability"], [[str(classes[c]), str(p)] for c, p in zip(said, chosen, strict=True)]


def _shares(A: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The probability of each class, shape (m, classes), in A's own dtype."""
    return A.T if A.shape[0] > 1 else np.column_stack([1 - A[0], A[0]])


def _numbered(units: int) -> list[str]:
    return ["prediction"] if units == 1 else [f"prediction {k}" for k in range(1, units + 1)]


def _with_ids(
    table: Table, ids: Sequence[str], header: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """The predictions with the id columns before them; those that training named may lack."""
    known = set(table.names or ())
    present = [name for name in ids if name in known]
    if not present:
        return header, rows
    carried = [["" if value is None else str(value) for value in table.column(name).tolist()] for name in present]
    return [*present, *header], [[*own, *row] for *own, row in zip(*carried, rows, strict=True)]


def _write(path: str | None, header: list[str], rows: list[list[str]]) -> None:
    """Write predictions as CSV to a file or to standard output: verbatim into a pipe, escaped on a terminal."""
    text = as_csv(header, rows)
    if path is not None:
        content = text.encode("utf-8", "surrogateescape")
        written = write_or_beside(path, lambda written_to: write_atomically(written_to, content))
        say(f"{len(rows)} predictions written to {one_line(written)}")
    elif sys.stdout is not None and sys.stdout.isatty():
        say(text, end="")
    elif sys.stdout is not None:
        write_through(sys.stdout, text)
