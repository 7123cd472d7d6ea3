"""The update rules with scikit-learn's conventions, and its learning rates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, to_numpy
from nnarray.core import updates
from nnarray.core.typing import Array, Namespace

SMALLEST_RATE, RATE_DIVISOR = 1e-6, 5.0
"""The constants of the "adaptive" learning rate."""


@dataclass(frozen=True)
class Momentum:
    """v ← beta v + alpha g;  theta ← theta - v, or theta - (beta v + alpha g) for Nesterov.

    `core.updates` has the factor (1-beta) before g, and alpha outside of v. Here beta may be 1, and a change
    of alpha does not rescale the v accumulated so far.
    """

    beta: float
    nesterov: bool
    vectors: ClassVar[int] = 1

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:
        """Theta and v after the update."""
        theta, v = vectors
        v = self.beta * v + alpha * g
        return theta - (self.beta * v + alpha * g if self.nesterov else v), v


@dataclass(frozen=True)
class Adam:
    """Adam with eps added to the uncorrected root: core's, with an eps that is corrected as the root is."""

    beta1: float
    beta2: float
    eps: float
    vectors: ClassVar[int] = 2

    def step(self, *vectors: Array, g: Array, t: Any, alpha: float, xp: Namespace) -> Sequence[Array]:
        """Theta and the running means v and s after update t."""
        theta, v, s = vectors
        eps = self.eps / (1 - self.beta2**t) ** 0.5
        return updates.adam(theta, g, v, s, t=t, alpha=alpha, beta1=self.beta1, beta2=self.beta2, eps=eps, xp=xp)


class Optimizer:
    """A rule with its state: the learning rate, the number of updates and the vectors that it remembers.

    The vectors are created at the first update.
    """

    def __init__(self, formula: Momentum | Adam, alpha: float) -> None:
        self.formula, self.alpha = formula, alpha
        self.t = 0
        self.vectors: Sequence[Array] = ()

    def move_to(self, backend: Backend, dtype: str) -> None:
        """Move the vectors to another backend or dtype."""
        self.vectors = [writable(backend.asarray(vector, dtype)) for vector in self.vectors]

    def plain(self) -> dict[str, Any]:
        """The optimiser as names, numbers and arrays, so that an estimator's file contains none of these classes."""
        rule = {"rule": type(self.formula).__name__, **asdict(self.formula)}
        vectors = [to_numpy(vector) for vector in self.vectors]
        numbers = {name: value for name, value in vars(self).items() if name != "formula"}
        return numbers | {"rate": type(self).__name__, "rule": rule, "vectors": vectors}

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "Optimizer":
        """The optimiser from what `plain` returned."""
        numbers = dict(plain)
        rule, optimizer = dict(numbers.pop("rule")), object.__new__(RATES[numbers.pop("rate")])
        vars(optimizer).update(numbers, formula=RULES[rule.pop("rule")](**rule))
        return optimizer

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update, in place on NumPy and CuPy."""
        self.t += 1
        vectors = [theta, *self.means(theta, backend)]
        theta, *self.vectors = engine.update(self.rule, vectors, g, backend, t=self.t, alpha=self.alpha, in_place=True)
        return theta

    @property
    def rule(self) -> engine.Rule:
        """The equations of an update."""
        return self.formula.step

    def means(self, theta: Array, backend: Backend) -> Sequence[Array]:
        """The running means, zero where there was no update yet."""
        self.vectors = self.vectors or [backend.xp.zeros_like(theta) for _ in range(self.formula.vectors)]
        return self.vectors

    def alphas(self, count: int) -> list[float]:
        """The learning rates of the next updates, which are all those of one epoch."""
        return [self.alpha] * count

    def made(self, count: int, means: Sequence[Array]) -> None:
        """After updates that compiled steps made, with the running means that they made."""
        self.t, self.vectors = self.t + count, means

    @property
    def learning_rate(self) -> float:
        """The current learning rate; Adam's with the corrections for its start."""
        if isinstance(self.formula, Adam) and self.t:
            return self.alpha * sqrt(1 - self.formula.beta2**self.t) / (1 - self.formula.beta1**self.t)
        return self.alpha

    def iteration_ends(self, seen: int) -> None:
        """After an epoch, with the number of examples seen so far."""

    def stops(self) -> tuple[bool, str]:
        """Whether training ends where it no longer gets better, and what to say of it."""
        return True, "Stopping."


class InverseScaling(Optimizer):
    """The rate alpha / (1 + examples seen)^power."""

    def __init__(self, formula: Momentum, alpha: float, power: float) -> None:
        super().__init__(formula, alpha)
        self.first_alpha, self.power = alpha, power

    def iteration_ends(self, seen: int) -> None:
        """After an epoch, with the number of examples seen so far."""
        self.alpha = self.first_alpha / (seen + 1) ** self.power


class Adaptive(Optimizer):
    """The rate is divided by 5 where training no longer gets better, until it is very small."""

    def stops(self) -> tuple[bool, str]:
        """Whether training ends where it no longer gets better, and what to say of it."""
        if self.alpha <= SMALLEST_RATE:
            return True, "Learning rate too small. Stopping."
        self.alpha /= RATE_DIVISOR
        return False, f"Setting learning rate to {self.alpha:f}"


def writable(x: Array) -> Array:
    """`x`, or a copy of a read-only NumPy array, such as a view of JAX's memory or of a mapped file."""
    return x.copy() if isinstance(x, np.ndarray) and not x.flags.writeable else x


RULES: dict[str, type[Momentum | Adam]] = {"Momentum": Momentum, "Adam": Adam}
RATES: dict[str, type[Optimizer]] = {rate.__name__: rate for rate in (Optimizer, InverseScaling, Adaptive)}
