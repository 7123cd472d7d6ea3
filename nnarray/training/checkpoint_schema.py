"""What the JSON of a checkpoint must hold, of which nothing is trusted."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from nnarray.backends.reading import short

Check: TypeAlias = Callable[[Any], bool]


def require_all(found: Any, checks: Mapping[str, Check], what: str) -> None:
    """Raise ValueError unless `found` is an object with these keys, whose values pass their checks."""
    if not isinstance(found, dict) or found.keys() != checks.keys():
        msg = f"its {what} must be an object of {', '.join(checks)}, got {short(found)}"
        raise ValueError(msg)
    for name, check in checks.items():
        if not check(found[name]):
            msg = f'"{name}" of its {what} is wrong, got {short(found[name])}'
            raise ValueError(msg)


def _whole(most: int) -> Check:
    return lambda value: type(value) is int and 0 <= value <= most


def _is_number(value: Any) -> bool:
    return _is_count(value) or (type(value) is float and math.isfinite(value))


def _is_truth(value: Any) -> bool:
    return type(value) is bool


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _object(checks: Mapping[str, Check], what: str) -> Check:
    """A check of an object, which raises for what is wrong in it."""

    def check(value: Any) -> bool:
        require_all(value, checks, what)
        return True

    return check


_is_count = _whole(2**53)
_is_generator = _object(
    {
        "bit_generator": lambda name: name == "PCG64",
        "state": _object({"state": _whole(2**128 - 1), "inc": _whole(2**128 - 1)}, "generator's state"),
        "has_uint32": _whole(1),
        "uinteger": _whole(2**32 - 1),
    },
    "generator",
)
_is_lowest = _or_none(_is_number)
_is_waiting = _object(
    {"lowest": _is_lowest, "reference": _is_lowest, "waited": _is_count, "validated": _is_truth}, "early stopping"
)
_is_state = _object(
    {
        "t": _is_count,
        "epoch": _is_count,
        "order": _or_none(_is_generator),
        "masks": _is_generator,
        "averaged": _is_count,
        "waiting": _or_none(_is_waiting),
    },
    "state",
)
_is_drawn = _object({"order": _is_generator, "masks": _is_generator}, "draws")
_are_draws = _object({"now": _is_drawn, "best": _or_none(_is_drawn)}, "ranks' draws")
WITHIN: Mapping[str, Check] = {
    "group": _is_count,
    "done": _is_count,
    "is_number": _is_truth,
    "counted": _is_number,
}
DESCRIPTION: Mapping[str, Check] = {
    "format": _is_count,
    "run": lambda value: isinstance(value, dict),
    "first": _is_count,
    "seconds": _is_number,
    "now": _is_state,
    "best": _or_none(_is_state),
    "patience": _object(
        {
            "lowest": _is_lowest,
            "reference": _is_lowest,
            "waited": _is_count,
            "best_epoch": _or_none(_is_count),
        },
        "patience",
    ),
    "within": _or_none(_object(WITHIN, "epoch")),
}
"""The required fields of the JSON."""

DRAWS: Mapping[str, Check] = {"draws": _or_none(lambda value: isinstance(value, list) and all(map(_are_draws, value)))}
"""Its optional fields."""
