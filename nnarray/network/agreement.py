"""What the ranks of a communicator have to agree on before they compute together."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nnarray.backends import require_concrete
from nnarray.engine import Communicator, Ranks
from nnarray.network.entry import Place


def together(comm: Communicator | None) -> AbstractContextManager[Ranks | None]:
    """The block in which the ranks of a communicator compute as one; without one, a block that does nothing."""
    return nullcontext() if comm is None else Ranks(comm)


def agree(ranks: Ranks, place: Place, **options: Any) -> None:
    """Raise ValueError on all ranks where parameters, their dtype or the options differ; parameters by their sum."""
    arrays = [V for layer in place.layers for V in layer]
    require_concrete("comm", **{f"params[{i}]": V for i, V in enumerate(arrays)})
    params = sum(place.backend.sum(V) for V in arrays)
    ranks.agree(**options, dtype=place.dtype, **{"the sum of params": params})
