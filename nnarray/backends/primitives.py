"""The primitives of core bound to a namespace, once."""

import os
from functools import lru_cache

from nnarray.core.primitives import Primitives, bind
from nnarray.core.typing import Namespace

PLAIN_VARIABLE = "NNARRAY_PLAIN_STEPS"
"""Set to 1 in the environment, every backend computes with core's own functions alone. Read once."""


@lru_cache(maxsize=1)
def plain_primitives() -> bool:
    """Whether the environment asks for core's own functions alone."""
    return os.environ.get(PLAIN_VARIABLE) == "1"


@lru_cache(maxsize=32)
def primitives_for(xp: Namespace) -> Primitives:
    """Core's own functions on `xp`."""
    return bind(xp)
