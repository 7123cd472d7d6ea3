"""The parameters of both estimators, and the values that each accepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator

from nnarray.backends import Backend
from nnarray.sklearn.private import Interval, Options, StrOptions

ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "leaky_relu": "leaky_relu",
    **{name: name for name in ("gelu", "gelu_tanh", "silu", "softplus", "elu", "selu")},
}
"""scikit-learn's names of the activations, and nnarray's."""

ActivationName: TypeAlias = Literal[
    "identity", "logistic", "tanh", "relu", "leaky_relu", "gelu", "gelu_tanh", "silu", "softplus", "elu", "selu"
]

STOCHASTIC_SOLVERS = ("sgd", "adam")

SHARED_PARAMETERS = """\
hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
        The units of each hidden layer.

    activation : {'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'gelu', 'gelu_tanh', 'silu', 'softplus', \
            'elu', 'selu'} or a list of these, default='relu'
        The activation of the hidden layers, one for all or one for each. *A list, and all after 'relu', are nnarray's.*

    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        'adam' (Kingma & Ba, 2015) and 'sgd' take batches; 'lbfgs' is SciPy's L-BFGS-B over all examples, good on small
        tables.

    alpha : float, default=0.0001
        The L2 penalty's strength: the loss gains alpha / 2m Σ‖W‖², m the examples of the batch or their weights' sum.

    batch_size : int or 'auto', default='auto'
        Examples per update of 'sgd' and 'adam'; 'auto' is min(200, n_samples).

    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        For 'sgd': `learning_rate_init` throughout; that divided by (1 + examples seen)^`power_t`, from the second epoch
        on; or divided by 5 whenever `n_iter_no_change` epochs brought no gain of `tol`, down to 1e-6.

    learning_rate_init : float, default=0.001
        The first learning rate of 'sgd' and 'adam'.

    power_t : float, default=0.5
        The exponent of 'invscaling'.

    max_iter : int, default=200
        The maximum number of epochs for 'sgd' and 'adam', of iterations for 'lbfgs'.

    shuffle : bool, default=True
        Whether 'sgd' and 'adam' shuffle the examples before each epoch.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial parameters, the split of `early_stopping`, the order of the examples and the dropped units.

    tol : float, default=1e-4
        The smallest gain in loss, or in validation score, that counts as an improvement; 'lbfgs' has converged where no
        entry of the gradient is larger.

    verbose : bool, int or 'progress', default=False
        Whether to print the loss after each iteration. *'progress' shows a progress bar on standard error instead; it
        is nnarray's.*

    warm_start : bool, default=False
        Whether `fit` starts from the parameters of the last `fit`.

    momentum : float, default=0.9
        The momentum of 'sgd', in [0, 1].

    nesterovs_momentum : bool, default=True
        Whether that is Nesterov's momentum.

    early_stopping : bool, default=False
        Whether 'sgd' and 'adam' hold out a share of the examples, stop when their score has not gained `tol` for
        `n_iter_no_change` epochs, and restore the parameters of the best score.

    validation_fraction : float, default=0.1
        The share set aside, unless `fit` is given validation examples.

    beta_1, beta_2 : float, default=0.9, 0.999
        The decay of Adam's running means, in [0, 1).

    epsilon : float, default=1e-8
        The constant that Adam adds to the root.

    n_iter_no_change : int, default=10
        The epochs without a gain of `tol` after which training ends.

    max_fun : int, default=15000
        The maximum number of function evaluations for 'lbfgs'.

    l1 : float, default=0.0
        *nnarray's.* The L1 penalty's strength: the loss of 'sgd' and 'adam' gains l1 / m Σ|W|.

    dropout : float or list of float, default=0.0
        *nnarray's.* The share of hidden units dropped in each update of 'sgd' and 'adam', one for all layers or one for
        each, in [0, 1) (inverted dropout; Srivastava et al., 2014).

    input_dropout : float, default=0.0
        *nnarray's.* The share of inputs dropped likewise.

    batch_norm : bool, default=False
        *nnarray's.* Batch normalisation of the hidden layers, before the activation: training uses each batch's own
        mean and variance (every batch has at least two examples; `sample_weight` does not enter them), prediction their
        exponentially weighted averages, like PyTorch's `BatchNorm1d`. `coefs_` and `intercepts_` are folded, so that
        they alone give the estimator's predictions; `to_network` returns the trained parameters, from which
        `partial_fit` and a warm start resume. 'lbfgs' uses mean and variance of all examples, and predicts with the
        last ones.

    average : float or None, default=None
        *nnarray's.* beta in [0, 1): `coefs_` and `intercepts_` are the averaged weights of 'sgd' and 'adam',
        exponentially weighted and corrected for their start, and with `batch_norm` their mean and variance too.
        Validation and `early_stopping` use them. `partial_fit` resumes from the trained weights and continues the
        average; every `fit` starts a new one.

    backend : {'numpy', 'cupy', 'torch', 'jax', 'auto'} or None, default=None
        *nnarray's.* Where to compute. None is where X is: on the CPU, or with scikit-learn's `array_api_dispatch` on
        the device of X. To a named backend X is moved once, and results are moved back to the device of X.

    dtype : {'float32', 'float64'} or None, default=None
        *nnarray's.* The dtype of the parameters; None is that of X, float64 if X holds no floats.

    workers : int or None, default=None
        *nnarray's.* The maximum thread count on NumPy; None is as many as the process may use."""


@dataclass(eq=False, repr=False, kw_only=True)
class Settings(BaseEstimator):
    """The parameters of both estimators but for those that scikit-learn takes by position."""

    solver: Literal["lbfgs", "sgd", "adam"] = "adam"
    alpha: float = 0.0001
    batch_size: int | Literal["auto"] = "auto"
    learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool | int | Literal["progress"] = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000
    l1: float = 0.0
    dropout: float | Sequence[float] = 0.0
    input_dropout: float = 0.0
    batch_norm: bool = False
    average: float | None = None
    backend: Literal["numpy", "cupy", "torch", "jax", "auto"] | Backend | None = None
    dtype: Literal["float32", "float64"] | None = None
    workers: int | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple, np.ndarray],
        "solver": [StrOptions({"lbfgs", *STOCHASTIC_SOLVERS})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose", StrOptions({"progress"})],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
        "average": [Interval(Real, 0, 1, closed="left"), None],
        "backend": [str, Backend, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "workers": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__doc__ is not None:
            cls.__doc__ = cls.__doc__.replace("<shared parameters>", SHARED_PARAMETERS)


def checked_units(hidden_layer_sizes: Any) -> list[int]:
    """The units of each hidden layer."""
    units = list(hidden_layer_sizes) if hasattr(hidden_layer_sizes, "__iter__") else [hidden_layer_sizes]
    if np.any(np.array(units) <= 0):
        msg = f"hidden_layer_sizes must be > 0, got {units}."
        raise ValueError(msg)
    if any(isinstance(n, bool) for n in units):
        msg = f"hidden_layer_sizes must be whole numbers, got {units}"
        raise TypeError(msg)
    return [index(n) for n in units]


def hidden_names(activation: str | Sequence[str], layers: int) -> tuple[str, ...]:
    """nnarray's name of each hidden layer's activation."""
    if isinstance(activation, str):
        return (ACTIVATIONS[activation],) * layers
    names = list(activation)
    if len(names) != layers or not set(names) <= set(ACTIVATIONS):
        msg = f"activation must be one of {set(ACTIVATIONS)} or a list of one per hidden layer ({layers}), got {names}"
        raise ValueError(msg)
    return tuple(ACTIVATIONS[name] for name in names)
