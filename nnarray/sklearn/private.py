"""What nnarray.sklearn uses of scikit-learn's private names, all in this file; and its decorators, with their types."""

from collections.abc import Callable
from typing import Any, TypeVar

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
    "fits",
    "get_namespace",
    "get_namespace_and_device",
    "move_to",
    "supported_float_dtypes",
]

Method = TypeVar("Method", bound=Callable[..., Any])


def fits(method: Method) -> Method:
    """A method that checks the estimator's parameters first."""
    checking: Method = _fit_context(prefer_skip_nested_validation=True)(method)
    return checking


def available_where(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """A method that an estimator only has where `check` is true of it."""
    decorate: Callable[[Method], Method] = available_if(check)
    return decorate
