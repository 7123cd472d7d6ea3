"""What training gives back, and what it keeps where it diverges."""

from typing import Any, NamedTuple

from nnarray.network.parameters import Parameters
from nnarray.training.history import History
from nnarray.training.state import State


class DivergenceError(FloatingPointError):
    """The cost or the weights stopped being finite in training.

    Attributes
    ----------
    params : Parameters
        Of the last epoch after which they were finite.
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
    """What training gives back."""

    params: Parameters
    """the trained parameters: the best ones where `patience` was given, else the last; averaged with `average`"""
    history: History
    """the epochs"""
    stopped: str
    """what ended the training: "epochs", "patience", "callback" or "interrupt" """
    best_epoch: int | None
    """the epoch with the lowest cost, that of the validation examples where there are any; None if no epoch ended.
    Where a whole batch is taken at once and there are no validation examples, a cost is that of the parameters before
    the epoch's update, and those are what `patience` gives back, unless the last parameters are better still"""
    state: State
    """the optimiser's state that belongs to `params`, or to the trained ones that were averaged, in `position.params`;
    `optimizer.update` can go on with it, and `train`"""

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        shown = {"stopped": self.stopped, "best_epoch": self.best_epoch, "params": self.params, "state": self.state}
        return table(("TrainingResult", ""), shown.items()) + self.history._repr_html_()
