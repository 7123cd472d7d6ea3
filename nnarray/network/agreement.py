"""What the ranks of a communicator have to agree on before they compute together."""

from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from nnarray import engine
from nnarray.backends import Backend, require_concrete
from nnarray.core.typing import Array
from nnarray.engine import Architecture, Communicator
from nnarray.network.entry import Entered

if TYPE_CHECKING:
    from nnarray.engine import Ranks

CHECKSUM = "the checksum of params"
"""Its name in error messages."""

COLUMNS = 509
"""A prime, so that no two units of a layer have all their weights in the same columns."""


class Alone:
    """A process without others, where a context of ranks does nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def end(self) -> None:
        """Nothing is to be ended."""


def together(comm: Communicator | None, call: str) -> "Ranks | Alone":
    """The ranks of a communicator, which make this call together within `with Ended(group), group as ranks:`."""
    return Alone() if comm is None else engine.Ranks(comm, call)


def agree(ranks: "Ranks", network: Architecture, entered: Entered, *numbers: float, **options: Any) -> list[float]:
    """The sums over all ranks of a few numbers, where network, parameters, their dtype and the options are the same.

    Raises ValueError on all ranks where they differ. Parameters are compared by a checksum, a custom cost
    by its presence alone.
    """
    arrays = [V for layer in entered.layers for V in layer]
    require_concrete("comm", **{f"params[{i}]": V for i, V in enumerate(arrays)})
    params = crc32(repr([checksum(V, entered.backend) for V in arrays]).encode())
    architecture = {"sizes": network.sizes, "hidden": network.hidden, "output": network.output}
    own_cost = network.own_cost is not None
    found: dict[str, Any] = {"batch_norm": network.batch_norm, "cost": own_cost}
    found |= {"backend": entered.backend.name, "dtype": entered.dtype, CHECKSUM: params}
    return ranks.agree(*numbers, **architecture, **options, **found)


def checksum(V: Array, backend: Backend) -> float:
    """The sum of the values; where the host reads them, of their bits, which no rounding hides and which is faster.

    Bits are added up in columns, so that the same values in another order are told, too.
    """
    V, own = backend.looked_into(V)
    if not own.is_host:
        return own.sum(V)
    flat = np.ascontiguousarray(own.to_numpy(V)).reshape(-1)
    even = len(flat) // 2 * 2
    bits = flat[:even].view("uint64")
    rows = len(bits) // COLUMNS
    columns = np.add.reduce(bits[: rows * COLUMNS].reshape(rows, COLUMNS), axis=0, dtype="uint64")
    return crc32(columns.tobytes() + bits[rows * COLUMNS :].tobytes() + flat[even:].tobytes())
