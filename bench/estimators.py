"""`python -m bench.estimators`: nnarray.sklearn beside scikit-learn's own MLP, estimator by estimator.

    python -m bench.estimators --json results.json         measure, and write the figures
    python -m bench.estimators --json results.json --into README.md    and put their table between the README's marks
    python -m bench.estimators --json results.json --into README.md --measured    only that, from the file

Both fit the same table with the same settings, random state and number of iterations, in turn, after their losses
were found equal. Where there is one, the limit is the matrix products alone.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.contestants.base import Prepared, nothing
from bench.machine import machine, versions
from bench.report import about, put_into, table_of
from bench.rounds import time_in_turn, warm_up
from bench.timed import figure

MODULES = {"scikit-learn": "sklearn.neural_network", "nnarray": "nnarray.sklearn"}
HEADINGS = ("work", "dtype", "scikit-learn ms", "nnarray ms", "times as fast", "the products alone ms")
AGREE = {"float32": 2e-2, "float64": 1e-6}
"""The relative difference of the losses beyond which nothing is timed; float32 rounds differently."""


@dataclass(frozen=True)
class Work:
    """A fit, a prediction or a partial fit of one example: m rows of a table and the estimator's settings."""

    name: str
    table: str
    m: int
    kind: str = "fit"
    settings: dict[str, Any] = field(default_factory=dict)
    estimator: str = "MLPClassifier"
    has_limit: bool = False
    """whether the products of one pass over X, forward and back, are what it cannot do without"""


WIDE = {"hidden_layer_sizes": (512, 512)}
TANH = {"hidden_layer_sizes": (64, 32), "activation": "tanh", "batch_size": 64, "max_iter": 100}
SGD = {"hidden_layer_sizes": (50,), "solver": "sgd", "max_iter": 100}
ALL = (
    Work("digits, defaults, 60 epochs", "digits", 1797, settings={"max_iter": 60}),
    Work("(784, 512, 512, 10), adam, 1 epoch", "large", 60_000, settings=WIDE | {"max_iter": 1}, has_limit=True),
    Work(
        "(784, 512, 512, 10), L-BFGS, 3 iterations", "large", 60_000, settings=WIDE | {"solver": "lbfgs", "max_iter": 3}
    ),
    Work("(784, 512, 512, 10), predict", "large", 60_000, kind="predict", settings=WIDE | {"max_iter": 1}),
    Work("breast cancer, (64, 32) tanh in batches of 64, 100 epochs", "breast_cancer", 569, settings=TANH),
    Work("diabetes, SGD, (50,), 100 epochs", "diabetes", 442, settings=SGD, estimator="MLPRegressor"),
    Work("digits, predict of one row", "digits", 1, kind="predict"),
    Work("digits, partial_fit of one example", "digits", 1797, kind="partial_fit"),
)


def table(name: str, m: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """X and y: one of scikit-learn's tables, standardised but for digits, or normal numbers with a linear teacher."""
    if name != "large":
        from sklearn import datasets, preprocessing

        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        X = X if name == "digits" else preprocessing.scale(X)
        y = preprocessing.scale(y).astype(dtype) if y.dtype.kind == "f" else y
        return X[:m].astype(dtype), y[:m]
    generator = np.random.default_rng(0)
    X = generator.standard_normal((m, 784), dtype=dtype)
    return X, (X @ generator.standard_normal((784, 10), dtype=dtype)).argmax(axis=1)


def prepare(work: Work, module: str, X: np.ndarray, y: np.ndarray) -> tuple[Prepared, Callable[[], float]]:
    """The work of one module's estimator, and a figure in which the two must agree."""
    from importlib import import_module

    def new() -> Any:
        return getattr(import_module(MODULES[module]), work.estimator)(random_state=0, **work.settings)

    def fit() -> None:
        new().fit(X, y)

    def loss() -> float:
        return float(new().set_params(max_iter=1).fit(X[:2000], y[:2000]).loss_)

    if work.kind == "fit":
        return Prepared(fit, nothing), loss
    model = new().partial_fit(X[:1], y[:1], classes=np.arange(10))

    def predict() -> None:
        model.predict(X)

    def partial_fit() -> None:
        model.partial_fit(X[5:6], y[5:6])

    if work.kind == "predict":
        return Prepared(predict, nothing), lambda: float(model.predict_proba(X[:2000]).std())
    return Prepared(partial_fit, nothing), lambda: float(model.loss_)


def products(work: Work, X: np.ndarray) -> Prepared:
    """The matrix products of one pass forward and back over X, in batches of 200 as a fit with Adam takes them."""
    sizes = (X.shape[1], *work.settings["hidden_layer_sizes"], 10)
    generator = np.random.default_rng(0)
    W = [generator.standard_normal((n, k)).astype(X.dtype) for k, n in pairwise(sizes)]
    width = 200
    A = [X[:width].T, *(np.ones((n, width), X.dtype) for n in sizes[1:])]

    def run() -> None:
        for start in range(0, len(X) - width + 1, width):
            A[0] = X[start : start + width].T
            for l, w in enumerate(W):
                w @ A[l]
            for l in range(len(W) - 1, -1, -1):
                A[l + 1] @ A[l].T
                if l:
                    W[l].T @ A[l + 1]

    return Prepared(run, nothing)


def measure(work: Work, dtype: str, rounds: int | None) -> dict:
    """The times of one piece of work by either module."""
    X, y = table(work.table, work.m, dtype)
    prepared = {module: prepare(work, module, X, y) for module in MODULES}
    figures = {module: agreed() for module, (_, agreed) in prepared.items()}
    one, other = figures.values()
    if abs(one - other) > AGREE[dtype] * abs(other):
        msg = f"{work.name} in {dtype}: the two disagree, {figures}"
        raise ArithmeticError(msg)
    contestants = {module: run for module, (run, _) in prepared.items()}
    if work.has_limit:
        contestants["products"] = products(work, X)
    repeats = {name: warm_up(run, compiles=False)[1] for name, run in contestants.items()}
    timings = time_in_turn(contestants, repeats, seconds=6.0, rounds=rounds)
    times = {name: timing.summary() for name, timing in timings.items()}
    ratio = times["scikit-learn"]["median_ms"] / times["nnarray"]["median_ms"]
    return {"work": work.name, "dtype": dtype, "m": work.m, "ratio": ratio, "times": times}


def rows(results: dict) -> Iterator[list[str]]:
    """The table's rows."""
    for record in results["estimators"]:
        times = {name: figure(found["median_ms"]) for name, found in record["times"].items()}
        own = [times["scikit-learn"], times["nnarray"], f"{record['ratio']:.2f}×", times.get("products", "")]
        yield [record["work"], record["dtype"], *own]


def measure_all(only: str, m: int | None, rounds: int | None) -> dict:
    """The times of all work whose name has `only` in it, on at most `m` examples; each is printed when it is done."""
    warnings.filterwarnings("ignore", category=UserWarning)  # nothing converges in so few iterations
    results = {"created": datetime.now(UTC).isoformat(), "machine": machine(), "versions": versions(), "estimators": []}
    for work in ALL:
        if only not in work.name:
            continue
        for dtype in AGREE:
            results["estimators"].append(measure(replace(work, m=min(work.m, m or work.m)), dtype, rounds))
            print(*list(rows(results))[-1], sep=" | ", flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--into", type=Path, help="put the table of this file of figures into this README")
    parser.add_argument("--measured", action="store_true", help="measure nothing: the file is there")
    parser.add_argument("--only", default="", help="a part of the names of the work to do")
    parser.add_argument("--rounds", type=int, help="default: as many as fit into 6 s for each, 3 to 25")
    parser.add_argument("--m", type=int, help="fewer examples, to see that all works")
    options = parser.parse_args(arguments)
    if not options.measured:
        results = measure_all(options.only, options.m, options.rounds)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.into:
        results = json.loads(options.json.read_text())
        put_into(options.into, options.json, f"{table_of(HEADINGS, list(rows(results)))}\n\n{about(results)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
