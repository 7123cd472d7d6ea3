"""What is remembered between updates, and where a training run stands."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.network.parameters import Parameters


class Waiting(NamedTuple):
    """What early stopping has seen, after an epoch that was the best so far."""

    lowest: float
    """the lowest cost"""
    reference: float
    """the cost that the next ones are to fall below by min_delta"""
    waited: int
    """for how many epochs none did"""
    validated: bool
    """whether these are costs of validation examples"""


class Position(NamedTuple):
    """Where a training run stands after an epoch."""

    epoch: int
    """how many epochs were trained"""
    params: Parameters
    """the parameters"""
    order: Mapping[str, Any] | None
    """the state of the generator that draws the order of the examples; None for a stream"""
    masks: Mapping[str, Any]
    """the state of the generator of dropout's masks"""
    waiting: Waiting | None
    """what early stopping has seen, where this epoch was the best one"""
    averaged: int = 0
    """how many updates are in the average of the parameters"""
    beta: float | None = None
    """the beta of that average; None where there is none"""

    def __repr__(self) -> str:
        return f"Position(epoch={self.epoch}, …)"


class State(NamedTuple):
    """What an optimiser remembers between updates."""

    t: int
    """how many updates were made"""
    v: Array | None = None
    """the running mean of g, shape (size,), for the rules that have one"""
    s: Array | None = None
    """the running mean of g², shape (size,), for the rules that have one"""
    position: Position | None = None
    """where the run of `train` stands that gave this state, so that another one can go on; None after other updates"""
    average: Array | None = None
    """the running mean of theta, shape (size,), not corrected for its start at zero, of a run that averages; with batch
    normalisation, after it that of the statistics"""

    def __repr__(self) -> str:
        held = {name: _in_short(value) for name, value in self._asdict().items() if value is not None}
        return f"State({', '.join(f'{name}={text}' for name, text in held.items())})"

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        held = [(name, _in_short(value)) for name, value in self._asdict().items() if value is not None]
        return table(("State", ""), held)


def _in_short(value: Any) -> str:
    """An array as its dtype and shape, anything else as it is."""
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else f"<{value.dtype} {tuple(shape)}>"


def copied(theta: Array, backend: Backend) -> Array:
    """Theta as it is now: programs write the next one over it."""
    return theta.copy() if backend.compiles else theta
