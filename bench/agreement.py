"""Whether a contestant computed the right thing: its cost and gradient against the plain equations in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import equations
from bench.problems import Problem

TOLERANCE = {"float64": 1e-9, "float32": 5e-3, "tf32": 1e-1, "bfloat16": 2e-1}
"""The relative error ‖g - ĝ‖ / ‖ĝ‖ that rounding may cause. Nearly all of it comes from relu units whose Z lies so
close to 0 that rounding decides on which side: if a part p of them does, the gradient changes by about sqrt(p)."""

COST_TOLERANCE = {"float64": 1e-11, "float32": 1e-4, "tf32": 1e-2, "bfloat16": 3e-2}
"""The relative error of the cost that rounding may cause; the cost has no kinks."""

EPOCH_TOLERANCE = 0.2
"""How far the mean cost of a first epoch may lie from the middle one: the contestants shuffle differently."""


@dataclass(frozen=True)
class Result:
    """What a contestant computed: the cost, None for a prediction, and the gradient or prediction as one vector."""

    cost: float | None
    values: np.ndarray


def flatten(pairs: Any) -> np.ndarray:
    """W[1], b[1], W[2], … laid end to end in float64, from anything that becomes a NumPy array."""
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for pair in pairs for part in pair])


def checked_columns(problem: Problem) -> slice:
    """The examples that the check is made on: the first batch of an epoch, else all."""
    return slice(0, problem.workload.columns)


def reference(problem: Problem) -> Result:
    """The plain equations in float64, on the GPU where the problem is and CuPy works."""
    xp = _namespace(problem.device)
    work, columns = problem.workload, checked_columns(problem)
    X, Y = problem.X[:, columns], problem.Y[:, columns]
    if work.kind == "predict":
        pieces = equations.predict_by_tiles(X, problem.layers, work.hidden, work.output, xp)
        return Result(None, np.concatenate([_host(piece) for piece in pieces], axis=1).ravel())
    J, pairs = equations.gradients_by_tiles(X, Y, problem.layers, work.hidden, work.output, xp)
    return Result(float(J), flatten([(_host(dW), _host(db)) for dW, db in pairs]))


def errors(result: Result, truth: Result) -> dict[str, float]:
    """The relative errors of the values and, where there is one, of the cost; infinite where shapes differ."""
    if result.values.shape != truth.values.shape:
        return {"error": float("inf")}
    found = {"error": float(np.linalg.norm(result.values - truth.values) / np.linalg.norm(truth.values))}
    if truth.cost is not None:
        found["cost_error"] = abs(result.cost - truth.cost) / abs(truth.cost)
    return found


def disagreement(found: dict[str, float], precision: str) -> str | None:
    """What is wrong with a result of these errors, None where it agrees; NaN agrees with nothing."""
    allowed = {"error": TOLERANCE[precision], "cost_error": COST_TOLERANCE[precision]}
    for which, size in found.items():
        if not size <= allowed[which]:
            what = "cost" if which == "cost_error" else "gradient or prediction"
            return f"its {what} differs from the reference by {size:.1e}, more than {allowed[which]:.0e}"
    return None


def epoch_disagreements(costs: dict[str, float]) -> dict[str, str]:
    """The contestants whose first epoch ended at another mean cost than the middle one, and by how much."""
    if not costs:
        return {}
    middle = float(np.nanmedian(list(costs.values())))
    return {
        name: f"mean cost of the first epoch {cost:.4g}, the middle one is {middle:.4g}"
        for name, cost in costs.items()
        if not abs(cost - middle) <= EPOCH_TOLERANCE * abs(middle)
    }


def _namespace(device: str) -> Any:
    if device == "gpu":
        from nnarray.backends import unavailable_reason

        if unavailable_reason("cupy") is None:
            import cupy

            return cupy
    return np


def _host(x: Any) -> np.ndarray:
    return x.get() if hasattr(x, "get") else x
