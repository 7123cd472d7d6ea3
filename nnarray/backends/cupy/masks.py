"""Masks of inverted dropout, drawn on the GPU: the same bits that NumPy draws on the host."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nnarray.core.typing import Array
from nnarray.programs.targets.cuda.loops import THREADS
from nnarray.programs.targets.cuda.masks import source, stream_table

if TYPE_CHECKING:
    from nnarray.backends.cupy.device import CupyDevice

MOST_BLOCKS = 1024
"""A power of two, as THREADS is; some 2 × 10⁵ threads fill an H200."""


def drawn_on_gpu(
    gpu: "CupyDevice",
    device: Any,
    bits: "np.random.PCG64",
    first: int,
    shape: tuple[int, int],
    rate: float,
    dtype: str,
) -> Array:
    """As `backends.masks.drawn_by_numpy`, on the current GPU, the `device`, queued on the current stream."""
    n, columns = shape
    D = gpu.empty((columns, n), dtype)
    state = bits.state["state"]
    stream = _table(gpu, device, int(state["state"]), int(state["inc"]))
    blocks = min(MOST_BLOCKS, 1 << max(0, -(-D.size // (2 * THREADS)) - 1).bit_length())
    draw = _kernel(gpu, "double" if dtype == "float64" else "float")
    places = gpu.place(D)[0], D.size, gpu.place(stream)[0], 0
    draw(blocks, THREADS, (*places, first, rate, 1 / (1 - rate)))
    return D.T


@lru_cache(maxsize=8)
def _table(gpu: "CupyDevice", _: Any, state: int, increment: int) -> Any:
    return gpu.constant(np.array(stream_table(state, increment), np.uint64))


@lru_cache(maxsize=8)
def _kernel(gpu: "CupyDevice", T: str) -> Any:
    return gpu.kernel(source(T), "draw_mask")
