"""A network as a table for the terminal."""

from collections.abc import Sequence
from itertools import pairwise


def summarize(sizes: Sequence[int], hidden: Sequence[str], output: str) -> str:
    """One line per layer with its activation, the shapes of W and b and its number of parameters, and their total."""
    head = ("layer", "units", "activation", "W", "b", "parameters")
    rows = [("input", f"{sizes[0]:,}", "", "", "", "")]
    for l, (n_prev, n, g) in enumerate(zip(sizes[:-1], sizes[1:], (*hidden, output), strict=True), 1):
        rows.append((str(l), f"{n:,}", g, f"({n}, {n_prev})", f"({n}, 1)", f"{n * (n_prev + 1):,}"))
    total = sum(n * (n_prev + 1) for n_prev, n in pairwise(sizes))
    rows.append(("total", "", "", "", "", f"{total:,}"))
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(_aligned(cell, width, i) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in [head, *rows]
    ]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:-1]), rule, lines[-1].rstrip()])


def _aligned(cell: str, width: int, column: int) -> str:
    numbers = (1, 5)
    return cell.rjust(width) if column in numbers else cell.ljust(width)
