"""The first weights. Drawn on the host from one generator, so that a seed gives the same network on every backend."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

SCHEMES = {
    "small": lambda n_prev, n: 0.01,
    "he": lambda n_prev, n: sqrt(2 / n_prev),
    "xavier": lambda n_prev, n: sqrt(2 / (n_prev + n)),
    "lecun": lambda n_prev, n: sqrt(1 / n_prev),
    "zeros": lambda n_prev, n: 0.0,
}
"""The standard deviation of W[l] from n[l-1] and n[l]: the lecture's 0.01; He et al., ICCV 2015; Glorot & Bengio,
AISTATS 2010; LeCun et al., Efficient BackProp, 1998, which the lecture calls Xavier initialisation and takes for tanh;
and zeros, under which every hidden unit of a layer stays equal to every other."""


def initial_layers(sizes: Sequence[int], scheme: str, generator: "Generator") -> list[tuple[np.ndarray, np.ndarray]]:
    """W[l] normal with the scheme's standard deviation and b[l] = 0, for l = 1…L, in float64."""
    layers = []
    for n_prev, n in pairwise(sizes):
        W = generator.standard_normal((n, n_prev)) * SCHEMES[scheme](n_prev, n)
        layers.append((W, np.zeros((n, 1))))
    return layers
