"""An update rule over theta and the optimiser's running means, as one program."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from nnarray.backends import Backend, Program
from nnarray.core.typing import Array
from nnarray.engine import jitted
from nnarray.engine.rules import Rule, RuleKey, key_of, kind_of, traced


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
    key = key_of(rule) if backend.compiles or backend.jits else None
    kind = kind_of(key, len(vectors), g.dtype)
    if key is not None and kind.is_traceable and jitted.updates_at_once([*vectors, g], t, alpha, backend):
        return jitted.update(key, vectors, g, t, alpha, backend)
    if key is None or not kind.is_by_entry or not backend.compiles:
        made = rule(*vectors, g=g, t=t, alpha=alpha, xp=backend.xp)
        if not isinstance(made, tuple | list) or len(made) != len(vectors):
            got = f"a {type(made).__name__}" + (f" of {len(made)}" if isinstance(made, tuple | list) else "")
            msg = (
                f"step must give a tuple of theta and each of the means it remembers, here of {len(vectors)}, got {got}"
            )
            raise TypeError(msg)
        return [V if V.dtype == g.dtype else backend.xp.astype(V, g.dtype) for V in made]
    if backend.is_host:
        return _by_program(key, vectors, g, backend, t, alpha, in_place)
    with backend.current():
        return _by_program(key, vectors, g, backend, t, alpha, in_place)


def _by_program(
    key: RuleKey, vectors: Sequence[Array], g: Array, backend: Backend, t: int, alpha: float, in_place: bool
) -> Sequence[Array]:
    size = g.shape[0]
    piece = backend.entries_at_once or size
    first = _program(key, len(vectors), min(size, piece), g.dtype, backend)
    made = vectors if in_place and first.works_in_place else [backend.xp.empty_like(vector) for vector in vectors]
    if size <= piece:
        first(*vectors, g, t, alpha, *made)
        return made
    for start in range(0, size, piece):
        part = slice(start, start + piece)
        program = _program(key, len(vectors), min(piece, size - start), g.dtype, backend)
        program(*(vector[part] for vector in vectors), g[part], t, alpha, *(vector[part] for vector in made))
    return made


def captured_program(key: RuleKey, count: int, size: int, dtype: Any, backend: Backend) -> Program:
    """The program of an update that is to be captured in a graph."""
    return _program(key, count, size, dtype, backend, captured=True)


@lru_cache(maxsize=16)
def _program(key: RuleKey, count: int, size: int, dtype: Any, backend: Backend, *, captured: bool = False) -> Program:
    return backend.new_program(traced(key.rule, count, size, dtype), captured=captured)
