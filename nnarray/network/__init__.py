"""The network: its architecture, its parameters, and the functions of them."""

from nnarray.network.batch_norm import NormalizedParameters
from nnarray.network.costs import Cost
from nnarray.network.labels import one_hot
from nnarray.network.network import Network
from nnarray.network.parameters import Layer, Parameters

__all__ = [
    "Cost",
    "Layer",
    "Network",
    "NormalizedParameters",
    "Parameters",
    "one_hot",
]
