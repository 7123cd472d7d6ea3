"""How much at once: a batch cut into tiles of columns, who computes them, and how they are added up."""

from nnarray.engine import direct
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.captured import captured_steps
from nnarray.engine.compute import Columns, cost, cost_and_gradients, cost_of, predict, pull
from nnarray.engine.host import HostColumns, stays_on_host
from nnarray.engine.rules import Rule
from nnarray.engine.threads import ManySteps
from nnarray.engine.tiling import tile_width
from nnarray.engine.updates import update

__all__ = [
    "Architecture",
    "Batch",
    "Columns",
    "HostColumns",
    "ManySteps",
    "Rule",
    "captured_steps",
    "cost",
    "cost_and_gradients",
    "cost_of",
    "direct",
    "predict",
    "pull",
    "stays_on_host",
    "tile_width",
    "update",
]
