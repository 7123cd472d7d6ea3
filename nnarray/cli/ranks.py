"""The command line under mpiexec: every rank trains on its share of the rows, and the first one speaks and writes.

To train, each rank reads the whole table, so that categories, means and medians are those of all rows. All other
commands are the first one's alone.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from nnarray.backends import Ended
from nnarray.cli.errors import CommandError
from nnarray.cli.output import note
from nnarray.engine import Ranks

LAUNCHED = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""What mpiexec sets in the environment, by its kind; elsewhere mpi4py is not imported."""

LAUNCHERS = ("hydra_pmi_proxy", "pmi_proxy", "mpiexec.gforker", "mpiexec", "mpirun", "orted", "prted", "slurmstepd")
"""Processes, by the names that Linux gives them, whose children all run one command; a shell's may run others."""

PLAIN = (str, int, float, list)
"""Kinds of options that ranks compare."""


def communicator(data: str) -> Any:
    """That of all ranks; None where there is one process.

    Raises CommandError for a table that one of them alone could read.
    """
    if _rank() is None:
        return None
    if data == "-":
        msg = "under mpiexec, every rank reads the table, and standard input is that of one; give a file"
        raise CommandError(msg)
    try:
        from mpi4py import MPI
    except ImportError:
        msg = 'under mpiexec, nnarray train needs mpi4py; pip install "nnarray[mpi]"'
        raise CommandError(msg) from None
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None


@contextmanager
def prepared_by_all(comm: Any, arguments: argparse.Namespace) -> Iterator[None]:
    """A block at whose end all ranks know whether another failed in it, or was given another command."""
    if comm is None:
        yield
        return
    ranks = Ranks(comm, "nnarray train")
    with Ended(ranks), ranks:
        yield
        given = vars(arguments).items()
        ranks.agree(**{name: value for name, value in given if isinstance(value, PLAIN) or value is None})


def share(V: Any, comm: Any) -> Any:
    """The rank's columns of an array whose last axis is the examples; all where there is one process."""
    if comm is None or V is None:
        return V
    m = V.shape[-1]
    return V[..., m * comm.rank // comm.size : m * (comm.rank + 1) // comm.size]


@contextmanager
def first_speaks(words: Sequence[str]) -> Iterator[None]:
    """A block in which other ranks than the first are silent, where training runs on several."""
    if list(words[:1]) != ["train"] or _rank() in (None, 0):
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def is_of_the_first(words: Sequence[str]) -> bool:
    """Whether this is another rank than the first, of a command that the first one runs for all."""
    return list(words[:1]) != ["train"] and _rank() not in (None, 0) and _is_launched()


def require_one_command(words: Sequence[str]) -> None:
    """End all ranks with a message where this one is given another command than `train`, for which others wait.

    So it is with `mpiexec -n 1 nnarray train … : -n 1 nnarray info …`. Raises CommandError without mpi4py.
    """
    if not words or words[0] == "train" or _rank() is None or not _is_launched():
        return
    mine = _command_of(os.getpid())
    train = [*mine[: len(mine) - len(words)], "train"]
    if not any(_command_of(pid)[: len(train)] == train for pid in _launched_beside()):
        return
    msg = f"under mpiexec, all ranks must be given one command, got {words[0]} beside train"
    try:
        from mpi4py import MPI
    except ImportError:
        raise CommandError(msg) from None
    note(f"nnarray: error: {msg}")
    MPI.COMM_WORLD.Abort(2)  # a launcher goes on for the others where a rank ends that was none of MPI's yet


def _is_launched() -> bool:
    """Whether the launcher itself started this process, and so the same command on all ranks."""
    try:
        parent = Path(f"/proc/{os.getppid()}/comm").read_text()
    except OSError:  # another system than Linux
        return False
    return parent.strip() in LAUNCHERS


def _launched_beside() -> list[int]:
    """The launcher's other processes on this machine."""
    with suppress(OSError):
        threads = list(Path(f"/proc/{os.getppid()}/task").iterdir())
        return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    return []


def _command_of(pid: int) -> list[str]:
    """What the process was started with; nothing for one that is gone."""
    with suppress(OSError):
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
    return []


def _rank() -> int | None:
    """The rank of this process, as its launcher says; None without one."""
    found = [os.environ[name] for name in LAUNCHED if name in os.environ]
    return int(found[0]) if found and found[0].isdigit() else None
