"""What examples may weigh: so much, or so little, that losses divided by it keep within their dtype."""

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
