"""A network with its parameters in the place where it computes, and the two ways to train it: batches and L-BFGS."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnarray import engine
from nnarray.backends import Backend, looked_into
from nnarray.core.typing import Array, Function
from nnarray.engine import Batch
from nnarray.network.parameters import dtype_name
from nnarray.sklearn.batches import Batches, SameSize
from nnarray.sklearn.losses import REPORTED_LOSSES
from nnarray.sklearn.optimizers import Optimizer
from nnarray.training.batches import Dropout
from nnarray.training.interrupts import Interrupts
from nnarray.training.replays import Replays

FEWEST_STEPS = 50
"""Of one size, for which it pays to capture them."""


class Run(NamedTuple):
    """A training run: its epochs, what lets other threads take their turn, and what puts Ctrl-C off."""

    epochs: int
    steps: engine.ManySteps
    interrupts: Interrupts


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
        self._replays_of: Any = None
        self._replays = dict[int, Replays | None]()
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

    def descend(self, batches: Batches, optimizer: Optimizer, dropout: Dropout, run: Run) -> float:
        """One update per batch; the mean of their costs, each counted with the number of its examples."""
        batches.draw()
        total, count = 0.0, 0
        for same in batches.runs():
            replays = None if dropout.drops else self._captured(same, optimizer, run)
            if replays is not None and all(ms := same.ms):
                costs, examples = self._replayed(same, ms, optimizer, replays, run)
            else:
                costs, examples = self._one_by_one(same, optimizer, dropout, run)
            total, count = total + costs, count + examples
        return total / count

    def _one_by_one(self, same: SameSize, optimizer: Optimizer, dropout: Dropout, run: Run) -> tuple[float, int]:
        """An update per batch; the sum of the costs of all examples, and how many these are."""
        total, count = 0.0, 0
        for batch in same:
            run.steps.go_on()
            J, g = self.cost_and_gradient(dropout.onto(batch, self.dtype), self.spare)
            with run.interrupts.put_off:
                theta = optimizer.update(self.theta, g, self.backend)
                if theta is not self.theta:
                    self.move_to(theta)
            self.spare.append(g)
            total, count = total + J * batch.columns, count + batch.columns
        return float(total), count

    def _replayed(
        self, same: SameSize, ms: Sequence[float], optimizer: Optimizer, replays: Replays, run: Run
    ) -> tuple[float, int]:
        """The same by captured steps."""
        alphas, columns = [optimizer.alpha] * len(ms), self.backend.asarray(same.rows)
        vectors = [self.theta, *optimizer.prepared(self.theta, self.backend)]
        replays.begin(columns, ms, alphas, l2=self.l2, t=optimizer.t, vectors=vectors)

        def made(count: int) -> None:
            theta, *means = replays.vectors
            optimizer.made(count, means)
            if theta is not self.theta:
                self.move_to(theta)

        replays.launch_all(len(ms), made, run.interrupts)
        each, own = looked_into(replays.costs, self.backend)
        total = own.xp.sum(each[: len(ms)], dtype=own.xp.float64)
        return float(total) * same.size, same.size * same.number

    def _captured(self, same: SameSize, optimizer: Optimizer, run: Run) -> Replays | None:
        """Captured steps on such batches, kept while they are of the same arrays; None where they don't pay."""
        if same.number * run.epochs < FEWEST_STEPS:
            return None
        vectors = [self.theta, *optimizer.prepared(self.theta, self.backend)]
        key = optimizer.rule, same.batches, *map(id, vectors)
        if self._replays_of != key:
            self._replays_of, self._replays = key, {}
        if same.size not in self._replays:
            captured = engine.captured_steps(
                optimizer.rule.step,
                vectors,
                self.layers,
                same.batches.examples,
                self.network,
                self.backend,
                columns=same.size,
                l2=self.l2,
            )
            self._replays[same.size] = None if captured is None else Replays(captured, run.steps)
        return self._replays[same.size]

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
