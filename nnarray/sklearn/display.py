"""The curve of a training run, as a Display in scikit-learn's manner."""

from collections.abc import Sequence
from typing import Any, Self

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


class LossCurveDisplay:
    """The loss over the iterations, and that of the validation examples where there are any.

    Use `from_estimator`.

    Parameters
    ----------
    loss_curve : sequence of float
        The training loss, with the penalty, after each iteration.
    validation_loss_curve : sequence of float, optional
        The loss of the validation examples.
    estimator_name : str, optional
        For the legend.

    Attributes
    ----------
    figure_, ax_, lines_
        matplotlib's figure, axes and list of lines, after `plot`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from nnarray.sklearn import MLPClassifier
    >>> model = MLPClassifier(early_stopping=True, random_state=0, tol=0.01).fit(*load_iris(return_X_y=True))
    >>> LossCurveDisplay.from_estimator(model).figure_.savefig("/dev/null", format="png")
    """

    def __init__(
        self,
        *,
        loss_curve: Sequence[float],
        validation_loss_curve: Sequence[float] | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.loss_curve, self.validation_loss_curve = loss_curve, validation_loss_curve
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, name: str | None = None, **line: Any) -> Self:
        """The curve of a fitted `MLPClassifier` or `MLPRegressor`.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted; or a pipeline that ends in one, or a search whose `best_estimator_` is one.
        ax : matplotlib axes, optional
            Where to draw; left out, in a new figure.
        name : str, optional
            For the legend; left out, the estimator's class.
        **line
            Arguments of matplotlib's `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        NotFittedError
            For what is not fitted, or has no `loss_curve_` (scikit-learn's own with 'lbfgs').
        ImportError
            Where matplotlib is missing (the extra `plot`).
        """
        estimator = _last_of(estimator)
        check_is_fitted(estimator, "loss_curve_")
        display = cls(
            loss_curve=estimator.loss_curve_,
            validation_loss_curve=getattr(estimator, "validation_loss_curve_", None),
            estimator_name=name or type(estimator).__name__,
        )
        return display.plot(ax, **line)

    def plot(self, ax: Any = None, *, name: str | None = None, **line: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax, name, **line
            As for `from_estimator`; a `name` left out is `estimator_name`.

        Returns
        -------
        LossCurveDisplay
            Itself.

        Raises
        ------
        ImportError
            Where matplotlib is missing (the extra `plot`).
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots()
        name = name or self.estimator_name
        curves = {"training (with penalty)": self.loss_curve, "validation": self.validation_loss_curve}
        self.lines_ = [
            drawn
            for what, curve in curves.items()
            if curve
            for drawn in ax.plot(
                range(1, len(curve) + 1), curve, **{"label": f"{name}, {what}" if name else what} | line
            )
        ]
        ax.set(xlabel="iteration", ylabel="loss")
        if ax.get_xscale() == "linear":
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _last_of(estimator: Any) -> Any:
    """What was trained: the last step of a pipeline, the best of a search."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        else:
            return estimator
