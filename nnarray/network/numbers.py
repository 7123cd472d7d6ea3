"""Checks of numbers that callers give: counts, rates, seeds."""

from math import isfinite
from typing import Any

import numpy as np

from nnarray.backends import is_constant

NOT_A_NUMBER = (bool, np.bool_, str, np.complexfloating)
"""Types that Python would convert to a float, or truncate to one, but that are no real numbers."""


def check_penalty(strength: Any, argument: str) -> Any:
    """A penalty's lambda, a finite number ≥ 0; a traced or differentiated array is returned unchanged."""
    if hasattr(strength, "shape") and not is_constant(strength) and tuple(strength.shape) == ():
        return strength
    return check_number(strength, argument, at_least=0.0)


def require_penalties(dtype: str, **penalties: Any) -> None:
    """Raise ValueError for a lambda that is infinite in the network's dtype."""
    largest = float(np.finfo(dtype).max)
    for name, strength in penalties.items():
        if isinstance(strength, float) and strength > largest:
            msg = f"{name} must be finite in {dtype}, at most {largest:.4g}, got {strength:g}"
            raise ValueError(msg)


def check_number(value: Any, argument: str, *, at_least: float = -np.inf, below: float = np.inf) -> float:
    """`value` as a finite float within its bounds."""
    if isinstance(value, NOT_A_NUMBER) or not hasattr(type(value), "__float__") or _has_axes(value):
        msg = f"{argument} must be a number, got {value!r}"
        raise TypeError(msg)
    try:
        checked = float(value)
    except OverflowError:  # of an int too large for a float
        checked = np.inf
    if not (at_least <= checked < below and isfinite(checked)):
        bounds = f" ≥ {at_least:g}" if at_least > -np.inf else ""
        bounds += f" and < {below:g}" if below < np.inf else ""
        msg = f"{argument} must be a finite number{bounds}, got {value!r}"
        raise ValueError(msg)
    return checked


def check_count(value: Any, argument: str, *, at_least: int = 1) -> int:
    """`value` as a whole number ≥ `at_least`."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__") or _has_axes(value):
        msg = f"{argument} must be a whole number ≥ {at_least}, got {value!r}"
        raise TypeError(msg)
    count = int(value.__index__())
    if count < at_least:
        msg = f"{argument} must be a whole number ≥ {at_least}, got {value!r}"
        raise ValueError(msg)
    return count


def check_optional_count(value: Any, argument: str) -> int | None:
    """`value` as a whole number ≥ 1, or None."""
    return None if value is None else check_count(value, argument)


def check_seed(seed: Any) -> int | None:
    """`seed` as a whole number ≥ 0, or None for one drawn anew."""
    return None if seed is None else check_count(seed, "seed", at_least=0)


def _has_axes(value: Any) -> bool:
    return len(getattr(value, "shape", ())) > 0
