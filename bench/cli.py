"""The command line of the benchmarks."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import lecture_loop
from bench.contestants import BACKENDS, CONTESTANTS, choose
from bench.harness import Settings, run_workload
from bench.machine import blas, machine, versions
from bench.report import lecture_lines, terminal
from bench.workloads import KINDS, SETS, Workload, by_name

PRECISIONS = ("float32", "float64", "tf32", "bfloat16")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m bench", description="Time nnarray and its peers, in turn.")
    what = made.add_argument_group("what")
    what.add_argument("--set", choices=SETS, default="cpu", help="a set of workloads, and the device it is for")
    what.add_argument("--workloads", metavar="NAMES", help='these workloads instead, separated by commas, or "none"')
    what.add_argument("--sizes", metavar="N,N,…", help="a workload of your own: n_x, n[1], …, n[L]")
    what.add_argument("--hidden", default="relu", help="its hidden activation")
    what.add_argument("--output", default="sigmoid", help="its output")
    what.add_argument("--kind", choices=KINDS, default="step", help="what is done with it")
    what.add_argument("--batch-size", type=int, default=128, help="of its epochs")
    what.add_argument("--m", type=int, help="the number of examples, of every workload")
    what.add_argument("--lecture-loop", action="store_true", help="also the lecture's loops beside the vectorised form")
    who = made.add_argument_group("who")
    who.add_argument("--contestants", metavar="NAMES", help=f"some of {', '.join(CONTESTANTS)}")
    who.add_argument("--backend", metavar="NAMES", help=f"nnarray's backends, some of {', '.join(BACKENDS)}")
    who.add_argument("--peers", metavar="NAMES", help='the peers, or "none"')
    _add_how(made)
    return made


def _add_how(made: argparse.ArgumentParser) -> None:
    how = made.add_argument_group("how")
    how.add_argument("--precision", "--dtype", default="float32", help=f"a list of {', '.join(PRECISIONS)}")
    how.add_argument("--device", choices=("cpu", "gpu"), help="default: what the workloads are for")
    how.add_argument("--rounds", type=int, help="default: as many as fit into --seconds, 3 to 25")
    how.add_argument("--seconds", type=float, default=2.0, help="for each contestant of each workload")
    how.add_argument("--memory", action=argparse.BooleanOptionalAction, help="measure memory (default, unless quick)")
    how.add_argument("--quick", action="store_true", help="few examples and rounds, to see that all works")
    how.add_argument("--seed", type=int, default=0)
    where = made.add_argument_group("where to")
    where.add_argument("--json", type=Path, metavar="PATH", help="write the results")
    where.add_argument("--plot", type=Path, metavar="PATH", help="draw the chart")
    where.add_argument("--list", action="store_true", help="list workloads and contestants, and stop")


def chosen_workloads(options: argparse.Namespace) -> list[Workload]:
    """What the options ask for."""
    if options.sizes:
        sizes = tuple(int(n) for n in options.sizes.split(","))
        batch_size = options.batch_size if options.kind == "epoch" else None
        m, names = options.m or 10_000, (options.hidden, options.output, options.kind)
        chosen = [Workload("custom", sizes, m, *names, batch_size)]
    elif options.workloads:
        chosen = [] if options.workloads == "none" else list(by_name(options.workloads))
    else:
        chosen = list(SETS[options.set])
    if options.m:
        chosen = [replace(workload, m=options.m) for workload in chosen]
    return [workload.quick() for workload in chosen] if options.quick else chosen


def device_for(options: argparse.Namespace, workloads: list[Workload]) -> str:
    """The device that was asked for, else the one that the workloads are for."""
    for_gpu = options.set == "gpu" or any(workload.name.startswith("gpu-") for workload in workloads)
    return options.device or ("gpu" if for_gpu else "cpu")


def listing() -> str:
    """The workloads and the contestants."""
    lines = []
    for name, workloads in SETS.items():
        lines += [f"set {name}:", *(f"  {workload.name:20} {workload.describe()}" for workload in workloads)]
    lines.append("contestants:")
    for name, contestant in CONTESTANTS.items():
        kind = "peer" if contestant.is_peer else "nnarray"
        lines.append(f"  {name:20} {kind}, on {' and '.join(contestant.devices)}, {', '.join(contestant.precisions)}")
    return "\n".join(lines)


def run(options: argparse.Namespace, show: Callable[[str], None], say: Callable[[str], None]) -> dict:
    """All workloads in all precisions; the table of each is shown when it is done."""
    workloads = chosen_workloads(options)
    device = device_for(options, workloads)
    contestants = choose(options.contestants, options.backend, options.peers)
    if options.contestants is None:
        contestants = [contestant for contestant in contestants if device in contestant.devices]
    memory = options.memory if options.memory is not None else not options.quick
    rounds = options.rounds or (3 if options.quick else None)
    settings = Settings("float32", device, options.seconds, rounds, memory, options.seed)
    results = {"created": datetime.now(UTC).isoformat(), "machine": machine(), "versions": versions()}
    results |= {"settings": asdict(settings), "workloads": []}
    for precision in options.precision.split(","):
        for workload in workloads:
            record = run_workload(workload, contestants, replace(settings, precision=precision), say)
            results["workloads"].append(record)
            show(terminal(record) + "\n")
            write(results, options.json)
    if options.lecture_loop:
        results["lecture_loop"] = lecture_loop.measure()
        show("\n".join(lecture_lines(results["lecture_loop"])))
    results["thread_pools"] = blas()
    return results


def write(results: dict, path: Path | None) -> None:
    """The JSON file, if one was asked for."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; 1 if a contestant computed something wrong or failed."""
    options = parser().parse_args(arguments)
    if options.list:
        sys.stdout.write(listing() + "\n")
        return 0
    try:
        results = run(options, partial(print, flush=True), partial(print, file=sys.stderr, flush=True))
    except ValueError as error:
        parser().error(str(error))
    write(results, options.json)
    if options.plot is not None:
        from bench.chart import draw

        draw(results, options.plot)
    found = [result["status"] for record in results["workloads"] for result in record["results"]]
    return 1 if {"wrong", "failed"} & set(found) else 0
