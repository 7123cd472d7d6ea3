"""Update rules as cache keys and as graphs, and whether a rule can be traced faithfully."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nnarray.core.typing import Array
from nnarray.programs.graph import Graph, Node
from nnarray.programs.placeholders import NotTraceableError, traced_rule
from nnarray.programs.trace import Trace

Rule: TypeAlias = Callable[..., Sequence[Array]]
"""An update's equations: `rule(theta, *means, g=g, t=t, alpha=alpha, xp=xp)` is theta and the running means after
update t at rate alpha, from those before it and the gradient g."""


class Kind(NamedTuple):
    """What a rule is like."""

    is_traceable: bool
    """its graph gives what the rule does, over all of theta"""
    is_by_entry: bool
    """besides, each entry of what it gives is made of the same entries alone

    That is so of every rule of core. One of the caller's own that sums, or takes a maximum, over theta is computed as
    it stands, as programs cut theta; so is one that does what no program can."""


COMPUTED_AS_IT_STANDS = Kind(is_traceable=False, is_by_entry=False)


def kind_of(key: "RuleKey | None", count: int, dtype: Any) -> Kind:
    """What the rule of this key is like, of `count` vectors; without a key, it is computed as it stands."""
    return COMPUTED_AS_IT_STANDS if key is None else _kind_of(key, count, dtype)


@lru_cache(maxsize=16)
def _kind_of(key: "RuleKey", count: int, dtype: Any) -> Kind:
    """What a rule is like: it is traced twice, and has to give the same graph."""
    before = dict(vars(key.owner)) if key.state else {}
    try:
        graph, again = (traced(key.rule, count, 4, dtype) for _ in range(2))
        is_constant = _signature(graph) == _signature(again) and (not key.state or vars(key.owner) == before)
    except NotTraceableError:
        return COMPUTED_AS_IT_STANDS
    finally:
        if key.state:  # a rule that counts its calls counts none of these
            vars(key.owner).update(before)
    return Kind(is_constant, is_constant and not any([node.is_reduction for node in graph.nodes]))


def _signature(graph: Graph) -> list[Any]:
    """What tells graphs apart that two traces made."""
    numbered = {node: i for i, node in enumerate((*graph.arrays, *graph.nodes))}
    nodes = [
        (node.operation, [numbered.get(s, s.operation) if isinstance(s, Node) else s for s in node.sources])
        for node in graph.nodes
    ]
    return [*nodes, *(numbered.get(node) for node in graph.outputs.values())]


class RuleKey(NamedTuple):
    """A rule's function and what it is a method of, by which rules are told apart: methods of equal owners are unequal.

    An owner is known to stay as it is where it is a frozen data class that holds its fields and nothing else. Of any
    other, the `state` is what it holds now.
    """

    function: Rule
    owner: Any
    state: tuple[tuple[str, Any], ...] = ()

    @property
    def rule(self) -> Rule:
        """The rule itself."""
        return self.function if self.owner is None or self.state else partial(self.function, self.owner)


def key_of(rule: Rule) -> RuleKey | None:
    """The rule's key; None where it is a method of something that may change unseen."""
    owner: Any = getattr(rule, "__self__", None)
    if owner is None:
        return RuleKey(rule, None)
    held = getattr(owner, "__dict__", None)
    if held is None:
        return None
    try:
        if _is_frozen(owner.__class__) and held.keys() == _fields(owner.__class__):
            hash(owner)
            return RuleKey(rule.__func__, owner)  # type: ignore[attr-defined]
    except TypeError:
        pass
    return RuleKey(rule, owner, tuple(held.items()) or NOTHING_HELD) if all(map(_is_constant, held.values())) else None


NOTHING_HELD = (("", None),)


def _is_constant(value: Any) -> bool:
    """Whether a value cannot change without becoming another one."""
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, int | float | str | bytes | np.generic | FunctionType)


def _is_frozen(kind: Any) -> bool:
    of_data_class = getattr(kind, "__dataclass_params__", None)
    return of_data_class is not None and bool(of_data_class.frozen)


@lru_cache(maxsize=64)
def _fields(kind: Any) -> frozenset[str]:
    return frozenset([field.name for field in fields(kind)])


def traced(rule: Rule, count: int, size: int, dtype: Any) -> Graph:
    """The rule's graph, of theta and the running means, `count` vectors; it is given g, t and alpha as well.

    Raises NotTraceableError for a rule that does what no program can.
    """
    trace = Trace(dtype)
    vectors = [trace.input(f"vector{i}", (size,)) for i in range(count)]
    g, t, alpha = trace.input("g", (size,)), trace.scalar("t"), trace.scalar("alpha")
    made = traced_rule(rule, vectors, g, t, alpha, trace)
    names = [f"out{i}" for i in range(count)]
    return trace.graph(dict(zip(names, made, strict=True)), over=dict(zip(names, vectors, strict=True)))
