"""JAX as a good user writes it: one jitted function for the whole step, its parameters donated."""

from functools import partial
from typing import Any

import numpy as np

from bench.agreement import Result, checked_columns, flatten
from bench.contestants.base import Contestant, Prepared
from bench.contestants.settings import jax_device, no_gpu, set_precision
from bench.problems import Problem

SCAN_BATCH = 256


class Jax(Contestant):
    """value_and_grad of the loss of the (m, n_x) table, under jit.

    Logistic regression gets X as (n_x, m), C-ordered, which XLA's matrix-vector products on the CPU prefer.
    """

    name = "jax"
    library = "jax"
    precisions = ("float32", "float64", "tf32", "bfloat16")
    devices = ("cpu", "gpu")
    compiles = True

    def missing(self, device: str) -> str | None:
        """JAX, and a GPU if one is asked for."""
        from nnarray.backends import unavailable_reason

        return unavailable_reason("jax") or (no_gpu("jax") if device == "gpu" else None)

    def step(self, problem: Problem) -> Prepared:
        """Value, gradient and gradient descent in one jitted function."""
        import jax

        placed = Placed(problem)

        @partial(jax.jit, donate_argnums=0)
        def update(params: Any, X: Any, y: Any) -> tuple[Any, Any]:
            J, grads = jax.value_and_grad(placed.loss)(params, X, y)
            return jax.tree.map(lambda p, g: p - problem.learning_rate * g, params, grads), J

        def run() -> None:
            placed.params, placed.last = update(placed.params, placed.X, placed.y)

        return Prepared(run, placed.gradient, placed.synchronize)

    def predict(self, problem: Problem) -> Prepared:
        """The jitted forward pass."""
        import jax

        placed = Placed(problem)
        mean = jax.jit(placed.mean)

        def run() -> None:
            placed.last = None
            placed.last = mean(placed.params, placed.X)

        def result() -> Result:
            return Result(None, np.asarray(mean(placed.params, placed.X)).T.astype(np.float64).ravel())

        return Prepared(run, result, placed.synchronize)

    def epoch(self, problem: Problem) -> Prepared:
        """A jitted Adam step for each shuffled batch, which it gathers itself; small batches in one jitted scan.

        On the CPU a scan computes on one core, which pays only where a batch is small.
        """
        import jax

        placed, work = Placed(problem), problem.workload
        generator = np.random.default_rng(0)
        update = partial(adam_step, placed.loss, problem.learning_rate)
        zeros = jax.tree.map(jax.numpy.zeros_like, placed.params)
        placed.params = (placed.params, zeros, jax.tree.map(jax.numpy.copy, zeros), jax.numpy.zeros(()))
        scans = problem.device == "gpu" or work.batch_size <= SCAN_BATCH
        pass_over = _scanned(update) if scans else _looped(update)

        def run() -> float:
            batches = generator.permutation(work.m).astype(np.int32).reshape(-1, work.batch_size)
            placed.params, costs = pass_over(placed.params, placed.X, placed.y, batches)
            return float(np.mean(jax.device_get(costs)))

        return Prepared(run, placed.gradient, placed.synchronize)

    def unfit(self, workload: Any, precision: str) -> str | None:
        """An epoch here has whole batches only."""
        if workload.kind == "epoch" and workload.m % workload.batch_size:
            return "its epoch needs whole batches"
        return super().unfit(workload, precision)


class Placed:
    """A problem as JAX arrays on its device."""

    def __init__(self, problem: Problem) -> None:
        import jax

        set_precision("jax", problem.precision)
        self.work, self.columns = problem.workload, checked_columns(problem)
        put = partial(jax.device_put, device=jax_device(problem.device))
        self.by_columns = len(problem.layers) == 1 and self.work.kind != "epoch"
        table = put(problem.table)
        self.X = table.T if self.by_columns else table  # transposed in memory, by the device
        self.narrow = problem.precision == "bfloat16"
        if self.narrow:
            self.X = self.X.astype(jax.numpy.bfloat16)
        self.y = put(problem.labels.astype(np.int32) if self.work.output == "softmax" else problem.targets)
        self.params = [(put(W.copy()), put(b[:, 0].copy())) for W, b in problem.layers]
        self.last: Any = None

    def logits(self, params: Any, X: Any) -> Any:
        """Z[L], one example per row."""
        import jax

        hidden = {
            "relu": jax.nn.relu,
            "tanh": jax.numpy.tanh,
            "sigmoid": jax.nn.sigmoid,
            "leaky_relu": jax.nn.leaky_relu,
            "identity": lambda Z: Z,
        }[self.work.hidden]
        for W, b in params[:-1]:
            X = hidden(self.product(X, W.T) + b)
        W, b = params[-1]
        return (self.product(W, X).T if self.by_columns else self.product(X, W.T)) + b

    def product(self, A: Any, B: Any) -> Any:
        """A B; in bfloat16, of operands rounded to it, with sums in float32."""
        import jax

        if not self.narrow:
            return A @ B
        narrow = jax.numpy.bfloat16
        return jax.numpy.matmul(A.astype(narrow), B.astype(narrow), preferred_element_type=jax.numpy.float32)

    def loss(self, params: Any, X: Any, y: Any) -> Any:
        """J, from the logits."""
        import jax

        Z = self.logits(params, X)
        if self.work.output == "softmax":
            chosen = jax.numpy.take_along_axis(Z, y[:, None], axis=1)[:, 0]
            return (jax.nn.logsumexp(Z, axis=1) - chosen).mean()
        if self.work.output == "sigmoid":
            return (jax.nn.softplus(Z) - Z * y).sum(axis=1).mean()
        if self.work.output == "identity":
            return 0.5 * ((Z - y) ** 2).sum(axis=1).mean()
        return (jax.numpy.exp(Z) - Z * y).sum(axis=1).mean()

    def mean(self, params: Any, X: Any) -> Any:
        """A[L], one example per row."""
        import jax

        outputs = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid, "exp": jax.numpy.exp}
        return outputs.get(self.work.output, lambda Z: Z)(self.logits(params, X))

    def gradient(self) -> Result:
        """J and the gradient of the checked columns at the first parameters."""
        import jax

        params = self.params[0] if self.work.kind == "epoch" else self.params
        X = self.X[:, self.columns] if self.by_columns else self.X[self.columns]
        J, grads = jax.jit(jax.value_and_grad(self.loss))(params, X, self.y[self.columns])
        return Result(float(J), flatten(grads))

    def synchronize(self) -> None:
        """Wait for the last parameters or prediction."""
        import jax

        jax.block_until_ready((self.params, self.last))


def _scanned(update: Any) -> Any:
    import jax

    def pass_over(carried: Any, X: Any, y: Any, batches: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda carried, rows: update(carried, X, y, rows), carried, batches)

    return jax.jit(pass_over, donate_argnums=0)


def _looped(update: Any) -> Any:
    import jax

    jitted = jax.jit(update, donate_argnums=0)

    def pass_over(carried: Any, X: Any, y: Any, batches: Any) -> tuple[Any, Any]:
        costs = []
        for rows in batches:
            carried, J = jitted(carried, X, y, rows)
            costs.append(J)
        return carried, costs

    return pass_over


def adam_step(loss: Any, alpha: float, carried: Any, X: Any, y: Any, rows: Any) -> tuple[Any, Any]:
    """One update of (params, v, s, t) by the batch of these rows, and its J."""
    import jax

    params, v, s, t = carried
    J, grads = jax.value_and_grad(loss)(params, X[rows], y[rows])
    t = t + 1
    v = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g, v, grads)
    s = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, s, grads)

    def moved(p: Any, v: Any, s: Any) -> Any:
        return p - alpha * (v / (1 - 0.9**t)) / (jax.numpy.sqrt(s / (1 - 0.999**t)) + 1e-8)

    return (jax.tree.map(moved, params, v, s), v, s, t), J
