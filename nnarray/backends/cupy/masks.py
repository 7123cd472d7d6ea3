"""Masks of inverted dropout, drawn on the GPU: the same bits that NumPy draws on the host."""

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from nnarray.core.typing import Array
from nnarray.programs.targets.cuda.loops import THREADS
from nnarray.programs.targets.cuda.masks import JUMPS, LAYOUT, source, stream_table
from nnarray.programs.training_step import StepMasks

if TYPE_CHECKING:
    from nnarray.backends.cupy.device import CupyDevice

MOST_BLOCKS = 1024
"""A power of two, as THREADS is; some 2 × 10⁵ threads fill an H200."""

MOST_TABLES = 64
"""of one GPU, of 2 kB"""

_tables = dict[Any, dict[tuple[int, ...], Any]]()

_lock = Lock()
"""Held from when a table is looked up until what reads it is queued."""


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
    D = gpu.empty((columns, n), dtype).T
    with _lock:
        queue_draw(gpu, D, _table(gpu, device, *state_of(bits)), first, rate)
    return D


def queue_draw(
    gpu: "CupyDevice", D: Array, table: Any, first: int, rate: float, captured: tuple[int, int, int] = (0, 0, 0)
) -> None:
    """Queue the drawing of a mask (n, columns), each column contiguous, from the stream of a table.

    In a captured step, `first` is counted from where the step's masks begin; `captured` says where on the device lie
    the position from which step 0 draws and the number of the step, and how many words a step takes.
    """
    blocks = min(MOST_BLOCKS, 1 << max(0, -(-D.size // (2 * THREADS)) - 1).bit_length())
    places = gpu.place(D)[0], D.size, gpu.place(table)[0]
    _kernel(gpu, _type_of(D))(blocks, THREADS, (*places, first, rate, 1 / (1 - rate), *captured))


def state_of(bits: "np.random.PCG64") -> tuple[int, int]:
    """The generator's state and increment."""
    state = bits.state["state"]
    return int(state["state"]), int(state["inc"])


def table_of(state: int, increment: int) -> np.ndarray:
    """What the kernel reads of a stream."""
    return np.array(stream_table(state, increment), np.uint64)


def _table(gpu: "CupyDevice", device: Any, *stream: int) -> Any:
    """The table of a stream; before old ones are dropped, the kernels that read them are over, on whatever stream."""
    tables = _tables.setdefault((gpu, device), {})
    if stream not in tables:
        if len(tables) >= MOST_TABLES:
            gpu.wait()
            tables.clear()
        tables[stream] = gpu.constant(table_of(*stream))
    return tables[stream]


def _type_of(D: Array) -> str:
    return "double" if D.dtype == np.float64 else "float"


@lru_cache(maxsize=8)
def _kernel(gpu: "CupyDevice", T: str) -> Any:
    return gpu.kernel(source(T), "draw_mask", LAYOUT)


class GraphedMasks:
    """The masks of captured steps; the stream and the position in it lie on the device, where a replay reads them."""

    def __init__(self, gpu: Any, masks: StepMasks, columns: int, dtype: Any) -> None:
        self._gpu, self._masks = gpu, masks
        self.arrays = [self._gpu.empty((columns, n), dtype).T for _, n, _ in masks.units]
        self._table = self._gpu.empty((2 + 4 * JUMPS,), np.uint64)
        self._position = self._gpu.empty((1,), np.int64)
        self._stream: tuple[int, int] | None = None
        _kernel(self._gpu, _type_of(self.arrays[0]))  # compiled before anything is captured

    def queue(self, step: Array) -> None:
        """Queue the drawing of a step's masks; the array `step` counts steps."""
        position, count = self._gpu.place(self._position)[0], self._gpu.place(step)[0]
        for D, (word, _, rate) in zip(self.arrays, self._masks.units, strict=True):
            queue_draw(self._gpu, D, self._table, 2 * word, rate, (position, count, self._masks.words))

    def draw_from(self, bits: "np.random.PCG64", position: int) -> None:
        """Let step 0 draw from this position on of the stream."""
        if self._stream != (stream := state_of(bits)):
            self._table.set(table_of(*stream))
            self._stream = stream
        self._position.fill(position)
