"""The command line's interface: commands, options, their defaults and their help."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import nnarray as nn
from nnarray.cli.apply import evaluate, predict
from nnarray.cli.check import check
from nnarray.cli.dialect import SEPARATORS
from nnarray.cli.export import export
from nnarray.cli.info import info
from nnarray.cli.parser import Help, Parser
from nnarray.cli.tables import BUNDLED
from nnarray.cli.targets import RULE
from nnarray.cli.train import DEFAULT_MODEL, train
from nnarray.cli.training_arguments import add_backend, add_descent, add_machine, add_network, add_regularization
from nnarray.cli.values import interval, mark, marks, separator, whole
from nnarray.files.cells import MISSING

SOURCES = (
    f"a bundled data set ({', '.join(BUNDLED)}; these come with scikit-learn) or a file: a table as text (.csv, .tsv, "
    "…, also .gz, .zst, .bz2 and .xz) or Parquet, - for standard input, "
)
DATA_HELP = SOURCES + ".npz with arrays X and y, or .npy with X; rows are examples"
FEATURES_HELP = SOURCES + ".npz with an array X, or .npy with X; rows are examples, and no target is needed"

TRAIN_NOTES = (
    "The rows are split at random, each class (or tenth of the real numbers) in proportion, into three parts: one to "
    "train on; one (--validation) whose cost decides which epoch to keep, and draws the curve; and one (--test) that "
    "is held out to the end, for the printed result alone.",
    "Numbers are standardised with the mean and the standard deviation of the training part, in float64, real-valued "
    "targets too. Texts are categories, with an input of 0 and 1 for each; dates become days and where they are in the "
    "year, the week and the day. A missing number is filled with the column's median, a missing text is a category "
    "of its own. The model file keeps all of it, and takes tables like this one.",
    f"What the target means: {RULE}. --output chooses instead; exp is for counts.",
    "Under mpiexec (extra mpi), every rank reads the whole table and trains on its share of the rows, --batch-size "
    "is the total, and the first rank prints and writes. With --dropout 0 and batches of all rows the model is "
    "that of one process, within rounding; else each rank draws its own shuffles and masks.",
    "examples:\n  nnarray train digits\n  nnarray train houses.csv \\\n      --target price --hidden 64,32 \\\n"
    "      --out houses.safetensors \\\n      --plot curve.png",
)

PREDICT_NOTES = (
    "A table's columns are found by the names they had in training, in any order, and others are ignored. A "
    "model that was saved without names takes all columns but those in --drop, in their order.",
)

EXPORT_NOTES = (
    "Rows are examples. Where all columns are numbers or dates, the graph takes one table X of float64, with the "
    "columns in training's order. Where there are categories, it takes each column that the model uses by its name: "
    "texts for categories, float64 for the others. A missing number is NaN, a missing text empty, or what marked it in "
    "training. Dates are days since 1970 in UTC. Models of classes give label and probabilities, others prediction, in "
    "the target's units. Needs the extra onnx.",
)


def make_parser() -> argparse.ArgumentParser:
    """The parser; in what it returns, `run` is the command's function and `parser` its own parser."""
    parser = Parser(
        prog="nnarray",
        description="Train, use and check dense neural networks on NumPy, CuPy, torch and JAX.",
        epilog="On a new machine, run `nnarray check` first.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nnarray {nn.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_export(commands)
    _command(commands, "check", check, "check gradients and results of every backend that works on this machine", "")
    _add_info(commands)
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    usage: str,
    notes: Sequence[str] = (),
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        usage=f"%(prog)s {usage}",
        epilog="\n\n".join(notes),
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_train(commands: Any) -> None:
    parser = _command(
        commands, "train", train, "train a network on a table and save it", "[options] DATA [LABELS]", TRAIN_NOTES
    )
    _add_data(parser)
    _add_columns(parser)
    _add_reading(parser)
    add_network(parser)
    add_descent(parser)
    add_regularization(parser)
    add_machine(parser)
    results = parser.add_argument_group("results")
    results.add_argument("--out", metavar="FILE", help=f"where to write the model (default: {DEFAULT_MODEL})")
    results.add_argument(
        "--resume",
        metavar="MODEL",
        help="continue a saved model: its columns, scales, classes and layers; or resume a run from its checkpoint",
    )
    results.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="write checkpoints there, from which a killed run resumes: the same command resumes from a FILE that is "
        "left, to the same model, and a run that ends removes it",
    )
    results.add_argument(
        "--checkpoint-every",
        type=interval,
        default=30.0,
        metavar="TIME",
        help='how often: seconds, or epochs such as "5 epochs" (default: 30)',
    )
    results.add_argument("--force", action="store_true", help=f"overwrite an existing {DEFAULT_MODEL}")
    results.add_argument("--plot", metavar="FILE", help="draw cost and score over the epochs, such as curve.png")
    results.add_argument("--history", metavar="FILE", help="write cost and score of every epoch as CSV")
    results.add_argument(
        "--split-out", metavar="FILE", help="write as CSV which rows were trained on, validated on and held out"
    )
    results.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    results.add_argument("--quiet", action="store_true", help="print the held-out result only, and no progress")


def _add_columns(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("columns", "COLUMNS are names separated by commas; an option may be repeated")
    group.add_argument("--target", metavar="COLUMN", help="the column to predict (default: the last)")
    for option, what in (
        ("--features", "columns to learn from (default: all others)"),
        ("--drop", "columns to leave out"),
        ("--categorical", "columns whose cells are categories, whatever they look like"),
        ("--numeric", "columns that are numbers, and nothing else"),
        ("--id", "columns that identify rows: not learnt from, and carried through predict"),
    ):
        group.add_argument(option, action="append", default=[], metavar="COLUMNS", help=what)
    group.add_argument("--weights", metavar="COLUMN", help="how much each row counts, a number ≥ 0")
    group.add_argument("--class-weight", choices=("balanced",), help="make rare classes count as much as frequent ones")
    _add_missing(group, "(see below)")


def _add_reading(parser: argparse.ArgumentParser, marked: str = f"an empty one, {', '.join(MISSING[1:])}") -> None:
    group = parser.add_argument_group("reading", "for what cannot be told from the file")
    names = ", ".join(SEPARATORS)
    group.add_argument("--sep", type=separator, metavar="MARK", help=f"between columns: {names}, or a character")
    group.add_argument("--decimal", choices=(".", ","), metavar="MARK", help='the decimal mark, "." or ","')
    group.add_argument("--thousands", metavar="MARK", type=mark, help="the mark between thousands")
    group.add_argument("--encoding", metavar="NAME", help="such as cp1252, latin-1, utf-16 (default: UTF-8)")
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line has the names of the columns; without, they are called 1, 2, …",
    )
    group.add_argument(
        "--na",
        type=marks,
        metavar="TEXTS",
        help=f"what marks a missing cell, with commas between, such as NA,-9999 (default: {marked})",
    )


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands, "predict", predict, "predict with a saved model, as CSV", "[options] MODEL DATA", PREDICT_NOTES
    )
    parser.add_argument("model", metavar="MODEL", help="a model file")
    parser.add_argument("data", metavar="DATA", help=FEATURES_HELP)
    parser.add_argument("--probabilities", action="store_true", help="a column with the probability of each class")
    parser.add_argument(
        "--id",
        action="append",
        default=[],
        metavar="COLUMNS",
        help="columns to carry through (default: as in training)",
    )
    _add_drop(parser)
    parser.add_argument(
        "--missing", choices=("fill", "refuse"), default="fill", help="missing cells (default: as training filled them)"
    )
    add_backend(parser)
    parser.add_argument("--out", metavar="FILE", help="CSV file to write (default: standard output)")
    _add_reading(parser, "as in training")
    parser.set_defaults(target=None)


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands, "evaluate", evaluate, "measure a saved model on a table with targets", "[options] MODEL DATA [LABELS]"
    )
    parser.add_argument("model", metavar="MODEL", help="a model file")
    _add_data(parser)
    parser.add_argument(
        "--target", metavar="COLUMN", help="column of a table with the targets (default: as in training, else the last)"
    )
    _add_drop(parser)
    _add_missing(parser, "as in training")
    add_backend(parser)
    parser.add_argument("--plot", metavar="FILE", help="draw the confusion matrix, or predicted against true")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    _add_reading(parser, "as in training")


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        export,
        "write a saved model as ONNX, preprocessing and all",
        "[options] MODEL OUT",
        EXPORT_NOTES,
    )
    parser.add_argument("model", metavar="MODEL", help="a model file")
    parser.add_argument("out", metavar="OUT", help="the file to write, such as model.onnx")
    parser.add_argument(
        "--opset", type=whole(1), metavar="N", help="the version of ONNX's operators, from 13 on (default: 17)"
    )


def _add_info(commands: Any) -> None:
    parser = _command(
        commands, "info", info, "show versions, backends, devices and threads, or what a model file holds", "[MODEL]"
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a model file")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("labels", metavar="LABELS", nargs="?", help="the second file of an .npy pair, with y")


def _add_drop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMNS",
        help="columns to leave out, where the model knows none by name",
    )


def _add_missing(parser: Any, how: str) -> None:
    """Of a command that knows the targets; `how` cells are filled."""
    parser.add_argument(
        "--missing",
        choices=("fill", "drop", "refuse"),
        default="fill",
        help=f"missing cells: fill them {how}; drop their rows, also those without a target; or refuse them "
        "(default: %(default)s)",
    )
