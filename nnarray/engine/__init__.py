"""How much at once: a batch cut into tiles of columns, who computes them, and how they are added up."""

from nnarray.engine import batch_norm, batch_norm_ranks, native_calls, ranks, replayed
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.columns import Order, TileColumns
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
from nnarray.engine.ranks import Communicator, RankError, Ranks
from nnarray.engine.rules import Rule
from nnarray.engine.threads import ThreadsOfARun, ThreadsOfSteps
from nnarray.engine.tiling import tile_width
from nnarray.engine.training_steps import compiled_steps
from nnarray.engine.updates import update

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
