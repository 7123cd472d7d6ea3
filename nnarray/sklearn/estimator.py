"""The base of the classifier and the regressor: from a table to the engine and back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from nnarray import engine
from nnarray.backends import NUMPY, Backend, all_finite, choose, is_sparse, quiet
from nnarray.core.typing import Array
from nnarray.network import Network, Parameters
from nnarray.network.batch_norm import NormalizedParameters, first_statistics, folded
from nnarray.network.chunked import Chunked
from nnarray.network.numbers import require_penalties
from nnarray.sklearn import bridge, chunks, small_tables, solvers
from nnarray.sklearn.averaging import Kept, Trained, trained_by
from nnarray.sklearn.descent import EstimatorDescent, NormalizedEstimatorDescent, ReportedNetwork
from nnarray.sklearn.entry import (
    Examples,
    as_batch,
    enter,
    enter_validation,
    float_name,
    has_validation,
    is_wider_than_float32,
    own_backend,
    transposed,
)
from nnarray.sklearn.optimizers import Optimizer, writable
from nnarray.sklearn.private import available_where, check_same_namespace, fits, random_state_of
from nnarray.sklearn.settings import STOCHASTIC_SOLVERS, ActivationName, Settings, checked_units, hidden_names


def has_partial_fit(model: "MLP") -> bool:
    """Whether the solver takes batches; raises AttributeError where it doesn't."""
    if model.solver not in STOCHASTIC_SOLVERS:
        msg = f"partial_fit is only available for stochastic optimizers. {model.solver} is not stochastic."
        raise AttributeError(msg)
    return True


class MLP(Settings, ABC):
    """The base class of a multi-layer perceptron in scikit-learn's style: use `MLPClassifier` or `MLPRegressor`."""

    hidden_layer_sizes: Any
    activation: ActivationName | Sequence[ActivationName]
    _has_numeric_y: ClassVar[bool]
    _plain_y: ClassVar[str]
    """the kinds of NumPy's dtypes of a y that needs no conversion"""
    _is_normalized = False
    """whether what is fitted has batch normalisation"""

    coefs_: list[Any]
    intercepts_: list[Any]
    n_features_in_: int
    feature_names_in_: Any
    n_outputs_: int
    n_layers_: int
    out_activation_: str
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: Any  # a float, and with early_stopping None; the three below are None without validation examples
    best_validation_score_: Any
    validation_scores_: Any
    validation_loss_curve_: Any

    @fits
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train from initial parameters, or with `warm_start` from those of the last call.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            The examples, as rows. For a dask array or dataframe, the sums over each chunk of rows are computed on the
            worker that holds it; y and `sample_weight` are fetched to the client. Each batch is then drawn from one
            chunk: chunks come in random order, their rows shuffled, so a `batch_size` of thousands is worth its
            communication. Values are validated during training.
        y : array, shape (n_samples,) or (n_samples, n_outputs)
            The labels, or for a regressor the numbers.
        sample_weight : array, shape (n_samples,), optional
            Example weights ≥ 0, which multiply the losses.
        X_val, y_val, sample_weight_val : optional
            Validation examples, as X, y and `sample_weight`: their loss and score after each epoch are recorded, and
            with `early_stopping` they decide instead of a share of X. (They are nnarray's, under the names that
            scikit-learn's gradient boosting has for them.)

        Returns
        -------
        Self

        Raises
        ------
        ValueError
            For data and settings that don't fit, and where training ends in parameters that are not finite.
        TypeError
            For a regressor's y that holds no numbers, and a sparse X on another backend than "numpy".
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=False)

    @available_where(has_partial_fit)
    @fits
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch over these examples, from where the last call left off.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        Self

        Raises
        ------
        AttributeError
            With the solver 'lbfgs', which takes no batches.
        ValueError, TypeError
            As `fit` does, and for another number of features.
        """
        return self._fit(X, y, sample_weight, (None, None, None), incremental=True)

    @abstractmethod
    def _targets(self, y: Any, *, incremental: bool | None) -> Array:
        """Y of shape (m, n_outputs); `incremental` None means that y are validation examples."""

    @abstractmethod
    def _output(self) -> str:
        """scikit-learn's name of the output."""

    @abstractmethod
    def _score(self, Y: Array, A: Array, weights: Array | None) -> float:
        """How well the predictions A fit the targets Y, both (m, n_outputs) and on the host."""

    @quiet
    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any], *, incremental: bool) -> Self:
        units = checked_units(self.hidden_layer_sizes)
        begins = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if not begins and not chunks.is_dask_collection(X):
            check_same_namespace(X, self, attribute="_first_coefs", method="partial_fit" if incremental else "fit")
        examples = enter(self, X, y, sample_weight, incremental=incremental, reset=begins)
        sizes = (int(examples.X.shape[1]), *units, int(examples.Y.shape[1]))
        hidden_names(self.activation, len(units))
        solvers.check(self, len(units), incremental=incremental)
        dtype = float_name(self.dtype, examples.X) if begins else float_name(None, self.coefs_[0])
        further = enter_validation(self, *validation, outputs=sizes[-1]) if has_validation(validation) else None
        require_penalties(dtype, alpha=float(self.alpha), l1=float(self.l1))
        backend = choose(self.backend, own_backend(examples.X))
        with backend.current():
            self._train(backend, sizes, dtype, examples, further, begins=begins, incremental=incremental)
        return self

    def _train(
        self,
        backend: Backend,
        sizes: tuple[int, ...],
        dtype: str,
        examples: Examples,
        validation: Examples | None,
        *,
        begins: bool,
        incremental: bool,
    ) -> None:
        """Train on this backend a network of these sizes."""
        own = own_backend(examples.X)
        batch = as_batch(examples, backend, dtype, sizes)
        validating = None if validation is None else as_batch(validation, backend, dtype, sizes)
        self.n_outputs_ = sizes[-1]
        own_state = vars(self).get("_random_state") if vars(self).get("_seeds_itself") else None
        self._random_state = random_state_of(self.random_state, own_state)
        self._seeds_itself = isinstance(self.random_state, Integral)
        if begins:
            self._initialize(sizes, dtype, own)
        network = self._network()
        if network.sizes != sizes:
            msg = (
                f"the model was fitted as a network of sizes {network.sizes}; hidden_layer_sizes and y now say {sizes}"
            )
            raise ValueError(msg)
        if network.batch_norm != self.batch_norm:
            msg = f"the model was fitted with batch_norm={network.batch_norm}, which now is {self.batch_norm}"
            raise ValueError(msg)
        work = self._descent(network, batch, backend, own)
        fit = solvers.fit_lbfgs if self.solver == "lbfgs" else solvers.fit_stochastic
        try:
            with backend.untracked():
                fit(self, work, batch, validating, incremental=incremental)
        finally:
            batch.release()
            self._publish(work)
        if not all_finite(work.variables, backend):
            msg = (
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
            raise ValueError(msg)

    def _descent(self, network: ReportedNetwork, batch: Any, backend: Backend, own: Backend) -> EstimatorDescent:
        """The network with the parameters from which training starts or resumes."""
        options: dict[str, Any] = {"home": own, "l2": float(self.alpha), "l1": float(self.l1), "workers": self.workers}
        if not network.batch_norm:
            descent = chunks.ChunkedDescent if isinstance(batch, Chunked) else EstimatorDescent
            return descent(network, self._standing(backend), backend, **options)
        if batch.columns < 2:
            msg = "batch_norm needs at least 2 examples, as one has no variance, got n_samples = 1"
            raise ValueError(msg)
        variables, size = self._standing(backend), engine.batch_norm.theta_size(network.sizes)
        kind = chunks.NormalizedChunkedDescent if isinstance(batch, Chunked) else NormalizedEstimatorDescent
        return kind(network, variables[:size], backend, statistics=variables[size:], **options)

    def _class_weighted(self, weights: Array | None, y: Any, *, incremental: bool | None) -> Array | None:
        """The examples' weights with those of their classes; a regressor has none."""
        return weights

    def _initialize(self, sizes: tuple[int, ...], dtype: str, own: Backend) -> None:
        """The first parameters: W and b uniform in ±sqrt(6 / (n[l-1] + n[l])), for the logistic function ±sqrt(2 / …).

        Glorot & Bengio, AISTATS 2010, drawn as scikit-learn draws them.
        """
        self.n_iter_, self.t_ = 0, 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output()
        names = hidden_names(self.activation, len(sizes) - 2)
        layers: list[tuple[Array, ...]] = []
        for l, (n_prev, n) in enumerate(pairwise(sizes)):
            name = names[min(l, len(names) - 1)] if names else self.activation
            bound = np.sqrt((2.0 if name in ("sigmoid", "logistic") else 6.0) / (n_prev + n))
            W = self._random_state.uniform(-bound, bound, (n_prev, n)).T
            layers.append((W, self._random_state.uniform(-bound, bound, n)[:, None]))
        self._is_normalized = bool(self.batch_norm)
        if self._is_normalized:  # the same W; b of a hidden layer would be taken out with the mean
            layers = [(W, np.zeros_like(b), np.ones_like(b)) for W, b in layers[:-1]] + layers[-1:]
        variables = own.asarray(NUMPY.primitives.join(layers), dtype)
        if self._is_normalized:
            variables = own.xp.concat([variables, first_statistics(sizes, variables, own)])
        self._show(Trained(variables), sizes, own)
        solvers.begin(self, variables, own)

    def _network(self) -> ReportedNetwork:
        """The architecture that is trained."""
        sizes = (int(self.coefs_[0].shape[0]), *(int(C.shape[1]) for C in self.coefs_))
        hidden, output = hidden_names(self.activation, len(sizes) - 2), bridge.OUTPUTS[self.out_activation_]
        return ReportedNetwork(sizes, hidden, output, self._is_normalized)

    def _standing(self, backend: Backend) -> Array:
        """The vector that training resumes from: that of `coefs_` and `intercepts_`, unless another was kept."""
        dtype = float_name(None, self.coefs_[0])
        if self._trained is not None:
            return writable(backend.asarray(self._trained.variables, dtype))
        kept = self._kept_views
        if kept is not None and kept.backend == backend:
            return kept.theta
        return backend.primitives.join([(W, b) for W, b in self._layers(backend, dtype)])

    @property
    def _kept_views(self) -> Kept | None:
        """The vector of `coefs_` and `intercepts_`, where they are its views."""
        kept, views = vars(self).get("_kept"), [*self.coefs_, *self.intercepts_]
        return kept if kept and all(a is b for a, b in zip(kept.views, views, strict=False)) else None

    @property
    def _trained(self) -> Trained | None:
        """The state that training resumes from, where that is not `coefs_` and `intercepts_`."""
        kept = vars(self).get("_kept_training")
        return None if kept is None else Trained(**kept)

    def _layers(self, backend: Backend, dtype: str) -> list[tuple[Array, Array]]:
        """(W, b) of each layer, from `coefs_` and `intercepts_`."""
        return [
            (backend.asarray(C, dtype).T, backend.xp.reshape(backend.asarray(b, dtype), (-1, 1)))
            for C, b in zip(self.coefs_, self.intercepts_, strict=True)
        ]

    def _publish(self, work: EstimatorDescent) -> None:
        """Make the trained vector the fitted parameters, on X's device."""
        kept = vars(self).get("_kept")
        if kept is not None and kept.theta is work.given:
            return
        self._show(trained_by(work.updates, work.variables, work.home), work.network.sizes, work.home)

    def _show(self, trained: Trained, sizes: tuple[int, ...], own: Backend) -> None:
        """Set `coefs_` and `intercepts_` to views of the vector that predicts, and keep the training state beside."""
        theta = trained.given
        if self._is_normalized:
            size = engine.batch_norm.theta_size(sizes)
            theta = folded(NormalizedParameters(theta[:size], sizes, own, theta[size:])).vector
        layers = own.primitives.split(theta, sizes)
        coefs, intercepts = [W.T for W, _ in layers], [own.xp.reshape(b, (-1,)) for _, b in layers]
        kept = Kept(theta, own, [*coefs, *intercepts])
        training = None if theta is trained.variables else trained._asdict()
        self.__dict__.update(  # at once, whatever interrupts
            coefs_=coefs, intercepts_=intercepts, _kept=kept, _kept_training=training
        )

    @quiet
    def to_network(self) -> tuple[Network, Parameters]:
        """The fitted network, and a copy of its parameters.

        Returns
        -------
        (Network, Parameters)
            `network.predict(params, X.T)` is A[L], (n_outputs, n_samples): the probability of class 1, of each class,
            of each label, or the numbers. The parameters are of the namespace and dtype of `coefs_`. With `batch_norm`
            the network has batch normalisation, too, and `network.folded(params)` gives what `coefs_` are.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        names: Any = self._network()
        network, backend, trained = Network(*names), own_backend(self.coefs_[0]), self._trained
        if not network.batch_norm or trained is None:
            pairs = self._layers(backend, float_name(None, self.coefs_[0]))
            return network, Parameters.from_layers([(backend.xp.asarray(W, copy=True), b) for W, b in pairs])
        given = backend.xp.asarray(trained.given, copy=True)
        return network, NormalizedParameters(given[: network.size], network.sizes, backend, given[network.size :])

    @property
    def _first_coefs(self) -> Array:
        return self.coefs_[0]

    @quiet
    def _predictions(self, X: Any, method: str) -> Array:
        """A[L] of each example, shape (m, n_outputs), where X is."""
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="_first_coefs", method=method)
        if (A := self._predicted_directly(X)) is not None:
            return A
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        own = own_backend(X)
        backend = choose(self.backend, own)
        dtype = float_name(None, self.coefs_[0])
        if self.dtype is None and is_wider_than_float32(X.dtype, own):
            dtype = "float64"
        network = self._network()._replace(batch_norm=False)
        X_T = transposed(X.tocsr() if is_sparse(X) else X, backend, dtype, network.sizes)
        with backend.untracked(), backend.current():
            A = engine.predict(X_T, self._layers(backend, dtype), network, backend, workers=self.workers)
        A = own.asarray(A.T)
        return writable(np.ascontiguousarray(A)) if own.is_host else A

    def _predicted_directly(self, X: Any) -> Array | None:
        """The same of a small table that needs no conversion; else None."""
        kept = self._kept_views
        if kept is None or self.workers is not None or not small_tables.takes(self, X):
            return None
        if not choose(self.backend, kept.backend).is_host:
            return None
        A = engine.native_calls.predict(self._network()._replace(batch_norm=False), kept.theta, X.T)
        return None if A is None else np.ascontiguousarray(A.T)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_kept", None)  # coefs_ and intercepts_ hold the same numbers
        if "_optimizer" in state:
            state["_optimizer"] = state["_optimizer"].plain()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(plain := self.__dict__.get("_optimizer"), dict):
            self._optimizer = Optimizer.from_plain(plain)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags
