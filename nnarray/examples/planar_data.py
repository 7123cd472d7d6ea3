"""Planar data: a flower that no line divides, and four hidden units that do.

![Two decision boundaries and two cost curves](planar_data.png)

Logistic regression, `Network((2, 1))`, can only draw a line. One hidden layer of four tanh units, `Network((2, 4, 1))`,
bends it around the petals.
"""

from typing import Any

import matplotlib.pyplot as plt

import nnarray as nn
from nnarray.examples.data import flower


def draw(m: int = 400, epochs: int = 3000) -> Any:
    """Both boundaries, and the cost of both."""
    X, Y = flower(m)
    networks = {"logistic regression": nn.Network((2, 1)), "4 hidden units": nn.Network((2, 4, 1), hidden="tanh")}
    optimizer = nn.GradientDescent(0.6)
    runs = {name: nn.train(network, X, Y, optimizer=optimizer, epochs=epochs) for name, network in networks.items()}

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, (name, network) in zip(axes, networks.items(), strict=False):
        nn.plots.decision_boundary(network, runs[name].params, X, Y, ax=ax)
        ax.set_title(f"{name}: {network.score(runs[name].params, X, Y):.0%} right")
    nn.plots.cost_curves(runs, ax=axes[2])
    return figure


if __name__ == "__main__":
    draw().savefig("planar_data.png")
