"""Batch normalisation over a batch of several tiles: layer by layer, each layer in one pass over all tiles.

The mean and variance of a layer's Z are known when every tile was there, as are the two sums that its way back takes;
tiles' means and variances are united by Chan's formula in the same tree as every other sum. Of each example, Z[l] of
every hidden layer is kept from the way forward to the way back, with one dZ[l] beside it: Σ n[l] numbers and the
largest n[l]; whatever else lies between X and J is computed again in a tile's turn. A cost or A[L]
alone keeps one of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from nnarray.backends import Backend, require_finite
from nnarray.core import batch_norm
from nnarray.core.typing import Array, Layers
from nnarray.engine import batch_norm_passes, compute
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.batch_norm_passes import Named, Pass
from nnarray.engine.columns import TileColumns
from nnarray.engine.tiling import NoRoomError


class Passes:
    """The passes of one batch in training, over tiles of `width` columns.

    Raises NoRoomError where what is kept of the batch has no room.
    """

    def __init__(
        self, batch: Batch, layers: Layers, network: Architecture, backend: Backend, *, workers: int | None, width: int
    ) -> None:
        self.batch, self.layers, self.network, self.backend = batch, layers, network, backend
        self.dtype, self.workers, self.width = layers[0][0].dtype, workers, width
        self.statistics: list[tuple[Array, Array]] = []
        """mean and variance of Z[1], Z[2], …, as far as they are known"""
        self.Z = [dict[int, Array]() for _ in layers[:-1]]
        """of each hidden layer the tiles, by their first column"""
        self.dZ = dict[int, Array]()
        """of one hidden layer, after normalisation"""
        self.columns = batch.columns
        """those that are coupled"""

    def cost_and_gradients(self) -> tuple[Array, list[list[Array]]]:
        """The sum of the losses, and m dW[1], m dbeta[1], m dgamma[1], …, m dW[L], m db[L]."""
        hidden = self.network.sizes[1:-1]
        self._require_room(sum(hidden) + max(hidden, default=0))
        for l in range(len(self.Z)):
            self._forward(l)
        J, (dW, db), sums = self._over(self._end, add_each)
        gradients = [[dW, db]]
        for l in reversed(range(len(self.Z))):
            means = [V / self.columns for V in self._of_all(sums, add_both)]
            _, (dW,), below = self._over(partial(self._back, l, means), add_each)
            gradients.append([dW, *sums])
            sums = below
        return J, gradients[::-1]

    def _forward(self, l: int) -> None:
        """Z of hidden layer l + 1, its mean and its variance."""

        def of_tile(start: int, stop: int) -> "Moments":
            given = self._below(l, start, stop) | {"W": self.layers[l][0]}
            _, (self.Z[l][start], mean, variance) = self._made(batch_norm_passes.forward, given, l)
            return Moments(stop - start, mean, variance)

        whole = self._of_all(self._over(of_tile, united), united)
        self.statistics.append((whole.mean, whole.variance))

    def _end(self, start: int, stop: int) -> "Sums":
        J, (dW, db, *further) = self._made(batch_norm_passes.cost_and_gradients, self._at_the_end(start, stop))
        return Sums(J, [dW, db], self._kept(further, start))

    def _losses(self) -> Array:
        """The sum of the losses, once all statistics are known."""

        def of_tile(start: int, stop: int) -> Array:
            return self._made(batch_norm_passes.cost, self._at_the_end(start, stop))[0]

        return self._over(of_tile, compute.added)

    def _back(self, l: int, means: Sequence[Array], start: int, stop: int) -> "Sums":
        (W, _, gamma), (mean, variance) = self.layers[l], self.statistics[l]
        own = {"own_Z": self.Z[l].pop(start), "own_mean": mean, "own_variance": variance, "own_gamma": gamma}
        back = {"dZ": self.dZ.pop(start), "by_mean": means[0], "by_variance": means[1]}
        given = self._below(l, start, stop) | {"W": W} | own | back
        _, (dW, *further) = self._made(self._backward_of(l), given, l)
        return Sums(None, [dW], self._kept(further, start))

    def _backward_of(self, l: int) -> Pass:
        """What a tile's turn is on the way back through hidden layer l + 1."""
        return batch_norm_passes.backward

    def _kept(self, further: Sequence[Array], start: int) -> Sequence[Array]:
        """The sums of the layer below, whose dZ is kept; none below the first."""
        if not further:
            return []
        self.dZ[start], *sums = further
        return sums

    def _at_the_end(self, start: int, stop: int) -> Named:
        W, b = self.layers[-1]
        Y, weights = self.batch.targets(start, stop, self.backend)
        given = self._below(len(self.Z), start, stop) | {"W": W, "b": b}
        return given | {name: V for name, V in (("Y", Y), ("weights", weights)) if V is not None}

    def _below(self, l: int, start: int, stop: int) -> dict[str, Array]:
        """What layer l + 1 is computed from."""
        if l == 0:
            compute.read_ahead_of(self.batch, stop, self.width)
            return {"X": self.batch.inputs(start, stop, self.dtype, self.backend)}
        (mean, variance), (_, beta, gamma) = self.statistics[l - 1], self.layers[l - 1]
        given = {"Z": self.Z[l - 1][start], "mean": mean, "variance": variance, "beta": beta, "gamma": gamma}
        masks = self.batch.draw_masks
        return given | {"D": masks[l - 1](start, stop)} if masks else given

    def _finite(self, given: dict[str, Array], start: int) -> dict[str, Array]:
        """What was given, once X was looked into."""
        if "X" in given:
            require_finite(given["X"], "X", self.backend, first=start)
        return given

    def _of_all(self, own: Any, add: Callable[[Any, Any], Any]) -> Any:
        """What all columns that are coupled have together, from what those of the batch have."""
        return own

    def _over(self, of_tile: Callable[[int, int], Any], add: Callable[[Any, Any], Any]) -> Any:
        return compute.over_columns(of_tile, add, self.batch.columns, self.width, self.backend, self.workers)

    def _made(self, wanted: Pass, given: Named, l: int | None = None) -> tuple[Array | None, list[Array]]:
        """What a tile's turn makes, by a program where there can be one."""
        below = (len(self.Z) if l is None else l) - 1
        g = self.network.hidden[below] if below >= 0 else ""
        return batch_norm_passes.computed(wanted, given, self.network, g, self.dtype, self.backend)

    def _require_room(self, rows: int) -> None:
        """Raise NoRoomError where so many numbers for each example are more than there is room for."""
        try:
            self.backend.xp.empty(rows * self.batch.columns, dtype=self.dtype)
        except MemoryError as error:
            raise NoRoomError(*error.args) from error


class PullPasses(Passes):
    """The same from dA[L], given in the place of Y, to dX. Raises ValueError for an X that is not finite."""

    def pull(self) -> tuple[list[list[Array]], Array]:
        """dW[1], dbeta[1], dgamma[1], …, dW[L], db[L], sums over the columns, and dX (n_x, m)."""
        self.dX = TileColumns(self.batch.columns, self.backend)
        return self.cost_and_gradients()[1], self.dX.joined()

    def _end(self, start: int, stop: int) -> "Sums":
        _, (dW, db, *further) = self._made(batch_norm_passes.pullback, self._at_the_end(start, stop))
        return Sums(None, [dW, db], self._kept(further, start))

    def _backward_of(self, l: int) -> Pass:
        return batch_norm_passes.backward if l else batch_norm_passes.backward_to_inputs

    def _kept(self, further: Sequence[Array], start: int) -> Sequence[Array]:
        if len(further) > 1:
            return super()._kept(further, start)
        self.dX.put(start, further[0])
        return []

    def _below(self, l: int, start: int, stop: int) -> dict[str, Array]:
        return self._finite(super()._below(l, start, stop), start)


class ForwardPasses(Passes):
    """The passes of the way forward alone, which keep Z of one layer. Raises ValueError for an X that is not finite."""

    def cost(self) -> Array:
        """The sum of the losses."""
        self._forward_through()
        return self._losses()

    def prediction(self) -> Array:
        """A[L] (n[L], m)."""
        self._forward_through()
        A = TileColumns(self.batch.columns, self.backend)

        def put(start: int, stop: int) -> int:
            A.put(start, self._made(batch_norm_passes.prediction, self._at_the_end(start, stop))[1][0])
            return 0

        self._over(put, max)
        return A.joined()

    def _forward_through(self) -> None:
        self._require_room(max(self.network.sizes[1:-1], default=0))
        for l in range(len(self.Z)):
            self._forward(l)

    def _below(self, l: int, start: int, stop: int) -> dict[str, Array]:
        """The same, for the last time."""
        given = self._finite(super()._below(l, start, stop), start)
        if l:
            del self.Z[l - 1][start]
        return given


class Moments(NamedTuple):
    """Mean and variance of some columns of Z, and how many these are."""

    columns: int
    mean: Array
    variance: Array


def united(one: Moments, other: Moments) -> Moments:
    """Both together."""
    return Moments(*batch_norm.united(one, other))


class Sums(NamedTuple):
    """Sums over some columns: of the losses, of the pass's own gradients, and of dZ and dZ * Z_norm below."""

    J: Array | None
    gradients: Sequence[Array]
    below: Sequence[Array]


def add_both(one: Sequence[Array], other: Sequence[Array]) -> list[Array]:
    """The sums one by one, in memory of their own."""
    return [V + W for V, W in zip(one, other, strict=True)]


def add_each(one: Sums, other: Sums) -> Sums:
    """The sums of both."""
    J = None if one.J is None else compute.added(one.J, other.J)
    return Sums(J, *(list(map(compute.added, mine, its)) for mine, its in zip(one[1:], other[1:], strict=True)))
