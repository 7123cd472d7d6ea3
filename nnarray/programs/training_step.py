"""What training steps read and write, on every target that makes a step one call."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class StepMasks(NamedTuple):
    """The masks D[1], …, D[L-1] of dropout that a step draws, from a stream of words of 64 bits."""

    units: Sequence[tuple[int, int, float]]
    """of each: the word from which it is drawn, counted from the first of the step, its units and their rate"""
    words: int
    """of a step"""


class StepArrays(NamedTuple):
    """The arrays of a training run.

    A step takes a batch of the `examples`, computes with the `layers` the `gradients`, and with g the `vectors` anew,
    in place.
    """

    examples: Sequence[Any]
    """X, Y and, if there are any, the weights, of all columns"""
    layers: Sequence[Any]
    """W[1], b[1], …, views of theta; and averages among them that a gradient writes over"""
    gradients: Sequence[Any]
    """dW[1], db[1], …, views of g; then those averages"""
    vectors: Sequence[Any]
    """theta, then the optimiser's running means"""
    g: Any
    """laid out as theta"""
    masks: StepMasks | None = None
    """those that are drawn on the device for each step"""
