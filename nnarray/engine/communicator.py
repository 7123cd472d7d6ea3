"""A communicator, whose ranks compute together: `ranks` is what they do."""

from typing import Any, Protocol


class Communicator(Protocol):
    """What is asked of mpi4py's communicators."""

    rank: int
    size: int

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        """The sums over all ranks, entry by entry; without a sendbuf, of what the recvbuf holds."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """What every rank gives."""
