"""A communicator whose ranks are threads of one process: what MPI does, as far as nnarray asks for it."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


class Meeting:
    """Where the ranks leave what they give, and take what others gave."""

    def __init__(self, size: int) -> None:
        self.size, self.given = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=30)


class ThreadComm:
    """One rank's communicator."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting, self.rank, self.size = meeting, rank, meeting.size

    def allgather(self, thing: Any) -> list[Any]:
        self._meeting.given[self.rank] = thing
        self._meeting.barrier.wait()
        found = list(self._meeting.given)
        self._meeting.barrier.wait()
        return found

    def Allreduce(self, V: np.ndarray | None, total: np.ndarray) -> None:
        given = self.allgather(total.copy() if V is None else V)
        assert len({(other.dtype, other.shape) for other in given}) == 1, "these ranks are not at the same call"
        total[...] = sum(given[1:], start=given[0])


def on_ranks(size: int, call: Callable[[ThreadComm], Any]) -> list[Any]:
    """What `call(comm)` gives on each rank, or the exception that it raises."""
    meeting, found = Meeting(size), [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = call(ThreadComm(meeting, rank))
        except BaseException as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def assert_is_the_run_of_one_process(result: Any, one: Any) -> None:
    """The same parameters, epochs and history but for rounding."""
    np.testing.assert_allclose(result.params.vector, one.params.vector, rtol=0, atol=1e-9)
    assert (result.stopped, result.best_epoch) == (one.stopped, one.best_epoch)
    for record, expected in zip(result.history, one.history, strict=True):
        assert record.cost == pytest.approx(expected.cost, rel=1e-9)
        assert record.validation_cost == pytest.approx(expected.validation_cost, rel=1e-9)
        assert record.validation_score == pytest.approx(expected.validation_score, rel=1e-9)
