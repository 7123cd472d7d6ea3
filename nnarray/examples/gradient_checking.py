"""Gradient checking: a wrong sign, found by central differences.

![Derivatives by backpropagation against central differences](gradient_checking.png)

A cost of one's own brings its derivative along, and a slip in it shows in no error: training runs, only badly. For
every parameter, (J(theta + eps e_i) - J(theta - eps e_i)) / 2 eps needs no derivative; where the two differ by more
than 1e-7 or so of their size, the derivative is wrong.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import nnarray as nn
from nnarray.examples.data import moons


def loss(A: Any, Y: Any, xp: Any) -> Any:
    """½ (A - Y)², of a sigmoid unit."""
    return 0.5 * (A - Y) ** 2


COSTS = {
    "right: dA = A - Y": nn.Cost(loss, dA=lambda A, Y, xp: A - Y),
    "wrong: dA = A + Y": nn.Cost(loss, dA=lambda A, Y, xp: A + Y),
}
"""The loss with its derivative, and with a slip in it."""


def draw(m: int = 50) -> Any:
    """The derivatives by each parameter both ways, and what `check_gradients` reports."""
    X, Y = moons(m)
    network = nn.Network((2, 8, 1), hidden="tanh")
    params = network.init(dtype="float64")

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for ax, (name, cost) in zip(axes, COSTS.items(), strict=True):
        analytic = network.gradients(params, X, Y, cost=cost)[1].vector
        report = nn.check_gradients(network, params, X, Y, cost=cost)
        ax.axline((0, 0), slope=1, color="0.7")
        ax.plot(_differences(network, params.vector, X, Y, cost), analytic, ".")
        ax.set(xlabel="by central differences", ylabel="by backpropagation")
        ax.set_title(f"{name}\nrelative difference {report.relative_difference:.0e}, worst at {report.worst}")
    return figure


def _differences(network: nn.Network, theta: Any, X: Any, Y: Any, cost: nn.Cost, eps: float = 1e-6) -> list[float]:
    """(J(theta + eps e_i) - J(theta - eps e_i)) / 2 eps for every i."""

    def J(theta: Any) -> float:
        return float(network.cost(network.parameters(theta), X, Y, cost=cost))

    return [(J(theta + eps * e_i) - J(theta - eps * e_i)) / (2 * eps) for e_i in np.eye(network.size)]


if __name__ == "__main__":
    draw().savefig("gradient_checking.png")
