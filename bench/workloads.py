"""The work that is timed: architectures, batch sizes and what is done with them, by name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

KINDS = ("step", "predict", "epoch")
QUICK_EXAMPLES = 256


@dataclass(frozen=True)
class Workload:
    """One piece of work on a network of these sizes.

    `kind` is "step" (forward, backpropagation and update over the full batch), "predict" (forward alone) or "epoch"
    (Adam over all m examples in batches of `batch_size`).
    """

    name: str
    sizes: tuple[int, ...]
    m: int
    hidden: str = "relu"
    output: str = "sigmoid"
    kind: str = "step"
    batch_size: int | None = None

    @property
    def columns(self) -> int:
        """How many examples one product spans."""
        return self.batch_size or self.m

    @property
    def weights(self) -> int:
        """Σ n[l] n[l-1], the multiplications of one example's forward pass."""
        return sum(n_prev * n for n_prev, n in pairwise(self.sizes))

    @property
    def flops(self) -> int:
        """Operations of the matrix products alone: W A, dZ Aᵀ and, above layer 1, Wᵀ dZ."""
        forward = 2 * self.m * self.weights
        if self.kind == "predict":
            return forward
        return 3 * forward - 2 * self.m * self.sizes[0] * self.sizes[1]

    def quick(self) -> "Workload":
        """The same architecture on few examples."""
        return replace(self, m=min(self.m, max(QUICK_EXAMPLES, 2 * (self.batch_size or 0))))

    def describe(self) -> str:
        """Sizes, examples and kind in one line."""
        sizes = ", ".join(str(n) for n in self.sizes)
        hidden = f" {self.hidden}" if len(self.sizes) > 2 else ""
        batch = f", Adam epoch in batches of {self.batch_size}" if self.kind == "epoch" else f", {self.kind}"
        return f"({sizes}){hidden} {self.output}, m = {self.m:,}{batch}"


DEEP = (784, 512, 512, 10)
WIDE = (2048, 2048, 2048, 10)
WIDER = (4096, 4096, 4096, 4096, 10)
LECTURE = (2, 3, 5, 4, 2, 1)
NARROW = (100, 64, 64, 64, 1)

CPU = (
    Workload("logistic", (1200, 1), 100_000),
    Workload("logistic-wide", (12288, 1), 10_000),
    Workload("shallow", (1200, 256, 1), 50_000),
    Workload("deep", DEEP, 60_000, output="softmax"),
    Workload("narrow-relu", NARROW, 200_000),
    Workload("narrow-tanh", NARROW, 200_000, hidden="tanh"),
    Workload("wide", WIDE, 8_000, output="softmax"),
    Workload("lecture", LECTURE, 400),
    Workload("minibatch-128", DEEP, 12_288, output="softmax", kind="epoch", batch_size=128),
    Workload("minibatch-1024", DEEP, 12_288, output="softmax", kind="epoch", batch_size=1024),
    Workload("predict-deep", DEEP, 60_000, output="softmax", kind="predict"),
)
GPU = (
    Workload("gpu-logistic-wide", (12288, 1), 100_000),
    Workload("gpu-logistic", (1200, 1), 1_000_000),
    Workload("gpu-shallow", (1200, 256, 1), 1_000_000),
    Workload("gpu-deep", DEEP, 60_000, output="softmax"),
    Workload("gpu-deep-1m", DEEP, 1_000_000, output="softmax"),
    Workload("gpu-wide", WIDER, 65_536, output="softmax"),
    Workload("gpu-lecture", LECTURE, 400),
    Workload("gpu-minibatch-128", DEEP, 61_440, output="softmax", kind="epoch", batch_size=128),
    Workload("gpu-minibatch-1024", DEEP, 61_440, output="softmax", kind="epoch", batch_size=1024),
    Workload("gpu-predict-deep", DEEP, 1_000_000, output="softmax", kind="predict"),
)
SETS = {"cpu": CPU, "gpu": GPU}


def by_name(names: str) -> Iterator[Workload]:
    """The workloads of a comma-separated list of names; raises ValueError for one that is none."""
    known = {workload.name: workload for workload in CPU + GPU}
    for name in names.split(","):
        if name not in known:
            msg = f"there is no workload {name!r}; the workloads are {', '.join(known)}"
            raise ValueError(msg)
        yield known[name]
