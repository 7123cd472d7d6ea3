"""What `cost`, `gradients` and `vjp` of a Network do: in this process, on a communicator's ranks or dask's workers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnarray import engine
from nnarray.backends import Ended, is_dask_array, quiet, same_backend
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Batch
from nnarray.network.agreement import agree, together
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.entry import (
    Entered,
    enter_batch,
    enter_dA,
    enter_normalized_batch,
    enter_parameters,
    enter_X,
    require_finite_examples,
    require_several,
)
from nnarray.network.numbers import check_optional_count, check_penalty, require_penalties
from nnarray.network.parameters import Parameters

if TYPE_CHECKING:
    from nnarray.engine import Ranks
    from nnarray.network.chunked import Chunked


@quiet
def cost(
    network: Architecture, params: Any, X: Any, Y: Any, weights: Any, comm: Any, *, l2: Any, l1: Any, workers: Any
) -> Array:
    """J, of what a caller gives: nothing is checked yet."""
    group = together(comm, "network.cost")
    with Ended(group), group as ranks:
        penalties = {"l2": check_penalty(l2, "l2"), "l1": check_penalty(l1, "l1")}
        workers = check_optional_count(workers, "workers")
        entered, batch = _enter(network, params, X, Y, weights, comm, ranks, **penalties)
        if not isinstance(batch, Batch):
            J = _of_chunks(network).cost(network, entered, batch, **penalties)
            return entered.backend.asarray(J, entered.dtype)
        of_batch = _normalized_cost if network.batch_norm else _cost
        return of_batch(network, entered, batch, ranks, workers=workers, **penalties)


@quiet
def gradients(
    network: Architecture, params: Any, X: Any, Y: Any, weights: Any, comm: Any, *, l2: Any, l1: Any, workers: Any
) -> tuple[Array, Parameters]:
    """J and its gradient, of what a caller gives: nothing is checked yet."""
    group = together(comm, "network.gradients")
    with Ended(group), group as ranks:
        penalties = {"l2": check_penalty(l2, "l2"), "l1": check_penalty(l1, "l1")}
        workers = check_optional_count(workers, "workers")
        entered, batch = _enter(network, params, X, Y, weights, comm, ranks, **penalties)
        if not isinstance(batch, Batch):
            return _chunked_gradients(network, entered, batch, **penalties)
        of_batch = _normalized_gradients if network.batch_norm else _gradients
        with entered.backend.current(), entered.backend.untracked():
            return of_batch(network, entered, batch, ranks, workers=workers, **penalties)


def vjp(network: Architecture, params: Any, X: Any, *, workers: Any) -> tuple[Array, Callable[[Any], Any]]:
    """A[L] and `pull`, of what a caller gives: nothing is checked yet."""
    entered = enter_parameters(network, params, X=X)
    backend, layers = entered.backend, entered.layers
    examples = enter_X(network, X, backend=backend, dtype=entered.dtype)
    workers = check_optional_count(workers, "workers")
    if network.batch_norm:
        require_several(engine.Batch(examples, None, 1).columns, "X")

    @quiet
    def pull(dA: Any) -> tuple[Parameters, Array]:
        same_backend(params=backend, dA=dA)
        given = enter_dA(network, dA, m=examples.shape[1], backend=backend, dtype=entered.dtype)
        batch = engine.Batch(examples, given, 1)
        with backend.untracked():
            if network.batch_norm:
                g, seen, dX = engine.batch_norm.pull(batch, layers, network, backend, workers=workers)
                return NormalizedParameters(g, network.sizes, backend, seen), dX
            g, dX = engine.pull(batch, layers, network, backend, workers=workers)
            return Parameters(g, network.sizes, backend), dX

    predict = engine.batch_norm.predict if network.batch_norm else engine.predict
    with backend.untracked():
        return predict(examples, layers, network, backend, workers=workers), pull


def _of_chunks(network: Architecture) -> Any:
    """The module that computes of chunks."""
    from nnarray.network import chunks, normalized_chunks  # which seldom are needed

    return normalized_chunks if network.batch_norm else chunks


def _chunked_gradients(
    network: Architecture, entered: Entered, examples: "Chunked", **penalties: Any
) -> tuple[Array, Parameters]:
    J, g, _, *seen = _of_chunks(network).cost_and_gradients(network, entered, examples.chunks, **penalties)
    kind = NormalizedParameters if network.batch_norm else Parameters
    return entered.backend.asarray(J, entered.dtype), kind(g, network.sizes, entered.backend, *seen)


def _enter(
    network: Architecture,
    params: Any,
    X: Any,
    Y: Any,
    weights: Any,
    comm: Any,
    ranks: "Ranks | None",
    **penalties: float,
) -> tuple[Entered, "Batch | Chunked"]:
    """The parameters and the batch of a call, checked; chunks where X is a dask array and the parameters are local."""
    if is_dask_array(X):
        from nnarray.network import chunked  # which seldom is needed

        if (beside := chunked.enter_beside(network, params, comm)) is not None:
            require_penalties(beside.dtype, **penalties)
            return beside, chunked.Chunked(network.sizes, X, Y, weights)
        if network.batch_norm:
            chunked.require_no_chunks(X)
    entered, batch = _entry(network, ranks)(network, params, X, Y, weights)
    require_penalties(entered.dtype, **penalties)
    return entered, batch


def _entry(network: Architecture, ranks: "Ranks | None") -> Callable[..., tuple[Entered, Batch]]:
    """The function that validates the arguments of a call that takes a cost."""
    if ranks is None:
        return enter_normalized_batch if network.batch_norm else enter_batch
    from nnarray.network.portions import enter_portion  # which seldom is needed

    return enter_portion


def _cost(network: Architecture, entered: Entered, batch: Batch, ranks: "Ranks | None", **options: Any) -> Array:
    given = batch, entered.layers, network, entered.backend
    if ranks is None:
        return engine.cost(*given, **options)
    m = _agreed_m(ranks, network, entered, batch, **options)
    J = engine.ranks.cost(batch, m, *given[1:], ranks, **options)
    return entered.backend.asarray(J, entered.dtype)


def _gradients(
    network: Architecture, entered: Entered, batch: Batch, ranks: "Ranks | None", **options: Any
) -> tuple[Array, Parameters]:
    backend = entered.backend
    given = batch, entered.layers, network, backend
    if ranks is None:
        J, g = engine.cost_and_gradients(*given, **options)
        require_finite_examples(batch, g, entered)
        return J, Parameters(g, network.sizes, backend)
    m = _agreed_m(ranks, network, entered, batch, **options)
    J, g = engine.ranks.part(batch, m, *given[1:], **options)
    require_finite_examples(batch, g, entered)
    J, g = engine.ranks.total(J, g, backend, ranks)
    return backend.asarray(J, entered.dtype), Parameters(g, network.sizes, backend)


def _agreed_m(
    ranks: "Ranks", network: Architecture, entered: Entered, batch: Batch, *, workers: Any, **penalties: Any
) -> float:
    """Everybody's m, once all ranks agree on what they compute."""
    (m,) = agree(ranks, network, entered, float(batch.m), **penalties)
    engine.ranks.require_weight_of_all(m, entered.dtype)
    return m


def _normalized_cost(
    network: Architecture,
    entered: Entered,
    batch: Batch,
    ranks: "Ranks | None",
    *,
    workers: Any,
    **penalties: Any,
) -> Array:
    """With batch normalisation, by the batch's own mean and variance."""
    given = batch, entered.layers, network, entered.backend
    if ranks is None:
        return engine.batch_norm.cost(*given, **penalties, workers=workers)
    agree(ranks, network, entered, **penalties)
    J = engine.batch_norm_ranks.cost(*given, ranks, **penalties, workers=workers)
    return entered.backend.asarray(J, entered.dtype)


def _normalized_gradients(
    network: Architecture,
    entered: Entered,
    batch: Batch,
    ranks: "Ranks | None",
    *,
    workers: Any,
    **penalties: Any,
) -> tuple[Array, Parameters]:
    """The same, which gives the statistics of the batch, too."""
    backend = entered.backend
    given = batch, entered.layers, network, backend
    if ranks is None:
        J, g, seen = engine.batch_norm.cost_and_gradients(*given, **penalties, workers=workers)
    else:
        agree(ranks, network, entered, **penalties)
        J, g, m, seen = engine.batch_norm_ranks.cost_and_gradients(*given, ranks, **penalties, workers=workers)
        engine.ranks.require_weight_of_all(m, entered.dtype)
        J = backend.asarray(J, entered.dtype)
    require_finite_examples(batch, g, entered)
    return J, NormalizedParameters(g, network.sizes, backend, seen)
