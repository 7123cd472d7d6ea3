"""The process of one contestant: reads a task from each line of stdin, and writes what it found as a line of JSON.

What libraries print goes to stderr. A contestant that fails may have lost its CUDA context: whoever asks ends its
process then.
"""

import gc
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.agreement import Result, reference
from bench.contestants import CONTESTANTS
from bench.gpu.processes import die_with_parent, emulate
from bench.harness import LIMIT, checked, failed
from bench.limits import limit_of
from bench.problems import Problem, array_dtype, make_problem
from bench.rounds import time_in_turn, warm_up
from bench.workloads import Workload

REFERENCE = "reference"
"""Who computes what the contestants are checked against; the name of a worker, as LIMIT is."""


def main() -> None:
    """Answer every task until stdin ends; the contestant's name is the first argument."""
    die_with_parent()
    emulated = emulate()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = Answers(sys.argv[1])
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as failure:
            found = failed(failure)
        replies.write(json.dumps(found, default=float) + "\n")
        replies.flush()
    del emulated


class Answers:
    """Answers of one contestant; the last workload's data stay, for the next precision."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._made: tuple[Any, Problem] | None = None

    def __call__(self, task: dict) -> dict:
        """What was found: `status`, and of one that was timed its errors and times."""
        problem = self._problem(task)
        try:
            if self.name == REFERENCE:
                return _reference(problem, Path(task["truth"]))
            if self.name == LIMIT:
                what, prepared = limit_of(problem)
                return {"status": "timed", "what": what} | _timed(prepared, True, task)
            contestant = CONTESTANTS[self.name]
            found, prepared = checked(contestant, problem, _read(Path(task["truth"])))
            return (
                found if prepared is None else found | {"status": "timed"} | _timed(prepared, contestant.compiles, task)
            )
        finally:
            prepared = None
            _release()

    def _problem(self, task: dict) -> Problem:
        shape = task["workload"] | {"sizes": tuple(task["workload"]["sizes"])}
        workload, precision = Workload(**shape), task["precision"]
        key = workload, array_dtype(precision)
        if self._made is None or self._made[0] != key:
            self._made = None
            self._made = key, make_problem(workload, precision=precision, device="gpu")
        return replace(self._made[1], precision=precision)


def task_of(workload: Workload, precision: str, truth: Path, seconds: float, rounds: int | None) -> dict:
    """What is sent to a worker."""
    timing = {"seconds": seconds, "rounds": rounds}
    return {"workload": asdict(workload), "precision": precision, "truth": str(truth)} | timing


def _timed(prepared: Any, compiles: bool, task: dict) -> dict:
    cost, repeats = warm_up(prepared, compiles=compiles)
    only = {"": prepared}
    timing = time_in_turn(only, {"": repeats}, seconds=task["seconds"], rounds=task["rounds"])[""]
    return timing.summary() | ({} if cost is None else {"first_cost": cost})


def _reference(problem: Problem, path: Path) -> dict:
    truth = reference(problem)
    cost = np.nan if truth.cost is None else truth.cost
    with path.open("wb") as file:
        np.savez(file, cost=cost, values=truth.values)
    return {"status": "right"}


def _read(path: Path) -> Result:
    with np.load(path) as kept:
        cost = float(kept["cost"])
        return Result(None if np.isnan(cost) else cost, kept["values"])


def _release() -> None:
    """Give the GPU's memory back to the others; without a GPU, or after an error that ended its context, nothing."""
    gc.collect()
    with suppress(Exception):
        if "cupy" in sys.modules:
            sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


if __name__ == "__main__":
    main()
