"""Pictures of a training and of predictions, drawn by matplotlib."""

import importlib.util
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnarray.cli.errors import CommandError
from nnarray.cli.output import visible
from nnarray.cli.results import confusion
from nnarray.files.model import codes

MOST_LABELLED = 20
"""Classes up to which a picture writes their names and counts."""


def check_plot(name: str) -> None:
    """Raise CommandError where no picture of this name can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        msg = "--plot needs matplotlib, which is not installed: pip install matplotlib (nnarray's extra [plot])"
        raise CommandError(msg)
    from nnarray.training.figures import new_figure

    trial, kind = new_figure(1, 1), Path(name).suffix[1:].lower()
    known = trial.canvas.get_supported_filetypes()
    if kind not in known:
        msg = f"--plot {name}: the name must end in one of .{', .'.join(sorted(known))}"
        raise CommandError(msg)
    trial.text(0, 0, "text")
    try:
        trial.savefig(BytesIO(), format=kind)
    except Exception as error:
        msg = f"--plot {name}: matplotlib cannot draw .{kind} here ({error}): name another format, such as .png"
        raise CommandError(msg) from None


def draw_predictions(path: str, A: npt.NDArray[Any], true: npt.NDArray[Any], classes: Sequence[Any] | None) -> None:
    """The confusion matrix, or what was predicted against what is true."""
    from nnarray.training.figures import new_figure, save_figure

    figure = new_figure(5.0, 4.4)
    axes = figure.subplots()
    if classes is None:
        low, high = min(true.min(), A[0].min()), max(true.max(), A[0].max())
        axes.plot(true, A[0], ".", alpha=0.5)
        axes.plot([low, high], [low, high], color="0.5", linestyle=":", label="right")
        axes.set(xlabel="true", ylabel="predicted")
        axes.legend(frameon=False)
    else:
        _draw_confusion(axes, confusion(codes(A), true, len(classes)), classes)
    save_figure(figure, path)


def _draw_confusion(axes: Any, matrix: npt.NDArray[Any], classes: Sequence[Any]) -> None:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title("counts; shades: the share of each row", fontsize="medium")
    if len(classes) > MOST_LABELLED:
        return
    names = [visible(str(name))[:20].replace("$", r"\$") for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(column, row, count, ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black")
