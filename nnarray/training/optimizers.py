"""Optimisers: the update rules of core/updates.py with their hyperparameters and their state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from nnarray import engine
from nnarray.backends import Backend, quiet, same_backend
from nnarray.core import updates
from nnarray.core.typing import Array, Namespace
from nnarray.network.batch_norm import NormalizedParameters, enter
from nnarray.network.keywords import with_explained_init
from nnarray.network.numbers import check_number
from nnarray.network.parameters import Parameters
from nnarray.training.state import MEANS, State

LearningRate: TypeAlias = float | Callable[[int], float]
"""A number, or a schedule: a callable from the number of updates made so far."""


class Optimizer(ABC):
    """An update rule with its hyperparameters. Optimisers hold no numbers that change: those are in the state."""

    learning_rate: LearningRate
    """alpha ≥ 0, or a schedule: a function of the number of updates made so far"""
    remembers: ClassVar[tuple[str, ...]] = ()
    """the running means in its state, by the names of their fields: v, s or u"""

    def __init_subclass__(cls) -> None:
        """Check what the rule remembers."""
        names = cls.remembers
        if isinstance(names, str) or len({*names}) < len(names) or not {*names} <= {*MEANS}:
            msg = f"remembers must name vectors of a State, each once, of {MEANS}, got {names!r}"
            raise TypeError(msg)

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        if not callable(self.learning_rate):
            self._check("learning_rate")
        for name in ("beta", "beta1", "beta2"):
            if hasattr(self, name):
                self._check(name, below=1.0)
        if hasattr(self, "eps"):
            self._check("eps")

    def _check(self, name: str, below: float = math.inf) -> None:
        """Make a hyperparameter a Python float: a NumPy scalar would make float64 of float32 arrays."""
        object.__setattr__(self, name, check_number(getattr(self, name), name, at_least=0.0, below=below))

    @quiet
    def init(self, params: Any) -> State:
        """The state before the first update: no updates made, running means zero.

        Parameters
        ----------
        params : Parameters or sequence of (W, b)
            What is to be updated.

        Returns
        -------
        State
            In the parameters' dtype, on their backend.

        Raises
        ------
        ValueError
            For shapes that make no network.
        TypeError
            For what holds no real numbers.
        """
        params = enter(params)
        return self.init_vector(params.vector, params.backend)

    def update(self, params: Any, gradients: Any, state: State) -> tuple[Parameters, State]:
        """New parameters and state; the old ones are not modified.

        Parameters
        ----------
        params, gradients : Parameters or sequence of (W, b)
            Of the same sizes.
        state : State
            What `init` or the last update gave.

        Returns
        -------
        (Parameters, State)

        Raises
        ------
        ValueError
            If the gradients or the state are of other sizes than the parameters; for parameters with averages of batch
            normalisation, and gradients without the mean and variance of their batch.
        TypeError
            For what is no state.
        """
        if type(params) is Parameters is type(gradients) and params.sizes == gradients.sizes and type(state) is State:
            found = self._directly(params, gradients.vector, state)
            if found is not None:
                return found
        return self._update(params, gradients, state)

    def _directly(self, params: Parameters, g: Any, state: State) -> tuple[Parameters, State] | None:
        """`update` by the fast paths, for plain vectors and a rule that does not override `update_vector`."""
        if type(self).update_vector is not Optimizer.update_vector:
            return None
        names = self.remembers
        vectors = [params.vector, *(getattr(state, name) for name in names)]
        given = self.step, vectors, g
        made = engine.native_calls.update(*given, state.t + 1, lambda: self.alpha(state.t))
        if made is None:
            made = engine.replayed.update(*given, params.backend, state.t + 1, lambda: self.alpha(state.t))
        if made is None:
            return None
        theta, *means = made
        return params.replace(theta), State(state.t + 1, **dict(zip(names, means, strict=True)))

    @quiet
    def _update(self, params: Any, gradients: Any, state: State) -> tuple[Parameters, State]:
        params, gradients = enter(params), enter(gradients)
        same_backend(params=params.backend, gradients=gradients.backend)
        if params.sizes != gradients.sizes or isinstance(params, NormalizedParameters) != isinstance(
            gradients, NormalizedParameters
        ):
            msg = f"gradients must be of the sizes of params, {params!r}, got {gradients!r}"
            raise ValueError(msg)
        self.check_state(state, params)
        g = gradients.to(params.backend, params.dtype).vector
        means = {name: params.backend.asarray(getattr(state, name), params.dtype) for name in self.remembers}
        theta, state = self.update_vector(params.vector, g, state._replace(**means), params.backend)
        return params.moved(theta, gradients), state

    def check_state(self, state: Any, params: Parameters) -> None:
        """Validate that `update` can continue from a state.

        Parameters
        ----------
        state : State
            What `init` or the last update gave.
        params : Parameters
            What is to be updated.

        Raises
        ------
        TypeError
            For what is no state.
        ValueError
            For one of another rule or of other sizes than `params`.
        """
        if not isinstance(state, State):
            msg = f"state must be what init or the last update gave, got {type(state).__name__}"
            raise TypeError(msg)
        sizes = dict.fromkeys(self.remembers, params.vector.shape[0])
        if state.average is not None:
            sizes["average"] = params.variables.shape[0]
        for name, size in sizes.items():
            mean = getattr(state, name)
            found = None if mean is None else tuple(mean.shape)
            if found != (size,):
                expected = f"a running mean {name} of shape ({size},)"
                msg = f"state must be of {type(self).__name__} for these params, with {expected}, got {found}"
                raise ValueError(msg)

    def alpha(self, t: int) -> float:
        """The learning rate of the next update.

        Parameters
        ----------
        t : int
            How many updates were made.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If a schedule gives no finite number ≥ 0.
        """
        rate = self.learning_rate
        return _scheduled(rate, t) if callable(rate) else float(rate)

    def init_vector(self, theta: Array, backend: Backend) -> State:
        """`init` on the bare vector theta.

        Parameters
        ----------
        theta : array, shape (size,)
            The parameters.
        backend : Backend
            Where they are.

        Returns
        -------
        State
        """
        with backend.current():
            return State(0, **{name: backend.xp.zeros_like(theta) for name in self.remembers})

    def update_vector(
        self,
        theta: Array,
        g: Array,
        state: State,
        backend: Backend,
        *,
        in_place: bool = False,
    ) -> tuple[Array, State]:
        """`update` on bare vectors.

        Parameters
        ----------
        theta, g : array, shape (size,)
            The parameters and their gradients, of one dtype.
        state : State
            What `init_vector` or the last update gave.
        backend : Backend
            Where they are.
        in_place : bool, default=False
            Whether theta and the running means may be overwritten.

        Returns
        -------
        (array, State)
            The new theta, shape (size,), and state.
        """
        means = [getattr(state, name) for name in self.remembers]
        theta, *means = engine.update(
            self.step, [theta, *means], g, backend, t=state.t + 1, alpha=self.alpha(state.t), in_place=in_place
        )
        return theta, State(state.t + 1, **dict(zip(self.remembers, means, strict=True)))

    @abstractmethod
    def step(self, *vectors: Any, **given: Any) -> Sequence[Array]:  # noqa: D417
        """The equations of update number t at rate alpha: theta and the running means, from those before it.

        Called as `step(*vectors, g=g, t=t, alpha=alpha, xp=xp)`; a subclass names them.
        A custom rule is a subclass with this method. It may use anything in the namespace `xp`; a rule written with
        operators and elementwise functions of the standard, without branching on values, runs as a compiled program.
        What it reads besides its arguments and the optimiser's own attributes (a global, a variable of an enclosing
        function) may be traced once, as a constant.

        Parameters
        ----------
        *vectors : array, shape (size,)
            Theta and the running means that the rule `remembers`, in that order.
        g : array, shape (size,)
            The gradient.
        t : int
            1 for the first update.
        alpha : float
            The learning rate.
        xp : namespace
            The functions of the arrays.

        Returns
        -------
        tuple of array, shape (size,)
            Theta and the running means after the update, a tuple even for theta alone; other dtypes are cast to that
            of g. Other shapes are a ValueError in `update`, and what is no such tuple is a TypeError.
        """


@quiet
def _scheduled(rate: Callable[[int], float], t: int) -> float:
    return check_number(rate(t), f"learning_rate({t})", at_least=0.0)


@with_explained_init
@dataclass(frozen=True)
class GradientDescent(Optimizer):
    """theta ← theta - alpha g.

    Parameters
    ----------
    learning_rate : float or callable, default=0.1
        alpha ≥ 0, or a schedule: a function of the number of updates made so far.

    Examples
    --------
    >>> import numpy as np
    >>> params = Parameters.from_layers([(np.array([[1.0, 2.0]]), np.array([[0.0]]))])
    >>> optimizer = GradientDescent(learning_rate=0.5)
    >>> params, state = optimizer.update(params, params, optimizer.init(params))
    >>> params.vector.tolist(), state.t
    ([0.5, 1.0, 0.0], 1)
    """

    learning_rate: LearningRate = 0.1

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:  # noqa: D102
        (theta,) = vectors
        return [updates.gradient_descent(theta, g, alpha=alpha)]


@with_explained_init
@dataclass(frozen=True)
class Momentum(Optimizer):
    """v ← beta v + (1-beta) g;  theta ← theta - alpha v.

    PyTorch and scikit-learn leave out the factor (1-beta): alpha here is their rate divided by (1-beta).

    Parameters
    ----------
    learning_rate : float or callable, default=0.1
        alpha ≥ 0, or a schedule: a function of the number of updates made so far.
    beta : float, default=0.9
        In [0, 1).
    """

    learning_rate: LearningRate = 0.1
    beta: float = 0.9
    remembers: ClassVar[tuple[str, ...]] = ("v",)

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:  # noqa: D102
        theta, v = vectors
        return updates.momentum(theta, g, v, alpha=alpha, beta=self.beta)


@with_explained_init
@dataclass(frozen=True)
class Nesterov(Momentum):
    """v as in Momentum;  theta ← theta - alpha (beta v + (1-beta) g).

    Parameters
    ----------
    learning_rate : float or callable, default=0.1
        alpha ≥ 0, or a schedule: a function of the number of updates made so far.
    beta : float, default=0.9
        In [0, 1).
    """

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:  # noqa: D102
        theta, v = vectors
        return updates.nesterov(theta, g, v, alpha=alpha, beta=self.beta)


@with_explained_init
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """s ← beta s + (1-beta) g²;  theta ← theta - alpha g / (sqrt(s) + eps).

    Parameters
    ----------
    learning_rate : float or callable, default=0.001
        alpha ≥ 0, or a schedule: a function of the number of updates made so far.
    beta : float, default=0.9
        In [0, 1).
    eps : float, default=1e-8
        ≥ 0.
    """

    learning_rate: LearningRate = 0.001
    beta: float = 0.9
    eps: float = 1e-8
    remembers: ClassVar[tuple[str, ...]] = ("s",)

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:  # noqa: D102
        theta, s = vectors
        return updates.rmsprop(theta, g, s, alpha=alpha, beta=self.beta, eps=self.eps, xp=xp)


@with_explained_init
@dataclass(frozen=True)
class Adam(Optimizer):
    """v, s the running means of g, g², both corrected for their start at zero; theta ← theta - alpha v/(sqrt(s) + eps).

    eps is added to the corrected root, as in the paper (Kingma & Ba, ICLR 2015) and PyTorch.

    Parameters
    ----------
    learning_rate : float or callable, default=0.001
        alpha ≥ 0, or a schedule: a function of the number of updates made so far.
    beta1, beta2 : float, default=0.9, 0.999
        Of the means of g and g², in [0, 1).
    eps : float, default=1e-8
        ≥ 0.
    """

    learning_rate: LearningRate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    remembers: ClassVar[tuple[str, ...]] = ("v", "s")

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:  # noqa: D102
        theta, v, s = vectors
        return updates.adam(theta, g, v, s, t=t, alpha=alpha, beta1=self.beta1, beta2=self.beta2, eps=self.eps, xp=xp)
