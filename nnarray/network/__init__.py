"""The network: its architecture, its parameters, and what can be asked of them."""

from nnarray.network.checking import GradientCheck, check_gradients
from nnarray.network.costs import Cost
from nnarray.network.labels import one_hot
from nnarray.network.network import Network
from nnarray.network.normalized import NormalizedParameters
from nnarray.network.parameters import Layer, Parameters
from nnarray.network.workers import WorkersLostError

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
