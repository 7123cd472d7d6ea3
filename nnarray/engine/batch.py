"""A batch computed in one piece, on the backend that its arrays live on."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from nnarray.backends import Backend
from nnarray.core import propagation
from nnarray.core.regularization import l2_cost, l2_gradient
from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Pairs


class Architecture(Protocol):
    """What the equations need to know of a network."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """(n_x, n[1], …, n[L])."""

    @property
    def hidden(self) -> tuple[str, ...]:
        """g[1], …, g[L-1]."""

    @property
    def output(self) -> str:
        """g[L]."""


class Batch(NamedTuple):
    """Examples that a cost is taken over: X (n_x, m), Y (n[L], m), weights (1, m) or None, and m (or Σ weights)."""

    X: Array
    Y: Array
    m: Array
    weights: Array | None = None
    masks: Sequence[Array] = ()
    """D[1], …, D[L-1] of inverted dropout, each (n[l], m), or none"""


def predict(X: Array, layers: Pairs, network: Architecture, backend: Backend) -> Array:
    """A[L], shape (n[L], m)."""
    return propagation.forward(X, layers, network.hidden, network.output, steps=backend.steps).A[-1]


def cost_and_prediction(
    batch: Batch, layers: Pairs, network: Architecture, backend: Backend, *, l2: float
) -> tuple[Array, Array]:
    """J, the mean loss plus the penalty, and A[L]."""
    passed = propagation.forward(batch.X, layers, network.hidden, network.output, steps=backend.steps)
    return cost_of(passed, batch, layers, network, backend, l2=l2), passed.A[-1]


def cost_of(
    passed: propagation.Forward, batch: Batch, layers: Pairs, network: Architecture, backend: Backend, *, l2: float
) -> Array:
    """J after a forward pass of the batch."""
    J = propagation.cost(passed.Z, batch.Y, network.output, m=1, steps=backend.steps, weights=batch.weights)
    if l2:
        J = J + l2_cost(layers, l2=l2, m=1, xp=backend.xp)
    return J / batch.m


def cost_and_gradients(
    batch: Batch,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    workers: int | None = None,
) -> tuple[Array, Array]:
    """J and its gradient, a vector laid out as theta."""
    steps = backend.steps
    with backend.threads(workers):
        J, gradients = sums(batch, layers, network, steps)
    if l2:
        J = J + l2_cost(layers, l2=l2, m=1, xp=backend.xp)
        gradients = [(dW + l2_gradient(W, l2=l2, m=1), db) for (dW, db), (W, _) in zip(gradients, layers, strict=True)]
    return J / batch.m, steps.join(gradients) / batch.m


def sums(batch: Batch, layers: Pairs, network: Architecture, steps: Steps) -> tuple[Array, list[tuple[Array, Array]]]:
    """m J and m dW[l], m db[l], the sums over the columns: divided by m only once, at the end."""
    passed = propagation.forward(batch.X, layers, network.hidden, network.output, steps=steps, masks=batch.masks)
    J = propagation.cost(passed.Z, batch.Y, network.output, m=1, steps=steps, weights=batch.weights)
    gradients = propagation.backward(
        passed, batch.Y, layers, network.hidden, m=1, steps=steps, weights=batch.weights, masks=batch.masks
    )
    return J, gradients
