"""`nnarray check`: are the gradients right, and do all backends agree with NumPy?"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import nnarray as nn
from nnarray.backends import BACKENDS, unavailable_reason
from nnarray.cli.output import say
from nnarray.cli.results import aligned
from nnarray.core.outputs import OUTPUTS

GRADIENT_LIMIT = 1e-7
LIMITS = {"float64": 1e-12, "float32": 1e-5}
"""How far a backend may be from NumPy in float64, as ‖difference‖ / ‖value‖."""

HIDDEN: tuple[Any, ...] = ("tanh", "relu", "sigmoid", "leaky_relu", "identity")
SIZES = (20, 32, 24, 16, 12, 8, 3)
EXAMPLES = 100

HEAD = (
    "backend",
    "device",
    "gradient",
    "forward float64",
    "gradients float64",
    "forward float32",
    "gradients float32",
    "",
)

NOTES = f"""
gradient: ‖g - ĝ‖ / (‖g‖ + ‖ĝ‖) of backpropagation g and central differences ĝ, at most {GRADIENT_LIMIT:.0e}
forward, gradients: relative distance from NumPy's in float64, at most {LIMITS["float64"]:.0e} in float64
and {LIMITS["float32"]:.0e} in float32; each figure is the worst of the outputs {", ".join(OUTPUTS)}"""


def check(arguments: argparse.Namespace) -> int:
    """Print a table of every backend that works here, and why the others don't; 1 if one is wrong."""
    rows: list[tuple[str, ...]] = [HEAD]
    absent = []
    for name in BACKENDS:
        reason = unavailable_reason(name)
        if reason is None:
            rows += [_row(backend) for backend in _backends(name)]
        else:
            absent.append(f"{name}: {reason}")
    say(aligned(rows))
    say(NOTES)
    if absent:
        say("\nnot checked:\n  " + "\n  ".join(absent))
    return int(any(row[-1] == "FAIL" for row in rows))


def _backends(name: str) -> Iterator[nn.Backend]:
    """The backend on its default device and, for torch, on a GPU that is not the default."""
    yield nn.backend(name)
    if name == "torch":
        import torch

        if torch.cuda.is_available() and nn.backend(name).device.type != "cuda":
            yield nn.backend(name, device="cuda")


def _row(backend: nn.Backend) -> tuple[str, ...]:
    """One line of the table; whatever fails is told in it."""
    try:
        gradient, figures = _gradient(backend), _parity(backend)
    except Exception as error:
        return backend.name, str(backend.device), f"{type(error).__name__}: {error}"[:100], "", "", "", "", "FAIL"
    limits = [GRADIENT_LIMIT, *(LIMITS[dtype] for dtype in ("float64", "float64", "float32", "float32"))]
    right = all(x is None or x <= limit for x, limit in zip((gradient, *figures), limits, strict=True))
    shown = ["float64 off" if x is None else f"{x:.1e}" for x in (gradient, *figures)]
    return backend.name, str(backend.device), *shown, "ok" if right else "FAIL"


def _gradient(backend: nn.Backend) -> float | None:
    """The worst relative difference of the outputs' gradient checks; None where there is no float64."""
    if not _has_float64(backend):
        return None
    differences = []
    for output in OUTPUTS:
        network, theta, X, Y = _problem(output)
        params = network.parameters(backend.asarray(theta))
        found = nn.check_gradients(
            network, params, backend.asarray(X), backend.asarray(Y), l2=0.1, coordinates=30, directions=5
        )
        differences.append(found.relative_difference)
    return max(differences)


def _parity(backend: nn.Backend) -> list[float | None]:
    """How far the forward pass and the gradients are from NumPy's in float64: two figures for each dtype."""
    figures: list[float | None] = []
    for dtype in ("float64", "float32"):
        if dtype == "float64" and not _has_float64(backend):
            figures += [None, None]
            continue
        distances = np.array([_distances(backend, dtype, output) for output in OUTPUTS])
        figures += distances.max(axis=0).tolist()
    return figures


def _distances(backend: nn.Backend, dtype: str, output: str) -> tuple[float, float]:
    network, *problem = _problem(output)
    theta, X, Y = (V.astype(dtype).astype("float64") for V in problem)  # rounding the input is not the backend's doing
    A, g = _compute(network, theta, X, Y)
    there = [backend.asarray(V, dtype) for V in (theta, X, Y)]
    A_there, g_there = (backend.to_numpy(V) for V in _compute(network, *there))
    return _distance(A_there, A), _distance(g_there, g)


def _compute(network: nn.Network, theta: Any, X: Any, Y: Any) -> tuple[Any, Any]:
    params = network.parameters(theta)
    return network.predict(params, X), network.gradients(params, X, Y, l2=0.1)[1].vector


def _distance(x: Any, expected: Any) -> float:
    return float(np.linalg.norm(x - expected) / np.linalg.norm(expected))


def _problem(output: Any) -> tuple[nn.Network, Any, Any, Any]:
    """A network with every activation, its theta, and examples whose targets the output can model, in float64."""
    generator = np.random.default_rng(0)
    network = nn.Network(SIZES, hidden=HIDDEN, output=output)
    theta = network.init(seed=0, scheme="xavier", backend="numpy", dtype="float64").vector
    X = generator.standard_normal((SIZES[0], EXAMPLES))
    classes = np.eye(SIZES[-1])[generator.integers(SIZES[-1], size=EXAMPLES)].T
    Y = {"identity": generator.standard_normal(classes.shape), "exp": generator.poisson(2.0, classes.shape)}
    return network, theta, X, np.asarray(Y.get(output, classes), dtype="float64")


def _has_float64(backend: nn.Backend) -> bool:
    try:
        backend.asarray(np.zeros(1), "float64")
    except (ValueError, TypeError):  # JAX without x64, Apple's GPUs
        return False
    return True
