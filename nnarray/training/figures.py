"""matplotlib figures outside of pyplot, which only the caller holds; training imports matplotlib here alone."""

from collections.abc import Sequence
from io import BytesIO
from os import PathLike, fsdecode
from os.path import splitext
from typing import Any

import matplotlib.figure

from nnarray.backends.atomic import write_atomically

DPI = 120
"""of saved pictures"""


class Figure(matplotlib.figure.Figure):
    """A figure outside of pyplot, which a notebook displays nevertheless."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, so many inches wide and high."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | PathLike[str]) -> None:
    """Save a figure in the format of the file's extension, as `figure.savefig` does, but atomically."""
    name, content = fsdecode(path), BytesIO()
    ending = splitext(name)[1][1:].lower()
    kind = ending or figure.canvas.get_default_filetype()
    figure.savefig(content, dpi=DPI, format=kind)
    write_atomically(name if ending else f"{name}.{kind}", content.getvalue())


def draw_curve(axes: Any, epochs: Sequence[int], values: Sequence[float | None], label: str) -> None:
    """The known values over their epochs; a curve of one or two has points."""
    points = [(x, y) for x, y in zip(epochs, values, strict=True) if y is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 3 else None)


def label_epochs(axes: Any, label: str) -> None:
    """The axes of curves over epochs."""
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=label)
    axes.grid(alpha=0.3)
    if any(axes.get_legend_handles_labels()):
        axes.legend(frameon=False)
