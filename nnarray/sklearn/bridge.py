"""Estimators as networks, and networks as fitted estimators."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer

from nnarray.backends import NUMPY
from nnarray.network import Network, Parameters
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.entry import enter_normalized
from nnarray.network.network import require_network
from nnarray.sklearn import solvers
from nnarray.sklearn.averaging import Trained
from nnarray.sklearn.private import get_namespace
from nnarray.sklearn.settings import ACTIVATIONS

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP

OUTPUTS = {"logistic": "sigmoid", "softmax": "softmax", "identity": "identity", "exp": "exp"}
"""scikit-learn's names of the outputs, and nnarray's."""

OWN_ACTIVATIONS = {own: name for name, own in ACTIVATIONS.items()}
OWN_OUTPUTS = {own: name for name, own in OUTPUTS.items()}


def settings_of(network: Network) -> dict[str, Any]:
    """The parameters of an estimator with the network's hidden layers."""
    names = [OWN_ACTIVATIONS[name] for name in network.hidden]
    activation = names[0] if len(set(names)) == 1 else names or "relu"
    settings = {"hidden_layer_sizes": network.sizes[1:-1], "activation": activation}
    return settings | ({"batch_norm": True} if network.batch_norm else {})


def enter(network: Network, params: Any) -> Parameters:
    """Parameters that fit the network; raises TypeError and ValueError for what doesn't."""
    require_network(network)
    if network.batch_norm or isinstance(params, NormalizedParameters):
        entered: Parameters = enter_normalized(network, params)
        network.folded(entered)  # without averages, it says so
        return entered
    entered = Parameters.from_layers(params)
    if entered.sizes != network.sizes:
        msg = f"params must fit the network of sizes {network.sizes}, got sizes {entered.sizes}"
        raise ValueError(msg)
    return entered


def fill(model: "MLP", network: Network, params: Parameters) -> None:
    """Set the model's fitted state to these parameters: on the host, unless scikit-learn dispatches to their device."""
    own = params.backend if get_namespace(params.vector)[1] else NUMPY
    variables = own.xp.asarray(own.asarray(params.variables, params.dtype), copy=True)
    model.n_features_in_, model.n_outputs_ = network.sizes[0], network.sizes[-1]
    model.n_layers_, model.n_iter_, model.t_ = len(network.sizes), 0, 0
    model.out_activation_ = OWN_OUTPUTS[network.output]
    model._is_normalized = network.batch_norm
    model._show(Trained(variables), network.sizes, own)
    solvers.begin(model, variables, own)


def binarizer(network: Network, classes: Any) -> LabelBinarizer:
    """The binarizer from labels to the network's targets. Raises ValueError for classes that don't fit it."""
    n_L = network.sizes[-1]
    kind = "multiclass" if network.output == "softmax" else "binary" if n_L == 1 else "multilabel-indicator"
    count = 2 if kind == "binary" else n_L
    known = np.arange(count) if classes is None else np.asarray(classes)
    if known.shape != (count,) or np.unique(known).shape != (count,) or np.any(np.sort(known) != known):
        msg = f"classes must be the {count} different labels of the network's output in ascending order, got {known}"
        raise ValueError(msg)
    if kind == "multilabel-indicator" and classes is not None and known.tolist() != list(range(count)):
        msg = f"classes of {count} labels, each of them 0 or 1, must be left out, got {classes!r}"
        raise ValueError(msg)
    made = LabelBinarizer().fit(np.eye(count, dtype=int) if kind == "multilabel-indicator" else known)
    made.y_type_ = kind  # of two classes in two units, too
    return made
