"""Who takes part: nnarray on each of its backends, and the peers."""

from bench.contestants.base import Contestant, Prepared
from bench.contestants.jax_peer import Jax
from bench.contestants.nnarray_backends import NNArray
from bench.contestants.plain import Plain
from bench.contestants.sklearn_peer import ScikitLearn
from bench.contestants.torch_peers import Torch, TorchCompile, TorchGraph

BACKENDS = ("numpy", "cupy", "torch", "jax")

CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        *(NNArray(backend) for backend in BACKENDS),
        Plain("numpy"),
        Plain("cupy"),
        Torch(),
        TorchCompile(),
        TorchGraph(),
        Jax(),
        ScikitLearn(),
    )
}

__all__ = ["BACKENDS", "CONTESTANTS", "Contestant", "Prepared", "choose"]


def choose(names: str | None = None, backends: str | None = None, peers: str | None = None) -> list[Contestant]:
    """The contestants of a comma-separated list of names, else of lists of nnarray backends and of peers, else all.

    `peers` may be "none". Raises ValueError for a name that is none.
    """
    if names is not None:
        wanted = names.split(",")
    else:
        ours = BACKENDS if backends is None else backends.split(",")
        theirs = [c.name for c in CONTESTANTS.values() if c.is_peer] if peers is None else peers.split(",")
        wanted = [f"nnarray-{backend}" for backend in ours] + [name for name in theirs if name != "none"]
    unknown = [name for name in wanted if name not in CONTESTANTS]
    if unknown:
        msg = f"there is no contestant {unknown[0]!r}; the contestants are {', '.join(CONTESTANTS)}"
        raise ValueError(msg)
    return [CONTESTANTS[name] for name in wanted]
