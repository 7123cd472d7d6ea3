"""Figures that are kept by nobody but the caller, drawn by matplotlib, which is imported here alone."""

from io import BytesIO
from os import PathLike, fspath
from os.path import splitext
from typing import Any

import matplotlib.figure

from nnarray.backends import write_atomically

DPI = 120
"""of saved pictures"""


class Figure(matplotlib.figure.Figure):
    """A figure without pyplot, which a notebook shows all the same."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, so many inches wide and high."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | PathLike[str]) -> None:
    """As `figure.savefig` does, in the format that the name says, but whole or not at all."""
    name, content = fspath(path), BytesIO()
    ending = splitext(name)[1][1:].lower()
    kind = ending or figure.canvas.get_default_filetype()
    figure.savefig(content, dpi=DPI, format=kind)
    write_atomically(name if ending else f"{name}.{kind}", content.getvalue())
