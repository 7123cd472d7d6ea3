"""A network as a table, for the terminal and for notebooks."""

from collections.abc import Sequence
from itertools import pairwise

HEAD = ("layer", "units", "activation", "W", "b", "parameters")


class Summary(str):
    """The table of a network's layers: plain text at a prompt, an HTML table in a notebook."""

    __slots__ = ("rows",)

    rows: Sequence[tuple[str, ...]]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        return table(HEAD, self.rows)


def summarize(sizes: Sequence[int], hidden: Sequence[str], output: str, *, batch_norm: bool = False) -> Summary:
    """One line per layer with its activation, the shapes of W and b and its number of parameters, and their total.

    With batch normalisation, b of a hidden layer is beta, and gamma is of its shape.
    """
    rows = [("input", f"{sizes[0]:,}", "", "", "", "")]
    for l, (n_prev, n, g) in enumerate(zip(sizes[:-1], sizes[1:], (*hidden, output), strict=True), 1):
        columns = 2 if batch_norm and l <= len(hidden) else 1
        b = f"beta, gamma ({n}, 1)" if columns == 2 else f"({n}, 1)"
        name = f"batch norm, {g}" if columns == 2 else g
        rows.append((str(l), f"{n:,}", name, f"({n}, {n_prev})", b, f"{n * (n_prev + columns):,}"))
    total = sum(n * (n_prev + 1) for n_prev, n in pairwise(sizes)) + batch_norm * sum(sizes[1:-1])
    rows.append(("total", "", "", "", "", f"{total:,}"))
    summary = Summary(_lines([HEAD, *rows]))
    summary.rows = rows
    return summary


def _lines(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(_aligned(cell, width, i) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:-1]), rule, lines[-1].rstrip()])


def _aligned(cell: str, width: int, column: int) -> str:
    numbers = (1, 5)
    return cell.rjust(width) if column in numbers else cell.ljust(width)
