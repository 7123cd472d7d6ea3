"""`nnarray train`: from a table to a saved model."""

import argparse
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nnarray as nn
from nnarray.cli import results
from nnarray.cli.defaults import (
    default_batch_size,
    default_hidden,
    default_l2,
    default_learning_rate,
    default_workers,
)
from nnarray.cli.errors import CommandError
from nnarray.cli.preparation import Parts, Scaling, fold, split, standardisation
from nnarray.cli.tables import Table, read_table
from nnarray.cli.targets import Target, understand
from nnarray.files import save
from nnarray.training import Optimizer, schedules

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "gradient-descent": nn.GradientDescent,
    "momentum": nn.Momentum,
    "nesterov": nn.Nesterov,
    "rmsprop": nn.RMSprop,
    "adam": nn.Adam,
}

SCHEDULES: dict[str, Callable[[float, int, int], Callable[[int], float]]] = {
    "constant": lambda rate, batches, updates: schedules.Constant(rate),
    "inverse-time": lambda rate, batches, updates: schedules.InverseTimeDecay(rate, decay=9.0, steps=updates),
    "exponential": lambda rate, batches, updates: schedules.ExponentialDecay(rate, decay=0.01, steps=updates),
    "step": lambda rate, batches, updates: schedules.StepDecay(rate, factor=0.1, steps=-(-updates // 3)),
    "cosine": lambda rate, batches, updates: schedules.CosineWithWarmup(rate, steps=updates, warmup=batches),
}
"""Each from the first rate, the updates in an epoch and the updates in all epochs."""


class Prepared(NamedTuple):
    """A table, ready to train on."""

    table: Table
    target: Target
    parts: Parts
    inputs: Scaling
    outputs: Scaling | None


def train(arguments: argparse.Namespace) -> int:
    """Train, save and report; 130 if Ctrl-C ended the training."""
    _check_places(arguments)
    place = nn.backend(arguments.backend, precision=arguments.precision)
    say: Callable[..., None] = (lambda *_: None) if arguments.quiet else print
    prepared = prepare(arguments)
    network = _network(arguments, prepared)
    say(_description(arguments, prepared))
    say(network.summary())
    rounding = f", products in {place.precision}" if place.precision else ""
    say(f"training on {place.name} ({place.device}) in {arguments.dtype}{rounding}")
    result = _descend(arguments, prepared, network, place)
    say(_ending(result, arguments))
    pairs = fold([(place.to_numpy(W), place.to_numpy(b)) for W, b in result.params], prepared.inputs, prepared.outputs)
    params = nn.Parameters.from_layers([(W.astype(arguments.dtype), b.astype(arguments.dtype)) for W, b in pairs])
    save(arguments.out, network, params, metadata=_metadata(prepared))
    print(_result(network, params.to(place), prepared))
    say(f"model written to {arguments.out} (it takes raw inputs)")
    if arguments.plot and len(result.history):
        result.history.plot(arguments.plot)
        say(f"curve written to {arguments.plot}")
    return 130 if result.stopped == "interrupt" else 0


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Read the table, understand its target, split its rows and measure its scales."""
    table = read_table(arguments.data, arguments.labels, target=arguments.target, drop=arguments.drop)
    target = understand(table.y, arguments.output)
    if arguments.validation + arguments.test >= 1:
        msg = f"--validation {arguments.validation:g} and --test {arguments.test:g} leave nothing to train on"
        raise CommandError(msg)
    parts = split(table.X.shape[0], target.strata, arguments.validation, arguments.test, arguments.seed)
    inputs = standardisation(table.X[parts.training], table.features)
    is_real = target.output == "identity"
    outputs = standardisation(target.values[parts.training, None], ["target"]) if is_real else None
    return Prepared(table, target, parts, inputs, outputs)


def _check_places(arguments: argparse.Namespace) -> None:
    """Find out now, not after an hour of training, that a file cannot be written."""
    for option, name in (("--out", arguments.out), ("--plot", arguments.plot)):
        folder = Path(name).parent if name else Path()
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            msg = f"{option} {name}: there is no folder {str(folder)!r} that can be written to"
            raise CommandError(msg)
        if name and Path(name).is_dir():
            msg = f"{option} {name}: this is a folder, not a file"
            raise CommandError(msg)
    if arguments.plot:
        _check_plot(arguments.plot)


def _check_plot(name: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        msg = "--plot needs matplotlib, which is not installed: pip install matplotlib (nnarray's extra [plot])"
        raise CommandError(msg)
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if Path(name).suffix[1:].lower() not in known:
        msg = f"--plot {name}: the name must end in one of .{', .'.join(sorted(known))}"
        raise CommandError(msg)


def _network(arguments: argparse.Namespace, prepared: Prepared) -> nn.Network:
    n_x, given = prepared.table.X.shape[1], arguments.activation
    hidden = default_hidden(n_x) if arguments.hidden is None else arguments.hidden
    if len(given) not in {1, len(hidden)}:
        msg = f"--activation names {len(given)} activations for {len(hidden)} hidden layers"
        raise CommandError(msg)
    sizes = (n_x, *hidden, prepared.target.units)
    return nn.Network(sizes, hidden=given[0] if len(given) == 1 else given, output=prepared.target.output)


def _descend(
    arguments: argparse.Namespace, prepared: Prepared, network: nn.Network, place: nn.Backend
) -> nn.TrainingResult:
    parts = prepared.parts
    m = parts.training.size
    batch_size = min(arguments.batch_size or default_batch_size(m), m)
    batches = -(-m // batch_size)
    rate = arguments.learning_rate or default_learning_rate(arguments.optimizer)
    schedule = SCHEDULES[arguments.schedule](rate, batches, arguments.epochs * batches)
    return nn.train(
        network,
        *_batch(prepared, parts.training, arguments.dtype),
        optimizer=OPTIMIZERS[arguments.optimizer](learning_rate=schedule),
        epochs=arguments.epochs,
        batch_size=batch_size,
        l2=arguments.l2 if arguments.l2 is not None else default_l2(prepared.target, m, batch_size),
        dropout=arguments.dropout if network.hidden else 0.0,
        seed=arguments.seed,
        scheme=arguments.scheme,
        backend=place,
        dtype=arguments.dtype,
        validation=_batch(prepared, parts.validation, arguments.dtype) if parts.validation.size else None,
        patience=(arguments.patience or None) if parts.validation.size else None,
        progress=False if arguments.quiet else None,
        workers=arguments.workers or default_workers(network, batch_size),
    )


def _batch(prepared: Prepared, rows: Any, dtype: str) -> tuple[Any, Any]:
    """X and Y of these rows as training sees them, standardised."""
    X = prepared.inputs(prepared.table.X[rows]).astype(dtype)
    values = prepared.target.values[rows]
    if prepared.outputs is not None:
        values = prepared.outputs(values[:, None])[:, 0]
    return X.T, prepared.target.Y(values).astype(dtype)


def _metadata(prepared: Prepared) -> dict[str, Any]:
    """What the file tells about the model besides its layers."""
    table, target = prepared.table, prepared.target
    preprocessing = {"mean": prepared.inputs.mean.tolist(), "scale": prepared.inputs.scale.tolist()}
    if prepared.outputs is not None:
        outputs = prepared.outputs
        preprocessing |= {"target_mean": outputs.mean.tolist(), "target_scale": outputs.scale.tolist()}
    known = {"classes": target.classes, "features": table.features, "target": table.target}
    return {key: value for key, value in known.items() if value is not None} | {"preprocessing": preprocessing}


def _description(arguments: argparse.Namespace, prepared: Prepared) -> str:
    (m, n_x), parts = prepared.table.X.shape, prepared.parts
    constant = int(prepared.inputs.constant.sum())
    noted = f" ({constant} of them constant in the training part, ignored)" if constant else ""
    stopping = " (early stopping)" if arguments.patience and parts.validation.size else ""
    return (
        f"read {arguments.data}: {m} examples, {n_x} features{noted}; {_target(arguments, prepared)}\n"
        f"split: {parts.training.size} to train on, {parts.validation.size} for validation{stopping}, "
        f"{parts.test.size} held out for the result\n"
    )


def _target(arguments: argparse.Namespace, prepared: Prepared) -> str:
    name = f"the target {prepared.table.target!r}" if prepared.table.target else "the target"
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
    best = result.best_epoch if arguments.patience and arguments.validation else done
    record = result.history[(best or done) - 1]
    seconds = result.history[-1].seconds
    validation = "" if record.validation_cost is None else f", validation cost {record.validation_cost:.4g} without"
    costs = f"training cost {record.cost:.4g} with penalty and dropout{validation}"
    loss = "; Poisson loss without its constant log Y!" if arguments.output == "exp" else ""
    return f"{why} in {seconds:.1f} s; the model is that of epoch {best} ({costs}{loss})"


def _result(network: nn.Network, params: nn.Parameters, prepared: Prepared) -> str:
    """How the folded model does on the raw held-out rows."""
    rows = prepared.parts.test
    if not rows.size:
        return "no rows were held out, so there is no result to trust (see --test)"
    A = params.backend.to_numpy(network.predict(params, params.backend.asarray(prepared.table.X[rows].T, params.dtype)))
    true = prepared.target.values[rows]
    if prepared.target.classes is None:
        figures = results.regression(A[0], true)
    else:
        figures = results.accuracy(results.codes(A), true)
    return f"{figures}, on {rows.size} held-out examples that training never saw"
