"""What the figures were measured on and with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "nnarray",
    "numpy",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "torch",
    "jax",
    "jaxlib",
    "scikit-learn",
    "llvmlite",
    "array-api-compat",
    "threadpoolctl",
)


def machine() -> dict:
    """The processor, its usable cores, memory, GPU, system and Python."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": gpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def cpu_model() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name, as its driver lists it; None without one."""
    for information in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        for line in information.read_text().splitlines():
            if line.startswith("Model"):
                return line.split(":", 1)[1].strip()
    return None


def versions() -> dict[str, str]:
    """The installed packages that matter here."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def blas() -> list[dict]:
    """The thread pools of BLAS and OpenMP that are loaded now, and their threads."""
    from threadpoolctl import threadpool_info

    kept = ("internal_api", "version", "architecture", "num_threads")
    return [{key: pool.get(key) for key in kept} for pool in threadpool_info()]
