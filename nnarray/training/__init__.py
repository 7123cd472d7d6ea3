"""Training: optimisers, mini-batches, the loop over epochs, and its history."""

from nnarray.training.entry import train
from nnarray.training.history import Epoch, History
from nnarray.training.optimizers import Adam, GradientDescent, Momentum, Nesterov, Optimizer, RMSprop
from nnarray.training.result import DivergenceError, TrainingResult
from nnarray.training.state import Position, State

__all__ = [
    "Adam",
    "DivergenceError",
    "Epoch",
    "GradientDescent",
    "History",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "Position",
    "RMSprop",
    "State",
    "TrainingResult",
    "train",
]
