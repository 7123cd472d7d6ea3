"""A workload with its data and first parameters, the same for every contestant."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

import nnarray as nn
from bench.workloads import Workload

BLOCK = 4096
LEARNING_RATE = {"step": 0.01, "predict": 0.0, "epoch": 0.001}


@dataclass(frozen=True)
class Problem:
    """X `(n_x, m)`, Y `(n[L], m)` and the first (W, b) of each layer, as NumPy arrays of `dtype` on the host.

    `precision` is "float32", "float64", or what products round float32 operands to, "tf32" or "bfloat16"; `device` is
    "cpu" or "gpu".
    """

    workload: Workload
    X: np.ndarray
    Y: np.ndarray
    layers: list[tuple[np.ndarray, np.ndarray]]
    precision: str = "float32"
    device: str = "cpu"

    @property
    def dtype(self) -> str:
        """The dtype of the arrays."""
        return array_dtype(self.precision)

    @property
    def table(self) -> np.ndarray:
        """X as the `(m, n_x)` table that other libraries take, C-ordered."""
        return self.X.T

    @property
    def targets(self) -> np.ndarray:
        """Y as `(m, n[L])`, C-ordered."""
        return np.ascontiguousarray(self.Y.T)

    @property
    def labels(self) -> np.ndarray:
        """The class of each example, `(m,)`, for a softmax output."""
        return self.Y.argmax(axis=0)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the updates that are timed."""
        return LEARNING_RATE[self.workload.kind]


def array_dtype(precision: str) -> str:
    """The dtype of the arrays at this precision."""
    return "float64" if precision == "float64" else "float32"


def make_problem(workload: Workload, *, precision: str = "float32", device: str = "cpu", seed: int = 0) -> Problem:
    """Normal X, as the transpose of a C-ordered table, and Y from a linear teacher with noise."""
    dtype = array_dtype(precision)
    table = normal_table(workload.m, workload.sizes[0], dtype, seed)
    Y = teach(table, workload, seed)
    network = nn.Network(workload.sizes, hidden=workload.hidden, output=workload.output)
    params = network.init(seed, backend="numpy", dtype=dtype)
    layers = [(np.array(W), np.array(b)) for W, b in params]
    return Problem(workload, table.T, Y.astype(dtype), layers, precision, device)


def normal_table(m: int, n: int, dtype: str, seed: int) -> np.ndarray:
    """Standard normal numbers, `(m, n)`; blocks of rows have generators of their own and are filled by threads."""
    table = np.empty((m, n), dtype=dtype)
    blocks = [table[start : start + BLOCK] for start in range(0, m, BLOCK)]
    generators = np.random.default_rng(seed).spawn(len(blocks))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda g, block: g.standard_normal(dtype=dtype, out=block), generators, blocks))
    return table


def teach(table: np.ndarray, workload: Workload, seed: int) -> np.ndarray:
    """Y, `(n[L], m)`, as a noisy linear teacher of the whole table would label it."""
    n_x, units = workload.sizes[0], workload.sizes[-1]
    generator = np.random.default_rng([seed, 1])
    teacher = generator.standard_normal((n_x, units), dtype="float32") / np.sqrt(n_x)
    scores = table @ teacher.astype(table.dtype)
    scores += 0.5 * generator.standard_normal(scores.shape, dtype="float32")
    if workload.output == "sigmoid":
        return (scores > 0).T
    if workload.output == "softmax":
        return np.eye(units)[scores.argmax(axis=1)].T
    if workload.output == "exp":
        return generator.poisson(np.exp(np.minimum(scores, 3))).T
    return scores.T
