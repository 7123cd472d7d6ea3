"""Logistic regression on images: ten units, one per digit, each a picture of what it looks for.

![The weights of ten units and the cost](digits.png)

Without hidden layers, the weights of a unit are an image of the same size as the digits: red where ink speaks for its
digit, blue where it speaks against it. The penalty keeps pixels that say nothing near zero.
"""

from typing import Any

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import nnarray as nn


def draw(epochs: int = 60) -> Any:
    """The weights, and the cost of training and validation examples."""
    images, labels = load_digits(return_X_y=True)
    X, Y = images.T / 16, nn.one_hot(labels, 10)  # (64, 1797) and (10, 1797)
    training, validation = (X[:, :1400], Y[:, :1400]), (X[:, 1400:], Y[:, 1400:])

    network = nn.Network((64, 10), output="softmax")
    result = nn.train(network, *training, validation=validation, epochs=epochs, batch_size=64, l2=0.2)

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.08)
    nn.plots.weight_images(result.params[0].W, (8, 8), columns=5, ax=left)
    left.set_title("the weights of 0 to 4 and of 5 to 9")
    nn.plots.cost_curves({"training": result}, curve="training_cost", ax=right)
    nn.plots.cost_curves({"validation": result}, curve="validation_cost", ax=right)
    right.set_ylabel("cost J without penalty")
    right.set_title(f"validation accuracy {network.score(result.params, *validation):.1%}")
    return figure


if __name__ == "__main__":
    draw().savefig("digits.png")
