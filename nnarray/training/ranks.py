"""One training run on several ranks, each with its own examples: every update is of one batch over all ranks."""

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, backend_of
from nnarray.core.typing import Array, Pairs
from nnarray.engine import Architecture, Batch, Order, Ranks, TileColumns
from nnarray.engine.example_weights import weighs_nothing
from nnarray.network import scoring
from nnarray.training.batches import Shuffled
from nnarray.training.descent import Descent
from nnarray.training.dropout import Dropout
from nnarray.training.optimizers import Optimizer
from nnarray.training.state import MEANS, State

NOBODY = np.zeros(0, "int64")
"""An order of no columns."""


def common_seed(seed: int | None, ranks: Ranks) -> int:
    """The seed of all ranks, drawn where it is None."""
    ranks.agree(seed=seed)
    common: int = ranks.every(int.from_bytes(os.urandom(8)) >> 1)[0] if seed is None else seed
    return common


def own_seed(seed: int | None, ranks: Ranks) -> int | Sequence[int] | None:
    """A seed for each rank; that of rank 0 is the one that all were given."""
    return seed if seed is None or ranks.rank == 0 else (seed, ranks.rank)


def settings_of(optimizer: Optimizer) -> str:
    """An optimiser as ranks compare it: a function, such as a custom schedule, by its type alone."""
    from nnarray.training.schedules import Schedule  # which seldom is needed

    values = {
        name: value if isinstance(value, float | int | Schedule) else type(value).__name__
        for name, value in vars(optimizer).items()
    }
    return f"{type(optimizer).__name__}({', '.join(f'{name}={value}' for name, value in values.items())})"


def sums_of(state: State | None) -> str:
    """A state as ranks compare it: its counts, and its vectors by their sums."""
    if state is None:
        return "None"
    counts = {"t": state.t}
    if state.position is not None:
        counts |= {"epoch": state.position.epoch, "averaged": state.position.averaged}
    vectors = {name: (V, backend_of(V)) for name, V in state._asdict().items() if name in (*MEANS, "average")}
    sums = {name: own.sum(V) for name, (V, own) in vectors.items() if own is not None}
    return f"State({', '.join(f'{name}={value}' for name, value in (counts | sums).items())})"


class Portions(Shuffled):
    """The portions of this rank in the common batches: its columns, shuffled, in equal portions.

    There are as many as batches of `size` columns over all ranks; a portion may be empty.
    """

    def __init__(self, whole: Batch, size: int | None, seed: Any, backend: Backend, ranks: Ranks, dtype: str) -> None:
        super().__init__(whole, None, seed, backend)
        (m,) = ranks.sums(float(whole.m))
        engine.ranks.require_weight_of_all(m, dtype)
        everybody = ranks.every(self.columns)
        self.number = 1 if size is None else -(-sum(everybody) // size)
        self.together: list[int] = np.sum([np.diff(self._ends(columns)) for columns in everybody], axis=0).tolist()
        """how many examples each batch has of all ranks"""
        self.size = -(-self.columns // self.number)
        self.ms = self._ms(m, ranks)
        """what everybody's portions of each batch weigh together; None where that depends on the order"""

    def _ms(self, m: float, ranks: Ranks) -> Sequence[float | None]:
        are_weighted = ranks.any(lambda: self.weights is not None)
        if self.is_whole:
            return [m]
        return [None] * self.number if are_weighted else [float(count) for count in self.together]

    @property
    def is_whole(self) -> bool:
        """Whether one batch holds all examples of an epoch."""
        return self.number == 1

    def epoch(self) -> Sequence[Iterable[Any]]:
        """The portions of the next epoch, some perhaps empty, with the weight of all ranks' where it is known."""
        indices = self.draw()
        if indices is None:
            return [list(zip([self.whole], self.ms, strict=True))]
        order = Order(self.backend.on_device(indices), indices)
        portions = [self._portion(order.part(*part)) for part in pairwise(self._ends(self.columns).tolist())]
        return [list(zip(portions, self.ms, strict=True))]

    def _ends(self, columns: int) -> np.ndarray:
        """Where the portions of so many columns begin and end."""
        return np.arange(self.number + 1) * columns // self.number

    def _portion(self, order: Order) -> Batch:
        columns = order.on_host
        m = float(len(columns) if self.weights is None else self.weights[columns].sum(dtype="float64"))
        return self.whole._replace(m=m, order=order)

    def sample(self, most: int) -> Batch:
        """As in a single process; empty where this rank has no columns or `most` is 0."""
        if most and self.columns:
            return super().sample(most)
        return self.whole._replace(order=Order(self.backend.on_device(NOBODY), NOBODY), weights=None, m=0)


def ahead(batch: Batch, dropout: Dropout, dtype: str) -> tuple[Batch, int]:
    """A portion with the masks that come next, and the position after them; none for no columns."""
    return dropout.ahead(batch, dtype) if batch.columns else (batch, dropout.position)


class OnRanks(Descent):
    """What every descent on several ranks has."""

    def __init__(self, network: Architecture, theta: Array, backend: Backend, ranks: Ranks, **options: Any) -> None:
        super().__init__(network, theta, backend, **options)
        self.ranks = ranks


class DescentOnRanks(OnRanks):
    """Gradient descent on all ranks, with the same theta everywhere, to the bit."""

    def cost(self, batch: Batch, dropout: Dropout) -> Array:
        """J over the batches of all ranks, with the penalty."""
        batch, _ = ahead(batch, dropout, self.dtype)
        return self._cost(batch, self.layers, l2=self.l2, l1=self.l1)

    def cost_and_score(self, batch: Batch, theta: Array | None = None) -> tuple[float, Any]:
        """The mean loss over all ranks' examples without the penalty, and the score of their predictions."""
        A = TileColumns(batch.columns, self.backend)
        J = self._cost(batch, self.layers_of(theta), l2=0.0, l1=0.0, keep=A)
        part = scoring.partial_score(A.joined(), batch.Y, self.network.output, self.backend) if batch.columns else None
        parts = [part for part in self.ranks.every(part) if part is not None]
        return J, scoring.score_of_parts(parts, self.network.output)

    def _cost(self, batch: Batch, layers: Pairs, **options: Any) -> float:
        (m,) = self.ranks.sums(float(batch.m))
        engine.ranks.require_weight_of_all(m, self.dtype)
        given = layers, self.network, self.backend, self.ranks
        J = engine.ranks.cost(batch, m, *given, workers=self.workers, **options)
        batch.release()
        return J

    def gradient_of(self, batch: Any, weighs: Any, dropout: Dropout) -> tuple[Array, Array | None, Any, int]:
        """J and the gradient over the portions of all ranks, and their m."""
        masked, position = ahead(batch, dropout, self.dtype)
        m = self.ranks.sums(float(batch.m))[0] if weighs is None else weighs
        if weighs_nothing(m, self.dtype):
            return 0.0, None, 0.0, position
        options: dict[str, Any] = {"l2": self.l2, "l1": self.l1, "spare": self.spare, "workers": self.workers}
        part = engine.ranks.part(masked, m, self.layers, self.network, self.backend, **options)
        return *engine.ranks.total(*part, self.backend, self.ranks), m, position
