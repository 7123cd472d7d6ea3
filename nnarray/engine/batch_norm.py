"""Batch normalisation over a batch in training, whose columns it couples: one tile is one graph, several make passes.

The statistics of a batch are one vector: mean[1], variance[1], mean[2], …, with
the variance of all examples as the batch tells it, divided by m - 1.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from nnarray.backends import Backend, require_finite
from nnarray.core import batch_norm, regularization
from nnarray.core.primitives import Primitives
from nnarray.core.propagation import Forward
from nnarray.core.typing import Array, Layers, Namespace
from nnarray.core.vector import vector_size
from nnarray.engine import compiling, compute, equations, jitted, tiling, updates
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.engine.batch_norm_tiles import ForwardPasses, Passes, PullPasses

T = TypeVar("T")


def theta_size(sizes: Sequence[int]) -> int:
    """The length of theta with gamma: Σ n[l] (n[l-1] + 1), and n[l] more for each hidden layer."""
    return vector_size(sizes) + sum(sizes[1:-1])


def split(theta: Array, sizes: Sequence[int], *, xp: Namespace) -> list[tuple[Array, ...]]:
    """(W[1], beta[1], gamma[1]), …, (W[L], b[L]) from theta, which `vector.join` lays end to end in this order."""
    last = len(sizes) - 1
    return [
        views_of(theta, start, [(n, n_prev), (n, 1), (n, 1)][: 2 if l == last else 3], xp=xp)
        for l, (start, (n_prev, n)) in enumerate(zip(_starts(sizes), pairwise(sizes), strict=True), 1)
    ]


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each layer begins in theta."""
    return list(accumulate((n * (n_prev + 2) for n_prev, n in pairwise(sizes[:-1])), initial=0))


def split_statistics(vector: Array, sizes: Sequence[int], *, xp: Namespace) -> list[tuple[Array, ...]]:
    """(mean[1], variance[1]), …, (mean[L-1], variance[L-1]), (n[l], 1) each, from their vector."""
    starts = accumulate((2 * n for n in sizes[1:-1]), initial=0)
    return [views_of(vector, start, [(n, 1), (n, 1)], xp=xp) for start, n in zip(starts, sizes[1:-1], strict=False)]


def views_of(V: Array, start: int, shapes: Sequence[tuple[int, int]], *, xp: Namespace) -> tuple[Array, ...]:
    """Matrices of these shapes that lie one after the other in a vector, from `start` on."""
    ends = accumulate((rows * columns for rows, columns in shapes), initial=start)
    return tuple(xp.reshape(V[i:j], shape) for (i, j), shape in zip(pairwise(ends), shapes, strict=True))


def cost(
    batch: Batch,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float = 0.0,
    workers: int | None = None,
    width: int | None = None,
) -> Array:
    """J of a batch in training, with the penalties. Raises ValueError for an X that is not finite."""
    numbers = equations.numbers_of_cost(batch.m, l2, l1)

    def of_all(tile: Tile, start: int) -> Array:
        require_finite(tile.X, "X", backend, first=start)
        return _computed(training_cost, tile, layers, network, backend, numbers)[0]

    def in_tiles(width: int) -> Array:
        if tiling.is_whole(width, batch):
            return compute.as_one_tile(training_cost, of_all, batch, layers[0][0].dtype, network, backend)
        J = ForwardPasses(batch, layers, network, backend, workers=workers, width=width).cost()
        return compute.cost_from_sum(J, batch.m, weights_of(layers), backend, l2=l2, l1=l1)

    return with_room(in_tiles, batch, layers, network, backend, width)


def cost_and_gradients(
    batch: Batch,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float = 0.0,
    workers: int | None = None,
    width: int | None = None,
) -> tuple[Array, Array, Array]:
    """J of a batch in training, its gradient laid out as theta, and the batch's statistics."""
    numbers = equations.numbers_of_cost(batch.m, l2, l1)
    shapes = _shapes(layers, network)

    def of_all(tile: Tile, _: int) -> tuple[Array, Array]:
        J, vector, _ = _computed(training_gradients, tile, layers, network, backend, numbers, shapes=shapes)
        return J, vector

    def in_tiles(width: int) -> tuple[Array, Array]:
        if tiling.is_whole(width, batch):
            return compute.as_one_tile(training_gradients, of_all, batch, layers[0][0].dtype, network, backend)
        passes = Passes(batch, layers, network, backend, workers=workers, width=width)
        J, sums = passes.cost_and_gradients()
        made = with_penalties([[V / batch.m for V in of_layer] for of_layer in sums], layers, backend.xp, **numbers)
        made += statistics_of(passes)
        return compute.cost_from_sum(J, batch.m, weights_of(layers), backend, l2=l2, l1=l1), backend.primitives.join(
            [made]
        )

    J, vector = with_room(in_tiles, batch, layers, network, backend, width)
    size = theta_size(network.sizes)
    return J, vector[:size], vector[size:]


def gradients_from_sums(
    J: Array,
    g: Array,
    m: Array,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float,
) -> tuple[Array, Array]:
    """J and its gradient, from their sums over all columns; g may be written over."""
    g /= m
    numbers = equations.numbers_of_cost(m, l2, l1)
    sums = split(g, network.sizes, xp=backend.xp)
    g = backend.primitives.join([with_penalties(sums, layers, backend.xp, **numbers)])
    return compute.cost_from_sum(J, m, weights_of(layers), backend, l2=l2, l1=l1), g


def predict(
    X: Array,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    *,
    workers: int | None = None,
    width: int | None = None,
) -> Array:
    """A[L] (n[L], m) of a batch in training. Raises ValueError for an X that is not finite."""
    batch = Batch(X, None, X.shape[1])

    def of_all(tile: Tile, start: int) -> Array:
        require_finite(tile.X, "X", backend, first=start)
        return _computed(training_prediction, tile, layers, network, backend, rows=network.sizes[-1])[2]

    def in_tiles(width: int) -> Array:
        if tiling.is_whole(width, batch):
            return compute.as_one_tile(training_prediction, of_all, batch, layers[0][0].dtype, network, backend)
        return ForwardPasses(batch, layers, network, backend, workers=workers, width=width).prediction()

    return with_room(in_tiles, batch, layers, network, backend, width)


def pull(
    batch: Batch,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    *,
    workers: int | None = None,
    width: int | None = None,
) -> tuple[Array, Array, Array]:
    """Of a batch in training with dA[L] for its Y: the gradient laid out as theta, the batch's statistics, and dX.

    As in `compute.pull`, gradients are sums over the columns, the batch goes forward again, and X must be finite.
    """
    shapes = _shapes(layers, network)

    def of_all(tile: Tile, start: int) -> tuple[Array, Array]:
        require_finite(tile.X, "X", backend, first=start)
        return _computed(training_pullback, tile, layers, network, backend, shapes=shapes, rows=network.sizes[0])[1:]

    def in_tiles(width: int) -> tuple[Array, Array]:
        if tiling.is_whole(width, batch):
            return compute.as_one_tile(training_pullback, of_all, batch, layers[0][0].dtype, network, backend)
        passes = PullPasses(batch, layers, network, backend, workers=workers, width=width)
        gradients, dX = passes.pull()
        return backend.primitives.join([*gradients, statistics_of(passes)]), dX

    vector, dX = with_room(in_tiles, batch, layers, network, backend, width)
    size = theta_size(network.sizes)
    return vector[:size], vector[size:], dX


def _shapes(layers: Layers, network: Architecture) -> list[tuple[int, int]]:
    """Of the gradients, and of the statistics."""
    return [V.shape for layer in layers for V in layer] + [(n, 1) for n in network.sizes[1:-1] for _ in range(2)]


def with_room(
    in_tiles: Callable[[int], T],
    batch: Batch,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    width: int | None,
) -> T:
    """What `in_tiles` makes of the whole batch in tiles of a width, for which there must be room."""
    try:
        return tiling.as_wide_as_fits(in_tiles, batch, weights_of(layers), network, backend, width)
    except MemoryError as error:
        kept = sum(network.sizes[1:-1]) + max(network.sizes[1:-1], default=0)
        msg = (
            f"there is no room for a batch of m = {batch.columns} examples, of each of which batch normalisation keeps "
            f"{kept} numbers: take mini-batches, such as batch_size = {max(2, batch.columns // 8)} ({error})"
        )
        raise MemoryError(msg) from error


def _computed(
    wanted: equations.Equations,
    tile: Tile,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any] = equations.NO_NUMBERS,
    *,
    shapes: Sequence[tuple[int, int]] = (),
    rows: int = 0,
) -> tuple[Array, Array, Array]:
    """J, arrays of these shapes one after the other in a vector, and where there are rows, a matrix of the examples."""
    given: Any = layers
    program = compiling.program_for(wanted, tile, given, network, backend, numbers, only_tile=True)
    if program is not None:
        size = sum(rows * columns for rows, columns in shapes)
        vector = backend.xp.empty(size, dtype=layers[0][0].dtype)
        parts = views_of(vector, 0, shapes, xp=backend.xp)
        matrices = [backend.new_matrix((rows, tile.X.shape[1]), vector.dtype)] if rows else []
        J = program(*compiling.inputs_of(tile, given, numbers), *parts, *matrices)
        return J, vector, matrices[0] if rows else None
    run = jitted.compute_coupled if backend.jits else compiling.compute
    J, made = run(wanted, tile, given, network, backend, numbers)
    vector = backend.primitives.join([made[: len(shapes)]]) if shapes else None
    return J, vector, made[-1] if rows else None


def training_cost(
    tile: Tile, layers: Layers, network: Architecture, primitives: Primitives, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J of the tile as a batch in training, given l2 or l1 with that penalty."""
    passed, _ = _forward(tile, layers, network, primitives)
    return equations.loss_and_penalties(passed, tile, weights_of(layers), network, primitives, m=m, **penalties), []


def training_gradients(
    tile: Tile, layers: Layers, network: Architecture, primitives: Primitives, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J as in `training_cost`; dW[1], dbeta[1], dgamma[1], …, dW[L], db[L]; the statistics of the tile."""
    passed, normalized = _forward(tile, layers, network, primitives)
    J = equations.loss_and_penalties(passed, tile, weights_of(layers), network, primitives, m=m, **penalties)
    dZ = equations.output_gradient(passed, tile, network, primitives)
    given = passed, normalized, layers, network.hidden
    found, _ = batch_norm.backward(dZ, *given, m=m, primitives=primitives, masks=tile.masks)
    made = with_penalties(found, layers, primitives.xp, m=m, **penalties)
    return J, made + as_averaged([(norm.mean, norm.variance) for norm in normalized], tile.X.shape[1])


def training_prediction(
    tile: Tile, layers: Layers, network: Architecture, primitives: Primitives
) -> tuple[None, list[Array]]:
    """A[L] of the tile as a batch in training."""
    return None, [_forward(tile, layers, network, primitives)[0].A[-1]]


def training_pullback(
    tile: Tile, layers: Layers, network: Architecture, primitives: Primitives
) -> tuple[None, list[Array]]:
    """dW[1], dbeta[1], dgamma[1], …, the statistics of the tile, and dX, given dA[L] in the place of Y."""
    passed, normalized = _forward(tile, layers, network, primitives)
    dZ = primitives.mean_backward[network.output](tile.Y, passed.A[-1])
    gradients, dZ = batch_norm.backward(dZ, passed, normalized, layers, network.hidden, m=1, primitives=primitives)
    made = [V for layer in gradients for V in layer]
    made += as_averaged([(norm.mean, norm.variance) for norm in normalized], tile.X.shape[1])
    return None, [*made, primitives.linear_backward_input(dZ, layers[0][0])]


def _forward(
    tile: Tile, layers: Layers, network: Architecture, primitives: Primitives
) -> tuple[Forward, list[batch_norm.Normalized]]:
    """The layers one after the other, in training."""
    return batch_norm.forward(tile.X, layers, network.hidden, network.output, primitives=primitives, masks=tile.masks)


def training_step(
    tile: Tile, layers: Layers, network: Architecture, primitives: Primitives, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J and the gradients as in `training_gradients`; the averages after the tile, of layers `with_averages`."""
    known = [layer[:3] for layer in layers]
    J, made = training_gradients(tile, known, network, primitives, m=m, **penalties)
    averages = [V for layer in layers for V in layer[3:]]
    count = len(made) - len(averages)
    return J, [*made[:count], *map(batch_norm.averaged, averages, made[count:])]


def with_averages(layers: Layers, statistics: Array, sizes: Sequence[int], *, xp: Namespace) -> list[Sequence[Array]]:
    """(W[1], beta[1], gamma[1], mean[1], variance[1]), …, (W[L], b[L])."""
    averages = split_statistics(statistics, sizes, xp=xp)
    return [*((*layer, *pair) for layer, pair in zip(layers[:-1], averages, strict=True)), layers[-1]]


def move_averages(statistics: Array, seen: Array, backend: Backend) -> Array:
    """The averages after a further batch, in their own memory where that can be written."""
    if not statistics.shape[0]:
        return statistics
    (moved,) = updates.update(_averages_rule, [statistics], seen, backend, t=1, alpha=0.0, in_place=True)
    return moved


def _averages_rule(average: Array, *, g: Array, t: int, alpha: float, xp: Namespace) -> Sequence[Array]:
    """The averages as an update's rule, whose g is what a batch has."""
    return [batch_norm.averaged(average, g)]


def with_penalties(found: Layers, layers: Layers, xp: Namespace, *, m: Array, **penalties: float) -> list[Array]:
    """The gradients of all layers one after the other, with the shares of those penalties that are given."""
    pairs = regularization.gradients_with_penalties(weights_of(found), weights_of(layers), m=m, xp=xp, **penalties)
    return [V for pair, layer in zip(pairs, found, strict=True) for V in (*pair, *layer[2:])]


def statistics_of(passes: Passes) -> list[Array]:
    """Those of a batch, as they are averaged, once all passes were made."""
    return as_averaged(passes.statistics, passes.columns)


def as_averaged(known: Sequence[tuple[Array, Array]], columns: int) -> list[Array]:
    """mean[1], variance[1], mean[2], …, as they are averaged."""
    return [V for mean, variance in known for V in (mean, batch_norm.unbiased(variance, columns))]


def weights_of(layers: Layers) -> list[tuple[Array, Array]]:
    """(W, b) or (W, beta) of every layer: penalties are W's alone."""
    return [(layer[0], layer[1]) for layer in layers]
