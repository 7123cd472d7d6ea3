"""`nnarray predict` and `nnarray evaluate`: a saved model on a table."""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from nnarray.cli import results
from nnarray.cli.errors import CommandError
from nnarray.cli.tables import Table, read_table
from nnarray.cli.targets import class_names, codes_of, numbers_of
from nnarray.files import Model, read_model, write_atomically


def predict(arguments: argparse.Namespace) -> int:
    """Write one line of CSV per example: its class and how probable that is, or its numbers."""
    model = _model(arguments)
    table = _table(arguments, model)
    rows = _rows(_predictions(model, table, arguments), model)
    if arguments.out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        return 0
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(arguments.out, text.getvalue().encode())
    print(f"{table.X.shape[0]} predictions written to {arguments.out}")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Print the accuracy and a table by class, or R² and RMSE."""
    model = _model(arguments)
    if model.network.sizes[-1] > 1 and model.network.output != "softmax":
        msg = f"{arguments.model} has {model.network.sizes[-1]} outputs for each example; evaluate handles one target"
        raise CommandError(msg)
    table = _table(arguments, model, arguments.labels, arguments.target, with_target=True)
    A = _predictions(model, table, arguments)
    m, classes = table.X.shape[0], class_names(model.network, model.metadata)
    if classes is None:
        print(f"{results.regression(A[0], numbers_of(table.y))}, on {m} examples")
        return 0
    said, true = results.codes(A), codes_of(table.y, classes)
    print(f"{results.accuracy(said, true)}, on {m} examples\n\n{results.class_table(said, true, classes)}")
    return 0


def _model(arguments: argparse.Namespace) -> Model:
    if arguments.data.lower().endswith(".safetensors"):
        msg = f"{arguments.data} is a model by its name, and stands where data should: the order is MODEL DATA"
        raise CommandError(msg)
    return read_model(arguments.model, arguments.backend)


def _table(
    arguments: argparse.Namespace,
    model: Model,
    labels: str | None = None,
    target: str | None = None,
    *,
    with_target: bool = False,
) -> Table:
    features = model.metadata.get("features")
    for name in arguments.drop:
        if name in (features or ()):
            msg = f"the model needs the column {name!r}: it cannot be left out with --drop"
            raise CommandError(msg)
    if target is None and arguments.data.lower().endswith(".csv"):
        target = model.metadata.get("target")
    table = read_table(
        arguments.data, labels, target=target, features=features, drop=arguments.drop, with_target=with_target
    )
    n_x = model.network.sizes[0]
    if table.X.shape[1] != n_x:
        msg = f"{arguments.data} has {table.X.shape[1]} feature columns, {arguments.model} takes {n_x}"
        raise CommandError(msg)
    return table


def _predictions(model: Model, table: Table, arguments: argparse.Namespace) -> npt.NDArray[Any]:
    """A[L] on the host, shape (n[L], m)."""
    params = model.params
    X = params.backend.asarray(table.X.T, params.dtype)
    return params.backend.to_numpy(model.network.predict(params, X))


def _rows(A: npt.NDArray[Any], model: Model) -> Iterator[list[Any]]:
    classes = class_names(model.network, model.metadata)
    if classes is None:
        yield model.metadata.get("classes") or _columns(A.shape[0])
        yield from (list(map(str, column)) for column in A.T)
        return
    yield ["prediction", "probability"]
    for code, column in zip(results.codes(A), A.T, strict=True):
        probability = column[code] if column.size > 1 else (column[0] if code else 1 - column[0])
        yield [classes[code], str(probability)]


def _columns(units: int) -> list[str]:
    return ["prediction"] if units == 1 else [f"prediction {k}" for k in range(1, units + 1)]
