"""Several processes that compute as one, each with columns of its own: the ranks of an MPI communicator.

Whatever they do together begins with a meeting: a few numbers added up over all ranks. There each learns whether
another failed or was interrupted, so that none waits for one that does not come.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any
from zlib import adler32, crc32

import numpy as np

from nnarray.backends import Backend
from nnarray.core.typing import Array, Layers, Pairs
from nnarray.core.vector import vector_size
from nnarray.engine import compute
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.columns import TileColumns
from nnarray.engine.communicator import Communicator
from nnarray.engine.example_weights import require_weight
from nnarray.engine.interrupts import Interrupts, Terminations

ROOM = 10
"""Numbers that a meeting adds up; so many always, as some ranks may be at their next call while others failed."""


class RankError(RuntimeError):
    """Another rank of the communicator failed."""


class CallError(RankError):
    """The ranks make different calls, as all of them know."""


class Ranks:
    """The ranks of a communicator, from here, in one `call`. All make the same calls in the same order.

    Enter it around all of them, as `with Ended(ranks), ranks:`. What is raised within is told to the others, who raise
    RankError at their next call.
    Ctrl-C, on whichever rank, comes as KeyboardInterrupt to all at the same call.
    """

    def __init__(self, comm: Communicator, call: str = "the same") -> None:
        if not all(hasattr(comm, name) for name in ("rank", "size", "Allreduce", "allgather")):
            msg = f"comm must be a communicator of mpi4py, such as MPI.COMM_WORLD, got a {type(comm).__name__}"
            raise TypeError(msg)
        self._comm, self.rank, self.size = comm, int(comm.rank), int(comm.size)
        self._call, self._was_interrupted = call, False
        self._known: BaseException | None = None
        """what was raised here after a meeting, and so on all ranks"""
        self._interrupts, self._terminations = Interrupts(), Terminations()
        self._asks_if_due: Callable[[], bool] | None = None
        self._before_termination: Callable[[], None] | None = None
        self.is_due = False
        """whether what is to be kept was due on some rank at the last meeting"""

    def __enter__(self) -> "Ranks":
        self._interrupts.__enter__()
        self._interrupts.put_off.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if error is None or not (error is self._known or isinstance(error, CallError)):
                self._meet(error=error)
        finally:
            self.end()

    def end(self) -> None:
        """Give signals their handlers back; a second time, nothing."""
        self._interrupts.end()
        self._terminations.end()

    def keep(self, is_due: Callable[[], bool] | None, keep: Callable[[], None] | None) -> None:
        """From now on every meeting asks whether something is due; and after SIGTERM on any rank all call `keep`.

        Those that it came to then end as they would without.
        """
        self._asks_if_due, self._before_termination = is_due, keep
        if keep is None:
            self._terminations.end()
        else:
            self._terminations.begin()

    def sums(self, *numbers: float, of: np.ndarray | None = None) -> list[float]:
        """The sums over all ranks of a few numbers, and in its own place, of a contiguous array of the host."""
        totals = self._meet(*numbers)
        if of is not None:
            self._comm.Allreduce(None, of)  # a buffer for the sums would cost more than they do
        return totals

    def every(self, thing: Any) -> list[Any]:
        """What each rank gives, by rank."""
        self._meet()
        return self._comm.allgather(thing)

    def any(self, ask: Callable[[], object]) -> bool:
        """Whether `ask()` is true on any rank."""
        flag: object = False
        try:
            flag = ask()
        except KeyboardInterrupt:
            self._was_interrupted = True
        return self._meet(float(bool(flag)))[0] > 0

    def agree(self, *numbers: float, **things: Any) -> list[float]:
        """The sums of a few numbers, in a meeting in which all ranks learn whether the things are the same on all.

        Raises ValueError on all ranks where one of the things, which are compared by `==`, is not.
        """
        words = _words_of(things)
        totals = self._meet(*words, *(word**2 for word in words), *numbers)
        sums, squares = totals[: len(words)], totals[len(words) : 2 * len(words)]
        if any(self.size * int(square) != int(total) ** 2 for total, square in zip(sums, squares, strict=True)):
            self._require_same(things)
        return totals[2 * len(words) :]

    def _require_same(self, things: dict[str, Any]) -> None:
        given = self.every(things)
        for name in things:
            for rank, other in enumerate(given):
                one, another = given[0].get(name), other.get(name)
                if one != another:
                    msg = f"{name} must be the same on all ranks, got {one} on rank 0 and {another} on rank {rank}"
                    raise ValueError(msg)

    def _meet(self, *numbers: float, error: BaseException | None = None) -> list[float]:
        """The sums of up to `ROOM` numbers, where no rank failed, makes another call or was interrupted."""
        try:
            self._interrupts.put_off.poll()
        except KeyboardInterrupt:
            self._was_interrupted = True
        is_due = error is None and self._asks_if_due is not None and self._asks_if_due()
        word = crc32(self._call.encode()) >> 16
        flags = error is not None, self._was_interrupted, is_due, self._terminations.came, word, word**2
        given = np.zeros(len(flags) + ROOM)
        given[: len(flags) + len(numbers)] = *flags, *numbers
        total = given.copy()  # the sum already where there is one rank
        self._comm.Allreduce(given, total)
        self._was_interrupted, self.is_due = False, total[2] > 0
        if total[0]:
            self._tell(error)
        elif self.size * int(total[5]) != int(total[4]) ** 2:
            msg = f"all ranks must make the same calls, in the same order; this one makes {self._call}, others another"
            raise CallError(msg)
        elif total[1]:
            self._known = KeyboardInterrupt()
            raise self._known
        elif total[3] and self._before_termination is not None:
            keep, self._before_termination = self._before_termination, None
            keep()
            self._terminations.end()
        sums: list[float] = total[len(flags) : len(flags) + len(numbers)].tolist()
        return sums

    def _tell(self, error: BaseException | None) -> None:
        """Tell the others what was raised here; where nothing was, raise RankError with what they tell."""
        mine = None if error is None else f"{type(error).__name__}: {error}"
        told = self._comm.allgather(mine)
        if error is None:
            rank, text = next((rank, text) for rank, text in enumerate(told) if text is not None)
            msg = f"rank {rank} failed: {text}"
            self._known = RankError(msg)
            raise self._known


def _words_of(things: dict[str, Any]) -> Sequence[int]:
    """Four words of 16 bits that tell things apart: sums of them and of their squares are exact.

    Words are the same on all ranks where the number of ranks times the sum of squares is the square of the sum.
    """
    text = repr(things).encode()
    words: list[int] = np.array([crc32(text), adler32(text)], "uint32").view("uint16").tolist()
    return words


def part(
    batch: Batch,
    m: float,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    *,
    l2: float,
    l1: float,
    spare: list[Array] | None = None,
    workers: int | None = None,
) -> tuple[float, Array]:
    """What this rank's batch, which may be of no columns, adds to J and its gradient where everybody's weigh m.

    Its share of the penalties is that of its weight. `spare` are vectors that may be written into, as in
    `engine.cost_and_gradients`.
    """
    if batch.columns == 0:
        return 0.0, backend.asarray(np.zeros(vector_size(network.sizes)), dtype_of(layers, backend))
    share = float(batch.m) / m
    options: dict[str, Any] = {"l2": l2 * share, "l1": l1 * share, "spare": spare, "workers": workers}
    J, g = compute.cost_and_gradients(batch._replace(m=m), layers, network, backend, **options)
    return float(J), g


def total(J: float, g: Array, backend: Backend, ranks: Ranks) -> tuple[float, Array]:
    """J and its gradient, laid out as theta, of the parts of all ranks."""
    sums = np.require(backend.to_numpy(g), requirements=("C", "W"))
    (J,) = ranks.sums(J, of=sums)
    return J, sums if sums is g else backend.asarray(sums, str(sums.dtype))


def cost(
    batch: Batch,
    m: float,
    layers: Pairs,
    network: Architecture,
    backend: Backend,
    ranks: Ranks,
    *,
    l2: float,
    l1: float,
    keep: TileColumns | None = None,
    workers: int | None = None,
) -> float:
    """J of everybody's batches together, which weigh m and some of which may be of no columns.

    `keep` collects A[L] of this rank's.
    """
    J: Array = 0.0
    if batch.columns:
        share = float(batch.m) / m
        options: dict[str, Any] = {"l2": l2 * share, "l1": l1 * share, "keep": keep, "workers": workers}
        J = compute.cost(batch._replace(m=m), layers, network, backend, **options)
    return ranks.sums(float(J))[0]


def require_weight_of_all(m: float, dtype: str) -> None:
    """Raise ValueError where the examples of all ranks weigh nothing together, or too much."""
    if m == 0:
        msg = "X must hold at least one example that weighs something on some of the ranks, got none"
        raise ValueError(msg)
    require_weight(m, dtype)


def dtype_of(layers: Layers, backend: Backend) -> str:
    """The dtype of the layers, by name."""
    return "float64" if layers[0][0].dtype == backend.xp.float64 else "float32"
