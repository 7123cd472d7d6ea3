"""What a program takes of the arguments of a call."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any


def taking(indices: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes the items of these indices of a sequence, by one call into C where there are several."""
    return itemgetter(*indices) if len(indices) > 1 else lambda given: tuple([given[i] for i in indices])
