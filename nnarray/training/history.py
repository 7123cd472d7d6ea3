"""The history of a training run, epoch by epoch."""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple, overload

from nnarray.backends import quiet
from nnarray.network.parameters import Parameters

MOST_SHOWN = 10
"""The most epochs of a history that a notebook shows."""


class Epoch(NamedTuple):
    """One epoch: a pass over all examples."""

    epoch: int
    """1, 2, …"""
    cost: float
    """J over the epoch's batches, each taken before its update"""
    learning_rate: float
    """alpha of the epoch's last update"""
    seconds: float
    """since training began; on a GPU, which computes asynchronously, until the cost was read"""
    validation_cost: float | None = None
    """the mean loss over the validation examples after the epoch, without the penalty"""
    validation_score: float | None = None
    """accuracy or R² over them"""
    training_cost: float | None = None
    """the same, of as many training examples, up to 2000, where there are validation examples to compare with"""
    training_score: float | None = None
    params: Parameters | None = None
    """the parameters after the epoch, in the record that a callback gets; not kept in the history"""

    def __repr__(self) -> str:
        from nnarray.network.html import short

        return f"Epoch({', '.join(f'{name}={short(value)}' for name, value in _known(self))})"

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        return table([name for name, _ in _known(self)], [[value for _, value in _known(self)]])


def _known(epoch: Epoch) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in epoch._asdict().items() if value is not None]


class History(Sequence[Epoch]):
    """The epochs of a training run, in order.

    Parameters
    ----------
    epochs : iterable of Epoch, default=()
        The records.
    kept_epoch : int, optional
        The epoch whose parameters training returned.
    score_name : str, default="score"
        What the scores are: "accuracy" or "R²".

    Examples
    --------
    >>> history = History([Epoch(1, 0.7, 0.1, 0.01), Epoch(2, 0.5, 0.1, 0.02)])
    >>> history[-1].cost
    0.5
    >>> history.columns()["cost"]
    [0.7, 0.5]
    """

    def __init__(
        self, epochs: Iterable[Epoch] = (), *, kept_epoch: int | None = None, score_name: str = "score"
    ) -> None:
        self._epochs = list(epochs)
        self.kept_epoch = kept_epoch
        """the epoch whose parameters training returned"""
        self.score_name = score_name
        """what the scores are: accuracy or R²"""

    def append(self, epoch: Epoch) -> None:
        """Add the next epoch.

        Parameters
        ----------
        epoch : Epoch
            Its record.
        """
        self._epochs.append(epoch)

    def columns(self) -> dict[str, list[Any]]:
        """The history as a table of columns, which `pandas.DataFrame` accepts.

        Returns
        -------
        dict of str to list
            For each field of `Epoch` but `params`, its values, one per epoch; None where an epoch has none.
        """
        names = [name for name in Epoch._fields if name != "params"]
        return {name: [getattr(epoch, name) for epoch in self._epochs] for name in names}

    @quiet
    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """A matplotlib figure of cost and score over the epochs, with the kept one marked.

        With validation examples, their curves are drawn beside those of training examples, all without penalty and
        dropout; without them, the cost of the batches, which includes both.

        Parameters
        ----------
        path : path, optional
            Where to save it, in the format of its extension, such as .png or .svg; the file is written atomically.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook displays it as the last expression of a cell. It is not registered with pyplot, which would keep
            it alive, so `plt.show()` does not open it (use `nnarray.plots.cost_curves(history)` for that).

        Raises
        ------
        ImportError
            Where matplotlib is missing (the extra `plot`).
        ValueError
            For an extension that matplotlib does not support.
        OSError
            Where the file can't be written.
        """
        from nnarray.training.figures import new_figure, save_figure

        table = self.columns()
        if all(cost is None for cost in table["validation_cost"]):
            panels = [("cost J with penalty and dropout", {"training": "cost"})]
        else:
            panels = [
                (f"{name}, without penalty and dropout", {part: f"{part}_{key}" for part in ("training", "validation")})
                for name, key in (("cost J", "cost"), (self.score_name, "score"))
            ]
        figure = new_figure(0.4 + 4.6 * len(panels), 3.6)
        for axes, (label, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw(axes, table, curves, label, self.kept_epoch)
        if path is not None:
            save_figure(figure, path)
        return figure

    @overload
    def __getitem__(self, index: int) -> Epoch: ...
    @overload
    def __getitem__(self, index: slice) -> "History": ...
    def __getitem__(self, index: int | slice) -> "Epoch | History":
        if not isinstance(index, slice):
            return self._epochs[index]
        return History(self._epochs[index], kept_epoch=self.kept_epoch, score_name=self.score_name)

    def __len__(self) -> int:
        return len(self._epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self._epochs)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last {self._epochs[-1] if self._epochs else None})"

    def _repr_html_(self) -> str:
        """A table of the first and the last epochs, without empty columns."""
        from nnarray.network.html import table

        known = {name: values for name, values in self.columns().items() if any(v is not None for v in values)}
        rows = list(zip(*known.values(), strict=True))
        if len(rows) > MOST_SHOWN:
            half = MOST_SHOWN // 2
            rows = [*rows[:half], ("…",) * len(known), *rows[-half:]]
        kept = "" if self.kept_epoch is None else f", of which training kept number {self.kept_epoch}"
        return table(list(known), rows, f"{len(self)} epochs{kept}")


def _draw(axes: Any, table: dict[str, list[Any]], curves: dict[str, str], label: str, kept: int | None) -> None:
    from nnarray.training.figures import draw_curve, label_epochs

    for name, column in curves.items():
        draw_curve(axes, table["epoch"], table[column], name)
    if kept in table["epoch"]:
        axes.axvline(kept, color="0.5", linestyle=":", label=f"epoch {kept}, kept")
    label_epochs(axes, label)
