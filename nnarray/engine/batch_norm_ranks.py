"""Batch normalisation over a batch of which every rank has columns of its own, also none: each pass ends in a meeting.

There a layer's mean and variance are united by Chan's formula, and the two sums of its way back added up, in the order
of the ranks; all gradients are added up at the end, in one message.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias, TypeVar

import numpy as np

from nnarray.backends import Backend
from nnarray.core.typing import Array, Layers
from nnarray.engine import batch_norm, compute
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.batch_norm_tiles import ForwardPasses, Moments, Passes, add_both
from nnarray.engine.example_weights import weighs_nothing
from nnarray.engine.ranks import Ranks, dtype_of, require_weight_of_all

P = TypeVar("P")
T = TypeVar("T")
Given: TypeAlias = tuple[Batch, Layers, Architecture, Backend]


class PassesOnRanks(Passes):
    """Passes of this rank, whose batch may be of no columns. All ranks meet after each of them.

    Where there is no room and the passes are made again in narrower tiles, here alone, `met` has what came of the
    meetings before.
    """

    def __init__(
        self, *given: Any, ranks: Ranks, columns: int, met: list[Any], workers: int | None, width: int
    ) -> None:
        super().__init__(*given, workers=workers, width=width)
        self.ranks, self.columns, self.met, self.meetings = ranks, columns, met, 0

    def _over(self, of_tile: Callable[[int, int], Any], add: Callable[[Any, Any], Any]) -> Any:
        return super()._over(of_tile, add) if self.batch.columns else None

    def _of_all(self, own: Any, add: Callable[[Any, Any], Any]) -> Any:
        self.meetings += 1
        if self.meetings > len(self.met):
            given = self.ranks.every(None if own is None else self._on_host(own))
            self.met.append(reduce(add, [one for one in given if one is not None]))
        return self._here(self.met[self.meetings - 1])

    def _on_host(self, own: Moments | Sequence[Array]) -> Any:
        if isinstance(own, Moments):
            return Moments(own.columns, *map(self.backend.to_numpy, own[1:]))
        return [self.backend.to_numpy(V) for V in own]

    def _here(self, whole: Any) -> Any:
        dtype = dtype_of(self.layers, self.backend)
        if isinstance(whole, Moments):
            return Moments(whole.columns, *(self.backend.asarray(V, dtype) for V in whole[1:]))
        return [self.backend.asarray(V, dtype) for V in whole]


class GradientsOnRanks(PassesOnRanks):
    """The passes of a gradient."""

    def cost_and_gradients(self) -> tuple[Array, list[list[Array]]]:
        """The sums of this rank's columns; of none, zeros."""
        if self.batch.columns:
            return super().cost_and_gradients()
        for l in range(len(self.Z)):
            self._forward(l)
        for _ in self.Z:
            self._of_all(None, add_both)
        return 0.0, [[self.backend.xp.zeros_like(V) for V in layer] for layer in self.layers]


class CostOnRanks(PassesOnRanks, ForwardPasses):
    """The passes of a cost alone."""


def cost_and_gradients(
    batch: Batch,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    ranks: Ranks,
    *,
    l2: float,
    l1: float,
    workers: int | None = None,
) -> tuple[float, Array | None, float, Array | None]:
    """J of everybody's batches as one in training, its gradient, what they are divided by, and its statistics.

    Where nobody's columns weigh anything there is neither gradient nor statistics. Raises ValueError for one example.
    """
    columns, m = ranks.sums(float(batch.columns), float(batch.m))
    dtype = dtype_of(layers, backend)
    if weighs_nothing(m, dtype):
        return 0.0, None, 0.0, None
    require_several_of_all(columns)

    def sums_of(passes: GradientsOnRanks) -> tuple[Array, Array, Array]:
        J, sums = passes.cost_and_gradients()
        seen = batch_norm.statistics_of(passes)
        return J, backend.primitives.join(sums), backend.primitives.join([seen]) if seen else None

    given = batch, layers, network, backend
    J, sums, seen = _by_passes(GradientsOnRanks, sums_of, given, ranks=ranks, columns=int(columns), workers=workers)
    sums = np.require(backend.to_numpy(sums), requirements=("C", "W"))
    (losses,) = ranks.sums(float(J), of=sums)
    given_sums = losses, backend.asarray(sums, dtype), m
    J, g = batch_norm.gradients_from_sums(*given_sums, layers, network, backend, l2=l2, l1=l1)
    return float(J), g, m, seen


def cost(
    batch: Batch,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    ranks: Ranks,
    *,
    l2: float,
    l1: float,
    workers: int | None = None,
) -> float:
    """J of everybody's batches as one in training. Raises ValueError on all ranks for one example, or no weight."""
    columns, m = ranks.sums(float(batch.columns), float(batch.m))
    require_weight_of_all(m, dtype_of(layers, backend))
    require_several_of_all(columns)
    given = batch, layers, network, backend
    J = _by_passes(CostOnRanks, CostOnRanks.cost, given, ranks=ranks, columns=int(columns), workers=workers)
    (losses,) = ranks.sums(0.0 if J is None else float(J))
    return float(compute.cost_from_sum(losses, m, batch_norm.weights_of(layers), backend, l2=l2, l1=l1))


def _by_passes(kind: Callable[..., P], sums_of: Callable[[P], T], given: Given, **options: Any) -> T:
    """The sums of passes over this rank's columns, in narrower tiles where there is no room."""
    met: list[Any] = []

    def in_tiles(width: int) -> T:
        return sums_of(kind(*given, met=met, width=width, **options))

    return batch_norm.with_room(in_tiles, *given, None if given[0].columns else 1)


def require_several_of_all(columns: float) -> None:
    """Raise ValueError for a batch of a single example on all ranks together, which has no variance."""
    if columns == 1:
        msg = (
            "X must hold at least 2 examples on all ranks together in training with batch normalisation, got one: it "
            "has no variance"
        )
        raise ValueError(msg)
