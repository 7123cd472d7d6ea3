"""What the ranks of a communicator have to agree on before they compute together."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nnarray.backends import require_concrete
from nnarray.engine import Architecture, Communicator, Ranks
from nnarray.network.entry import Place


def together(comm: Communicator | None) -> AbstractContextManager[Ranks | None]:
    """The block in which the ranks of a communicator compute as one; without one, a block that does nothing."""
    return nullcontext() if comm is None else Ranks(comm)


def agree(ranks: Ranks, network: Architecture, place: Place, **options: Any) -> None:
    """Raise ValueError on all ranks where network, parameters, their dtype or the options differ.

    Parameters are compared by their sum, a cost of the caller's own by whether there is one.
    """
    arrays = [V for layer in place.layers for V in layer]
    require_concrete("comm", **{f"params[{i}]": V for i, V in enumerate(arrays)})
    params = sum(place.backend.sum(V) for V in arrays)
    architecture = {"sizes": network.sizes, "hidden": network.hidden, "output": network.output}
    own_cost = network.own_cost is not None
    ranks.agree(**architecture, cost=own_cost, **options, dtype=place.dtype, **{"the sum of params": params})
