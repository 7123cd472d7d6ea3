"""NumPy's error state: a public call computes under one of its own, and leaves it and others' settings as they were."""

from __future__ import annotations  # whose evaluation at run time stops torch.compile

import sys
import warnings
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from nnarray.backends.concrete import is_compiled_by_torch

P = ParamSpec("P")
R = TypeVar("R")

_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)
"""Whether a public call is running already."""


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """`function` under an error state that ignores everything, whatever `np.seterr` said: it looks at results instead.

    NumPy keeps the state in a context variable. The function runs in a copy of the caller's context, so there is
    nothing to restore that an interrupt could keep from being restored. Whether torch records gradients is a setting of
    the thread, which its own blocks do not give back where an interrupt breaks into them: it is set again. So are the
    filters of warnings, which other libraries change for a while.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if is_compiled_by_torch() or _is_quiet.get():  # torch cannot see through contexts, and has no such state
            return function(*args, **kwargs)
        torch, filters = sys.modules.get("torch"), warnings.filters
        records = torch is None or torch.is_grad_enabled()  # as it does from its first import on
        try:
            try:
                return copy_context().run(_ignoring, function, args, kwargs)
            except Exception:
                raise
            except BaseException:
                filter_again(filters)
                raise
            finally:
                _record_again(records)
        finally:  # an interrupt, which comes once, may have come there
            _record_again(records)

    return call


def _record_again(records: bool) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.is_grad_enabled() != records:
        torch._C._set_grad_enabled(records)


def filter_again(filters: Any) -> None:
    """Put warnings' filters back, in whose place a block that an interrupt cut has left a copy."""
    if warnings.filters is filters:
        return
    warnings.filters = filters
    with warnings.catch_warnings():  # both ends of which forget what was told before under other filters
        pass


def _ignoring(function: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    _is_quiet.set(True)
    np.seterr(all="ignore")
    return function(*args, **kwargs)
