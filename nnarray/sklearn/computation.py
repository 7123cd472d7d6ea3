"""A network with its parameters in the place where it computes, and the two ways to train it: batches and L-BFGS."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray import engine
from nnarray.backends import Backend, Ended
from nnarray.core.typing import Array, Function
from nnarray.engine import Batch
from nnarray.network.parameters import dtype_name
from nnarray.sklearn.batches import Batches
from nnarray.sklearn.losses import REPORTED_LOSSES
from nnarray.sklearn.optimizers import Optimizer
from nnarray.training.batches import Dropout
from nnarray.training.interrupts import Interrupts
from nnarray.training.replays import Replays

FEWEST_STEPS = 2
"""Of an epoch, for which it pays to capture them."""


class Names(NamedTuple):
    """An architecture whose cost is the one that scikit-learn reports."""

    sizes: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str

    @property
    def own_cost(self) -> None:
        """None: its gradient is that of the output's cost."""

    @property
    def reported_loss(self) -> Function:
        """The loss of the output, as scikit-learn has it."""
        return REPORTED_LOSSES[self.output]


class Computation:
    """A network at theta on a backend, for data that are at `home`.

    `l2` is the penalty's lambda, `workers` bounds the threads that take tiles.
    """

    def __init__(
        self, network: Names, theta: Array, backend: Backend, *, home: Backend, l2: float, workers: int | None
    ) -> None:
        self.network, self.backend, self.home, self.l2, self.workers = network, backend, home, l2, workers
        self.dtype = dtype_name(theta, backend)
        self.spare: list[Array] = []  # gradients whose update was made
        self._replays: tuple[Any, Replays | None] | None = None
        self.move_to(theta)

    def move_to(self, theta: Array) -> None:
        """Go on from another theta."""
        self.theta, self.layers = theta, self.backend.steps.split(theta, self.network.sizes)

    def cost_and_gradient(self, batch: Batch, spare: list[Array] | None = None) -> tuple[Array, Array]:
        """J and its gradient, a vector like theta."""
        return engine.cost_and_gradients(
            batch, self.layers, self.network, self.backend, l2=self.l2, spare=spare, workers=self.workers
        )

    def cost_and_prediction(self, batch: Batch) -> tuple[float, Array]:
        """The mean loss without the penalty, and A[L]."""
        A = engine.Columns(batch.columns, self.backend)
        J = engine.cost(batch, self.layers, self.network, self.backend, l2=0.0, keep=A, workers=self.workers)
        batch.let_go()
        return float(J), A.joined()

    def descend(self, batches: Batches, optimizer: Optimizer, dropout: Dropout, steps: engine.ManySteps) -> float:
        """One update per batch; the mean of their costs, each counted with the number of its examples."""
        batches.draw()
        interrupts = Interrupts()
        with Ended(interrupts), interrupts:
            total, count = self._replay(batches, optimizer, dropout, steps, interrupts)
            for batch in batches.batches(count):
                steps.go_on()
                J, g = self.cost_and_gradient(dropout.onto(batch, self.dtype), self.spare)
                with interrupts.put_off:
                    theta = optimizer.update(self.theta, g, self.backend)
                    if theta is not self.theta:
                        self.move_to(theta)
                self.spare.append(g)
                total, count = total + J * batch.columns, count + batch.columns
        return float(total / count)

    def _replay(
        self,
        batches: Batches,
        optimizer: Optimizer,
        dropout: Dropout,
        steps: engine.ManySteps,
        interrupts: Interrupts,
    ) -> tuple[float, int]:
        """The full batches as captured steps, if they can be; the sum of their costs and the number of examples."""
        ms = batches.ms()
        if dropout.drops or len(ms) < FEWEST_STEPS or not all(ms):
            return 0.0, 0
        replays = self._captured(batches, [self.theta, *optimizer.prepared(self.theta, self.backend)], optimizer, steps)
        if replays is None:
            return 0.0, 0
        l2 = (self.l2,) if self.l2 else ()
        numbers = [((m, *l2), (optimizer.t + i, optimizer.alpha)) for i, m in enumerate(ms, 1)]
        replays.begin(self.backend.asarray(batches.rows[: len(ms) * batches.size]), numbers)
        replays.launch_all(len(ms), optimizer.made, interrupts)
        total = self.backend.xp.sum(replays.costs[: len(ms)], dtype=self.backend.xp.float64)
        return float(total) * batches.size, len(ms) * batches.size

    def _captured(
        self, batches: Batches, vectors: Sequence[Array], optimizer: Optimizer, steps: engine.ManySteps
    ) -> Replays | None:
        """Captured steps over these vectors, kept for as long as they are the same; None where there can be none."""
        key = optimizer.rule, batches, *map(id, vectors)
        if self._replays is None or self._replays[0] != key:
            captured = engine.captured_steps(
                optimizer.rule.step,
                vectors,
                self.layers,
                batches.examples,
                self.network,
                self.backend,
                columns=batches.size,
                l2=self.l2,
            )
            self._replays = key, None if captured is None else Replays(captured, steps)
        return self._replays[1]

    def minimize(
        self, batch: Batch, callback: Callable[[float], Any], *, iterations: int, calls: int, tolerance: float
    ) -> Any:
        """SciPy's L-BFGS-B from theta on; `callback` sees J after each iteration."""
        from scipy.optimize import minimize

        J = 0.0

        def cost_and_gradient(x: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            nonlocal J
            self.move_to(self.backend.asarray(x, self.dtype))
            cost, g = self.cost_and_gradient(batch)
            J = float(cost)
            return J, self.backend.to_numpy(g).astype(np.float64, copy=False)

        found = minimize(
            cost_and_gradient,
            self.backend.to_numpy(self.theta).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=lambda _: callback(J),
            options={"maxfun": calls, "maxiter": iterations, "gtol": tolerance},
        )
        self.move_to(self.backend.asarray(found.x, self.dtype))
        return found
