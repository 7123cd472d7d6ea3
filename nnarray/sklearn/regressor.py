"""The regressor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from nnarray.backends import quiet
from nnarray.core.typing import Array
from nnarray.network import Network
from nnarray.network.keywords import with_explained_init
from nnarray.sklearn import bridge
from nnarray.sklearn.chunks import answers, by_parts, is_dask_collection
from nnarray.sklearn.estimator import MLP
from nnarray.sklearn.private import StrOptions, get_namespace, settled
from nnarray.sklearn.settings import ActivationName


@with_explained_init
@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLP):
    """Multi-layer perceptron regressor: scikit-learn's MLPRegressor on nnarray's engine, with additional features.

    y holds one or several numbers per example. With the same `random_state`, in float64, its numbers are those of
    scikit-learn 1.9.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        Half the squared error, or half the Poisson deviance for counts y ≥ 0, whose logarithm the network models.

    <shared parameters>

    Attributes
    ----------
    As those of `MLPClassifier`, without `classes_`; `out_activation_` is 'identity' or, for counts, 'exp'.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X, y).score(X, y) > 0.95
    True
    """

    loss: Literal["squared_error", "poisson"] = "squared_error"
    hidden_layer_sizes: Any = (100,)
    activation: ActivationName | Sequence[ActivationName] = "relu"

    _has_numeric_y: ClassVar[bool] = True
    _plain_y: ClassVar[str] = "biuf"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    @classmethod
    @settled
    @quiet
    def from_network(cls, network: Network, params: Any, **parameters: Any) -> Self:
        """A fitted regressor that predicts as the network does, and can be trained further by `partial_fit`.

        Parameters
        ----------
        network : Network
            With the output 'identity', or 'exp' for loss='poisson'.
        params : Parameters or sequence of (W, b)
            Its parameters, of any namespace; they are copied.
        **parameters
            Further parameters of the estimator, such as `solver`.

        Returns
        -------
        MLPRegressor

        Raises
        ------
        TypeError
            For what is no network.
        ValueError
            For another output, and for parameters that don't fit.

        Examples
        --------
        >>> network = Network((2, 3, 1), output="identity")
        >>> MLPRegressor.from_network(network, network.init(seed=0)).predict([[0.0, 0.0]]).tolist()
        [0.0]
        """
        params = bridge.enter(network, params)
        if network.output not in ("identity", "exp"):
            msg = f"a regressor's network has the output 'identity' or 'exp', got {network.output!r}"
            raise ValueError(msg)
        loss = "poisson" if network.output == "exp" else "squared_error"
        model = cls(**{"loss": loss, **bridge.settings_of(network), **parameters})
        bridge.fill(model, network, params)
        return model

    @settled
    @quiet
    @wraps(RegressorMixin.score)
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R²."""
        if not is_dask_collection(X):
            return float(super().score(X, y, sample_weight))
        y, predicted, weights = answers(self, X, y, sample_weight)
        return float(r2_score(y, predicted, sample_weight=weights))

    @by_parts
    @settled
    @quiet
    def predict(self, X: Any) -> Array:
        """The number of each example, or its numbers; with loss='poisson', the expected counts.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            The examples, as rows; for a dask array or dataframe, the result is a lazy dask array.

        Returns
        -------
        array, shape (n_samples,) or (n_samples, n_outputs)
            Where X is, float64 where X or the fitted parameters are, else float32.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            For another number of features, and values that are not finite.
        """
        A = self._predictions(X, "predict")
        return A[:, 0] if A.shape[1] == 1 else A

    def _targets(self, y: Any, *, incremental: bool | None) -> Array:
        xp, _ = get_namespace(y)
        if self.loss == "poisson" and xp.any(y < 0):
            msg = "Some value(s) of y are out of the valid range of the loss 'poisson': counts are ≥ 0."
            raise ValueError(msg)
        return y if y.ndim == 2 else y[:, None]

    def _output(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _score(self, Y: Array, A: Array, weights: Array | None) -> float:
        return float(r2_score(Y, A, sample_weight=weights)) if np.isfinite(A).all() else float("nan")
