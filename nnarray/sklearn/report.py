"""The records and the output of an estimator's training."""

from typing import TYPE_CHECKING, NamedTuple

from nnarray.core.typing import Array
from nnarray.engine import Batch
from nnarray.sklearn.descent import EstimatorDescent
from nnarray.training.history import Epoch
from nnarray.training.progress import Silent, progress_bar

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP


class Report:
    """Records and prints each iteration."""

    def __init__(self, model: "MLP", work: EstimatorDescent, validation: Batch | None) -> None:
        self.model, self.work, self.validation = model, work, validation
        self.iterations = 0
        self.bar: Silent = progress_bar(model.max_iter, model.verbose == "progress")
        self.prints = bool(model.verbose) and model.verbose != "progress"
        if validation is not None:
            model.validation_scores_ = getattr(model, "validation_scores_", None) or []
            model.validation_loss_curve_ = getattr(model, "validation_loss_curve_", None) or []

    def iteration(self, loss: float, validated: "Validated | None") -> None:
        """Record an iteration's loss, and the validation figures if there are any."""
        model = self.model
        model.n_iter_ = self.iterations = self.iterations + 1
        model.loss_ = loss
        model.loss_curve_.append(loss)
        if self.prints:
            print(f"Iteration {model.n_iter_}, loss = {loss:.8f}")
        if validated is not None:
            model.validation_loss_curve_.append(validated.loss)
            model.validation_scores_.append(validated.score)
            if self.prints:
                print(f"Validation score: {validated.score:f}")
        self.bar.show(Epoch(self.iterations, loss, 0.0, 0.0, None, None if validated is None else validated.score))

    def validated(self) -> "Validated | None":
        """The loss and the score of the validation examples now; None where there are none."""
        if self.validation is None:
            return None
        J, A = self.work.cost_and_prediction(self.validation, self.work.given)
        weights, to_numpy = self.validation.weights, self.work.backend.to_numpy
        Y: Array = self.validation.Y
        score = self.model._score(to_numpy(Y).T, to_numpy(A).T, None if weights is None else to_numpy(weights)[0])
        return Validated(J, score)


class Validated(NamedTuple):
    """The loss and the score of the validation examples."""

    loss: float
    score: float
