"""HTML tables for `_repr_html_`, which notebooks display."""

import html
from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """An HTML table with a caption, all cells escaped."""
    above = f"<div>{html.escape(caption)}</div>" if caption else ""
    body = "".join(_row(row, "td") for row in rows)
    return f"{above}<table><thead>{_row(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[Any], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(short(cell))}</{tag}>' for cell in cells)}</tr>"


def short(value: Any) -> str:
    """A number with six significant digits at most, nothing for None, anything else as `str` gives it."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
