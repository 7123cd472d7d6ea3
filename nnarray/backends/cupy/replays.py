"""Programs whose runs are replays of a captured CUDA graph, in a caller's own loop.

A captured graph fixes addresses. Large or non-dense arrays are therefore part of the cache key by address: whatever
array of that layout lies there is read at each replay. Small dense arrays are copied into the graph's memory before a
replay, outputs out of it after it. So a graph keeps no array of the caller's alive. Numbers, such as the strength of a
penalty, lie in the graph's memory, too, and are stored there where they are others than before.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, RLock, get_ident
from typing import Any

import numpy as np

from nnarray.backends.cupy.cublas import WORKSPACE_BYTES, capturing_products, refusals
from nnarray.backends.cupy.graph import capture_of, captured
from nnarray.programs.graph import Graph, Input
from nnarray.programs.targets.cuda.planning import planned
from nnarray.programs.targets.cuda.program import Program

COPIED_BYTES = 2**22
"""Up to here examples are copied, such as those of a mini-batch, so that the next ones need no graph of their own.

To read and write so many takes an H200, which copies at 4.3 TB/s, 2 µs; a kernel or a product takes its host 5 to 14.
"""

CALL_BYTES = 2**24
"""Of theta and outputs, a graph copies at most so many for each kernel or product.

That takes an H200 8 µs, and a kernel or product its host 5 to 14. Beside these a replay saves the host 50 to 140 µs.
"""

MOST_BYTES, SHARE = 2**29, 16
"""Of one graph's memory, and the part of the GPU's memory that it may hold."""

SHARE_OF_ALL = 2
"""All graphs together hold at most so much more than one may."""

MOST = 16
"""How many graphs are kept: those that were replayed last."""

CREDIT, REPLAYS_A_CAPTURE = 4, 8
"""How many captures a program has for nothing, and how many replays pay for another one."""

ALIGNED = 512

PER_THREAD = 2
"""cudaStreamPerThread, which is another stream in each thread"""

ON_DEVICE = 3
"""cudaMemcpyDeviceToDevice"""


def may_replay(graph: Graph, operands: str | None) -> bool:
    """Whether a program is worth a graph, and does not write over what it is given."""
    copied = [*[x for x in graph.arrays if not x.per_example], *graph.outputs.values()]
    size = sum([rows * columns for rows, columns in (node.matrix_shape for node in copied)]) * graph.dtype.itemsize
    return not graph.over and size <= CALL_BYTES * len(planned(graph, operands).stages)


class Replays:
    """A program that is replayed where the same comes a second time, and else runs as it is.

    In a stream that the caller captures, it becomes part of the caller's graph. `several` is whether calls on the same
    arrays may come one after the other and the program has its numbers on the device; else it is never replayed.
    """

    def __init__(self, program: Program, *, several: bool) -> None:
        self._program, self.works_in_place = program, program.works_in_place
        self._may_replay = several
        inputs, graph = program.graph.inputs, program.graph
        outputs = [node for name, node in graph.outputs.items() if name != graph.result]
        self._is_array = [isinstance(x, Input) for x in inputs] + [True] * len(outputs)
        arrays = [x for x in inputs if isinstance(x, Input)]
        self._nodes = [*arrays, *outputs]
        self._first_output = len(arrays)
        self._moves = [x.per_example for x in arrays] + [False] * len(outputs)
        self._bytes = [program.memory.bytes_of(node) for node in self._nodes]
        self._dense = dict[tuple[int, tuple[int, ...]], bool]()
        self._seen = OrderedDict[Any, None]()
        self._graphs = dict[Any, Replay]()
        self._credit = float(CREDIT)

    def __call__(self, *given: Any) -> Any:
        """Queue a run on these arrays and numbers."""
        import cupy

        stream = cupy.cuda.get_current_stream()
        if stream.ptr and stream.is_capturing():
            return self._into_the_callers(stream, given)
        if not self._may_replay:
            return self._program(*given)
        arrays, key = self._looked_at(given, stream.ptr)
        graph = self._graphs.get(key) or self._captured(key, given, arrays, stream)
        if graph is None:
            return self._program(*given)
        numbers = self._program.scalars_of(given)
        return self._replayed(graph, [arrays[i] for i in graph.ins], [arrays[i] for i in graph.outs], numbers)

    def again(
        self,
        theta: Any,
        examples: Sequence[Any],
        numbers: Sequence[float],
        make: Callable[[], Any],
        spread: Callable[[Any], Sequence[Any]],
    ) -> tuple[Any, Any] | None:
        """The result and the output of a call like one that was captured, with theta as one array; None where none was.

        `make` allocates the output, of which `spread` makes what the program would be called with.
        """
        import cupy

        stream = cupy.cuda.get_current_stream()
        if not self._graphs or (stream.ptr and stream.is_capturing()):
            return None
        key: list[Any] = [_of_thread(stream.ptr), "theta", theta.data.ptr % ALIGNED]
        for i, x in enumerate(examples):
            key += x.strides, self._where(i, x)
        graph, made = self._graphs.get(tuple(key)), make()
        if graph is None:
            graph = self._graphs.get(self._looked_at(spread(made), stream.ptr)[1])
            if graph is None or not graph.takes_vectors(len(examples)):
                return None
            KEPT.add(graph, self._graphs, tuple(key))
        ins = [examples[i] if i < len(examples) else theta for i in graph.ins]
        return self._replayed(graph, ins, [made] * len(graph.outs), numbers), made

    def _replayed(self, graph: "Replay", ins: Sequence[Any], outs: Sequence[Any], numbers: Sequence[float]) -> Any:
        self._credit = min(self._credit + 1 / REPLAYS_A_CAPTURE, CREDIT)
        KEPT.used(graph)
        return graph.replay(ins, outs, tuple(numbers))

    def _looked_at(self, given: Sequence[Any], stream: int) -> tuple[list[Any], Any]:
        """The arrays of a call, and what tells graphs apart.

        Of an array that is copied that is where it begins within 512 bytes, as cuBLAS looks at how far a matrix is
        aligned, and whether it lies right behind the one before, as the layers of theta do.
        """
        arrays = [x for x, is_array in zip(given, self._is_array, strict=True) if is_array]
        key: list[Any] = [_of_thread(stream)]
        end = 0
        for i, x in enumerate(arrays):
            where, at = self._where(i, x), x.data.ptr
            key += x.strides, -1 if where < 0 and at == end and i != self._first_output else where
            end = at + self._bytes[i] if where < 0 and not self._moves[i] else 0
        return arrays, tuple(key)

    def _where(self, i: int, x: Any) -> int:
        """The address of an array that stays; of one that is copied, below -1, how far it is from a multiple of 512."""
        is_dense = self._dense.get((i, x.strides))
        if is_dense is None:
            is_dense = self._dense[i, x.strides] = bool(x.flags.c_contiguous or x.flags.f_contiguous)
        at: int = x.data.ptr
        return at if not is_dense or (self._moves[i] and self._bytes[i] > COPIED_BYTES) else -2 - at % ALIGNED

    def _captured(self, key: Any, given: Sequence[Any], arrays: list[Any], stream: Any) -> "Replay | None":
        """A graph, where this comes a second time and others were replayed since they were captured."""
        if key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > MOST:
                self._seen.popitem(last=False)
            return None
        if self._credit < 1:
            return None
        self._credit -= 1
        where = [entry for entry in key[1:] if not isinstance(entry, tuple)]
        try:
            program = self._program.suited(given)
            graph = Replay(program, given, self._is_array, where, self._bytes, self._first_output, stream, key[0])
        except MemoryError:  # of the pool, which may have room later, or of more than may be held
            return None
        except refusals():
            self._may_replay = False
            return None
        return KEPT.add(graph, self._graphs, key)

    def _into_the_callers(self, stream: Any, given: Sequence[Any]) -> Any:
        """Queue a run in a stream that the caller captures; its memory lives as long as its outputs or its result."""
        program, key = self._program.suited(given), (_of_thread(stream.ptr), capture_of(stream))
        size = program.memory.size
        workspace = KEPT.memory(WORKSPACE_BYTES, "workspace", *key)
        taken = program.allocated(KEPT.memory(size, "arena", *key) if size else None)
        program.set_numbers(taken, program.scalars_of(given))
        with capturing_products(stream, workspace):
            result = program.run(given, taken)
        made = given[-1] if len(self._nodes) > self._first_output else result
        owner = made if made.base is None else made.base
        weakref.finalize(owner, _nothing, taken, workspace).atexit = False
        return result


class Replay:
    """A captured run of a program, on one stream.

    `where` says of each array where it lies: as `Replays` does, and -1 right behind the one before. The graph's memory
    is used by one replay after the other.
    """

    def __init__(
        self,
        program: Program,
        given: Sequence[Any],
        is_array: Sequence[bool],
        where: Sequence[int],
        sizes: Sequence[int],
        first_output: int,
        stream: Any,
        stream_key: int,
    ) -> None:
        import cupy

        self.device, self.stream, self.lock = cupy.cuda.Device(), stream, Lock()
        offsets, copies, size = list[int | None](), list[list[int]](), 0
        for i, (at, length) in enumerate(zip(where, sizes, strict=True)):
            if at == -1:
                copies[-1][2] += length
            elif at < -1:
                size += -size % ALIGNED - 2 - at
                copies.append([i, size, length])
            offsets.append(None if at >= 0 else size)
            size += 0 if at >= 0 else length
        self.bytes = size + program.memory.size
        KEPT.make_room(self.bytes)
        memory, workspace = cupy.empty(size, np.uint8), KEPT.memory(WORKSPACE_BYTES, "workspace", stream_key)
        self._program, self._taken = program, program.allocated()
        self._numbers: tuple[float, ...] | None = None
        """those of the last replay"""
        self._kept = memory, workspace
        begin = memory.data.ptr
        self._in = [(begin + at, n) for i, at, n in copies if i < first_output]
        self._out = [(begin + at, n) for i, at, n in copies if i >= first_output]
        self.ins = [i for i, _, _ in copies if i < first_output]
        """of the arrays, those at which what is copied in begins"""
        self.outs = [i for i, _, _ in copies if i >= first_output]
        """and what is copied out"""
        places = iter(offsets)
        inside = [_moved(x, memory, next(places)) if is_one else x for x, is_one in zip(given, is_array, strict=True)]
        self._graph = captured(lambda: program.run(inside, self._taken), workspace)

    def takes_vectors(self, examples: int) -> bool:
        """Whether all that is copied in after so many examples is one vector, and so is what is copied out."""
        return sum([i >= examples for i in self.ins]) == 1 and len(self.outs) <= 1

    def replay(self, ins: Sequence[Any], outs: Sequence[Any], numbers: tuple[float, ...]) -> Any:
        """Queue the run with these copied in and out, whose layout is that of the capture, and with these numbers."""
        import cupy

        program, taken = self._program, self._taken.result
        copy, stream = cupy.cuda.runtime.memcpyAsync, self.stream.ptr
        result = None if taken is None else program.device.empty((), program.dtype)
        with self.lock:
            if numbers != self._numbers:
                program.set_numbers(self._taken, numbers)
                self._numbers = numbers
            for x, (place, size) in zip(ins, self._in, strict=True):
                copy(place, x.data.ptr, size, ON_DEVICE, stream)
            self._graph.launch(self.stream)
            for x, (place, size) in zip(outs, self._out, strict=True):
                copy(x.data.ptr, place, size, ON_DEVICE, stream)
            if result is not None:
                copy(result.data.ptr, taken.data.ptr, taken.nbytes, ON_DEVICE, stream)
        return result


class Kept:
    """The graphs that are kept, the one that was replayed last at the end."""

    def __init__(self) -> None:
        self._graphs = OrderedDict[Replay, tuple[dict[Any, Replay], list[Any]]]()
        self._memory: Any = weakref.WeakValueDictionary()
        self._lock = RLock()

    @property
    def bytes(self) -> int:
        """The memory that they hold on the current device."""
        import cupy

        device = cupy.cuda.Device().id
        return sum([graph.bytes for graph in list(self._graphs) if graph.device.id == device])

    def make_room(self, size: int) -> None:
        """Drop graphs until one of this size may be kept; raises MemoryError for one that is too large."""
        import cupy

        most = min(MOST_BYTES, cupy.cuda.Device().mem_info[1] // SHARE)
        if size > most:
            msg = f"a graph would hold {size} bytes, and may hold {most}"
            raise MemoryError(msg)
        with self._lock:
            while self._graphs and (len(self._graphs) >= MOST or self.bytes + size > SHARE_OF_ALL * most):
                self._drop()

    def memory(self, size: int, what: str, stream: int, capture: Any = None) -> Any:
        """Memory for what comes one after the other: the graphs of a stream, or the calls in a capture of it.

        It is cuBLAS's workspace or an arena, and lives as long as somebody has it.
        """
        import cupy

        key = cupy.cuda.Device().id, stream, capture, what, size
        found = self._memory.get(key)
        return self._memory.setdefault(key, cupy.empty(size, np.uint8)) if found is None else found

    def add(self, graph: Replay, of_program: dict[Any, Replay], key: Any) -> Replay:
        """Keep a graph as one of a program's, under this key too, and return it; or one that is there."""
        with self._lock:
            if key not in of_program:
                of_program[key] = graph
                self._graphs.setdefault(graph, (of_program, []))[1].append(key)
            return of_program[key]

    def used(self, graph: Replay) -> None:
        """Keep a graph longer than others."""
        with suppress(KeyError):  # of one that was just dropped
            self._graphs.move_to_end(graph)

    def clear(self) -> bool:
        """Drop all; whether there were any."""
        with self._lock:
            found = bool(self._graphs)
            while self._graphs:
                self._drop()
        return found

    def _drop(self) -> None:
        """Drop the graph that was not used for the longest time, once its replays are over."""
        graph, (of_program, keys) = self._graphs.popitem(last=False)
        for key in keys:
            del of_program[key]
        with graph.lock, graph.device:
            if not graph.stream.ptr or not graph.stream.is_capturing():
                graph.stream.synchronize()


KEPT = Kept()


def _moved(x: Any, memory: Any, offset: int | None) -> Any:
    """An array like x in the memory, or x itself."""
    import cupy

    return x if offset is None else cupy.ndarray(x.shape, x.dtype, memory.data + offset, x.strides)


def _of_thread(stream: int) -> int:
    """What tells streams apart."""
    return -get_ident() if stream == PER_THREAD else stream


def _nothing(*_: Any) -> None:
    pass
