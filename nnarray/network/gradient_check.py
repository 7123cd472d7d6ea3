"""Gradient checking of a whole network: backpropagation against central differences."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, at_once, number, quiet, require_concrete, require_finite
from nnarray.core import batch_norm, checking, propagation
from nnarray.core.activations import ACTIVATIONS
from nnarray.core.typing import Array, Layers
from nnarray.engine import Architecture, Batch
from nnarray.network.costs import Cost, with_cost
from nnarray.network.entry import enter_batch, enter_parameters, make_batch, require_several
from nnarray.network.keywords import explained
from nnarray.network.network import Network, require_network
from nnarray.network.numbers import check_count, check_number, check_penalty, check_seed


class GradientCheck(NamedTuple):
    """The result of a gradient check."""

    relative_difference: float
    """‖g - ĝ‖ / (‖g‖ + ‖ĝ‖) over what was compared: below 1e-7 for a right gradient of a smooth network"""
    worst: str
    """where |g - ĝ| is largest, such as "W[1][3, 0]" or "direction 2" """
    analytic: float
    """g there, by backpropagation"""
    numerical: float
    """ĝ there, by central differences"""
    checked: int
    """how many coordinates and directions were compared"""
    kinks: int
    """how many were left out, because an example crosses the kink of a relu between the two points of the difference"""

    def __str__(self) -> str:
        kinks = f", {self.kinks} left out at kinks of relu" if self.kinks else ""
        return (
            f"relative difference {self.relative_difference:.2e} over {self.checked} derivatives{kinks}; "
            f"worst at {self.worst}: {self.analytic:.9g} by backpropagation, {self.numerical:.9g} by differences"
        )


@explained
@quiet
def check_gradients(
    network: Network,
    params: Any,
    X: Any,
    Y: Any,
    *,
    l2: float = 0.0,
    l1: float = 0.0,
    weights: Any = None,
    cost: Cost | None = None,
    gradients: Any = None,
    coordinates: int | None = None,
    directions: int = 0,
    seed: int | None = 0,
    eps: float = 1e-6,
) -> GradientCheck:
    """Compare the gradient of J with central differences, in float64, where the arguments live.

    Parameters
    ----------
    network, params, X, Y, l2, l1, weights, cost
        As in `Network.cost`.
    gradients : Parameters or sequence of (dW, db), optional
        What to check instead of nnarray's own: those of a backward pass of one's own, of the shapes of (W, b).
    eps : float
        Half the distance of the two points of a difference.
    coordinates : int, optional
        The number of coordinates of theta to compare, drawn at random by `seed` where it has more; by default up to
        1000, or none if `directions` is given.
    directions : int, default=0
        How many random directions of length 1 are compared: each takes two costs and sees every parameter at once,
        which suits a large network.
    seed : int or None, default=0
        The seed of both draws.

    Returns
    -------
    GradientCheck
        Where an example crosses the kink of a relu between the two points, or a weight with an L1 penalty crosses 0,
        the difference is wrong and not the gradient: such a comparison is counted in `kinks` and left out.

    Raises
    ------
    ValueError
        As `Network.cost` does, and for numbers out of range.
    TypeError
        As `Network.cost` does, and for traced arrays.

    Examples
    --------
    >>> network = Network((2, 3, 1), hidden="tanh")
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> check_gradients(network, network.init(seed=1), X, Y).relative_difference < 1e-7
    True

    Your own backward pass, here with a wrong sign in its last layer:

    >>> params = network.init(seed=1, dtype="float64")
    >>> J, ((dW1, db1), (dW2, db2)) = network.gradients(params, X, Y)
    >>> check_gradients(network, params, X, Y, gradients=[(dW1, db1), (-dW2, db2)]).worst[:4]
    'W[2]'
    """
    require_network(network)
    eps, l2, l1 = check_number(eps, "eps", at_least=1e-300), check_penalty(l2, "l2"), check_penalty(l1, "l1")
    directions = check_count(directions, "directions", at_least=0)
    if coordinates is None:
        coordinates = 0 if directions else 1000
    coordinates = check_count(coordinates, "coordinates", at_least=0 if directions else 1)
    generator = np.random.default_rng(check_seed(seed))
    costed = with_cost(network, cost)
    entered, batch = enter_batch(costed, params, X, Y, weights)
    backend, W = replace(entered.backend, precision=None), entered.layers[0].W
    require_concrete("nn.check_gradients", params=W, X=batch.X, Y=batch.Y, weights=batch.weights)
    with backend.current(), at_once(W, batch.X, batch.Y):
        require_finite(batch.X, "X", entered.backend)
        if network.batch_norm:
            require_several(batch.columns, "X")
        batch = make_batch(costed, batch.X, batch.Y, batch.weights, backend=backend, dtype="float64")
        theta = backend.asarray(backend.primitives.join(entered.layers), "float64")
        kind = NormalizedDifferences if network.batch_norm else Differences
        differences = kind(costed, batch, theta, backend, l2, l1)
        if gradients is not None:
            differences.gradient = _given(gradients, network, backend)
        chosen = generator.permutation(network.size)[:coordinates]
        for i in np.sort(chosen).tolist():
            e_i = checking.coordinate(i, theta, xp=backend.xp, device=backend.device)
            differences.compare(e_i, eps, name_of(i, network.sizes, batch_norm=network.batch_norm))
        for k in range(directions):
            d = generator.standard_normal(network.size)
            differences.compare(backend.asarray(d / np.linalg.norm(d), "float64"), eps, f"direction {k}")
        return differences.report()


def _given(gradients: Any, network: Network, backend: Backend) -> Array:
    """The caller's gradients as one vector of float64."""
    entered = enter_parameters(network, gradients)
    require_concrete("nn.check_gradients", gradients=entered.layers[0].W)
    g = backend.asarray(entered.backend.to_numpy(entered.backend.primitives.join(entered.layers)), "float64")
    require_finite(g, "gradients", backend)
    return g


class Differences:
    """The analytic gradient of J at theta, and the derivatives compared with it so far."""

    def __init__(
        self, network: Architecture, batch: Batch, theta: Array, backend: Backend, l2: float, l1: float
    ) -> None:
        self.theta, self.backend = theta, backend
        self.gradient = self._gradient_of(network, batch, l2, l1)
        self.patterns: list[Sequence[Array]] = []
        self.J = self._cost_of(network, batch, l2, l1)
        self.analytic: list[float] = []
        self.numerical: list[float] = []
        self.names: list[str] = []
        self.kinks = 0

    def _gradient_of(self, network: Architecture, batch: Batch, l2: float, l1: float) -> Array:
        layers = self._layers(self.theta, network)
        return engine.cost_and_gradients(batch, layers, network, self.backend, l2=l2, l1=l1)[1]

    def _layers(self, theta: Array, network: Architecture) -> Any:
        return self.backend.primitives.split(theta, network.sizes)

    def _forward(self, batch: Batch, layers: Any, network: Architecture) -> propagation.Forward:
        primitives = self.backend.primitives
        return propagation.forward(batch.X, layers, network.hidden, network.output, primitives=primitives)

    def _cost_of(self, network: Architecture, batch: Batch, l2: float, l1: float) -> Callable[[Array], Array]:
        backend = self.backend

        def J(theta: Array) -> Array:
            layers = self._layers(theta, network)
            passed = self._forward(batch, layers, network)
            kept = zip(passed.cached, network.hidden, strict=True)
            signs = [layer[0] > 0 for layer in layers] if l1 else []
            self.patterns.append([*(A > 0 for A, name in kept if ACTIVATIONS[name].has_kink), *signs])
            weights = engine.batch_norm.weights_of(layers)
            return engine.cost_of(passed, batch, weights, network, backend, l2=l2, l1=l1)

        return J

    def compare(self, direction: Array, eps: float, name: str) -> None:
        """Add the derivative along `direction`, unless a kink lies between the two points."""
        self.patterns.clear()
        numerical = checking.numerical_derivative(self.J, self.theta, direction, eps=eps)
        xp = self.backend.xp
        if not all(bool(xp.all(up == down)) for up, down in zip(*self.patterns, strict=True)):
            self.kinks += 1
            return
        self.analytic.append(number(xp.sum(self.gradient * direction)))
        self.numerical.append(number(numerical))
        self.names.append(name)

    def report(self) -> GradientCheck:
        """The result of the comparisons so far."""
        if not self.names:
            return GradientCheck(float("nan"), "nowhere", float("nan"), float("nan"), 0, self.kinks)
        g, g_hat = np.array(self.analytic), np.array(self.numerical)
        worst = int(np.argmax(np.abs(g - g_hat)))
        difference = float(checking.relative_difference(g, g_hat, xp=np))
        return GradientCheck(
            difference, self.names[worst], self.analytic[worst], self.numerical[worst], len(self.names), self.kinks
        )


class NormalizedDifferences(Differences):
    """The differences for a network with batch normalisation, in training mode."""

    def _layers(self, theta: Array, network: Architecture) -> Layers:
        return engine.batch_norm.split(theta, network.sizes, xp=self.backend.xp)

    def _gradient_of(self, network: Architecture, batch: Batch, l2: float, l1: float) -> Array:
        layers = self._layers(self.theta, network)
        return engine.batch_norm.cost_and_gradients(batch, layers, network, self.backend, l2=l2, l1=l1)[1]

    def _forward(self, batch: Batch, layers: Layers, network: Architecture) -> propagation.Forward:
        primitives = self.backend.primitives
        return batch_norm.forward(batch.X, layers, network.hidden, network.output, primitives=primitives)[0]


def name_of(i: int, sizes: Sequence[int], *, batch_norm: bool = False) -> str:
    """The letter and indices of theta's i-th entry, as "W[2][0, 3]"."""
    for l, (n_prev, n) in enumerate(pairwise(sizes), 1):
        if i < n * n_prev:
            return f"W[{l}][{i // n_prev}, {i % n_prev}]"
        i -= n * n_prev
        if i < n:
            letter = "beta" if batch_norm and l < len(sizes) - 1 else "b"
            return f"{letter}[{l}][{i}, 0]"
        i -= n
        if batch_norm and l < len(sizes) - 1:
            if i < n:
                return f"gamma[{l}][{i}, 0]"
            i -= n
    msg = f"theta of sizes {tuple(sizes)} has no entry {i}"
    raise IndexError(msg)
