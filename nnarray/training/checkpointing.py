"""Runs that write checkpoints, or resume from one."""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from nnarray.backends import Backend, all_finite, is_sparse, quiet
from nnarray.backends.reading import ModelFileError
from nnarray.engine import Batch
from nnarray.network import chunks
from nnarray.network.chunked import Chunked
from nnarray.network.costs import Cost
from nnarray.network.parameters import Parameters
from nnarray.training.batches import Shuffled
from nnarray.training.checkpoint_file import CheckpointFile, NoCheckpoints
from nnarray.training.checkpoint_format import Checkpoint, HistoryTable, as_bytes, read_checkpoint, records
from nnarray.training.chunks import ChunkedBatches
from nnarray.training.epoch_progress import StoredProgress
from nnarray.training.optimizers import Optimizer
from nnarray.training.schedules import Schedule
from nnarray.training.state import State, copied
from nnarray.training.streams import Stream

if TYPE_CHECKING:
    from nnarray.training.loop import Run

SAMPLED = 16
"""The number of examples in the checksum that identifies the data."""


class Checkpoints(NoCheckpoints):
    """The checkpoints of a run: its state saved to a file, and restored.

    The seed and a custom cost are part of the run's identity, beside what the run itself knows. Streams are
    checkpointed at the ends of epochs only, and so are whole batches whose cost is that of the parameters before the
    update: where such an epoch is interrupted, the state at its beginning is written.
    """

    def __init__(self, run: "Run", file: CheckpointFile | None, seed: int | None, cost: Cost | None) -> None:
        self.run, self.file = run, file
        self.asked = {"seed": seed, "cost": None if cost is None else name_of(cost.loss)}
        self.data = _checksums_of(run)
        self.table = HistoryTable()
        self.written_at: tuple[int, int] | None = None
        """the updates and epochs made at the last checkpoint"""
        if file is None:
            return
        run.checkpoints = self
        run.keeps_beginnings = run.keeps_beginnings or isinstance(run.batches, Stream)
        run.interrupts.before_termination = self.write
        run.descent.between = self.write_if_due

    @property
    def is_due(self) -> bool:
        """Whether one is due after the epoch that has ended."""
        return self.file is not None and self.file.interval.is_due_after(self.run.epochs)

    @property
    def ahead(self) -> int:
        """How many epochs may be made before the next one is due."""
        return sys.maxsize if self.file is None else self.file.interval.ahead(self.run.epochs)

    def end(self) -> None:
        """Detach from the run, so that its arrays can be freed."""
        run = self.run
        run.checkpoints, run.descent.between, run.interrupts.before_termination = NoCheckpoints(), None, None

    def write_if_due(self) -> None:
        """Write a checkpoint within an epoch, if one is due and the run can be resumed from it."""
        if self.file is not None and self.file.interval.is_due_within() and not self.run.keeps_beginnings:
            self.write()

    @quiet
    def write(self) -> None:
        """Write a checkpoint of the run's state, between any two steps, unless weights are not finite."""
        run = self.run
        at = run.updates.t, run.epochs
        if self.file is None or at == self.written_at or not all_finite(run.descent.variables, run.backend):
            return
        run.read()
        with run.interrupts.put_off:
            if self.file.write(as_bytes(self._checkpoint(), run.backend)):
                self.written_at = at

    def continue_from(self, path: str) -> None:
        """Resume the run from a checkpoint."""
        run = self.run
        found = self._read(path)
        run.take(found.now)
        run.descent.restore(copied(self._params(found.now).variables, run.backend))
        run.watch.last_finite = copied(run.descent.variables, run.backend)
        run.patience.state = found.patience
        run.patience.best = None if found.best is None else self._here(found.best)
        run.first, run.seconds = found.first, found.seconds
        for record in records(found.first, found.history):
            run.history.append(record)
        run.shown = len(run.history)
        assert found.now.position is not None
        if (found.now.position.order is None) != isinstance(run.batches, Stream):
            msg = f"{path} is not a valid checkpoint: its order is no stream's, or is missing"
            raise ModelFileError(msg)
        if found.within is not None:
            self._restore_epoch(path, found.within)

    def _read(self, path: str) -> Checkpoint:
        return read_checkpoint(path, self._described(), self.run.params, self.run.optimizer.remembers)

    def _restore_epoch(self, path: str, within: StoredProgress) -> None:
        """Resume within an epoch, whose order is drawn again."""
        underway = self.run.descent.begin_epoch(self.run.batches)
        if not underway.fits(within):
            msg = f"{path} is not a valid checkpoint: its epoch has not so many batches"
            raise ModelFileError(msg)
        underway.restore(within, self.run.backend)

    def _params(self, state: State) -> Parameters:
        """The parameters of a loaded state, on the run's backend."""
        assert state.position is not None
        return state.position.params.to(self.run.backend, self.run.dtype)

    def _here(self, state: State) -> State:
        """A loaded state, on the run's backend."""
        run, position = self.run, state.position
        assert position is not None
        means = {name: run.backend.asarray(getattr(state, name), run.dtype) for name in run.optimizer.remembers}
        if state.average is not None:
            means["average"] = run.backend.asarray(state.average, run.dtype)
        return state._replace(**means, position=position._replace(params=self._params(state), beta=run.average))

    def _checkpoint(self) -> Checkpoint:
        run, within = self.run, None
        underway, now, patience = run.descent.underway, run.snapshot(), run.patience
        if underway is not None and run.begun_at is not None:
            now = run.begun_at
        elif underway is not None and now.position is not None:
            within = underway.within(run.backend)
            now = now._replace(position=now.position._replace(order=run.batches.drawn_from))
        seconds, history = time.perf_counter() - run.began, self.table.of(run.history)
        return Checkpoint(self._described(), run.first, seconds, now, patience.best, patience.state, within, history)

    def _described(self) -> Mapping[str, Any]:
        """The JSON that identifies this run."""
        run, network, batches = self.run, self.run.network, self.run.batches
        data: dict[str, Any] = {"X": "a stream"}
        if isinstance(batches, ChunkedBatches):
            parts = batches.whole.chunks
            data = {"X": [part.columns for part in parts], "batch_size": batches.size}
            data |= {"weights": parts[0].weights is not None}
        elif isinstance(batches, Shuffled):
            whole = batches.whole
            data = {"X": list(whole.source.shape), "weights": whole.weights is not None, "batch_size": batches.size}
        return {
            **{"sizes": list(network.sizes), "hidden": list(network.hidden), "output": network.output},
            **({"batch_norm": True} if network.batch_norm else {}),  # others' files are those of before
            **described(run.optimizer),
            **data,
            **self.asked,
            "dtype": run.dtype,
            "l2": float(run.l2),
            "l1": float(run.l1),
            "dropout": [rate for _, rate in run.dropout.units],
            "input_dropout": run.dropout.inputs[1],
            "average": run.average,
            "validation": None if run.validation is None else run.validation.columns,
            "patience": run.patience.epochs,
            "min_delta": run.patience.min_delta,
            **self.data,
        }


def _checksums_of(run: "Run") -> dict[str, int | None]:
    """What tells other data of the same shape: checksums of a few examples, and of all weights."""
    examples = run.batches.whole if isinstance(run.batches, ChunkedBatches) else run.batches
    validation: Any = run.validation
    if isinstance(validation, Batch):
        validation = Shuffled(validation, None, 0, run.backend) if validation.columns else None
    weights = None
    if isinstance(examples, Shuffled) and examples.weights is not None:
        weights = crc32(np.ascontiguousarray(examples.weights).tobytes())
    elif isinstance(examples, Chunked):
        weights = examples.weights_checksum
    return {
        "examples": _checksum_of(examples, run) or 0,
        "weights_checksum": weights,
        "validation_checksum": _checksum_of(validation, run),
    }


def _checksum_of(examples: Any, run: "Run") -> int | None:
    if isinstance(examples, Shuffled):
        return checksum(examples, run.theta.dtype, run.backend)
    return chunks.checksum(examples, SAMPLED, run.dtype) if isinstance(examples, Chunked) else None


@quiet  # in which NumPy's seeds set the error state
def checksum(batches: Shuffled, dtype: Any, backend: Backend) -> int:
    """A checksum of a few examples, always the same ones, that tells the data from others of the same shape."""
    sample, found = batches.sample(SAMPLED), 0
    if sample.columns:
        X, Y, *_ = sample.tile(0, sample.columns, dtype, backend)
        X = backend.for_a_run(X)  # as a run with room for a copy has it
        for V in (X.toarray() if is_sparse(X) else X, Y):
            found = crc32(np.ascontiguousarray(backend.to_numpy(V)).tobytes(), found)
        sample.release()
    return found


def described(optimizer: Optimizer) -> Mapping[str, Any]:
    """An optimiser's name and hyperparameters in JSON; of a custom rule that may change them, only the name."""
    known = {"optimizer": type(optimizer).__qualname__}
    if not (is_dataclass(optimizer) and optimizer.__dataclass_params__.frozen):
        return known
    return known | {field.name: _told(getattr(optimizer, field.name)) for field in fields(optimizer)}


def name_of(function: Any) -> str:
    """The qualified name of a function, or of a callable's type."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _told(value: Any) -> Any:
    """A hyperparameter in JSON; of a function, its name."""
    if isinstance(value, Schedule):
        return repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, bool | int | float | str | None) else name_of(value)
