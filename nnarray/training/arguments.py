"""The arguments of `train`: validated, and moved to one backend."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from nnarray.backends import (
    Backend,
    choose,
    is_dask_array,
    quiet,
    require_concrete,
    require_finite,
    require_finite_in,
    same_backend,
)
from nnarray.engine import Architecture, Batch
from nnarray.network.architecture import check_scheme
from nnarray.network.batch_norm import NormalizedParameters, begun
from nnarray.network.chunked import Chunked
from nnarray.network.entry import choose_backend, enter_normalized, make_batch, require_several
from nnarray.network.names import DTypeName, SchemeName
from nnarray.network.network import Network, require_network
from nnarray.network.numbers import check_number
from nnarray.network.parameters import Parameters
from nnarray.training.optimizers import Optimizer
from nnarray.training.state import State
from nnarray.training.streams import Stream

MakeBatch: TypeAlias = Callable[..., Batch]
"""`make_batch`, or `make_portion` on a rank."""


@quiet
def enter_training(
    network: Network,
    costed: Architecture,
    X: Any,
    Y: Any,
    weights: Any,
    validation: Any,
    params: Any,
    *,
    seed: int | None,
    scheme: SchemeName,
    backend: str | Backend | None,
    dtype: DTypeName,
    make: MakeBatch = make_batch,
) -> tuple[Parameters, Batch | Chunked | Stream, Batch | Chunked | None]:
    """The initial parameters, the examples, and the validation examples if there are any, all on one backend.

    `costed` is the network with its cost, for which targets are validated. Without Y, X is a stream. `make` makes a
    batch of arrays.
    """
    check_scheme(scheme)
    stream = Stream(X) if Y is None else None
    if stream is not None:
        X, Y, weights = stream.first
    X_validation, Y_validation = (None, None) if validation is None else _pair(validation)
    given = {"X": X, "Y": Y, "weights": weights, "validation X": X_validation, "validation Y": Y_validation}
    _require_dask_together(X, Y, X_validation, Y_validation)
    data = {name: None if is_dask_array(V) else V for name, V in given.items()}
    if params is not None:
        beside = same_backend(**data) if backend is None else choose(backend, None)
        params = _entered(network, params, beside)
    chosen = choose_backend(backend, params, **data)
    chosen.dtype(dtype)
    first = network.init(seed, scheme, backend=chosen, dtype=dtype) if params is None else params.to(chosen)
    if isinstance(first, NormalizedParameters):
        first = begun(first)
    if first.sizes != network.sizes:
        msg = f"params must be of a network with sizes {network.sizes}, got sizes {first.sizes}"
        raise ValueError(msg)
    require_concrete("nn.train", params=first.vector, **data)
    examples: Batch | Chunked | Stream
    if stream is None:
        examples = _for_a_run(_examples(costed, X, Y, weights, first, make), first.backend)
    else:
        examples = stream.entering(lambda X, Y, weights, of: _in_memory(costed, X, Y, weights, first, of))
    if validation is None:
        return first, examples, None
    validating = _examples(costed, X_validation, Y_validation, None, first, make, "validation ")
    return first, examples, _for_a_run(validating, first.backend, "validation ")


def _entered(network: Network, params: Any, beside: Backend | None) -> Parameters:
    """Parameters of the network's kind."""
    if network.batch_norm or isinstance(params, NormalizedParameters):
        return enter_normalized(network, params, beside=beside)
    return Parameters.from_layers(params, beside=beside)


def check_choices(network: Any, optimizer: Any, callback: Any) -> None:
    """Raise TypeError for an invalid network or optimiser, and for a callback that is not callable."""
    require_network(network)
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        msg = f"optimizer must be an optimiser such as nn.Adam(), got {optimizer!r}"
        raise TypeError(msg)
    if callback is not None and not callable(callback):
        msg = f"callback must be callable with an Epoch, got {callback!r}"
        raise TypeError(msg)


def check_stream(X: Any, weights: Any, batch_size: int | None, epochs: int, comm: Any) -> None:
    """Raise TypeError where Y is missing and X is no stream, ValueError for options that don't work with a stream."""
    if hasattr(X, "shape") or not (callable(X) or isinstance(X, Iterable)):
        msg = f"Y must be given beside a {type(X).__name__} X, got NoneType; without Y, X is an iterable of batches"
        raise TypeError(msg)
    if isinstance(X, Iterator) and epochs > 1:
        msg = f"X is used up after one epoch of {epochs}: give the function that makes the {type(X).__name__}, uncalled"
        raise ValueError(msg)
    for name, value in {"weights": weights, "batch_size": batch_size}.items():
        if value is not None:
            msg = f"{name} must be left out where X is a stream: a batch (X, Y, weights) brings its own"
            raise ValueError(msg)
    if comm is not None:
        msg = "comm must be left out where X is a stream: ranks bring arrays, as all make the same number of updates"
        raise ValueError(msg)


def first_params(state: Any, params: Any) -> Any:
    """The parameters to start from: those given, else those of the run that the state is from."""
    if not isinstance(state, State):
        msg = f"state must be that of an earlier result, got {type(state).__name__}"
        raise TypeError(msg)
    if params is None and state.position is None:
        msg = "state comes from no run of train, which would have left its parameters there: give params, too"
        raise ValueError(msg)
    return params if params is not None or state.position is None else state.position.params


def check_rates(dropout: Any, layers: int) -> tuple[float, ...]:
    """The rate of each hidden layer, from one for all or one for each; every rate is ≥ 0 and < 1."""
    if not isinstance(dropout, Sequence | np.ndarray) or isinstance(dropout, str) or np.ndim(dropout) == 0:
        return (check_rate(dropout, "dropout"),) * layers
    if len(dropout) != layers:
        msg = f"dropout must be one rate or one per hidden layer ({layers}), got {len(dropout)}"
        raise ValueError(msg)
    return tuple(check_rate(rate, "dropout") for rate in dropout)


def check_rate(rate: Any, name: str) -> float:
    """A rate of dropout, ≥ 0 and < 1."""
    return check_number(rate, name, at_least=0.0, below=1.0)


def _in_memory(network: Architecture, X: Any, Y: Any, weights: Any, first: Parameters, of: str) -> Batch:
    if is_dask_array(X):
        msg = f"{of}X must lie in memory unless all of X is one dask array, got a dask array: give its compute()"
        raise TypeError(msg)
    batch: Batch = _examples(network, X, Y, weights, first, make_batch, of)
    return batch


def _examples(
    network: Architecture, X: Any, Y: Any, weights: Any, first: Parameters, make: MakeBatch, of: str = ""
) -> Any:
    if is_dask_array(X):
        chunked = Chunked(network.sizes, X, Y, weights, of=of)
        if network.batch_norm and not of:
            require_several(chunked.columns, "X")
        return chunked
    batch = make(network, X, Y, weights, backend=first.backend, dtype=first.dtype, of=of)
    if network.batch_norm and make is make_batch and not of.startswith("validation"):
        require_several(batch.columns, f"{of}X")  # of ranks, those of all together
    if batch.columns == 0:
        return batch
    with first.backend.current():
        require_finite_in(first.dtype, batch.source.array, f"{of}X", first.backend)
    return batch


def _for_a_run(examples: Batch | Chunked, backend: Backend, of: str = "") -> Any:
    """Examples with X as many steps read it fastest, which a narrower float may not hold."""
    if isinstance(examples, Chunked) or examples.source.stays_on_host or examples.columns == 0:
        return examples
    X = backend.for_a_run(examples.X)
    if backend.is_narrow(X):
        require_finite(X, f"{of}X", backend)
    return examples._replace(X=X)


def _require_dask_together(X: Any, Y: Any, X_validation: Any, Y_validation: Any) -> None:
    """Raise TypeError for other arguments that are dask arrays where X is a host array."""
    given = {"Y": (Y, X), "X of validation": (X_validation, X), "Y of validation": (Y_validation, X_validation)}
    for name, (V, beside) in given.items():
        if is_dask_array(V) and not is_dask_array(beside):
            msg = f"{name} must not be a dask array where X is none; give X as a dask array, or {name}'s .compute()"
            raise TypeError(msg)


def _pair(validation: Any) -> tuple[Any, Any]:
    try:
        X, Y = validation
    except (TypeError, ValueError):
        msg = f"validation must be a pair (X, Y), got {type(validation).__name__}"
        raise TypeError(msg) from None
    return X, Y
