"""Weight averaging during an estimator's training."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.sklearn.optimizers import Optimizer, writable
from nnarray.training.averaging import AveragedRule, added, average_of, by_another_beta
from nnarray.training.descent import Descent
from nnarray.training.state import copied


class Trained(NamedTuple):
    """The state that training resumes from, where it differs from `coefs_` and `intercepts_`."""

    variables: Array
    """theta, and with batch normalisation the averages of mean and variance after it"""
    mean: Array | None = None
    """the running mean of that, not corrected for its start at zero; None where nothing is averaged"""
    number: int = 0
    """how many updates are in it"""
    beta: float = 0.0
    """that of the mean"""

    @property
    def given(self) -> Array:
        """The average, or the trained vector where there is none."""
        return self.variables if self.mean is None else average_of(self.mean, self.beta, self.number, self.variables)


class Averaged:
    """An optimiser, and the running mean of theta after its updates."""

    def __init__(self, optimizer: Optimizer, beta: float, mean: Array, count: int) -> None:
        self.optimizer, self.beta = optimizer, beta
        self.mean: Array | None = mean
        self.count = count
        self._rule = AveragedRule(optimizer.formula, beta).step

    @property
    def t(self) -> int:
        """How many updates were made."""
        return self.optimizer.t

    @property
    def rule(self) -> engine.Rule | None:
        """The equations of an update and of the mean."""
        return self._rule

    def means(self, theta: Array, backend: Backend) -> list[Array]:
        """The optimiser's running means, and that of theta."""
        return [*self.optimizer.means(theta, backend), self.mean]

    def alphas(self, count: int) -> list[float]:
        """The learning rates of the next updates."""
        return self.optimizer.alphas(count)

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update."""
        vectors, alpha = [theta, *self.means(theta, backend)], self.optimizer.alpha
        theta, *means = engine.update(self._rule, vectors, g, backend, t=self.t + 1, alpha=alpha, in_place=True)
        self.made(1, means)
        return theta

    def made(self, count: int, means: Sequence[Array]) -> None:
        """After updates that captured steps made, with the running means that they made."""
        *own, self.mean = means
        self.optimizer.made(count, own)
        self.count += count

    def average(self, variables: Array) -> Array:
        """The average so far."""
        return average_of(self.mean, self.beta, self.count, variables)

    def held(self, backend: Backend) -> tuple[Array, int]:
        """The mean as it is now, and how many updates are in it."""
        return copied(self.mean, backend), self.count

    def trained(self, variables: Array, home: Backend) -> Trained:
        """The state that training resumes from, on the backend `home`."""
        if self.mean is None:
            return Trained(variables)
        return Trained(variables, writable(home.asarray(self.mean)), self.count, self.beta)

    def go_back(self, held: Any) -> None:
        """Restore an earlier mean, or none."""
        self.mean, self.count = held or (None, 0)


class AveragedNormalized(Averaged):
    """The same with batch normalisation, whose averages are in the mean too: all is added once it has moved."""

    rule = None

    def means(self, theta: Array, backend: Backend) -> list[Array]:
        """The optimiser's running means."""
        return list(self.optimizer.means(theta, backend))

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update, which is not in the mean yet."""
        return self.optimizer.update(theta, g, backend)

    def add(self, variables: Array, backend: Backend) -> None:
        """Add theta and the averages, after an update, to the mean."""
        assert self.mean is not None
        self.mean = added(self.mean, self.beta, variables, backend)
        self.count += 1


def averaged(optimizer: Optimizer, beta: float, before: Trained | None, work: Descent) -> Averaged:
    """The optimiser with a mean of everything that `work` trains, continued from `before` or new."""
    mean, count = work.backend.xp.zeros_like(work.variables), 0
    if before is not None and before.mean is not None:
        mean, count = writable(work.backend.asarray(before.mean, work.dtype)), before.number
        mean = by_another_beta(mean, before.beta, beta, count)
    kind = AveragedNormalized if work.network.batch_norm else Averaged
    return kind(optimizer, beta, mean, count)
