"""An update rule over theta and the optimiser's running means, as one program."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from nnarray.backends import NUMPY, Backend, Program
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
    shared = backend.shared_with_numpy([*vectors, g]) if NUMPY.compiles and isinstance(alpha, int | float) else None
    if shared is not None and (made := _by_numpy(rule, shared, t, alpha, in_place)) is not None:
        return vectors if made[0] is shared[0] else [backend.asarray(V) for V in made]
    key = key_of(rule) if backend.compiles or backend.jits else None
    kind = kind_of(key, len(vectors), g.dtype)
    if key is not None and kind.is_traceable and jitted.updates_at_once([*vectors, g], t, alpha, backend):
        return jitted.update(key, vectors, g, t, alpha, backend)
    if key is None or not kind.is_by_entry or not backend.compiles:
        return _as_it_stands(rule(*vectors, g=g, t=t, alpha=alpha, xp=backend.xp), len(vectors), g, backend)
    if backend.is_host:
        return _by_program(key, vectors, g, backend, t, alpha, in_place)
    with backend.current():
        return _by_program(key, vectors, g, backend, t, alpha, in_place)


def _by_numpy(rule: Rule, shared: Sequence[Array], t: int, alpha: float, in_place: bool) -> Sequence[Array] | None:
    """The same of vectors and g in memory that NumPy shares with another library; None where there is no program."""
    *vectors, g = shared
    key = key_of(rule)
    if key is None or not kind_of(key, len(vectors), g.dtype).is_by_entry:
        return None
    return _by_program(key, vectors, g, NUMPY, t, alpha, in_place)


def _as_it_stands(made: Any, count: int, g: Array, backend: Backend) -> Sequence[Array]:
    """What a rule made, once it is seen to be `count` vectors like g; in memory of their own, as g's is used again."""
    if not isinstance(made, tuple | list) or len(made) != count:
        got = f"a {type(made).__name__}" + (f" of {len(made)}" if isinstance(made, tuple | list) else "")
        msg = f"step must give a tuple of theta and each of the means it remembers, here of {count}, got {got}"
        raise TypeError(msg)
    shapes = [getattr(V, "shape", None) for V in made]
    if any([shape != g.shape for shape in shapes]):
        msg = f"step must give arrays of g's shape, {tuple(g.shape)}, got {', '.join(map(_shape_or_none, shapes))}"
        raise ValueError(msg)
    return [backend.xp.astype(V, g.dtype) if V.dtype != g.dtype or _is_in(g, V, backend) else V for V in made]


def _shape_or_none(shape: Any) -> str:
    return "no array" if shape is None else str(tuple(shape))


def _is_in(g: Array, V: Array, backend: Backend) -> bool:
    """Whether V lies in g's memory, where the library tells; else, whether it is g."""
    may_share_memory = getattr(backend.xp, "may_share_memory", None)
    return V is g if may_share_memory is None else bool(may_share_memory(V, g))


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


@lru_cache(maxsize=16)
def machine_code(key: RuleKey | None, count: int, size: int, dtype: Any) -> Program | None:
    """The program of an update of all of theta at once, where there is machine code; None for a rule without one."""
    if key is None or not kind_of(key, count, dtype).is_by_entry:
        return None
    return _program(key, count, size, dtype, NUMPY)


def captured_program(key: RuleKey, count: int, size: int, dtype: Any, backend: Backend) -> Program:
    """The program of an update that is to be captured in a graph."""
    return _program(key, count, size, dtype, backend, captured=True)


@lru_cache(maxsize=16)
def _program(key: RuleKey, count: int, size: int, dtype: Any, backend: Backend, *, captured: bool = False) -> Program:
    return backend.new_program(traced(key.rule, count, size, dtype), captured=captured)
