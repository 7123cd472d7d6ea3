"""When a run writes its checkpoint, and where."""

import errno
import os
import re
import sys
import time
import warnings
from typing import Any, Protocol

import numpy as np

from nnarray.backends.atomic import require_writable, write_atomically
from nnarray.network.numbers import check_number

EPOCHS = re.compile(r"(?:([1-9]\d{0,8}) ?)?epochs?")
"""A number of epochs in words: "epoch", "1 epoch", "5 epochs"."""


class Interval(Protocol):
    """How often a checkpoint is due."""

    def is_due_within(self) -> bool:
        """Whether one is due in the middle of an epoch."""

    def is_due_after(self, epoch: int) -> bool:
        """Whether one is due after an epoch."""

    def ahead(self, epoch: int) -> int:
        """How many epochs may be made at once after this one."""

    def begin(self) -> None:
        """One was written, or the run begins."""


class EverySeconds:
    """A checkpoint after so many seconds, between any two steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin()

    def is_due_within(self) -> bool:
        """Whether the seconds are over."""
        return time.perf_counter() >= self.due

    def is_due_after(self, epoch: int) -> bool:
        """Whether the seconds are over."""
        return self.is_due_within()

    def ahead(self, epoch: int) -> int:
        """Any number: a call takes no seconds."""
        return sys.maxsize

    def begin(self) -> None:
        """Count the seconds anew."""
        self.due = time.perf_counter() + self.seconds


class EveryEpochs:
    """A checkpoint after each epoch whose number this one divides."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def is_due_within(self) -> bool:
        """Never."""
        return False

    def is_due_after(self, epoch: int) -> bool:
        """Whether the number divides it."""
        return epoch % self.epochs == 0

    def ahead(self, epoch: int) -> int:
        """As many as are left to the next one."""
        return self.epochs - epoch % self.epochs

    def begin(self) -> None:
        """Nothing."""


class NoCheckpoints:
    """No checkpoints."""

    @property
    def is_due(self) -> bool:
        """Whether one is due after the epoch that has ended: never."""
        return False

    @property
    def ahead(self) -> int:
        """How many epochs may be made before the next one is due: any number."""
        return sys.maxsize

    def write(self) -> None:
        """Write nothing."""

    def end(self) -> None:
        """Nothing to end."""


class CheckpointFile:
    """A checkpoint's path and interval."""

    def __init__(self, path: str, interval: Interval) -> None:
        self.path, self.interval = path, interval

    def write(self, content: bytes) -> bool:
        """Write the file atomically, and return whether that worked; warn where it did not."""
        try:
            write_atomically(self.path, content)
        except OSError as error:
            reason = error.strerror or str(error)
            warnings.warn(f"the checkpoint {self.path} cannot be written: {reason}", RuntimeWarning, stacklevel=2)
            return False
        finally:
            self.interval.begin()
        return True


def check_checkpoint(checkpoint: Any, every: Any, resume: Any) -> tuple[CheckpointFile | None, str | None]:
    """The checkpoint file to write, if any, and the file to resume from, if any."""
    interval, file = check_interval(every), None
    if checkpoint is not None:
        from nnarray.backends import reading

        path = _path(checkpoint, "checkpoint")
        reading.require_folder(path)
        require_writable(path)
        file = CheckpointFile(path, interval)
    if not isinstance(resume, bool | np.bool_):
        resumed = _path(resume, "resume")
        _require_no_other(file, resumed)
        return file, resumed
    if not resume:
        _require_no_other(file, None)
    if resume and file is None:
        msg = "resume=True goes on from the checkpoint, and no checkpoint= is given; resume=path goes on from a file"
        raise ValueError(msg)
    return file, file.path if resume and file is not None and os.path.exists(file.path) else None


def _require_no_other(file: CheckpointFile | None, resumed: str | None) -> None:
    """Raise FileExistsError where the run would overwrite a file that it does not resume."""
    if file is None or not os.path.exists(file.path):
        return
    if resumed is None or not os.path.exists(resumed) or not os.path.samefile(file.path, resumed):
        msg = "the checkpoint is there already: resume=True goes on from it; delete it, or name another, to begin anew"
        raise FileExistsError(errno.EEXIST, msg, file.path)


def check_interval(every: Any) -> Interval:
    """The interval for a number of seconds, or for epochs in words."""
    if not isinstance(every, str):
        return EverySeconds(check_number(every, "checkpoint_every", at_least=0.0))
    found = EPOCHS.fullmatch(every)
    if found is None:
        msg = f'checkpoint_every must be a number of seconds, or epochs in words such as "5 epochs", got {every!r}'
        raise ValueError(msg)
    return EveryEpochs(int(found[1] or 1))


def _path(path: Any, argument: str) -> str:
    if not isinstance(path, str | bytes | os.PathLike):
        msg = f"{argument} must be a path{' or a bool' * (argument == 'resume')}, got {type(path).__name__}"
        raise TypeError(msg)
    return os.fsdecode(path)
