"""An update rule over theta and the optimiser's running means, on NumPy piece by piece: a piece of each fits the cache.

The pieces are taken by one thread. Two are no faster: the calls are so short that the threads wait for each other.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nnarray.backends import Backend, plain_steps
from nnarray.core.typing import Array

if TYPE_CHECKING:
    from nnarray.backends.numpy_programs import Program

PIECE = 2**16
"""Entries of a piece."""


Rule: TypeAlias = Callable[..., Sequence[Array]]
"""An update's equations: `rule(theta, *means, g=g, t=t, alpha=alpha, xp=xp)` is theta and the running means after
update t at rate alpha, from those before it and the gradient g."""


def update(
    rule: Rule,
    vectors: Sequence[Array],
    g: Array,
    backend: Backend,
    *,
    t: int,
    alpha: float,
    in_place: bool = False,
) -> Sequence[Array]:
    """What the rule makes of theta and the running means, the `vectors`; `in_place` it may write over them."""
    if backend.name != "numpy" or plain_steps():
        return rule(*vectors, g=g, t=t, alpha=alpha, xp=backend.xp)
    made = vectors if in_place else [np.empty_like(vector) for vector in vectors]
    size = g.shape[0]
    if size <= PIECE:
        _program(rule, len(vectors), size, g.dtype)(*vectors, g, t, alpha, *made)
        return made
    for start in range(0, size, PIECE):
        part = slice(start, start + PIECE)
        program = _program(rule, len(vectors), min(PIECE, size - start), g.dtype)
        program(*(vector[part] for vector in vectors), g[part], t, alpha, *(vector[part] for vector in made))
    return made


@lru_cache(maxsize=16)
def _program(rule: Rule, count: int, size: int, dtype: Any) -> "Program":
    from nnarray.backends.numpy_programs import Program
    from nnarray.backends.recording import Recording

    recording = Recording(dtype)
    vectors = [recording.input(f"vector{i}", (size,)) for i in range(count)]
    g, t, alpha = recording.input("g", (size,)), recording.scalar("t"), recording.scalar("alpha")
    made = rule(*vectors, g=g, t=t, alpha=alpha, xp=recording)
    names = [f"out{i}" for i in range(count)]
    return Program(recording, outputs=dict(zip(names, made, strict=True)), over=dict(zip(names, vectors, strict=True)))
