"""Symmetry: why weights must not start at zero.

![The boundary from zeros and from random weights, and the cost of both](symmetry.png)

From zeros, every hidden unit computes the same, gets the same gradient, and stays equal to every other for ever: four
units are worth one, and where W[2] = 0, too, dW[1] = 0 and nothing is learnt but the bias. Random weights break the
symmetry; small ones (0.01) take their time, He's begin at a scale that keeps the signal's.
"""

from typing import Any

import matplotlib.pyplot as plt

import nnarray as nn
from nnarray.examples.data import flower
from nnarray.network.names import SchemeName

SCHEMES: tuple[SchemeName, ...] = ("zeros", "small", "he")
"""Initialisations, by the names of `Network.init`."""


def draw(m: int = 400, epochs: int = 1500) -> Any:
    """The boundary that each initialisation leads to, and the costs."""
    X, Y = flower(m)
    network = nn.Network((2, 4, 1), hidden="tanh")
    optimizer = nn.GradientDescent(0.6)
    runs: dict[str, nn.TrainingResult] = {
        scheme: nn.train(network, X, Y, scheme=scheme, optimizer=optimizer, epochs=epochs) for scheme in SCHEMES
    }

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, scheme in zip(axes, ("zeros", "he"), strict=False):
        nn.plots.decision_boundary(network, runs[scheme].params, X, Y, ax=ax)
        ax.set_title(f"from {scheme}: {network.score(runs[scheme].params, X, Y):.0%} right")
    nn.plots.cost_curves(runs, ax=axes[2])
    return figure


if __name__ == "__main__":
    draw().savefig("symmetry.png")
