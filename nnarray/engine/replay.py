"""The equations of a tile, compiled where the library can: recorded for NumPy and CuPy, jitted on JAX.

On NumPy a shape that comes only once is not worth recording: a batch of one tile is computed as core stands the first
time.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from nnarray.backends import (
    Backend,
    NotRecordable,
    Program,
    has_programs,
    is_sparse,
    new_program,
    plain_steps,
    recorded_steps,
)
from nnarray.core.typing import Array, Pairs
from nnarray.engine.batch import Architecture, Tile
from nnarray.engine.equations import Equations

SHAPES_KEPT = 64
"""How many shapes of tiles keep their program."""

BYTES_KEPT = 64 * 2**20
"""How much memory the programs' buffers may take together before a further program is noted down."""

NO_NUMBERS: Mapping[str, Any] = MappingProxyType({})

_programs: WeakSet[Any] = WeakSet()
"""those of NumPy, which keep their buffers from one run to the next"""
_lock = Lock()


class Shape:
    """A shape of tiles: how often it was met, and its program once there is one."""

    def __init__(self) -> None:
        self.visits = 0
        self.program: Program | None = None
        self.is_plain = False
        """whether a cost of the caller's own does what no program can"""


@lru_cache(maxsize=SHAPES_KEPT)
def _shape(*_: Any) -> Shape:
    return Shape()


def program_for(
    equations: Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any] = NO_NUMBERS,
    *,
    returns_often: bool,
) -> Program | None:
    """The program for tiles of this shape; None where there can't be one or it isn't worth it yet.

    Backends without programs and a sparse X have none. `numbers` are further arguments of the equations.
    `returns_often` says that tiles of this shape will come again.
    """
    if not has_programs(backend) or is_sparse(tile.X):
        return None
    given = Given(tile.Y is not None, tile.weights is not None, bool(tile.masks), _kinds(numbers))
    columns, dtype = tile.X.shape[1], layers[0][0].dtype
    shape = _shape(equations, network, columns, dtype, given, backend)
    if shape.program is None and not shape.is_plain:
        shape.visits += 1
        if shape.visits > 1 or returns_often or backend.name != "numpy":
            try:
                shape.program = _kept(_record(equations, network, columns, dtype, given, backend), backend)
            except NotRecordable:
                shape.is_plain = True
    return shape.program


class Given(NamedTuple):
    """What the equations of a tile are given besides X and the layers."""

    labels: bool
    weights: bool
    masks: bool
    numbers: tuple[tuple[str, bool], ...]
    """the names of further arguments, and whether each is an array on the device"""


def _kinds(numbers: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    return tuple((name, not isinstance(number, int | float | np.generic)) for name, number in numbers.items())


def _kept(program: Program, backend: Backend) -> Program:
    if backend.name == "numpy":
        _make_room()
        with _lock:
            _programs.add(program)
    return program


def compute(
    equations: Equations,
    tile: Tile,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    numbers: Mapping[str, Any] = NO_NUMBERS,
) -> tuple[Array | None, list[Array]]:
    """The equations without a program: as core stands, on JAX jitted for each network and shape."""
    if backend.name != "jax" or plain_steps():
        return equations(tile, layers, network, backend.steps, **numbers)
    result: tuple[Array | None, list[Array]] = _jitted(equations, network, backend)(tile, [*layers], dict(numbers))
    return result


@lru_cache(maxsize=SHAPES_KEPT)
def _jitted(equations: Equations, network: Architecture, backend: Backend) -> Callable[..., Any]:
    import jax

    def compute(tile: Tile, layers: Pairs, numbers: Mapping[str, Any]) -> Any:
        return equations(tile, layers, network, backend.steps, **numbers)

    jitted: Callable[..., Any] = jax.jit(compute)
    return jitted


def _make_room() -> None:
    """Where the buffers have grown large, let all of them go: those still in use are soon made again."""
    with _lock:
        programs = list(_programs)
    if sum(program.idle_bytes for program in programs) > BYTES_KEPT:
        for program in programs:
            program.forget_buffers()


def inputs_of(tile: Tile, layers: Pairs, numbers: Mapping[str, Any] = NO_NUMBERS) -> list[Any]:
    """What a program is called with, before its outputs."""
    given = [V for V in (tile.X, tile.Y, tile.weights) if V is not None]
    return [*given, *tile.masks, *(V for pair in layers for V in pair), *numbers.values()]


@lru_cache(maxsize=16)
def captured_program(
    equations: Equations,
    network: Architecture,
    columns: int,
    dtype: Any,
    given: Given,
    backend: Backend,
) -> Program:
    """The program for tiles of this shape that is to be captured in a graph."""
    return _record(equations, network, columns, dtype, given, backend, captured=True)


def _record(
    equations: Equations,
    network: Architecture,
    columns: int,
    dtype: Any,
    given: Given,
    backend: Backend,
    *,
    captured: bool = False,
) -> Program:
    from nnarray.backends.recording import Recording

    recording, sizes = Recording(dtype), network.sizes
    X = recording.input("X", (sizes[0], columns))
    Y = recording.input("Y", (sizes[-1], columns)) if given.labels else None
    weights = recording.input("weights", (1, columns)) if given.weights else None
    masks = [recording.input(f"D{l}", (n, columns)) for l, n in enumerate(sizes[1:-1], 1)] if given.masks else ()
    layers = [
        (recording.input(f"W{l}", (n, n_prev), order="C"), recording.input(f"b{l}", (n, 1)))
        for l, (n_prev, n) in enumerate(pairwise(sizes), 1)
    ]
    numbers = {
        name: recording.input(name, ()) if is_array else recording.scalar(name) for name, is_array in given.numbers
    }
    tile = Tile(X, Y, weights, masks)
    result, outputs = equations(tile, layers, network, recorded_steps(recording), **numbers)
    named = {f"out{i}": V for i, V in enumerate(outputs)}
    return new_program(recording, backend, returns=result, outputs=named, captured=captured)
