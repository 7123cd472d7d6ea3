"""The descent of `nnarray train`: its optimisers and schedules by name, and what the options make of them."""

import argparse
from collections.abc import Callable
from typing import Any

import nnarray as nn
from nnarray.cli.checkpoints import GoingOn
from nnarray.cli.defaults import default_batch_size, default_l2, default_learning_rate, default_workers
from nnarray.cli.errors import CommandError
from nnarray.cli.examples import Prepared
from nnarray.cli.preparation import Part
from nnarray.cli.process import INTERRUPTION
from nnarray.cli.ranks import share
from nnarray.cli.watching import Watching
from nnarray.files import Model
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
    "inverse-sqrt": lambda rate, batches, updates: schedules.InverseSquareRootDecay(rate),
    "exponential": lambda rate, batches, updates: schedules.ExponentialDecay(rate, decay=0.01, steps=updates),
    "step": lambda rate, batches, updates: schedules.StepDecay(rate, factor=0.1, steps=-(-updates // 3)),
    "cosine": lambda rate, batches, updates: schedules.CosineWithWarmup(rate, steps=updates, warmup=batches),
}
"""Each from the first rate, the updates in an epoch and the updates in all epochs."""

STAIRCASES: dict[str, Callable[[float, int, int], Callable[[int], float]]] = {
    "inverse-time": lambda rate, batches, updates: schedules.InverseTimeDecay(
        rate, decay=9.0 * batches / updates, steps=batches, staircase=True
    ),
    "inverse-sqrt": lambda rate, batches, updates: schedules.InverseSquareRootDecay(
        rate, steps=batches, staircase=True
    ),
    "exponential": lambda rate, batches, updates: schedules.ExponentialDecay(
        rate, decay=0.01 ** (batches / updates), steps=batches, staircase=True
    ),
}
"""Those that count epochs, in each of which the rate is constant."""

SETTINGS = (
    "optimizer",
    "learning_rate",
    "schedule",
    "staircase",
    "epochs",
    "batch_size",
    "average",
    "patience",
    "scheme",
    "batch_norm",
    "dropout",
    "input_dropout",
    "l2",
    "l1",
)


def check_staircase(arguments: argparse.Namespace) -> None:
    """Raise CommandError for --staircase beside a schedule that does not count epochs."""
    if arguments.staircase and arguments.schedule not in STAIRCASES:
        msg = f"--staircase goes with --schedule {', '.join(STAIRCASES)}, not with {arguments.schedule}"
        raise CommandError(msg)


def settings_of(arguments: argparse.Namespace, prepared: Prepared, network: nn.Network) -> dict[str, Any]:
    """The options of the descent, with what was chosen where nothing was said."""
    m = prepared.training.m
    settings = {name: getattr(arguments, name) for name in SETTINGS} | {"batch_norm": network.batch_norm}
    settings["batch_size"] = min(arguments.batch_size or default_batch_size(m), m)
    while network.batch_norm and arguments.batch_size is None and m % settings["batch_size"] == 1:
        settings["batch_size"] += 1  # or the last one would be of a single example, which has no variance
    settings["learning_rate"] = arguments.learning_rate or default_learning_rate(arguments.optimizer)
    if arguments.l2 is None:
        settings["l2"] = default_l2(prepared.target, m, settings["batch_size"])
    return settings


def descend(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    prepared: Prepared,
    network: nn.Network,
    backend: nn.Backend,
    start: Model | None,
    run: GoingOn,
    comm: Any,
) -> nn.TrainingResult:
    """Train, by the options and what was chosen where they say nothing."""
    INTERRUPTION.again()
    part, validation = prepared.training, prepared.validation
    batch_size = settings["batch_size"]
    batches = -(-part.m // batch_size)
    known = STAIRCASES if arguments.staircase else SCHEDULES
    schedule = known[arguments.schedule](settings["learning_rate"], batches, arguments.epochs * batches)
    return nn.train(
        network,
        *_batch(prepared, part, arguments.dtype, comm),
        params=None if start is None else start.params.to(backend, arguments.dtype),
        optimizer=OPTIMIZERS[arguments.optimizer](learning_rate=schedule),
        epochs=arguments.epochs,
        batch_size=batch_size,
        l2=settings["l2"],
        l1=settings["l1"],
        weights=share(part.weights, comm),
        dropout=arguments.dropout if network.hidden else 0.0,
        input_dropout=arguments.input_dropout,
        seed=arguments.seed,
        scheme=arguments.scheme,
        backend=backend,
        dtype=arguments.dtype,
        validation=_batch(prepared, validation, arguments.dtype, comm) if validation else None,
        average=arguments.average,
        patience=(arguments.patience or None) if validation else None,
        callback=Watching(arguments.epochs, quiet=arguments.quiet or arguments.json),
        progress=False if arguments.quiet or arguments.json else None,
        workers=arguments.workers or default_workers(network, batch_size),
        checkpoint=run.kept,
        checkpoint_every=arguments.checkpoint_every,
        resume=run.source or False,
        comm=comm,
    )


def _batch(prepared: Prepared, part: Part, dtype: str, comm: Any) -> tuple[Any, Any]:
    return share(part.X, comm), share(prepared.Y(part.values, dtype), comm)
