"""Limits of the example weights: so much, or so little, that losses divided by it keep within their dtype."""

import numpy as np

HEAVIEST = {"float32": 2.0**100, "float64": 2.0**960}
"""The largest sum of weights whose losses have room below the largest number of their dtype; its inverse: the least."""

SPARED = 2.0**24
"""How many times less than all examples a batch may weigh and still count; more batches than that no epoch has."""


def weighs_nothing(total: float, dtype: str) -> bool:
    """Whether a batch of so small a sum of weights is as good as absent: dividing by it would overflow."""
    return total < 1 / (HEAVIEST[dtype] * SPARED)


def can_weigh(total: float, dtype: str) -> bool:
    """Whether examples may have weights of this sum."""
    return 1 / HEAVIEST[dtype] <= total <= HEAVIEST[dtype]


def require_weights(host: np.ndarray) -> None:
    """Raise ValueError for weights, on the host, that are not finite or less than 0; they may all be 0."""
    if not (np.isfinite(host).all() and (host >= 0).all()):
        msg = "weights must be finite and ≥ 0"
        raise ValueError(msg)


def require_weight(total: float, dtype: str) -> None:
    """Raise ValueError where examples may not have weights of this sum, all of them together."""
    if not can_weigh(total, dtype):
        msg = (
            f"weights must be ≥ 0 with a positive sum that is finite in {dtype} with room to spare, from "
            f"{1 / HEAVIEST[dtype]:.2g} to {HEAVIEST[dtype]:.2g}, got a sum of {total:g}; divide them by the largest, "
            "and l2, which stands beside their sum, by the same"
        )
        raise ValueError(msg)
