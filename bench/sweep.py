"""`python -m bench.sweep`: gradients at other tile widths and workers than nnarray would choose, timed in turn.

It shows whether the automatic choice is a good one on this machine. The widths tried are powers of two and the whole
batch in one piece, each with one worker and with all of them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.contestants.base import Prepared, nothing
from bench.machine import machine
from bench.problems import Problem, make_problem
from bench.rounds import time_in_turn, warm_up
from bench.workloads import CPU, Workload, by_name
from nnarray import Network, Parameters, backend, engine
from nnarray.backends import usable_threads

WIDTHS = (256, 512, 1024, 2048, 4096, 8192)
AUTOMATIC = "automatic"
MOST_TILES = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep over the named workloads and print a table for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    steps = ",".join(workload.name for workload in CPU if workload.kind == "step" and workload.m > 1000)
    parser.add_argument("--workloads", default=steps, help="names, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed (default: %(default)s)")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    records = []
    for workload in by_name(options.workloads):
        records.append(sweep(workload, options.precision, options.rounds))
        print(table(records[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "sweeps": records}, indent=1) + "\n")
    return 0


def sweep(workload: Workload, precision: str, rounds: int) -> dict:
    """The times of one workload's gradient by width and workers."""
    problem = make_problem(workload, precision=precision)
    network = Network(workload.sizes, hidden=workload.hidden, output=workload.output)
    chosen = engine.tile_width(network, workload.m, np.dtype(problem.dtype).itemsize)
    widths = [width for width in WIDTHS if workload.m / MOST_TILES <= width < workload.m]
    tried = {
        (label, workers): _prepared(problem, network, width, workers)
        for label, width in [(AUTOMATIC, None), *((width, width) for width in widths), ("one piece", workload.m)]
        for workers in sorted({1, usable_threads()})
    }
    repeats = {key: warm_up(prepared, compiles=False)[1] for key, prepared in tried.items()}
    timings = time_in_turn(tried, repeats, seconds=0, rounds=rounds)
    times = [{"width": label, "workers": workers} | timings[label, workers].summary() for label, workers in timings]
    most = max(found["workers"] for found in times)
    of_all = {found["width"]: found["median_ms"] for found in times if found["workers"] == most}
    return {
        "workload": workload.name,
        "precision": precision,
        "chosen": chosen,
        "slower_than_best": of_all[AUTOMATIC] / min(of_all.values()) - 1,
        "times": times,
    }


def table(record: dict) -> str:
    """One sweep as lines of text."""
    workers = sorted({found["workers"] for found in record["times"]})
    times = {(found["width"], found["workers"]): found["median_ms"] for found in record["times"]}
    lines = [f"{record['workload']}: {record['chosen']} columns chosen, {record['slower_than_best']:+.1%} of the best"]
    lines.append(f"{'width':>10}" + "".join(f"{n:>6} workers" for n in workers))
    lines += [
        f"{width:>10}" + "".join(f"{times[width, n]:>11.1f} ms" for n in workers)
        for width in dict.fromkeys(width for width, _ in times)
    ]
    return "\n".join(lines)


def _prepared(problem: Problem, network: Network, width: int | None, workers: int) -> Prepared:
    place = backend("numpy")
    layers = Parameters.from_layers(problem.layers).layers
    batch = engine.Batch(problem.X, problem.Y, problem.workload.m)

    def run() -> None:
        engine.cost_and_gradients(batch, layers, network, place, l2=0.0, workers=workers, width=width)

    return Prepared(run, nothing)


if __name__ == "__main__":
    raise SystemExit(main())
