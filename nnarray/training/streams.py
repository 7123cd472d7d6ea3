"""Examples that come batch by batch from outside."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from typing import Any, TypeAlias

from nnarray.engine import Batch

Given: TypeAlias = tuple[Any, Any, Any]
"""A batch as the stream yields it: X, Y, and weights or None."""


class Stream:
    """The batches of successive epochs: those that an iterable yields, or the iterables that a function returns.

    `first` is the first batch of the first epoch, as yielded. A stream draws nothing: its order is the iterable's.
    """

    is_whole = False
    state = drawn_from = None

    def __init__(self, source: Callable[[], Iterable[Any]] | Iterable[Any]) -> None:
        self.source = source
        epoch = self._epoch()
        self.first = next(epoch)
        self.begun: Iterator[Given] | None = chain([self.first], epoch)

    def entering(self, enter: Callable[[Any, Any, Any, str], Batch]) -> "Stream":
        """The stream with its batches validated by `enter`, which also gets their name for error messages."""
        self.enter = enter
        self.size = self.enter(*self.first, "batch 1: ").columns
        return self

    def epoch(self) -> list[Iterator[tuple[Batch, Any]]]:
        """The batches of the next epoch, each with the weight of its cost in the mean: its m."""
        epoch, self.begun = self.begun or self._epoch(), None
        return [map(self._entered, count(1), epoch)]

    def restore(self, state: Any) -> None:
        """Go on from another run; nothing was drawn."""

    def release(self) -> None:
        """Nothing is held."""

    def _entered(self, number: int, given: Given) -> tuple[Batch, Any]:
        batch = self.enter(*given, f"batch {number}: ")
        return batch, batch.m

    def _epoch(self) -> Iterator[Given]:
        """The next epoch's batches, as yielded. (Not a generator: closing one half-way may swallow an interrupt.)"""
        batches = iter(self.source() if callable(self.source) else self.source)
        first = next(batches, None)
        if first is None:
            msg = "X gave no batch in an epoch; one that is used up comes as the function that makes it"
            raise ValueError(msg)
        return map(_parts, chain([first], batches))


def _parts(given: Any) -> Given:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        msg = f"X must give batches (X, Y) or (X, Y, weights), got a {type(given).__name__}"
        if isinstance(given, tuple | list):
            msg += f" of {len(given)}"
        raise TypeError(msg)
    X, Y, *weights = given
    return X, Y, weights[0] if weights else None
