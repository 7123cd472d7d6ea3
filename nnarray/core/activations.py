"""The activations of the hidden layers, each g above its derivative g'.

The derivative is written in A = g(Z), so the forward pass keeps A and drops Z. At Z = 0, where relu has none, g' is 0
for relu and 0.01 for leaky_relu, as in PyTorch, JAX and scikit-learn.
"""

from typing import NamedTuple

from nnarray.core.typing import Array, Function, Namespace

LEAK = 0.01  # the slope of leaky_relu for Z < 0


class Activation(NamedTuple):
    """An activation: `g(Z, xp=xp)` is A, `g_prime(A, xp=xp)` is g'(Z) written in A."""

    name: str
    g: Function
    g_prime: Function
    has_kink: bool = False
    """whether g has no derivative at Z = 0"""


def sigmoid(Z: Array, *, xp: Namespace) -> Array:
    """1 / (1 + e^-Z), with E = e^-|Z| so that nothing overflows: 1 / (1 + E) where Z ≥ 0, else E / (1 + E)."""
    E = xp.exp(-xp.abs(Z))
    return xp.maximum(xp.astype(Z >= 0, Z.dtype), E) / (1.0 + E)


def sigmoid_prime(A: Array, *, xp: Namespace) -> Array:
    """A (1 - A)."""
    return A * (1.0 - A)


def tanh(Z: Array, *, xp: Namespace) -> Array:
    """The hyperbolic tangent of Z."""
    return xp.tanh(Z)


def tanh_prime(A: Array, *, xp: Namespace) -> Array:
    """1 - A²."""
    return 1.0 - A * A


def relu(Z: Array, *, xp: Namespace) -> Array:
    """max(0, Z)."""
    return xp.maximum(Z, 0.0)


def relu_prime(A: Array, *, xp: Namespace) -> Array:
    """1 where A > 0, else 0."""
    return xp.astype(A > 0, A.dtype)


def leaky_relu(Z: Array, *, xp: Namespace) -> Array:
    """max(0.01 Z, Z)."""
    return xp.maximum(LEAK * Z, Z)


def leaky_relu_prime(A: Array, *, xp: Namespace) -> Array:
    """1 where A > 0, else 0.01."""
    return xp.maximum(xp.astype(A > 0, A.dtype), LEAK)


def identity(Z: Array, *, xp: Namespace) -> Array:
    """Z itself."""
    return Z


def identity_prime(A: Array, *, xp: Namespace) -> Array:
    """1."""
    return xp.ones_like(A)


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("sigmoid", sigmoid, sigmoid_prime),
        Activation("tanh", tanh, tanh_prime),
        Activation("relu", relu, relu_prime, has_kink=True),
        Activation("leaky_relu", leaky_relu, leaky_relu_prime, has_kink=True),
        Activation("identity", identity, identity_prime),
    )
}
