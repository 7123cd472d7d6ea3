"""Equations and update rules jitted by JAX. Every shape costs a compilation, and megabytes while it is cached."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nnarray.backends import Backend, is_concrete
from nnarray.core.typing import Array, Namespace, Pairs
from nnarray.engine import equations
from nnarray.engine.batch import Architecture, Tile
from nnarray.engine.rules import RuleKey, traced
from nnarray.programs.graph import Scalar
from nnarray.programs.targets.namespace import evaluated
from nnarray.programs.targets.scalars import function_of

EXACT_WIDTHS = 16
"""Of a network's equations, how many numbers of columns are compiled as they come. What comes after those is padded."""

KEPT = 128
"""Programs of all networks and shapes; the one that was not used for longest is dropped."""


def compute(
    wanted: equations.Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any],
) -> tuple[Array | None, list[Array]]:
    """The equations of a tile, padded with columns that weigh nothing where EXACT_WIDTHS others came before."""
    columns, key = tile.X.shape[1], _key(wanted, tile, layers, network, backend)
    *_, have_values = key
    if not (have_values and _may_be_padded(tile, network, backend)) or admits_exactly(columns, *key):
        return _run(key, tile, layers, numbers)
    weighted = wanted in {equations.cost, equations.cost_and_prediction, equations.cost_and_gradients}
    J, made = _run(key, _padded(tile, columns, weighted, backend), layers, numbers)
    if made and wanted is not equations.cost_and_gradients:  # the last is A[L] or dX, with a column for each example
        made = [*made[:-1], _cut(made[-1], columns, backend)]
    return J, made


def compute_exactly(
    wanted: equations.Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any],
) -> tuple[Array, list[Array]]:
    """The equations of a tile whose columns are coupled, so that none may be added: each width is compiled."""
    J, made = _run(_key(wanted, tile, layers, network, backend), tile, layers, numbers)
    return J, made


def _key(
    wanted: equations.Equations, tile: Tile, layers: Pairs, network: Architecture, backend: Backend
) -> tuple[equations.Equations, Architecture, Backend, Any, bool]:
    """What is compiled, for every width; the last is whether all arrays have values."""
    given = [V for V in (*tile[:3], *tile.masks, *(V for layer in layers for V in layer)) if V is not None]
    return wanted, network, backend, layers[0][0].dtype, all(map(is_concrete, given))


def _may_be_padded(tile: Tile, network: Architecture, backend: Backend) -> bool:
    """Whether NumPy sees the arrays, and the losses of further columns are finite."""
    is_own = network.own_cost is not None or network.reported_loss is not None
    return not is_own and backend.looked_into(tile.X)[1].is_host


def _cut(V: Array, columns: int, backend: Backend) -> Array:
    """The first columns; without a further compilation where V has values."""
    if not is_concrete(V):
        return V[:, :columns]
    return backend.asarray(backend.looked_into(V)[0][:, :columns].copy())


def admits_exactly(columns: int, *key: Any) -> bool:
    """Whether examples of so many columns are taken as they come, as the first few widths of what the key names are."""
    widths = _exact_widths(*key)
    if columns in widths or len(widths) < EXACT_WIDTHS:
        widths.add(columns)
    return columns in widths


def padded_width(columns: int) -> int:
    """The next of 4, 5, 6 and 7 times a power of two, so that up to any m there are few, and at most a quarter more."""
    step = 1 << max(0, (columns - 1).bit_length() - 3)
    return -(-columns // step) * step


def _padded(tile: Tile, columns: int, is_weighted: bool, backend: Backend) -> Tile:
    width = padded_width(columns)
    weights = tile.weights
    if is_weighted and weights is None:
        weights = np.ones((1, columns), tile.X.dtype)
    X, Y, weights = (V if V is None else widened(V, width, backend) for V in (tile.X, tile.Y, weights))
    return Tile(X, Y, weights, [widened(D, width, backend) for D in tile.masks])


def widened(V: Array, width: int, backend: Backend) -> Array:
    """A matrix that NumPy sees, with columns of zeros up to this width."""
    return backend.asarray(np.pad(np.asarray(V), ((0, 0), (0, width - V.shape[1]))))


def _run(key: Any, tile: Tile, layers: Pairs, numbers: Mapping[str, Any]) -> tuple[Array | None, list[Array]]:
    given = tuple(V is not None for V in tile[:3]), len(tile.masks), tuple(numbers)
    jitted = _jitted(*key, tile.X.shape[1], given)
    return jitted(tile, [*layers], dict(numbers))


@lru_cache(maxsize=96)
def _exact_widths(*_: Any) -> set[int]:
    return set()


@lru_cache(maxsize=KEPT)
def _jitted(
    wanted: equations.Equations, network: Architecture, backend: Backend, dtype: Any, have_values: bool, *_: Any
) -> Callable[..., tuple[Array | None, list[Array]]]:
    """The equations for one shape, so that what was compiled is given back where it is dropped here."""

    def compute(tile: Tile, layers: Pairs, numbers: Mapping[str, Any]) -> Any:
        primitives = backend.primitives_of_values if have_values else backend.primitives
        return wanted(tile, layers, network, primitives, **numbers)

    return backend.jit(compute)


def updates_at_once(arrays: Sequence[Array], t: Any, alpha: Any, backend: Backend) -> bool:
    """Whether an update is one call of a function that JAX compiled: of arrays with values, and of Python's numbers."""
    if not backend.jits or not isinstance(t, int) or not isinstance(alpha, int | float):
        return False
    return all(map(is_concrete, arrays))


def update(
    rule_key: RuleKey, vectors: Sequence[Array], g: Array, t: int, alpha: float, backend: Backend
) -> Sequence[Array]:
    """What the rule makes of theta and the running means."""
    run, numbers = _update(rule_key, len(vectors), g.shape[0], np.dtype(g.dtype), backend)
    made: Sequence[Array] = run(tuple(vectors), g, np.array(numbers(t, alpha), g.dtype))
    return made


@lru_cache(maxsize=32)
def _update(
    rule_key: RuleKey, count: int, size: int, dtype: Any, backend: Backend
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The rule's equations compiled, and what their own numbers are, of t and alpha: see `rule_of`."""
    run, numbers = rule_of(rule_key, count, size, dtype, xp=backend.xp)
    return backend.jit(run), numbers


def rule_of(
    rule_key: RuleKey, count: int, size: int, dtype: Any, *, xp: Namespace
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The rule as a function of the vectors, g and a row of numbers, and what these are, of t and alpha.

    They are computed on the host: 1 - beta^t wants more digits than a float32 has.
    """
    graph = traced(rule_key.rule, count, size, dtype)
    scalars = list(dict.fromkeys(s for node in graph.nodes for s in node.sources if isinstance(s, Scalar)))

    def run(vectors: Sequence[Array], g: Array, row: Array) -> tuple[Array, ...]:
        numbers = {scalar: row[i] for i, scalar in enumerate(scalars)}
        return tuple(evaluated(graph, [*vectors, g], numbers, xp=xp).values())

    return run, function_of(graph.scalars, scalars)
