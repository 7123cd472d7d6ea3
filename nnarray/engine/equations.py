"""What is computed of a tile, in the steps of core: on arrays, or on what stands for them while calls are noted down.

Each returns a sum over the tile's columns, or None, and the arrays that it makes. Sums are not divided by m, unless
there is one tile only and m is given.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from nnarray.core import propagation
from nnarray.core.regularization import l2_cost, l2_gradient
from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Pairs
from nnarray.engine.batch import Architecture, Batch, Tile

Equations: TypeAlias = Callable[..., tuple[Array | None, list[Array]]]


def prediction(tile: Tile, layers: Pairs, network: Architecture, steps: Steps) -> tuple[None, list[Array]]:
    """A[L]."""
    return None, [forward(tile, layers, network, steps).A[-1]]


def cost(
    tile: Tile, layers: Pairs, network: Architecture, steps: Steps, *, m: Array = 1, l2: float | None = None
) -> tuple[Array, list[Array]]:
    """m J; given m, J, and given l2, with the penalty."""
    passed = forward(tile, layers, network, steps)
    return loss_and_penalty(passed, tile, layers, network, steps, m=m, l2=l2), []


def cost_and_prediction(
    tile: Tile, layers: Pairs, network: Architecture, steps: Steps, *, m: Array = 1, l2: float | None = None
) -> tuple[Array, list[Array]]:
    """J as in `cost`, and A[L]."""
    passed = forward(tile, layers, network, steps)
    return loss_and_penalty(passed, tile, layers, network, steps, m=m, l2=l2), [passed.A[-1]]


def cost_and_gradients(
    tile: Tile, layers: Pairs, network: Architecture, steps: Steps, *, m: Array = 1, l2: float | None = None
) -> tuple[Array, list[Array]]:
    """J as in `cost`, and m dW[1], m db[1], m dW[2], …; given m, they too are divided by it and have their penalty."""
    passed = forward(tile, layers, network, steps)
    J = loss_and_penalty(passed, tile, layers, network, steps, m=m, l2=l2)
    gradients = propagation.backward(
        passed, tile.Y, layers, network.hidden, m=m, steps=steps, weights=tile.weights, masks=tile.masks
    )
    if l2 is not None:
        of_layers = zip(gradients, layers, strict=True)
        gradients = [(dW + l2_gradient(W, l2=l2, m=m), db) for (dW, db), (W, _) in of_layers]
    return J, [V for pair in gradients for V in pair]


def forward(tile: Tile, layers: Pairs, network: Architecture, steps: Steps) -> propagation.Forward:
    """The layers one after the other."""
    return propagation.forward(tile.X, layers, network.hidden, network.output, steps=steps, masks=tile.masks)


def loss(
    passed: propagation.Forward, tile: Tile | Batch, network: Architecture, steps: Steps, *, m: Array = 1
) -> Array:
    """The sum of the losses, divided by m."""
    if network.reported_loss is not None:
        steps = steps._replace(loss={network.output: partial(network.reported_loss, xp=steps.xp)})
    return propagation.cost(passed.Z, tile.Y, network.output, m=m, steps=steps, weights=tile.weights)


def loss_and_penalty(
    passed: propagation.Forward,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    steps: Steps,
    *,
    m: Array,
    l2: float | None,
) -> Array:
    """The sum of the losses, divided by m, and given l2, the penalty."""
    J = loss(passed, tile, network, steps, m=m)
    return J if l2 is None else J + l2_cost(layers, l2=l2, m=m, xp=steps.xp)
