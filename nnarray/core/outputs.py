"""The last layer: what it predicts, A[L] = g[L](Z[L]), and the loss of each example, written in Z[L].

Each loss is the negative log-likelihood of a family whose mean is g[L] (a generalized linear model with its canonical
link; McCullagh & Nelder, Generalized Linear Models, ch. 2), so choosing the output chooses the cost, and for every one

    dZ[L] = A[L] - Y

For the sigmoid that is the lecture's da = -y/a + (1-y)/(1-a) times g'(z) = a (1-a), which is a - y. Written in Z
instead of A, no loss overflows and none takes the logarithm of zero.
"""

from math import inf
from typing import NamedTuple

from nnarray.core.activations import identity, sigmoid, sigmoid_prime
from nnarray.core.typing import Array, Function, Namespace

SUM_TOLERANCE = 1e-3
"""By how much the sum of a column of Y may differ from 1 for a softmax output."""


class Output(NamedTuple):
    """An output: `mean(Z, xp=xp)` is A[L]; `loss(Z, Y, xp=xp)` is each example's loss, shape (1, m).

    `mean_backward(dA, A, xp=xp)` is dZ[L] where a cost of the caller's own gives dA[L]. `targets` are the smallest and
    the largest Y that it can model.
    """

    name: str
    mean: Function
    mean_backward: Function
    loss: Function
    targets: tuple[float, float]


def over_units(V: Array, *, xp: Namespace) -> Array:
    """Σ over the units of each example: (n, m) to (1, m)."""
    return xp.sum(V, axis=0, keepdims=True)


def sigmoid_backward(dA: Array, A: Array, *, xp: Namespace) -> Array:
    """dZ = dA * A (1 - A)."""
    return dA * sigmoid_prime(A, xp=xp)


def sigmoid_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """Σ max(Z, 0) - ZY + log(1 + e^-|Z|), which is -(Y log A + (1-Y) log(1-A)).

    max(Z, 0) - ZY is (1-Y) Z for Z > 0 and -ZY below: written so, no term is negative and none cancels another.
    """
    linear = (1.0 - Y) * xp.maximum(Z, 0.0) + Y * xp.maximum(0.0, -Z)
    return over_units(linear + xp.log1p(xp.exp(-xp.abs(Z))), xp=xp)


def softmax(Z: Array, *, xp: Namespace) -> Array:
    """e^Z / Σ e^Z, both divided by the largest e^Z of the example."""
    E = xp.exp(Z - xp.max(Z, axis=0, keepdims=True))
    return E / over_units(E, xp=xp)


def softmax_backward(dA: Array, A: Array, *, xp: Namespace) -> Array:
    """dZ = A * (dA - Σ_units A dA), as every e^Z is in every sum."""
    return A * (dA - over_units(A * dA, xp=xp))


def softmax_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """log Σ e^Z - Σ ZY, which is -Σ Y log A; Z counts from its largest, which changes nothing as Σ Y = 1."""
    Z = Z - xp.max(Z, axis=0, keepdims=True)
    return xp.log(over_units(xp.exp(Z), xp=xp)) - over_units(Z * Y, xp=xp)


def identity_backward(dA: Array, A: Array, *, xp: Namespace) -> Array:
    """dZ = dA."""
    return dA


def identity_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """Σ ½ (Z - Y)²."""
    return over_units(0.5 * (Z - Y) * (Z - Y), xp=xp)


def exp(Z: Array, *, xp: Namespace) -> Array:
    """e^Z."""
    return xp.exp(Z)


def exp_backward(dA: Array, A: Array, *, xp: Namespace) -> Array:
    """dZ = dA * A."""
    return dA * A


def exp_loss(Z: Array, Y: Array, *, xp: Namespace) -> Array:
    """Σ e^Z - ZY, the Poisson loss without its log Y!, which no parameter moves."""
    return over_units(xp.exp(Z) - Z * Y, xp=xp)


def output_backward(A: Array, Y: Array) -> Array:
    """dZ[L] = A[L] - Y."""
    return A - Y


OUTPUTS = {
    o.name: o
    for o in (
        Output("sigmoid", sigmoid, sigmoid_backward, sigmoid_loss, (0.0, 1.0)),
        Output("softmax", softmax, softmax_backward, softmax_loss, (0.0, 1.0)),
        Output("identity", identity, identity_backward, identity_loss, (-inf, inf)),
        Output("exp", exp, exp_backward, exp_loss, (0.0, inf)),
    )
}
