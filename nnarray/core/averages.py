"""Exponentially weighted averages, v_t = beta v_{t-1} + (1-beta) x_t from v_0 = 0: of about the last 1/(1-beta) values.

The weights in v_t add up to 1 - beta^t, so that the first averages are too small; v_t / (1 - beta^t) corrects them.
"""

from collections.abc import Iterator, Sequence

from nnarray.core.typing import Array


def running_mean(mean: Array, value: Array, beta: float) -> Array:
    """beta mean + (1-beta) value."""
    return beta * mean + (1 - beta) * value


def corrected_mean(mean: Array, beta: float, t: int) -> Array:
    """mean / (1 - beta^t), of a mean of t = 1, 2, … values that began at 0: the bias correction."""
    return mean / (1 - beta**t)


def exponentially_weighted_averages(values: Sequence[Array], *, beta: float) -> Iterator[Array]:
    """The average of the first value, of the first two, …, each corrected."""
    mean = 0.0
    for t, value in enumerate(values, 1):
        mean = running_mean(mean, value, beta)
        yield corrected_mean(mean, beta, t)
