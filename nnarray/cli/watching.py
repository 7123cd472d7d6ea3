"""What a training shows of itself as it goes, and the history that its picture and its table are made of."""

import csv
import io
import sys
import time
from typing import Any

import numpy as np

import nnarray as nn
from nnarray.cli.output import note
from nnarray.files import write_atomically

SECONDS = 20.0
"""Between two lines of progress where there is no terminal for a bar."""


class Watching:
    """Called with every epoch: now and then a line of progress, and what the training part costs without penalty."""

    def __init__(self, epochs: int, *, quiet: bool, examples: tuple[Any, Any] | None, network: nn.Network) -> None:
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self.tells = not quiet and not on_terminal
        self.epochs, self.examples, self.network = epochs, examples, network
        self.told_at = time.monotonic()
        self.training: list[tuple[float, float]] = []
        """cost and score of the training part after each epoch, without penalty and dropout"""

    def __call__(self, record: nn.Epoch) -> None:
        """Look at an epoch."""
        if self.examples is not None:
            X, Y = self.examples
            cost = float(np.asarray(record.params.backend.to_numpy(self.network.cost(record.params, X, Y))))  # type: ignore[union-attr]
            self.training.append((cost, self.network.score(record.params, X, Y)))
        if self.tells and record.epoch < self.epochs and time.monotonic() - self.told_at > SECONDS:
            self.told_at = time.monotonic()
            score = "" if record.validation_score is None else f", validation score {record.validation_score:.4f}"
            note(f"epoch {record.epoch} of {self.epochs}: cost {record.cost:.4g}{score}, {record.seconds:.0f} s")


def columns(history: nn.History, watching: Watching) -> dict[str, list[Any]]:
    """The history as columns, with the training part's own cost and score where they were looked at."""
    table = history.columns()
    looked_at = watching.training[: len(history)]
    table["training_cost"] = [cost for cost, _ in looked_at] + [None] * (len(history) - len(looked_at))
    table["training_score"] = [score for _, score in looked_at] + [None] * (len(history) - len(looked_at))
    table["cost_with_penalty_and_dropout"] = table.pop("cost")
    return table


def write_history(path: str, table: dict[str, list[Any]]) -> None:
    """The history as CSV, a row per epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    write_atomically(path, text.getvalue().encode())
