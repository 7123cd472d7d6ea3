"""Checks of what makes a network: its sizes, activations, output and flags, and the scheme that draws its weights."""

from typing import Any

import numpy as np

from nnarray.core.activations import ACTIVATIONS
from nnarray.core.initial import SCHEMES
from nnarray.core.outputs import OUTPUTS
from nnarray.network.names import HiddenName, OutputName
from nnarray.network.numbers import check_count


def check_scheme(scheme: Any) -> None:
    """Raise ValueError for what is no scheme of initialisation."""
    if scheme not in tuple(SCHEMES):
        msg = f"scheme must be one of {', '.join(map(repr, SCHEMES))}, got {scheme!r}"
        raise ValueError(msg)


def checked_flag(value: Any, name: str) -> bool:
    """A flag. Raises TypeError for anything else."""
    if not isinstance(value, bool | np.bool_):
        msg = f"{name} must be True or False, got {value!r}"
        raise TypeError(msg)
    return bool(value)


def checked_sizes(sizes: Any) -> tuple[int, ...]:
    """(n_x, n[1], …, n[L]). Raises TypeError or ValueError for what is no sizes of a network."""
    try:
        checked = tuple(check_count(n, f"sizes[{l}]") for l, n in enumerate(sizes))
    except TypeError as error:
        msg = f"sizes must be a sequence of whole numbers (n_x, n[1], …, n[L]), got {sizes!r}"
        raise TypeError(msg) from error
    if len(checked) < 2:
        msg = f"sizes must hold n_x and at least one layer, got {sizes!r}"
        raise ValueError(msg)
    return checked


def checked_hidden(hidden: Any, layers: int) -> tuple[HiddenName, ...]:
    """The name of each hidden layer's activation. Raises TypeError or ValueError for other ones."""
    try:
        given = (hidden,) if isinstance(hidden, str) else tuple(hidden)
    except TypeError:
        msg = f"hidden must be one name or a sequence of names, got {hidden!r}"
        raise TypeError(msg) from None
    for name in given:
        if name not in tuple(ACTIVATIONS):
            msg = f"hidden must be of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}"
            raise ValueError(msg)
    names = given * layers if isinstance(hidden, str) else given
    if len(names) != layers:
        msg = f"hidden must be one name or one per hidden layer ({layers}), got {len(names)}: {names!r}"
        raise ValueError(msg)
    return names


def checked_output(output: OutputName, n_L: int) -> OutputName:
    """The name of the output. Raises ValueError for another one, and for a softmax of one unit."""
    if output not in tuple(OUTPUTS):
        msg = f"output must be one of {', '.join(map(repr, OUTPUTS))}, got {output!r}"
        raise ValueError(msg)
    if output == "softmax" and n_L < 2:
        msg = "output 'softmax' needs n[L] ≥ 2, a unit per class, got 1; for two classes in one unit use 'sigmoid'"
        raise ValueError(msg)
    return output
