"""scikit-learn's own MLPs as networks, and networks as scikit-learn's MLPs."""

from typing import Any

import numpy as np
from sklearn import neural_network as sklearn
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from nnarray.backends import require_concrete
from nnarray.network import Network, Parameters
from nnarray.sklearn.bridge import OUTPUTS, OWN_OUTPUTS, binarizer, enter
from nnarray.sklearn.estimator import MLP
from nnarray.sklearn.settings import ACTIVATIONS

THEIRS = {ACTIVATIONS[name]: name for name in ("identity", "logistic", "tanh", "relu")}
"""nnarray's names of the activations that scikit-learn has, and scikit-learn's."""


def from_sklearn(estimator: Any) -> tuple[Network, Parameters]:
    """The network of a fitted scikit-learn MLP, and a copy of its parameters.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Of `sklearn.neural_network`, fitted; one of `nnarray.sklearn` is converted by its `to_network`.

    Returns
    -------
    (Network, Parameters)
        `network.predict(params, X.T)` is A[L], (n_outputs, n_samples): the probability of class 1, of each class, of
        each label, or the numbers. In the dtype and the namespace of `coefs_`. To continue as nnarray's estimator:
        `nnarray.sklearn.MLPClassifier.from_network(network, params, classes=estimator.classes_)`.

    Raises
    ------
    TypeError
        For another estimator, such as a pipeline, whose last step is given instead.
    NotFittedError
        Before `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = np.linspace(0, 1, 20)[:, None], np.linspace(3, 4, 20)
    >>> model = MLPRegressor(hidden_layer_sizes=(8,), activation="tanh", solver="lbfgs", random_state=0).fit(X, y)
    >>> network, params = from_sklearn(model)
    >>> network
    Network(sizes=(1, 8, 1), hidden=('tanh',), output='identity')
    >>> np.allclose(network.predict(params, X.T)[0], model.predict(X))
    True
    """
    if isinstance(estimator, MLP):
        return estimator.to_network()
    if not isinstance(estimator, sklearn.MLPClassifier | sklearn.MLPRegressor):
        msg = (
            "estimator must be a fitted MLPClassifier or MLPRegressor of sklearn.neural_network, got "
            f"{type(estimator).__name__}{'; give its last step' if hasattr(estimator, 'steps') else ''}"
        )
        raise TypeError(msg)
    check_is_fitted(estimator)
    sizes = (estimator.n_features_in_, *(b.shape[0] for b in estimator.intercepts_))
    hidden: Any = ACTIVATIONS[estimator.activation]
    output: Any = OUTPUTS[estimator.out_activation_]
    pairs = [(C.T, b[:, None]) for C, b in zip(estimator.coefs_, estimator.intercepts_, strict=True)]
    return Network(sizes, hidden, output), Parameters.from_layers(pairs)


def to_sklearn(network: Network, params: Any, classes: Any = None) -> Any:
    """The network as a fitted MLPClassifier or MLPRegressor of `sklearn.neural_network`.

    Parameters
    ----------
    network : Network
        Its hidden layers have one activation of scikit-learn's: "identity", "sigmoid", "tanh" or "relu". One with batch
        normalisation becomes the plain one of `Network.folded`. "sigmoid" and "softmax" make a classifier, "identity"
        and "exp" a regressor.
    params : Parameters or sequence of (W, b)
        Its parameters, of any namespace; they are copied to the host.
    classes : array-like of shape (n_classes,), optional
        As in `nnarray.sklearn.MLPClassifier.from_network`.

    Returns
    -------
    MLPClassifier or MLPRegressor
        It predicts as the network does, and can be trained further by `partial_fit`.

    Raises
    ------
    TypeError
        For anything but a Network, and for classes of a regressor.
    ValueError
        For hidden layers that scikit-learn doesn't have, and for parameters or classes that don't fit.

    Examples
    --------
    >>> network = Network((2, 3), output="softmax")
    >>> to_sklearn(network, network.init(seed=0), classes=["a", "b", "c"]).predict([[1.0, 0.0]]).tolist()
    ['b']
    """
    entered = enter(network, params)
    require_concrete("nn.to_sklearn", params=entered.vector)
    network, entered = network.folded(entered)
    if len(set(network.hidden)) > 1 or not {*network.hidden} <= THEIRS.keys():
        msg = f"network must have one hidden activation of {', '.join(map(repr, THEIRS))}, got {network.hidden!r}"
        raise ValueError(msg)
    settings = {"hidden_layer_sizes": network.sizes[1:-1], "activation": THEIRS[(*network.hidden, "relu")[0]]}
    is_classifier = network.output in ("sigmoid", "softmax")
    if not is_classifier and classes is not None:
        msg = f"classes must be left out for the output {network.output!r}, which tells none"
        raise TypeError(msg)
    if is_classifier:
        model = sklearn.MLPClassifier(**settings)
        model._label_binarizer = binarizer(network, classes)
        model.classes_ = model._label_binarizer.classes_
    else:
        model = sklearn.MLPRegressor(loss="poisson" if network.output == "exp" else "squared_error", **settings)
    layers = [tuple(entered.backend.to_numpy(V) for V in layer) for layer in entered]
    model.coefs_, model.intercepts_ = [W.T.copy() for W, _ in layers], [b[:, 0].copy() for _, b in layers]
    model.n_features_in_, model.n_outputs_ = network.sizes[0], network.sizes[-1]
    model.n_layers_, model.out_activation_ = len(network.sizes), OWN_OUTPUTS[network.output]
    _begin(model)
    return model


def _begin(model: Any) -> None:
    """The state from which scikit-learn's `partial_fit` starts: no example seen, no loss yet."""
    model.n_iter_ = model.t_ = model._no_improvement_count = 0
    model.loss_curve_, model.best_loss_ = [], np.inf
    model.validation_scores_ = model.best_validation_score_ = None
    model._random_state = check_random_state(model.random_state)
