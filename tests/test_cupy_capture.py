"""What the emulated GPU refuses while a stream is captured, what a graph replays, and the null driver."""

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import backends

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
            handle = cublas._handle(cublas.threading.get_ident(), 0)
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


class TestTheNullDriver:
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

    def test_the_host_looks_seldom(self, emulator) -> None:
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
        ids=str,
    )
    def test_what_looks_at_each_epoch_finds_the_same(self, options, step_by_step, emulator) -> None:
        if options.get("validation"):
            _, _, X, Y = problem(SIZES, "relu", "softmax", m=M, seed=1)
            options = options | {"validation": (X, Y)}
        emulator.reset()
        found = self.trained(**options)
        assert emulator.count("graphs") == len(found.history)
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
