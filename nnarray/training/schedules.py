"""Learning-rate schedules: alpha as a function of the number of updates made before this one, 0, 1, 2, …

Any callable from a count to a float serves in their place. To count in epochs, multiply by the number of batches in
one: that is what `ExponentialDecay(0.1, 0.95, steps=batches)` says.
"""

from dataclasses import dataclass
from math import cos, inf, isfinite, pi
from numbers import Integral, Real

COUNTS, UPPER = ("steps", "warmup"), {"warmup": "steps", "final": "learning_rate"}
"""The fields that count updates, and those that another field bounds."""


class Schedule:
    """A learning rate that changes: called with t, the number of updates made, it gives alpha, a float."""

    def __post_init__(self) -> None:
        """Raise TypeError for a field that is no number, ValueError for one that is not finite or out of its bounds."""
        for name, value in vars(self).items():
            is_number = isinstance(value, Integral if name in COUNTS else Real) and not isinstance(value, bool)
            if not is_number:
                msg = f"{name} of {type(self).__name__} must be a {'whole ' * (name in COUNTS)}number, got {value!r}"
                raise TypeError(msg)
            least, most = int(name == "steps"), vars(self).get(UPPER.get(name, ""), inf)
            if not (isfinite(value) and least <= value <= most):
                upper = f" and ≤ {UPPER[name]} = {most}" if name in UPPER else ""
                msg = f"{name} of {type(self).__name__} must be ≥ {least}{upper}, got {value!r}"
                raise ValueError(msg)


@dataclass(frozen=True)
class Constant(Schedule):
    """alpha_0.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        For a number that is not finite or out of its bounds.

    Examples
    --------
    >>> Constant(0.1)(5)
    0.1
    """

    learning_rate: float

    def __call__(self, t: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """alpha_0 / (1 + decay t/steps), the lecture's 1/t decay.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    decay : float
        ≥ 0.
    steps : int, default=1
        ≥ 1: the updates in which t/steps grows by 1, such as the batches of an epoch.

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        For a number that is not finite or out of its bounds.

    Examples
    --------
    >>> InverseTimeDecay(0.2, decay=1.0)(3)
    0.05
    """

    learning_rate: float
    decay: float
    steps: int = 1

    def __call__(self, t: int) -> float:
        return self.learning_rate / (1 + self.decay * t / self.steps)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """alpha_0 decay^(t/steps).

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    decay : float
        ≥ 0.
    steps : int, default=1
        ≥ 1: the updates after which alpha is `decay` times as large.

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        For a number that is not finite or out of its bounds.

    Examples
    --------
    >>> ExponentialDecay(0.4, decay=0.5, steps=10)(20)
    0.1
    """

    learning_rate: float
    decay: float
    steps: int = 1

    def __call__(self, t: int) -> float:
        return self.learning_rate * float(self.decay ** (t / self.steps))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """alpha_0 factor^⌊t/steps⌋: multiplied by `factor` every `steps` updates.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    factor : float
        ≥ 0.
    steps : int
        ≥ 1.

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        For a number that is not finite or out of its bounds.

    Examples
    --------
    >>> StepDecay(0.4, factor=0.5, steps=10)(19)
    0.2
    """

    learning_rate: float
    factor: float
    steps: int

    def __call__(self, t: int) -> float:
        return self.learning_rate * float(self.factor ** (t // self.steps))


@dataclass(frozen=True)
class CosineWithWarmup(Schedule):
    """Up to alpha_0 in `warmup` equal steps, then half a cosine, which reaches `final` after `steps` updates.

    Loshchilov & Hutter, SGDR, ICLR 2017, without restarts.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    steps : int
        ≥ 1: the updates of the whole schedule, warmup included.
    warmup : int, default=0
        From 0 to `steps`: update t < warmup is made at alpha_0 (t + 1)/(warmup + 1).
    final : float, default=0.0
        From 0 to alpha_0.

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        For a number that is not finite or out of its bounds.

    Examples
    --------
    >>> schedule = CosineWithWarmup(0.1, steps=100, warmup=3)
    >>> schedule(0), schedule(3), schedule(100)
    (0.025, 0.1, 0.0)
    """

    learning_rate: float
    steps: int
    warmup: int = 0
    final: float = 0.0

    def __call__(self, t: int) -> float:
        if t < self.warmup:
            return self.learning_rate * (t + 1) / (self.warmup + 1)
        done = min((t - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.final + (self.learning_rate - self.final) * (1 + cos(pi * done)) / 2
