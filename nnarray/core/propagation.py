"""Forward through the layers l = 1…L, and backward l = L…1."""

from typing import NamedTuple

from nnarray.core.activations import ACTIVATIONS
from nnarray.core.primitives import Primitives
from nnarray.core.regularization import dropout
from nnarray.core.typing import Array, Masks, Names, Pairs


class Forward(NamedTuple):
    """What the forward pass leaves behind for the cost and the way back."""

    A: list[Array]
    """A[0], …, A[L], each as the next layer sees it (after dropout, where there is any)"""
    cached: list[Array]
    """for each hidden layer what its g' is written in, A[l] before dropout, or Z[l]"""
    Z: Array
    """Z[L], in which the loss is written"""


def forward(
    X: Array, layers: Pairs, hidden: Names, output: str, *, primitives: Primitives, masks: Masks = ()
) -> Forward:
    """Z[l] = W[l] A[l-1] + b[l],  A[l] = g[l](Z[l]).

    `hidden` names g[1], …, g[L-1] and `output` names g[L]; `masks` are D[1], …, D[L-1] of inverted dropout, or none.
    """
    A, cached = [X], []
    for l, (W, b) in enumerate(layers[:-1]):
        Z = primitives.linear_forward(A[l], W, b)
        A_l = primitives.activation_forward[hidden[l]](Z)
        cached.append(Z if ACTIVATIONS[hidden[l]].in_Z else A_l)
        A.append(dropout(A_l, masks[l]) if masks else A_l)
    W, b = layers[-1]
    Z = primitives.linear_forward(A[-1], W, b)
    A.append(primitives.mean[output](Z))
    return Forward(A, cached, Z)


def cost(Z: Array, Y: Array, output: str, *, m: Array, primitives: Primitives, weights: Array | None = None) -> Array:
    """J = (1/m) Σ_columns loss; example weights, shape (1, m), scale each column's loss and m is their sum."""
    loss = primitives.loss[output](Z, Y)
    return primitives.xp.sum(loss if weights is None else weights * loss) / m


def backward(
    dZ: Array, passed: Forward, layers: Pairs, hidden: Names, *, m: Array, primitives: Primitives, masks: Masks = ()
) -> tuple[list[tuple[Array, Array]], Array]:
    """The gradients of every layer and dZ[1], from dZ[L] of any cost."""
    A = passed.A
    gradients = [primitives.linear_backward(dZ, A[-2], m=m)]
    for l in range(len(layers) - 1, 0, -1):
        W, _ = layers[l]  # W[l+1], since layers[0] is layer 1
        dA = primitives.linear_backward_input(dZ, W)
        if masks:
            dA = dropout(dA, masks[l - 1])
        dZ = primitives.activation_backward[hidden[l - 1]](dA, passed.cached[l - 1])
        gradients.append(primitives.linear_backward(dZ, A[l - 1], m=m))
    return gradients[::-1], dZ
