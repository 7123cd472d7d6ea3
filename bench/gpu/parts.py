"""The parts of a run on a GPU, in order of value, and what runs them one after another.

Nothing here imports CuPy or nnarray: whatever those do to their process, the next part runs.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from bench.gpu.processes import ENVIRONMENT, die_with_parent, write_json
from bench.machine import machine, versions

SANITIZER = "compute-sanitizer"
SANITIZER_PLACE = "/usr/local/cuda/bin"
CHECKS = (
    ("memcheck", "graphs"),
    ("memcheck", "kernels"),
    ("racecheck", "kernels"),
    ("initcheck", "kernels"),
    ("synccheck", "kernels"),
    ("racecheck", "graphs"),
)
"""The sanitizer's tools, and what they run."""

MOST_TEST_PROCESSES = 12
"""Each holds a CUDA context of its own."""

NO_TIME = "skipped: no time left"

FEWEST_SECONDS = 3
"""No part begins with less than this left."""

NEEDED = {
    "array_api_compat": "nothing runs",
    "cupy": "nothing runs",
    "pytest": "no tests run",
    "xdist": "the tests run in one process",
    "hypothesis": "tests that need it fail",
    "array_api_strict": "tests that need it are skipped",
    "sklearn": "tests that need it fail",
    "torch": "its contestants and the limits are left out",
    "jax": "its contestant is left out",
}
"""Packages, and what their absence means."""

PYTEST = ["pytest", "-q", "-k", "cupy", "-p", "no:benchmark", "-o", "filterwarnings=default"]
"""An image's further plugins warn, and warnings are errors in the project's own settings."""

TESTS_ENVIRONMENT = {"JAX_PLATFORMS": "cpu"}


@dataclass(frozen=True)
class Part:
    """One part: its modules with their arguments, one after another, within so many seconds together."""

    seconds: float
    commands: Callable[["Run", float], Iterable[list[str]]]
    environment: dict[str, str] = field(default_factory=dict)


def _sanitizer(run: "Run", _: float) -> Iterator[list[str]]:
    """Kernels and graphs under each of the sanitizer's tools; without it, as they are."""
    tool = shutil.which(SANITIZER) or shutil.which(SANITIZER, path=SANITIZER_PLACE)
    if tool is None:
        run.warn(f"{SANITIZER} is not installed: its runs go without it")
        runs = [(list[str](), what) for what in ("graphs", "kernels")]
    else:
        command = [tool, "--error-exitcode", "9", "--print-limit", "20", "--tool"]
        runs = [([*command, check], what) for check, what in CHECKS]
    quick = ["--quick"] if run.quick else []
    for checked, what in runs:
        yield [*checked, sys.executable, "-m", "bench.gpu.sanitized", what, *quick]


def _tests(run: "Run", _: float) -> Iterator[list[str]]:
    if find_spec("pytest") is None:  # of which the run has warned
        return
    count = min(MOST_TEST_PROCESSES, len(os.sched_getaffinity(0)))
    processes = ["-n", str(count)] if find_spec("xdist") else []
    yield [sys.executable, "-m", *PYTEST, *processes, *run.further]


def _figures(run: "Run", seconds: float) -> Iterator[list[str]]:
    quick = ["--quick"] if run.quick else []
    path = run.folder / file_name(run.found["gpu"].get("name", "gpu"))
    yield [
        sys.executable,
        "-m",
        "bench.gpu.figures",
        "--json",
        str(path),
        "--seconds",
        f"{seconds - 3:.0f}",
        *quick,
        *run.figures,
    ]


def _probes(run: "Run", _: float) -> Iterator[list[str]]:
    quick = ["--quick"] if run.quick else []
    yield [sys.executable, "-m", "bench.gpu.probes", str(run.folder / "probes.json"), *quick]


def _check(run: "Run", _: float) -> Iterator[list[str]]:
    yield [sys.executable, "-m", "nnarray", "check"]


PARTS = {
    "sanitizer": Part(100, _sanitizer, TESTS_ENVIRONMENT),
    "tests": Part(150, _tests, TESTS_ENVIRONMENT),
    "figures": Part(420, _figures),
    "probes": Part(60, _probes),
    "check": Part(60, _check, TESTS_ENVIRONMENT),
}


class Run:
    """A run: what it found so far stands in run.json, and what a part printed in its log."""

    def __init__(
        self,
        folder: Path,
        seconds: float,
        *,
        quick: bool = False,
        workloads: str | None = None,
        further: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.quick, self.further = folder, quick, further
        self.figures = ["--workloads", workloads] if workloads else []
        self._ends = monotonic() + seconds
        self.found: dict[str, Any] = {"created": datetime.now(UTC).isoformat(), "machine": machine()}
        self.found |= {"versions": versions(), "gpu": {}, "warnings": [], "parts": []}

    def warn(self, warning: str) -> None:
        """Tell what is not as it should be, and go on."""
        sys.stderr.write(f"warning: {warning}\n")
        self.found["warnings"].append(warning)
        self._write()

    def all(self, names: list[str]) -> int:
        """Run the parts of these names; 1 if one failed or took too long, 2 where there is no GPU."""
        for package, meaning in NEEDED.items():
            if find_spec(package) is None:
                self.warn(f"{package} is not installed: {meaning}")
        self.found["gpu"] = self._look_at_the_gpu()
        self._write()
        if reason := self.found["gpu"].get("reason"):
            sys.stderr.write(f"python -m bench.gpu: {reason}\n")
            return 2
        statuses = [self.part(name, PARTS[name]) for name in names]
        return int(any(not status.startswith(("passed", "skipped")) for status in statuses))

    def part(self, name: str, part: Part) -> str:
        """Run one part, and write down how it ended."""
        seconds, began = min(part.seconds, self._ends - monotonic()), monotonic()
        found: dict[str, Any] = {"part": name, "status": "running", "limit_s": round(seconds, 1), "commands": []}
        self.found["parts"].append(found)
        self._write()
        statuses = [] if seconds >= FEWEST_SECONDS else [NO_TIME]
        if not statuses:
            with (self.folder / f"{name}.log").open("w") as log:
                for command in part.commands(self, seconds):
                    statuses.append(self._command(command, began + seconds, log, part.environment))
                    found["commands"].append({"command": " ".join(command[1:]), "status": statuses[-1]})
                    self._write()
        bad = [status for status in statuses if status != "passed"]
        found |= {"status": bad[0] if bad else "passed" if statuses else "skipped"}
        found |= {"seconds": round(monotonic() - began, 1)}
        self._write()
        return str(found["status"])

    def _command(self, command: list[str], ends: float, log: Any, environment: dict[str, str]) -> str:
        """Run a command within its limit; how it ended, in words."""
        if ends - monotonic() < FEWEST_SECONDS:
            return NO_TIME
        sys.stdout.write(f"+ {' '.join(command)}\n")
        sys.stdout.flush()
        started = _start(command, environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = started.wait(ends - monotonic())
        except subprocess.TimeoutExpired:
            return "over its limit"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        return "passed" if code == 0 else f"failed: code {code}"

    def _look_at_the_gpu(self) -> dict[str, Any]:
        started = _start([sys.executable, "-m", "bench.gpu.probes", "--gpu"], {}, stdout=subprocess.PIPE)
        try:
            text, _ = started.communicate(timeout=120)
            return dict(json.loads(text.decode().strip().splitlines()[-1]))
        except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
            started.kill()
            return {"reason": f"the GPU could not be looked at ({type(error).__name__}); see what is above"}

    def _write(self) -> None:
        write_json(self.folder / "run.json", self.found)


def file_name(gpu: str) -> str:
    """The file of a GPU's figures: "NVIDIA H200" has nvidia-h200.json."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") + ".json"


def _start(command: list[str], environment: dict[str, str], **streams: Any) -> "subprocess.Popen[bytes]":
    """In a process group of its own, so that its limit ends all that it started."""
    return subprocess.Popen(
        command,
        env=os.environ | ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
        **streams,
    )
