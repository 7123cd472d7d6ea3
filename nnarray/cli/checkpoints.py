"""The checkpoints that `nnarray train` writes, and those it resumes from."""

import argparse
import os
from contextlib import suppress
from typing import NamedTuple

from nnarray.training.checkpoint_format import is_checkpoint


class GoingOn(NamedTuple):
    """The checkpoints of a run."""

    kept: str | None
    """where they are written"""
    source: str | None
    """the one to resume from, left by another run"""

    @property
    def note(self) -> str:
        """The note on it when training begins."""
        return f", from the checkpoint {self.source} on" if self.source else ""

    def ends(self, stopped: str) -> str:
        """Remove the checkpoint of a finished run; return the note on one that is left."""
        if self.kept is None:
            return ""
        if stopped == "interrupt":
            return f"the same command goes on from the checkpoint {self.kept}"
        with suppress(OSError):
            os.unlink(self.kept)
        return ""


def going_on(arguments: argparse.Namespace) -> GoingOn:
    """The checkpoints for --checkpoint and --resume: an existing file of --checkpoint is the later one."""
    resumed = arguments.resume if arguments.resume is not None and is_checkpoint(arguments.resume) else None
    kept = arguments.checkpoint or resumed
    return GoingOn(kept, kept if kept is not None and os.path.exists(kept) else resumed)
