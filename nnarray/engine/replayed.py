"""The fast path on a GPU: a call whose arrays match an earlier call's replays its captured graph, theta as one array.

Every function here may return None: the general path then converts, checks and says what is wrong; it is the one that
captures. Arrays whose values were not looked into yet go there too.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from nnarray.backends import Backend
from nnarray.core.typing import Array
from nnarray.engine import compiling, equations, updates
from nnarray.engine.batch import Architecture, Tile
from nnarray.engine.native_calls import LARGEST_PENALTY
from nnarray.engine.rules import Rule
from nnarray.engine.tiling import fits_whole


def gradients(
    network: Architecture, theta: Any, backend: Backend, X: Any, Y: Any, l2: Any, l1: Any
) -> tuple[Array, Array] | None:
    """J and its gradient, a vector laid out as theta."""

    def make() -> Array:
        return backend.xp.empty(theta.shape, dtype=theta.dtype)

    return _again(equations.cost_and_gradients, network, theta, backend, X, Y, l2, l1, make)


def cost(network: Architecture, theta: Any, backend: Backend, X: Any, Y: Any, l2: Any, l1: Any) -> Array | None:
    """J."""
    found = _again(equations.cost, network, theta, backend, X, Y, l2, l1, lambda: None)
    return None if found is None else found[0]


def predict(network: Architecture, theta: Any, backend: Backend, X: Any) -> Array | None:
    """A[L]."""

    def make() -> Array:
        return backend.new_matrix((network.sizes[-1], X.shape[1]), theta.dtype)

    found = _again(equations.prediction, network, theta, backend, X, None, 0, 0, make)
    return None if found is None else found[1]


def update(
    rule: Rule, vectors: Sequence[Any], g: Any, backend: Backend, t: int, alpha: Callable[[], float]
) -> Sequence[Array] | None:
    """What the rule makes of theta and the running means, the `vectors`; alpha is asked once nothing else is amiss."""
    if not backend.replays(g, *vectors):
        return None
    shape, strides = g.shape, (g.itemsize,)
    for vector in (g, *vectors):
        if vector.shape != shape or vector.strides != strides:
            return None
    return updates.update(rule, vectors, g, backend, t=t, alpha=alpha())


def _again(
    wanted: equations.Equations,
    network: Architecture,
    theta: Any,
    backend: Backend,
    X: Any,
    Y: Any,
    l2: Any,
    l1: Any,
    make: Callable[[], Any],
) -> tuple[Any, Any] | None:
    """The result and the output of the equations; None where they were not captured for arrays like these."""
    examples, narrow = [X] if Y is None else [X, Y], backend.is_narrow(X)
    alike = [[theta, *examples[1:]], [X]] if narrow else [[theta, *examples]]
    if not all([backend.replays(*arrays) for arrays in alike]) or not _have_passed(network, backend, X, Y, l2, l1):
        return None
    columns = X.shape[1]
    given = _given(labels=Y is not None, has_l2=l2 != 0, has_l1=l1 != 0, narrow=narrow)
    program: Any = compiling.compiled(wanted, network, columns, theta.dtype, given, backend, shared=True)
    if not hasattr(program, "again") or not fits_whole(network, columns, theta.itemsize, backend):
        return None
    numbers = equations.NO_NUMBERS if Y is None else equations.numbers_of_cost(columns, l2, l1)

    def spread(made: Any) -> Sequence[Any]:
        layers = backend.primitives.split(theta, network.sizes)
        inputs = compiling.inputs_of(Tile(X, Y, None, ()), layers, numbers)
        if wanted is not equations.cost_and_gradients:
            return [*inputs, made] if made is not None else inputs
        return [*inputs, *(V for pair in backend.primitives.split(made, network.sizes) for V in pair)]

    found: tuple[Any, Any] | None = program.again(theta, examples, tuple(numbers.values()), make, spread)
    return found


def _have_passed(network: Architecture, backend: Backend, X: Any, Y: Any, l2: Any, l1: Any) -> bool:
    """Whether the examples have the network's shapes and were found right before, and the penalties plainly are."""
    if network.own_cost is not None or network.batch_norm or X.ndim != 2 or X.shape[0] != network.sizes[0]:
        return False
    if not backend.knows(X, "finite") or not backend.multiplies(X, X.dtype):
        return False
    targets = network.sizes[-1], X.shape[1]
    if Y is not None and (Y.shape != targets or not backend.knows(Y, f"targets of {network.output}")):
        return False
    if type(l2) not in (float, int) or type(l1) not in (float, int):
        return False
    return bool(0 <= l2 <= LARGEST_PENALTY and 0 <= l1 <= LARGEST_PENALTY)


@lru_cache(maxsize=8)
def _given(*, labels: bool, has_l2: bool, has_l1: bool, narrow: bool) -> compiling.Given:
    numbers = equations.numbers_of_cost(1, float(has_l2), float(has_l1)) if labels else equations.NO_NUMBERS
    return compiling.Given(labels, False, False, compiling.kinds_of(numbers), narrow=narrow)
