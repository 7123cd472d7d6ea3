"""The primitives that the equations consist of, bound to one namespace.

propagation.py is written in these primitives and nothing else. `bind` closes this package's own functions over `xp`; a
backend may replace any of them by a faster one that gives the same result, and propagation.py cannot tell.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from nnarray.core.activations import ACTIVATIONS
from nnarray.core.layers import (
    activation_backward,
    activation_forward,
    linear_backward,
    linear_backward_input,
    linear_forward,
)
from nnarray.core.outputs import OUTPUTS, output_backward
from nnarray.core.typing import Array, Function, Layers, Namespace
from nnarray.core.vector import join, split


class Primitives(NamedTuple):
    """The primitives of one namespace `xp`; activations and outputs by name."""

    xp: Namespace
    linear_forward: Function  # (A_prev, W, b) to Z
    linear_backward: Callable[..., tuple[Array, Array]]  # (dZ, A_prev, m=m) to dW, db
    linear_backward_input: Function  # (dZ, W) to dA_prev
    activation_forward: Mapping[str, Function]  # Z to A
    activation_backward: Mapping[str, Function]  # (dA, A or Z, as the activation's derivative is written) to dZ
    mean: Mapping[str, Function]  # Z[L] to A[L]
    mean_backward: Mapping[str, Function]  # (dA[L], A[L]) to dZ[L]
    loss: Mapping[str, Function]  # (Z[L], Y) to the losses, (1, m)
    output_backward: Function  # (A[L], Y) to dZ[L]
    join: Callable[[Layers], Array]  # (W, b) of every layer to theta
    split: Callable[..., list[tuple[Array, Array]]]  # (theta, sizes) to (W, b) of every layer


def bind(xp: Namespace) -> Primitives:
    """The primitives as core's own functions, closed over `xp`."""
    return Primitives(
        xp=xp,
        linear_forward=linear_forward,
        linear_backward=partial(linear_backward, xp=xp),
        linear_backward_input=linear_backward_input,
        activation_forward={k: partial(activation_forward, activation=g, xp=xp) for k, g in ACTIVATIONS.items()},
        activation_backward={k: partial(activation_backward, activation=g, xp=xp) for k, g in ACTIVATIONS.items()},
        mean={k: partial(output.mean, xp=xp) for k, output in OUTPUTS.items()},
        mean_backward={k: partial(output.mean_backward, xp=xp) for k, output in OUTPUTS.items()},
        loss={k: partial(output.loss, xp=xp) for k, output in OUTPUTS.items()},
        output_backward=output_backward,
        join=partial(join, xp=xp),
        split=partial(split, xp=xp),
    )
