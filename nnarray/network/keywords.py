"""Functions whose TypeError for another library's keyword suggests nnarray's."""

from __future__ import annotations  # whose evaluation at run time stops torch.compile

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose TypeError for an unknown keyword suggests the right one."""
    code = _innermost(function).__code__
    known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                from nnarray.network.foreign import explanation  # which seldom is needed

                raise TypeError(explanation(function.__qualname__, name, known))
        return function(*args, **kwargs)

    return call


def with_explained_init(made: type[C]) -> type[C]:
    """The dataclass, whose constructor is `explained`."""
    setattr(made, "__init__", explained(made.__init__))  # noqa: B010
    return made


def _innermost(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function
