"""The command line: parts one after another, each with a limit, within the limit of the whole."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from bench.gpu.parts import PARTS, Run


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m bench.gpu", description="Test and time this tree on an NVIDIA GPU.")
    made.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="FOLDER", help="at most 8 files")
    made.add_argument("--only", metavar="PART,…", help=f"some of {', '.join(PARTS)}")
    made.add_argument("--seconds", type=float, default=570, help="for all parts together (default: 570)")
    made.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="packages for this run, installed without a network"
    )
    made.add_argument("--quick", action="store_true", help="few examples and rounds, to see that all works")
    made.add_argument("--workloads", metavar="NAMES", help="of the figures; default: all that are for GPUs")
    made.add_argument("further", nargs="*", metavar="ARGUMENT", help="for pytest, after --")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 1 if any of them failed, 2 where there is no GPU."""
    options = parser().parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        parser().error(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as site:
        warnings = _install(options.wheels, site)
        how = {"quick": options.quick, "workloads": options.workloads, "further": options.further}
        run = Run(options.out, options.seconds, **how)
        for warning in warnings:
            run.warn(warning)
        try:
            return run.all(chosen)
        except KeyboardInterrupt:
            return 130


def _install(wheels: Path | None, site: str) -> list[str]:
    """Unpack the wheels of a folder into `site`, for this process and the parts; what is wrong with them, in words."""
    if wheels is None:
        return []
    files = sorted(wheels.glob("*.whl"))
    for file in files:
        with ZipFile(file) as wheel:
            wheel.extractall(site)
    sys.path.insert(0, site)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    return [] if files else [f"there are no wheels in {wheels}"]


if __name__ == "__main__":
    sys.exit(main())
