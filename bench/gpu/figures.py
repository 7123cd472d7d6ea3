"""The figures: workloads in order of value, every contestant alone on the GPU and in a process of its own.

    python -m bench.gpu.figures --json FILE --seconds 400

The file has the form of `python -m bench --json`, and is written anew whenever a contestant has answered.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from typing import Any

from bench.agreement import epoch_disagreements
from bench.contestants import CONTESTANTS
from bench.gpu.processes import write_json
from bench.gpu.worker import REFERENCE, task_of
from bench.harness import LIMIT, compare
from bench.machine import machine, versions
from bench.problems import array_dtype
from bench.report import terminal
from bench.workloads import Workload, by_name

TABLE = (
    ("gpu-lecture", "float32", "tf32"),
    ("gpu-minibatch-128", "float32", "tf32"),
    ("gpu-minibatch-1024", "float32", "tf32"),
    ("gpu-deep", "float32", "tf32", "bfloat16"),
    ("gpu-deep-1m", "float32", "tf32", "bfloat16"),
    ("gpu-predict-deep", "float32", "tf32"),
    ("gpu-logistic", "float32", "bfloat16"),
    ("gpu-wide", "tf32"),
    ("gpu-minibatch-128", "bfloat16"),
    ("gpu-minibatch-1024", "bfloat16"),
    ("gpu-logistic-wide", "float32"),
    ("gpu-shallow", "tf32"),
)
"""Workloads and precisions, the most telling first."""

FIRST = ("nnarray-cupy", "torch-graph", "jax", "torch")
THEN = ("torch-compile", "plain-cupy")
"""Once FIRST have done the whole table: compiling takes long."""

TASK_SECONDS = 60.0
"""After which a contestant is ended and the next one asked."""

FEWEST_SECONDS = 2.0
"""No task begins with less than this left."""

Command = Sequence[str]
WORKER = (sys.executable, "-m", "bench.gpu.worker")


class Worker:
    """A contestant's process, started when made: its libraries load while others are asked."""

    def __init__(self, name: str, command: Command = WORKER) -> None:
        self._process = subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, task: dict, seconds: float) -> dict:
        """The answer, {"status": "failed", "reason": …} where none comes in time or the process ends."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        line = self._line(monotonic() + seconds)
        if line is None:
            return {"status": "failed", "reason": f"took longer than {seconds:.0f} s"}
        if not line.endswith(b"\n"):
            code = self._process.wait()
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            return {"status": "failed", "reason": f"its process ended: {how}"}
        return dict(json.loads(line))

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def _line(self, ends: float) -> bytes | None:
        """The next line, or what came of it before the process ended; None where time runs out first."""
        assert self._process.stdout is not None
        line = b""
        with DefaultSelector() as selector:
            selector.register(self._process.stdout, EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(ends - monotonic(), 0)):
                    return None
                part = os.read(self._process.stdout.fileno(), 2**16)
                if not part:
                    return line
                line += part
        return line


class Figures:
    """One run: who is asked, until when, and the file."""

    def __init__(
        self, path: Path, ends: float, *, quick: bool = False, command: Command = WORKER, task: float = TASK_SECONDS
    ) -> None:
        self.path, self._ends, self._task_seconds, self._command = path, ends, task, command
        self._quick, self._seconds, self._rounds = quick, 1.0, 2 if quick else None
        self._workers: dict[str, Worker] = {}
        self._truths: dict[Any, Path] = {}
        settings = {"device": "gpu", "rounds": self._rounds, "memory": False, "seed": 0, "alone": True}
        self.found: dict[str, Any] = {"created": datetime.now(UTC).isoformat(), "machine": machine()}
        self.found |= {"versions": versions(), "settings": settings, "workloads": []}

    def measure(self, table: Sequence[tuple[str, ...]], *passes: Sequence[str]) -> None:
        """The whole table by the contestants of each pass; `ended` says how far time allowed."""
        self.found["ended"] = "cut short"
        with tempfile.TemporaryDirectory() as scratch:
            for names in passes:
                for name in (REFERENCE, LIMIT, *names):
                    self._worker(name)
                for workload, precision in _cells(table, quick=self._quick):
                    if not self._cell(workload, precision, names, Path(scratch)):
                        self.found["ended"] = f"no time left at {workload.name}, {precision}, {', '.join(names)}"
                        return write_json(self.path, self.found)
        self.found["ended"] = "all was measured"
        return write_json(self.path, self.found)

    def end(self) -> None:
        """End every process."""
        for worker in self._workers.values():
            worker.end()

    def _cell(self, workload: Workload, precision: str, names: Sequence[str], scratch: Path) -> bool:
        """One workload and precision by these contestants; False where time runs out."""
        record = self._record(workload, precision)
        key = workload.name, array_dtype(precision)
        truth = scratch / f"{len(self._truths)}.npz"
        if key not in self._truths:
            found = self._ask(REFERENCE, workload, precision, truth)
            if found is None:
                return False
            record["reference"] = found
            if found["status"] == "failed":
                return True  # nothing can be checked, so nothing is timed
            self._truths[key] = truth
        if "median_ms" not in record["limit"] and "reason" not in record["limit"]:
            record["limit"] = self._ask(LIMIT, workload, precision, truth) or {}
        for name in names:
            found = self._ask(name, workload, precision, self._truths[key])
            if found is None:
                return False
            contestant = {"contestant": name, "peer": name != "nnarray-cupy"}
            record["results"].append(contestant | found)
            _settle(record, workload)
            write_json(self.path, self.found)
        sys.stdout.write(terminal(record) + "\n")
        sys.stdout.flush()
        return True

    def _record(self, workload: Workload, precision: str) -> dict:
        """The record of a workload and precision, which a later pass goes on with."""
        for record in self.found["workloads"]:
            if (record["name"], record["precision"]) == (workload.name, precision):
                return record
        about = {"precision": precision, "device": "gpu", "flops": workload.flops, "limit": {}, "results": []}
        self.found["workloads"].append(asdict(workload) | about)
        return self.found["workloads"][-1]

    def _ask(self, name: str, workload: Workload, precision: str, truth: Path) -> dict | None:
        """What a contestant answers; None where no time is left to ask. One that fails gets a new process."""
        seconds = min(self._task_seconds, self._ends - monotonic())
        if seconds < FEWEST_SECONDS:
            return None
        found = self._worker(name).ask(task_of(workload, precision, truth, self._seconds, self._rounds), seconds)
        if found["status"] == "failed":
            sys.stderr.write(f"{name} failed at {workload.name}, {precision}: {found['reason']}\n")
            self._workers.pop(name).end()
        return found

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name, self._command)
        return self._workers[name]


def _cells(table: Sequence[tuple[str, ...]], *, quick: bool) -> Iterator[tuple[Workload, str]]:
    for name, *precisions in table:
        (workload,) = by_name(name)
        for precision in precisions:
            yield workload.quick() if quick else workload, precision


def _settle(record: dict, workload: Workload) -> None:
    """Those that learned something else in an epoch than most are wrong; the others are compared."""
    learned = {found["contestant"]: found for found in record["results"] if "first_cost" in found}
    reasons = epoch_disagreements({name: found["first_cost"] for name, found in learned.items()})
    for name, found in learned.items():
        reason = reasons.get(name)
        found |= {"status": "wrong" if reason else "timed", "reason": reason}
    compare(record["results"], workload, record["limit"].get("median_ms"))


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 if a contestant computed something wrong or failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.figures", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--contestants", metavar="NAMES", help=f"some of {', '.join(CONTESTANTS)}")
    parser.add_argument("--workloads", metavar="NAMES", help="some of the table's")
    options = parser.parse_args(arguments)
    passes = [options.contestants.split(",")] if options.contestants else [FIRST, THEN]
    wanted = options.workloads.split(",") if options.workloads else [row[0] for row in TABLE]
    figures = Figures(options.json, monotonic() + options.seconds, quick=options.quick)
    try:
        figures.measure([row for row in TABLE if row[0] in wanted], *passes)
    finally:
        figures.end()
    results = [found["status"] for record in figures.found["workloads"] for found in record["results"]]
    return int(bool({"wrong", "failed"} & set(results)))


if __name__ == "__main__":
    sys.exit(main())
