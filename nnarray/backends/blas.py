"""How many threads NumPy may use here, and NumPy's BLAS held to one while tiles use them all."""

import os
from functools import lru_cache
from threading import Lock, local
from typing import Any, NamedTuple

THREADS_VARIABLE = "NNARRAY_NUM_THREADS"
"""In the environment, the number of threads to compute with; it wins over what the machine offers. Read once."""

CGROUP = "/sys/fs/cgroup"


def usable_threads() -> int:
    """NNARRAY_NUM_THREADS, else the fewest of: CPUs this process may run on, its cgroup's share, BLAS's own setting.

    BLAS's setting is what OMP_NUM_THREADS and its like, threadpoolctl and joblib's workers turn down. Raises ValueError
    where the environment variable is no whole number ≥ 1.
    """
    return _asked_for() or min(_affinity(), _cgroup_share() or _affinity(), ONE_THREAD.threads_outside())


@lru_cache(maxsize=1)
def allowed_one_thread() -> bool:
    """Whether NNARRAY_NUM_THREADS or the cgroup allows one thread only, whatever BLAS's own setting."""
    return (_asked_for() or _cgroup_share()) == 1


class OneThread:
    """A block in which BLAS computes each product in one thread; restored when the last such block ends.

    Most builds of BLAS have one setting for the whole process, so the blocks of several user threads count as one.
    Where each thread has its own (MKL, OpenBLAS on OpenMP), a block sets that of its thread, and helpers keep to one.
    """

    def __init__(self) -> None:
        self._reset()

    def threads_outside(self) -> int:
        """BLAS's own setting, that of outside the block; 1 where there is no BLAS to set."""
        with self._lock:
            shared = self._before if self._blocks else _settings(_libraries().shared)
        own = self._outside.stack[0] if self._stack() else _settings(_libraries().of_each_thread)
        return max([*shared, *own], default=1)

    def __enter__(self) -> None:
        libraries = _libraries()
        with self._lock:
            if self._blocks == 0:
                self._before = _settings(libraries.shared)
                _set(libraries.shared, [1] * len(libraries.shared))
            self._blocks += 1
        self._stack().append(_settings(libraries.of_each_thread))
        _set(libraries.of_each_thread, [1] * len(libraries.of_each_thread))

    def __exit__(self, *_: object) -> None:
        libraries = _libraries()
        _set(libraries.of_each_thread, self._stack().pop())
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                _set(libraries.shared, self._before)

    def keep(self) -> None:
        """Keep this thread to one for good, where threads have settings of their own: it is a helper."""
        libraries = _libraries().of_each_thread
        _set(libraries, [1] * len(libraries))

    def restore_in_child(self) -> None:
        """After a fork from inside a block, give the child's BLAS its threads back."""
        before = self._before if self._blocks else []
        self._reset()
        if before:
            _set(_libraries().shared, before)

    def _reset(self) -> None:
        self._lock, self._blocks, self._before, self._outside = Lock(), 0, list[int](), local()

    def _stack(self) -> list[list[int]]:
        if not hasattr(self._outside, "stack"):
            self._outside.stack = []
        stack: list[list[int]] = self._outside.stack
        return stack


ONE_THREAD = OneThread()
"""The one block of this process, entered with `with ONE_THREAD:`."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ONE_THREAD.restore_in_child)


class Libraries(NamedTuple):
    """The BLAS libraries in this process, as threadpoolctl controls them."""

    shared: list[Any]
    """with one setting for all threads"""
    of_each_thread: list[Any]
    """with a setting for each thread"""


@lru_cache(maxsize=1)
def _libraries() -> Libraries:
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    of_each = [each for each in found if each.internal_api == "mkl" or getattr(each, "threading_layer", "") == "openmp"]
    return Libraries([each for each in found if each not in of_each], of_each)


def _settings(libraries: list[Any]) -> list[int]:
    return [int(library.num_threads or 1) for library in libraries]


def _set(libraries: list[Any], threads: list[int]) -> None:
    for library, count in zip(libraries, threads, strict=True):
        _let_this_thread_set(library)
        library.set_num_threads(count)
        _let_this_thread_set(library)


def _let_this_thread_set(library: Any) -> None:
    """threadpoolctl 3.8 and later heed only the first thread to set OpenBLAS; blocks end in whatever thread is last."""
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


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
def _cgroup_share() -> int | None:
    """The CPUs that a container's quota pays for, at least 1; None without one."""
    try:
        quota, period = _read("cpu.max").split()
    except (OSError, ValueError):
        try:
            quota, period = (_read(f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
        except OSError:
            return None
    if not quota.strip().isdecimal():  # "max" in version 2, -1 in version 1
        return None
    return max(1, int(quota) // int(period))


def _read(name: str) -> str:
    with open(f"{CGROUP}/{name}", encoding="ascii") as file:
        return file.read()
