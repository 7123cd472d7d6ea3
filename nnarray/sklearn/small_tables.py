"""The fast path: small tables that are as a fitted model takes them, which it takes after a look of its own.

Whatever is not so is left to scikit-learn's checks, which convert, warn and say what is wrong, and take longer than a
step on one example.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nnarray.sklearn.estimator import MLP

FLOATS = np.dtype("float32"), np.dtype("float64")

MOST_ENTRIES = 2**16
"""Of a table for which the checks count."""


def takes(model: "MLP", X: Any) -> bool:
    """Whether X, whose values are not looked at, has the kind and the shape of what the model was fitted to."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype in FLOATS
        and X.shape[1] == model.n_features_in_
        and 0 < X.size <= MOST_ENTRIES
        and not hasattr(model, "feature_names_in_")  # scikit-learn warns of a table without names
    )


def takes_examples(model: "MLP", X: Any, y: Any) -> bool:
    """The same of X and y to go on with, and whether they are finite."""
    if not takes(model, X) or model.dtype not in (None, X.dtype.name):
        return False
    if type(y) is not np.ndarray or y.shape != X.shape[:1] or y.dtype.kind not in model._plain_y:
        return False
    return bool(np.isfinite(X).all()) and (y.dtype.kind != "f" or bool(np.isfinite(y).all()))
