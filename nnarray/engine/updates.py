"""An update rule over theta and the optimiser's running means, as one program."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

from nnarray.backends import Backend, Program
from nnarray.core.typing import Array
from nnarray.programs.graph import Graph
from nnarray.programs.trace import Trace

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
    if not backend.compiles or not is_by_entry(rule, len(vectors), g.dtype):
        return rule(*vectors, g=g, t=t, alpha=alpha, xp=backend.xp)
    with backend.current():
        return _by_program(rule, vectors, g, backend, t, alpha, in_place)


def _by_program(
    rule: Rule, vectors: Sequence[Array], g: Array, backend: Backend, t: int, alpha: float, in_place: bool
) -> Sequence[Array]:
    size = g.shape[0]
    piece = backend.entries_at_once or size
    first = _program(*parts_of(rule), len(vectors), min(size, piece), g.dtype, backend)
    made = vectors if in_place and first.works_in_place else [backend.xp.empty_like(vector) for vector in vectors]
    if size <= piece:
        first(*vectors, g, t, alpha, *made)
        return made
    for start in range(0, size, piece):
        part = slice(start, start + piece)
        program = _program(*parts_of(rule), len(vectors), min(piece, size - start), g.dtype, backend)
        program(*(vector[part] for vector in vectors), g[part], t, alpha, *(vector[part] for vector in made))
    return made


def is_by_entry(rule: Rule, count: int, dtype: Any) -> bool:
    """Whether each entry of what the rule gives is made of the same entries alone, as in every rule of core.

    One of the caller's own that sums, or takes a maximum, over theta is computed as it stands: programs cut theta.
    """
    return _is_by_entry(*parts_of(rule), count, dtype)


@lru_cache(maxsize=16)
def _is_by_entry(function: Rule, owner: Any, count: int, dtype: Any) -> bool:
    graph = traced(bound(function, owner), count, 4, dtype)
    return not any([node.is_reduction or node.operation == "matmul" for node in graph.nodes])


def captured_program(rule: Rule, count: int, size: int, dtype: Any, backend: Backend) -> Program:
    """The program of an update that is to be captured in a graph."""
    return _program(*parts_of(rule), count, size, dtype, backend, captured=True)


@lru_cache(maxsize=16)
def _program(
    function: Rule, owner: Any, count: int, size: int, dtype: Any, backend: Backend, *, captured: bool = False
) -> Program:
    return backend.new_program(traced(bound(function, owner), count, size, dtype), captured=captured)


def parts_of(rule: Rule) -> tuple[Rule, Any]:
    """A rule's function and what it is a method of, where equal owners have equal rules: methods of them are not equal.

    That is known of data classes that hold their fields and nothing else.
    """
    owner: Any = getattr(rule, "__self__", None)
    if not is_dataclass(owner) or vars(owner).keys() != _fields(owner.__class__):
        return rule, None
    try:
        hash(owner)
    except TypeError:
        return rule, None
    return rule.__func__, owner  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def _fields(kind: Any) -> frozenset[str]:
    return frozenset([field.name for field in fields(kind)])


def bound(function: Rule, owner: Any) -> Rule:
    """The rule of these parts."""
    return function if owner is None else partial(function, owner)


def traced(rule: Rule, count: int, size: int, dtype: Any) -> Graph:
    """The rule's graph, of theta and the running means, `count` vectors; it is given g, t and alpha as well."""
    trace = Trace(dtype)
    vectors = [trace.input(f"vector{i}", (size,)) for i in range(count)]
    g, t, alpha = trace.input("g", (size,)), trace.scalar("t"), trace.scalar("alpha")
    made = rule(*vectors, g=g, t=t, alpha=alpha, xp=trace)
    names = [f"out{i}" for i in range(count)]
    return trace.graph(dict(zip(names, made, strict=True)), over=dict(zip(names, vectors, strict=True)))
