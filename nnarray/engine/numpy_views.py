"""A batch and layers that lie in another library's memory, as NumPy computes with them there: torch's, on the CPU."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nnarray.backends import NUMPY, Backend
from nnarray.core.typing import Array, Layers
from nnarray.engine.batch import Architecture, Batch
from nnarray.engine.columns import Order


def as_numpy(batch: Batch, layers: Layers, network: Architecture, backend: Backend) -> tuple[Batch, Any] | None:
    """The same in NumPy's arrays, in the same memory; None where it cannot read that, or must not compute with it.

    It must not with a cost of the caller's own, which may call the library, nor where the environment asks for core's
    functions alone.
    """
    if backend.compiles or not NUMPY.compiles or network.own_cost is not None or network.reported_loss is not None:
        return None
    examples = [V for V in (batch.X, batch.Y, batch.weights) if V is not None]
    shared = backend.shared_with_numpy([*examples, *[V for layer in layers for V in layer]])
    if shared is None:
        return None
    views = iter(shared)
    X, Y, weights = (V if V is None else next(views) for V in (batch.X, batch.Y, batch.weights))
    order = None if batch.order is None else Order(batch.order.on_host, batch.order.on_host)
    masks = [_on_host(draw, backend) for draw in batch.draw_masks]
    input_mask = None if batch.draw_input_mask is None else _on_host(batch.draw_input_mask, backend)
    own = Batch(X, Y, _number(batch.m, backend), weights, order, masks, input_mask)
    return own, [tuple([next(views) for _ in layer]) for layer in layers]


def _number(m: Any, backend: Backend) -> Any:
    return m if isinstance(m, int | float | np.generic) else backend.to_numpy(m)[()]


def _on_host(draw: Callable[[int, int], Array], backend: Backend) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: backend.to_numpy(draw(start, stop))
