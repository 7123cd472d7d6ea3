"""One layer: the linear half, the activation half, and the way back through each."""

from nnarray.core.activations import Activation
from nnarray.core.typing import Array, Namespace


def linear_forward(A_prev: Array, W: Array, b: Array) -> Array:
    """Z = W A_prev + b, with b added to every column."""
    return W @ A_prev + b


def linear_backward(dZ: Array, A_prev: Array, *, m: Array, xp: Namespace) -> tuple[Array, Array]:
    """dW = (1/m) dZ A_prevᵀ and db = (1/m) Σ_columns dZ, shape (n, 1).

    m is the whole batch's count of examples (the sum of their weights, if they have any), whatever the columns here.
    """
    dW = dZ @ A_prev.T / m
    db = xp.sum(dZ, axis=1, keepdims=True) / m
    return dW, db


def linear_backward_input(dZ: Array, W: Array) -> Array:
    """dA_prev = Wᵀ dZ."""
    return W.T @ dZ


def activation_forward(Z: Array, activation: Activation, *, xp: Namespace) -> Array:
    """A = g(Z)."""
    return activation.g(Z, xp=xp)


def activation_backward(dA: Array, cached: Array, activation: Activation, *, xp: Namespace) -> Array:
    """dZ = dA * g'(Z), elementwise, with g' written in the cached A, or Z."""
    return dA * activation.g_prime(cached, xp=xp)
