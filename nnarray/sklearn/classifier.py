"""The classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import type_of_target, unique_labels

from nnarray.backends import is_sparse, quiet, to_numpy
from nnarray.core.typing import Array
from nnarray.network import Network
from nnarray.network.keywords import with_explained_init
from nnarray.sklearn import bridge
from nnarray.sklearn.chunks import answers, by_parts, is_dask_collection
from nnarray.sklearn.entry import moved
from nnarray.sklearn.estimator import MLP, has_partial_fit
from nnarray.sklearn.private import (
    StrOptions,
    available_where,
    check_partial_fit_first_call,
    fits,
    get_namespace,
    get_namespace_and_device,
    move_to,
    settled,
)
from nnarray.sklearn.settings import ActivationName


@with_explained_init
@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLP):
    """Multi-layer perceptron classifier: scikit-learn's MLPClassifier on nnarray's engine, with additional features.

    Binary, multiclass or multilabel (y of zeros and ones, one column per label). The loss is the log-loss. With the
    same `random_state`, in float64, its numbers are those of scikit-learn 1.9.

    Parameters
    ----------
    <shared parameters>

    class_weight : dict, list of dict, 'balanced' or None, default=None
        *nnarray's.* Class weights, which multiply `sample_weight`: a dict by class, for multilabel y a list of one dict
        per label; 'balanced' weighs all alike, n_samples / (n_classes count). `partial_fit` doesn't support 'balanced'.

    Attributes
    ----------
    classes_ : ndarray or list of ndarray of shape (n_classes,)
        The class labels.

    coefs_, intercepts_ : list of arrays
        The weights of layer l = 0, 1, …, of shape (n units in, n units out), and its biases, in the namespace and on
        the device of X. Predictions use them: folded with `batch_norm`, averaged with `average`. With either,
        training resumes from parameters kept separately, and writing to `coefs_` has no effect on it.

    loss_, best_loss_ : float
        The last and the lowest loss, with the penalty; `best_loss_` is None with `early_stopping`, absent for 'lbfgs'.

    loss_curve_ : list of float
        The loss of each iteration. (For 'lbfgs' too; that is nnarray's.)

    validation_scores_, validation_loss_curve_ : list of float or None
        The score (accuracy, R²) and the loss without penalty of the validation examples after each iteration, where
        there are any. *The losses are nnarray's.*

    best_validation_score_ : float or None
        The score of the parameters that `early_stopping` restored.

    n_iter_, t_ : int
        The iterations of the last `fit`, and the examples seen by 'sgd' and 'adam'.

    n_layers_, n_outputs_, n_features_in_ : int
        The number of layers, including the input layer, of units in the last one, and of features.

    feature_names_in_ : ndarray of str
        The names of the features, if X had such.

    out_activation_ : str
        'logistic' for two classes and for several labels, 'softmax' for several classes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=0)).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    hidden_layer_sizes: Any = (100,)
    activation: ActivationName | Sequence[ActivationName] = "relu"
    class_weight: Any = field(default=None, kw_only=True)

    loss: ClassVar[str] = "log_loss"
    _has_numeric_y: ClassVar[bool] = False
    _plain_y: ClassVar[str] = "biufU"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    @available_where(has_partial_fit)
    @fits
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch over these examples, from where the last call left off.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array, shape (n_classes,), optional
            All classes that may occur in any call. Required in the first call, optional in later ones.

        Returns
        -------
        Self

        Raises
        ------
        AttributeError
            With the solver 'lbfgs', which takes no batches.
        ValueError, TypeError
            As `fit` does, for classes missing or changed, for a y that is none of them, and for
            class_weight='balanced'.
        """
        if self.class_weight == "balanced":
            msg = "class_weight='balanced' needs all examples; give partial_fit's class_weight as a dict"
            raise ValueError(msg)
        if classes is not None:
            classes = self._classes_of_all_calls(classes, X)
        if check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
        self._fit(X, y, sample_weight, (None, None, None), incremental=True)
        return self

    def _classes_of_all_calls(self, classes: Any, X: Any) -> Any:
        """The argument on X's device; None where it only repeats the known classes."""
        if hasattr(self, "classes_") and np.array_equal(to_numpy(self.classes_), np.unique(to_numpy(classes))):
            return None
        xp, is_array_api, device = get_namespace_and_device(X)
        return (
            moved(classes if hasattr(classes, "dtype") else np.asarray(classes), xp, device)
            if is_array_api
            else classes
        )

    @classmethod
    @settled
    @quiet
    def from_network(cls, network: Network, params: Any, classes: Any = None, **parameters: Any) -> Self:
        """A fitted classifier that predicts as the network does, and can be trained further by `partial_fit`.

        Parameters
        ----------
        network : Network
            With the output 'softmax' (one class of several) or 'sigmoid' (two classes in one unit, or several labels).
        params : Parameters or sequence of (W, b)
            Its parameters, of any namespace; they are copied.
        classes : array-like of shape (n_classes,), optional
            The labels of its units in ascending order, for a single unit those of 0 and 1; left out, 0, 1, … Several
            sigmoid units are independent labels, each 0 or 1, and take no classes.
        **parameters
            Further parameters of the estimator, such as `solver`.

        Returns
        -------
        MLPClassifier

        Raises
        ------
        TypeError
            For what is no network.
        ValueError
            For another output, and for parameters or classes that don't fit.

        Examples
        --------
        >>> network = Network((2, 3), output="softmax")
        >>> model = MLPClassifier.from_network(network, network.init(seed=0), classes=["a", "b", "c"])
        >>> model.predict([[1.0, 0.0]]).tolist()
        ['b']
        """
        params = bridge.enter(network, params)
        if network.output not in ("sigmoid", "softmax"):
            msg = f"a classifier's network has the output 'sigmoid' or 'softmax', got {network.output!r}"
            raise ValueError(msg)
        model = cls(**bridge.settings_of(network) | parameters)
        model._label_binarizer = bridge.binarizer(network, classes)
        model.classes_ = model._label_binarizer.classes_
        bridge.fill(model, network, params)
        return model

    @settled
    @quiet
    @wraps(ClassifierMixin.score)
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy."""
        if not is_dask_collection(X):
            return float(super().score(X, y, sample_weight))
        y, predicted, weights = answers(self, X, y, sample_weight)
        return float(accuracy_score(y, predicted, sample_weight=weights))

    @by_parts
    @settled
    @quiet
    def predict(self, X: Any) -> Array:
        """The class of each example, the one of the highest probability; of two, the second where its own is above 0.5.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            The examples, as rows; of a dask array or dataframe, a dask array comes back, computed when it is asked for.

        Returns
        -------
        array, shape (n_samples,) or (n_samples, n_outputs)
            Of `classes_`; where y had a column for each label, 0 and 1.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            For another number of features, and values that are not finite.
        """
        return self._labels(self._predictions(X, "predict"))

    @by_parts
    @settled
    @quiet
    def predict_proba(self, X: Any) -> Array:
        """The probability of each class.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            As in `predict`.

        Returns
        -------
        array, shape (n_samples, n_classes) or (n_samples, n_outputs)
            In the order of `classes_`; where y had a column for each label, of its being 1.
            Where X is, float64 where X or the fitted parameters are, else float32.

        Raises
        ------
        NotFittedError, ValueError
            As `predict` does.
        """
        return self._probabilities(X, "predict_proba")

    @by_parts
    @settled
    @quiet
    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of `predict_proba`, -∞ of a probability of 0.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            As in `predict`.

        Returns
        -------
        array, shape (n_samples, n_classes) or (n_samples, n_outputs)
            As `predict_proba`.

        Raises
        ------
        NotFittedError, ValueError
            As `predict` does.
        """
        A = self._probabilities(X, "predict_log_proba")
        xp, _ = get_namespace(A)
        with np.errstate(divide="ignore"):  # a probability of 0 has the logarithm -∞
            return xp.log(A)

    def _probabilities(self, X: Any, method: str) -> Array:
        A = self._predictions(X, method)
        if self.n_outputs_ > 1:
            return A
        xp, _ = get_namespace(A)
        return xp.concat([1 - A, A], axis=1)

    def _targets(self, y: Any, *, incremental: bool | None) -> Array:
        if incremental is not None and (not hasattr(self, "classes_") or (not self.warm_start and not incremental)):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(y, incremental=incremental)
        if y.ndim == 1 and self._label_binarizer.y_type_ in ("binary", "multiclass"):
            Y = y[:, None] == self.classes_[None, :]  # as the binarizer does, without all its checks
            return Y if self._label_binarizer.y_type_ == "multiclass" else Y[:, 1:] if Y.shape[1] > 1 else ~Y
        Y = self._label_binarizer.transform(y)
        xp, _ = get_namespace(Y)
        return xp.astype(Y, xp.bool)

    def _check_classes(self, y: Any, *, incremental: bool | None) -> None:
        """Raise ValueError for classes that this model doesn't have; a warm start requires all of them."""
        labels = self.classes_.shape[0] if self._label_binarizer.y_type_.startswith("multilabel") else None
        if incremental is None and labels is not None and (y.ndim == 1 or y.shape[1] != labels):
            msg = f"y_val must have a column for each of the {labels} labels, got shape {tuple(y.shape)}"
            raise ValueError(msg)
        own, wants_all = to_numpy(self.classes_), incremental is not None and self.warm_start
        if not wants_all and y.ndim == 1 and np.all(np.any(to_numpy(y)[:, None] == own, axis=1)):
            return
        classes = np.unique(to_numpy(y)) if y.ndim == 1 else to_numpy(unique_labels(y))
        if wants_all:
            if set(classes.tolist()) != set(own.tolist()):
                msg = (
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {own}, `y` has {classes}"
                )
                raise ValueError(msg)
        elif len(np.setdiff1d(classes, own, assume_unique=True)):
            what = "`y`" if incremental is not None else "`y_val`"
            msg = f"{what} has classes not in `self.classes_`. `self.classes_` has {own}. 'y' has {classes}."
            raise ValueError(msg)

    def _class_weighted(self, weights: Array | None, y: Any, *, incremental: bool | None) -> Array | None:
        if self.class_weight is None:
            return weights
        columns = y.toarray() if is_sparse(y) else to_numpy(y)
        columns = columns[:, None] if columns.ndim == 1 else columns
        if incremental is not None:
            self._class_weights = self._weights_of_classes(columns)
        of_classes = np.ones(columns.shape[0])
        for column, table in zip(columns.T, self._class_weights, strict=True):
            for label, weight in table:
                of_classes[column == label] *= weight
        return of_classes if weights is None else to_numpy(weights) * of_classes

    def _weights_of_classes(self, columns: np.ndarray) -> list[list[tuple[Any, float]]]:
        """For each column of y, its labels and what each of them weighs."""
        labels, wanted = columns.shape[1], self.class_weight
        if wanted == "balanced":
            each = [np.unique(column) for column in columns.T]
            wanted = [wanted] * labels
        elif labels == 1 and isinstance(wanted, dict):
            each, wanted = [to_numpy(self.classes_)], [wanted]
        elif labels > 1 and isinstance(wanted, list) and len(wanted) == labels:
            each = [np.array([0, 1])] * labels
        else:
            msg = f"class_weight must be 'balanced' or a dict, for {labels} labels a list of dicts; got {wanted!r}"
            raise ValueError(msg)
        return [
            list(zip(of, compute_class_weight(weights, classes=of, y=column), strict=True))
            for of, weights, column in zip(each, wanted, columns.T, strict=True)
        ]

    def _output(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _labels(self, A: Array) -> Array:
        """The predicted classes of A, (m, n_outputs)."""
        if type(A) is type(self.classes_) is np.ndarray and self._label_binarizer.y_type_ == "multiclass":
            return self.classes_[A.argmax(axis=1)]  # as the binarizer does, without all its checks
        xp, is_array_api = get_namespace(self.classes_)
        if is_array_api and get_namespace(A)[0] is not xp:
            A = move_to(A, xp=xp, device="cpu")  # the classes are text, which only NumPy has
        return self._label_binarizer.inverse_transform(A[:, 0] if self.n_outputs_ == 1 else A)

    def _score(self, Y: Array, A: Array, weights: Array | None) -> float:
        if self.classes_.shape[0] == 1:
            return 1.0  # whatever A is, `predict` says the one class
        said = (V.argmax(axis=1) if self.out_activation_ == "softmax" else V > 0.5 for V in (Y, A))
        return float(accuracy_score(*said, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
