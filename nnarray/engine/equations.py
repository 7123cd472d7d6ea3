"""What is computed of a tile, in the primitives of core: on arrays, or on placeholders while a program is traced.

Each returns a sum over the tile's columns, or None, and the arrays that it makes. Sums are not divided by m, unless
there is one tile only and m is given.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from nnarray.core import propagation
from nnarray.core.outputs import over_units
from nnarray.core.primitives import Primitives
from nnarray.core.regularization import cost_with_penalties, gradients_with_penalties
from nnarray.core.typing import Array, Namespace, Pairs
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.programs.placeholders import call_with

Equations: TypeAlias = Callable[..., tuple[Array | None, list[Array]]]

NO_NUMBERS: Mapping[str, Any] = MappingProxyType({})


def numbers_of_cost(m: Any, l2: Any, l1: Any) -> dict[str, Any]:
    """What J of a whole batch is given as numbers, in the order of every program's: m, and lambda of each penalty."""
    numbers = {"m": m, "l2": l2} if has_penalty(l2) else {"m": m}
    return numbers | {"l1": l1} if has_penalty(l1) else numbers


def has_penalty(strength: Any) -> bool:
    """Whether there is a penalty: its lambda is not 0, or an array whose value isn't known yet."""
    return not isinstance(strength, float | int) or strength != 0


def prediction(tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives) -> tuple[None, list[Array]]:
    """A[L]."""
    return None, [forward(tile, layers, network, primitives).A[-1]]


def prediction_with_check_of_Z(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives
) -> tuple[Array, list[Array]]:
    """How many entries of Z[L] are not finite, and A[L]."""
    passed = forward(tile, layers, network, primitives)
    return outside(passed.Z, -np.inf, np.inf, xp=primitives.xp), [passed.A[-1]]


def activations(tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives) -> tuple[None, list[Array]]:
    """A[1], …, A[L]."""
    return None, forward(tile, layers, network, primitives).A[1:]


def cost(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """m J; given m, J, and given l2 or l1, with that penalty."""
    passed = forward(tile, layers, network, primitives)
    return loss_and_penalties(passed, tile, layers, network, primitives, m=m, **penalties), []


def cost_and_prediction(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J as in `cost`, and A[L]."""
    passed = forward(tile, layers, network, primitives)
    return loss_and_penalties(passed, tile, layers, network, primitives, m=m, **penalties), [passed.A[-1]]


def cost_and_gradients(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J as in `cost`, and m dW[1], m db[1], m dW[2], …; given m, they too are divided by it and penalised."""
    passed = forward(tile, layers, network, primitives)
    J = loss_and_penalties(passed, tile, layers, network, primitives, m=m, **penalties)
    dZ = output_gradient(passed, tile, network, primitives)
    gradients, _ = propagation.backward(
        dZ, passed, layers, network.hidden, m=m, primitives=primitives, masks=tile.masks
    )
    found = gradients_with_penalties(gradients, layers, m=m, xp=primitives.xp, **penalties)
    return J, [V for pair in found for V in pair]


def pullback(tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives) -> tuple[None, list[Array]]:
    """dW[1], db[1], dW[2], … and dX, given dA[L] instead of Y."""
    passed = forward(tile, layers, network, primitives)
    dZ = primitives.mean_backward[network.output](tile.Y, passed.A[-1])
    gradients, dZ = propagation.backward(dZ, passed, layers, network.hidden, m=1, primitives=primitives)
    return None, [*(V for pair in gradients for V in pair), primitives.linear_backward_input(dZ, layers[0][0])]


def forward(tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives) -> propagation.Forward:
    """The layers one after the other."""
    return propagation.forward(tile.X, layers, network.hidden, network.output, primitives=primitives, masks=tile.masks)


def outside(V: Array, low: float, high: float, *, xp: Namespace) -> Array:
    """How many entries are not finite, or not between the two."""
    largest = float(np.finfo(V.dtype).max)
    inside = xp.logical_and(max(low, -largest) <= V, min(high, largest) >= V)
    return xp.sum(xp.where(inside, 0.0, 1.0))  # traced: an array namespace would want an array


def loss(
    passed: propagation.Forward, tile: Tile | Batch, network: Architecture, primitives: Primitives, *, m: Array = 1
) -> Array:
    """The sum of the losses, divided by m."""
    if network.reported_loss is not None:
        primitives = primitives._replace(loss={network.output: partial(network.reported_loss, xp=primitives.xp)})
    elif network.own_cost is not None:
        primitives = primitives._replace(
            loss={network.output: partial(own_loss, network=network, primitives=primitives)}
        )
    return propagation.cost(passed.Z, tile.Y, network.output, m=m, primitives=primitives, weights=tile.weights)


def own_loss(Z: Array, Y: Array, *, network: Architecture, primitives: Primitives) -> Array:
    """The losses of a cost of the caller's own, (1, m)."""
    cost, (n_L, m) = network.own_cost, Z.shape
    V = Z if cost.dA is None else primitives.mean[network.output](Z)
    losses = call_with(cost.loss, V, Y, xp=primitives.xp)
    if tuple(losses.shape) not in ((1, m), (n_L, m)):
        msg = f"loss must give shape (1, m) = (1, {m}) or (n[L], m) = ({n_L}, {m}), got {tuple(losses.shape)}"
        raise ValueError(msg)
    return losses if losses.shape[0] == 1 else over_units(losses, xp=primitives.xp)


def output_gradient(passed: propagation.Forward, tile: Tile, network: Architecture, primitives: Primitives) -> Array:
    """dZ[L], of the output's own cost or one of the caller's."""
    A, cost = passed.A[-1], network.own_cost
    if cost is None:
        dZ = primitives.output_backward(A, tile.Y)
    elif cost.dA is None:
        dZ = _like(A, "dZ", call_with(cost.dZ, passed.Z, tile.Y, xp=primitives.xp))
    else:
        dA = _like(A, "dA", call_with(cost.dA, A, tile.Y, xp=primitives.xp))
        dZ = primitives.mean_backward[network.output](dA, A)
    return dZ if tile.weights is None else tile.weights * dZ


def _like(A: Array, name: str, found: Array) -> Array:
    if tuple(found.shape) != tuple(A.shape):
        msg = f"{name} must give shape (n[L], m) = {tuple(A.shape)}, got {tuple(found.shape)}"
        raise ValueError(msg)
    return found


def loss_and_penalties(
    passed: propagation.Forward,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    primitives: Primitives,
    *,
    m: Array,
    **penalties: float,
) -> Array:
    """The sum of the losses, divided by m, and the penalties whose lambda is given, l2 or l1."""
    J = loss(passed, tile, network, primitives, m=m)
    return cost_with_penalties(J, layers, m=m, xp=primitives.xp, **penalties)
