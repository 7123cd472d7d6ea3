"""A training step as one CUDA graph: captured once, then replayed with one call per step.

The graph gathers the batch, unless it is all examples as they stand, runs the programs of the gradient and of the
update, and advances: a counter in device memory says which step of the epoch it is, so everything that changes from
step to step is data that kernels read.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from nnarray.backends.cupy.cublas import WORKSPACE_BYTES, capturing_products
from nnarray.backends.cupy.masks import GraphedMasks
from nnarray.programs.products import strides_in_entries
from nnarray.programs.targets.cuda.loops import THREADS
from nnarray.programs.targets.cuda.program import Program
from nnarray.programs.targets.cuda.training_step import source
from nnarray.programs.training_step import StepArrays

CAPTURING = 1
"""CU_STREAM_CAPTURE_STATUS_ACTIVE"""


class GraphedSteps:
    """Steps on batches of `columns` columns, of which an epoch has at most `steps`; or on all columns, as they stand.

    `gradient` and `update` are programs with their numbers on the device. Raises RuntimeError where CUDA or cuBLAS
    refuses to capture them, MemoryError where they do not fit.
    """

    def __init__(self, gradient: Program, update: Program, arrays: StepArrays, *, columns: int, steps: int) -> None:
        import cupy

        dtype = arrays.g.dtype
        is_whole = columns == arrays.examples[0].shape[1]
        batch = arrays.examples
        if not is_whole:
            batch = [cupy.empty((columns, V.shape[0]), V.dtype).T for V in arrays.examples]
        self._masks = None if arrays.masks is None else GraphedMasks(gradient.device, arrays.masks, columns, dtype)
        masks = [] if self._masks is None else self._masks.arrays
        given = [*batch, *masks, *arrays.layers, *[None] * gradient.scalars, *arrays.gradients]
        gradient = gradient.suited(given)
        self._cupy, self._gradient, self._update, self.vectors = cupy, gradient, update, arrays.vectors
        counts = len(gradient.number_slots), len(update.number_slots)
        self._order = cupy.zeros(0 if is_whole else steps * columns, np.int64)
        self._state = cupy.zeros(1 + (steps + 2) * sum(counts), np.float64)
        self.costs = cupy.empty(steps, dtype)
        workspace = cupy.empty(WORKSPACE_BYTES, np.uint8)
        of_gradient, of_update = gradient.allocated(), update.allocated()
        self._kept = arrays, batch, workspace, of_gradient, of_update
        gathers = [_module(V.itemsize).get_function("gather_columns") for V in arrays.examples]
        next_step = _module(dtype.itemsize).get_function("next_step")
        step_at = self._state[:1].view(np.int64)
        numbers, table = self._state[1 : 1 + sum(counts)], self._state[1 + sum(counts) :]
        numbers_at = numbers.data.ptr

        def step() -> None:
            for gather, V, part in zip([] if is_whole else gathers, arrays.examples, batch, strict=False):
                rows, blocks = V.shape[0], -(-part.size // THREADS)
                down, across = strides_in_entries(V.strides, V.itemsize)
                gather((blocks,), (THREADS,), (V, down, across, rows, part, columns, self._order, step_at))
            if self._masks is not None:
                self._masks.queue(step_at)
            J = gradient.run(given, of_gradient, numbers_at)
            of_both = [*arrays.vectors, arrays.g, None, None, *arrays.vectors]
            update.run(of_both, of_update, numbers_at + 8 * counts[0])
            next_step((1,), (1,), (step_at, J, self.costs, numbers, table, sum(counts)))

        self._graph = captured(step, workspace)

    def begin(self, order: Any, numbers: Sequence[tuple[Sequence[float], Sequence[float]]], _: Any) -> None:
        """Begin an epoch: the `order` of the columns, on the host, and of each step what both programs are given.

        The first step's numbers stand where kernels read them, and again in the table, from which each step takes those
        of the next.
        """
        of_gradient = {one: self._gradient.numbers(*one) for one in {one for one, _ in numbers}}
        rows = [(*of_gradient[one], *self._update.numbers(*other)) for one, other in numbers]
        state = np.array([0.0, *rows[0], *chain.from_iterable(rows)])  # whose first entry is the step, an integer's 0
        if order is not None:
            self._order[: order.shape[0]].set(order)
        self._state[: state.size].set(state)

    def draw_from(self, bits: Any, position: int) -> None:
        """Draw the masks of the epoch from this position on of the stream."""
        assert self._masks is not None
        self._masks.draw_from(bits, position)

    def launch(self, count: int) -> None:
        """Queue the next `count` steps on the current stream."""
        for _ in range(count):
            self._graph.launch(self._cupy.cuda.get_current_stream())

    def mark(self) -> Callable[[], None]:
        """By an event on the current stream."""
        event = self._cupy.cuda.Event(block=True, disable_timing=True)
        event.record()
        wait: Callable[[], None] = event.synchronize
        return wait

    def release(self) -> None:
        """None: CuPy's pool has the memory as soon as nobody holds these steps."""


def captured(queue: Callable[[], None], workspace: Any) -> Any:
    """What `queue` queues on the current stream, as a graph; the `workspace` is cuBLAS's.

    Raises CuPy's CUDARuntimeError where CUDA refuses. The memory that the graph uses, the workspace too, has to be
    there before, and live as long as the graph.
    """
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    with capturing_products(stream, workspace), stream, _no_collection():
        begin_capture(stream)
        try:
            queue()
        finally:
            graph = stream.end_capture()
    return graph


@contextmanager
def _no_collection() -> Iterator[None]:
    """A block in which no graph in a cycle is collected: destroying it would invalidate the capture."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def capture_of(stream: Any) -> Any:
    """What tells this capture of the stream from every other; where the driver does not, this call from every other."""
    status, number = ctypes.c_int(), ctypes.c_ulonglong()
    try:
        ask = ctypes.CDLL("libcuda.so.1").cuStreamGetCaptureInfo_v2
    except (OSError, AttributeError):
        return object()
    places = ctypes.c_void_p(stream.ptr), ctypes.byref(status), ctypes.byref(number)
    refused = ask(*places, None, None, None) or status.value != CAPTURING
    return object() if refused else number.value


def begin_capture(stream: Any) -> None:
    """Let the stream record what is queued on it; raises CuPy's CUDARuntimeError where it cannot."""
    stream.begin_capture()


@lru_cache(maxsize=16)
def _module(itemsize: int) -> Any:
    """The kernels for floats of so many bytes, of which narrow ones are only moved."""
    import cupy

    return cupy.RawModule(code=source({2: "unsigned short", 4: "float", 8: "double"}[itemsize]))
