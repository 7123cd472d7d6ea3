"""How much at once: today the whole batch in one piece. Cutting it into tiles of columns belongs here."""

from nnarray.engine.batch import Architecture, Batch, cost_and_gradients, cost_and_prediction, cost_of, predict

__all__ = ["Architecture", "Batch", "cost_and_gradients", "cost_and_prediction", "cost_of", "predict"]
