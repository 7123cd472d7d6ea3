"""How many threads NumPy may use here, and NumPy's BLAS held to one while tiles use them all."""

import os
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

THREADS_VARIABLE = "NNARRAY_NUM_THREADS"
"""In the environment, the number of threads to compute with; it wins over what the machine offers. Read once."""

CGROUP = Path("/sys/fs/cgroup")


def usable_threads() -> int:
    """NNARRAY_NUM_THREADS, else the fewest of: CPUs this process may run on, its cgroup's share, BLAS's own setting.

    BLAS's setting is what OMP_NUM_THREADS and its like, threadpoolctl and joblib's workers turn down. Raises ValueError
    where the environment variable is no whole number ≥ 1.
    """
    return _asked_for() or min(_affinity(), _cgroup_share(), ONE_THREAD.threads_outside())


class OneThread:
    """A block in which BLAS computes each product in one thread; restored when the last such block ends.

    BLAS has one setting for the whole process, so blocks of several user threads count as one.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew: in a forked child, whose parent may have been inside a block."""
        self._lock, self._blocks, self._before = Lock(), 0, list[int]()

    def threads_outside(self) -> int:
        """BLAS's own setting, that of outside the block; 1 where there is no BLAS to set."""
        with self._lock:
            return max(self._before if self._blocks else _settings(), default=1)

    def __enter__(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._before = _settings()
                _set([1] * len(self._before))
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                _set(self._before)

    def restore_in_child(self) -> None:
        """After a fork, give the child's BLAS its threads back."""
        before = self._before if self._blocks else []
        self.reset()
        if before:
            _set(before)


ONE_THREAD = OneThread()
"""The one block of this process, entered with `with ONE_THREAD:`."""

os.register_at_fork(after_in_child=ONE_THREAD.restore_in_child)


@lru_cache(maxsize=1)
def _libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _settings() -> list[int]:
    return [int(library.num_threads or 1) for library in _libraries()]


def _set(threads: list[int]) -> None:
    for library, count in zip(_libraries(), threads, strict=True):
        library.set_num_threads(count)


@lru_cache(maxsize=1)
def _asked_for() -> int | None:
    value = os.environ.get(THREADS_VARIABLE)
    if not value:
        return None
    if not value.isdecimal() or int(value) < 1:
        msg = f"the environment variable {THREADS_VARIABLE} must be a whole number ≥ 1, got {value!r}"
        raise ValueError(msg)
    return int(value)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _cgroup_share() -> int | float:
    """The CPUs that a container's quota pays for, at least 1; infinite without one."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return float("inf")
    if not quota.strip().isdecimal():  # "max" in version 2, -1 in version 1
        return float("inf")
    return max(1, int(quota) // int(period))
