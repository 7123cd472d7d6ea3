"""How much at once: a batch cut into tiles of columns, who computes them, and how they are added up."""

import importlib
from typing import TYPE_CHECKING, Any

from nnarray.engine import batch_norm, native_calls, replayed
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.columns import Order, TileColumns
from nnarray.engine.communicator import Communicator
from nnarray.engine.compute import (
    activations,
    cost,
    cost_and_gradients,
    cost_from_sum,
    cost_of,
    gradients_from_sums,
    predict,
    pull,
)
from nnarray.engine.equations import numbers_of_cost
from nnarray.engine.host import HostColumns, stays_on_host
from nnarray.engine.rules import Rule
from nnarray.engine.threads import ThreadsOfARun, ThreadsOfSteps
from nnarray.engine.tiling import tile_width
from nnarray.engine.training_steps import compiled_steps
from nnarray.engine.updates import update

if TYPE_CHECKING:
    from nnarray.engine import batch_norm_ranks, ranks
    from nnarray.engine.ranks import RankError, Ranks


def __getattr__(name: str) -> Any:
    """Load what ranks need where there are some."""
    if name in ("batch_norm_ranks", "ranks"):
        return importlib.import_module(f"nnarray.engine.{name}")
    if name in ("RankError", "Ranks"):
        return getattr(importlib.import_module("nnarray.engine.ranks"), name)
    msg = f"module 'nnarray.engine' has no attribute {name!r}"
    raise AttributeError(msg)


__all__ = [
    "Architecture",
    "Batch",
    "Communicator",
    "HostColumns",
    "Order",
    "RankError",
    "Ranks",
    "Rule",
    "ThreadsOfARun",
    "ThreadsOfSteps",
    "TileColumns",
    "activations",
    "batch_norm",
    "batch_norm_ranks",
    "compiled_steps",
    "cost",
    "cost_and_gradients",
    "cost_from_sum",
    "cost_of",
    "gradients_from_sums",
    "native_calls",
    "numbers_of_cost",
    "predict",
    "pull",
    "ranks",
    "replayed",
    "stays_on_host",
    "tile_width",
    "update",
]
