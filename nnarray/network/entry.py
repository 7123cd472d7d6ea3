"""Validation of a network's inputs: the caller's parameters, X, Y and weights become one batch, or raise an error.

Messages speak in the letters of the equations: X is (n_x, m), Y is (n[L], m), weights are (1, m).

Y and weights are looked into here. NaN and infinity in X are refused where X is read anyway: by `gradients` in the
gradient, in which they always show (`require_finite_examples`); by `cost`, `predict` and `vjp` tile by tile
(`engine.compute`, `engine.batch_norm`); by training before the first epoch, of a stream before each batch
(`training.arguments`); of chunks on their workers (`network.chunks`). The fast path of NumPy (`engine.native_calls`)
looks at what comes out and leaves the error to the general path; that of CuPy (`engine.replayed`) takes only arrays
that passed once.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from nnarray.backends import (
    Backend,
    all_finite,
    at_once,
    choose,
    convert,
    convert_examples,
    host_array,
    is_concrete,
    mapped_file,
    number,
    require_finite,
    require_finite_in,
    require_numbers,
    same_backend,
)
from nnarray.core.outputs import OUTPUTS, SUM_TOLERANCE
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch, HostColumns, stays_on_host
from nnarray.engine.example_weights import require_weight
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.labels import listed
from nnarray.network.parameters import Layer, Parameters, as_layers


class Entered(NamedTuple):
    """The parameters of a call: their layers, backend and dtype, in which it computes."""

    layers: Sequence[Layer]
    backend: Backend
    dtype: str


def enter_parameters(network: Architecture, params: Any, **data: Any) -> Entered:
    """The layers of `params`, which must fit the network and live where the `data` do."""
    layers: Sequence[Layer]
    if network.batch_norm or isinstance(params, NormalizedParameters):
        normalized = enter_normalized(network, params, **data)
        return Entered(normalized.layers, normalized.backend, normalized.dtype)
    if isinstance(params, Parameters):
        layers, sizes, own, dtype = params.layers, params.sizes, params.backend, params.dtype
    else:
        layers, sizes, own = as_layers(params, same_backend(**data))
        dtype = "float64" if layers[0].W.dtype == own.xp.float64 else "float32"
    if sizes != network.sizes:
        msg = f"params must be of a network with sizes {network.sizes}, got sizes {sizes}"
        raise ValueError(msg)
    found = same_backend(params=own, **data)
    return Entered(layers, found or own, dtype)


def enter_normalized(
    network: Architecture, params: Any, *, beside: Backend | None = None, **data: Any
) -> NormalizedParameters:
    """Parameters of a network with batch normalisation, which live where the `data` do."""
    if not network.batch_norm:
        msg = "params are of a network with batch normalisation, and the network has none (batch_norm=False)"
        raise ValueError(msg)
    if isinstance(params, Parameters) and not isinstance(params, NormalizedParameters):
        msg = (
            "params are of a network without batch normalisation, got "
            f"{params!r}; network.init(…) and network.parameters(theta) give those of this one"
        )
        raise ValueError(msg)
    entered = NormalizedParameters.from_layers(params, beside=beside or same_backend(**data))
    if entered.sizes != network.sizes:
        msg = f"params must be of a network with sizes {network.sizes}, got sizes {entered.sizes}"
        raise ValueError(msg)
    found = same_backend(params=entered.backend, **data)
    return entered if found is None or found == entered.backend else entered.to(found)


def plain_theta(network: Architecture, params: Any) -> Any:
    """Theta, on whatever backend, of Parameters of this network; None for other params."""
    is_plain = type(params) is Parameters and params.sizes == network.sizes
    return params.vector if is_plain else None


def enter_X(network: Architecture, X: Any, *, backend: Backend, dtype: str, argument: str = "X") -> Array:
    """X as (n_x, m) in `dtype` on `backend`; its values are not checked here, see the module.

    On NumPy a memory-mapped X stays in its file; an X too large for a GPU stays on the host, as HostColumns. One in the
    narrower float of the backend's precision stays in it.
    """
    stays = stays_on_host(X, network.sizes, dtype, backend)
    if backend.is_host and mapped_file(X) is not None:
        X = np.asarray(X)
        require_numbers(X, argument, backend)
    elif stays:
        X = host_array(X, argument)
        require_numbers(X, argument, None)
    else:
        X = convert_examples(X, argument, backend=backend, dtype=dtype)
    n_x = network.sizes[0]
    if X.ndim != 2 or X.shape[0] != n_x:
        msg = f"{argument} must have shape (n_x, m) = ({n_x}, m), one example per column, got {tuple(X.shape)}"
        if X.ndim == 2 and X.shape[1] == n_x:
            msg += f"; is it {_name(argument)}.T?"
        elif X.ndim == 1 and X.shape[0] == n_x:
            msg += f"; a single example is {_name(argument)}[:, None]"
        raise ValueError(msg)
    if X.shape[1] == 0:
        msg = f"{argument} must hold at least one example (m ≥ 1), got shape {tuple(X.shape)}"
        raise ValueError(msg)
    return HostColumns(X) if stays else X


def enter_Y(network: Architecture, Y: Any, *, m: int, backend: Backend, dtype: str, argument: str = "Y") -> Array:
    """Y as (n[L], m) in `dtype` on `backend`, with values that the network's output can model."""
    Y = convert(Y, argument, backend=backend, dtype=dtype)
    n_L = network.sizes[-1]
    if tuple(Y.shape) != (n_L, m):
        msg = f"{argument} must have shape (n[L], m) = ({n_L}, {m}), one example per column, got {tuple(Y.shape)}"
        if n_L == 1 and tuple(Y.shape) == (m,):
            msg += f"; make it {_name(argument)}[None, :]"
        elif tuple(Y.shape) in ((m,), (1, m)):
            msg += f"; for class labels, nn.one_hot({_name(argument)}, {n_L})"
        elif tuple(Y.shape) == (m, n_L):
            msg += f"; is it {_name(argument)}.T?"
        raise ValueError(msg)
    if network.own_cost is not None:
        require_finite(Y, argument, backend)
    elif is_concrete(Y):
        check_targets(Y, network.output, backend, argument=argument)
    return Y


def _name(argument: str) -> str:
    """The argument's own name, of "batch 3: X" or "validation X"."""
    return argument.rpartition(" ")[-1]


def enter_dA(network: Architecture, dA: Any, *, m: int, backend: Backend, dtype: str) -> Array:
    """dA[L] as (n[L], m) in `dtype` on `backend`, finite."""
    with backend.current():
        dA = convert(dA, "dA", backend=backend, dtype=dtype)
        if tuple(dA.shape) != (network.sizes[-1], m):
            msg = f"dA must have the shape of A[L], (n[L], m) = ({network.sizes[-1]}, {m}), got {tuple(dA.shape)}"
            raise ValueError(msg)
        require_finite(dA, "dA", backend)
        return dA


def enter_weights(weights: Any, *, m: int, backend: Backend, dtype: str) -> Array | None:
    """Example weights as (1, m), non-negative with a positive sum; None stays None."""
    if weights is None:
        return None
    given = convert(weights, "weights", backend=backend, dtype=dtype)
    with at_once(given):
        return _checked_weights(given, m, backend, dtype)


def as_row(weights: Array, m: int, backend: Backend) -> Array:
    """Example weights as (1, m); raises ValueError for another shape."""
    if tuple(weights.shape) not in ((m,), (1, m)):
        msg = f"weights must have shape (1, m) = (1, {m}) or (m,) = ({m},), got {tuple(weights.shape)}"
        raise ValueError(msg)
    return backend.xp.reshape(weights, (1, m))


def _checked_weights(given: Array, m: int, backend: Backend, dtype: str) -> Array:
    weights = as_row(given, m, backend)
    if is_concrete(weights) and not backend.knows(given, "weights"):
        require_finite(weights, "weights", backend)
        seen, own = backend.looked_into(weights)
        smallest, total = number(own.xp.min(seen)), number(own.xp.sum(seen))
        if smallest < 0:
            msg = f"weights must be ≥ 0 with a positive sum, got a smallest weight of {smallest:g}"
            raise ValueError(msg)
        require_weight(total, dtype)
        backend.know(given, "weights")
    return weights


def enter_batch(network: Architecture, params: Any, X: Any, Y: Any, weights: Any = None) -> tuple[Entered, Batch]:
    """The parameters and the batch of a call that takes a cost."""
    entered = enter_parameters(network, params, X=X, Y=Y, weights=weights)
    return entered, make_batch(network, X, Y, weights, backend=entered.backend, dtype=entered.dtype)


def enter_normalized_batch(
    network: Architecture, params: Any, X: Any, Y: Any, weights: Any = None
) -> tuple[Entered, Batch]:
    """`enter_batch` for training a network with batch normalisation."""
    entered, batch = enter_batch(network, params, X, Y, weights)
    require_several(batch.columns, "X")
    return entered, batch


def require_several(columns: int, argument: str) -> None:
    """Raise ValueError for a batch of a single example, which has no variance."""
    if columns == 1:
        msg = (
            f"{argument} must hold at least 2 examples in training with batch normalisation (m ≥ 2), got m = 1: "
            "one has no variance"
        )
        raise ValueError(msg)


def make_batch(
    network: Architecture, X: Any, Y: Any, weights: Any, *, backend: Backend, dtype: str, of: str = ""
) -> Batch:
    """X, Y and weights as one batch; `of` names the data in messages, as in "validation X"."""
    X = enter_X(network, X, backend=backend, dtype=dtype, argument=f"{of}X")
    m = X.shape[1]
    with backend.current():
        Y = enter_Y(network, Y, m=m, backend=backend, dtype=dtype, argument=f"{of}Y")
        weights = enter_weights(weights, m=m, backend=backend, dtype=dtype)
        return Batch(X, Y, m if weights is None else _sum(weights, backend), weights)


def _sum(weights: Array, backend: Backend) -> Array:
    if not is_concrete(weights):
        return backend.xp.sum(weights)
    seen, own = backend.looked_into(weights)
    with at_once(weights):
        total = own.xp.sum(seen)
        return total if own.xp is backend.xp else backend.asarray(total)


def check_targets(Y: Array, output: str, backend: Backend, *, argument: str = "Y") -> None:
    """Raise ValueError, listing values, for targets that the output cannot model: NaN, infinities, out of range."""
    if backend.knows(Y, f"targets of {output}"):
        return
    lowest, highest = OUTPUTS[output].targets
    smallest, largest = backend.extent(Y)
    if not (lowest <= smallest and largest <= highest and isfinite(smallest) and isfinite(largest)):
        require_finite(Y, argument, backend)
        host = backend.to_numpy(Y)
        wrong = np.unique(host[(host < lowest) | (host > highest)])
        span = f"in [{lowest:g}, {highest:g}]" if highest == 1.0 else f"≥ {lowest:g}"
        msg = f"{argument} must be {span} for the output {output!r}, got {listed(wrong)}"
        raise ValueError(msg)
    if output == "softmax":
        _check_sums(Y, backend, argument)
    backend.know(Y, f"targets of {output}")


def _check_sums(Y: Array, backend: Backend, argument: str) -> None:
    Y, backend = backend.looked_into(Y)
    xp = backend.xp
    with at_once(Y):
        sums = xp.sum(Y, axis=0)
        furthest = number(xp.max(xp.abs(sums - 1.0)))
    if furthest > SUM_TOLERANCE:
        host = backend.to_numpy(sums)
        wrong = np.unique(host[np.abs(host - 1.0) > SUM_TOLERANCE])
        msg = (
            f"each column of {argument} must sum to 1 for the output 'softmax', got columns that sum to {listed(wrong)}"
        )
        raise ValueError(msg)


def require_finite_examples(batch: Batch, g: Array, entered: Entered) -> None:
    """Raise ValueError for an X that is not finite, checking the batch's gradient g first, unless X is smaller.

    X enters dW[1] as a factor, so a NaN or infinity in X always shows in g: X itself need not be read twice.
    """
    X = batch.X
    if entered.backend.knows(X, "finite") or X.shape[1] == 0:
        return
    is_smaller = isinstance(X, np.ndarray) and X.size < g.shape[0]
    if is_smaller or not is_concrete(g) or not all_finite(g, entered.backend):
        require_finite_in(entered.dtype, X, "X", entered.backend)
    if is_concrete(g) and batch.order is None:  # else it is of some columns of X alone
        entered.backend.know(X, "finite")


def choose_backend(explicit: str | Backend | None, params: Parameters | None, **data: Any) -> Backend:
    """The backend of a call: the explicit one, else that of its arrays, else the default."""
    if explicit is not None:
        return choose(explicit, None)
    return choose(None, same_backend(params=None if params is None else params.backend, **data))
