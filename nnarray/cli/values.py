"""What the options' values are read as: words, shares, separators, sizes, and numbers within bounds."""

import argparse
import math
import os
from collections.abc import Callable
from contextlib import suppress

from nnarray.cli.dialect import SEPARATORS
from nnarray.cli.output import quoted
from nnarray.core.activations import ACTIVATIONS
from nnarray.training.checkpoint_file import check_interval


def names(text: str) -> tuple[str, ...]:
    """Comma-separated words."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def part(text: str) -> float | str:
    """A share of the rows, or the file of a part."""
    if os.path.exists(text) and not os.path.isdir(text):  # what else it is is seen where it is read
        return text
    try:
        float(text)
    except ValueError:
        msg = f"must be a share ≥ 0 and < 1 or a file, and there is no file {quoted(text)}"
        raise argparse.ArgumentTypeError(msg) from None
    return number(0, below=1)(text)


def separator(text: str) -> str:
    """One character, or its name."""
    return text if text in SEPARATORS else mark({r"\t": "\t"}.get(text, text))


def mark(text: str) -> str:
    """One character."""
    if len(text) != 1 or text in '"\r\n\0':
        msg = f"must be one character, got {quoted(text)}"
        raise argparse.ArgumentTypeError(msg)
    return text


def marks(text: str) -> tuple[str, ...]:
    """Texts with commas between, and the empty one."""
    return ("", *(word for word in (word.strip() for word in text.split(",")) if word))


def sizes(text: str) -> tuple[int, ...]:
    """Comma-separated whole numbers ≥ 1, or "none"."""
    return () if text == "none" else tuple(whole(1)(word) for word in text.split(","))


def activations(text: str) -> tuple[str, ...]:
    """Comma-separated names of activations."""
    for name in names(text):
        if name not in ACTIVATIONS:
            msg = f"{name!r} is none of {', '.join(ACTIVATIONS)}"
            raise argparse.ArgumentTypeError(msg)
    return names(text)


def interval(text: str) -> float | str:
    """Seconds, or epochs in words."""
    value: float | str = text
    with suppress(ValueError):
        value = float(text)
    try:
        check_interval(value)
    except ValueError:
        msg = f'must be a number of seconds ≥ 0, or epochs such as "5 epochs", got {quoted(text)}'
        raise argparse.ArgumentTypeError(msg) from None
    return value


def whole(smallest: int) -> Callable[[str], int]:
    """A reader of whole numbers from `smallest` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = smallest - 1
        if value < smallest:
            msg = f"must be a whole number ≥ {smallest}, got {quoted(text)}"
            raise argparse.ArgumentTypeError(msg)
        return value

    return read


def number(smallest: float, *, below: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A reader of numbers from `smallest` on (`above` it), and `below` a bound."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not smallest <= value < below or (above and value == smallest):
            bounds = f"{'>' if above else '≥'} {smallest:g}" + (f" and < {below:g}" if below < math.inf else "")
            msg = f"must be a number {bounds}, got {quoted(text)}"
            raise argparse.ArgumentTypeError(msg)
        return value

    return read
