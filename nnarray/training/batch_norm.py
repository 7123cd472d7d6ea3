"""Descent of a network with batch normalisation: updates by a batch's own statistics, and averages that follow them."""

from collections.abc import Iterable
from typing import Any, NoReturn

from nnarray import engine
from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.network.batch_norm import NormalizedParameters, folded
from nnarray.network.network import Network
from nnarray.network.parameters import Parameters
from nnarray.training.averaging import Averaging
from nnarray.training.batches import Shuffled
from nnarray.training.chunks import ChunkedBatches, DescentOnChunks
from nnarray.training.descent import Descent, Updates
from nnarray.training.dropout import Dropout
from nnarray.training.epoch_progress import EpochProgress
from nnarray.training.ranks import DescentOnRanks, OnRanks, Portions, ahead
from nnarray.training.timed_steps import TimedSteps


class DescentNormalized(Descent):
    """Gradient descent on theta, and beside it the running averages, which every update moves."""

    def __init__(
        self,
        network: Architecture,
        theta: Array,
        backend: Backend,
        *,
        statistics: Array,
        l2: float,
        l1: float,
        workers: int | None,
    ) -> None:
        self.statistics = self.seen = statistics
        super().__init__(network, theta, backend, l2=l2, l1=l1, workers=workers)

    @property
    def variables(self) -> Array:
        """Theta and the averages, one after the other."""
        return self.backend.xp.concat([self.theta, self.statistics])

    def restore(self, variables: Array) -> None:
        """Go on from such a vector."""
        size = self.theta.shape[0]
        self.statistics = variables[size:]
        self.move_to(variables[:size])

    def params(self, first: Parameters, variables: Array) -> Parameters:
        """The parameters that such a vector is, instead of the first ones."""
        size = first.vector.shape[0]
        return NormalizedParameters(variables[:size], first.sizes, self.backend, variables[size:])

    def move_to(self, theta: Array) -> None:
        """Go on from another theta."""
        self.theta = theta
        self.layers: Any = engine.batch_norm.split(theta, self.network.sizes, xp=self.backend.xp)

    def cost_and_gradient(self, batch: Batch, spare: list[Array] | None = None) -> tuple[Array, Array]:
        """J and its gradient, a vector like theta; the batch's statistics are kept for the update."""
        J, g, self.seen = engine.batch_norm.cost_and_gradients(
            batch, self.layers, self.network, self.backend, l2=self.l2, l1=self.l1, workers=self.workers
        )
        return J, g

    def cost(self, batch: Any, dropout: Dropout) -> Array:
        """J in training, with the penalties, and the masks that come next."""
        batch, _ = dropout.ahead(batch, self.dtype)
        given = batch, self.layers, self.network, self.backend
        J = engine.batch_norm.cost(*given, l2=self.l2, l1=self.l1, workers=self.workers)
        batch.release()
        return J

    def cost_and_prediction(self, batch: Batch, variables: Array | None = None) -> tuple[float, Array]:
        """The mean loss without the penalties, and A[L], both at test time; of another vector where one is given."""
        plain = Descent(*self._at_test_time(variables), l2=0.0, l1=0.0, workers=self.workers)
        return plain.cost_and_prediction(batch)

    def _at_test_time(self, variables: Array | None) -> tuple[Architecture, Array, Backend]:
        """The network without batch normalisation and its theta, of another vector where one is given."""
        size, variables = self.theta.shape[0], self.variables if variables is None else variables
        params = NormalizedParameters(variables[:size], self.network.sizes, self.backend, variables[size:])
        return _plain(self.network), folded(params).vector, self.backend

    def vectors(self, updates: Updates) -> list[Array]:
        """Theta, the running means and the averages."""
        return [*super().vectors(updates), self.statistics]

    def moved(self, steps: TimedSteps, updates: Updates, count: int) -> None:
        """Record updates made by compiled steps."""
        theta, *means, self.statistics = steps.vectors
        updates.made(count, means)
        if theta is not self.theta:
            self.move_to(theta)

    def _one_by_one(
        self, group: Iterable[tuple[Batch, Any]], updates: Updates, dropout: Dropout, underway: EpochProgress
    ) -> None:
        super()._one_by_one(group, _WithAverages(updates, self), dropout, underway)


class DescentNormalizedOnRanks(OnRanks, DescentNormalized):
    """`DescentNormalized` on several ranks: theta and the averages have the same bits everywhere."""

    def cost(self, batch: Any, dropout: Dropout) -> Array:
        """J over the batches of all ranks as one, in training mode, with the penalties."""
        batch, _ = ahead(batch, dropout, self.dtype)
        given = batch, self.layers, self.network, self.backend, self.ranks
        J = engine.batch_norm_ranks.cost(*given, l2=self.l2, l1=self.l1, workers=self.workers)
        batch.release()
        return J

    def cost_and_score(self, batch: Any, variables: Array | None = None) -> tuple[float, Any]:
        """The mean loss over all ranks' examples without the penalties, and their score, both in test mode."""
        plain = DescentOnRanks(*self._at_test_time(variables), self.ranks, l2=0.0, l1=0.0, workers=self.workers)
        return plain.cost_and_score(batch)

    def gradient_of(self, batch: Any, weighs: Any, dropout: Dropout) -> tuple[Array, Array | None, Any, int]:
        """J and the gradient over the portions of all ranks, and their m; the statistics are kept for the update."""
        masked, position = ahead(batch, dropout, self.dtype)
        given = masked, self.layers, self.network, self.backend, self.ranks
        J, g, m, self.seen = engine.batch_norm_ranks.cost_and_gradients(
            *given, l2=self.l2, l1=self.l1, workers=self.workers
        )
        return J, g, m, position


class DescentNormalizedOnChunks(DescentOnChunks, DescentNormalized):
    """`DescentNormalized` with the examples in chunks on dask's workers."""

    def cost(self, batch: Any, dropout: Dropout) -> Array:
        """J over all chunks as one batch, in training mode, with the penalties."""
        from nnarray.network import normalized_chunks  # which seldom is needed

        masks = dropout.masks(batch.columns) if dropout.drops else None
        return normalized_chunks.cost(self.network, self._entered(), batch, l2=self.l2, l1=self.l1, masks=masks)

    def cost_and_score(self, batch: Any, variables: Array | None = None) -> tuple[float, Any]:
        """The mean loss without the penalties, and the score, both in test mode."""
        plain = DescentOnChunks(*self._at_test_time(variables), l2=0.0, l1=0.0, workers=self.workers)
        return plain.cost_and_score(batch)

    def sums_of(self, some: Any, **options: Any) -> tuple[float, Array | None, float]:
        """J and the gradient of some chunks, or of some columns of one, and their m; statistics are kept."""
        from nnarray.network import normalized_chunks  # which seldom is needed

        J, g, m, self.seen = normalized_chunks.cost_and_gradients(self.network, self._entered(), some, **options)
        return J, g, m


class _WithAverages:
    """Updates that move the averages, too."""

    def __init__(self, updates: Any, descent: DescentNormalized) -> None:
        self.updates, self.descent = updates, descent

    def update(self, theta: Array, g: Array, backend: Backend) -> Array:
        """Theta after the next update."""
        theta = self.updates.update(theta, g, backend)
        descent = self.descent
        descent.statistics = engine.batch_norm.move_averages(descent.statistics, descent.seen, backend)
        if isinstance(self.updates, Averaging):
            self.updates.add(backend.xp.concat([theta, descent.statistics]), backend)
        return theta

    def __getattr__(self, name: str) -> Any:
        return getattr(self.updates, name)


def _plain(network: Architecture) -> Any:
    """The architecture in test mode, with its cost."""
    if isinstance(network, Network):
        return Network(network.sizes, network.hidden, network.output)
    return network._replace(batch_norm=False)  # type: ignore[attr-defined]


def check_batches(network: Architecture, batches: Any) -> None:
    """Raise ValueError where an epoch would have a batch of a single example, which has no variance."""
    if not network.batch_norm or not isinstance(batches, Shuffled | ChunkedBatches):
        return
    if isinstance(batches, Portions):
        _check_portions(batches)
        return
    m, size = batches.columns, batches.size
    if isinstance(batches, ChunkedBatches) and not batches.is_whole:
        _check_chunks(batches)
    elif size == 1 or m % size == 1:
        what = "every batch" if size == 1 else "the last batch of an epoch"
        _refuse(f"of m = {m} in batches of {size}, {what} has one")


def _check_chunks(batches: ChunkedBatches) -> None:
    for chunk in batches.whole.chunks:
        if batches.size == 1 or chunk.columns % batches.size == 1:
            _refuse(
                f"of the chunk of {chunk.columns} examples from {chunk.examples.start} on, in batches of "
                f"{batches.size}, one has a single one; rechunk X or take another batch_size"
            )


def _check_portions(batches: Portions) -> None:
    if batches.is_whole:
        engine.batch_norm_ranks.require_several_of_all(sum(batches.together))
    if 1 in batches.together:
        m = sum(batches.together)
        _refuse(f"of all ranks' m = {m} in {batches.number} batches, one has a single one; take a larger batch_size")


def _refuse(why: str) -> NoReturn:
    msg = (
        "batch_size must leave no batch of a single example in training with batch normalisation, which has no "
        f"variance: {why}"
    )
    raise ValueError(msg)
