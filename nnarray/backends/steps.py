"""The steps of core bound to a namespace, once; where a backend has a faster version of a step, it goes in here."""

import os
from collections.abc import Callable
from functools import lru_cache

from nnarray.backends import jax_steps, numpy_steps, torch_steps
from nnarray.core.steps import Steps, bind
from nnarray.core.typing import Namespace

ACCELERATED: dict[str, Callable[[Steps], Steps]] = {
    "numpy": numpy_steps.accelerate,
    "jax.numpy": jax_steps.accelerate,
}
"""By a namespace's name, what puts faster steps in the place of core's."""

NAMESPACES: dict[str, Callable[[Namespace], Namespace]] = {
    "jax.numpy": jax_steps.DifferentiableNamespace,
    "array_api_compat.torch": torch_steps.EagerNamespace,
}
"""By a namespace's name, what core's functions are given in its place, for the sake of derivatives."""

PLAIN_VARIABLE = "NNARRAY_PLAIN_STEPS"
"""Set to 1 in the environment, every backend computes with core's own functions alone. Read once."""


@lru_cache(maxsize=1)
def plain_steps() -> bool:
    """Whether the environment asks for core's own functions alone."""
    return os.environ.get(PLAIN_VARIABLE) == "1"


@lru_cache(maxsize=32)
def steps_for(xp: Namespace) -> Steps:
    """The steps of `xp`: core's own functions, and faster ones where its backend has them."""
    name = getattr(xp, "__name__", "")
    steps = bind(NAMESPACES.get(name, lambda xp: xp)(xp))
    accelerate = ACCELERATED.get(name)
    return steps if accelerate is None or plain_steps() else accelerate(steps)
