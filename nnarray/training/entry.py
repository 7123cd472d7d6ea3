"""The way into training: what the caller gives is checked, brought to one place, and run."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nnarray.backends import Backend, at_once
from nnarray.engine import Batch, Communicator, Ranks
from nnarray.network.agreement import agree, checksum, together
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.chunks import Chunked, require_no_ranks
from nnarray.network.costs import Cost, with_cost
from nnarray.network.entry import Place, make_batch
from nnarray.network.keywords import explained
from nnarray.network.names import DTypeName, SchemeName
from nnarray.network.network import Network
from nnarray.network.numbers import (
    check_count,
    check_number,
    check_optional_count,
    check_penalty,
    check_seed,
    require_penalties,
)
from nnarray.network.parameters import Parameters
from nnarray.training.arguments import (
    MakeBatch,
    check_choices,
    check_rate,
    check_rates,
    check_stream,
    enter_training,
    first_params,
)
from nnarray.training.batch_norm import check_batches
from nnarray.training.batches import Shuffled
from nnarray.training.checkpoint_file import CheckpointFile, check_checkpoint
from nnarray.training.chunks import ChunkedBatches
from nnarray.training.dropout import Dropout
from nnarray.training.history import Epoch
from nnarray.training.loop import Run
from nnarray.training.optimizers import Adam, Optimizer
from nnarray.training.ranks import Portions, common_seed, own_seed, settings_of, sums_of
from nnarray.training.result import TrainingResult
from nnarray.training.state import State
from nnarray.training.stopping import Patience
from nnarray.training.streams import Stream

if TYPE_CHECKING:
    from nnarray.training.checkpointing import Checkpoints


@explained
def train(
    network: Network,
    X: Any,
    Y: Any = None,
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    state: State | None = None,
    epochs: int,
    batch_size: int | None = None,
    l2: float = 0.0,
    l1: float = 0.0,
    weights: Any = None,
    cost: Cost | None = None,
    dropout: float | Sequence[float] = 0.0,
    input_dropout: float = 0.0,
    seed: int | None = 0,
    scheme: SchemeName = "he",
    backend: str | Backend | None = None,
    dtype: DTypeName = "float32",
    validation: tuple[Any, Any] | None = None,
    average: float | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callback: Callable[[Epoch], Any] | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    comm: Communicator | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float | str = 30.0,
    resume: bool | str | os.PathLike[str] = False,
) -> TrainingResult:
    """Train the network on X (n_x, m) and Y (n[L], m) by descent on J.

    Parameters
    ----------
    network : Network
        The architecture. With batch normalisation every update takes its batch's own mean and variance, and `params` of
        the result hold the averages that predictions go by; dask's arrays are refused, and batches of one example.
    X : array, shape (n_x, m), or stream of batches
        The examples, as columns. A float32 table of shape (m, n_x) in C order enters as its transpose without being
        copied. Without Y, a stream: an iterable of batches (X, Y) or (X, Y, weights), one update each, which is
        iterated once per epoch, or a function without arguments that gives one, such as a generator function. Batches
        hold examples as columns: those of a torch DataLoader, rows, come as `lambda: ((X.T, Y.T) for X, Y in loader)`.
        Of a dask array, each chunk of columns gives its sums where it lies, see `Network.gradients`. With `batch_size`
        each batch is of one chunk: chunks come in a drawn order, and their columns are shuffled within. Y may be of
        dask or of the host; weights are brought to the host.
    Y : array, shape (n[L], m)
        The targets.
    params : Parameters or sequence of (W, b), optional
        The first parameters, W[l] (n[l], n[l-1]) and b[l] (n[l], 1), which are not written to; left out, those of
        `network.init(seed, scheme)` in `dtype`. They beat those of `state`.
    optimizer : optimizer, default=Adam()
        GradientDescent, Momentum, Nesterov, RMSprop or Adam.
    state : State, optional
        The `state` of an earlier result, from whose parameters to go on: 5 epochs and then 7 are 12, to the bit.
        Running means, the count of updates that a schedule is given, shuffles and masks are those that would have come
        next, so `seed` counts for nothing; epochs are counted on, and the history holds the new ones. Give the same
        optimiser, data and options again. Where `patience` gave back the best epoch, it goes on from there, and waits
        on. A run that ended within an epoch goes on with a new one.
    epochs : int
        How often to go through all examples.
    batch_size : int, optional
        Examples of an update, in an order shuffled anew each epoch; left out, all of them.
    l2 : float, default=0.0
        lambda ≥ 0 of the L2 penalty. As in scikit-learn, an update divides by its own batch: the loss by the sum of the
        batch's weights, and the penalty by the same, so that smaller batches want a smaller `l2`.
    l1 : float, default=0.0
        lambda ≥ 0 of the L1 penalty (l1/m) Σ ‖W[l]‖₁, divided as `l2` is; both together are the elastic net.
    weights : array, shape (1, m) or (m,), optional
        How much the loss of each example counts, ≥ 0.
    cost : Cost, optional
        A cost of one's own instead of the output's.
    dropout : float or sequence of float, default=0.0
        The share of hidden units dropped in training, in [0, 1): one figure, or one per hidden layer.
    input_dropout : float, default=0.0
        The share of inputs dropped in training, in [0, 1): X is multiplied by a mask D[0] as A[l] is by D[l].
    seed : int or None, default=0
        For weights, shuffles and masks, the same on every backend; None draws one.
    scheme : str, default="he"
        How weights are initialised, as in `Network.init`.
    backend : str or Backend, optional
        Where to compute; left out, where the arrays are.
    dtype : {"float32", "float64"}, default="float32"
        That of parameters which are not given.
    validation : (X, Y), optional
        Examples whose cost and score each epoch records, and beside them those of as many that are trained on, up to
        2000, all without penalty and dropout, and with batch normalisation at test time.
    average : float, optional
        beta in [0, 1): give back the weights averaged along the way, v/(1 - beta^t) with v ← beta v + (1-beta) theta
        after each of t updates, about the mean of the last 1/(1-beta) of them (Polyak & Juditsky, 1992, exponentially
        weighted). The descent itself takes no notice. `params` of the result and of a callback's epoch, and what
        validation sees, are the averaged ones; an epoch's `cost` is of those that were trained, and without validation
        `patience` goes by it, and gives back the average at the best epoch. `state` holds both, so that a run goes on
        to the bit, from the trained ones, where `params` is left out; one from a run without an average begins one, and
        of one with another beta the average goes on by the new one.
        What a `DivergenceError` keeps was not averaged. With batch normalisation, the statistics that predictions go by
        are averaged as the weights are, as by torch.optim.swa_utils.AveragedModel with `use_buffers=True`.
    patience : int, optional
        Stop after so many epochs in a row without the cost (of the validation examples, if there are any) falling by
        more than `min_delta`, and give back the parameters of the best epoch.
    min_delta : float, default=0.0
        ≥ 0, see `patience`.
    callback : callable, optional
        Called with each `Epoch`; by returning something true it stops the run.
    progress : bool, optional
        Whether to show a bar; left out, on a terminal and in a notebook.
    workers : int, optional
        Threads on NumPy; left out, as many as the process may use. Results have the same bits for any number.
    comm : mpi4py communicator, optional
        Train on the examples of all its ranks together. Every rank makes this call, with examples (and validation
        examples) of its own, whose numbers may differ and be 0, and with the same options otherwise: where options, a
        schedule's rate or the parameters differ after an epoch, all raise ValueError. `batch_size` counts everybody's;
        each rank shuffles its own examples and gives an equal portion of them to every batch. All ranks have the same
        parameters, to the bit, and history, and stop together: where one's callback says so, on Ctrl-C on any, or where
        one fails. Only rank 0 shows a bar.
    checkpoint : path, optional
        A file in which the run keeps what another process can go on from, should this one be killed: parameters, the
        optimiser's state, the position within the epoch, what is drawn next, dropout's masks, the history, the best
        epoch so far. It is written whole or not at all, replacing the one before, and once more at the end, at
        Ctrl-C and, in the main thread, at SIGTERM, which then does what it does without (ending the process, if nobody
        handles it). Where it can't be written later on, there is a warning, and training goes on. A file that is there
        already is gone on from (`resume`), and never written over by a run that begins.
        With `comm`, rank 0 writes one file for all ranks, and reads it: as many ranks with the same examples each go on
        from it.
    checkpoint_every : float or str, default=30.0
        Seconds between two checkpoints, which are made between any two updates; or epochs, as "epoch" or "5 epochs".
        The checkpoints of a stream are those of the ends of its epochs. With `comm`, rank 0's clock counts.
    resume : bool or path, default=False
        True goes on from `checkpoint`, or begins where that is not there yet; a path goes on from that file. Make the
        same call again: on the same backend, parameters, history (but for `seconds`), `state` and `best_epoch` end
        with the bits of a run that nobody disturbed. `epochs` counts those of the checkpoint, and may be more than
        before; `params`, `state` and the `seed` were used when the run began. What the optimiser's own schedule, a
        `callback` or a stream keeps for itself is not in the file: a stream's function is called anew for each epoch
        that is left.

    Returns
    -------
    TrainingResult
        `params`, `history`, `state` and `stopped`. Ctrl-C ends the training between two updates and returns what there
        is, with `stopped` "interrupt": `params` and `state` are those after the last update, and an epoch that was
        broken off has no record in `history`. Where its weights are not finite, `params` are those of the last epoch
        after which they were, and `state` is one before the first update (t = 0), from which a schedule begins anew.

    Raises
    ------
    ValueError
        For shapes that don't fit, values that are not finite or that the output can't model, and options out of range;
        for a checkpoint of another network, other data (as far as a few examples tell), optimiser or options.
    ModelFileError
        For a checkpoint that is none, whatever is wrong in it.
    OSError
        Where there is no folder for the checkpoint, no file to go on from, or one that the run does not go on from.
    TypeError
        For arguments of another kind, arrays of two namespaces or devices, and traced arrays.
    DivergenceError
        When the cost or the weights stop being finite; it keeps the last finite parameters.
    BackendUnavailableError
        For a backend that cannot run here.
    RuntimeError
        With `comm`, where another rank fails; it says which, and how.
    WorkersLostError
        Where X is a dask array and none of the workers is left; it keeps the last parameters and state.

    Examples
    --------
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> result = train(Network((2, 8, 1)), X, Y, epochs=300, optimizer=Adam(0.03))
    >>> Network((2, 8, 1)).score(result.params, X, Y)
    1.0
    """
    with together(comm) as ranks:
        check_choices(network, optimizer, callback)
        seed, epochs = check_seed(seed), check_count(epochs, "epochs")
        batch_size = check_optional_count(batch_size, "batch_size")
        patience = check_optional_count(patience, "patience")
        min_delta = check_number(min_delta, "min_delta", at_least=0.0)
        costed = with_cost(network, cost)
        rates, input_rate = check_rates(dropout, len(network.hidden)), check_rate(input_dropout, "input_dropout")
        l2, l1 = check_penalty(l2, "l2"), check_penalty(l1, "l1")
        if average is not None:
            average = check_number(average, "average", at_least=0.0, below=1.0)
        workers = check_optional_count(workers, "workers")
        file, resumed = _check_checkpoint(checkpoint, checkpoint_every, resume, ranks)
        if Y is None:
            check_stream(X, weights, batch_size, epochs, comm)
        if ranks is not None:
            seed = common_seed(seed, ranks)
        if state is not None:
            params = first_params(state, params)
        given = network, costed, X, Y, weights, validation, params
        first, examples, validating = enter_training(
            *given, seed=seed, scheme=scheme, backend=backend, dtype=dtype, make=_making(ranks)
        )
        require_penalties(first.dtype, l2=l2, l1=l1)
        if ranks is not None:
            numbers = {"epochs": epochs, "batch_size": batch_size, "patience": patience, "min_delta": min_delta}
            numbers |= {"l2": l2, "l1": l1, "average": average, "validation": validation is not None}
            kinds = {"optimizer": settings_of(optimizer or Adam()), "state": sums_of(state)}
            if isinstance(first, NormalizedParameters):
                numbers["the checksum of the averages"] = checksum(first.statistics, first.backend)
            place = Place(first.layers, first.backend, first.dtype)
            agree(ranks, costed, place, **numbers, **kinds, dropout=rates, input_dropout=input_rate)
        held = (examples.X, examples.Y) if isinstance(examples, Batch) else ()
        with first.backend.current(), at_once(first.vector, *held):
            own = seed if ranks is None else own_seed(seed, ranks)
            batches = _batches_of(examples, batch_size, own, first, ranks)
            check_batches(network, batches)
            run = Run(
                costed,
                first,
                optimizer or Adam(),
                batches,
                Dropout(rates, network.sizes, own, first.backend, input_rate=input_rate),
                validating,
                Patience(patience, min_delta),
                l2,
                l1,
                workers,
                average,
                ranks,
            )
            if file is not None or resumed is not None:
                checkpoints = _checkpoints(run, file, seed, cost)
            if resumed is not None:
                checkpoints.continue_from(resumed)
            elif state is not None:
                run.continue_from(state)
            return run.through(epochs, callback, progress)


def _making(ranks: Ranks | None) -> MakeBatch:
    """What makes a batch of arrays."""
    if ranks is None:
        return make_batch
    from nnarray.network.portions import make_portion

    return make_portion


def _check_checkpoint(
    checkpoint: Any, every: Any, resume: Any, ranks: Ranks | None
) -> tuple[CheckpointFile | None, str | None]:
    """Where and when to write a checkpoint, if anywhere, and the file to go on from, if there is one."""
    if ranks is None:
        return check_checkpoint(checkpoint, every, resume)
    from nnarray.training.checkpoints_of_ranks import check_checkpoint_of_all

    return check_checkpoint_of_all(checkpoint, every, resume, ranks)


def _checkpoints(run: Run, file: CheckpointFile | None, seed: int | None, cost: Cost | None) -> "Checkpoints":
    """The checkpoints of the run."""
    if run.ranks is None:
        from nnarray.training.checkpointing import Checkpoints

        return Checkpoints(run, file, seed, cost)
    from nnarray.training.checkpoints_of_ranks import CheckpointsOfRanks

    return CheckpointsOfRanks(run, file, seed, cost)


def _batches_of(
    examples: Batch | Chunked | Stream,
    batch_size: int | None,
    seed: int | Sequence[int] | None,
    first: Parameters,
    ranks: Ranks | None,
) -> Shuffled | ChunkedBatches | Stream:
    """The batches of a run, by where the examples are."""
    if isinstance(examples, Stream):
        return examples
    if isinstance(examples, Chunked):
        require_no_ranks(ranks)
        return ChunkedBatches(examples, batch_size, seed)
    if ranks is None:
        return Shuffled(examples, batch_size, seed, first.backend)
    return Portions(examples, batch_size, seed, first.backend, ranks, first.dtype)
