"""What the emulated GPU refuses while a stream is captured, what a graph replays, and the null driver."""

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import backends, engine
from nnarray.backends.cupy.backend import gpu
from nnarray.network import calls

REASON = backends.unavailable_reason("cupy")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"cupy: {REASON}")


@pytest.fixture
def emulator() -> Any:
    if not hasattr(conftest, "EMULATOR"):
        pytest.skip("cupy: needs the emulated GPU")
    return conftest.EMULATOR


class Scene:
    """What a captured stream may meet, made beforehand: modules are loaded, memory is there."""

    def __init__(self) -> None:
        import cupy
        from cupy_backends.cuda.libs import cublas

        self.cupy, self.cublas, self.runtime = cupy, cublas, cupy.cuda.runtime
        self.x, self.y = cupy.arange(4.0), cupy.zeros(4)
        self.square, self.product = cupy.ones((2, 2)), cupy.zeros((2, 2))
        self.stream, self.other = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
        self.event = cupy.cuda.Event()
        self.event.record(self.other)
        cupy.add(self.x, 1.0, out=self.y)  # loads the kernel
        cupy.matmul(self.square, self.square, out=self.square.copy())
        self.place = self.runtime.malloc(64)
        self.pinned = self.runtime.hostAlloc(64, 0)
        self.host = np.zeros(4)
        self.graph = self.captured(lambda: None)
        cupy.cuda.Device().synchronize()

    def captured(self, queue: Any) -> Any:
        gc.collect()  # which would destroy the graphs of earlier tests now
        with self.stream:
            self.stream.begin_capture()
            try:
                queue()
            finally:
                graph = self.stream.end_capture()
        return graph


def copy(scene: Scene, to: int, source: int, kind: int) -> None:
    scene.runtime.memcpyAsync(to, source, 32, kind, scene.stream.ptr)


REFUSED = {
    "allocation": lambda s: s.runtime.malloc(64),
    "allocation of pinned memory": lambda s: s.runtime.hostAlloc(64, 0),
    "release": lambda s: s.runtime.free(s.place),
    "release of pinned memory": lambda s: s.runtime.freeHost(s.pinned),
    "a wait for the stream": lambda s: s.stream.synchronize(),
    "a question to the stream": lambda s: s.runtime.check_status(s.runtime.streamQuery(s.stream.ptr)),
    "a wait for the device": lambda s: s.cupy.cuda.Device().synchronize(),
    "a wait for the default stream": lambda s: s.cupy.cuda.Stream.null.synchronize(),
    "a copy to the host's pageable memory": lambda s: copy(s, s.host.ctypes.data, s.x.data.ptr, 2),
    "a copy from the host's pageable memory": lambda s: copy(s, s.x.data.ptr, s.host.ctypes.data, 1),
    "a copy that waits": lambda s: s.runtime.memcpy(s.x.data.ptr, s.y.data.ptr, 32, 3),
    "a kernel on the default stream": lambda s: on_default(s, lambda: s.cupy.add(s.x, 1.0, out=s.y)),
    "filling on the default stream": lambda s: s.runtime.memsetAsync(s.x.data.ptr, 0, 32, 0),
    "an event on the default stream": lambda s: s.event.record(s.cupy.cuda.Stream.null),
    "another graph on the default stream": lambda s: s.graph.launch(s.cupy.cuda.Stream.null),
    "waiting for an event from outside": lambda s: s.stream.wait_event(s.event),
    "CuPy's products": lambda s: s.cupy.matmul(s.square, s.square, out=s.product),
    "destroying a graph": lambda s: s.runtime.graphExecDestroy(s.graph.graphExec),
    "a new module": lambda s: s.cupy.RawModule(code='extern "C" __global__ void f() {}').get_function("f"),
}


def on_default(scene: Scene, queue: Any) -> None:
    with scene.cupy.cuda.Stream.null:
        queue()


@pytest.mark.parametrize("what", REFUSED)
def test_refused_while_captured(what, emulator) -> None:
    scene, raised = Scene(), []

    def queue() -> None:
        with pytest.raises((RuntimeError, NotImplementedError)) as found:
            REFUSED[what](scene)
        raised.append(found.value)

    if what == "CuPy's products":  # which CuPy refuses itself, before it calls cuBLAS
        scene.captured(queue)
    else:
        with pytest.raises(RuntimeError, match="refused by the emulator"):  # what was captured is invalid
            scene.captured(queue)
    assert len(raised) == 1
    scene.captured(lambda: None)  # as if nothing had been


def test_a_product_without_a_workspace_is_refused_while_captured(emulator) -> None:
    from nnarray.backends.cupy import cublas

    scene = Scene()
    workspace = scene.cupy.empty(64, np.uint8)
    blas = cublas._blas()

    def multiply(again: bool) -> Any:
        with cublas.capturing_products(scene.stream, workspace):
            handle = cublas._handle(0)
            if again:
                blas.cublasSetStream_v2(handle, cublas.ctypes.c_void_p(scene.stream.ptr))
            A = scene.square.data.ptr
            one = np.ones(1)
            return scene.captured(
                lambda: cublas.captured_product()(
                    0, 0, 0, 2, 2, 2, one.ctypes.data, A, 1, 2, A, 1, 2, one.ctypes.data, A, 1, 2, 70, -1
                )
            )

    multiply(again=False)
    with pytest.raises(RuntimeError):  # setting the stream takes the workspace away
        multiply(again=True)


class TestReplays:
    def test_arguments_are_those_of_the_capture(self, emulator) -> None:
        scene = Scene()
        alpha = 1.0
        graph = scene.captured(lambda: scene.cupy.add(scene.x, alpha, out=scene.y))
        alpha = 2.0
        scene.x += 10
        graph.launch()
        assert scene.y.get().tolist() == [11, 12, 13, 14]  # x as it is, and 1.0

    def test_a_graph_under_way_is_not_destroyed(self, emulator) -> None:
        scene = Scene()
        graph = scene.captured(lambda: scene.cupy.add(scene.x, 1.0, out=scene.y))
        graph.launch(scene.stream)
        with pytest.raises(RuntimeError):
            scene.runtime.graphExecDestroy(graph.graphExec)
        scene.stream.synchronize()

    def test_memory_that_was_released_ends_the_process(self, emulator) -> None:
        code = """
import cupy, numpy
x = cupy.cuda.UnownedMemory(cupy.cuda.runtime.malloc(32), 32, None)
x = cupy.ndarray(4, memptr=cupy.cuda.MemoryPointer(x, 0))
x += 1
stream = cupy.cuda.Stream(non_blocking=True)
with stream:
    stream.begin_capture()
    x += 1
    graph = stream.end_capture()
graph.launch(stream)
stream.synchronize()
print("replayed", flush=True)
cupy.cuda.runtime.free(x.data.ptr)
graph.launch(stream)
"""
        tests = Path(__file__).parent
        code = f"import sys; sys.path.insert(0, {str(tests)!r})\nimport emulator; emulator.Emulator()\n{code}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == "replayed\n"
        assert done.returncode != 0
        assert "a graph reaches for memory that was released" in done.stderr


def test_threads_capture_one_after_the_other(emulator) -> None:
    """Else the one that ends first lets Python collect graphs while the other captures."""
    from threading import Event, Thread

    from nnarray.backends.cupy.graph import captured

    scene, collects = Scene(), list[bool]()
    second_began, first_ended = Event(), Event()
    workspace = scene.cupy.empty(64, np.uint8)

    def second() -> None:
        second_began.set()
        first_ended.wait(1)
        collects.append(gc.isenabled())

    other = Thread(target=lambda: captured(second, workspace))

    def first() -> None:
        other.start()
        second_began.wait(0.3)

    captured(first, workspace)
    first_ended.set()
    other.join()
    assert collects == [False]
    assert gc.isenabled()


class TestOnes:
    def test_many_take_little_more_than_they_have(self, emulator) -> None:
        from nnarray.backends.cupy.device import ONES

        x = gpu().ones((1, 2 * ONES + 1), "float32")
        assert x.base.size == 3 * ONES
        assert gpu().ones((1, 3 * ONES), "float32").base is x.base
        assert gpu().ones((1, 5), "float32").base.size == 8
        assert x.min() == x.max() == 1

    def test_those_that_nobody_has_are_released_once_kernels_have_read_them(self, emulator) -> None:
        kept().clear()
        scene, backend = Scene(), nn.backend("cupy")
        x = gpu().ones((1, 3 * 2**20), "float32")
        held, memory = x.base.nbytes, scene.cupy.get_default_memory_pool()
        backend.release_memory()
        assert gpu().ones(x.shape, "float32").base is x.base
        with scene.other:
            read = x + 1
        before = memory.used_bytes()
        del x
        assert memory.used_bytes() == before  # as it may be read still
        emulator.reset()
        assert backend.release_memory()
        assert emulator.count("waits") > 0
        assert memory.used_bytes() <= before - held
        assert float(read.min()) == 2
        assert not backend.release_memory()


def test_masks_of_many_generators_wait_before_tables_are_dropped(emulator, monkeypatch) -> None:
    from nnarray.backends.cupy import masks

    monkeypatch.setattr(masks, "MOST_TABLES", 2)
    monkeypatch.setattr(masks, "_tables", {})
    waits = list[int]()
    monkeypatch.setattr(gpu(), "wait", lambda: waits.append(len(next(iter(masks._tables.values())))), raising=False)
    for seed in (0, 1, 1, 0, 2, 3):
        masks.drawn_on_gpu(gpu(), 0, np.random.PCG64(seed), 0, (2, 3), 0.5, "float32")
    assert waits == [2]


def test_cublas_is_that_of_cupys_cuda(emulator, monkeypatch) -> None:
    import cupy

    from nnarray.backends.cupy import cublas

    asked = list[str]()
    monkeypatch.setattr(cublas.ctypes, "CDLL", asked.append)
    for version in (12090, 13000):
        monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda version=version: version)
        cublas._blas.__wrapped__()
    assert asked == ["libcublas.so.12", "libcublas.so.13"]


class TestTheNullDriver:
    @pytest.fixture(autouse=True)
    def nothing_stays(self) -> Iterator[None]:
        yield
        gpu()._ones.clear()
        kept().clear()
        engine.compiling.compiled.cache_clear()

    def test_calls_are_counted_and_nothing_is_done(self, emulator) -> None:
        scene = Scene()
        emulator.reset()
        with emulator.null():
            scene.cupy.add(scene.x, 1.0, out=scene.y)
            scene.cupy.matmul(scene.square, scene.square, out=scene.product)
            assert 0 < float(scene.cupy.asnumpy(scene.x)[0]) < 1e-30
        assert emulator.calls() == {"launches": 1, "products": 1, "to host": 1}
        assert scene.y.get().tolist() == [1, 2, 3, 4]  # as before
        assert scene.product.get().tolist() == [[0, 0], [0, 0]]

    @pytest.mark.parametrize("batch_size", [None, 8])
    def test_a_run_goes_through(self, batch_size, emulator) -> None:
        network, layers, X, Y = problem((3, 4, 2), "relu", "softmax", m=40)
        X, Y = (nn.backend("cupy").asarray(V) for V in (X, Y))
        params = nn.Parameters.from_layers(layers).to(nn.backend("cupy"))
        network.gradients(params, X, Y)
        with emulator.null():
            result = nn.train(network, X, Y, params=params, backend="cupy", epochs=3, batch_size=batch_size)
        assert len(result.history) == 3

    def test_an_epoch_uploads_its_order_and_numbers_alone(self, emulator) -> None:
        network, _, X, Y = problem((3, 4, 2), "relu", "softmax", m=40)
        X, Y = (nn.backend("cupy").asarray(V) for V in (X, Y))
        counted = []
        with emulator.null():
            for epochs in (2, 102):
                emulator.reset()
                nn.train(network, X, Y, epochs=epochs, batch_size=8)
                counted.append(emulator.count("to device"))
        assert 2 * 100 <= counted[1] - counted[0] < 2.5 * 100  # a reading of figures, now and then, has some too


SIZES, M = (6, 5, 4, 3), 40
OPTIMIZERS = (nn.GradientDescent(0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.RMSprop(0.01), nn.Adam(0.01))


@pytest.fixture
def step_by_step(monkeypatch) -> Any:
    """A function that makes a run without graphs."""

    def run(make: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr("nnarray.backends.cupy.backend.CupyBackend.compiles_steps", lambda *_, **__: False)
            return make()

    return run


class TestFullBatches:
    """A step on all examples is a graph too, and the host looks once in many of them."""

    def trained(self, **options: Any) -> nn.TrainingResult:
        network, layers, X, Y = problem(SIZES, ("relu", "tanh"), "softmax", m=M)
        options = {"params": layers, "backend": "cupy", "dtype": "float32", "epochs": 30, "progress": False} | options
        return nn.train(network, X, Y, **options)

    def assert_same_run(self, found: nn.TrainingResult, expected: nn.TrainingResult) -> None:
        assert np.array_equal(found.params.vector.get(), expected.params.vector.get())
        for name in ("v", "s"):
            mean, expected_mean = (getattr(run.state, name) for run in (found, expected))
            assert mean is expected_mean is None or np.array_equal(mean.get(), expected_mean.get())
        columns = ("epoch", "cost", "learning_rate", "validation_cost")
        histories = [{name: run.history.columns().get(name) for name in columns} for run in (found, expected)]
        assert histories[0] == histories[1]
        assert found.stopped == expected.stopped

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("l2", [0.0, 0.1])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_the_bits_of_a_run_step_by_step(self, optimizer, l2, weighted, step_by_step, emulator) -> None:
        rate = nn.schedules.ExponentialDecay(optimizer.learning_rate, 0.9)
        options = {
            "optimizer": type(optimizer)(rate),
            "l2": l2,
            "weights": np.linspace(0.5, 2, M) if weighted else None,
        }
        emulator.reset()
        found = self.trained(**options)
        assert emulator.count("graphs") == 30
        assert emulator.count("refused") == 0
        self.assert_same_run(found, step_by_step(lambda: self.trained(**options)))

    def test_the_host_looks_seldom(self, emulator, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.training.timed_steps.SECONDS", 60.0)  # an emulated step takes long
        emulator.reset()
        self.trained(epochs=500)
        assert emulator.count("graphs") == 500
        assert emulator.count("to host") < 250

    @pytest.mark.parametrize(
        "options",
        [
            {"callback": lambda epoch: epoch.epoch == 7},
            {"patience": 3, "optimizer": nn.GradientDescent(2.0)},
            {"validation": True, "patience": 2, "optimizer": nn.Adam(0.1)},
            {"average": 0.9},
        ],
        ids=["callback", "patience", "validation", "average"],
    )
    def test_what_looks_at_each_epoch_finds_the_same(self, options, step_by_step, emulator) -> None:
        if options.get("validation"):
            _, _, X, Y = problem(SIZES, "relu", "softmax", m=M, seed=1)
            options = options | {"validation": (X, Y)}
        emulator.reset()
        found = self.trained(**options)
        assert emulator.count("graphs") >= len(found.history)  # validation has graphs of its own
        self.assert_same_run(found, step_by_step(lambda: self.trained(**options)))

    def test_divergence_is_found_where_it_is(self, step_by_step, emulator) -> None:
        network, layers, X, Y = problem((6, 3), "relu", "identity", m=M)
        options = {"params": layers, "backend": "cupy", "optimizer": nn.GradientDescent(10.0), "epochs": 200}

        def diverged() -> nn.DivergenceError:
            with pytest.raises(nn.DivergenceError) as found:
                nn.train(network, X, Y, **options, progress=False)
            return found.value

        found, expected = diverged(), step_by_step(diverged)
        assert str(found) == str(expected)
        assert len(found.history) == len(expected.history)
        assert np.array_equal(found.params.vector.get(), expected.params.vector.get())

    def test_going_on_from_a_run(self, step_by_step, emulator) -> None:
        def in_two(epochs: int) -> nn.TrainingResult:
            first = self.trained(epochs=epochs, optimizer=nn.Adam(0.01))
            return self.trained(epochs=30 - epochs, optimizer=nn.Adam(0.01), params=first.params, state=first.state)

        found, expected = in_two(11), step_by_step(lambda: self.trained(optimizer=nn.Adam(0.01)))
        assert np.array_equal(found.params.vector.get(), expected.params.vector.get())

    def test_a_layout_that_no_product_reads(self, step_by_step, emulator) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        wide = nn.backend("cupy").asarray(np.repeat(np.repeat(X, 2, axis=0), 2, axis=1), "float32")

        def trained() -> nn.TrainingResult:
            return nn.train(network, wide[::2, ::2], Y, params=layers, backend="cupy", epochs=5, progress=False)

        emulator.reset()
        found = trained()
        assert emulator.count("graphs") == 5
        self.assert_same_run(found, step_by_step(trained))

    def test_batch_normalisation(self, emulator) -> None:
        network, _, X, Y = problem(SIZES, "tanh", "softmax", m=M)
        network = nn.Network(SIZES, "tanh", "softmax", batch_norm=True)
        options = {"params": network.init(0, dtype="float64"), "dtype": "float64", "epochs": 20, "progress": False}
        emulator.reset()
        found = nn.train(network, X, Y, backend="cupy", **options)
        assert emulator.count("graphs") == 20
        expected = nn.train(network, X, Y, **options)
        np.testing.assert_allclose(found.params.vector.get(), expected.params.vector, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.params.statistics.get(), expected.params.statistics, rtol=1e-10, atol=1e-12)

    def test_where_memory_was_short_before_tiles_stay_narrow(self, emulator, monkeypatch) -> None:
        from nnarray.engine import tiling

        network = nn.Network(SIZES, ("relu", "tanh"), "softmax")
        monkeypatch.setitem(tiling._widest, (network.sizes, nn.backend("cupy")), 16)
        emulator.reset()
        self.trained(epochs=3)
        assert emulator.count("graphs") == 0


class TestMiniBatches:
    """Costs of an epoch are added up in one way, whether its steps are captured or made one by one."""

    @pytest.fixture
    def run(self) -> Any:
        backend = nn.backend("cupy")
        network, layers, X, Y = problem(SIZES, ("relu", "tanh"), "softmax", m=103)
        params = nn.Parameters.from_layers(layers).to(backend, "float32")
        X, Y = (backend.asarray(V, "float32") for V in (X, Y))
        options = {"params": params, "backend": "cupy", "batch_size": 4, "progress": False, "dropout": 0.2}
        return lambda **more: nn.train(network, X, Y, **{**options, "epochs": 3, "l2": 0.1, **more})

    @pytest.mark.parametrize(
        "weights",
        [None, np.linspace(0.1, 2, 103), np.arange(103) % 9 // 8.0],
        ids=["plain", "weighted", "most weigh nothing"],
    )
    @pytest.mark.parametrize("most_held", [1024, 3])
    def test_the_bits_of_a_run_step_by_step(self, most_held, weights, run, step_by_step, emulator, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.training.epoch_progress.MOST_HELD", most_held)
        found, expected = run(weights=weights), step_by_step(lambda: run(weights=weights))
        assert found.params.dtype == "float32"
        assert np.array_equal(found.params.vector.get(), expected.params.vector.get())
        assert found.history.columns()["cost"] == expected.history.columns()["cost"]

    @pytest.mark.parametrize("weights", [None, np.arange(103) % 9 // 8.0], ids=["plain", "most weigh nothing"])
    @pytest.mark.parametrize("after", [1, 7, 26])
    def test_of_a_run_that_was_interrupted(self, after, weights, run, step_by_step, tmp_path, monkeypatch) -> None:
        from nnarray.training import checkpoint_file

        written, write = [], checkpoint_file.write_atomically

        class KilledError(Exception):
            pass

        def killing(*given: Any) -> None:
            write(*given)
            written.append(given)
            if len(written) == after:
                raise KilledError

        def in_two() -> nn.TrainingResult:
            with monkeypatch.context() as patch:
                patch.setattr(checkpoint_file, "write_atomically", killing)
                with pytest.raises(KilledError):
                    run(weights=weights, checkpoint=tmp_path / "run", checkpoint_every=0)
            return run(weights=weights, resume=tmp_path / "run")

        found, expected = step_by_step(in_two), run(weights=weights)
        assert np.array_equal(found.params.vector.get(), expected.params.vector.get())
        assert found.history.columns()["cost"] == expected.history.columns()["cost"]


@pytest.fixture
def as_they_are(monkeypatch) -> Any:
    """A function that makes calls without graphs."""

    def run(make: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr("nnarray.backends.cupy.replays.Replays._captured", lambda *_: None)
            kept().clear()
            return make()

    return run


def kept() -> Any:
    from nnarray.backends.cupy.replays import KEPT

    return KEPT


class OwnLoop:
    """A caller's own loop, and what it finds at each step, as bytes."""

    def __init__(self, dtype: str = "float32", m: int = M, output: str = "softmax", order: str = "F") -> None:
        self.network, layers, X, Y = problem(SIZES, ("relu", "tanh"), output, m=m)
        self.backend = nn.backend("cupy")
        self.params = nn.Parameters.from_layers(layers).to(self.backend, dtype)
        self.X, self.Y = (self.backend.asarray(np.asarray(V, dtype=dtype, order=order)) for V in (X, Y))

    def steps(self, count: int, optimizer: Any = None, **options: Any) -> list[bytes]:
        optimizer = optimizer or nn.Adam(0.01)
        params, state, found = self.params, optimizer.init(self.params), list[bytes]()
        for _ in range(count):
            J, gradients = self.network.gradients(params, self.X, self.Y, **options)
            params, state = optimizer.update(params, gradients, state)
            A, later = self.network.predict(params, self.X), self.network.cost(params, self.X, self.Y, **options)
            found += [V.get().tobytes() for V in (J, gradients.vector, params.vector, A, later)]
        return found


class TestACallersOwnLoop:
    """Gradients, costs and predictions on the same arrays are replays of one graph, with the same bits."""

    @pytest.fixture(autouse=True)
    def nothing_was_seen(self, monkeypatch) -> Iterator[None]:
        kept().clear()
        engine.compiling.compiled.cache_clear()
        yield
        kept().clear()
        engine.compiling.compiled.cache_clear()

    @pytest.mark.parametrize(
        "options", [{}, {"l2": 0.1}, {"l2": 0.1, "l1": 0.01}, {"weights": True}], ids=["plain", "l2", "l1", "weights"]
    )
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_bits(self, optimizer, options, as_they_are, emulator) -> None:
        loop = OwnLoop()
        if options.get("weights"):
            options = {"weights": loop.backend.asarray(np.linspace(0.5, 2, M), "float32")}
        emulator.reset()
        found = loop.steps(6, optimizer, **options)
        assert emulator.count("graphs") == 3 * 5
        assert emulator.count("refused") == 0
        emulator.reset()
        assert found == as_they_are(lambda: loop.steps(6, optimizer, **options))
        assert emulator.count("graphs") == 0

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("output", ["sigmoid", "identity", "exp"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_outputs_dtypes_and_layouts(self, dtype, output, order, as_they_are, emulator) -> None:
        loop = OwnLoop(dtype, output=output, order=order)
        assert loop.steps(4) == as_they_are(lambda: loop.steps(4))

    def test_calls_that_came_before_take_the_short_way(self, emulator, monkeypatch) -> None:
        loop = OwnLoop()
        expected = loop.steps(3)
        monkeypatch.setattr(nn.Network, "_predict", None)
        for name in ("gradients", "cost"):
            monkeypatch.setattr(calls, name, None)
        monkeypatch.setattr(nn.Adam, "_update", None)
        assert loop.steps(3) == expected

    @pytest.mark.parametrize(
        "change",
        [
            lambda loop: setattr(loop, "X", loop.X.astype("float64")),
            lambda loop: setattr(loop, "Y", loop.Y.get()),
            lambda loop: setattr(loop, "Y", loop.Y[:2]),
            lambda loop: setattr(loop, "X", loop.X[:, :-1]),
            lambda loop: setattr(loop, "X", like(loop.X, np.nan)),
            lambda loop: setattr(loop, "Y", like(loop.Y, loop.Y + 1)),
        ],
        ids=["dtype", "host", "rows", "columns", "NaN", "targets"],
    )
    def test_what_does_not_fit_is_treated_as_ever(self, change, as_they_are, emulator) -> None:
        loop = OwnLoop()
        loop.steps(3)
        change(loop)

        def outcome() -> Any:
            try:
                return loop.steps(3)
            except (ValueError, TypeError) as error:
                return type(error), str(error)

        assert outcome() == as_they_are(outcome)

    def test_a_layout_that_no_product_reads_is_not_copied_to_ask(self, emulator) -> None:
        loop = OwnLoop()
        wide = loop.backend.xp.zeros((2 * SIZES[0], 2 * M), dtype="float32")
        X = wide[::2, ::2]
        loop.network.predict(loop.params, X)
        params = loop.params.vector
        emulator.reset()
        assert engine.replayed.predict(loop.network, params, loop.backend, X) is None
        assert emulator.calls() == {}

    def test_columns_of_a_wider_array(self, as_they_are, emulator) -> None:
        loop = OwnLoop(order="C")
        wide = loop.backend.xp.zeros((SIZES[0], 2 * M), dtype="float32")
        wide[:, M:] = loop.X
        loop.X = wide[:, M:]
        assert loop.steps(4) == as_they_are(lambda: loop.steps(4))

    def test_what_costs_more_to_copy_than_a_graph_saves_runs_as_it_is(self, emulator, monkeypatch) -> None:
        loop, A = OwnLoop(), SIZES[-1] * M
        theta = loop.params.vector.shape[0]
        for entries, graphs in ((A + theta - 1, 0), (A + theta, 2)):
            engine.compiling.compiled.cache_clear()
            monkeypatch.setattr("nnarray.backends.cupy.replays.CALL_BYTES", 4 * entries)
            emulator.reset()
            for _ in range(3):
                loop.network.predict(loop.params, loop.X)
            assert emulator.count("graphs") == graphs

    def test_large_examples_are_read_where_they_lie(self, as_they_are, emulator, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.backends.cupy.replays.COPIED_BYTES", 64)
        loop = OwnLoop()
        emulator.reset()
        found = loop.steps(5)
        assert emulator.count("graphs") == 12
        assert found == as_they_are(lambda: loop.steps(5))
        before = loop.network.predict(loop.params, loop.X).get()
        loop.X *= 2  # in place: the next replay reads it
        emulator.reset()
        after = loop.network.predict(loop.params, loop.X)
        assert emulator.count("graphs") == 1
        assert not np.array_equal(after.get(), before)
        assert after.get().tobytes() == as_they_are(lambda: loop.network.predict(loop.params, loop.X)).get().tobytes()

    def test_another_array_where_one_was_released(self, as_they_are, emulator, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.backends.cupy.replays.COPIED_BYTES", 64)
        loop = OwnLoop()
        for _ in range(3):
            loop.network.predict(loop.params, loop.X)
        was, host = loop.X.data.ptr, loop.X.get()
        del loop.X
        others = [loop.backend.asarray(np.asfortranarray(i - host)) for i in range(9)]
        (other,) = [x for x in others if x.data.ptr == was]
        loop.network.predict(loop.params, other)
        emulator.reset()
        found = loop.network.predict(loop.params, other)
        assert emulator.count("graphs") == 1
        assert found.get().tobytes() == as_they_are(lambda: loop.network.predict(loop.params, other)).get().tobytes()

    @pytest.mark.parametrize("order", ["F", "C"])
    def test_numbers_that_change(self, order, as_they_are, emulator) -> None:
        """A schedule of penalties: one graph, whose numbers are stored before a replay if they are others."""
        loop = OwnLoop(order=order)
        strengths = [0.1, 0.2, 0.3, 0.1, 0.1, 0.7, 0.7]

        def calls() -> list[bytes]:
            found = []
            for l2 in strengths:
                J, gradients = loop.network.gradients(loop.params, loop.X, loop.Y, l2=l2, l1=l2 / 3)
                later = loop.network.cost(loop.params, loop.X, loop.Y, l2=l2)
                found += [V.get().tobytes() for V in (J, gradients.vector, later)]
            return found

        emulator.reset()
        found = calls()
        assert emulator.count("graphs") == 2 * (len(strengths) - 1)
        assert found == as_they_are(calls)

    def test_numbers_that_stay_cost_no_call(self, emulator) -> None:
        loop, counted = OwnLoop(), []
        for l2 in (0.1, 0.1, 0.1, 0.2, 0.2, 0.1):
            emulator.reset()
            loop.network.gradients(loop.params, loop.X, loop.Y, l2=l2)
            counted.append((emulator.count("graphs"), emulator.count("launches")))
        _, _, *later = counted  # the first as it is, the second captured
        assert later == [(1, 0), (1, 1), (1, 0), (1, 1)]

    def test_streams_have_numbers_of_their_own(self, as_they_are, emulator) -> None:
        import cupy

        loop = OwnLoop()
        streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
        cupy.cuda.Device().synchronize()
        made = []
        for i in range(8):
            with streams[i % 2]:
                made.append(loop.network.cost(loop.params, loop.X, loop.Y, l2=0.1 + i % 2))
        for i in (1, 0):
            streams[i].synchronize()
            expected = as_they_are(lambda l2=0.1 + i: loop.network.cost(loop.params, loop.X, loop.Y, l2=l2))
            assert {J.get().tobytes() for J in made[i::2]} == {expected.get().tobytes()}

    def test_layers_that_lie_apart(self, as_they_are, emulator) -> None:
        loop = OwnLoop()
        loop.params = [(W.copy(), b.copy()) for W, b in loop.params]
        emulator.reset()
        found = [loop.network.predict(loop.params, loop.X).get().tobytes() for _ in range(4)]
        assert emulator.count("graphs") == 3
        assert found == as_they_are(lambda: [loop.network.predict(loop.params, loop.X).get().tobytes()] * 4)

    def test_few_are_kept(self, emulator) -> None:
        from nnarray.backends.cupy import replays

        kept().clear()
        for m in range(2, 2 + 2 * replays.MOST):
            loop = OwnLoop(m=m)
            for _ in range(2):
                loop.network.predict(loop.params, loop.X)
        assert len(kept()._graphs) == replays.MOST

    def test_what_changes_with_every_call_is_not_captured_again_and_again(self, emulator, monkeypatch) -> None:
        from nnarray.backends.cupy import replays

        captures = []
        monkeypatch.setattr(replays, "captured", lambda queue, _: captures.append(1) or Nothing())
        loop = OwnLoop()
        programs = [replays.Replays(program_of_prediction(loop), several=True) for _ in range(2)]
        A = loop.backend.xp.empty((SIZES[-1], M), dtype="float32")
        layers = [V for layer in loop.params for V in layer]
        monkeypatch.setattr(replays, "COPIED_BYTES", 64)
        examples = [loop.X.copy() for _ in range(12)]  # for two programs more than are kept
        for _ in range(6):
            for program in programs:
                for X in examples:
                    program(X, *layers, A)
        assert len(captures) < 6 * 24 / 3

    @pytest.mark.parametrize("first", [0, 1])
    def test_streams_have_graphs_of_their_own(self, first, as_they_are, emulator) -> None:
        import cupy

        loop, other = OwnLoop(), OwnLoop()
        other.X *= -1  # in place, so that the layouts are the same
        other.params.vector[...] *= 2
        one, two = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
        cupy.cuda.Device().synchronize()
        made = []
        for _ in range(4):
            for stream, its in ((one, loop), (two, other)):
                with stream:
                    made.append(its.network.gradients(its.params, its.X, its.Y)[1].vector)
        found: dict[int, list[bytes]] = {}
        for i in (first, 1 - first):
            (one, two)[i].synchronize()  # the other may not have come to its work yet
            found[i] = [g.get().tobytes() for g in made[i::2]]

        def expected(its: OwnLoop) -> bytes:
            return its.network.gradients(its.params, its.X, its.Y)[1].vector.get().tobytes()

        assert found[0] == 4 * [as_they_are(lambda: expected(loop))]
        assert found[1] == 4 * [as_they_are(lambda: expected(other))]

    def test_threads_of_one_stream(self, as_they_are, emulator) -> None:
        from concurrent.futures import ThreadPoolExecutor

        loop = OwnLoop()
        thetas = [loop.params.replace(loop.params.vector * (1 + i)) for i in range(8)]

        def gradient(params: Any) -> bytes:
            return b"".join(loop.network.gradients(params, loop.X, loop.Y)[1].vector.get().tobytes() for _ in range(3))

        expected = as_they_are(lambda: list(map(gradient, thetas)))
        for _ in range(2):
            loop.network.gradients(loop.params, loop.X, loop.Y)
        (graph,) = kept()._graphs
        graph._graph = Slow(graph._graph)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(gradient, thetas)) == expected

    def test_where_memory_is_short_graphs_go_first(self, emulator) -> None:
        loop = OwnLoop()
        for _ in range(3):
            A = loop.network.predict(loop.params, loop.X)
        held = kept().bytes
        assert held > 0
        assert loop.backend.release_memory()
        assert kept().bytes == 0
        assert not loop.backend.release_memory()
        assert np.array_equal(loop.network.predict(loop.params, loop.X).get(), A.get())

    def test_memory_that_was_short_once_ends_nothing(self, emulator, monkeypatch) -> None:
        loop = OwnLoop()
        loop.network.predict(loop.params, loop.X)
        with monkeypatch.context() as patch:
            patch.setattr("nnarray.backends.cupy.replays.KEPT.make_room", raising(MemoryError()))
            loop.network.predict(loop.params, loop.X)
        emulator.reset()
        loop.network.predict(loop.params, loop.X)
        assert emulator.count("graphs") == 1

    def test_what_cuda_refuses_is_not_tried_again(self, emulator, monkeypatch) -> None:
        import cupy

        loop = OwnLoop()
        loop.network.predict(loop.params, loop.X)
        with monkeypatch.context() as patch:
            error = cupy.cuda.runtime.CUDARuntimeError(900)
            patch.setattr("nnarray.backends.cupy.graph.begin_capture", raising(error))
            loop.network.predict(loop.params, loop.X)
        emulator.reset()
        loop.network.predict(loop.params, loop.X)
        assert emulator.count("graphs") == 0

    def test_other_errors_are_told(self, emulator, monkeypatch) -> None:
        loop = OwnLoop()
        loop.network.predict(loop.params, loop.X)
        monkeypatch.setattr("nnarray.backends.cupy.graph.begin_capture", raising(RuntimeError("a fault")))
        with pytest.raises(RuntimeError, match="a fault"):
            loop.network.predict(loop.params, loop.X)
        with pytest.raises(RuntimeError, match="a fault"):
            nn.train(loop.network, loop.X, loop.Y, params=loop.params, backend="cupy", epochs=2, progress=False)

    def test_a_second_graph_of_one_key_is_not_kept(self, emulator) -> None:
        loop = OwnLoop()
        for _ in range(2):
            loop.network.predict(loop.params, loop.X)
        ((graph, (of_program, keys)),) = kept()._graphs.items()
        other = program_of_prediction(loop)  # anything else than a graph
        assert kept().add(other, of_program, keys[0]) is graph
        assert list(kept()._graphs) == [graph]
        assert of_program == {keys[0]: graph}

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_graph_of_the_callers(self, times, as_they_are, emulator) -> None:
        import cupy

        loop = OwnLoop()
        cupy.cuda.Device().synchronize()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            for _ in range(3):
                loop.network.gradients(loop.params, loop.X, loop.Y, l2=0.1)
            cupy.empty(2**26, np.uint8)  # which the pool keeps for what the capture takes
            stream.begin_capture()
            for _ in range(times):
                J, gradients = loop.network.gradients(loop.params, loop.X, loop.Y, l2=0.1)
            graph = stream.end_capture()
            for factor in (1.0, 2.0, 0.5):
                loop.network.gradients(
                    loop.params, loop.X, loop.Y, l2=factor
                )  # which has graphs and numbers of its own
                loop.params.vector[...] *= factor
                loop.X[...] += factor
                filled = [cupy.full(2**12, np.nan) for _ in range(8)]  # what the capture took is not given to others
                emulator.reset()
                graph.launch(stream)
                assert emulator.count("graphs") == 1
                found = J.get().tobytes(), gradients.vector.get().tobytes()
                J_now, now = as_they_are(lambda: loop.network.gradients(loop.params, loop.X, loop.Y, l2=0.1))
                assert found == (J_now.get().tobytes(), now.vector.get().tobytes())
                assert len(filled) == 8

    def test_calls_in_a_capture_share_a_workspace_and_captures_do_not(self, emulator, monkeypatch) -> None:
        import cupy

        from nnarray.backends.cupy.cublas import WORKSPACE_BYTES

        def held(captures: int, calls: int) -> float:
            """Workspaces that so many captures hold, of so many calls each."""
            before, kept_alive = memory.used_bytes(), []
            with cupy.cuda.Stream(non_blocking=True) as stream:
                cupy.empty(6 * WORKSPACE_BYTES, np.uint8)  # which the pool keeps for what the captures take
                for _ in range(captures):
                    stream.begin_capture()
                    kept_alive += [loop.network.gradients(loop.params, loop.X, loop.Y) for _ in range(calls)]
                    kept_alive.append(stream.end_capture())
                return (memory.used_bytes() - before) // WORKSPACE_BYTES

        loop, memory = OwnLoop(), cupy.get_default_memory_pool()
        loop.network.gradients(loop.params, loop.X, loop.Y)
        cupy.cuda.Device().synchronize()
        assert held(1, 4) == 1
        gc.collect()
        assert held(3, 2) == 3
        gc.collect()
        monkeypatch.setattr("nnarray.backends.cupy.graph.CAPTURING", -1)  # a driver that does not tell
        assert held(1, 4) == 4

    def test_calls_in_a_capture_share_what_is_between(self, as_they_are, emulator) -> None:
        import cupy

        network, layers, X, Y = problem((20, 70, 60, 33), "relu", "softmax", m=1000)
        backend = nn.backend("cupy")
        params, (X, Y) = (
            nn.Parameters.from_layers(layers).to(backend, "float32"),
            (backend.asarray(V, "float32") for V in (X, Y)),
        )
        steps = [params.replace(params.vector * (1 + i)) for i in range(4)]
        memory = cupy.get_default_memory_pool()

        def gradients() -> list[Any]:
            return [network.gradients(step, X, Y)[1].vector for step in steps]

        gradients()
        cupy.cuda.Device().synchronize()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            cupy.empty(2**27, np.uint8)  # which the pool keeps for what the capture takes
            before = memory.used_bytes()
            stream.begin_capture()
            found = gradients()
            graph = stream.end_capture()
            held = memory.used_bytes() - before - 2**25  # beside the workspace
            graph.launch(stream)
        stream.synchronize()
        activations = (70 + 60 + 33) * 1000 * 4
        assert activations < held < 3 * activations  # four calls have what one has
        assert [g.get().tobytes() for g in found] == [g.get().tobytes() for g in as_they_are(gradients)]

    def test_streams_of_a_capture_are_told_from_each_other(self) -> None:
        from nnarray.backends.cupy.replays import Kept

        kept = Kept()
        asked = [
            (64, "arena", 8, 1),
            (64, "arena", 9, 1),
            (64, "arena", 8),
            (64, "workspace", 8, 1),
            (65, "arena", 8, 1),
        ]
        found = [kept.memory(*what) for what in asked]
        assert all(kept.memory(*what) is x for what, x in zip(asked, found, strict=True))
        assert len(set(map(id, found))) == len(asked)


class Slow:
    """A graph whose launch lets other threads go on before."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def launch(self, stream: Any) -> None:
        time.sleep(1e-3)
        self.graph.launch(stream)


def like(x: Any, values: Any) -> Any:
    """Another array in the layout of x, whose columns are contiguous."""
    y = nn.backend("cupy").new_matrix(x.shape, x.dtype)
    y[...] = values
    return y


class SlowSteps:
    """Steps that are only queued, each of which takes a device some time of a clock; queueing takes less."""

    costs = vectors = None

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.over, self.calls = seconds, 0.0, 0.0, list[int]()

    def launch(self, count: int) -> None:
        self.now += 1e-6 * count
        self.over = max(self.over, self.now) + self.seconds * count
        self.calls.append(count)

    def mark(self) -> Any:
        over = self.over

        def wait() -> None:
            self.now = max(self.now, over)

        return wait


@pytest.mark.parametrize("seconds", [1e-5, 1e-3, 1e-2])
def test_calls_are_short_by_the_clock_of_the_device(seconds, monkeypatch) -> None:
    from nnarray.engine.interrupts import Interrupts
    from nnarray.training import timed_steps

    steps = SlowSteps(seconds)
    monkeypatch.setattr(timed_steps.time, "perf_counter", lambda: steps.now)
    made, behind = list[int](), list[float]()
    calls = timed_steps.TimedSteps(steps, Held())
    for _ in range(3):
        calls.launch_all(20_000, made.append, Interrupts(), lambda: behind.append(steps.over - steps.now))
    assert sum(made) == 60_000
    assert made == steps.calls
    assert max(behind) <= 1.5 * timed_steps.QUEUED_SECONDS
    assert seconds * sorted(made)[-3] >= 0.5 * timed_steps.QUEUED_SECONDS


class Held:
    """Threads, of which there are none."""

    def hold(self) -> None:
        pass


def raising(error: BaseException) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


class Nothing:
    def launch(self, stream: Any) -> None:
        pass


def program_of_prediction(loop: OwnLoop) -> Any:
    from nnarray.engine import compiling, equations

    given = compiling.Given(False, False, False, ())
    made = compiling.compiled(equations.prediction, loop.network, M, np.dtype("float32"), given, loop.backend)
    return made._program
