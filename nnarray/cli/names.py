"""Names in messages: lists of them, and what somebody may have meant."""

from collections.abc import Sequence
from difflib import get_close_matches

from nnarray.cli.output import quoted


def listed_names(names: Sequence[str], most: int = 8) -> str:
    """The first names, in quotes."""
    shown = ", ".join(map(quoted, names[:most]))
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The question that suggests the nearest known word; nothing where none is near."""
    folded = {name.lower(): name for name in reversed(list(known)[:5000])}
    near = get_close_matches(word.lower()[:100], folded, n=1, cutoff=0.7)
    return f" (did you mean {quoted(folded[near[0]])}?)" if near else ""


def no_such_column(source: str, missing: Sequence[str], names: Sequence[str]) -> str:
    """What to say of columns that a table lacks."""
    asked = did_you_mean(missing[0], names) if len(missing) == 1 else ""
    return f"{source} has no column {listed_names(missing)}{asked}; its columns are {listed_names(names)}"
