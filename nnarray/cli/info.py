"""`nnarray info`: what runs here."""

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Iterator

import nnarray as nn
from nnarray.backends import BACKENDS, unavailable_reason, why_no_machine_code
from nnarray.backends.names import ENVIRONMENT_VARIABLE
from nnarray.cli.describing import describe
from nnarray.cli.output import say

PACKAGES = (
    "numpy",
    "array-api-compat",
    "safetensors",
    "torch",
    "jax",
    "scikit-learn",
    "pandas",
    "llvmlite",
    "matplotlib",
)
CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")
"""The names under which CuPy is installed."""


def info(arguments: argparse.Namespace) -> int:
    """Print versions, backends with their devices or why they can't run, and threads; or what a model file holds."""
    if arguments.model is not None:
        say("\n\n".join(describe(arguments.model)))
        return 0
    for title, lines in (("versions", _versions()), ("backends", _backends()), ("machine", _machine())):
        say(title)
        for name, value in lines:
            say(f"  {name:18}{value}")
    return 0


def _versions() -> Iterator[tuple[str, str]]:
    yield "nnarray", nn.__version__
    yield "python", platform.python_version()
    for package in PACKAGES:
        yield package, _version(package) or "not installed"
    yield "cupy", next((f"{found} ({name})" for name in CUPY if (found := _version(name))), "not installed")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _backends() -> Iterator[tuple[str, str]]:
    for name in BACKENDS:
        reason = unavailable_reason(name)
        yield name, f"unavailable: {reason}" if reason else f"works on {_devices(name)}"
    reason = why_no_machine_code()
    yield "machine code", f"unavailable: {reason}; numpy runs NumPy's calls" if reason else "compiled for numpy by LLVM"
    default = os.environ.get(ENVIRONMENT_VARIABLE)
    yield "default", f"{default} (from {ENVIRONMENT_VARIABLE})" if default else "numpy"


def _devices(name: str) -> str:
    """The devices of a backend that works, by name."""
    devices = [f"{nn.backend(name).device}"]
    if name == "cupy":
        import cupy

        runtime = cupy.cuda.runtime
        devices = [runtime.getDeviceProperties(k)["name"].decode() for k in range(runtime.getDeviceCount())]
    elif name == "torch":
        import torch

        devices += [f"cuda:{k} ({torch.cuda.get_device_name(k)})" for k in range(torch.cuda.device_count())]
    elif name == "jax":
        import jax

        devices = [str(device) for device in jax.devices()]
    return ", ".join(devices)


def _machine() -> Iterator[tuple[str, str]]:
    yield "system", f"{platform.system()} {platform.release()} on {platform.machine()}"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "processors", f"{usable} usable of {os.cpu_count()}"
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        if variable in os.environ:
            yield variable, os.environ[variable]
    yield from _thread_pools()


def _thread_pools() -> Iterator[tuple[str, str]]:
    from threadpoolctl import threadpool_info

    for pool in threadpool_info():
        kind = f"{pool['internal_api']} {pool.get('version') or ''} {pool.get('architecture') or ''}"
        yield str(pool["user_api"]), f"{' '.join(kind.split())}, {pool['num_threads']} threads"
