"""Mini-batches against the full batch: more updates for each pass over the examples.

![The cost over the epochs for three batch sizes](mini_batches.png)

A full batch makes one update per epoch, along the exact gradient; batches of 64 make many, along rough ones. After as
many passes they are far ahead. Batches of one example make the most updates, along the roughest gradients, and take
the longest for an epoch, since a machine multiplies many columns at once much faster than one by one.
"""

from typing import Any

import matplotlib.pyplot as plt

import nnarray as nn
from nnarray.examples.data import moons


def draw(m: int = 2048, epochs: int = 30) -> Any:
    """The cost over all examples after each epoch, and the number of updates that it took."""
    X, Y = moons(m)
    network = nn.Network((2, 16, 1))
    runs = {}
    for batch_size in (m, 64, 1):
        optimizer = nn.GradientDescent(0.1)
        result = nn.train(network, X, Y, optimizer=optimizer, epochs=epochs, batch_size=batch_size, validation=(X, Y))
        runs[f"batches of {batch_size}: {result.state.t:,} updates"] = result

    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    nn.plots.cost_curves(runs, curve="validation_cost", ax=ax)
    ax.set_ylabel("cost J over all examples")
    return figure


if __name__ == "__main__":
    draw().savefig("mini_batches.png")
