"""The progress output of a training run, and the table of its history."""

import sys
import time

import nnarray as nn
from nnarray.cli.output import note
from nnarray.cli.paths import as_csv
from nnarray.files import write_atomically

SECONDS = 20.0
"""Between two lines of progress where there is no terminal for a bar."""


class Watching:
    """Called with every epoch: now and then a line of progress."""

    def __init__(self, epochs: int, *, quiet: bool) -> None:
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self.tells = not quiet and not on_terminal
        self.epochs = epochs
        self.told_at = time.monotonic()

    def __call__(self, record: nn.Epoch) -> None:
        """Look at an epoch."""
        if self.tells and record.epoch < self.epochs and time.monotonic() - self.told_at > SECONDS:
            self.told_at = time.monotonic()
            score = "" if record.validation_score is None else f", validation score {record.validation_score:.4f}"
            note(f"epoch {record.epoch} of {self.epochs}: cost {record.cost:.4g}{score}, {record.seconds:.0f} s")


def write_history(path: str, history: nn.History) -> None:
    """The history as CSV, a row per epoch."""
    table = history.columns()
    table["cost_with_penalty_and_dropout"] = table.pop("cost")
    write_atomically(path, as_csv(table, zip(*table.values(), strict=True)).encode())
