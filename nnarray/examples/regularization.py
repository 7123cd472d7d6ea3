"""Regularisation: overfitting, and what L2 and dropout make of it.

![Three boundaries: without regularisation, with L2, with dropout](regularization.png)

A large network has room to learn each noisy example by heart: right on those it saw, and sure of itself where it is
wrong on others, which costs most. The L2 penalty makes large weights costly, dropout lets no unit rely on another:
the cost on unseen examples falls.
"""

from typing import Any

import matplotlib.pyplot as plt

import nnarray as nn
from nnarray.examples.data import moons


def draw(m: int = 160, epochs: int = 2000) -> Any:
    """The boundary of each, with its accuracy on the examples it saw, and accuracy and cost on others."""
    (X, Y), others = moons(m, noise=0.3), moons(2000, noise=0.3, seed=1)
    network = nn.Network((2, 64, 64, 1))
    options: dict[str, dict[str, Any]] = {"neither": {}, "l2=0.6": {"l2": 0.6}, "dropout=0.7": {"dropout": 0.7}}

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, (name, chosen) in zip(axes, options.items(), strict=True):
        params = nn.train(network, X, Y, optimizer=nn.Adam(0.005), epochs=epochs, **chosen).params
        nn.plots.decision_boundary(network, params, X, Y, ax=ax)
        seen, unseen, J = network.score(params, X, Y), network.score(params, *others), network.cost(params, *others)
        ax.set_title(f"{name}: {seen:.0%} of seen,\n{unseen:.0%} of unseen examples, at cost {float(J):.2f}")
    return figure


if __name__ == "__main__":
    draw().savefig("regularization.png")
