"""The options of training: of the network, the descent, what regularises it, and the machine."""

import argparse
from typing import Any

from nnarray.backends import BACKENDS, PRECISIONS
from nnarray.backends.names import ENVIRONMENT_VARIABLE
from nnarray.cli.defaults import DROPOUT, EPOCHS, PATIENCE, TEST, VALIDATION
from nnarray.cli.descent import OPTIMIZERS, SCHEDULES
from nnarray.cli.values import activations, number, part, sizes, whole
from nnarray.core.activations import ACTIVATIONS
from nnarray.core.initial import SCHEMES
from nnarray.core.outputs import OUTPUTS


def add_network(parser: argparse.ArgumentParser) -> None:
    """The network and its first weights."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--hidden",
        type=sizes,
        metavar="SIZES",
        help='units of the hidden layers, such as 64,32, or "none" (default: one layer, about four units per feature)',
    )
    group.add_argument(
        "--activation",
        type=activations,
        default=("relu",),
        metavar="NAMES",
        help=f"of the hidden layers, one or one per layer: {', '.join(ACTIVATIONS)} (default: relu)",
    )
    group.add_argument(
        "--output",
        choices=OUTPUTS,
        metavar="NAME",
        help="the output and its cost: %(choices)s (default: chosen by the target, see below)",
    )
    group.add_argument(
        "--scheme",
        choices=SCHEMES,
        default="he",
        metavar="NAME",
        help="how weights are initialised: %(choices)s (default: %(default)s)",
    )


def add_descent(parser: argparse.ArgumentParser) -> None:
    """The optimiser, its rate, the batches and the epochs."""
    group = parser.add_argument_group("descent")
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="adam", metavar="NAME", help="%(choices)s (default: %(default)s)"
    )
    group.add_argument(
        "--learning-rate",
        type=number(0, above=True),
        metavar="RATE",
        help="(default: 0.002 for adam and rmsprop, 0.1 for the others)",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="cosine",
        metavar="NAME",
        help="%(choices)s: how the rate falls over all epochs: to 0 along a cosine after a warm-up of one epoch; to a "
        "hundredth exponentially; to a tenth as 1/t (inverse-time); as 1/√t, t the updates (inverse-sqrt); by ten "
        "after each third (step); or not at all (default: %(default)s)",
    )
    group.add_argument(
        "--staircase",
        action="store_true",
        help="let a rate that falls as inverse-time, inverse-sqrt or exponential count epochs instead of updates, "
        "and be constant within each",
    )
    group.add_argument("--epochs", type=whole(1), default=EPOCHS, metavar="N", help="at most (default: %(default)s)")
    group.add_argument(
        "--batch-size", type=whole(1), metavar="N", help="(default: 16 to 256, about a 64th of the training part)"
    )
    group.add_argument(
        "--average",
        type=number(0, below=1),
        metavar="BETA",
        help="average the weights, over about the last 1/(1-BETA) updates",
    )
    group.add_argument(
        "--patience",
        type=whole(0),
        default=PATIENCE,
        metavar="N",
        help="stop after N epochs without a lower validation cost and keep the best epoch; 0: run all epochs and keep "
        "the last (default: %(default)s)",
    )


def add_regularization(parser: argparse.ArgumentParser) -> None:
    """What keeps a network from learning its examples by heart, and the parts that are held out."""
    group = parser.add_argument_group("generalisation")
    group.add_argument(
        "--batch-norm",
        action="store_true",
        help="normalise hidden layers over each mini-batch before the activation, and at prediction by averages",
    )
    group.add_argument(
        "--l2",
        type=number(0),
        metavar="LAMBDA",
        help="penalty on the weights (default: 4 for two classes, 1.5 for more, 16 for real numbers, each times a "
        "mini-batch's share of the training part)",
    )
    group.add_argument(
        "--l1",
        type=number(0),
        default=0.0,
        metavar="LAMBDA",
        help="penalty on the weights' magnitudes (default: %(default)s)",
    )
    group.add_argument(
        "--dropout",
        type=number(0, below=1),
        default=DROPOUT,
        metavar="SHARE",
        help="of hidden units (default: %(default)s)",
    )
    group.add_argument(
        "--input-dropout",
        type=number(0, below=1),
        default=0.0,
        metavar="SHARE",
        help="of inputs (default: %(default)s)",
    )
    group.add_argument(
        "--validation",
        type=part,
        default=VALIDATION,
        metavar="SHARE|FILE",
        help="share of rows that choose the epoch, or a file of them (default: %(default)s)",
    )
    group.add_argument(
        "--test",
        type=part,
        default=TEST,
        metavar="SHARE|FILE",
        help="share of rows held out for the result, or a file of them (default: %(default)s)",
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Backend, dtype, threads and seed."""
    group = parser.add_argument_group("machine")
    add_backend(group)
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(default: %(default)s)")
    group.add_argument(
        "--precision", choices=PRECISIONS, help="on cupy, the precision of float32 products (default: full)"
    )
    group.add_argument(
        "--workers",
        type=whole(1),
        metavar="N",
        help="threads on NumPy (default: 1 where the mini-batches are small, else all that the process may use)",
    )
    group.add_argument(
        "--seed",
        type=whole(0),
        default=0,
        metavar="N",
        help="for the split, the weights and the order (default: %(default)s)",
    )


def add_backend(parser: Any) -> None:
    """The backend, of a command or a group of its options."""
    parser.add_argument(
        "--backend",
        choices=(*BACKENDS, "auto"),
        help=f"(default: the environment's {ENVIRONMENT_VARIABLE}, else numpy)",
    )
