"""Timing in turn: in each round every contestant runs once, so that all of them meet the same machine."""

import gc
from dataclasses import dataclass
from math import ceil
from time import perf_counter, sleep

import numpy as np

from bench.contestants.base import Prepared

SAMPLE_SECONDS = 0.02
"""Work that takes less is repeated within a sample until it takes about this long."""
MOST_REPEATS = 2000
FEWEST_ROUNDS, MOST_ROUNDS = 3, 25
LONG_SECONDS = 0.5
PAUSE_SECONDS = 0.15
"""A rest before each sample, so that the last contestant's threads have stopped looking for work: OpenBLAS's do so for
0.11 s, as the processor time that a sleeping process uses shows."""


@dataclass(frozen=True)
class Timing:
    """The seconds of one run, one figure for each round; `repeats` runs were timed together for each.

    `host` has those after which the run had returned: the device may have gone on.
    """

    samples: list[float]
    repeats: int
    host: list[float]

    def summary(self) -> dict:
        """Median, least, quartiles in milliseconds, the host's median, and how many samples of how many runs."""
        quartiles = np.percentile(np.array(self.samples) * 1e3, [25, 50, 75])
        return {
            "median_ms": float(quartiles[1]),
            "min_ms": min(self.samples) * 1e3,
            "q1_ms": float(quartiles[0]),
            "q3_ms": float(quartiles[2]),
            "host_ms": float(np.median(self.host)) * 1e3,
            "rounds": len(self.samples),
            "repeats": self.repeats,
        }


def time_once(prepared: Prepared, repeats: int = 1) -> tuple[float, float]:
    """The seconds of one run, the device's work included, and the host's of them, as the mean over `repeats` runs."""
    prepared.synchronize()
    start = perf_counter()
    for _ in range(repeats):
        prepared.run()
    host = perf_counter() - start
    prepared.synchronize()
    return (perf_counter() - start) / repeats, host / repeats


def warm_up(prepared: Prepared, *, compiles: bool) -> tuple[float | None, int]:
    """What the first run returned, and how many runs make a sample of about SAMPLE_SECONDS.

    Long work is warm after one run, unless that one was compiling.
    """
    start = perf_counter()
    cost = prepared.run()
    prepared.synchronize()
    seconds = perf_counter() - start
    if compiles or seconds < LONG_SECONDS:
        seconds, _ = time_once(prepared)
    repeats = min(max(1, ceil(SAMPLE_SECONDS / seconds)), MOST_REPEATS)
    if repeats > 1:
        time_once(prepared, repeats)
    return cost, repeats


def time_in_turn(
    contestants: dict[str, Prepared], repeats: dict[str, int], *, seconds: float, rounds: int | None = None
) -> dict[str, Timing]:
    """Time warm contestants round by round, so many runs of each together.

    There are `rounds` rounds, or as many as fit into `seconds` for each contestant on average (3 to 25). One run comes
    before the clock starts, unless runs are long: in training, too, one step follows another, and none a rest.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    host: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    gc.disable()
    try:
        wanted = rounds or FEWEST_ROUNDS
        while len(next(iter(samples.values()), [None] * wanted)) < wanted:
            for name, prepared in contestants.items():
                sleep(PAUSE_SECONDS)
                if not samples[name] or samples[name][-1] < LONG_SECONDS:
                    prepared.run()
                taken, before_the_device = time_once(prepared, repeats[name])
                samples[name].append(taken)
                host[name].append(before_the_device)
            if rounds is None:
                wanted = _affordable(samples, repeats, seconds)
    finally:
        gc.enable()
    return {name: Timing(samples[name], repeats[name], host[name]) for name in contestants}


def _affordable(samples: dict[str, list[float]], repeats: dict[str, int], seconds: float) -> int:
    a_round = sum(PAUSE_SECONDS + np.median(taken) * repeats[name] for name, taken in samples.items())
    return min(max(FEWEST_ROUNDS, int(seconds * len(samples) / a_round)), MOST_ROUNDS)
