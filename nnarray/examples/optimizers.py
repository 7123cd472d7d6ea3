"""Optimisers: gradient descent, momentum, RMSprop and Adam on one cost.

![The cost over the epochs for four optimisers, and for three learning rates](optimizers.png)

The flower, squeezed to a twentieth of its height, so that the cost is far steeper in some directions than in others:
one learning rate for all suits few of them, while RMSprop and Adam divide each derivative by its own size. On the
right, Adam at three learning rates, of which one is too small and one too large. Weights, batches and seed are the
same in all runs.
"""

from typing import Any

import matplotlib.pyplot as plt

import nnarray as nn
from nnarray.examples.data import flower


def draw(m: int = 400, epochs: int = 150) -> Any:
    """The costs of four rules, and those of three learning rates."""
    X, Y = flower(m)
    X[1] /= 20
    network = nn.Network((2, 16, 16, 1))
    rules = (nn.GradientDescent(0.5), nn.Momentum(0.5), nn.RMSprop(0.01), nn.Adam(0.01))
    panels: tuple[dict[str, nn.training.Optimizer], ...] = (
        {f"{type(rule).__name__}({rule.learning_rate})": rule for rule in rules},
        {f"Adam({alpha})": nn.Adam(alpha) for alpha in (0.001, 0.01, 0.5)},
    )
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for ax, named in zip(axes, panels, strict=True):
        runs = {name: nn.train(network, X, Y, optimizer=o, epochs=epochs, batch_size=32) for name, o in named.items()}
        nn.plots.cost_curves(runs, ax=ax).label_outer()
    axes[0].set_ylim(0, 0.8)
    return figure


if __name__ == "__main__":
    draw().savefig("optimizers.png")
