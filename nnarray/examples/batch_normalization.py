"""Batch normalisation: ten layers that hardly learn without it.

![Cost and validation accuracy of ten layers, with and without batch normalisation](batch_normalization.png)

Ten layers of 64 sigmoid units see digits. Without batch normalisation every layer squashes what the one before it
made, and the gradient of the first layers is next to nothing: one digit in five is told, and that stays so. With it Z
has mean beta and standard deviation gamma in every layer, whatever the layers before it did, and nine digits in ten
are told.
"""

from typing import Any

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import nnarray as nn


def draw(epochs: int = 40, depth: int = 10, units: int = 64) -> Any:
    """The cost of training examples, and the accuracy of validation examples, over the epochs."""
    images, labels = load_digits(return_X_y=True)
    X, Y = images.T / 16, nn.one_hot(labels, 10)  # (64, 1797) and (10, 1797)
    training, validation = (X[:, :1408], Y[:, :1408]), (X[:, 1408:], Y[:, 1408:])
    sizes = (64,) + (units,) * (depth - 1) + (10,)

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for label, batch_norm in (("without", False), ("with batch normalisation", True)):
        network = nn.Network(sizes, "sigmoid", "softmax", batch_norm=batch_norm)
        options: dict[str, Any] = {"optimizer": nn.Adam(0.003), "scheme": "xavier", "batch_size": 64, "epochs": epochs}
        result = nn.train(network, *training, validation=validation, **options)
        nn.plots.cost_curves({label: result}, ax=left)
        scores = [epoch.validation_score for epoch in result.history]
        right.plot(range(1, len(scores) + 1), scores, label=label)
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1))
    right.grid(alpha=0.3)
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    draw().savefig("batch_normalization.png")
