"""Ten minutes of calls with changing shapes on NumPy, torch and JAX: memory, descriptors and threads stay flat.

python tests/soak.py [seconds]
"""

import gc
import os
import sys
import threading
import time
import warnings
from typing import NamedTuple

import numpy as np

import nnarray as nn
from nnarray.backends import unavailable_reason
from nnarray.engine import jitted
from nnarray.engine.jitted import padded_width

SIZES = [(4, 7, 3), (30, 64, 64, 3), (20, 3), (5, 200, 3)]

BATCH_SIZE = 250

EXACT_WIDTHS = 2
"""Of m that JAX compiles as they come, so that padded ones come soon; one network, for whose programs there is room."""

FEWEST, MOST = 500, 3000
"""Examples of a round."""

LARGEST_GROWTH = 0.03
"""Of the mean memory of the last quarter, above that of the quarter before it."""


def resident() -> float:
    """Megabytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Figures(NamedTuple):
    """Of one moment."""

    megabytes: float
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.megabytes:.0f} MB, {self.descriptors} descriptors, {self.threads} threads"

    @classmethod
    def now(cls) -> "Figures":
        gc.collect()
        return cls(resident(), len(os.listdir("/proc/self/fd")), threading.active_count())


def warming() -> list[int]:
    """Numbers of examples for the rounds before the clock starts, after which nothing is left for JAX to compile.

    JAX compiles a program for each width to which a batch or a whole is padded: a round for each of those of the last
    batch, of fewer examples than others, and of the whole. What NumPy keeps, the last 64 shapes, is full then, too.
    """
    last = {padded_width(columns): columns for columns in range(1, BATCH_SIZE)}.values()
    whole = {padded_width(m): m for m in range(FEWEST, MOST)}.values()
    return [*(FEWEST * (1 + k % 5) + columns for k, columns in enumerate(last)), *whole]


def one_round(generator: np.random.Generator, backends: list[str], m: int) -> None:
    """Each public call once, on m examples."""
    drawn = SIZES[generator.integers(len(SIZES))]
    for name in backends:
        network = nn.Network(SIZES[0] if name == "jax" else drawn, output="softmax")
        place = nn.backend(name)
        X = place.asarray(generator.normal(size=(network.sizes[0], m)), "float32")
        Y = place.asarray(nn.one_hot(generator.integers(0, 3, m), 3))
        params = network.init(0, backend=place)
        network.predict(params, X)
        network.gradients(params, X, Y, workers=2)
        network.score(params, X, Y)
        network.vjp(params, X)[1](Y)
        nn.train(network, X, Y, params=params, epochs=1, batch_size=BATCH_SIZE, validation=(X, Y), dropout=0.1)
        nn.train(network, X, Y, params=params, epochs=2, batch_size=BATCH_SIZE)
        nn.train(network, X, Y, params=params, epochs=2)


def main(seconds: float) -> int:
    """Print the figures before and after each quarter of the time, and say whether they stayed flat."""
    jitted.EXACT_WIDTHS = EXACT_WIDTHS
    backends = [name for name in ("numpy", "torch", "jax") if unavailable_reason(name) is None]
    generator = np.random.default_rng(0)
    for m in warming():
        one_round(generator, backends, m)
    print(f"after {len(warming())} rounds: {Figures.now()}", flush=True)
    began, quarters = time.monotonic(), [list[Figures]() for _ in range(4)]
    for i, quarter in enumerate(quarters, 1):
        while not quarter or time.monotonic() - began < seconds * i / 4:
            one_round(generator, backends, int(generator.integers(FEWEST, MOST)))
            quarter.append(Figures.now())
        print(f"after {len(quarter)} more: {quarter[-1]}, on average {mean(quarter):.0f} MB", flush=True)
    *_, third, last = quarters
    growth = mean(last) / mean(third) - 1
    print(f"memory of the last quarter: {growth:+.1%} on the one before it")
    more = [now > then for now, then in zip(last[-1][1:], third[-1][1:], strict=True)]
    grew = growth > LARGEST_GROWTH or any(more)
    print("something grew" if grew else f"flat on {', '.join(backends)}")
    return int(grew)


def mean(figures: list[Figures]) -> float:
    """Megabytes on average: from round to round they differ by what the last shapes of NumPy's programs hold."""
    return sum(one.megabytes for one in figures) / len(figures)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0))
