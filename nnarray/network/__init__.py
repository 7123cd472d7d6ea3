"""The network: its architecture, its parameters, and the functions of them."""

from nnarray.engine.dask_tasks import WorkersLostError
from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.costs import Cost
from nnarray.network.gradient_check import GradientCheck, check_gradients
from nnarray.network.labels import one_hot
from nnarray.network.network import Network
from nnarray.network.parameters import Layer, Parameters

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
