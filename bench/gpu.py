"""What a machine with an NVIDIA GPU has to say of this tree, in one command: the tests, then the figures, as JSON.

`python -m bench.gpu` (or `nox -s gpu`, which installs what it needs) runs `nnarray check`, the tests with cupy among
the namespaces, and the GPU's workloads at every precision; `--json` names the file of the figures, else it is called
after the GPU. What is given after `--` goes to `python -m bench`.
"""

import argparse
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.cli import PRECISIONS
from nnarray.backends import unavailable_reason

TEST_PROCESSES = 4
"""at once; each holds a CUDA context of its own"""

SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""JAX takes three quarters of the GPU's memory for itself unless told otherwise."""


def file_name(gpu: str) -> str:
    """The file of a GPU's figures: "NVIDIA H200" has nvidia-h200.json."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") + ".json"


def commands(json: Path, further: list[str]) -> list[list[str]]:
    """The modules that are run, with their arguments."""
    processes = ["-n", str(TEST_PROCESSES)] if find_spec("xdist") else []
    figures = ["--set", "gpu", "--precision", ",".join(PRECISIONS), "--json", str(json)]
    return [["nnarray", "check"], ["pytest", "-q", *processes], ["bench", *figures, *further]]


def main(arguments: list[str] | None = None) -> int:
    """Run them all, one after the other; 1 if any of them failed, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: bench/results/<the GPU's name>.json")
    parser.add_argument("further", nargs="*", metavar="ARGUMENT", help="for python -m bench, after --")
    options = parser.parse_args(arguments)
    reason = unavailable_reason("cupy")
    if reason is not None:
        sys.stderr.write(f"python -m bench.gpu: {reason}\n")
        return 2
    codes = []
    for command in commands(options.json or Path("bench/results") / file_name(_gpu()), options.further):
        sys.stdout.write(f"+ python -m {' '.join(command)}\n")
        sys.stdout.flush()
        codes.append(subprocess.run([sys.executable, "-m", *command], env=os.environ | SHARED, check=False).returncode)
    return int(any(codes))


def _gpu() -> str:
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else name


if __name__ == "__main__":
    sys.exit(main())
