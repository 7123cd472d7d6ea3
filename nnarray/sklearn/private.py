"""scikit-learn's private names that nnarray.sklearn uses, all in this file, and its decorators, with their types."""

from collections.abc import Callable
from functools import wraps
from numbers import Integral
from traceback import clear_frames
from typing import Any, TypeVar, cast

import numpy as np
from sklearn import get_config, set_config
from sklearn.utils import check_random_state

try:
    from sklearn.base import _fit_context
    from sklearn.utils._array_api import (
        check_same_namespace,
        get_namespace,
        get_namespace_and_device,
        move_to,
        supported_float_dtypes,
    )
    from sklearn.utils._param_validation import Interval, Options, StrOptions
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import _check_partial_fit_first_call as check_partial_fit_first_call
    from sklearn.utils.optimize import _check_optimize_result as check_optimize_result
    from sklearn.utils.validation import _check_sample_weight as check_sample_weight
    from sklearn.utils.validation import _check_y as check_y
except ImportError as error:
    import sklearn

    msg = f"this version of nnarray.sklearn cannot use scikit-learn {sklearn.__version__}: {error}"
    raise ImportError(msg) from error

__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "available_where",
    "check_optimize_result",
    "check_partial_fit_first_call",
    "check_same_namespace",
    "check_sample_weight",
    "check_y",
    "fits",
    "get_namespace",
    "get_namespace_and_device",
    "move_to",
    "random_state_of",
    "settled",
    "supported_float_dtypes",
    "training_begins",
]

Method = TypeVar("Method", bound=Callable[..., Any])


def settled(method: Method) -> Method:
    """A method that leaves scikit-learn's options, which it changes within calls, as they were, however it ends."""

    @wraps(method)
    def call(*given: Any, **options: Any) -> Any:
        before = get_config()
        try:
            try:
                return method(*given, **options)
            finally:
                _settle(before)
        finally:  # an interrupt, which comes once, may have come there
            _settle(before)

    return cast("Method", call)


def _settle(configured: dict[str, Any]) -> None:
    if get_config() != configured:
        set_config(**configured)


def fits(method: Method) -> Method:
    """A settled method that checks the estimator's parameters first.

    What ends it before training has begun, an error or Ctrl-C, leaves the estimator as it was.
    """
    checking: Method = _fit_context(prefer_skip_nested_validation=True)(method)

    @settled
    @wraps(method)
    def fit(model: Any, *given: Any, **options: Any) -> Any:
        before = dict(vars(model))
        try:
            try:
                setattr(model, CHECKING, True)
                return checking(model, *given, **options)
            except Exception:
                raise
            except BaseException as error:  # of generators that it stopped midway, whose ends would come too late
                clear_frames(error.__traceback__)
                raise
            finally:
                _leave(model, before)
        finally:  # an interrupt, which comes once, may have come there
            _leave(model, before)

    return cast("Method", fit)


def _leave(model: Any, before: dict[str, Any]) -> None:
    held = vars(model)
    if CHECKING in held:
        held.update(before)
        for name in held.keys() - before.keys() - {CHECKING}:
            del held[name]
        del held[CHECKING]


def training_begins(model: Any) -> None:
    """From now on, the estimator keeps its training progress, however `fit` ends."""
    vars(model).pop(CHECKING, None)


CHECKING = "_is_checking"
"""An attribute that an estimator has until training has begun."""


def random_state_of(seed: Any, own: np.random.RandomState | None) -> np.random.RandomState:
    """scikit-learn's `check_random_state`; of a whole number, `own` seeded again, where there is one.

    To make a new one, which draws a seed of the machine first, takes as long as a step.
    """
    if own is None or not isinstance(seed, Integral):
        return cast("np.random.RandomState", check_random_state(seed))
    own.seed(int(seed))
    return own


def available_where(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """A method that an estimator only has where `check` is true of it."""
    decorate: Callable[[Method], Method] = available_if(check)
    return decorate
