"""The defaults of `nnarray train`, chosen by the size of the data and the kind of target, never by name."""

from itertools import pairwise

import numpy as np

import nnarray as nn
from nnarray.cli.targets import Target

DROPOUT = 0.2
VALIDATION = 0.2
TEST = 0.2
EPOCHS = 100
PATIENCE = 25
PENALTIES = {"sigmoid": 4.0, "softmax": 1.5, "identity": 16.0, "exp": 16.0}
LEARNING_RATES = {"rmsprop": 0.002, "adam": 0.002}
"""0.1 for the other optimisers."""

LITTLE_WORK = 10**7
"""Multiplications in a product below which several threads would mostly wait for each other."""


def default_hidden(n_x: int) -> tuple[int, ...]:
    """One hidden layer, of about four units per feature: a power of two from 64 to 256."""
    return (_power_of_two(4 * n_x, 64, 256),)


def default_batch_size(m: int) -> int:
    """About a 64th of the examples: a power of two from 16 to 256."""
    return _power_of_two(m / 64, 16, 256)


def default_l2(target: Target, m: int, batch_size: int) -> float:
    """A penalty for the kind of target, as found good on scikit-learn's bundled sets.

    A mini-batch of B examples divides lambda by B, so B/m makes it the same penalty as on all m examples at once.
    """
    return PENALTIES[target.output] * batch_size / m


def default_learning_rate(optimizer: str) -> float:
    """The first rate, in units that suit the optimiser."""
    return LEARNING_RATES.get(optimizer, 0.1)


def default_workers(network: nn.Network, batch_size: int) -> int | None:
    """One thread for small mini-batches; None, the library's own choice, for others."""
    largest = max(n_prev * n for n_prev, n in pairwise(network.sizes))
    return 1 if largest * batch_size < LITTLE_WORK else None


def _power_of_two(x: float, smallest: int, largest: int) -> int:
    return int(2 ** np.clip(np.round(np.log2(x)), np.log2(smallest), np.log2(largest)))
