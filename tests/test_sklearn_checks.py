"""scikit-learn's checks of an estimator, on both of nnarray's.

With SCIPY_ARRAY_API=1, which conftest sets, those of the Array API are among them; one test runs them all without.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import (
    check_array_api_input,
    check_array_api_input_and_values,
    estimator_checks_generator,
)

from nnarray import backends
from nnarray.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("default")  # the checks provoke warnings, and look at those that count

ESTIMATORS = (MLPClassifier(max_iter=100), MLPRegressor(max_iter=100))
CHECKS_OF_THE_ARRAY_API = 7
"""Of each estimator, where no GPU is there: numpy, two of strict and of torch each, mixed inputs, another namespace."""


def can_run(text: str) -> bool:
    """Whether a check of the Array API, by its text, is of a library and a device that this project knows."""
    if "check_array_api" not in text:
        return True
    if os.environ.get("SCIPY_ARRAY_API") != "1" or "dpnp" in text:
        return False
    return not any(f"'{device}" in text for device in ("mps", "xpu")) and ("'cuda" not in text or _has_cuda())


def _has_cuda() -> bool:
    if backends.unavailable_reason("torch") is not None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def checks() -> Iterator[Any]:
    for estimator in ESTIMATORS:
        for instance, check in estimator_checks_generator(estimator):
            text = str(check)
            if can_run(text) and not (
                "multilabel_output_format_decision_function" in text and not hasattr(instance, "decision_function")
            ):
                arguments = ", ".join(map(str, getattr(check, "keywords", {}).values()))
                yield pytest.param(instance, check, id=f"{estimator}-{_name(check)}-{arguments}")


def _name(check: Any) -> str:
    return str(check.func.__name__ if isinstance(check, partial) else check)


def test_every_check_is_there() -> None:
    names = [param.id for param in checks()]
    assert len(names) > 55 * len(ESTIMATORS)
    of_array_api = [name for name in names if "check_array_api" in name and "cupy" not in name and "cuda" not in name]
    expected = CHECKS_OF_THE_ARRAY_API if os.environ.get("SCIPY_ARRAY_API") == "1" else 0
    assert len(of_array_api) == expected * len(ESTIMATORS)


def needs_library(text: str) -> None:
    for library in ("cupy", "torch"):
        reason = backends.unavailable_reason(library)
        if library in text and reason is not None:
            pytest.skip(f"{library}: {reason}")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_checks(estimator, check) -> None:
    needs_library(str(check))
    check(estimator)


@pytest.mark.skipif(os.environ.get("SCIPY_ARRAY_API") != "1", reason="SCIPY_ARRAY_API is not 1")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("namespace", "device"), [("torch", "cpu"), ("array_api_strict", "CPU_DEVICE")])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_values_are_those_of_numpy(estimator, namespace, device, weighted) -> None:
    needs_library(namespace)
    check_array_api_input_and_values(
        type(estimator).__name__, estimator, namespace, device, dtype_name="float64", check_sample_weight=weighted
    )


def test_a_check_can_fail() -> None:
    class Forgetful(MLPRegressor):
        def predict(self, X: Any) -> Any:
            return super().predict(X).tolist()

    with pytest.raises((AssertionError, AttributeError)):
        check_array_api_input("Forgetful", Forgetful(max_iter=20), "numpy")


@pytest.mark.skipif(os.environ.get("SCIPY_ARRAY_API") != "1", reason="this is the run without SCIPY_ARRAY_API")
def test_all_checks_pass_without_the_array_api_too() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SCIPY_ARRAY_API"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "test_checks or there"]
    done = subprocess.run(
        command, check=False, env=environment | {"NNARRAY_KEEP_SCIPY": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
