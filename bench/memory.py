"""The most memory that one run takes above the data and the parameters.

Measured in a fresh process for each contestant, so that no allocator has anything to reuse. The process makes the data
and the parameters, lets the contestant warm up (its libraries load and its threads start) on a few examples, notes its
resident memory, has Linux forget the peak, runs the work and reads the new peak. A contestant that compiles for one
shape warms up on the work itself, for what its compiler takes is not what its runs take. On a GPU the peak is the
library's own count.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from bench.contestants import CONTESTANTS, Contestant
from bench.contestants.base import Prepared
from bench.device_memory import device_peak
from bench.problems import make_problem
from bench.workloads import Workload

TIMEOUT_SECONDS = 300
MEGABYTE = 1e6
FRESH = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""glibc gives every freed block of this size back to the system."""


def measure(contestant: str, workload: Workload, *, precision: str, device: str, seed: int) -> dict:
    """{"memory_mb": …}, or {"memory_error": why} if the process failed."""
    task = {
        "contestant": contestant,
        "workload": asdict(workload),
        "precision": precision,
        "device": device,
        "seed": seed,
    }
    command = [sys.executable, "-m", "bench.memory", json.dumps(task)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=os.environ | FRESH, check=True
        )
    except subprocess.TimeoutExpired:
        return {"memory_error": f"took longer than {TIMEOUT_SECONDS} s"}
    except subprocess.CalledProcessError as error:
        return {"memory_error": (error.stderr.strip().splitlines() or ["no message"])[-1]}
    return {"memory_mb": json.loads(done.stdout.splitlines()[-1])}


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process in memory now, or at most so far ("VmHWM")."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    msg = f"/proc/self/status has no {field}"
    raise RuntimeError(msg)


def peak_above(run: Callable[[], object]) -> int:
    """The bytes by which resident memory rises at most while `run` runs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    level = resident()
    Path("/proc/self/clear_refs").write_text("5")
    run()
    return max(0, resident("VmHWM") - level)


def measure_here(contestant: Contestant, workload: Workload, *, precision: str, device: str, seed: int) -> float:
    """Megabytes above the data and the parameters, measured in this process."""
    problem = make_problem(workload, precision=precision, device=device, seed=seed)
    if not contestant.compiles:
        few = replace(workload, m=2 * (workload.batch_size or 32))
        _run(contestant.prepare(make_problem(few, precision=precision, device=device, seed=seed)))
    prepared = contestant.prepare(problem)
    if contestant.compiles:
        _run(prepared)
    work = partial(_run, prepared)
    return (device_peak(contestant.library, work) if device == "gpu" else peak_above(work)) / MEGABYTE


def _run(prepared: Prepared) -> None:
    prepared.run()
    prepared.synchronize()


def _main() -> None:
    task = json.loads(sys.argv[1])
    shape = task.pop("workload")
    shape["sizes"] = tuple(shape["sizes"])
    contestant = CONTESTANTS[task.pop("contestant")]
    sys.stdout.write(f"{measure_here(contestant, Workload(**shape), **task)}\n")


if __name__ == "__main__":
    _main()
