"""How many threads NumPy may use here, and NumPy's BLAS held to one while tiles use them all."""

import os
import time
from contextlib import suppress
from functools import lru_cache
from threading import RLock, get_ident
from typing import Any, NamedTuple, Protocol
from weakref import ref

THREADS_VARIABLE = "NNARRAY_NUM_THREADS"
"""In the environment, the number of threads to compute with; it wins over what the machine offers. Read once."""

CGROUP = "/sys/fs/cgroup"

PAUSE = 0.0002
"""Seconds between two looks whether it is one's turn."""


def usable_threads() -> int:
    """NNARRAY_NUM_THREADS, else the fewest of: CPUs this process may run on, its cgroup's share, BLAS's own setting.

    BLAS's setting is what OMP_NUM_THREADS and its like, threadpoolctl and joblib's workers turn down. Raises ValueError
    where the environment variable is no whole number ≥ 1.
    """
    return _asked_for() or min(_affinity(), _cgroup_share() or _affinity(), BLAS_THREADS.outside())


@lru_cache(maxsize=1)
def allowed_one_thread() -> bool:
    """Whether NNARRAY_NUM_THREADS or the cgroup allows one thread only, whatever BLAS's own setting."""
    return (_asked_for() or _cgroup_share()) == 1


class Block:
    """A stretch of computing in one thread of Python for which BLAS has one thread, or else its own setting.

    Enter it as `with Ended(block), block:`. Both ends, and `begin`, may come twice: an interrupt that breaks into one
    is made good by the next.
    """

    def __init__(self, *, one: bool) -> None:
        self.one = one
        self.turn, self.thread = 0, 0
        self.is_inner, self.is_on = False, False
        self.of_this_thread: list[int] = []

    def begin(self) -> None:
        """Wait for blocks of the other kind that came before, then set BLAS's threads."""
        BLAS_THREADS.begin(self)

    def end(self) -> None:
        """Give BLAS the threads back that it had, unless another block still wants one."""
        BLAS_THREADS.end(self)

    def __enter__(self) -> "Block":
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Ended:
    """The outer half of a block: it changes nothing when entered, and at its end sees to it that the blocks ended.

    An interrupt may come between any two instructions, those of `__exit__` among them. It comes once: what it kept
    the inner `__exit__` from doing is done here.
    """

    def __init__(self, *blocks: "Endable") -> None:
        self._blocks = blocks

    def __enter__(self) -> None:
        pass

    def __exit__(self, error: object, *_: object) -> None:
        if error is not None:
            BLAS_THREADS.unlock()
        for block in self._blocks:
            block.end()


class Endable(Protocol):
    """What has an end that may be reached twice."""

    def end(self) -> None:
        """Leave everything as it was before."""


class BlasThreads:
    """Who may compute with how many threads of BLAS.

    Most builds of BLAS have one setting for the whole process. Blocks that want one thread therefore never run at the
    same time as those that want BLAS's own, in whatever Python threads they are: they take turns in the order in which
    they came, and a result depends on no other thread. Inner blocks of one thread have the setting of the outer one.
    Where each thread has a setting of its own (MKL, OpenBLAS on OpenMP) nobody waits, and helpers keep to one.

    The blocks are known by weak references: one that was lost without its end, to several interrupts, counts no more.
    """

    def __init__(self) -> None:
        self._lock, self._turn = RLock(), 0  # reentrant: a signal's handler may compute, too
        self._blocks: list[ref[Block]] = []
        self._before: list[int] = []

    def begin(self, block: Block) -> None:
        """Begin the block; one that has begun goes on, after those that wait for the other setting."""
        if block.is_on:
            if block.is_inner or not self._is_waited_for(block):
                return
            self.end(block)
        with self._lock:
            others = self._others(block)
            self._turn = block.turn = self._turn + 1
            block.thread = get_ident()
            block.is_inner = block.thread in [other.thread for other in others]
            self._blocks = [ref(one) for one in (*others, block)]
        while not self._starts(block):
            time.sleep(PAUSE)

    def end(self, block: Block) -> None:
        """End the block; one that has ended stays so."""
        with self._lock:
            others = self._others(block)
            if len(others) == len(self._live()):
                return
            if block.of_this_thread:
                _set(_libraries().of_each_thread, block.of_this_thread)
            if not [other for other in others if other.one and other.is_on]:
                self._restore()
            block.is_on, block.of_this_thread = False, []
            self._blocks = [ref(other) for other in others]

    def outside(self) -> int:
        """BLAS's own setting, that of outside all blocks; 1 where there is no BLAS to set."""
        libraries, me = _libraries(), get_ident()
        with self._lock:
            shared = self._before or _settings(libraries.shared)
            mine = [block.of_this_thread for block in self._live() if block.thread == me and block.of_this_thread]
        return max([*shared, *(mine[0] if mine else _settings(libraries.of_each_thread))], default=1)

    def unlock(self) -> None:
        """Leave the lock that an interrupt kept this thread from leaving."""
        with suppress(RuntimeError):  # when it is not this thread's
            while True:
                self._lock.release()

    def is_set_here(self) -> bool:
        """Whether the calling thread is in a block."""
        me = get_ident()
        return me in [block.thread for block in self._live() if block.is_on]

    def keep(self) -> None:
        """Keep this thread to one for good, where threads have settings of their own: it is a helper."""
        libraries = _libraries().of_each_thread
        _set(libraries, [1] * len(libraries))

    def before_fork(self) -> None:
        """Wait until no thread is setting BLAS's threads: a child would inherit a lock of BLAS that nobody unlocks."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Let the threads of the parent go on."""
        self._lock.release()

    def restore_in_child(self) -> None:
        """After a fork from inside a block, give the child's BLAS its threads back."""
        before = self._before
        vars(self).update(vars(BlasThreads()))
        if before:
            _set(_libraries().shared, before)

    def _live(self) -> list[Block]:
        return [block for known in self._blocks if (block := known()) is not None]

    def _others(self, block: Block) -> list[Block]:
        return [other for other in self._live() if other is not block]

    def _is_waited_for(self, block: Block) -> bool:
        return len(self._blocks) > 1 and (not block.one) in [other.one for other in self._live() if not other.is_inner]

    def _starts(self, block: Block) -> bool:
        """Set BLAS's threads, unless it is another block's turn."""
        libraries = _libraries()
        with self._lock:
            others = self._others(block)
            if block.is_inner:
                block.is_on = True
                return True
            if libraries.shared and (not block.one) in [other.one for other in others if other.turn < block.turn]:
                return False
            if not [other for other in others if other.one and other.is_on]:
                self._restore()
            block.is_on = True
            if block.one:
                self._before = self._before or _settings(libraries.shared)
                _set(libraries.shared, [1] * len(libraries.shared))
                block.of_this_thread = _settings(libraries.of_each_thread)
                _set(libraries.of_each_thread, [1] * len(libraries.of_each_thread))
            return True

    def _restore(self) -> None:
        if self._before:
            _set(_libraries().shared, self._before)
            self._before = []


BLAS_THREADS = BlasThreads()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=BLAS_THREADS.before_fork,
        after_in_parent=BLAS_THREADS.after_fork,
        after_in_child=BLAS_THREADS.restore_in_child,
    )


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
