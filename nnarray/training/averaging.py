"""Weight averaging: the running mean of theta after every update, beside the optimiser's own running means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.averages import corrected_mean, running_mean
from nnarray.core.typing import Array, Namespace
from nnarray.engine.rules import key_of
from nnarray.training.descent import Updates


@dataclass(frozen=True)
class AveragedRule:
    """An optimiser's rule and after it the running mean of theta, the last vector, as one rule."""

    optimizer: Any
    """the object whose `step` is the equations of an update"""
    beta: float

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:
        """The equations of update number t."""
        theta, *means = self.optimizer.step(*vectors[:-1], g=g, t=t, alpha=alpha, xp=xp)
        return [theta, *means, running_mean(vectors[-1], theta, self.beta)]


@dataclass(frozen=True)
class Mean:
    """The running mean alone, as a rule whose g is theta."""

    beta: float

    def step(self, *vectors: Array, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:
        """The equation."""
        return [running_mean(vectors[0], g, self.beta)]


def average_of(mean: Array, beta: float, count: int, trained: Array) -> Array:
    """The mean of `count` updates, corrected for its start at zero; the trained vector before the first update."""
    return corrected_mean(mean, beta, count) if count else trained


def by_another_beta(mean: Array, before: float, beta: float, count: int) -> Array:
    """A mean by the old beta, converted to one by `beta` with the same corrected average."""
    return corrected_mean(mean, before, count) * (1 - beta**count) if count and before != beta else mean


class Averaging:
    """An optimiser with its state, and the running mean of theta; `count` updates are in the mean."""

    def __init__(self, updates: Updates, mean: Array, beta: float) -> None:
        self.updates, self.mean, self.beta, self.count = updates, mean, beta, 0
        self._rule = _with_mean(updates.rule, beta)

    @property
    def t(self) -> int:
        """How many updates were made."""
        return self.updates.t

    @property
    def rule(self) -> engine.Rule | None:
        """The equations of an update and of the mean; None where the optimiser's may change or must be called."""
        return self._rule

    def means(self, theta: Array, backend: Backend) -> list[Array]:
        """The running means, that of theta last."""
        return [*self.updates.means(theta, backend), self.mean]

    def alphas(self, count: int) -> list[float]:
        """The learning rates of the next updates."""
        return self.updates.alphas(count)

    def average(self, variables: Array) -> Array:
        """What was averaged so far, corrected for the mean's start at zero; `variables` before the first update."""
        return average_of(self.mean, self.beta, self.count, variables)

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update, in place where arrays are mutable."""
        if self.rule is None:
            theta = self.updates.update(theta, g, backend)
            self.add(theta, backend)
            return theta
        vectors, (alpha,) = [theta, *self.means(theta, backend)], self.alphas(1)
        theta, *means = engine.update(self.rule, vectors, g, backend, t=self.t + 1, alpha=alpha, in_place=True)
        self.made(1, means)
        return theta

    def add(self, variables: Array, backend: Backend) -> None:
        """Add theta, or what else is averaged, to the mean after an update, in place where arrays are mutable."""
        rule = Mean(self.beta).step
        (self.mean,) = engine.update(rule, [self.mean], variables, backend, t=1, alpha=0.0, in_place=True)
        self.count += 1

    def made(self, count: int, means: Sequence[Array]) -> None:
        """Record updates made by compiled steps, with the running means they produced."""
        *own, self.mean = means
        self.updates.made(count, own)
        self.count += count

    def restore(self, mean: Array, count: int, beta: float | None) -> None:
        """Go on from a mean of `count` updates, made by another `beta` where one is given."""
        self.mean = mean if beta is None else by_another_beta(mean, beta, self.beta, count)
        self.count = count


class AveragingNormalized(Averaging):
    """Averaging of theta and the statistics of batch normalisation as one vector, added once both are updated.

    So the statistics are averaged as theta is, as by torch.optim.swa_utils.AveragedModel(…, use_buffers=True).
    """

    rule = None

    def means(self, theta: Array, backend: Backend) -> list[Array]:
        """The running means of the optimiser alone."""
        return list(self.updates.means(theta, backend))

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update; to the mean it is not added yet."""
        return self.updates.update(theta, g, backend)


def averaging(updates: Updates, variables: Array, beta: float, backend: Backend, *, normalized: bool) -> Averaging:
    """Averaging from its first update on, of vectors like `variables`."""
    kind = AveragingNormalized if normalized else Averaging
    return kind(updates, backend.xp.zeros_like(variables), beta)


def _with_mean(rule: engine.Rule | None, beta: float) -> engine.Rule | None:
    """The rule with the running mean of theta; None where there is no rule, or one that may change."""
    key = None if rule is None else key_of(rule)
    return None if key is None or key.state else AveragedRule(key.owner, beta).step
