"""CuPy on a GPU, or on the emulated one: what its own arrays, streams, memory and devices make of a step and a run.

The tests that count calls of CUDA or take memory away need the emulator.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import conftest
import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import backends, engine
from nnarray.network.entry import enter_batch

REASON = backends.unavailable_reason("cupy")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"cupy: {REASON}")

OPTIMIZERS = (nn.GradientDescent(0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.RMSprop(0.01), nn.Adam(0.01))
SIZES, M = (6, 5, 4, 3), 40


@pytest.fixture
def emulator() -> Iterator[Any]:
    if not hasattr(conftest, "EMULATOR"):
        pytest.skip("cupy: needs the emulated GPU")
    yield conftest.EMULATOR
    conftest.EMULATOR.limit_memory(2**33)


def relative(found: Any, expected: np.ndarray) -> float:
    host = found if isinstance(found, np.ndarray) else found.get()
    return float(np.linalg.norm(host - expected) / np.linalg.norm(expected))


def on(backend: Any, *arrays: Any) -> list[Any]:
    return [backend.asarray(x) for x in arrays]


class TestWhatAStepAsksOfCuda:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_no_copy_to_the_host_and_no_wait(self, optimizer, weighted, emulator) -> None:
        network, layers, X, Y = problem(SIZES, "tanh", "softmax", m=M)
        backend = nn.backend("cupy")
        params = nn.Parameters.from_layers(layers).to(backend)
        X, Y, weights = on(backend, X, Y, np.linspace(0.5, 2, M))
        state = optimizer.init(params)

        def step(params: Any, state: Any) -> Any:
            J, gradients = network.gradients(params, X, Y, l2=0.1, weights=weights if weighted else None)
            return J, *optimizer.update(params, gradients, state)

        for _ in range(2):  # the first checks the arrays and compiles the kernels, the second is captured
            J, params, state = step(params, state)
        emulator.reset()
        for _ in range(3):
            J, params, state = step(params, state)
        counts = {what: emulator.count(what) for what in ("to host", "waits", "launches", "products", "graphs")}
        steps = 3
        sums_of_weights = 2 if weighted else 0  # CuPy's own: m is their sum
        assert counts["to host"] == counts["waits"] == 0
        assert (counts["graphs"], counts["products"]) == (steps, 0)
        assert counts["launches"] <= steps * (sums_of_weights + 1)
        assert np.isfinite(float(J))

    def test_a_run_reads_its_costs_when_it_ends(self, emulator, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.training.watch.SECONDS", 1e9)
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        X, Y = on(nn.backend("cupy"), X, Y)

        def looks(epochs: int) -> int:
            emulator.reset()
            nn.train(network, X, Y, params=layers, backend="cupy", epochs=epochs, batch_size=8)
            return emulator.count("to host")

        looks(1)
        assert looks(2) == looks(20)


@pytest.mark.parametrize("rows", [1280, 1300])  # a multiple of a block's threads, and none
def test_one_layer_of_tall_examples(rows, emulator) -> None:
    """A block's threads share each column, in a run and in a loop of one's own."""
    network, layers, X, Y = problem((rows, 2), "relu", "softmax", m=1100)
    J, expected = network.gradients(layers, X, Y, l2=0.1)
    arrays = on(nn.backend("cupy"), np.asfortranarray(X), Y)
    params = nn.Parameters.from_layers(layers).to(nn.backend("cupy"))
    emulator.reset()
    made = [network.gradients(params, *arrays, l2=0.1) for _ in range(2)]
    assert emulator.count("products") == 0
    assert abs(float(made[0][0]) - float(J)) < 1e-12 * abs(float(J))
    assert relative(made[0][1].vector, expected.vector) < 1e-12
    assert made[0][1].vector.get().tobytes() == made[1][1].vector.get().tobytes()
    given = (X, Y, layers), (*arrays, params)
    runs = [nn.train(network, V, W, params=theta, epochs=3, dtype="float64") for V, W, theta in given]
    assert relative(runs[1].params.vector, runs[0].params.vector) < 1e-12


class TestCapturedSteps:
    """An epoch's full batches are replays of one captured step."""

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("l2", [0.0, 0.1])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_numbers_and_how_many_are_replayed(self, optimizer, l2, weighted, emulator) -> None:
        network, layers, X, Y = problem(SIZES, ("relu", "tanh"), "softmax", m=M)
        rate = nn.schedules.ExponentialDecay(optimizer.learning_rate, 0.9)
        options = {
            "params": layers,
            "optimizer": type(optimizer)(rate),
            "weights": np.linspace(0.5, 2, M) if weighted else None,
            "l2": l2,
            "dtype": "float64",
            "epochs": 3,
            "batch_size": 16,
            "seed": 3,
        }
        emulator.reset()
        found = nn.train(network, X, Y, backend="cupy", **options)
        replays = emulator.count("graphs")
        expected = nn.train(network, X, Y, **options)
        assert replays == 3 * -(-M // 16)  # the last batch, of 8, has a graph of its own
        assert found.state.t == expected.state.t == 9
        assert relative(found.params.vector, expected.params.vector) < 1e-12
        costs, expected_costs = (run.history.columns()["cost"] for run in (found, expected))
        np.testing.assert_allclose(costs, expected_costs, rtol=1e-12)
        alphas, expected_alphas = (run.history.columns()["learning_rate"] for run in (found, expected))
        assert alphas == expected_alphas

    def test_the_host_issues_one_call_a_step(self, emulator) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        X, Y = on(nn.backend("cupy"), X, Y)

        def launches(epochs: int) -> int:
            emulator.reset()
            nn.train(network, X, Y, params=layers, backend="cupy", dtype="float64", epochs=epochs, batch_size=4)
            return emulator.count("launches") + emulator.count("products")

        launches(1)
        an_epoch = launches(12) - launches(11)
        assert an_epoch < 15  # of the order, the numbers and what watches the run; the ten steps would be 250

    def test_a_batch_that_weighs_nothing_makes_no_step(self, emulator) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        weights = np.where(np.arange(M) < 3, 1.0, 0.0)
        options = {"params": layers, "weights": weights, "dtype": "float64", "epochs": 4, "batch_size": 4}
        found = nn.train(network, X, Y, backend="cupy", **options)
        expected = nn.train(network, X, Y, **options)
        assert found.state.t == expected.state.t < 40
        assert relative(found.params.vector, expected.params.vector) < 1e-12

    @pytest.mark.parametrize("batch_size", [8, 7, None])
    def test_masks_are_drawn_within_captured_steps(self, batch_size, emulator) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        options = {"params": layers, "dropout": 0.3, "dtype": "float64", "epochs": 4, "batch_size": batch_size}
        emulator.reset()
        found = nn.train(network, X, Y, backend="cupy", **options)
        assert emulator.count("graphs") == 4 * -(-M // (batch_size or M))
        expected = nn.train(network, X, Y, **options)
        assert relative(found.params.vector, expected.params.vector) < 1e-12
        assert found.state.position.masks == expected.state.position.masks

    def test_dropped_inputs(self) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        options = {"params": layers, "input_dropout": 0.3, "dtype": "float64", "epochs": 2, "batch_size": 8}
        found = nn.train(network, X, Y, backend="cupy", **options)
        assert relative(found.params.vector, nn.train(network, X, Y, **options).params.vector) < 1e-12

    def test_where_nothing_can_be_captured_the_numbers_are_the_same(self, emulator, monkeypatch) -> None:
        import cupy

        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        options = {"params": layers, "backend": "cupy", "dtype": "float64", "epochs": 3, "batch_size": 8}
        captured = nn.train(network, X, Y, **options).params.vector.get()

        def refuse(stream: Any) -> None:
            raise cupy.cuda.runtime.CUDARuntimeError(900)

        monkeypatch.setattr("nnarray.backends.cupy.graph.begin_capture", refuse)
        emulator.reset()
        plain = nn.train(network, X, Y, **options).params.vector
        assert emulator.count("graphs") == 0
        assert relative(plain, captured) < 1e-12


class TestNumbers:
    @pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_hundred_steps(self, output, dtype) -> None:
        network, layers, X, Y = problem(SIZES, ("relu", "tanh"), output, m=M)

        def trained(backend: str) -> nn.TrainingResult:
            return nn.train(
                network, X, Y, params=layers, backend=backend, dtype=dtype, epochs=100, l2=0.1, dropout=0.2, seed=1
            )

        found, expected = trained("cupy"), trained("numpy")
        bound = {"float32": 1e-4, "float64": 1e-12}[dtype]
        assert relative(found.params.vector, expected.params.vector) < bound

    @pytest.mark.parametrize(("precision", "bound"), [("tf32", 2e-3), ("bfloat16", 3e-2), ("float16", 3e-3)])
    def test_a_lower_precision_is_near(self, precision, bound) -> None:
        network, layers, X, Y = problem((30, 20, 10), "tanh", "softmax", m=200)
        backend = nn.backend("cupy", precision=precision)
        params = nn.Parameters.from_layers(layers).to(backend, "float32")
        _, gradients = network.gradients(params, *on(backend, X.astype("float32"), Y.astype("float32")))
        _, expected = network.gradients(layers, X, Y)
        assert 1e-6 < relative(gradients.vector, expected.vector) < bound


def test_scipys_theta_on_the_gpu() -> None:
    network, layers, X, Y = problem((30, 20, 10), "tanh", "softmax", m=200)
    theta = nn.Parameters.from_layers(layers).vector
    backend = nn.backend("cupy", precision="tf32")
    params = network.parameters(theta, backend=backend, dtype="float32")
    _, gradients = network.gradients(params, *on(backend, X.astype("float32"), Y.astype("float32")))
    assert gradients.backend.precision == "tf32"
    assert 1e-6 < relative(gradients.vector, network.gradients(layers, X, Y)[1].vector) < 2e-3
    with pytest.raises(ValueError, match="float32's"):
        network.parameters(theta, backend=backend)


class TestColumnsInRegisters:
    """Kernels in which a column is a lane's or a warp's, its vectors whole in every lane or spread over all 32."""

    SIZES = ((2, 3, 5, 4, 2, 1), (70, 1), (33, 128, 10), (5, 130, 6, 40), (128, 16, 300, 2), (20, 256, 16))

    @pytest.mark.parametrize("m", [1, 37, 700])
    @pytest.mark.parametrize("sizes", SIZES, ids=str)
    def test_gradients_and_predictions_and_their_bits(self, sizes, m) -> None:
        output = "sigmoid" if sizes[-1] == 1 else "softmax"
        network, layers, X, Y = problem(sizes, "tanh", output, m=m)
        X, Y = np.asfortranarray(X), np.asfortranarray(Y)
        backend = nn.backend("cupy")
        params, there = nn.Parameters.from_layers(layers).to(backend), on(backend, X, Y)
        J, expected = network.gradients(layers, X, Y, l2=0.1)
        found = [network.gradients(params, *there, l2=0.1) for _ in range(2)]
        assert abs(float(found[0][0]) - float(J)) < 1e-12
        assert relative(found[0][1].vector, expected.vector) < 1e-12
        assert float(found[0][0]) == float(found[1][0])
        np.testing.assert_array_equal(found[0][1].vector.get(), found[1][1].vector.get())
        assert relative(network.predict(params, there[0]), network.predict(layers, X)) < 1e-12

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_what_a_large_product_reads_is_stored_narrow(self, precision) -> None:
        network, layers, X, Y = problem((40, 128, 40, 10), "relu", "softmax", m=200)
        X, Y = np.asfortranarray(X, "float32"), np.asfortranarray(Y, "float32")
        backend = nn.backend("cupy", precision=precision)
        params = nn.Parameters.from_layers(layers).to(backend, "float32")
        _, gradients = network.gradients(params, *on(backend, X, Y))
        _, expected = network.gradients(layers, X.astype("float64"), Y.astype("float64"))
        assert 1e-6 < relative(gradients.vector, expected.vector) < 3e-2


class TestStreams:
    def test_all_is_queued_on_the_callers(self) -> None:
        import cupy

        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        J, gradients = network.gradients(layers, X, Y)
        with cupy.cuda.Stream(non_blocking=True) as stream:
            theirs = nn.Parameters.from_layers(layers).to(nn.backend("cupy"))
            found, g = network.gradients(theirs, *on(nn.backend("cupy"), X, Y))
            trained = nn.train(network, X, Y, params=layers, backend="cupy", dtype="float64", epochs=3, batch_size=16)
            stream.synchronize()
        assert abs(float(found) - float(J)) < 1e-12
        assert relative(g.vector, gradients.vector) < 1e-12
        expected = nn.train(network, X, Y, params=layers, dtype="float64", epochs=3, batch_size=16)
        assert relative(trained.params.vector, expected.params.vector) < 1e-12


class TestMemory:
    """A GPU that has little of it."""

    NETWORK = nn.Network((64, 16, 3), output="softmax")

    @pytest.fixture
    def leave(self, emulator) -> Callable[[int], None]:
        filled = []

        def leave(size: int) -> None:
            import cupy

            nn.backend("cupy").release_memory()
            gc.collect()  # what earlier tests left in cycles would give room later
            pool = cupy.get_default_memory_pool()
            pool.free_all_blocks()
            free, total = cupy.cuda.Device().mem_info
            emulator.limit_memory(total - free)
            part = pool.free_bytes()  # beside what earlier tests still hold a little of
            while part >= 2**14:
                try:
                    filled.append(cupy.empty(part, np.uint8))
                except MemoryError:
                    part //= 2
            emulator.limit_memory(total - free + size)

        engine.tiling._widest.clear()
        for programs in (engine.compiling.compiled, engine.batch_norm_passes.compiled_pass, engine.updates._program):
            programs.cache_clear()  # one of another test would make room when it is dropped
        return leave

    def data(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)
        return generator.normal(size=(m, 64)).T, nn.one_hot(generator.integers(0, 3, m), 3).astype("float64")

    @pytest.mark.parametrize("batch_size", [None, 1000])
    def test_examples_of_twice_the_card(self, batch_size, leave, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.engine.tiling.UPLOAD_BYTES", 2**18)
        X, Y = self.data(20_000)
        expected = nn.train(self.NETWORK, X, Y, dtype="float64", epochs=2, batch_size=batch_size)
        leave(X.nbytes // 2)
        found = nn.train(self.NETWORK, X, Y, backend="cupy", dtype="float64", epochs=2, batch_size=batch_size)
        assert relative(found.params.vector, expected.params.vector) < 1e-12

    def test_a_full_batch_that_has_no_room_goes_by_tiles_as_in_a_loop_of_ones_own(self, leave, emulator) -> None:
        network, (X, Y) = nn.Network((64, 400, 3), output="softmax"), self.data(4000)
        expected = nn.train(network, X, Y, dtype="float64", epochs=3)
        leave(4 * X.nbytes)  # a third of what lies between its products
        arrays = on(nn.backend("cupy"), np.asfortranarray(X), Y)
        params = network.init(0, dtype="float64").to(nn.backend("cupy"))
        emulator.reset()
        found = nn.train(network, *arrays, params=params, dtype="float64", epochs=3)
        assert emulator.count("graphs") == 0
        width = engine.tiling._widest[network.sizes, nn.backend("cupy")]
        assert width < 4000
        assert relative(found.params.vector, expected.params.vector) < 1e-12
        leave(8 * X.nbytes)  # the loop holds other things beside the tiles, which would be narrower yet
        optimizer = nn.Adam()
        state = optimizer.init(params)
        for _ in range(3):
            params, state = optimizer.update(params, network.gradients(params, *arrays)[1], state)
        assert engine.tiling._widest[network.sizes, nn.backend("cupy")] == width
        assert params.vector.get().tobytes() == found.params.vector.get().tobytes()

    @pytest.mark.parametrize("batch_size", [None, 1000])
    def test_so_it_is_with_batch_normalisation_which_keeps_less_than_x(self, batch_size, leave, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.engine.tiling.UPLOAD_BYTES", 2**18)
        network, (X, Y) = nn.Network((64, 6, 3), output="softmax", batch_norm=True), self.data(20_000)
        expected = nn.train(network, X, Y, dtype="float64", epochs=2, batch_size=batch_size)
        leave(X.nbytes // 2)
        found = nn.train(network, X, Y, backend="cupy", dtype="float64", epochs=2, batch_size=batch_size)
        assert relative(found.params.vector, expected.params.vector) < 1e-12
        assert relative(found.params.statistics, expected.params.statistics) < 1e-12

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize(
        "settings",
        [
            {"solver": "adam"},
            {"solver": "sgd", "shuffle": False},
            {"solver": "adam", "early_stopping": True},
            {"solver": "lbfgs"},
        ],
        ids=str,
    )
    def test_an_estimator_on_twice_the_card(self, settings, leave, monkeypatch) -> None:
        from nnarray.sklearn import MLPClassifier

        monkeypatch.setattr("nnarray.engine.tiling.UPLOAD_BYTES", 2**18)
        X, Y = self.data(20_000)
        settings |= {"hidden_layer_sizes": (16,), "max_iter": 2, "random_state": 0}
        expected = MLPClassifier(**settings).fit(X.T, Y.argmax(0)).predict_proba(X.T)
        leave(X.nbytes // 2)
        model = MLPClassifier(backend="cupy", **settings).fit(X.T, Y.argmax(0))
        assert relative(model.predict_proba(X.T), expected) < 1e-9

    def test_narrow_tiles_need_no_more_memory_for_a_large_theta(self, leave) -> None:
        network = nn.Network((400, 400, 2), output="softmax")
        generator = np.random.default_rng(0)
        X, Y = generator.normal(size=(1000, 400)).T, nn.one_hot(generator.integers(0, 2, 1000), 2).astype("float64")
        params = network.init(dtype="float64")
        _, gradients = network.gradients(params, X, Y)
        backend = nn.backend("cupy")
        theirs, on_gpu = params.to(backend), on(backend, X, Y)
        network.gradients(theirs, *on_gpu)
        leave(3 * params.vector.nbytes)
        place, batch = enter_batch(network, theirs, *on_gpu)
        _, g = engine.cost_and_gradients(batch, place.layers, network, backend, l2=0.0, width=8)
        assert relative(g, gradients.vector) < 1e-12

    @pytest.mark.parametrize("part", [0.5, 0.1])
    def test_tiles_are_halved_where_memory_runs_out(self, part, leave) -> None:
        X, Y = self.data(20_000)
        params = self.NETWORK.init(dtype="float64")
        J, gradients = self.NETWORK.gradients(params, X, Y)
        backend = nn.backend("cupy")
        theirs, on_gpu = params.to(backend), on(backend, X, Y)
        self.NETWORK.gradients(theirs, *on_gpu)  # checks the arrays; what is kept for good is there
        activations = 20_000 * (16 + 3) * 8
        leave(int(part * activations))
        found, g = self.NETWORK.gradients(theirs, *on_gpu)
        assert engine.tiling._widest
        assert abs(float(found) - float(J)) < 1e-12
        assert relative(g.vector, gradients.vector) < 1e-12

    def test_a_program_that_is_forgotten_while_it_runs(self) -> None:
        """Its constants stay: another stream may not have come to them yet."""
        import cupy

        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=200)
        _, expected = network.gradients(layers, X, Y)
        backend = nn.backend("cupy")
        params, examples = nn.Parameters.from_layers(layers).to(backend), on(backend, X, Y)
        network.gradients(params, *examples)
        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            _, g = network.gradients(params, *examples)
        engine.compiling.compiled.cache_clear()
        filled = [cupy.full(200, np.nan) for _ in range(20)]
        cupy.cuda.get_current_stream().synchronize()
        stream.synchronize()
        assert relative(g.vector, expected.vector) < 1e-12
        assert len(filled) == 20


@pytest.mark.parametrize("device", [7, -1, "cuda:1"])
def test_a_device_that_is_not_there(device) -> None:
    with pytest.raises(nn.BackendUnavailableError, match=f'"cupy" cannot run on the device {device!r} here'):
        nn.backend("cupy", device=device)


class TestTheSecondDevice:
    @pytest.fixture
    def second(self) -> Any:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() < 2:
            pytest.skip("cupy: there is one GPU")
        return nn.backend("cupy", device=cupy.cuda.Device(1))

    def test_gradients_and_training_while_another_is_current(self, second) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        params = nn.Parameters.from_layers(layers).to(second)
        there = on(second, X, Y)
        J, gradients = network.gradients(params, *there)
        assert gradients.vector.device.id == J.device.id == 1
        assert relative(gradients.vector, network.gradients(layers, X, Y)[1].vector) < 1e-12
        found = nn.train(network, *there, params=params, epochs=5, batch_size=16)
        expected = nn.train(network, X, Y, params=layers, dtype="float64", epochs=5, batch_size=16)
        assert found.params.vector.device.id == 1
        assert relative(found.params.vector, expected.params.vector) < 1e-12

    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_updates(self, optimizer, second) -> None:
        _, layers, _, _ = problem(SIZES, "relu", "softmax", m=M)
        params = nn.Parameters.from_layers(layers).to(second)
        found, state = optimizer.update(params, params, optimizer.init(params))
        expected, _ = optimizer.update(layers, layers, optimizer.init(layers))
        assert {x.device.id for x in (found.vector, state.v, state.s) if x is not None} == {1}
        assert relative(found.vector, expected.vector) < 1e-12

    def test_what_else_a_network_does(self, second) -> None:
        network, layers, X, Y = problem(SIZES, "tanh", "softmax", m=M)
        pairs = [tuple(on(second, W, b)) for W, b in layers]
        X_there, Y_there = on(second, X, Y)
        weights = np.linspace(0.5, 2, M)
        assert relative(network.predict(pairs, X_there), network.predict(layers, X)) < 1e-12
        assert relative(network.forward(pairs, X_there)[1], network.forward(layers, X)[1]) < 1e-12
        J = network.cost(pairs, X_there, Y_there, l2=0.1, weights=on(second, weights)[0])
        assert abs(float(J) - float(network.cost(layers, X, Y, l2=0.1, weights=weights))) < 1e-12
        assert network.score(pairs, X_there, Y_there) == network.score(layers, X, Y)
        assert nn.check_gradients(network, pairs, X_there, Y_there).relative_difference < 1e-7

    def test_training_with_all_that_looks_at_it(self, second) -> None:
        network, _, X, Y = problem(SIZES, "tanh", "softmax", m=M)

        def trained(backend: Any) -> nn.TrainingResult:
            return nn.train(
                network,
                X,
                Y,
                backend=backend,
                dtype="float64",
                epochs=4,
                batch_size=16,
                weights=np.linspace(0.5, 2, M),
                dropout=0.2,
                validation=(X, Y),
                patience=3,
                callback=lambda epoch: None,
            )

        found, expected = trained(second), trained("numpy")
        assert found.params.vector.device.id == 1
        assert relative(found.params.vector, expected.params.vector) < 1e-12
        assert abs(found.history[-1].validation_cost - expected.history[-1].validation_cost) < 1e-12

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_an_estimator(self, solver, second) -> None:
        from nnarray.sklearn import MLPClassifier

        _, _, X, Y = problem(SIZES, "tanh", "softmax", m=M)
        settings = {"solver": solver, "max_iter": 5, "random_state": 0, "early_stopping": solver == "adam"}
        found = MLPClassifier(backend=second, **settings).fit(X.T, Y.argmax(0))
        expected = MLPClassifier(**settings).fit(X.T, Y.argmax(0))
        assert relative(found.predict_proba(X.T), expected.predict_proba(X.T)) < 1e-9

    def test_arrays_of_two_devices(self, second) -> None:
        network, layers, X, Y = problem(SIZES, "relu", "softmax", m=M)
        params = nn.Parameters.from_layers(layers).to(second)
        with pytest.raises(TypeError, match="device"):
            network.gradients(params, *on(nn.backend("cupy"), X, Y))
