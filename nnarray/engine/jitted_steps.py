"""Training steps on JAX arrays, each one call of a function that JAX compiled: batch, gradient and update."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import batch_norm, equations
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.engine.jitted import admits_exactly, padded_width, rule_of, widened
from nnarray.engine.rules import RuleKey

KEPT = 32
"""Steps of all shapes that are kept, the last ones that were used."""


class JittedSteps:
    """Steps on batches of `columns` columns of the `whole`, of which an epoch has at most `steps`.

    On the CPU, where EXACT_WIDTHS other widths came before, a whole is padded with columns that no step takes, and an
    epoch with steps.
    """

    def __init__(
        self,
        rule_key: RuleKey,
        vectors: Sequence[Array],
        whole: Batch,
        network: Architecture,
        backend: Backend,
        *,
        columns: int,
        steps: int,
        names: Sequence[str],
    ) -> None:
        self._backend, self.vectors = backend, tuple(vectors)
        theta = vectors[0]
        kind = len(vectors), theta.shape[0], np.dtype(theta.dtype), network, backend, columns, names
        key = rule_key, *kind
        self._columns, self._examples = columns, [whole.X, whole.Y, whole.weights]
        width = whole.X.shape[1]
        if backend.is_seen_by_numpy and not admits_exactly(width, *key):
            steps, width = padded_width(steps), padded_width(width)
            self._examples = [V if V is None else widened(V, width, backend) for V in self._examples]
        self._run, self._numbers = _compiled(*key, width, steps, whole.weights is not None)
        self._steps, self._dtype = steps, theta.dtype
        self.costs = backend.asarray(np.zeros(steps, theta.dtype))
        self._at = 0

    def begin(self, order: Array, numbers: Sequence[tuple[Sequence[float], Sequence[float]]], vectors: Any) -> None:
        """Begin an epoch at these vectors, with what each step's equations and update are given as numbers."""
        rows = [(*one, *self._numbers(*other)) for one, other in numbers]
        table = np.zeros((self._steps, len(rows[0])))
        table[: len(rows)] = rows
        if isinstance(order, np.ndarray):
            order = self._backend.asarray(np.pad(order, (0, self._steps * self._columns - len(order))))
        self._table, self._order = self._backend.asarray(table.astype(self._dtype)), order
        # Bound to their device, as what is computed of them will be, or JAX would compile twice.
        self.vectors, self._at = tuple(V.to_device(self._backend.device) for V in vectors), 0

    def launch(self, count: int) -> None:
        """Make the next `count` steps: each writes over what the one before it made, the first over copies."""
        copied = self._backend.copied
        vectors, costs = tuple(map(copied, self.vectors)), copied(self.costs)
        for i in range(self._at, self._at + count):
            vectors, costs = self._run(vectors, costs, np.int32(i), self._order, self._table, self._examples)
        self.vectors, self.costs = vectors, costs
        self._at += count

    def mark(self) -> None:
        """JAX takes the costs for the next step, so that nobody can wait for them."""

    def release(self) -> None:
        """None: JAX frees what it made."""


@lru_cache(maxsize=KEPT)
def _compiled(
    rule_key: RuleKey,
    count: int,
    size: int,
    dtype: Any,
    network: Architecture,
    backend: Backend,
    columns: int,
    names: Sequence[str],
    *_: Any,
) -> tuple[Callable[..., Any], Callable[..., tuple[float, ...]]]:
    """A step for examples of one shape, and what the update's own numbers are, of t and alpha."""
    xp = backend.xp
    update, numbers_of = rule_of(rule_key, count - network.batch_norm, size, dtype, xp=xp)

    def step(vectors: Sequence[Array], tile: Tile, row: Array) -> tuple[Sequence[Array], Array]:
        given = {name: row[i] for i, name in enumerate(names)}
        J, made = gradient(vectors, tile, given)
        vector = backend.primitives.join(
            [made]
        )  # with batch normalisation the averages after g, as they are after theta
        moved = update(vectors[: len(vectors) - network.batch_norm], vector[:size], row[len(given) :])
        return (*moved, vector[size:]) if network.batch_norm else moved, J

    def gradient(vectors: Sequence[Array], tile: Tile, given: Any) -> tuple[Array, list[Array]]:
        if network.batch_norm:
            own = batch_norm.split(vectors[0], network.sizes, xp=backend.xp)
            whole = batch_norm.with_averages(own, vectors[-1], network.sizes, xp=backend.xp)
            return batch_norm.training_step(tile, whole, network, backend.primitives, **given)
        layers = backend.primitives.split(vectors[0], network.sizes)
        return equations.cost_and_gradients(tile, layers, network, backend.primitives, **given)

    def run(
        vectors: Sequence[Array], costs: Array, i: Array, order: Array, table: Array, examples: Any
    ) -> tuple[Sequence[Array], Array]:
        rows = xp.take(order, i * columns + xp.arange(columns), axis=0)
        X, Y, weights = (V if V is None else backend.gathered(V, rows) for V in examples)
        vectors, J = step(vectors, Tile(X, Y, weights, ()), table[i])
        return vectors, xp.where(xp.arange(costs.shape[0]) == i, J, costs)

    return backend.jit(run, donated=(0, 1)), numbers_of
