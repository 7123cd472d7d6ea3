"""What the harness needs of a contestant."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.agreement import Result
from bench.problems import Problem
from bench.workloads import Workload


def nothing() -> None:
    """Nothing to wait for."""


@dataclass(frozen=True)
class Prepared:
    """A contestant with the data and the first parameters in its own form.

    `run` does the work once and may return before the device is done, which `synchronize` waits for; of an epoch it
    returns the mean cost. `result` computes the cost and gradient, or the prediction, for the check, at the first
    parameters: it is called before `run`.
    """

    run: Callable[[], float | None]
    result: Callable[[], Result]
    synchronize: Callable[[], None] = field(default=nothing)


class Contestant:
    """One way to do the work: an nnarray backend or a peer. Subclasses import their library only when asked to run."""

    name = ""
    library = "numpy"
    is_peer = True
    precisions: tuple[str, ...] = ("float32", "float64")
    devices: tuple[str, ...] = ("cpu",)
    compiles = False
    """Whether the first run of a shape compiles, which takes memory that later runs don't."""

    def unavailable(self, device: str) -> str | None:
        """Why it can't run on this machine and device; None where it can."""
        if device not in self.devices:
            return f"does not run on the {device}"
        return self.missing(device)

    def missing(self, device: str) -> str | None:
        """What it needs and this machine lacks; None where all is there."""
        return None

    def unfit(self, workload: Workload, precision: str) -> str | None:
        """Why it can't do the same work; None where it can."""
        return None if precision in self.precisions else f"does not compute in {precision}"

    def prepare(self, problem: Problem) -> Prepared:
        """The problem in the contestant's own form, ready to run."""
        return getattr(self, problem.workload.kind)(problem)
