"""The result of training, and the error when it diverges."""

from typing import Any, NamedTuple

from nnarray.network.parameters import Parameters
from nnarray.training.history import History
from nnarray.training.state import State


class DivergenceError(FloatingPointError):
    """The cost or the weights stopped being finite in training.

    Attributes
    ----------
    params : Parameters
        Those after the last epoch in which they were finite.
    history : History
        The epochs up to it.
    """

    def __init__(self, message: str, params: Parameters, history: History) -> None:
        super().__init__(message)
        self.params = params
        self.history = history

    def __reduce__(self) -> tuple[Any, ...]:
        return DivergenceError, (str(self), self.params, self.history)


class TrainingResult(NamedTuple):
    """The result of training."""

    params: Parameters
    """the trained parameters: the best ones where `patience` was given, else the last; averaged with `average`"""
    history: History
    """the epochs"""
    stopped: str
    """what ended the training: "epochs", "patience", "callback" or "interrupt" """
    best_epoch: int | None
    """the epoch with the lowest cost, that of the validation examples where there are any; None if no epoch ended.
    With full batches and without validation examples, an epoch's cost is that of the parameters before its update, and
    `patience` restores those, unless the last parameters are better still"""
    state: State
    """the optimiser's state for `params`, or for the trained parameters behind the average, in `position.params`;
    `optimizer.update` and `train` can continue from it"""

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        shown = {"stopped": self.stopped, "best_epoch": self.best_epoch, "params": self.params, "state": self.state}
        return table(("TrainingResult", ""), shown.items()) + self.history._repr_html_()
