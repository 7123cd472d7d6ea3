"""`nnarray train`: from a table to a saved model."""

import argparse
import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

import numpy as np

import nnarray as nn
from nnarray.cli import results
from nnarray.cli.checkpoints import going_on
from nnarray.cli.defaults import default_hidden
from nnarray.cli.descent import check_staircase, descend, settings_of
from nnarray.cli.errors import CommandError
from nnarray.cli.examples import Prepared, prepare
from nnarray.cli.names import listed_names
from nnarray.cli.notes import repeats
from nnarray.cli.output import one_line, quoted, say
from nnarray.cli.paths import as_csv, as_json, check_apart, check_path, write_or_beside
from nnarray.cli.pictures import check_plot
from nnarray.cli.process import INTERRUPTION
from nnarray.cli.ranks import communicator, prepared_by_all
from nnarray.cli.sketch import sketch
from nnarray.cli.watching import write_history
from nnarray.files import Model, read_model, save, write_atomically
from nnarray.files.cells import MISSING
from nnarray.files.preprocessing import Ignored, to_plain
from nnarray.training.checkpoint_format import is_checkpoint

DEFAULT_MODEL = "model.safetensors"


def train(arguments: argparse.Namespace) -> int:
    """Train, save and report; 130 if Ctrl-C ended the training."""
    check_staircase(arguments)
    _check_paths(arguments)
    backend = nn.backend(arguments.backend, precision=arguments.precision)
    speak: Callable[..., None] = (lambda *_: None) if arguments.quiet or arguments.json else say
    run = going_on(arguments)
    comm = communicator(arguments.data)
    with prepared_by_all(comm, arguments):
        start = _start(arguments)
        prepared = prepare(arguments, start)
    network = _network(arguments, prepared) if start is None else start.network
    speak(_description(arguments, prepared))
    speak(network.summary())
    rounding = f", products in {backend.precision}" if backend.precision else ""
    together = "" if comm is None else f" on {comm.size} ranks"
    speak(f"training on {backend.name} ({backend.device}){together} in {arguments.dtype}{rounding}{run.note}")
    settings = settings_of(arguments, prepared, network)
    result = descend(arguments, settings, prepared, network, backend, start, run, comm)
    if result.stopped == "interrupt":
        INTERRUPTION.answered()
    if comm is None or comm.rank == 0:
        speak(_ending(result, arguments))
        _save(arguments, settings, prepared, network, result, speak)
        if left := run.ends(result.stopped):
            speak(left)
    return 130 if result.stopped == "interrupt" else 0


def _check_paths(arguments: argparse.Namespace) -> None:
    """Find out now, not after an hour of training, that a file cannot be written."""
    is_named = arguments.out is not None
    arguments.out = arguments.out if is_named else DEFAULT_MODEL
    is_left = going_on(arguments).source is not None  # by a run that may have written its model when it was interrupted
    check_path("--out", arguments.out, force=arguments.force or is_named or is_left)
    others = {
        "--checkpoint": arguments.checkpoint,
        "--plot": arguments.plot,
        "--history": arguments.history,
        "--split-out": arguments.split_out,
    }
    for option, name in others.items():
        check_path(option, name)
    read = {
        "DATA": arguments.data,
        "LABELS": arguments.labels,
        "--validation": arguments.validation,
        "--test": arguments.test,
    }
    check_apart({"--out": arguments.out, **others}, read)
    if arguments.plot:
        check_plot(arguments.plot)


def _start(arguments: argparse.Namespace) -> Model | None:
    """The model whose training goes on, with its columns, classes and layers; the optimiser starts anew."""
    if arguments.resume is None or is_checkpoint(arguments.resume):
        return None
    layers = {"--hidden": arguments.hidden, "--output": arguments.output, "--batch-norm": arguments.batch_norm or None}
    for option, value in layers.items():
        if value is not None:
            msg = f"{option} cannot be said with --resume, which goes on with the layers of {arguments.resume}"
            raise CommandError(msg)
    model = read_model(arguments.resume, "numpy")
    if model.preprocessing is None:
        msg = f"{arguments.resume} does not tell how a table becomes its inputs, so its training cannot go on"
        raise CommandError(msg)
    return model


def _network(arguments: argparse.Namespace, prepared: Prepared) -> nn.Network:
    n_x, given = prepared.preprocessing.n_x, arguments.activation
    hidden = default_hidden(n_x) if arguments.hidden is None else arguments.hidden
    if len(given) not in {1, len(hidden)}:
        msg = f"--activation names {len(given)} activations for {len(hidden)} hidden layers"
        raise CommandError(msg)
    sizes = (n_x, *hidden, prepared.target.units)
    names = given[0] if len(given) == 1 else given
    return nn.Network(sizes, names, prepared.target.output, batch_norm=arguments.batch_norm)


def _scores(network: nn.Network, params: nn.Parameters, prepared: Prepared) -> dict[str, Any] | None:
    """All figures of the held-out part; None if there is none."""
    part = prepared.test
    if part is None:
        return None
    A = params.backend.to_numpy(network.predict(params, params.backend.asarray(part.X, params.dtype)))
    base = results.baseline(prepared.training.values, prepared.target.classes)
    return results.figures(prepared.preprocessing.answers(A), part.values, prepared.target.classes, base)


def _save(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    prepared: Prepared,
    network: nn.Network,
    result: nn.TrainingResult,
    speak: Callable[..., None],
) -> None:
    """Write the model, say how good it is, and write what else was asked for."""
    scores = _scores(network, result.params, prepared)
    metadata = _metadata(arguments, settings, prepared, scores)
    written = write_or_beside(arguments.out, lambda path: save(path, network, result.params, metadata=metadata))
    _report(arguments, prepared, network, result, scores, written)
    speak(f"model written to {one_line(written)} (it keeps the scaling of its inputs beside the network)")
    _write_others(arguments, prepared, result, speak)


def _metadata(
    arguments: argparse.Namespace, settings: dict[str, Any], prepared: Prepared, scores: dict[str, Any] | None
) -> dict[str, Any]:
    """What the file tells about the model besides its layers."""
    target = prepared.target
    shares = {name: getattr(arguments, name) for name in ("validation", "test")}
    remembered = {"header": arguments.header, "na": list(arguments.na or MISSING), "id": list(arguments.id)}
    remembered |= {} if prepared.thousands is None else {"thousands": prepared.thousands}
    base = results.baseline(prepared.training.values, target.classes)
    training = {
        "data": arguments.data,
        "reading": remembered,
        "settings": settings | {"dtype": arguments.dtype, "seed": arguments.seed},
        "split": {"seed": arguments.seed, "rows": prepared.rows, "trained_on": prepared.training.m, **shares},
        "baseline": {"answer": base.answer, "name": base.name},
        "scores": {key: value for key, value in (scores or {}).items() if key not in {"classes", "confusion"}},
        "sketch": sketch(prepared.training.X),
        "versions": {"nnarray": nn.__version__, "numpy": importlib.metadata.version("numpy")}
        | {"python": platform.python_version()},
    }
    training = _encodable(training)
    known: dict[str, Any] = {"classes": target.classes, "features": prepared.features, "target": prepared.target_name}
    known |= {"preprocessing": to_plain(prepared.preprocessing), "training": training}
    return {key: value for key, value in known.items() if value is not None}


def _encodable(known: Any) -> Any:
    """The same with backslashes for bytes of file names and options that are no UTF-8."""
    if isinstance(known, dict):
        return {key: _encodable(value) for key, value in known.items()}
    if isinstance(known, list):
        return [_encodable(value) for value in known]
    return known.encode("utf-8", "backslashreplace").decode() if isinstance(known, str) else known


def _description(arguments: argparse.Namespace, prepared: Prepared) -> str:
    columns = prepared.preprocessing.columns
    ignored = sum(isinstance(column, Ignored) for column in columns)
    constant = prepared.constant
    named = f"{len(constant)} of them constant in the training part, ignored: {listed_names(constant)}"
    noted = f" ({named})" if constant else ""
    inputs = prepared.preprocessing.n_x
    becoming = f", which become {inputs} inputs" if inputs != len(columns) - ignored else ""
    stopping = " (early stopping)" if arguments.patience and prepared.validation else ""
    counts = [part.m if part else 0 for part in (prepared.training, prepared.validation, prepared.test)]
    notes = "".join(f"note: {said}\n" for said in prepared.notes[:12])
    more = f"note: and {len(prepared.notes) - 12} more such\n" if len(prepared.notes) > 12 else ""
    return (
        f"read {one_line(prepared.source)}: {prepared.rows} examples, {len(columns)} features{noted}{becoming}; "
        f"{_target(arguments, prepared)}\n{notes}{more}"
        f"split: {counts[0]} to train on, {counts[1]} for validation{stopping}, {counts[2]} held out for the result\n"
    )


def _target(arguments: argparse.Namespace, prepared: Prepared) -> str:
    name = f"the target {quoted(prepared.target_name)}" if prepared.target_name else "the target"
    classes = prepared.target.classes
    if classes is None:
        return f"{name} is {prepared.target}"
    guessed = arguments.output is None and type(classes[0]) is int
    return f"{name} has {prepared.target}{' (--output identity to treat it as a number)' if guessed else ''}"


def _ending(result: nn.TrainingResult, arguments: argparse.Namespace) -> str:
    done = len(result.history)
    why = {
        "epochs": f"trained for {done} epochs",
        "patience": f"stopped early after {done} epochs",
        "interrupt": f"interrupted after {done} epochs, what was trained so far is kept",
    }[result.stopped]
    if not done:
        return why
    best = _kept_epoch(result, arguments)
    record = result.history[best - 1]
    seconds = result.history[-1].seconds
    validation = "" if record.validation_cost is None else f", validation cost {record.validation_cost:.4g} without"
    costs = f"training cost {record.cost:.4g} with penalty and dropout{validation}"
    loss = "; Poisson loss without its constant log Y!" if arguments.output == "exp" else ""
    return f"{why} in {seconds:.1f} s; the model is that of epoch {best} ({costs}{loss})"


def _kept_epoch(result: nn.TrainingResult, arguments: argparse.Namespace) -> int:
    best = result.best_epoch if arguments.patience and arguments.validation else None
    return best or len(result.history)


def _report(
    arguments: argparse.Namespace,
    prepared: Prepared,
    network: nn.Network,
    result: nn.TrainingResult,
    scores: dict[str, Any] | None,
    written: str,
) -> None:
    """How the model does on the held-out rows, in words or as JSON."""
    if arguments.json:
        found = {
            "data": prepared.source,
            "model": written,
            "sizes": list(network.sizes),
            "output": network.output,
            "epochs": len(result.history),
            "stopped": result.stopped,
            "kept_epoch": _kept_epoch(result, arguments),
            "trained_on": prepared.training.m,
            "notes": prepared.notes,
            "held_out": scores,
        }
        say(as_json(found))
    elif scores is None:
        say("no rows were held out, so there is no result to trust (see --test)")
    else:
        say(f"{results.headline(scores)}, on {scores['examples']} held-out examples{_how_new(prepared)}")
        if not arguments.quiet:
            say(f"{results.details(scores)}{results.report(scores)}")


def _how_new(prepared: Prepared) -> str:
    """Whether training saw what was held out: a table may have a row twice."""
    again = 0 if prepared.test is None else repeats(prepared.test, prepared.training)
    return f", {again} of which are the same as rows that training saw" if again else " that training never saw"


def _write_others(
    arguments: argparse.Namespace,
    prepared: Prepared,
    result: nn.TrainingResult,
    speak: Callable[..., None],
) -> None:
    """The picture, the history and the split, where they were asked for."""
    if len(result.history):
        if arguments.plot:
            written = write_or_beside(arguments.plot, result.history.plot)
            speak(f"curve written to {one_line(written)}")
        if arguments.history:
            written = write_or_beside(arguments.history, lambda path: write_history(path, result.history))
            speak(f"history written to {one_line(written)}")
    if arguments.split_out:
        split = _split_table(prepared).encode()
        written = write_or_beside(arguments.split_out, lambda path: write_atomically(path, split))
        speak(f"split written to {one_line(written)}")


def _split_table(prepared: Prepared) -> str:
    """Which part each row of the table was in, as CSV; rows are counted from 1 below the header."""
    names = np.full(int(prepared.kept_rows.max()) + 1, "left out", dtype=object)
    if prepared.split is not None:
        for name, rows in zip(("training", "validation", "test"), prepared.split, strict=True):
            names[prepared.kept_rows[rows]] = name
    return as_csv(["row", "part"], enumerate(names.tolist(), 1))
