"""How much at once: the batch as columns, their sums, and who computes them."""

from nnarray.engine.batch import Architecture, Batch, cost, cost_and_gradients, predict

__all__ = ["Architecture", "Batch", "cost", "cost_and_gradients", "predict"]
