"""`python -m bench.scale`: the same step on one and on two processes, under MPI and on dask's workers, one thread each.

    python -m bench.scale --json results.json                      measure, and write the figures
    python -m bench.scale --json results.json --into README.md     and put their table between the README's marks
    python -m bench.scale --json results.json --into README.md --measured    only that, from the file

Runs take turns: this process without ranks or workers, one process, two, and again. Efficiency is the time of one over
twice that of two. The overhead of a step is what it takes with eight columns in all, above that of this process.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import nnarray as nn
from bench.machine import machine, versions
from bench.report import about, put_into, table_of
from bench.timed import figure

NETWORK = nn.Network((784, 512, 512, 10), output="softmax")
WORKS = {"full batch": (60_000, None), "batches of 4096": (60_000, 4096), "8 columns": (8, None)}
"""How many columns, and of how many a batch is."""

CHUNK = 7500
HEADINGS = ("work", "engine", "without ms", "1 process ms", "2 processes ms", "efficiency")
REDUCTION = "reduction"
"""Not a work: what MPI takes to add up theta's vector, and a single number, over the ranks."""

PROFILER = "distributed.worker.profile.enabled"
"""In dask's configuration."""

Step = Callable[[], Any]


def examples(m: int) -> tuple[np.ndarray, np.ndarray]:
    """X (784, m), the transpose of a C-ordered table, and Y (10, m)."""
    rng = np.random.default_rng(0)
    return rng.random((m, 784), dtype="float32").T, nn.one_hot(rng.integers(0, 10, m), 10).astype("float32")


def timed(step: Step, seconds: float = 2.0) -> float:
    """The median of what a step takes, in seconds, warm."""
    step()
    samples, began = [], perf_counter()
    while len(samples) < 3 or (perf_counter() - began < seconds and len(samples) < 300):
        start = perf_counter()
        step()
        samples.append(perf_counter() - start)
    return median(samples)


def step_of(batch_size: int | None, X: Any, Y: Any, **comm: Any) -> tuple[Step, int]:
    """What is timed, a gradient or an epoch, and of how many updates it is."""
    params = NETWORK.init(0)
    if batch_size is None:
        return lambda: NETWORK.gradients(params, X, Y, **comm), 1
    options: dict[str, Any] = {"params": params, "epochs": 1, "batch_size": batch_size, "progress": False, **comm}
    return lambda: nn.train(NETWORK, X, Y, **options), -(-60_000 // batch_size)


def on_rank(work: str) -> None:
    """Time the work on every rank of MPI; rank 0 prints the seconds of an update."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if work == REDUCTION:
        seconds = [_reduction(comm, size) for size in (NETWORK.size, 1)]
        if comm.rank == 0:
            print(*seconds)
        return
    m, batch_size = WORKS[work]
    part = slice(m * comm.rank // comm.size, m * (comm.rank + 1) // comm.size)
    X, Y = examples(m)
    step, updates = step_of(batch_size, X[:, part], Y[:, part], comm=comm)
    step()
    samples = []
    for _ in range(3 if m > 1000 else 100):
        comm.Barrier()
        start = perf_counter()
        step()
        samples.append((perf_counter() - start) / updates)
    if comm.rank == 0:
        print(median(samples))


def _reduction(comm: Any, size: int) -> float:
    """The seconds of an Allreduce of so many numbers, in place."""
    V, samples = np.zeros(size, "float32"), []
    for _ in range(200):
        comm.Barrier()
        start = perf_counter()
        comm.Allreduce(None, V)
        samples.append(perf_counter() - start)
    return median(samples)


def under_mpi(work: str, processes: int) -> float:
    """The seconds of an update on so many ranks."""
    return float(_said_under_mpi(work, processes))


def _said_under_mpi(work: str, processes: int) -> str:
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if mpiexec is None:
        msg = 'mpiexec was not found; pip install "nnarray[mpi]"'
        raise SystemExit(msg)
    command = [mpiexec, "-n", str(processes), sys.executable, "-m", "bench.scale", "--rank", work]
    environment = os.environ | {"NNARRAY_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def on_dask(work: str, processes: int) -> float:
    """The seconds of an update on so many workers, which hold the chunks."""
    m, batch_size = WORKS[work]
    with workers(processes) as client:
        x, y = (chunks_of(V, min(CHUNK, m // 2), client) for V in examples(m))
        step, updates = step_of(batch_size, x, y)
        if batch_size is not None:
            updates = m // CHUNK * -(-CHUNK // batch_size)
        return timed(step) / updates


def chunks_of(V: np.ndarray, columns: int, client: Any) -> Any:
    """V as a dask array, of whose chunks of so many columns each worker holds as many, neighbours."""
    import dask.array as da
    from distributed import wait

    addresses = sorted(client.nthreads())
    parts = [V[:, start : start + columns] for start in range(0, V.shape[1], columns)]
    held = list[Any]()
    for address, indices in zip(addresses, np.array_split(range(len(parts)), len(addresses)), strict=True):
        some = [parts[i] for i in indices]
        futures = client.scatter(some, workers=[address])
        held += [da.from_delayed(future, V.shape, V.dtype) for future, V in zip(futures, some, strict=True)]
    persisted = da.concatenate(held, axis=1).persist()  # as a user has them: a graph of futures alone
    wait(persisted)
    return persisted


@contextmanager
def workers(processes: int) -> Iterator[Any]:
    """The client of a cluster of so many processes of one thread, whose stacks dask's profiler does not look at.

    It would do so a hundred times a second, on the cores that workers compute on. What is started later inherits
    nothing of the environment that dask starts workers in, such as malloc's settings, with which memory that is given
    back costs page faults.
    """
    import dask
    from distributed import Client, LocalCluster

    options, before = {"dashboard_address": None, "silence_logs": 50}, dict(os.environ)
    try:
        with (
            dask.config.set({PROFILER: False}),
            LocalCluster(n_workers=processes, threads_per_worker=1, **options) as cluster,
            Client(cluster) as client,
        ):
            yield client
    finally:
        os.environ.clear()
        os.environ.update(before)


def alone(work: str) -> float:
    """The seconds of a step of this process, with one thread."""
    m, batch_size = WORKS[work]
    step, updates = step_of(batch_size, *examples(m))
    return timed(step) / updates


ENGINES = {"MPI": under_mpi, "dask": on_dask}


def measured(rounds: int) -> dict[str, Any]:
    """Every work on every engine, in turn: medians of the rounds, in milliseconds."""
    found = []
    for work in WORKS:
        for engine, run in ENGINES.items():
            times: dict[int, list[float]] = {0: [], 1: [], 2: []}
            for _ in range(rounds):
                for processes, samples in times.items():
                    samples.append((run(work, processes) if processes else alone(work)) * 1e3)
            without, one, two = map(median, times.values())
            record = {"work": work, "engine": engine, "without_ms": without, "one_ms": one, "two_ms": two}
            found.append(record | {"samples": times})
            print(f"{engine}, {work}: {figure(without)} ms, {figure(one)} on one, {figure(two)} on two", flush=True)
    reduction_ms, latency_ms = (float(seconds) * 1e3 for seconds in _said_under_mpi(REDUCTION, 2).split())
    created = datetime.now(UTC).isoformat(timespec="seconds")
    about_it = {"created": created, "machine": machine(), "versions": versions()}
    sizes = {"theta_bytes": NETWORK.init(0).vector.nbytes, "reduction_ms": reduction_ms, "latency_ms": latency_ms}
    return {**about_it, **sizes, "results": found}


def table(results: dict[str, Any]) -> str:
    """One line per work and engine as a Markdown table."""
    rows = []
    for one in results["results"]:
        is_overhead = one["work"] == "8 columns"
        efficiency = "" if is_overhead else f"{one['one_ms'] / (2 * one['two_ms']):.2f}"
        figures = [figure(one[name]) for name in ("without_ms", "one_ms", "two_ms")]
        rows.append([one["work"], one["engine"], *figures, efficiency])
    note = (
        "A step on 8 columns hardly computes: what it takes above the step without an engine is the engine's overhead. "
        f"dask's sends theta's {results['theta_bytes'] / 1e6:.1f} MB and receives as many, MPI's is an Allreduce of "
        f"them, which alone takes {figure(results['reduction_ms'])} ms on two ranks. dask's profiler is off "
        f"(`{PROFILER}`)."
    )
    return "\n".join([table_of(HEADINGS, rows), "", note, "", about(results)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and say so."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="the file of figures")
    parser.add_argument("--into", type=Path, metavar="README", help="put the table between this file's marks")
    parser.add_argument("--measured", action="store_true", help="take the figures of the file, and measure nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", metavar="WORK", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.rank is not None:
        on_rank(given.rank)
        return
    os.environ["NNARRAY_NUM_THREADS"] = "1"
    results = json.loads(given.json.read_text()) if given.measured else measured(given.rounds)
    if given.json is not None and not given.measured:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    if given.into is not None:
        put_into(given.into, given.json, table(results))
    print(table(results))


if __name__ == "__main__":
    main()
