"""The entry of training: the arguments are validated, moved to one backend, and run."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from nnarray.backends import Backend, Ended, at_once
from nnarray.engine import Batch, Communicator
from nnarray.network.agreement import together
from nnarray.network.costs import Cost, with_cost
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
from nnarray.training.arguments import (
    check_choices,
    check_rate,
    check_rates,
    check_stream,
    enter_training,
    first_params,
)
from nnarray.training.assembly import agree_on_run, batches_of, checked_checkpoint, checkpoints_of, descent_of, making
from nnarray.training.batch_norm import check_batches
from nnarray.training.dropout import Dropout
from nnarray.training.history import Epoch
from nnarray.training.loop import Run
from nnarray.training.optimizers import Adam, Optimizer
from nnarray.training.ranks import common_seed, own_seed, settings_of, sums_of
from nnarray.training.result import TrainingResult
from nnarray.training.state import State
from nnarray.training.stopping import Patience


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
        The architecture. With batch normalisation every update uses its batch's own mean and variance, and `params` of
        the result hold the running averages for predictions; batches of a single example are refused.
    X : array, shape (n_x, m), or stream of batches
        The examples, as columns. A float32 table of shape (m, n_x) in C order enters as its transpose without being
        copied. Without Y, a stream: an iterable of batches (X, Y) or (X, Y, weights), one update each, which is
        iterated once per epoch, or a function without arguments that returns one, such as a generator function. Batches
        hold examples as columns: those of a torch DataLoader, rows, come as `lambda: ((X.T, Y.T) for X, Y in loader)`.
        The sums over each chunk of a dask array are computed on the worker that holds it, see `Network.gradients`. With
        `batch_size` each batch is drawn from one chunk: chunks come in random order, their columns shuffled. Y may be a
        dask or a host array; weights are fetched to the host.
    Y : array, shape (n[L], m)
        The targets.
    params : Parameters or sequence of (W, b), optional
        The initial parameters, W[l] (n[l], n[l-1]) and b[l] (n[l], 1), which are not modified; by default those of
        `network.init(seed, scheme)` in `dtype`. They take precedence over those of `state`.
    optimizer : optimizer, default=Adam()
        GradientDescent, Momentum, Nesterov, RMSprop or Adam.
    state : State, optional
        The `state` of an earlier result, to resume from its parameters: 5 epochs and then 7 equal 12, to the bit.
        Running means, the update count that a schedule is given, shuffles and masks continue where they left off, so
        `seed` has no effect; epochs are numbered on, and the history holds the new ones. Pass the same optimiser, data
        and options again. Where `patience` restored the best epoch, training resumes from it, and so does the count of
        epochs without improvement. A run that ended within an epoch resumes with a new one.
    epochs : int
        The number of passes over all examples.
    batch_size : int, optional
        Examples per update, shuffled anew each epoch; by default all of them.
    l2 : float, default=0.0
        lambda ≥ 0 of the L2 penalty. As in scikit-learn, an update divides both the loss and the penalty by the sum of
        its own batch's weights, so smaller batches need a smaller `l2`.
    l1 : float, default=0.0
        lambda ≥ 0 of the L1 penalty (l1/m) Σ ‖W[l]‖₁, divided as `l2` is; both together are the elastic net.
    weights : array, shape (1, m) or (m,), optional
        Example weights ≥ 0, which multiply the losses.
    cost : Cost, optional
        A cost of one's own instead of the output's.
    dropout : float or sequence of float, default=0.0
        The share of hidden units dropped in training, in [0, 1): one figure, or one per hidden layer.
    input_dropout : float, default=0.0
        The share of inputs dropped in training, in [0, 1): X is multiplied by a mask D[0] as A[l] is by D[l].
    seed : int or None, default=0
        The seed of initial weights, shuffles and masks, which are the same on every backend; None draws one.
    scheme : str, default="he"
        How weights are initialised, as in `Network.init`.
    backend : str or Backend, optional
        The backend to compute on; by default that of the arrays.
    dtype : {"float32", "float64"}, default="float32"
        The dtype of the initial parameters, unless `params` is given.
    validation : (X, Y), optional
        Examples whose cost and score are recorded each epoch, together with those of as many training examples, up to
        2000; all without penalty and dropout, and with batch normalisation in test mode.
    average : float, optional
        beta in [0, 1): return averaged weights, v/(1 - beta^t) with v ← beta v + (1-beta) theta after each of t
        updates, about the mean of the last 1/(1-beta) of them (Polyak & Juditsky, 1992, exponentially weighted). The
        descent itself is not affected. `params` of the result and of a callback's epoch are the averaged weights, and
        validation uses them; an epoch's `cost` is that of the trained weights, and without validation `patience`
        monitors it, and restores the average at the best epoch. `state` holds both, so that a run without `params`
        resumes to the bit from the trained weights; a state without an average starts one, and an average with another
        beta continues with the new one.
        The parameters in a `DivergenceError` are not averaged. With batch normalisation, the running averages are
        averaged as the weights are, as by torch.optim.swa_utils.AveragedModel with `use_buffers=True`.
    patience : int, optional
        Stop after this many consecutive epochs in which the cost (of the validation examples, if there are any) did not
        fall by more than `min_delta`, and restore the parameters of the best epoch.
    min_delta : float, default=0.0
        ≥ 0, see `patience`.
    callback : callable, optional
        Called with each `Epoch`; a truthy return value stops the run.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal and in a notebook.
    workers : int, optional
        Threads on NumPy; left out, as many as the process may use. Results have the same bits for any number.
    comm : mpi4py communicator, optional
        Train on the examples of all its ranks. Every rank makes this call with its own examples (and validation
        examples), whose number may differ and be 0, and otherwise with the same options: where options, a schedule's
        rate or the parameters differ after an epoch, all raise ValueError. `batch_size` is the total over all ranks;
        each rank shuffles its own examples and contributes an equal portion of them to every batch. All ranks have the
        same parameters, to the bit, and history, and stop together: when any rank's callback stops the run, on Ctrl-C
        on any rank, or when one fails. Only rank 0 shows a bar.
    checkpoint : path, optional
        The checkpoint file, from which another process can resume if this one is killed: parameters, the optimiser's
        state, the position within the epoch, what is drawn next, dropout's masks, the history, the best epoch so far.
        It is written whole or not at all, replacing the one before, and once more at the end, at Ctrl-C and, in the
        main thread, at SIGTERM, which then does what it does without (ending the process, if nobody handles it). Where
        it can't be written later on, there is a warning, and training goes on. A file that exists is resumed from
        (`resume`); a new run never overwrites it.
        With `comm`, rank 0 writes one file for all ranks, and reads it: as many ranks with the same examples each go on
        from it.
    checkpoint_every : float or str, default=30.0
        Seconds between two checkpoints, which are made between any two updates; or epochs, as "epoch" or "5 epochs".
        On a stream, checkpoints are made at the ends of epochs only. With `comm`, rank 0's clock decides.
    resume : bool or path, default=False
        True resumes from `checkpoint`, or starts a new run if that file does not exist; a path resumes from that file.
        Repeat the same call: on the same backend, parameters, history (but for `seconds`), `state` and `best_epoch` end
        with the bits of an uninterrupted run. `epochs` includes those of the checkpoint, and may be more than before;
        `params`, `state` and the `seed` were used when the run began. Internal state of a custom schedule, a
        `callback` or a stream is not in the file: a stream's function is called again for each remaining epoch.

    Returns
    -------
    TrainingResult
        `params`, `history`, `state` and `stopped`. Ctrl-C ends the training between two updates and returns the result
        so far, with `stopped` "interrupt": `params` and `state` are those after the last update, and an interrupted
        epoch has no record in `history`. If its weights are not finite, `params` are those after the last epoch in
        which they were, and `state` is an initial one (t = 0), with which a schedule starts over.

    Raises
    ------
    ValueError
        For shapes that don't fit, values that are not finite or that the output can't model, and options out of range;
        for a checkpoint of another network, other data (as far as a few examples tell), optimiser or options.
    ModelFileError
        For a file that is not a valid checkpoint.
    OSError
        Where the checkpoint's folder or the file to resume does not exist, or `checkpoint` exists and is not resumed.
    TypeError
        For arguments of the wrong type, arrays of two namespaces or devices, and traced arrays.
    DivergenceError
        When the cost or the weights are no longer finite; it holds the last finite parameters.
    BackendUnavailableError
        For a backend that cannot run here.
    RuntimeError
        With `comm`, where another rank fails; it says which, and how.
    WorkersLostError
        Where X is a dask array and no worker is left; it holds the last parameters and state.

    Examples
    --------
    >>> X, Y = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
    >>> result = train(Network((2, 8, 1)), X, Y, epochs=300, optimizer=Adam(0.03))
    >>> Network((2, 8, 1)).score(result.params, X, Y)
    1.0
    """
    group = together(comm, "nn.train")
    with Ended(group), group as ranks:
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
        file, resumed = checked_checkpoint(checkpoint, checkpoint_every, resume, ranks)
        if Y is None:
            check_stream(X, weights, batch_size, epochs, comm)
        if ranks is not None:
            seed = common_seed(seed, ranks)
        if state is not None:
            params = first_params(state, params)
        given = network, costed, X, Y, weights, validation, params
        first, examples, validating = enter_training(
            *given, seed=seed, scheme=scheme, backend=backend, dtype=dtype, make=making(ranks)
        )
        require_penalties(first.dtype, l2=l2, l1=l1)
        if ranks is not None:
            numbers = {"epochs": epochs, "batch_size": batch_size, "patience": patience, "min_delta": min_delta}
            numbers |= {"l2": l2, "l1": l1, "average": average, "validation": validation is not None}
            kinds = {"optimizer": settings_of(optimizer or Adam()), "state": sums_of(state)}
            agree_on_run(ranks, costed, first, numbers, **kinds, dropout=rates, input_dropout=input_rate)
        held = (examples.X, examples.Y) if isinstance(examples, Batch) else ()
        with first.backend.current(), at_once(first.vector, *held):
            own = seed if ranks is None else own_seed(seed, ranks)
            batches = batches_of(examples, batch_size, own, first, ranks)
            check_batches(network, batches)
            run = Run(
                costed,
                first,
                optimizer or Adam(),
                batches,
                descent_of(costed, first, batches, ranks, l2=l2, l1=l1, workers=workers),
                Dropout(rates, network.sizes, own, first.backend, input_rate=input_rate),
                validating,
                Patience(patience, min_delta),
                l2,
                l1,
                average,
                ranks,
            )
            if file is not None or resumed is not None:
                checkpoints = checkpoints_of(run, file, seed, cost)
            if resumed is not None:
                checkpoints.continue_from(resumed)
            elif state is not None:
                run.continue_from(state)
            return run.through(epochs, callback, progress)
