"""Equations and update rules jitted by JAX. Every shape costs a compilation, and megabytes while it is cached."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nnarray.backends import Backend, is_concrete
from nnarray.backends.numpy import NUMPY
from nnarray.core.typing import Array, Layers, Namespace, Pairs
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
    if _may_be_compiled(tile, key, backend):
        return _run(key, tile, layers, numbers)
    J, made = _run(key, _padded(tile, columns, wanted in WEIGHTED, backend), layers, numbers)
    first = len(made) - (len(made) if wanted is equations.activations else wanted in LAST_OF_EXAMPLES)
    return J, [*made[:first], *(_cut(V, columns, backend) for V in made[first:])]


WEIGHTED = frozenset({equations.cost, equations.cost_and_prediction, equations.cost_and_gradients})
LAST_OF_EXAMPLES = frozenset({equations.prediction, equations.cost_and_prediction, equations.pullback})
"""The last array that these make is A[L] or dX, with a column for each example."""


def compute_coupled(
    wanted: equations.Equations,
    tile: Tile,
    layers: Layers,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any],
) -> tuple[Array | None, list[Array]]:
    """The equations of a tile to whose columns none may be added; NumPy's where EXACT_WIDTHS others came before.

    With a cost of the caller's own, which is JAX's to compute, each width is compiled.
    """
    key = _key(wanted, tile, layers, network, backend)
    if network.own_cost is not None or _may_be_compiled(tile, key, backend):
        return _run(key, tile, layers, numbers)
    X, Y, weights = map(_on_host, tile[:3])
    seen = Tile(X, Y, weights, [_on_host(D) for D in tile.masks])
    J, made = wanted(seen, [tuple(map(_on_host, layer)) for layer in layers], network, NUMPY.primitives, **numbers)
    return J if J is None else backend.asarray(J), [backend.asarray(V) for V in made]


def _on_host(V: Array | None) -> Any:
    return V if V is None else np.asarray(V)


def _key(
    wanted: equations.Equations, tile: Tile, layers: Layers, network: Architecture, backend: Backend
) -> tuple[equations.Equations, Architecture, Backend, Any, bool]:
    """What is compiled, for every width; the last is whether all arrays have values."""
    given = [V for V in (*tile[:3], *tile.masks, *(V for layer in layers for V in layer)) if V is not None]
    return wanted, network, backend, layers[0][0].dtype, all(map(is_concrete, given))


def _may_be_compiled(tile: Tile, key: Any, backend: Backend) -> bool:
    """Whether this width is compiled: it is one of the first few, or NumPy does not see the arrays."""
    *_, have_values = key
    is_seen = have_values and backend.looked_into(tile.X)[1].is_host
    return not is_seen or admits_exactly(tile.X.shape[1], *key)


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
    """The tile with further columns: copies of the last, whose loss is finite, of weight 0, or else zeros."""
    width = padded_width(columns)
    weights, mode = tile.weights, "edge" if is_weighted else "constant"
    if is_weighted and weights is None:
        weights = np.ones((1, columns), tile.X.dtype)
    X, Y = (V if V is None else widened(V, width, backend, mode) for V in tile[:2])
    weights = weights if weights is None else widened(weights, width, backend)
    return Tile(X, Y, weights, [widened(D, width, backend) for D in tile.masks])


def widened(V: Array, width: int, backend: Backend, mode: Any = "constant") -> Array:
    """A matrix that NumPy sees, with columns up to this width: zeros, or whichever `np.pad` calls so."""
    return backend.asarray(np.pad(np.asarray(V), ((0, 0), (0, width - V.shape[1])), mode))


def _run(key: Any, tile: Tile, layers: Layers, numbers: Mapping[str, Any]) -> tuple[Array | None, list[Array]]:
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
