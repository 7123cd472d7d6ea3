"""What a step on a GPU costs the host, without a GPU: device calls and processor time, on the emulator's null driver.

`python -m bench.host_time` prints a line for each way to make steps. The time is that of Python and CuPy alone: what
NVIDIA's driver takes for each call comes on top. Run it in a clone of the repository; it needs what the emulated GPU
needs (see tests/emulator).
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nnarray as nn

LECTURE, DEEP = (2, 3, 5, 4, 2, 1), (784, 512, 512, 10)
ROUNDS = 5


class Figures(NamedTuple):
    """Of one step."""

    microseconds: float
    """of the host's processor, the least of some rounds"""
    calls: dict[str, float]
    """of the device, by kind"""


def measure(emulator: Any, step: Callable[[int], Any], count: int) -> Figures:
    """The figures of a step; `step(count)` makes so many, in the order of a millisecond or more."""
    with emulator.null():
        step(count)
        emulator.reset()
        step(count)
        calls = {what: number / count for what, number in emulator.calls().items()}
        least = float("inf")
        for _ in range(ROUNDS):
            began = time.process_time()
            step(count)
            least = min(least, time.process_time() - began)
    return Figures(least / count * 1e6, calls)


class Problem:
    """A network with its arrays on the device, and ways to make steps."""

    def __init__(self, sizes: tuple[int, ...], m: int) -> None:
        backend, generator = nn.backend("cupy"), np.random.default_rng(0)
        self.network = nn.Network(sizes, output="softmax" if sizes[-1] > 1 else "sigmoid")
        self.params = self.network.init(0).to(backend)
        self.X = backend.asarray(generator.standard_normal((m, sizes[0]), dtype="float32").T)
        labels = generator.integers(0, max(2, sizes[-1]), m)
        self.Y = backend.asarray(nn.one_hot(labels, sizes[-1]) if sizes[-1] > 1 else labels[None, :].astype("float32"))

    def train(self, optimizer: Any, batch_size: int | None, count: int) -> None:
        """`count` steps of training, of whole epochs."""
        epochs = count if batch_size is None else max(1, count // -(-self.X.shape[1] // batch_size))
        options = {"optimizer": optimizer, "batch_size": batch_size, "epochs": epochs, "progress": False}
        nn.train(self.network, self.X, self.Y, params=self.params, **options)

    def own_loop(self, optimizer: Any, count: int) -> None:
        """`network.gradients` and `optimizer.update` in a loop."""
        params, state = self.params, optimizer.init(self.params)
        for _ in range(count):
            _, gradients = self.network.gradients(params, self.X, self.Y)
            params, state = optimizer.update(params, gradients, state)

    def predict(self, count: int) -> None:
        """`network.predict` in a loop."""
        for _ in range(count):
            self.network.predict(self.params, self.X)

    def cost(self, count: int) -> None:
        """`network.cost` in a loop."""
        for _ in range(count):
            self.network.cost(self.params, self.X, self.Y)


def cases(problem: Problem, batch_size: int) -> Iterator[tuple[str, Callable[[int], Any], int]]:
    """Names, ways to make steps, and how many to make at once."""
    steps = max(2000, -(-problem.X.shape[1] // batch_size))
    for optimizer in (nn.GradientDescent(0.01), nn.Adam()):
        name = type(optimizer).__name__
        yield f"train, batches of {batch_size}, {name}", partial(problem.train, optimizer, batch_size), steps
        yield f"train, full batches, {name}", partial(problem.train, optimizer, None), 1000
        yield f"gradients and update, {name}", partial(problem.own_loop, optimizer), 100
    yield "predict", problem.predict, 100
    yield "cost", problem.cost, 100


def main() -> None:
    """Print the figures, a JSON object a line."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import emulator

    if (reason := emulator.missing()) is not None:
        sys.exit(f"the emulated GPU cannot run: {reason}")
    gpu = emulator.Emulator()
    for sizes, m, batch_size in ((LECTURE, 400, 20), (DEEP, 60_000, 128)):
        with gpu.null():
            problem = Problem(sizes, m)
        for name, step, count in cases(problem, batch_size):
            figures = measure(gpu, step, count)
            print(json.dumps({"sizes": sizes, "m": m, "what": name, **figures._asdict()}), flush=True)


if __name__ == "__main__":
    main()
