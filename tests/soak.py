"""Ten minutes of calls with changing shapes on NumPy, torch and JAX: memory, descriptors and threads stay flat.

python tests/soak.py [seconds]
"""

import gc
import os
import sys
import threading
import time
import warnings

import numpy as np

import nnarray as nn
from nnarray.backends import unavailable_reason
from nnarray.engine import jitted

SIZES = [(4, 7, 3), (30, 64, 64, 3), (20, 3), (5, 200, 3)]

BATCH_SIZE = 250

EXACT_WIDTHS = 2
"""Of m that JAX compiles as they come, so that padded ones come soon; one network, for whose programs there is room."""

FEWEST, MOST = 500, 3000
"""Examples of a round."""

WARMING = 100
"""Rounds before the clock starts, on numbers of examples spread evenly: what keeps so many shapes is full then."""

LARGEST_GROWTH = 0.05
"""Of the memory after that, by the end: 5 %."""


def resident() -> float:
    """Megabytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def figures() -> tuple[float, int, int]:
    """Megabytes, open descriptors and threads."""
    gc.collect()
    return resident(), len(os.listdir("/proc/self/fd")), threading.active_count()


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
    """Print the figures before and twelve times on the way, and say whether they stayed flat."""
    jitted.EXACT_WIDTHS = EXACT_WIDTHS
    backends = [name for name in ("numpy", "torch", "jax") if unavailable_reason(name) is None]
    generator = np.random.default_rng(0)
    for m in generator.permutation(np.linspace(FEWEST, MOST, WARMING, dtype=int)):
        one_round(generator, backends, int(m))
    began, rounds, seen = time.monotonic(), 0, [figures()]
    print(f"after {WARMING} rounds: {seen[0][0]:.0f} MB, {seen[0][1]} descriptors, {seen[0][2]} threads", flush=True)
    while len(seen) <= 12:
        one_round(generator, backends, int(generator.integers(FEWEST, MOST)))
        rounds += 1
        if time.monotonic() - began >= seconds * len(seen) / 12:
            seen.append(figures())
            print(
                f"{rounds} rounds: {seen[-1][0]:.0f} MB, {seen[-1][1]} descriptors, {seen[-1][2]} threads", flush=True
            )
    early, late = seen[0], seen[-1]
    grew = late[0] > early[0] * (1 + LARGEST_GROWTH) or late[1:] > early[1:]
    print("something grew" if grew else f"flat on {', '.join(backends)}")
    return int(grew)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0))
