"""Learning-rate schedules: alpha as a function of the number of updates made before this one, 0, 1, 2, …

Each is a plain value with an equality and a repr; any callable from a count to a float serves in its place. To count
in epochs, multiply by the number of batches in one: that is what `ExponentialDecay(0.1, 0.95, steps=batches)` says.
"""

from dataclasses import dataclass
from math import cos, pi


@dataclass(frozen=True)
class Constant:
    """alpha_0."""

    learning_rate: float

    def __call__(self, t: int) -> float:
        """The learning rate after `t` updates."""
        return self.learning_rate


@dataclass(frozen=True)
class InverseTimeDecay:
    """alpha_0 / (1 + decay t/steps), the lecture's 1/t decay."""

    learning_rate: float
    decay: float
    steps: int = 1

    def __call__(self, t: int) -> float:
        """The learning rate after `t` updates."""
        return self.learning_rate / (1 + self.decay * t / self.steps)


@dataclass(frozen=True)
class ExponentialDecay:
    """alpha_0 decay^(t/steps)."""

    learning_rate: float
    decay: float
    steps: int = 1

    def __call__(self, t: int) -> float:
        """The learning rate after `t` updates."""
        return self.learning_rate * float(self.decay ** (t / self.steps))


@dataclass(frozen=True)
class StepDecay:
    """alpha_0 factor^⌊t/steps⌋: multiplied by `factor` every `steps` updates."""

    learning_rate: float
    factor: float
    steps: int

    def __call__(self, t: int) -> float:
        """The learning rate after `t` updates."""
        return self.learning_rate * float(self.factor ** (t // self.steps))


@dataclass(frozen=True)
class CosineWithWarmup:
    """Linear from 0 up to alpha_0 in `warmup` updates, then half a cosine down to `final` at update `steps`.

    Loshchilov & Hutter, SGDR, ICLR 2017, without restarts.
    """

    learning_rate: float
    steps: int
    warmup: int = 0
    final: float = 0.0

    def __call__(self, t: int) -> float:
        """The learning rate after `t` updates."""
        if t < self.warmup:
            return self.learning_rate * (t + 1) / (self.warmup + 1)
        done = min((t - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.final + (self.learning_rate - self.final) * (1 + cos(pi * done)) / 2
