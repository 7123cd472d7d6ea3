"""The lecture's vectorised equations in plain array code, written here once more, independent of nnarray.

They serve as the peer that a reader of the lecture would write, over NumPy or CuPy (`xp`), and, in float64 and summed
over tiles of columns, as the reference that every contestant must agree with.
"""

from collections.abc import Sequence
from typing import Any

Array = Any
Layers = Sequence[tuple[Array, Array]]
TILE = 4096


def sigmoid(Z: Array, xp: Any) -> Array:
    """1 / (1 + e^-Z)."""
    return 1 / (1 + xp.exp(-Z))


def softmax(Z: Array, xp: Any) -> Array:
    """e^Z / Σ e^Z."""
    E = xp.exp(Z - Z.max(axis=0, keepdims=True))
    return E / E.sum(axis=0, keepdims=True)


ACTIVATIONS = {
    "sigmoid": (sigmoid, lambda A: A * (1 - A)),
    "tanh": (lambda Z, xp: xp.tanh(Z), lambda A: 1 - A * A),
    "relu": (lambda Z, xp: xp.maximum(Z, 0), lambda A: A > 0),
    "leaky_relu": (lambda Z, xp: xp.maximum(0.01 * Z, Z), lambda A: (A > 0) + 0.01 * (A <= 0)),
    "identity": (lambda Z, xp: Z, lambda A: 1),
}
OUTPUTS = {"sigmoid": sigmoid, "softmax": softmax, "identity": lambda Z, xp: Z, "exp": lambda Z, xp: xp.exp(Z)}


def losses(Z: Array, Y: Array, output: str, xp: Any) -> Array:
    """The sum of the losses over all examples, written in Z so that nothing overflows."""
    if output == "sigmoid":
        return (xp.maximum(Z, 0) - Z * Y + xp.log1p(xp.exp(-abs(Z)))).sum()
    if output == "softmax":
        Z = Z - Z.max(axis=0, keepdims=True)
        return xp.log(xp.exp(Z).sum(axis=0)).sum() - (Z * Y).sum()
    if output == "identity":
        return 0.5 * ((Z - Y) ** 2).sum()
    return (xp.exp(Z) - Z * Y).sum()


def forward(X: Array, layers: Layers, hidden: str, output: str, xp: Any) -> tuple[list[Array], Array]:
    """A[0], …, A[L] and Z[L]."""
    A = [X]
    for W, b in layers[:-1]:
        A.append(ACTIVATIONS[hidden][0](W @ A[-1] + b, xp))
    W, b = layers[-1]
    Z = W @ A[-1] + b
    return [*A, OUTPUTS[output](Z, xp)], Z


def gradients(
    X: Array, Y: Array, layers: Layers, hidden: str, output: str, xp: Any, m: int | None = None
) -> tuple[Array, list[tuple[Array, Array]]]:
    """J and (dW[1], db[1]), …, (dW[L], db[L]); m is the whole batch's count, if these columns are a part of it."""
    m = m or X.shape[1]
    A, Z = forward(X, layers, hidden, output, xp)
    dZ = A[-1] - Y
    found = []
    for l in range(len(layers), 0, -1):
        found.append((dZ @ A[l - 1].T / m, dZ.sum(axis=1, keepdims=True) / m))
        if l > 1:
            dZ = (layers[l - 1][0].T @ dZ) * ACTIVATIONS[hidden][1](A[l - 1])
    return losses(Z, Y, output, xp) / m, found[::-1]


def gradients_by_tiles(X: Array, Y: Array, layers: Layers, hidden: str, output: str, xp: Any) -> tuple[Array, Any]:
    """The same in float64, as the sum over tiles of columns."""
    m = X.shape[1]
    layers = [(xp.asarray(W, dtype="float64"), xp.asarray(b, dtype="float64")) for W, b in layers]
    J, total = 0.0, [(0.0, 0.0)] * len(layers)
    for start in range(0, m, TILE):
        columns = slice(start, start + TILE)
        X_tile, Y_tile = (xp.asarray(V[:, columns]).astype("float64") for V in (X, Y))
        J_tile, tile = gradients(X_tile, Y_tile, layers, hidden, output, xp, m)
        J = J + J_tile
        total = [(dW + dW_t, db + db_t) for (dW, db), (dW_t, db_t) in zip(total, tile, strict=True)]
    return J, total


def predict_by_tiles(X: Array, layers: Layers, hidden: str, output: str, xp: Any) -> list[Array]:
    """A[L] in float64, in pieces of some columns each."""
    layers = [(xp.asarray(W, dtype="float64"), xp.asarray(b, dtype="float64")) for W, b in layers]
    tiles = (xp.asarray(X[:, start : start + TILE]).astype("float64") for start in range(0, X.shape[1], TILE))
    return [forward(tile, layers, hidden, output, xp)[0][-1] for tile in tiles]
