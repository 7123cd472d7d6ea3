"""nnarray: a compute core for dense neural networks.

The forward, backprop and update equations of Andrew Ng's first deep-learning course, written once against the Python
Array API standard, for NumPy, CuPy, torch and JAX arrays. `core` holds the equations, `backends` says
where they run, `engine` how much at once; on top stand `Network`, `train` and the files.
"""

from nnarray import starting as starting  # before NumPy, whose import takes most of the time

# isort: split

import importlib
from typing import TYPE_CHECKING, Any

from nnarray.backends import Backend, BackendUnavailableError, backend, use_backend
from nnarray.network import Cost, GradientCheck, Layer, Network, Parameters, check_gradients, one_hot
from nnarray.training import (
    Adam,
    DivergenceError,
    Epoch,
    GradientDescent,
    History,
    Momentum,
    Nesterov,
    RMSprop,
    TrainingResult,
    train,
)

if TYPE_CHECKING:
    from nnarray.bridges import from_torch, to_torch
    from nnarray.files import Model, ModelFileError, load, read_model, save
    from nnarray.onnx import from_onnx, to_onnx
    from nnarray.training import schedules

__version__ = "0.1.0"


_SELDOM = {
    **dict.fromkeys(("Model", "ModelFileError", "load", "read_model", "save"), "nnarray.files"),
    **dict.fromkeys(("from_torch", "to_torch"), "nnarray.bridges"),
    **dict.fromkeys(("from_onnx", "to_onnx"), "nnarray.onnx"),
}


def __getattr__(name: str) -> Any:
    """Load what is seldom needed on its first use."""
    if name == "schedules":
        return importlib.import_module("nnarray.training.schedules")
    if name in _SELDOM:
        return getattr(importlib.import_module(_SELDOM[name]), name)
    msg = f"module 'nnarray' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


__all__ = [
    "Adam",
    "Backend",
    "BackendUnavailableError",
    "Cost",
    "DivergenceError",
    "Epoch",
    "GradientCheck",
    "GradientDescent",
    "History",
    "Layer",
    "Model",
    "ModelFileError",
    "Momentum",
    "Nesterov",
    "Network",
    "Parameters",
    "RMSprop",
    "TrainingResult",
    "backend",
    "check_gradients",
    "from_onnx",
    "from_torch",
    "load",
    "one_hot",
    "read_model",
    "save",
    "schedules",
    "to_onnx",
    "to_torch",
    "train",
    "use_backend",
]
