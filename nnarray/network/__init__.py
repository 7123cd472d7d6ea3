"""The network: its architecture, its parameters, and the functions of them."""

import importlib
from typing import TYPE_CHECKING, Any

from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.costs import Cost
from nnarray.network.labels import one_hot
from nnarray.network.network import Network
from nnarray.network.parameters import Layer, Parameters

if TYPE_CHECKING:
    from nnarray.engine.dask_tasks import WorkersLostError
    from nnarray.network.gradient_check import GradientCheck, check_gradients

_SELDOM = {
    "GradientCheck": "nnarray.network.gradient_check",
    "WorkersLostError": "nnarray.engine.dask_tasks",
    "check_gradients": "nnarray.network.gradient_check",
}


def __getattr__(name: str) -> Any:
    """Load what is seldom needed on its first use."""
    if name in _SELDOM:
        return getattr(importlib.import_module(_SELDOM[name]), name)
    msg = f"module 'nnarray.network' has no attribute {name!r}"
    raise AttributeError(msg)


__all__ = [
    "Cost",
    "GradientCheck",
    "Layer",
    "Network",
    "NormalizedParameters",
    "Parameters",
    "WorkersLostError",
    "check_gradients",
    "one_hot",
]
