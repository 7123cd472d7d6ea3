"""A training step on mini-batches as one CUDA graph: captured once, then replayed with one call per step.

The graph gathers the batch, runs the programs of the gradient and of the update, and advances: a counter in device
memory says which step of the epoch it is, so everything that changes from step to step is data that kernels read.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nnarray.backends.cupy.cublas import capturing_products
from nnarray.programs.products import strides_in_entries
from nnarray.programs.targets.cuda.program import Program
from nnarray.programs.targets.cuda.training_step import source
from nnarray.programs.training_step import StepArrays

THREADS = 256
"""of a block"""

WORKSPACE_BYTES = 32 * 2**20
"""Of cuBLAS, as large as NVIDIA recommends for Hopper; a captured product may not allocate its own."""


class GraphedSteps:
    """Steps on batches of `columns` columns, of which an epoch has at most `steps`.

    `gradient` and `update` are programs with their numbers on the device. Raises RuntimeError where CUDA or cuBLAS
    refuses to capture them, MemoryError where they do not fit.
    """

    def __init__(self, gradient: Program, update: Program, arrays: StepArrays, *, columns: int, steps: int) -> None:
        import cupy

        self._cupy, self._gradient, self._update, self.vectors = cupy, gradient, update, arrays.vectors
        dtype = arrays.g.dtype
        counts = len(gradient.number_slots), len(update.number_slots)
        self._order = cupy.zeros(steps * columns, np.int64)
        self._step = cupy.zeros((), np.int64)
        self._table = cupy.zeros((steps + 1, sum(counts)), np.float64)
        self._numbers = cupy.zeros(sum(counts), np.float64)
        self.costs = cupy.empty(steps, dtype)
        self._batch = [cupy.empty((columns, V.shape[0]), dtype).T for V in arrays.examples]
        self._kept: list[Any] = [arrays]
        workspace = cupy.empty(WORKSPACE_BYTES, np.uint8)
        self._kept.append(workspace)
        module = _module("double" if dtype == np.float64 else "float")
        gather, next_step = module.get_function("gather_columns"), module.get_function("next_step")

        def step() -> None:
            for V, batch in zip(arrays.examples, self._batch, strict=True):
                rows, blocks = V.shape[0], -(-V.size // V.shape[1] * columns // THREADS)
                down, across = strides_in_entries(V.strides, V.itemsize)
                gather((blocks,), (THREADS,), (V, down, across, rows, batch, columns, self._order, self._step))
            numbers_at = self._numbers.data.ptr
            given = [*self._batch, *arrays.layers, *[None] * gradient.scalars, *arrays.gradients]
            J = gradient.run(given, self._kept, numbers_at)
            self._kept.append(J)
            given = [*arrays.vectors, arrays.g, None, None, *arrays.vectors]
            update.run(given, self._kept, numbers_at + 8 * counts[0])
            next_step((1,), (1,), (self._step, J, self.costs, self._numbers, self._table, sum(counts)))

        stream = cupy.cuda.Stream(non_blocking=True)
        with capturing_products(stream, workspace), stream:
            begin_capture(stream)
            try:
                step()
            finally:
                self._graph = stream.end_capture()
        self._kept.append(stream)

    def begin(self, order: Any, numbers: Sequence[tuple[Sequence[float], Sequence[float]]], _: Any) -> None:
        """Begin an epoch: the `order` of the columns, on the device, and of each step what both programs are given."""
        table = np.array([[*self._gradient.numbers(*one), *self._update.numbers(*other)] for one, other in numbers])
        self._order[: order.shape[0]] = order
        self._table[: len(numbers)].set(table.reshape(len(numbers), -1))
        self._numbers[...] = self._table[0]
        self._step.fill(0)

    def launch(self, count: int) -> None:
        """Queue the next `count` steps on the current stream."""
        for _ in range(count):
            self._graph.launch(self._cupy.cuda.get_current_stream())


def begin_capture(stream: Any) -> None:
    """Let the stream record what is queued on it; raises CuPy's CUDARuntimeError where it cannot."""
    stream.begin_capture()


@lru_cache(maxsize=16)
def _module(T: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(T))
