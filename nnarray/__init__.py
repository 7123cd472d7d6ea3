"""nnarray: a compute core for dense neural networks.

The forward, backprop and update equations of Andrew Ng's first deep-learning course, written once against the Python
Array API standard, for NumPy, CuPy, torch and JAX arrays.

To read on: `nnarray.guide` (the lecture in code, large batches, machines, GPUs, how it is built, how to add to it),
`nnarray.core` (the equations), `nnarray.training` and its `nnarray.training.schedules`, `nnarray.sklearn`
(scikit-learn's MLP), `nnarray.plots` and `nnarray.examples` (the course, drawn), `nnarray.onnx`, `nnarray.cli` (the
command line).

The house, from the ground up; a module imports from its own floor and from lower ones:

1. `core`      the lecture: pure functions of arrays of any namespace, one per equation
2. `programs`  what core asks for, traced once per shape, scheduled and compiled: machine code, NumPy's calls, CUDA
3. `backends`  where: a file per library and what it can, devices and dtypes, BLAS's threads, the way in for arrays
4. `engine`    how much at once: tiles of columns, who computes them, their partial sums, the programs of each shape
5. `network`   `Network`, the architecture, `Parameters`, theta with its views W and b, checks of what a caller gives
6. `training`  `train`: mini-batches, optimisers and their state, schedules, history, stopping, checkpoints
7. the faces   `files`, `onnx`, `bridges`, `sklearn`, `plots`, `examples` and the command line, `cli`

X (n_x, m) of a call to `Network.gradients` is checked in `network`, cut into tiles in `engine`, and each tile runs
through the program of its shape, which `programs` compiled from core's equations for the device that `backends` found;
`nnarray.guide.house` follows it, floor by floor, down to the native call.
"""

from nnarray import starting as starting  # before NumPy, whose import takes most of the time

# isort: split

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnarray import plots as plots
    from nnarray.backends import Backend, BackendUnavailableError, backend, use_backend
    from nnarray.bridges import from_torch, to_torch
    from nnarray.files import Model, ModelFileError, Normalization, load, read_model, save
    from nnarray.network import (
        Cost,
        GradientCheck,
        Layer,
        Network,
        NormalizedParameters,
        Parameters,
        WorkersLostError,
        check_gradients,
        one_hot,
    )
    from nnarray.onnx import from_onnx, to_onnx
    from nnarray.sklearn.converting import from_sklearn, to_sklearn
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
        schedules,
        train,
    )

__version__ = "0.1.0"

_NAMES = {
    "backends": "Backend BackendUnavailableError backend use_backend",
    "network": "Cost GradientCheck Layer Network NormalizedParameters Parameters WorkersLostError"
    " check_gradients one_hot",
    "training": "Adam DivergenceError Epoch GradientDescent History Momentum Nesterov RMSprop TrainingResult train",
    "files": "Model ModelFileError Normalization load read_model save",
    "bridges": "from_torch to_torch",
    "onnx": "from_onnx to_onnx",
    "sklearn.converting": "from_sklearn to_sklearn",
}
"""The public names by the module that has them, loaded with the first of its names (Scientific Python's SPEC 1)."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
_MODULES = {name: name for name in ("backends", "core", "engine", "network", "plots", "programs", "training")}
_MODULES["schedules"] = "training.schedules"


def __getattr__(name: str) -> Any:
    """Load a public name, or a module, on its first use."""
    if name in _MODULES:
        return globals().setdefault(name, importlib.import_module(f"nnarray.{_MODULES[name]}"))
    if name in _HOMES:
        return globals().setdefault(name, getattr(importlib.import_module(f"nnarray.{_HOMES[name]}"), name))
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
    "Normalization",
    "NormalizedParameters",
    "Parameters",
    "RMSprop",
    "TrainingResult",
    "WorkersLostError",
    "backend",
    "check_gradients",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "load",
    "one_hot",
    "plots",
    "read_model",
    "save",
    "schedules",
    "to_onnx",
    "to_sklearn",
    "to_torch",
    "train",
    "use_backend",
]
