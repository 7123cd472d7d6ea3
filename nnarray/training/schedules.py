"""Learning-rate schedules: alpha as a function of the number of updates made before this one, 0, 1, 2, …

Any callable from a count to a float can be used instead. All of them count updates; with `steps`, the number of
updates in an epoch, they count epochs, 0, 1, 2, …: smoothly, so that half of one passes in half an epoch, or with
`staircase=True` whole ones alone, so that alpha is constant within an epoch. The lecture's (course 2, week 2) are

    alpha_0 / (1 + decay · epoch)      InverseTimeDecay(alpha_0, decay, steps=batches, staircase=True)
    0.95^epoch alpha_0                 ExponentialDecay(alpha_0, 0.95, steps=batches, staircase=True)
    k / √epoch · alpha_0               InverseSquareRootDecay(alpha_0, k, steps=batches, staircase=True)
    k / √t · alpha_0                   InverseSquareRootDecay(alpha_0, k)
    a discrete staircase               StepDecay(alpha_0, 0.5, steps=updates)

of which the roots count the first epoch or update as 1, and the first two as 0, as its exercise does.
"""

from dataclasses import dataclass
from math import cos, inf, pi, sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np

COUNTS, UPPER = ("steps", "warmup"), {"warmup": "steps", "final": "learning_rate"}
"""The fields that count updates, and those that another field bounds."""


def begun(t: int, steps: int, *, staircase: bool) -> int:
    """The update from which alpha is computed: t itself, or in a staircase the first of its `steps` updates."""
    return t - t % steps if staircase else t


class Schedule:
    """A learning rate that changes: called with t, the number of updates made, it gives alpha, a float.

    All is computed in Python's numbers, of which `np.seterr` changes nothing; what a float cannot hold is infinite.

    Raises
    ------
    TypeError
        For a parameter that is not a number, or a `staircase` that is not True or False.
    ValueError
        For a number that is not finite or out of its bounds.
    """

    def __post_init__(self) -> None:
        """Raise TypeError for a field that is no number, ValueError for one that is not finite or out of its bounds."""
        for name, value in vars(self).items():
            if name == "staircase":
                _check_flag(name, value, self)
                continue
            is_number = isinstance(value, Integral if name in COUNTS else Real) and not isinstance(value, bool)
            if not is_number:
                msg = f"{name} of {type(self).__name__} must be a {'whole ' * (name in COUNTS)}number, got {value!r}"
                raise TypeError(msg)
            number = int(value) if name in COUNTS else _as_float(value)
            least, most = int(name == "steps"), vars(self).get(UPPER.get(name, ""), inf)
            if not least <= number <= most or number == inf:
                upper = f" and ≤ {UPPER[name]} = {most}" if name in UPPER else ""
                msg = f"{name} of {type(self).__name__} must be ≥ {least}{upper}, got {value!r}"
                raise ValueError(msg)
            object.__setattr__(self, name, number)

    def __call__(self, t: int) -> float:
        try:
            return self._rate(t.item() if isinstance(t, np.generic) else t)
        except OverflowError:
            return inf

    def _rate(self, t: int) -> float:
        """Alpha after t updates, a Python number."""
        raise NotImplementedError


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # of an int too large for a float
        return inf


def _check_flag(name: str, value: Any, schedule: Schedule) -> None:
    if not isinstance(value, bool):
        msg = f"{name} of {type(schedule).__name__} must be True or False, got {value!r}"
        raise TypeError(msg)


@dataclass(frozen=True)
class Constant(Schedule):
    """alpha_0, whatever is counted.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.

    Examples
    --------
    >>> Constant(0.1)(5)
    0.1
    """

    learning_rate: float

    def _rate(self, t: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """alpha_0 / (1 + decay t/steps): 1/t decay, which counts updates, or with `steps` epochs.

    With `staircase=True` and the batches of an epoch for `steps`, it is the lecture's alpha_0 / (1 + decay · epoch),
    epoch = 0, 1, 2, …

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    decay : float
        ≥ 0.
    steps : int, default=1
        ≥ 1: the updates in which t/steps grows by 1, such as the batches of an epoch.
    staircase : bool, default=False
        Whether alpha is constant within each `steps` updates: t/steps is rounded down.

    Examples
    --------
    >>> InverseTimeDecay(0.2, decay=1.0)(3)
    0.05
    >>> per_epoch = InverseTimeDecay(0.2, decay=1.0, steps=100, staircase=True)
    >>> per_epoch(99), per_epoch(100), per_epoch(399)
    (0.2, 0.1, 0.05)
    """

    learning_rate: float
    decay: float
    steps: int = 1
    staircase: bool = False

    def _rate(self, t: int) -> float:
        t = begun(t, self.steps, staircase=self.staircase)
        return self.learning_rate / (1 + self.decay * t / self.steps)


@dataclass(frozen=True)
class InverseSquareRootDecay(Schedule):
    """k alpha_0 / √(1 + t/steps): k/√t where t = 1, 2, … counts updates, or with `steps` k/√epoch.

    With `staircase=True` and the batches of an epoch for `steps`, it is the lecture's k/√epoch, epoch = 1, 2, …

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    k : float, default=1.0
        ≥ 0.
    steps : int, default=1
        ≥ 1: the updates in which t/steps grows by 1, such as the batches of an epoch.
    staircase : bool, default=False
        Whether alpha is constant within each `steps` updates: t/steps is rounded down.

    Examples
    --------
    >>> InverseSquareRootDecay(0.2)(3)
    0.1
    >>> per_epoch = InverseSquareRootDecay(0.2, k=1.5, steps=100, staircase=True)
    >>> per_epoch(399)  # the last update of the fourth epoch
    0.15000000000000002
    """

    learning_rate: float
    k: float = 1.0
    steps: int = 1
    staircase: bool = False

    def _rate(self, t: int) -> float:
        t = begun(t, self.steps, staircase=self.staircase)
        return self.learning_rate * self.k / sqrt(1 + t / self.steps)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """alpha_0 decay^(t/steps), which counts updates, or with `steps` epochs.

    With `staircase=True` and the batches of an epoch for `steps`, it is the lecture's 0.95^epoch alpha_0.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    decay : float
        ≥ 0.
    steps : int, default=1
        ≥ 1: the updates after which alpha is `decay` times as large.
    staircase : bool, default=False
        Whether alpha is constant within each `steps` updates: t/steps is rounded down.

    Examples
    --------
    >>> ExponentialDecay(0.4, decay=0.5, steps=10)(20)
    0.1
    >>> ExponentialDecay(0.4, decay=0.5, steps=10, staircase=True)(29)
    0.1
    """

    learning_rate: float
    decay: float
    steps: int = 1
    staircase: bool = False

    def _rate(self, t: int) -> float:
        t = begun(t, self.steps, staircase=self.staircase)
        return self.learning_rate * float(self.decay ** (t / self.steps))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """alpha_0 factor^⌊t/steps⌋: multiplied by `factor` every `steps` updates, the lecture's discrete staircase.

    Parameters
    ----------
    learning_rate : float
        alpha_0 ≥ 0.
    factor : float
        ≥ 0.
    steps : int
        ≥ 1.

    Examples
    --------
    >>> StepDecay(0.4, factor=0.5, steps=10)(19)
    0.2
    """

    learning_rate: float
    factor: float
    steps: int

    def _rate(self, t: int) -> float:
        return self.learning_rate * float(self.factor ** (t // self.steps))


@dataclass(frozen=True)
class CosineWithWarmup(Schedule):
    """Up to alpha_0 in `warmup` equal steps, then half a cosine, which reaches `final` after `steps` updates.

    It counts updates. Loshchilov & Hutter, SGDR, ICLR 2017, without restarts.

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

    def _rate(self, t: int) -> float:
        if t < self.warmup:
            return self.learning_rate * (t + 1) / (self.warmup + 1)
        done = min((t - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.final + (self.learning_rate - self.final) * (1 + cos(pi * done)) / 2
