"""What batch normalisation computes of a tile in its turn in a layer's pass: by primitives or by a program."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from nnarray.backends import Backend, Program, is_sparse
from nnarray.core import batch_norm
from nnarray.core.primitives import Primitives, bind
from nnarray.core.propagation import Forward
from nnarray.core.regularization import dropout
from nnarray.core.typing import Array
from nnarray.engine import equations
from nnarray.engine.batch import Architecture, Tile
from nnarray.programs.placeholders import NotTraceableError
from nnarray.programs.trace import Trace

Named: TypeAlias = Mapping[str, Array]
"""What a tile's turn in a pass is given: X, or of the layer below Z, mean, variance, beta, gamma and its mask D; of
the layer of the pass W and b, and on the way back dZ after normalisation, Z, mean, variance and gamma as own_…"""

PER_EXAMPLE = frozenset(("X", "Y", "weights", "Z", "D", "dZ", "own_Z"))
"""what has a column for each example"""

PROGRAMS_KEPT = 256
"""Of all passes: a network has about two for each layer and width."""


Pass: TypeAlias = Callable[[Named, Architecture, str, Primitives], tuple[Array | None, list[Array]]]
"""A tile's turn, in the primitives of core: given the layer below's g, it is a sum or None, and arrays."""


class Below(NamedTuple):
    """The layer below that of a pass."""

    A: Array
    """as the layer of the pass sees it"""
    in_g_prime: Array
    """what its g' is written in"""
    normalized: batch_norm.Normalized | None
    """its Z; None where it is X"""


def forward(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[None, list[Array]]:
    """Z of the layer, with its mean and variance in the tile."""
    Z = primitives.linear_forward(below(V, g, primitives).A, V["W"], 0.0)
    return None, [Z, *batch_norm.mean_and_variance(Z, xp=primitives.xp)]


def cost(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[Array, list[Array]]:
    """The sum of the losses."""
    passed, tile = end(V, below(V, g, primitives), network, primitives)
    return equations.loss(passed, tile, network, primitives), []


def cost_and_gradients(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[Array, list[Array]]:
    """The same, m dW[L], m db[L], and what `into_below` finds."""
    found = below(V, g, primitives)
    passed, tile = end(V, found, network, primitives)
    J = equations.loss(passed, tile, network, primitives)
    dZ = equations.output_gradient(passed, tile, network, primitives)
    return J, [*primitives.linear_backward(dZ, found.A, m=1), *into_below(dZ, V, found, g, primitives)]


def backward(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[None, list[Array]]:
    """m dW of a hidden layer, and what `into_below` finds."""
    found, dZ = below(V, g, primitives), before_normalization(V, primitives)
    dW, _ = primitives.linear_backward(dZ, found.A, m=1)
    return None, [dW, *into_below(dZ, V, found, g, primitives)]


def prediction(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[None, list[Array]]:
    """A[L]."""
    return None, [end(V, below(V, g, primitives), network, primitives)[0].A[-1]]


def pullback(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[None, list[Array]]:
    """dW[L], db[L], and what `into_below` finds or dX, given dA[L] in the place of Y."""
    found = below(V, g, primitives)
    passed, tile = end(V, found, network, primitives)
    dZ = primitives.mean_backward[network.output](tile.Y, passed.A[-1])
    further = into_below(dZ, V, found, g, primitives) or [primitives.linear_backward_input(dZ, V["W"])]
    return None, [*primitives.linear_backward(dZ, found.A, m=1), *further]


def backward_to_inputs(V: Named, network: Architecture, g: str, primitives: Primitives) -> tuple[None, list[Array]]:
    """dW[1] and dX."""
    dZ = before_normalization(V, primitives)
    dW, _ = primitives.linear_backward(dZ, V["X"], m=1)
    return None, [dW, primitives.linear_backward_input(dZ, V["W"])]


def before_normalization(V: Named, primitives: Primitives) -> Array:
    """dZ of the layer of the pass, what Z does by the whole batch's mean and variance included."""
    by = {"by_mean": V["by_mean"], "by_variance": V["by_variance"]}
    return batch_norm.normalize_backward(V["dZ"], V["own_gamma"], normalized_by(V, "own_", primitives), **by)


def below(V: Named, g: str, primitives: Primitives) -> Below:
    """What the pass finds below."""
    if "X" in V:
        return Below(V["X"], V["X"], None)
    normalized = normalized_by(V, "", primitives)
    A, in_g_prime = batch_norm.activate(normalized, V["beta"], V["gamma"], g, primitives=primitives)
    return Below(dropout(A, V["D"]) if "D" in V else A, in_g_prime, normalized)


def normalized_by(V: Named, whose: str, primitives: Primitives) -> batch_norm.Normalized:
    """A layer's Z, with the whole batch's mean and variance."""
    return batch_norm.normalize(V[f"{whose}Z"], V[f"{whose}mean"], V[f"{whose}variance"], xp=primitives.xp)


def end(V: Named, found: Below, network: Architecture, primitives: Primitives) -> tuple[Forward, Tile]:
    """The last layer, as `equations` takes what was passed and the targets."""
    Z = primitives.linear_forward(found.A, V["W"], V["b"])
    return Forward([found.A, primitives.mean[network.output](Z)], [], Z), Tile(
        found.A, V.get("Y"), V.get("weights"), ()
    )


def into_below(dZ: Array, V: Named, found: Below, g: str, primitives: Primitives) -> list[Array]:
    """Of the layer below, dZ after normalisation, m dbeta and m dgamma; nothing where that is X."""
    if found.normalized is None:
        return []
    dA = primitives.linear_backward_input(dZ, V["W"])
    dZ = primitives.activation_backward[g](dropout(dA, V["D"]) if "D" in V else dA, found.in_g_prime)
    return [dZ, *batch_norm.scale_and_shift_backward(dZ, found.normalized.Z_norm, xp=primitives.xp)]


def computed(
    wanted: Pass, given: Named, network: Architecture, g: str, dtype: Any, backend: Backend
) -> tuple[Array | None, list[Array]]:
    """What a tile's turn makes, by a program where there can be one."""
    program, narrow = None, "X" in given and backend.is_narrow(given["X"])
    if backend.compiles and not any(map(is_sparse, given.values())):
        shapes = tuple((name, tuple(V.shape)) for name, V in given.items())
        program, made = compiled_pass(wanted, network, g, shapes, dtype, backend, narrow=narrow)
    if program is None:
        return wanted(given, network, g, backend.primitives)
    outputs = [backend.new_matrix(shape, dtype) for shape in made]
    return program(*given.values(), *outputs), outputs


@lru_cache(maxsize=PROGRAMS_KEPT)
def compiled_pass(
    wanted: Pass,
    network: Architecture,
    g: str,
    shapes: tuple[tuple[str, tuple[int, int]], ...],
    dtype: Any,
    backend: Backend,
    *,
    narrow: bool = False,
) -> tuple[Program | None, list[Any]]:
    """The program for tiles of these shapes, None where there can't be one, and the shapes of what it makes.

    `narrow` is whether X is in the narrower float of the backend's precision.
    """
    trace, order = Trace(dtype), "C" if backend.is_host else "F"
    V = {
        name: trace.input(name, shape, order="F" if name == "X" else order, per_example=name in PER_EXAMPLE)
        for name, shape in shapes
    }
    try:
        result, outputs = wanted(V, network, g, bind(trace))
    except NotTraceableError:
        return None, []
    named = {f"out{i}": made for i, made in enumerate(outputs)}
    graph = trace.graph(named, result=result, narrow=[V["X"]] if narrow else [])
    return backend.new_program(graph, shared=False), [made.shape for made in outputs]
