"""The lecture's demonstration: logistic regression with loops over examples, and the same as one product."""

from collections.abc import Callable
from functools import partial
from math import exp, log
from time import perf_counter

import numpy as np

from bench import equations
from bench.problems import Problem, make_problem
from bench.workloads import Workload

WORKLOAD = Workload("lecture-loop", (1200, 1), 1000)


def loops(problem: Problem) -> tuple[float, np.ndarray, float]:
    """J, dw and db with a loop over the examples and, inside, loops over the features."""
    w, b = problem.layers[0][0][0].tolist(), problem.layers[0][1].item()
    table, y = problem.table.tolist(), problem.Y[0].tolist()
    n, m = len(w), len(y)
    J, dw, db = 0.0, [0.0] * n, 0.0
    for i in range(m):
        x = table[i]
        z = b
        for j in range(n):
            z += w[j] * x[j]
        a = 1 / (1 + exp(-z))
        J += -(y[i] * log(a) + (1 - y[i]) * log(1 - a))
        dz = a - y[i]
        for j in range(n):
            dw[j] += x[j] * dz
        db += dz
    return J / m, np.array(dw) / m, db / m


def loop_with_dot(problem: Problem) -> tuple[float, np.ndarray, float]:
    """The same with np.dot in place of the loops over the features."""
    W, b = problem.layers[0]
    w, m = W[0], problem.workload.m
    J, dw, db = 0.0, np.zeros_like(w), 0.0
    for i in range(m):
        x, y = problem.X[:, i], problem.Y[0, i]
        a = 1 / (1 + np.exp(-(np.dot(w, x) + b[0, 0])))
        J += -(y * np.log(a) + (1 - y) * np.log(1 - a))
        dw += x * (a - y)
        db += a - y
    return float(J / m), dw / m, float(db / m)


def vectorised(problem: Problem) -> tuple[float, np.ndarray, float]:
    """The same for all examples at once."""
    J, [(dW, db)] = equations.gradients(problem.X, problem.Y, problem.layers, "relu", "sigmoid", np)
    return float(J), dW[0], db.item()


FORMS = {"loops": loops, "loop with np.dot": loop_with_dot, "vectorised": vectorised}


def measure(m: int | None = None, rounds: int = 3) -> dict:
    """The median time of each form in milliseconds and its speed-up over the loops; all must agree first."""
    workload = WORKLOAD if m is None else Workload(WORKLOAD.name, WORKLOAD.sizes, m)
    problem = make_problem(workload)
    expected = loops(problem)
    for name, form in FORMS.items():
        if not all(map(partial(np.allclose, rtol=1e-3, atol=1e-5), form(problem), expected)):
            msg = f"the form {name!r} computed another gradient"
            raise ArithmeticError(msg)
    taken: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(rounds):
        for name, form in FORMS.items():
            taken[name].append(_milliseconds(form, problem))
    medians = {name: float(np.median(ms)) for name, ms in taken.items()}
    forms = [{"form": name, "median_ms": ms, "speed_up": medians["loops"] / ms} for name, ms in medians.items()]
    return {"sizes": list(workload.sizes), "m": workload.m, "forms": forms}


def _milliseconds(form: Callable, problem: Problem) -> float:
    repeats = 1 if form is loops else 5
    start = perf_counter()
    for _ in range(repeats):
        form(problem)
    return (perf_counter() - start) / repeats * 1e3
