"""An optimiser with its state, as a run moves both."""

from collections.abc import Sequence

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.training.optimizers import Adam, GradientDescent, Momentum, Nesterov, Optimizer, RMSprop
from nnarray.training.state import State, copied

KEEP_NOTHING = (GradientDescent, Momentum, Nesterov, RMSprop, Adam)
"""Optimisers that hold none of the vectors they were given or made; one of the caller's own may."""


class Stateful:
    """An optimiser with its state, which moves on from update to update."""

    def __init__(self, optimizer: Optimizer, state: State) -> None:
        self.optimizer, self.state = optimizer, state

    @classmethod
    def first(cls, optimizer: Optimizer, theta: Array, backend: Backend) -> "Stateful":
        """Before the first update, with means in memory of their own: a caller's may begin at theta itself."""
        found = cls(optimizer, optimizer.init_vector(theta, backend))
        if not found.owns_vectors:
            means = {name: copied(getattr(found.state, name), backend) for name in optimizer.remembers}
            found.state = found.state._replace(**means)
        return found

    @property
    def owns_vectors(self) -> bool:
        """Whether nobody else may hold theta and the means, or write into them later."""
        return type(self.optimizer) in KEEP_NOTHING

    @property
    def t(self) -> int:
        """How many updates were made."""
        return self.state.t

    @property
    def rule(self) -> engine.Rule | None:
        """The equations of an update; None for one of the caller's own, which has to be called each time."""
        is_plain = type(self.optimizer).update_vector is Optimizer.update_vector
        return self.optimizer.step if is_plain else None

    def means(self, theta: Array, backend: Backend) -> list[Array]:
        """The running means."""
        return [getattr(self.state, name) for name in self.optimizer.remembers]

    def alphas(self, count: int) -> list[float]:
        """The learning rates of the next updates."""
        return [self.optimizer.alpha(self.t + i) for i in range(count)]

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update, in its own memory where that can be written."""
        if self.rule is None:  # which may keep g, in whose memory another gradient will be
            g = copied(g, backend)
        theta, self.state = self.optimizer.update_vector(theta, g, self.state, backend, in_place=True)
        return theta

    def made(self, count: int, means: Sequence[Array]) -> None:
        """After updates that compiled steps made, with the running means that they made."""
        self.state = State(self.t + count, **dict(zip(self.optimizer.remembers, means, strict=True)))
