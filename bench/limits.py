"""What the hardware could do at best: the matrix products of a workload alone, or one read of X.

Everything else that a contestant does (bias, activation, loss, update) comes on top of the products, so its share of
the limit is the products' time divided by its own. A network of one layer does no work to speak of on each number it
reads; there the limit is the time of reading X once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from os import sched_getaffinity
from time import perf_counter
from typing import Any

import numpy as np

from bench.contestants.base import Prepared, nothing
from bench.problems import Problem

WIDTHS = (512, 1024, 4096)
TRIAL_FLOPS, TRIAL_COLUMNS = 2e10, 1024


@dataclass(frozen=True)
class Plan:
    """How the products are done: the tile's width, how many threads do a tile each (0: BLAS's own), memory order."""

    width: int
    workers: int
    order: str

    def describe(self) -> str:
        """The plan in words."""
        threads = f"{self.workers} threads of tiles" if self.workers else "the library's own threads"
        return f"products alone, {self.width} columns at a time, {threads}, {self.order} order"


class Products:
    """W A, dZ Aᵀ and Wᵀ dZ of every layer on columns of X, into buffers made beforehand."""

    def __init__(self, problem: Problem, xp: Any, X: Any, place: Callable, plan: Plan) -> None:
        self.xp, self.X, self.plan, self.work = xp, X, plan, problem.workload
        self.W = [place(W) for W, _ in problem.layers]
        self.pool = ThreadPoolExecutor(plan.workers) if plan.workers else None
        self.buffers = [self._make_buffers(problem.dtype, place) for _ in range(max(1, plan.workers))]

    def _make_buffers(self, dtype: str, place: Callable) -> tuple[list, list]:
        one = place(np.ones(1, dtype=dtype))

        def filled(n: int, columns: int) -> Any:
            ones = one.repeat(n * columns)
            return ones.reshape(columns, n).T if self.plan.order == "F" else ones.reshape(n, columns)

        A = [filled(n, self.plan.width) for n in self.work.sizes[1:]]
        return A, [place(np.empty(tuple(W.shape), dtype=dtype)) for W in self.W]

    def run(self, m: int | None = None) -> None:
        """All products of the first m examples, batch after batch."""
        m = m or self.work.m
        for start in range(0, m, self.work.columns):
            self._batch(start, min(start + self.work.columns, m))

    def _batch(self, start: int, stop: int) -> None:
        tiles = range(start, stop, self.plan.width)
        if self.pool is None:
            return self._tiles(0, tiles, stop)
        workers = range(self.plan.workers)
        shares = [self.pool.submit(self._tiles, i, tiles[i :: len(workers)], stop) for i in workers]
        for share in shares:
            share.result()
        return None

    def _tiles(self, worker: int, tiles: range, stop: int) -> None:
        for start in tiles:
            self._tile(self.buffers[worker], start, min(start + self.plan.width, stop))

    def _tile(self, buffers: tuple[list, list], start: int, stop: int) -> None:
        matmul, columns = self.xp.matmul, stop - start
        A, dW = [self.X[:, start:stop], *(A[:, :columns] for A in buffers[0])], buffers[1]
        for l, W in enumerate(self.W):
            matmul(W, A[l], out=A[l + 1])
        if self.work.kind == "predict":
            return
        for l in range(len(self.W), 0, -1):
            matmul(A[l], A[l - 1].T, out=dW[l - 1])
            if l > 1:
                matmul(self.W[l - 1].T, A[l], out=A[l - 1])


def products_limit(problem: Problem) -> tuple[str, Prepared]:
    """The fastest plan for the products, found by trying each on some of the columns."""
    xp, place, synchronize = _place(problem.device, problem.precision)
    X, trial = place(problem.table).T, _trial_columns(problem)
    tried = []
    for plan in _plans(problem, xp):
        products = Products(problem, xp, X, place, plan)
        with _threads(plan.workers):
            products.run(min(trial, plan.width))
            synchronize()
            start = perf_counter()
            products.run(trial)
            synchronize()
        tried.append((perf_counter() - start, plan))
    best = min(tried, key=lambda pair: pair[0])[1]
    products = Products(problem, xp, X, place, best)
    if problem.device == "gpu" and (replay := _graph_of(products.run, xp)):
        return f"{best.describe()}, in one CUDA graph", Prepared(replay, _no_result, synchronize)
    return best.describe(), Prepared(_limited(products.run, best.workers), _no_result, synchronize)


def _graph_of(run: Callable[[], None], xp: Any) -> Callable[[], None] | None:
    """One replay of the products, so that launching them takes the host no time; None where they can't be captured."""
    from bench.contestants.torch_peers import graph_of

    if xp is np or xp.__name__ != "torch":
        return None  # CuPy's products refuse
    graph, _ = graph_of(run)
    return partial(_replay, graph, run)


def _replay(graph: Any, _: Any) -> None:
    """`_` holds the memory that the graph's products read and write."""
    graph.replay()


def read_limit(problem: Problem) -> tuple[str, Prepared]:
    """One read of X, by the fastest of some ways to read it: by the library's own threads or by ours, a part each."""
    xp, place, synchronize = _place(problem.device, problem.precision)
    table, w = place(problem.table), place(problem.layers[0][0][0].copy())
    readers = {"a product with one vector": lambda part: xp.matmul(part, w), "its maximum": lambda part: part.max()}
    workers = len(sched_getaffinity(0))
    runs = {(name, 0): partial(reader, table) for name, reader in readers.items()}
    if xp is np:
        parts = np.array_split(table, 4 * workers)
        runs |= {(name, workers): partial(_by_threads, reader, parts, workers) for name, reader in readers.items()}
    limited = {way: _limited(run, way[1]) for way, run in runs.items()}
    best = min(limited, key=lambda way: _best_of(limited[way], synchronize))
    threads = f"{best[1]} threads" if best[1] else "the library's own threads"
    return f"one read of X, {best[0]}, {threads}", Prepared(limited[best], _no_result, synchronize)


def limit_of(problem: Problem) -> tuple[str, Prepared]:
    """The limit of this workload, in words and ready to be timed."""
    return read_limit(problem) if len(problem.layers) == 1 else products_limit(problem)


def _plans(problem: Problem, xp: Any) -> Iterator[Plan]:
    full, cores = problem.workload.columns, len(sched_getaffinity(0))
    split = max(full // cores, 1)
    widths = sorted({width for width in (*WIDTHS, split) if width <= min(_trial_columns(problem), 4096)} | {full})
    if xp is not np:
        yield from (Plan(full, 0, order) for order in ("C", "F"))
        return
    for width, order in product(widths, "CF"):
        yield Plan(width, 0, order)
        if width < full:
            yield Plan(width, cores, order)


def _trial_columns(problem: Problem) -> int:
    work = problem.workload
    affordable = max(int(TRIAL_FLOPS / work.flops * work.m), TRIAL_COLUMNS)
    if work.batch_size:
        affordable = max(affordable // work.batch_size, 1) * work.batch_size
    return min(work.m, affordable)


def _place(device: str, precision: str) -> tuple[Any, Callable, Callable]:
    if device == "cpu":
        return np, np.asarray, nothing
    from bench.contestants.settings import no_gpu

    if no_gpu("torch") is None:
        import torch

        dtype = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(precision, torch.float32)
        return torch, lambda x: torch.from_numpy(x).cuda().to(dtype), torch.cuda.synchronize
    import cupy

    return cupy, cupy.asarray, cupy.cuda.Device().synchronize


def _threads(workers: int) -> AbstractContextManager[Any]:
    if not workers:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _limited(run: Callable, workers: int) -> Callable[[], None]:
    def limited() -> None:
        with _threads(workers):
            run()

    return limited


def _by_threads(reader: Callable, parts: list[np.ndarray], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(reader, parts))


def _best_of(run: Callable, synchronize: Callable) -> float:
    taken = []
    for _ in range(3):
        start = perf_counter()
        run()
        synchronize()
        taken.append(perf_counter() - start)
    return min(taken)


def _no_result() -> Any:
    msg = "a limit computes no gradient"
    raise NotImplementedError(msg)
