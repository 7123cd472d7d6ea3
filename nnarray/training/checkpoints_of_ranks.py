"""The checkpoints of a run on several ranks: one file, which rank 0 reads and writes, with the draws of each rank."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnarray.backends import all_finite, quiet
from nnarray.engine import Ranks
from nnarray.network.costs import Cost
from nnarray.training.checkpoint_file import CheckpointFile, check_checkpoint, check_interval
from nnarray.training.checkpoint_format import Checkpoint, as_bytes, read_checkpoint
from nnarray.training.checkpointing import Checkpoints
from nnarray.training.state import State

if TYPE_CHECKING:
    from nnarray.training.loop import Run

OWN = ("X", "examples", "weights", "weights_checksum", "batch_size", "validation", "validation_checksum")
"""The fields of a run's identity in which ranks may differ."""


def check_checkpoint_of_all(
    checkpoint: Any, every: Any, resume: Any, ranks: Ranks
) -> tuple[CheckpointFile | None, str | None]:
    """`check_checkpoint` on rank 0, which has the files; the other ranks are told whether and when to write."""
    if ranks.rank == 0:
        file, resumed = check_checkpoint(checkpoint, every, resume)
    else:
        interval, resumed = check_interval(every), None
        file = None if checkpoint is None else CheckpointFile("", interval)
    ranks.agree(checkpoint=checkpoint is not None, checkpoint_every=str(every), resume=type(resume).__name__)
    return file, ranks.every(resumed)[0]


class CheckpointsOfRanks(Checkpoints):
    """The checkpoints of several ranks, made after the same step on all of them, by rank 0's clock."""

    def __init__(self, run: "Run", file: CheckpointFile | None, seed: int | None, cost: Cost | None) -> None:
        super().__init__(run, file, seed, cost)
        assert run.ranks is not None
        self.ranks = run.ranks
        own = super()._described()
        self.of_all = self.ranks.every({name: own[name] for name in OWN})
        if file is not None:
            run.interrupts.before_termination = None
            self.ranks.keep(self._is_due_here, self.write)

    def _is_due_here(self) -> bool:
        assert self.file is not None
        return self.ranks.rank == 0 and self.file.interval.is_due_within()

    @property
    def is_due(self) -> bool:
        """Whether one is due after the epoch that has ended; every rank asks."""
        return self.file is not None and self.ranks.any(
            lambda: self.ranks.rank == 0 and super(CheckpointsOfRanks, self).is_due
        )

    def end(self) -> None:
        """Leave the run."""
        super().end()
        self.ranks.keep(None, None)

    def write_if_due(self) -> None:
        """Write a checkpoint within an epoch, if one was due at the last synchronisation."""
        if self.ranks.is_due and not self.run.keeps_beginnings:
            self.write()

    @quiet
    def write(self) -> None:
        """Write a checkpoint of all ranks' state, unless it is unchanged since the last one; every rank calls this."""
        run, at = self.run, (self.run.updates.t, self.run.epochs)
        if self.file is None or at == self.written_at or not all_finite(run.descent.variables, run.backend):
            return
        run.read()
        with run.interrupts.put_off:
            found = self._checkpoint()
            found = found._replace(draws=self.ranks.every(_draws_of(found)))
            if self.ranks.any(lambda: self.ranks.rank == 0 and self._is_written(found)):
                self.written_at = at

    def _is_written(self, found: Checkpoint) -> bool:
        assert self.file is not None
        return self.file.write(as_bytes(found, self.run.backend))

    def _read(self, path: str) -> Checkpoint:
        """The checkpoint that rank 0 reads, with this rank's generator states."""
        run = self.run
        read = None
        if self.ranks.rank == 0:
            read = read_checkpoint(path, self._described(), run.params, run.optimizer.remembers)
        found: Checkpoint = self.ranks.every(read)[0]
        assert found.draws is not None
        draws = found.draws[self.ranks.rank]
        best = None if found.best is None else _with_draws(found.best, draws["best"])
        return found._replace(now=_with_draws(found.now, draws["now"]), best=best)

    def _described(self) -> Mapping[str, Any]:
        """What tells this run from another one, in JSON: how many ranks there are, and what each of them has."""
        by_rank = {name: [own[name] for own in self.of_all] for name in OWN}
        return {"ranks": self.ranks.size, **super()._described(), **by_rank}


def _draws_of(found: Checkpoint) -> Mapping[str, Any]:
    """What a rank draws next, and what it would have drawn after the best epoch."""
    return {name: _drawn_after(state) for name, state in (("now", found.now), ("best", found.best))}


def _drawn_after(state: State | None) -> Mapping[str, Any] | None:
    position = None if state is None else state.position
    return None if position is None else {"order": position.order, "masks": position.masks}


def _with_draws(state: State, draws: Mapping[str, Any] | None) -> State:
    if state.position is None or draws is None:
        return state
    return state._replace(position=state.position._replace(**draws))
