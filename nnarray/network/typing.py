"""What type checkers know of a caller's arrays and keywords."""

from typing import Any, Protocol, TypedDict, TypeVar

from nnarray.engine import Communicator
from nnarray.network.costs import Cost


class OnDevice(Protocol):
    """An array that is somewhere: of NumPy, CuPy, torch or JAX, and none of dask, nor a list."""

    @property
    def shape(self) -> Any: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    @property
    def device(self) -> Any: ...  # noqa: D102


ArrayT = TypeVar("ArrayT", bound=OnDevice)
"""The type of X, which what is computed of X has, too."""


class CostOptions(TypedDict, total=False):
    """The keywords of `Network.cost` and `Network.gradients`."""

    l2: float
    l1: float
    weights: Any
    cost: Cost | None
    workers: int | None
    comm: Communicator | None
