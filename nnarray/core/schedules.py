"""Learning-rate schedules: alpha as a function of the number of updates made before this one, 0, 1, 2, …

Any callable from a count to a float serves in their place. To count in epochs, multiply by the number of batches in
one: that is what `ExponentialDecay(0.1, 0.95, steps=batches)` says.
"""

from dataclasses import dataclass
from math import cos, isfinite, pi
from numbers import Integral, Real

COUNTS = ("steps", "warmup")
"""The fields that count updates."""


class Schedule:
    """A learning rate that changes: called with t, it gives alpha after t updates."""

    def __post_init__(self) -> None:
        """Raise ValueError unless every field is finite and ≥ 0, and `steps` at least 1; TypeError for no number."""
        for name, value in vars(self).items():
            kind, what = (Integral, "whole number") if name in COUNTS else (Real, "number")
            right = isinstance(value, kind) and not isinstance(value, bool)
            if not right:
                msg = f"{name} of {type(self).__name__} must be a {what}, got {value!r}"
                raise TypeError(msg)
            if not (isfinite(value) and value >= (1 if name == "steps" else 0)):
                msg = f"{name} of {type(self).__name__} must be ≥ {1 if name == 'steps' else 0}, got {value!r}"
                raise ValueError(msg)


@dataclass(frozen=True)
class Constant(Schedule):
    """alpha_0."""

    learning_rate: float

    def __call__(self, t: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """alpha_0 / (1 + decay t/steps), the lecture's 1/t decay."""

    learning_rate: float
    decay: float
    steps: int = 1

    def __call__(self, t: int) -> float:
        return self.learning_rate / (1 + self.decay * t / self.steps)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """alpha_0 decay^(t/steps)."""

    learning_rate: float
    decay: float
    steps: int = 1

    def __call__(self, t: int) -> float:
        return self.learning_rate * float(self.decay ** (t / self.steps))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """alpha_0 factor^⌊t/steps⌋: multiplied by `factor` every `steps` updates."""

    learning_rate: float
    factor: float
    steps: int

    def __call__(self, t: int) -> float:
        return self.learning_rate * float(self.factor ** (t // self.steps))


@dataclass(frozen=True)
class CosineWithWarmup(Schedule):
    """Up to alpha_0 in `warmup` equal steps, then half a cosine, which reaches `final` after `steps` updates.

    Loshchilov & Hutter, SGDR, ICLR 2017, without restarts.
    """

    learning_rate: float
    steps: int
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        """Besides, raise ValueError for a warm-up that outlasts the steps, and for a `final` above `learning_rate`."""
        super().__post_init__()
        if self.warmup > self.steps:
            msg = f"warmup of CosineWithWarmup must be ≤ steps = {self.steps}, got {self.warmup}"
            raise ValueError(msg)
        if self.final > self.learning_rate:
            msg = f"final of CosineWithWarmup must be ≤ learning_rate = {self.learning_rate}, got {self.final}"
            raise ValueError(msg)

    def __call__(self, t: int) -> float:
        if t < self.warmup:
            return self.learning_rate * (t + 1) / (self.warmup + 1)
        done = min((t - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.final + (self.learning_rate - self.final) * (1 + cos(pi * done)) / 2
