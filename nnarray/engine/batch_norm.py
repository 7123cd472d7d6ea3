"""Batch normalisation over a batch in training. It couples the columns, so that a batch is always one tile.

Memory for a pass grows with m here. The statistics of a batch are one vector: mean[1], variance[1], mean[2], …, with
the variance of all examples as the batch tells it, divided by m - 1.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from nnarray.backends import Backend, require_finite
from nnarray.core import batch_norm
from nnarray.core.steps import Steps
from nnarray.core.typing import Array, Layers, Namespace
from nnarray.core.vector import vector_size
from nnarray.engine import compiling, equations, jitted
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.engine.compute import as_one_tile

T = TypeVar("T")


def theta_size(sizes: Sequence[int]) -> int:
    """The length of theta with gamma: Σ n[l] (n[l-1] + 1), and n[l] more for each hidden layer."""
    return vector_size(sizes) + sum(sizes[1:-1])


def split(theta: Array, sizes: Sequence[int], *, xp: Namespace) -> list[tuple[Array, ...]]:
    """(W[1], beta[1], gamma[1]), …, (W[L], b[L]) from theta, which `vector.join` lays end to end in this order."""
    last = len(sizes) - 1
    return [
        parts_of(theta, start, [(n, n_prev), (n, 1), (n, 1)][: 2 if l == last else 3], xp=xp)
        for l, (start, (n_prev, n)) in enumerate(zip(_starts(sizes), pairwise(sizes), strict=True), 1)
    ]


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each layer begins in theta."""
    return list(accumulate((n * (n_prev + 2) for n_prev, n in pairwise(sizes[:-1])), initial=0))


def split_statistics(vector: Array, sizes: Sequence[int], *, xp: Namespace) -> list[tuple[Array, ...]]:
    """(mean[1], variance[1]), …, (mean[L-1], variance[L-1]), (n[l], 1) each, from their vector."""
    starts = accumulate((2 * n for n in sizes[1:-1]), initial=0)
    return [parts_of(vector, start, [(n, 1), (n, 1)], xp=xp) for start, n in zip(starts, sizes[1:-1], strict=False)]


def parts_of(V: Array, start: int, shapes: Sequence[tuple[int, int]], *, xp: Namespace) -> tuple[Array, ...]:
    """Matrices of these shapes that lie one after the other in a vector, from `start` on."""
    ends = accumulate((rows * columns for rows, columns in shapes), initial=start)
    return tuple(xp.reshape(V[i:j], shape) for (i, j), shape in zip(pairwise(ends), shapes, strict=True))


def cost(batch: Batch, layers: Layers, network: Architecture, backend: Backend, *, l2: float, l1: float = 0.0) -> Array:
    """J of a batch in training, with the penalties. Raises ValueError for an X that is not finite."""
    numbers = equations.numbers_of_cost(batch.m, l2, l1)

    def of_tile(tile: Tile, start: int) -> Array:
        require_finite(tile.X, "X", backend, first=start)
        return _computed(training_cost, tile, layers, network, backend, numbers, [])[0]

    return _as_one_tile(of_tile, batch, layers, network, backend)


def cost_and_gradients(
    batch: Batch, layers: Layers, network: Architecture, backend: Backend, *, l2: float, l1: float = 0.0
) -> tuple[Array, Array, Array]:
    """J of a batch in training, its gradient laid out as theta, and the batch's statistics."""
    numbers = equations.numbers_of_cost(batch.m, l2, l1)
    shapes = [V.shape for layer in layers for V in layer]
    shapes += [(n, 1) for n in network.sizes[1:-1] for _ in range(2)]

    def of_tile(tile: Tile, _: int) -> tuple[Array, Array]:
        J, made = _computed(training_gradients, tile, layers, network, backend, numbers, shapes)
        return J, backend.steps.join([made]) if isinstance(made, list) else made

    J, vector = _as_one_tile(of_tile, batch, layers, network, backend)
    size = theta_size(network.sizes)
    return J, vector[:size], vector[size:]


def _as_one_tile(of_tile: Callable[..., T], batch: Batch, layers: Layers, network: Architecture, backend: Backend) -> T:
    """What is made of the whole batch, for which there must be room."""
    try:
        with backend.current():
            return as_one_tile(of_tile, batch, layers[0][0].dtype, network, backend)
    except MemoryError as error:
        msg = (
            f"there is no room for m = {batch.columns} examples at once, which batch normalisation takes as one batch: "
            f"take mini-batches, such as batch_size = {max(2, batch.columns // 8)} of nn.train ({error})"
        )
        raise MemoryError(msg) from error


def _computed(
    wanted: equations.Equations,
    tile: Tile,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any],
    shapes: Sequence[tuple[int, int]],
) -> tuple[Array, Any]:
    """J, and arrays of these shapes: a list, or from a program one after the other in a vector."""
    given: Any = layers
    program = compiling.program_for(wanted, tile, given, network, backend, numbers, only_tile=True)
    if program is not None:
        size = sum(rows * columns for rows, columns in shapes)
        vector = backend.xp.empty(size, dtype=layers[0][0].dtype)
        made = parts_of(vector, 0, shapes, xp=backend.xp)
        return program(*compiling.inputs_of(tile, given, numbers), *made), vector
    compute = jitted.compute_exactly if backend.jits else compiling.compute
    return compute(wanted, tile, given, network, backend, numbers)


def training_cost(
    tile: Tile, layers: Layers, network: Architecture, steps: Steps, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J of the tile as a batch in training, given l2 or l1 with that penalty."""
    passed, _ = batch_norm.forward(tile.X, layers, network.hidden, network.output, steps=steps, masks=tile.masks)
    J = equations.loss(passed, tile, network, steps, m=m)
    return equations.cost_with_penalties(J, weights_of(layers), m=m, xp=steps.xp, **penalties), []


def training_gradients(
    tile: Tile, layers: Layers, network: Architecture, steps: Steps, *, m: Array = 1, **penalties: float
) -> tuple[Array, list[Array]]:
    """J as in `training_cost`; dW[1], dbeta[1], dgamma[1], …, dW[L], db[L]; the statistics of the tile."""
    passed, normalized = batch_norm.forward(
        tile.X, layers, network.hidden, network.output, steps=steps, masks=tile.masks
    )
    J = equations.loss(passed, tile, network, steps, m=m)
    J = equations.cost_with_penalties(J, weights_of(layers), m=m, xp=steps.xp, **penalties)
    dZ = equations.output_gradient(passed, tile, network, steps)
    found = batch_norm.backward_from(dZ, passed, normalized, layers, network.hidden, m=m, steps=steps, masks=tile.masks)
    with_shares = equations.gradients_with_penalties(
        weights_of(found), weights_of(layers), m=m, xp=steps.xp, **penalties
    )
    gradients = [V for pair, layer in zip(with_shares, found, strict=True) for V in (*pair, *layer[2:])]
    return J, [*gradients, *_statistics(normalized, tile.X.shape[1])]


def _statistics(normalized: Sequence[batch_norm.Normalized], columns: int) -> list[Array]:
    """mean[1], variance[1], mean[2], …, as they are averaged."""
    return [V for norm in normalized for V in (norm.mean, batch_norm.unbiased(norm.variance, columns))]


def weights_of(layers: Layers) -> list[tuple[Array, Array]]:
    """(W, b) or (W, beta) of every layer: penalties are W's alone."""
    return [(layer[0], layer[1]) for layer in layers]
