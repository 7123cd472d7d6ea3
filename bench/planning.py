"""`python -m bench.planning`: what a step takes on N machines, from the constants that `bench.scale` measured.

    python -m bench.planning --json bench/results/scale.json --into nnarray/guide/machines.py

Under MPI, a step of m columns takes t(N) = c m/N + reduce(N) + overhead. An Allreduce by halving and doubling (Thakur,
Rabenseifner & Gropp, 2005) sends 2 (1 - 1/N) of theta's bytes in 2 log2 N rounds. Its constants are those between two
ranks of the machine that measured. `simulated` plays the rounds rank by rank, with delays; tests compare the two.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from bench.report import figure, put_into, table_of

RANKS = (1, 2, 8, 64, 512, 1000)
BATCHES = (4096, 60_000, 1_000_000)
HEADINGS = ("ranks", *(f"m = {m:,}: ms" for m in BATCHES), "simulated", "delays of 1 ms", "half as efficient at m =")


class Constants(NamedTuple):
    """Of one machine, in milliseconds."""

    column: float
    """c, what a column takes"""
    overhead: float
    """what a step takes beside its columns and the reduction"""
    latency: float
    """what a round of the reduction takes, however few the bytes"""
    transfer: float
    """what it takes to send and add up theta's bytes once"""


def constants_of(results: dict[str, Any]) -> Constants:
    """Those that the file of `bench.scale` has for MPI."""
    by_work = {one["work"]: one for one in results["results"] if one["engine"] == "MPI"}
    few, full = by_work["8 columns"], by_work["full batch"]
    latency = results["latency_ms"]  # of few bytes, an Allreduce of two ranks is one round, and of many it is two
    return Constants(full["without_ms"] / 60_000, few["one_ms"], latency, results["reduction_ms"] - 2 * latency)


def reduce(known: Constants, ranks: int) -> float:
    """What it takes to add up a gradient over so many ranks."""
    if ranks == 1:
        return 0.0
    rounds = 2 * math.floor(math.log2(ranks))
    power = 2 ** (rounds // 2)
    extra = 0 if ranks == power else 2  # the ranks above a power of two give theirs to others, and get the sum
    return (rounds + extra) * known.latency + (2 * (1 - 1 / power) + extra) * known.transfer


def step(known: Constants, columns: int, ranks: int) -> float:
    """t(N): a step of so many columns in all."""
    return known.column * columns / ranks + reduce(known, ranks) + known.overhead


def half_efficient_at(known: Constants, ranks: int) -> int:
    """The batch of whose step half is computing: with a smaller one, further machines hardly pay."""
    return math.ceil(ranks * (reduce(known, ranks) + known.overhead) / known.column)


def simulated(known: Constants, columns: int, ranks: int, delays: Sequence[float]) -> float:
    """The same, rank by rank and round by round, where each begins its reduction later by its delay."""
    power = 2 ** math.floor(math.log2(ranks))
    ready = known.overhead + known.column * columns / ranks + np.asarray(delays, "float64")
    extra = ranks - power
    ready[:extra] = np.maximum(ready[:extra], ready[power:]) + (known.latency + known.transfer) * (extra > 0)
    spans = [power >> k for k in range(1, power.bit_length())]  # halving, then doubling
    for span in (*spans, *reversed(spans)):
        partner = np.arange(power) ^ span
        ready[:power] = np.maximum(ready[:power], ready[partner]) + known.latency + known.transfer * span / power
    if extra:
        ready[power:] = ready[:extra] + known.latency + known.transfer
    return float(ready.max())


def table(results: dict[str, Any]) -> str:
    """One line per number of ranks as a Markdown table."""
    known, rows = constants_of(results), []
    for ranks in RANKS:
        still, late = np.zeros(ranks), np.random.default_rng(0).exponential(1.0, (50, ranks))
        m = BATCHES[-1]
        found = [step(known, columns, ranks) for columns in BATCHES]
        found += [simulated(known, m, ranks, still)]
        found += [float(np.mean([simulated(known, m, ranks, delays) for delays in late]))]
        rows.append([f"{ranks:,}", *map(figure, found), f"{half_efficient_at(known, ranks):,}"])
    note = (
        f"A column takes {known.column * 1e3:.2g} µs, a step beside its columns {figure(known.overhead)} ms, a round "
        f"of the reduction {known.latency * 1e3:.2g} µs, theta once {figure(known.transfer)} ms. Simulated are steps "
        f"of m = {BATCHES[-1]:,}: without delays, and with one on every rank, exponential, of 1 ms in the mean."
    )
    return "\n".join([table_of(HEADINGS, rows), "", fill(note, 118)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and put it into a page."""
    parser = argparse.ArgumentParser(prog="python -m bench.planning", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, metavar="PATH", required=True, help="the file of figures of bench.scale")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table between this file's marks")
    given = parser.parse_args(arguments)
    made = table(json.loads(given.json.read_text()))
    if given.into is not None:
        put_into(given.into, given.json, made)
    print(made)


if __name__ == "__main__":
    main()
