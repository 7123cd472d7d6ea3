"""The equations of a tile, compiled where the library can: traced once per shape for NumPy and CuPy, jitted on JAX."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends import Backend, Program, is_sparse
from nnarray.core.primitives import bind
from nnarray.core.typing import Array, Pairs
from nnarray.engine import jitted
from nnarray.engine.batch import Architecture, Batch, Tile
from nnarray.engine.equations import NO_NUMBERS, Equations
from nnarray.programs.graph import Graph
from nnarray.programs.placeholders import NotTraceableError
from nnarray.programs.trace import Trace, Traced

SHAPES_KEPT = 64
"""How many shapes of tiles keep their program."""


class Given(NamedTuple):
    """What the equations of a tile are given besides X and the layers."""

    labels: bool
    weights: bool
    masks: bool
    numbers: tuple[tuple[str, bool], ...]
    """the names of further arguments, and whether each is an array on the device"""
    averages: bool = False
    """whether hidden layers have (W, beta, gamma, mean, variance), the last two written over by the last outputs"""
    narrow: bool = False
    """whether X is in the narrower float of the backend's precision"""


def program_for(
    equations: Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any] = NO_NUMBERS,
    *,
    only_tile: bool = False,
) -> Program | None:
    """The program for tiles of this shape; None where there can't be one.

    Backends without programs and a sparse X have none. `numbers` are further arguments of the equations. The
    `only_tile` is the whole batch, and may be shared by threads.
    """
    if not backend.compiles or is_sparse(tile.X):
        return None
    has, narrow = (tile.Y is not None, tile.weights is not None, bool(tile.masks)), backend.is_narrow(tile.X)
    given = Given(*has, kinds_of(numbers), narrow=narrow)
    return compiled(equations, network, tile.X.shape[1], layers[0][0].dtype, given, backend, shared=only_tile)


def compile_ahead(
    equations: Equations, batch: Batch, columns: int, dtype: Any, network: Architecture, backend: Backend
) -> None:
    """Make the program for tiles of so many columns on the host, where several threads would ask for it at once."""
    if backend.is_host and backend.compiles and not is_sparse(batch.source.array):
        given = Given(batch.Y is not None, batch.weights is not None, bool(batch.draw_masks), ())
        compiled(equations, network, columns, dtype, given, backend, shared=False)


def kinds_of(numbers: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """What `Given` knows of numbers."""
    return tuple((name, not isinstance(number, int | float | np.generic)) for name, number in numbers.items())


def compute(
    equations: Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any] = NO_NUMBERS,
) -> tuple[Array | None, list[Array]]:
    """The equations without a program: core's functions as they stand, jitted on JAX."""
    if not backend.jits:
        return equations(tile, layers, network, backend.primitives, **numbers)
    return jitted.compute(equations, tile, layers, network, backend, numbers)


def inputs_of(tile: Tile, layers: Pairs, numbers: Mapping[str, Any] = NO_NUMBERS) -> list[Any]:
    """The inputs of a program, in its order; its outputs follow them in a call."""
    given = [V for V in (tile.X, tile.Y, tile.weights) if V is not None]
    return [*given, *tile.masks, *(V for pair in layers for V in pair), *numbers.values()]


@lru_cache(maxsize=SHAPES_KEPT)
def compiled(
    equations: Equations,
    network: Architecture,
    columns: int,
    dtype: Any,
    given: Given,
    backend: Backend,
    *,
    captured: bool = False,
    shared: bool = True,
) -> Program | None:
    """The program for tiles of this shape; None where a cost of the caller's own does what no program can.

    One that is to be `captured` in a graph finds its numbers on the device. One that is `shared` is cut into pieces for
    several threads, where it is worth that.
    """
    try:
        graph = traced(equations, network, columns, dtype, given)
    except NotTraceableError:
        return None
    return backend.new_program(graph, captured=captured, shared=shared)


def is_traceable(wanted: Equations, network: Architecture, columns: int, dtype: Any) -> bool:
    """Whether a program can compute the equations: not with a cost of the caller's own that does what none can."""
    return network.own_cost is None or _is_traceable(wanted, network, columns, dtype)


@lru_cache(maxsize=SHAPES_KEPT)
def _is_traceable(wanted: Equations, network: Architecture, columns: int, dtype: Any) -> bool:
    try:
        traced(wanted, network, columns, dtype, Given(labels=True, weights=False, masks=False, numbers=()))
    except NotTraceableError:
        return False
    return True


def traced(equations: Equations, network: Architecture, columns: int, dtype: Any, given: Given) -> Graph:
    """The equations of a tile of so many columns; `inputs_of` says in which order its program is given the inputs."""
    trace, sizes = Trace(dtype), network.sizes

    def of_examples(name: str, rows: int) -> Traced:
        return trace.input(name, (rows, columns), per_example=True)

    def of_normalization(l: int, n: int) -> list[Traced]:
        names = ["gamma", "mean", "variance"] if given.averages else ["gamma"]
        has_it = network.batch_norm and l < len(sizes) - 1
        return [trace.input(f"{name}{l}", (n, 1)) for name in names] if has_it else []

    X = of_examples("X", sizes[0])
    Y = of_examples("Y", sizes[-1]) if given.labels else None
    weights = of_examples("weights", 1) if given.weights else None
    masks = [of_examples(f"D{l}", n) for l, n in enumerate(sizes[1:-1], 1)] if given.masks else ()
    layers: Any = [
        (trace.input(f"W{l}", (n, n_prev), order="C"), trace.input(f"b{l}", (n, 1)), *of_normalization(l, n))
        for l, (n_prev, n) in enumerate(pairwise(sizes), 1)
    ]
    numbers = {name: trace.input(name, ()) if is_array else trace.scalar(name) for name, is_array in given.numbers}
    result, outputs = equations(Tile(X, Y, weights, masks), layers, network, bind(trace), **numbers)
    named = {f"out{i}": V for i, V in enumerate(outputs)}
    averages = [V for layer in layers for V in layer[3:]]
    over = dict(zip(list(named)[len(named) - len(averages) :], averages, strict=True))
    return trace.graph(named, result=result, over=over, narrow=[X] if given.narrow else [])
