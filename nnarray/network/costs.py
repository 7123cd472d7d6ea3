"""Costs of the caller's own, instead of the one that an output brings along."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nnarray.core.typing import Array

if TYPE_CHECKING:
    from nnarray.engine import Architecture


@dataclass(frozen=True, eq=False)
class Cost:
    """A custom cost: the loss of each example, and its derivative with respect to Z[L] or A[L].

    Parameters
    ----------
    loss : callable
        `loss(A, Y, xp=xp)`, with `dA`, or `loss(Z, Y, xp=xp)`, with `dZ`: the losses of the examples, shape (1, m), or
        of every unit, shape (n[L], m), which are added up.
    dA : callable, optional
        `dA(A, Y, xp=xp)`, the derivative of the loss with respect to A[L], shape (n[L], m), from which nnarray derives
        that with respect to Z[L] by the output's chain rule.
    dZ : callable, optional
        `dZ(Z, Y, xp=xp)`, the derivative with respect to Z[L], shape (n[L], m), for a loss written in Z[L], which is
        more accurate where A[L] saturates. Give exactly one of `dA` and `dZ`.

    Write the functions with operators and with Array API functions of the namespace `xp`, without branching on values:
    then they run on every backend, tile by tile, and as part of compiled programs. (What a program can't express runs
    call by call.) As everywhere, dA and dZ leave out the factor 1/m, example weights and the penalty: these are added
    by nnarray. Targets Y need only be finite. Create a cost once and reuse it, since compiled programs are cached per
    object. What a function reads besides its arguments (a global, a variable of an enclosing function) may be traced
    once, as a constant: to change it, create a new cost.

    A model file stores the network and its output, but no code: to resume training a loaded model, pass the cost again.

    Raises
    ------
    TypeError
        If a function does not accept these arguments, or unless exactly one of `dA` and `dZ` is given.

    Examples
    --------
    Huber's loss: squared near the target, straight beyond 1 (Huber, Ann. Math. Statist. 35, 1964).

    >>> import numpy as np
    >>> def huber(A, Y, xp):
    ...     R = xp.abs(A - Y)
    ...     return xp.where(R <= 1.0, 0.5 * R * R, R - 0.5)
    >>> def huber_dA(A, Y, xp):
    ...     return xp.clip(A - Y, -1.0, 1.0)
    >>> from nnarray import Adam, Network, train
    >>> network, X = Network((1, 1), output="identity"), np.linspace(-1, 1, 21)[None, :]
    >>> Y = 3.0 * X + 1.0
    >>> Y[0, 10] = 1e4  # which a squared error would follow
    >>> line = train(network, X, Y, cost=Cost(huber, dA=huber_dA), epochs=600, optimizer=Adam(0.05)).params
    >>> line[0].W.round(1).tolist(), bool(abs(line[0].b[0, 0] - 1.0) < 0.1)
    ([[3.0]], True)

    Quantile regression: the line with nine tenths of the targets below it (Koenker & Bassett, Econometrica 46, 1978).

    >>> def pinball(A, Y, xp):
    ...     return xp.maximum(0.9 * (Y - A), 0.1 * (A - Y))
    >>> def pinball_dA(A, Y, xp):
    ...     return 0.1 - xp.astype(Y > A, A.dtype)
    >>> Y = 3.0 * X + np.linspace(0, 1, 21)[np.random.default_rng(0).permutation(21)]
    >>> line = train(network, X, Y, cost=Cost(pinball, dA=pinball_dA), epochs=600, optimizer=Adam(0.05)).params
    >>> float(np.mean(Y < network.predict(line, X))) > 0.8
    True
    """

    loss: Callable[..., Array]
    dA: Callable[..., Array] | None = None  # noqa: N815 - the equations' letters
    dZ: Callable[..., Array] | None = None  # noqa: N815

    def __post_init__(self) -> None:
        """Check that these are functions, and that there is one derivative."""
        for name in ("loss", "dA", "dZ"):
            function = getattr(self, name)
            if not callable(function) and (function is not None or name == "loss"):
                msg = f"{name} must be a function, got {function!r}"
                raise TypeError(msg)
            if function is not None:
                _require_call(function, name)
        if (self.dA is None) == (self.dZ is None):
            msg = "a cost needs its derivative by A[L] or by Z[L]: give one of dA and dZ"
            raise TypeError(msg)


def _require_call(function: Callable[..., Any], name: str) -> None:
    """Raise TypeError for a function that cannot be called with the arguments it will be given."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return
    try:
        signature.bind(None, None, xp=None)
    except TypeError as error:
        msg = f"{name} is called as {name}(V, Y, xp=xp), V being A[L] or with dZ Z[L], got {name}{signature}: {error}"
        raise TypeError(msg) from None


class WithCost(NamedTuple):
    """An architecture with a custom cost."""

    sizes: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str
    own_cost: Cost
    batch_norm: bool = False
    reported_loss: None = None


def with_cost(network: "Architecture", cost: Any) -> "Architecture":
    """The network as the engine sees it, with the cost instead of its output's; without one, itself."""
    if cost is None:
        return network
    if not isinstance(cost, Cost):
        msg = f"cost must be an nn.Cost, got {type(cost).__name__}"
        raise TypeError(msg)
    return WithCost(network.sizes, network.hidden, network.output, cost, network.batch_norm)
