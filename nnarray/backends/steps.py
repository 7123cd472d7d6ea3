"""The steps of core bound to a namespace, once; where a backend has a faster version of a step, it goes in here."""

from functools import lru_cache

from nnarray.core.steps import Steps, bind
from nnarray.core.typing import Namespace


@lru_cache(maxsize=32)
def steps_for(xp: Namespace) -> Steps:
    """The steps of `xp`: core's own functions."""
    return bind(xp)
