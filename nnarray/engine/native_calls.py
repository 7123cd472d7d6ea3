"""The fast path: calls on one tile whose arrays machine code can read as they are, and which it also validates.

Every function here may return None: the general path then converts, cuts into tiles and says what is wrong. Most of a
small step's time would go into checks in Python.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.backends import NUMPY, PackedProgram, makes_machine_code
from nnarray.core.outputs import OUTPUTS, SUM_TOLERANCE
from nnarray.core.primitives import Primitives
from nnarray.core.typing import Array, Namespace, Pairs
from nnarray.engine import compiling, equations, updates
from nnarray.engine.batch import Architecture, Tile
from nnarray.engine.rules import Rule, key_of
from nnarray.engine.threads import with_threads
from nnarray.engine.tiling import tile_width

FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")

LARGEST_PENALTY = 1e30
"""A larger one is left to the general path."""

Matrix = npt.NDArray[Any]


def gradients(network: Architecture, theta: Any, X: Any, Y: Any, l2: Any, l1: Any = 0) -> tuple[Array, Array] | None:
    """J and its gradient, a vector laid out as theta."""
    call = _call(_checked_gradients, network, theta, X, Y, l2, l1)
    if call is None:
        return None
    g = np.empty(theta.shape, theta.dtype)
    J = call(X, Y, theta, l2, l1, g)
    return None if J is None or not np.isfinite(g).all() else (J, g)


def cost(network: Architecture, theta: Any, X: Any, Y: Any, l2: Any, l1: Any = 0) -> Array | None:
    """J."""
    call = _call(_checked_cost, network, theta, X, Y, l2, l1)
    return None if call is None else call(X, Y, theta, l2, l1, None)


def predict(network: Architecture, theta: Any, X: Any) -> Array | None:
    """A[L]."""
    call = _call(_checked_prediction, network, theta, X, None, 0, 0)
    if call is None:
        return None
    A = np.empty((network.sizes[-1], X.shape[1]), theta.dtype)
    return None if call(X, None, theta, 0, 0, A) is None else A


def _call(
    wanted: equations.Equations, network: Architecture, theta: Any, X: Any, Y: Any, l2: Any, l1: Any
) -> "NativeCall | None":
    """What computes this; None where theta, X or Y are not plainly what they are to be."""
    if type(theta) is not np.ndarray or type(X) is not np.ndarray or X.ndim != 2 or not X.flags.aligned:
        return None
    if X.dtype is not theta.dtype or (theta.dtype is not FLOAT32 and theta.dtype is not FLOAT64):
        return None
    columns = X.shape[1]
    if Y is not None and (type(Y) is not np.ndarray or Y.shape != (network.sizes[-1], columns)):
        return None
    if type(l2) not in (float, int) or type(l1) not in (float, int) or X.shape[0] != network.sizes[0] or columns == 0:
        return None
    if not (0 <= l2 <= LARGEST_PENALTY and 0 <= l1 <= LARGEST_PENALTY):
        return None
    return _compiled(wanted, network, columns, theta.dtype, l2 != 0, l1 != 0)


def update(rule: Rule, vectors: Sequence[Any], g: Any, t: int, alpha: Callable[[], float]) -> Sequence[Array] | None:
    """What the rule makes of theta and the running means, the `vectors`; alpha is asked once nothing else is amiss."""
    if type(g) is not np.ndarray or not makes_machine_code():
        return None
    kind, shape = g.dtype, g.shape
    if kind is not FLOAT32 and kind is not FLOAT64:
        return None
    for vector in vectors:
        if type(vector) is not np.ndarray or vector.dtype is not kind or vector.shape != shape:
            return None
    program = updates.machine_code(key_of(rule), len(vectors), g.size, kind)
    if program is None:
        return updates.update(rule, vectors, g, NUMPY, t=t, alpha=alpha())
    made = [np.empty_like(vector) for vector in vectors]
    program(*vectors, g, t, alpha(), *made)
    return made


class NativeCall:
    """Equations of a batch in one tile, as machine code over theta as a whole."""

    def __init__(self, program: PackedProgram, network: Architecture, columns: int, dtype: Any) -> None:
        self._run, self._network, self._columns, self._dtype = program.run, network, columns, dtype

        @lru_cache(maxsize=8)
        def numbers_of_cost(l2: float, l1: float) -> tuple[float, ...]:
            return program.numbers(*equations.numbers_of_cost(columns, l2, l1).values())

        self._numbers_of_cost = numbers_of_cost

    def __call__(
        self, X: Matrix, Y: Matrix | None, theta: Matrix, l2: float, l1: float, made: Matrix | None
    ) -> Array | None:
        """J, 0 of a prediction; None if the arrays lie as BLAS cannot read them, or don't pass."""
        wrong, J = np.empty((), self._dtype), np.zeros((), self._dtype)
        given = [V for V in (X, Y, theta, made, wrong) if V is not None]
        if Y is not None:
            given.append(J)
        numbers = () if Y is None else self._numbers_of_cost(l2, l1)

        def run() -> None:
            self._run(given, numbers)

        try:
            with_threads(self._network, self._columns, run, compiled=True)
        except ValueError:  # arrays of other shapes, or that lie as BLAS cannot read them
            return None
        return None if wrong else J[()]


@lru_cache(maxsize=compiling.SHAPES_KEPT)
def _compiled(
    wanted: equations.Equations, network: Architecture, columns: int, dtype: Any, has_l2: bool, has_l1: bool
) -> NativeCall | None:
    """The calls for batches of this shape; None where there is no machine code for them."""
    if not NUMPY.compiles or tile_width(network, columns, dtype.itemsize) < columns or network.own_cost is not None:
        return None
    if network.batch_norm:
        return None
    labels = wanted is not _checked_prediction
    numbers = equations.numbers_of_cost(columns, float(has_l2), float(has_l1)) if labels else equations.NO_NUMBERS
    given = compiling.Given(labels, False, False, compiling.kinds_of(numbers))
    program = compiling.compiled(wanted, network, columns, dtype, given, NUMPY)
    # How many arrays lie in each that is given: W and b of all layers in theta and in g.
    layers = 2 * (len(network.sizes) - 1)
    inputs = [1, 1, layers] if labels else [1, layers]
    outputs = [layers, 1] if wanted is _checked_gradients else [1] if labels else [1, 1]
    packed = NUMPY.packed_program(program, [*inputs, *outputs, *([1] if labels else [])])
    return None if packed is None else NativeCall(packed, network, columns, dtype)


def _checked_gradients(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives, **numbers: Array
) -> tuple[Array | None, list[Array]]:
    """Those of `equations`, and how many targets are wrong. An X that is not finite shows in the gradient."""
    J, made = equations.cost_and_gradients(tile, layers, network, primitives, **numbers)
    return J, [*made, _wrong_targets(tile.Y, network.output, xp=primitives.xp)]


def _checked_cost(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives, **numbers: Array
) -> tuple[Array | None, list[Array]]:
    J, _ = equations.cost(tile, layers, network, primitives, **numbers)
    not_finite = equations.outside(tile.X, -np.inf, np.inf, xp=primitives.xp)
    return J, [_wrong_targets(tile.Y, network.output, xp=primitives.xp) + not_finite]


def _checked_prediction(
    tile: Tile, layers: Pairs, network: Architecture, primitives: Primitives
) -> tuple[Array | None, list[Array]]:
    _, made = equations.prediction(tile, layers, network, primitives)
    return None, [*made, equations.outside(tile.X, -np.inf, np.inf, xp=primitives.xp)]


def _wrong_targets(Y: Array, output: str, *, xp: Namespace) -> Array:
    """How many targets the output cannot model, and for a softmax, how many columns do not sum to 1."""
    wrong = equations.outside(Y, *OUTPUTS[output].targets, xp=xp)
    if output != "softmax":
        return wrong
    return wrong + equations.outside(xp.sum(Y, axis=0, keepdims=True) - 1.0, -SUM_TOLERANCE, SUM_TOLERANCE, xp=xp)
