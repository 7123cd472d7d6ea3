"""The state of an optimiser between updates, and the position of a training run."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.network.parameters import Parameters


class Waiting(NamedTuple):
    """The state of early stopping after an epoch that was the best so far."""

    lowest: float
    """the lowest cost"""
    reference: float
    """the cost that the next ones must undercut by min_delta"""
    waited: int
    """for how many epochs none did"""
    validated: bool
    """whether these are costs of validation examples"""


class Position(NamedTuple):
    """The position of a training run after an epoch."""

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


MEANS = ("v", "s", "u")
"""The fields of a state that an update rule may remember."""


class State(NamedTuple):
    """The state of an optimiser between updates."""

    t: int
    """how many updates were made"""
    v: Array | None = None
    """the running mean of g, shape (size,), for the rules that have one"""
    s: Array | None = None
    """the running mean of g², shape (size,), for the rules that have one"""
    position: Position | None = None
    """the position of the `train` run that returned this state, so that another can resume; None after other updates"""
    average: Array | None = None
    """the running mean of theta, shape (size,), not corrected for its start at zero, of a run that averages; with batch
    normalisation, after it that of the statistics"""
    u: Array | None = None
    """a third vector, shape (size,), for rules of a caller's own, such as the largest s of AMSGrad"""

    def __repr__(self) -> str:
        held = {name: _in_short(value) for name, value in self._asdict().items() if value is not None}
        return f"State({', '.join(f'{name}={text}' for name, text in held.items())})"

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        held = [(name, _in_short(value)) for name, value in self._asdict().items() if value is not None]
        return table(("State", ""), held)


def _in_short(value: Any) -> str:
    """An array as its dtype and shape, anything else unchanged."""
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else f"<{value.dtype} {tuple(shape)}>"


def copied(theta: Array, backend: Backend) -> Array:
    """A copy of theta, where its memory is overwritten with the next one."""
    return backend.copied(theta) if backend.overwrites else theta
