"""The progress bar."""

import sys
import warnings

from nnarray.training.history import Epoch


class Silent:
    """No bar."""

    def show(self, record: Epoch) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing to close."""


class Bar(Silent):
    """A tqdm bar over the epochs, with the cost: of characters, or a widget in a notebook that has ipywidgets."""

    def __init__(self, epochs: int, done: int) -> None:
        from tqdm import TqdmWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # that ipywidgets is missing
            from tqdm.auto import tqdm

        self.bar = tqdm(total=epochs, initial=done, unit="epoch", file=sys.stderr)

    def show(self, record: Epoch) -> None:
        """Move on by one epoch and show its cost."""
        shown = {"cost": f"{record.cost:.4g}"}
        if record.validation_score is not None:
            shown["validation score"] = f"{record.validation_score:.4f}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def progress_bar(epochs: int, progress: bool | None, done: int = 0) -> Silent:
    """A bar at `done` epochs, if `progress`; by default where standard error is a terminal or a notebook."""
    return Bar(epochs, done) if (_someone_reads() if progress is None else progress) else Silent()


def _someone_reads() -> bool:
    stderr = sys.stderr
    return stderr is not None and (stderr.isatty() or type(stderr).__module__ == "ipykernel.iostream")
