"""Vanishing gradients: how depth and initialisation decide what the first layer learns.

![The gradient of each layer for four initialisations](vanishing_gradients.png)

On the way back every layer multiplies dA by Wᵀ and by g'. Where that shrinks it, as sigmoid's g' does, which is at most
1/4, the gradient of the first layer is many powers of ten below that of the last. Weights of 0.01 shrink A on the way
forward as much as dA on the way back, so that dW, their product, is next to nothing in every layer. With He's scale,
sqrt(2/n[l-1]), relu keeps both.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import nnarray as nn
from nnarray.network.names import HiddenName, SchemeName

STARTS: tuple[tuple[HiddenName, SchemeName], ...] = (
    ("relu", "he"),
    ("tanh", "xavier"),
    ("sigmoid", "xavier"),
    ("relu", "small"),
)
"""Activations with initialisations."""


def draw(depth: int = 20, units: int = 50, m: int = 200) -> Any:
    """The mean size of dW[l] over the layers l, before the first update."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(units, m)), rng.integers(0, 2, size=(1, m))
    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for hidden, scheme in STARTS:
        network = nn.Network((units,) * depth + (1,), hidden=hidden)
        _, gradients = network.gradients(network.init(scheme=scheme, dtype="float64"), X, Y)
        sizes = [np.sqrt(np.mean(dW**2)) for dW, _ in gradients]
        ax.semilogy(range(1, depth + 1), np.maximum(sizes, 1e-30), ".-", label=f"{hidden}, {scheme}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="layer l", ylabel="root mean square of dW[l]")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return figure


if __name__ == "__main__":
    draw().savefig("vanishing_gradients.png")
