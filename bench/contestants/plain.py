"""The lecture's vectorised equations as a reader would write them, on NumPy and on CuPy."""

from typing import Any

import numpy as np

from bench import equations
from bench.agreement import Result, checked_columns, flatten
from bench.contestants.base import Contestant, Prepared, nothing
from bench.problems import Problem


class Adam:
    """The lecture's Adam, on a list of arrays."""

    def __init__(self, parameters: list, learning_rate: float) -> None:
        self.parameters, self.learning_rate, self.t = parameters, learning_rate, 0
        self.v = [0 * p for p in parameters]
        self.s = [0 * p for p in parameters]

    def update(self, gradients: list, xp: Any) -> None:
        """theta ← theta - alpha v_corrected / (sqrt(s_corrected) + eps), for each array in place."""
        self.t += 1
        for i, g in enumerate(gradients):
            self.v[i] = 0.9 * self.v[i] + 0.1 * g
            self.s[i] = 0.999 * self.s[i] + 0.001 * g * g
            v = self.v[i] / (1 - 0.9**self.t)
            s = self.s[i] / (1 - 0.999**self.t)
            self.parameters[i] -= self.learning_rate * v / (xp.sqrt(s) + 1e-8)


class Plain(Contestant):
    """The plain equations over the namespace `library`."""

    def __init__(self, library: str) -> None:
        self.library, self.name = library, f"plain-{library}"
        self.devices = ("gpu",) if library == "cupy" else ("cpu",)

    def missing(self, device: str) -> str | None:
        """CuPy needs a GPU."""
        from nnarray.backends import unavailable_reason

        return unavailable_reason(self.library)

    def _place(self, problem: Problem) -> tuple[Any, Any, Any, list]:
        import importlib

        xp = importlib.import_module(self.library)
        layers = [(xp.array(W), xp.array(b)) for W, b in problem.layers]
        return xp, xp.asarray(problem.X), xp.asarray(problem.Y), layers

    def _prepared(self, run: Any, problem: Problem, placed: tuple) -> Prepared:
        xp, X, Y, layers = placed
        work, columns = problem.workload, checked_columns(problem)
        first = [(W.copy(), b.copy()) for W, b in layers]

        def result() -> Result:
            J, pairs = equations.gradients(X[:, columns], Y[:, columns], first, work.hidden, work.output, xp)
            return Result(float(J), flatten([(_host(dW), _host(db)) for dW, db in pairs]))

        def predicted() -> Result:
            A, _ = equations.forward(X, first, work.hidden, work.output, xp)
            return Result(None, _host(A[-1]).astype(np.float64).ravel())

        synchronize = nothing if xp is np else xp.cuda.Device().synchronize
        return Prepared(run, predicted if work.kind == "predict" else result, synchronize)

    def step(self, problem: Problem) -> Prepared:
        """Forward, backward, gradient descent."""
        xp, X, Y, layers = placed = self._place(problem)
        work, alpha = problem.workload, problem.learning_rate

        def run() -> None:
            _, gradients = equations.gradients(X, Y, layers, work.hidden, work.output, xp)
            for (W, b), (dW, db) in zip(layers, gradients, strict=True):
                W -= alpha * dW  # noqa: PLW2901 - in place
                b -= alpha * db  # noqa: PLW2901

        return self._prepared(run, problem, placed)

    def predict(self, problem: Problem) -> Prepared:
        """Forward."""
        xp, X, _, layers = placed = self._place(problem)
        work = problem.workload

        def run() -> None:
            equations.forward(X, layers, work.hidden, work.output, xp)

        return self._prepared(run, problem, placed)

    def epoch(self, problem: Problem) -> Prepared:
        """Adam over shuffled batches."""
        xp, X, Y, layers = placed = self._place(problem)
        work = problem.workload
        optimizer = Adam([part for pair in layers for part in pair], problem.learning_rate)
        generator = np.random.default_rng(0)

        def run() -> float:
            total, order = 0.0, xp.asarray(generator.permutation(work.m))
            for start in range(0, work.m, work.batch_size):
                rows = order[start : start + work.batch_size]
                X_batch, Y_batch = X.T[rows].T, Y[:, rows]
                J, pairs = equations.gradients(X_batch, Y_batch, layers, work.hidden, work.output, xp)
                optimizer.update([part for pair in pairs for part in pair], xp)
                total = total + J * len(rows)
            return float(total / work.m)

        return self._prepared(run, problem, placed)


def _host(x: Any) -> np.ndarray:
    return x.get() if hasattr(x, "get") else x
