"""Tiles: the same sums however a batch is cut and whoever computes it, in memory that does not grow with the batch."""

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space, problem, targets

import nnarray as nn
from nnarray import engine
from nnarray.backends import BLAS_THREADS, Block, blas, machine_code, makes_machine_code, mapped_file, usable_threads
from nnarray.core.activations import ACTIVATIONS
from nnarray.engine import tiling, workers
from nnarray.engine.columns import Order
from nnarray.programs.targets import idle
from nnarray.programs.targets.llvm.training_step import TrainingSteps
from nnarray.training.dropout import Dropout

NUMPY = nn.backend("numpy")
HIDDEN = tuple(ACTIVATIONS)
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def close_to(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the rounding of a few operations, of which machine code fuses products with sums."""
    eps = np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=16 * eps, atol=16 * eps)


def settings() -> list[int]:
    """The threads that every BLAS in this process has."""
    libraries = blas._libraries()
    return blas._settings([*libraries.shared, *libraries.of_each_thread])


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1))


def in_order(columns: np.ndarray) -> engine.Order:
    return engine.Order(columns, columns)


def large(m: int, sizes: tuple[int, ...] = (30, 20, 4), dtype: str = "float32") -> tuple[Any, ...]:
    """A network, its layers and a batch of m examples."""
    network, layers, X, Y = problem(sizes, "tanh", "softmax", m=m)
    pairs = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
    return network, pairs, engine.Batch(X.astype(dtype), Y.astype(dtype), m)


class TestSumsOverTiles:
    @pytest.mark.parametrize("seed", range(25))
    def test_they_are_those_of_the_whole_batch(self, seed) -> None:
        """Each seed draws 25 networks, batches, layouts, dtypes, splits and numbers of workers."""
        generator = np.random.default_rng(seed)
        for _ in range(25):
            depth = int(generator.integers(1, 5))
            output = str(generator.choice(OUTPUTS))
            sizes = (*generator.integers(1, 9, depth).tolist(), int(generator.integers(2, 6)))
            m = int(generator.integers(1, 60))
            dtype = str(generator.choice(("float32", "float64")))
            hidden = tuple(str(name) for name in generator.choice(HIDDEN, depth - 1)) or "relu"
            network = nn.Network(sizes, hidden, output)
            layers = [(W.astype(dtype), b.astype(dtype)) for W, b in network.init(seed, "xavier", dtype="float64")]
            X = generator.normal(size=(m, sizes[0])).astype(dtype).T
            X = (X, np.ascontiguousarray(X), X[::-1])[int(generator.integers(3))]
            Y = targets(output, sizes[-1], m, generator).astype(dtype)
            weights = generator.uniform(0.1, 2, (1, m)).astype(dtype) if generator.random() < 0.5 else None
            batch = engine.Batch(X, Y, m if weights is None else weights.sum(), weights)
            if generator.random() < 0.3:
                batch = batch._replace(order=in_order(generator.integers(0, m, m)))
            options = {"l2": float(generator.choice((0.0, 0.3)))}
            J, g = engine.cost_and_gradients(batch, layers, network, NUMPY, width=m, **options)
            width, count = int(generator.integers(1, m + 1)), int(generator.integers(1, 4))
            J_tiled, g_tiled = engine.cost_and_gradients(
                batch, layers, network, NUMPY, width=width, workers=count, **options
            )
            assert relative(g_tiled, g) < TOLERANCE[dtype], (sizes, output, m, width, dtype)
            assert abs(J_tiled - J) <= TOLERANCE[dtype] * max(abs(J), 1)
            assert g_tiled.dtype == dtype
            assert engine.cost(batch, layers, network, NUMPY, width=width, workers=count, **options) == pytest.approx(
                J, rel=TOLERANCE[dtype], abs=TOLERANCE[dtype]
            )
            np.testing.assert_allclose(
                engine.predict(X, layers, network, NUMPY, width=width, workers=count),
                engine.predict(X, layers, network, NUMPY, width=m),
                rtol=10 * TOLERANCE[dtype],
                atol=TOLERANCE[dtype],
            )

    @pytest.mark.parametrize("width", [None, 64, 700])
    @pytest.mark.parametrize("order", [False, True])
    def test_any_number_of_workers_gives_the_same_bits(self, width, order) -> None:
        network, layers, batch = large(40_000, (100, 64, 10))
        if order:
            batch = batch._replace(order=in_order(np.random.default_rng(0).permutation(40_000)))
        results = [
            engine.cost_and_gradients(batch, layers, network, NUMPY, l2=0.1, workers=count, width=width)
            for count in (1, 2, 3, 8)
            for _ in range(2)
        ]
        predictions = [engine.predict(batch.X, layers, network, NUMPY, workers=n, width=width) for n in (1, 2, 3, 8)]
        for J, g in results[1:]:
            assert results[0][0] == J
            np.testing.assert_array_equal(g, results[0][1])
        for A in predictions[1:]:
            np.testing.assert_array_equal(A, predictions[0])

    def test_public_calls_give_the_same_bits_too(self) -> None:
        network, layers, batch = large(30_000)
        weights = np.linspace(0.5, 2, 30_000, dtype="float32")[None, :]
        for call in (
            lambda n: network.gradients(layers, batch.X, batch.Y, l2=0.1, weights=weights, workers=n)[1].vector,
            lambda n: network.cost(layers, batch.X, batch.Y, workers=n),
            lambda n: network.predict(layers, batch.X, workers=n),
            lambda n: np.float64(network.score(layers, batch.X, batch.Y, workers=n)),
            lambda n: (
                nn.train(
                    network, batch.X, batch.Y, params=layers, epochs=2, batch_size=9000, dropout=0.3, workers=n
                ).params.vector
            ),
        ):
            first = call(1)
            for count in (2, 3, 8, None):
                np.testing.assert_array_equal(call(count), first)

    def test_every_namespace_adds_tiles_up(self, space: Space) -> None:
        network, layers, X, Y = problem((3, 4, 2), "tanh", "softmax", m=11)
        pairs, batch = space.pairs(layers), engine.Batch(space.asarray(X), space.asarray(Y), 11)
        _, g = engine.cost_and_gradients(batch, pairs, network, space.backend, l2=0.2)
        for width in (1, 4, 10):
            J, tiled = engine.cost_and_gradients(batch, pairs, network, space.backend, l2=0.2, width=width)
            np.testing.assert_allclose(space.to_numpy(tiled), space.to_numpy(g), rtol=1e-11, atol=1e-13)
            A = engine.predict(batch.X, pairs, network, space.backend, width=width)
            np.testing.assert_allclose(
                space.to_numpy(A), space.to_numpy(network.predict(pairs, batch.X)), rtol=1e-12, atol=1e-14
            )
            assert float(J) == pytest.approx(float(network.cost(pairs, batch.X, batch.Y, l2=0.2)), rel=1e-12)

    @pytest.mark.parametrize("call", ["predict", "cost", "gradients"])
    def test_a_number_that_is_not_finite_is_named_with_its_column(self, call) -> None:
        network, layers, batch = large(20_000)
        X = batch.X.copy()
        X[7, 15_003] = np.nan
        arguments = (X,) if call == "predict" else (X, batch.Y)
        with pytest.raises(ValueError, match=r"X must be finite in float32, got nan at \[7, 15003\]"):
            getattr(network, call)(layers, *arguments)


class TestWidth:
    @pytest.mark.parametrize("sizes", [(1200, 1), (12_288, 1), (784, 512, 512, 10), (2, 3, 1), (100, 64, 64, 64, 1)])
    @pytest.mark.parametrize("itemsize", [4, 8])
    def test_a_tile_is_bounded_in_bytes_and_columns(self, sizes, itemsize) -> None:
        network = nn.Network(sizes)
        for m in (1, 511, 512, 513, 5000, 100_000, 10**7):
            width = engine.tile_width(network, m, itemsize)
            assert tiling.NARROWEST <= width <= tiling.WIDEST
            assert width == tiling.NARROWEST or width * sum(sizes) * itemsize <= 1.02 * tiling.TILE_BYTES

    def test_many_tiles_make_equal_shares(self) -> None:
        for m in (10_000, 99_999, 200_000, 1_000_003):
            count = -(-m // engine.tile_width(nn.Network((1200, 1)), m, 4))
            fewest = -(-m // min(tiling.TILE_BYTES // (1201 * 4), tiling.WIDEST))
            assert abs(count - fewest) < tiling.SHARES
            assert count in (2, 4) or -count % tiling.SHARES <= 0.02 * count  # widths are rounded up

    def test_large_layers_get_wide_tiles(self) -> None:
        assert engine.tile_width(nn.Network((2048, 2048, 2048, 10)), 8000, 4) == 2000

    @pytest.mark.parametrize("sizes", [(512,) * 21, (256,) * 41, (1024,) * 11, (64,) * 1000])
    def test_many_large_layers_get_narrower_ones(self, sizes) -> None:
        """Of which all A take no more than some bytes and as much as theta, unless they are as narrow as tiles are."""
        for m in (4096, 20_480, 10**6):
            width = engine.tile_width(nn.Network(sizes), m, 4)
            of_theta = 4 * tiling.vector_size(sizes)
            assert of_theta > tiling.LARGE_THETA
            fits = width * sum(sizes) * 4 <= 1.02 * (tiling.DEEP_BYTES + of_theta)
            assert fits or width == tiling.NARROWEST

    def test_what_is_read_where_it_lies_comes_in_wider_tiles(self) -> None:
        network, X = nn.Network((1200, 1)), np.zeros((9000, 1200), np.float32).T
        layers, m = network.init(0).layers, np.float32(9000)
        order = Order(np.arange(9000), np.arange(9000))
        widths = [
            tiling._best_width(engine.Batch(*given), layers, network, NUMPY)
            for given in ((X, None, m), (X.astype(np.float64), None, m), (X, None, m, None, order))
        ]
        wide, *others = widths
        assert others == [engine.tile_width(network, 9000, 4)] * 2
        assert wide == (2 * others[0] if makes_machine_code() else others[0])


class TestWorkers:
    def test_each_turn_is_taken_once(self) -> None:
        taken: list[int] = []
        workers.for_each(500, taken.append, 4)
        assert sorted(taken) == list(range(500))

    @pytest.mark.parametrize("count", [*range(1, 18), 63, 64, 65, 100, 513])
    def test_neighbours_are_added_first_whoever_computes_them(self, count) -> None:
        def tree(values: list[str]) -> str:
            while len(values) > 1:
                values = [
                    reduce(lambda one, other: f"({one}+{other})", values[i : i + 8]) for i in range(0, len(values), 8)
                ]
            return values[0]

        expected = tree([str(i) for i in range(count)])
        for workers_count in (1, 2, 8):
            found = workers.add_up(count, str, lambda a, b: f"({a}+{b})", workers_count)
            assert found == expected

    def test_few_values_live_at_once(self) -> None:
        living, most, lock = 0, 0, threading.Lock()

        class Counted:
            def __init__(self) -> None:
                nonlocal living, most
                with lock:
                    living += 1
                    most = max(most, living)

            def __del__(self) -> None:
                nonlocal living
                with lock:
                    living -= 1

        workers.add_up(1024, lambda _: Counted(), lambda one, other: one, 1)
        assert most <= 4 + 1
        workers.add_up(1024, lambda _: Counted(), lambda one, other: one, 2)
        assert most <= 2 * (4 + 2)

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_what_a_worker_raises_is_raised_and_the_others_stop(self, error, count) -> None:
        done: list[int] = []

        def work(i: int) -> None:
            if i == 5:
                raise error("in a worker")
            done.append(i)
            threading.Event().wait(0.002)

        with pytest.raises(error, match="in a worker"):
            workers.for_each(1000, work, count)
        assert len(done) < 100

    def test_calls_may_nest(self) -> None:
        def outer(i: int) -> int:
            return workers.add_up(20, lambda j: i * j, lambda a, b: a + b, 3)

        assert workers.add_up(50, outer, lambda a, b: a + b, 3) == sum(range(50)) * sum(range(20))

    def test_the_caller_s_error_state_holds_for_helpers(self) -> None:
        states: list[dict[str, str]] = []
        with np.errstate(over="raise", invalid="call"):
            workers.for_each(50, lambda _: states.append(np.geterr()), 4)
        assert all((state["over"], state["invalid"]) == ("raise", "call") for state in states)

    def test_many_user_threads_at_once(self) -> None:
        network, layers, batch = large(30_000)
        expected = network.gradients(layers, batch.X, batch.Y)[1].vector
        before = settings()
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: network.gradients(layers, batch.X, batch.Y)[1].vector, range(18)))
        for g in found:
            np.testing.assert_array_equal(g, expected)
        assert settings() == before

    def test_joblib_s_processes(self) -> None:
        joblib = pytest.importorskip("joblib")
        network, layers, batch = large(30_000)
        params = nn.Parameters.from_layers(layers)
        expected = network.gradients(params, batch.X, batch.Y)[1].vector
        calls = [joblib.delayed(network.gradients)(params, batch.X, batch.Y) for _ in range(3)]
        for _, gradients in joblib.Parallel(n_jobs=2)(calls):
            np.testing.assert_array_equal(gradients.vector, expected)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_fork_waits_until_nobody_sets_threads(self) -> None:
        """Else the child would inherit a lock of BLAS, which its own setting would wait for."""
        held, released = threading.Event(), list[float]()

        def hold() -> None:
            with BLAS_THREADS._lock:
                held.set()
                time.sleep(0.2)
                released.append(time.perf_counter())

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if BLAS_THREADS._lock.acquire(blocking=False) else 1)
        forked = time.perf_counter()
        assert os.waitpid(child, 0)[1] == 0
        assert released
        assert forked >= released[0]
        thread.join()
        with BLAS_THREADS._lock:
            pass

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_computes_too(self) -> None:
        done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, "True True\nTrue True\n", "")


FORKED = """
import os, warnings
import numpy as np
import nnarray as nn
from nnarray.backends import Block, blas
warnings.simplefilter("ignore", DeprecationWarning)
network = nn.Network((30, 20, 4), output="softmax")
params = network.init(0)
X, Y = np.random.default_rng(0).normal(size=(30, 30_000)).astype("float32"), nn.one_hot(np.arange(30_000) % 4, 4)
expected = network.gradients(params, X, Y, workers=2)[1].vector
before = blas._settings(blas._libraries().shared)
with Block(one=True):  # as if another thread were in the middle of a call
    child = os.fork()
    if child == 0:
        restored = blas._settings(blas._libraries().shared) == before
        found = network.gradients(params, X, Y, workers=2)[1].vector
        print(restored, np.array_equal(found, expected), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(blas._settings(blas._libraries().shared) == before,
      np.array_equal(network.gradients(params, X, Y, workers=2)[1].vector, expected))
"""


class TestThreads:
    def test_blas_has_one_thread_in_the_block_and_its_own_after_it(self) -> None:
        before = settings()

        def fail_in_the_block() -> None:
            with Block(one=True):
                with Block(one=True):
                    assert set(settings()) == {1}
                assert set(settings()) == {1}
                assert usable_threads() >= min(max(before), len(os.sched_getaffinity(0)))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_in_the_block()
        assert settings() == before

    def test_a_failing_call_leaves_blas_as_it_was(self) -> None:
        network, layers, batch = large(30_000)
        before = settings()
        X = batch.X.copy()
        X[0, 29_000] = np.inf
        with pytest.raises(ValueError, match="X must be finite"):
            network.predict(layers, X)
        assert settings() == before

    @staticmethod
    def threads(environment: dict[str, str], prelude: str = "") -> str:
        code = f"import os\n{prelude}\nfrom nnarray.backends import usable_threads\nprint(usable_threads())"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def test_limits_are_kept(self) -> None:
        cpus = len(os.sched_getaffinity(0))
        assert int(self.threads({})) <= cpus
        assert self.threads({"NNARRAY_NUM_THREADS": "7"}) == "7"
        assert self.threads({"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}) == "1"
        assert self.threads({}, "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])") == "1"

    def test_one_thread_in_the_environment_holds_for_a_single_tile_too(self) -> None:
        code = (
            "import numpy as np, nnarray as nn\n"
            "from nnarray import engine\n"
            "from nnarray.backends import blas\n"
            "batch = engine.Batch(np.ones((300, 200)), np.ones((1, 200)), 200)\n"
            "seen = lambda: blas._settings(blas._libraries().shared)\n"
            "seen_within = []\n"
            "engine.compiling.program_for = lambda *_, **__: seen_within.extend(seen())\n"
            "network = nn.Network((300, 200, 1))\n"
            "layers = network.init(0, dtype='float64').layers\n"
            "engine.cost_and_gradients(batch, layers, network, nn.backend('numpy'), l2=0.0)\n"
            "print(seen_within == [1] * len(seen()), seen())"
        )
        found = [
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ
                | {"NNARRAY_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "2", "NNARRAY_MACHINE_CODE": "0"},
            ).stdout
            for threads in ("1", "2")
        ]
        assert found[0].startswith("True")
        assert found[1].startswith("False") or len(os.sched_getaffinity(0)) == 1
        assert found[0].split(" ", 1)[1] == found[1].split(" ", 1)[1]

    @pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
    def test_a_senseless_limit_is_refused_by_name(self, value) -> None:
        message = self.threads({"NNARRAY_NUM_THREADS": value})
        assert message == (
            f"ValueError: the environment variable NNARRAY_NUM_THREADS must be a whole number ≥ 1, got {value!r}"
        )

    @pytest.mark.parametrize(
        ("files", "share"),
        [
            ({"cpu.max": "max 100000\n"}, None),
            ({"cpu.max": "250000 100000\n"}, 2),
            ({"cpu.max": "50000 100000\n"}, 1),
            ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
            ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
            ({}, None),
        ],
    )
    def test_a_container_s_quota_is_read(self, files, share, tmp_path, monkeypatch) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(blas, "CGROUP", tmp_path)
        assert blas._cgroup_share.__wrapped__() == share


@pytest.fixture
def peak() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """The most bytes that a call has at once above what there was, after one call to warm up."""

    def of(call: Callable[[], Any]) -> int:
        call()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            kept = call()
            most = tracemalloc.get_traced_memory()[1] - before
            del kept
        finally:
            tracemalloc.stop()
        return most

    return of


class TestMemory:
    SIZES = (200, 100, 50, 1)

    def calls(self, m: int) -> dict[str, Callable[[], Any]]:
        generator = np.random.default_rng(0)
        network = nn.Network(self.SIZES)
        params = network.init(0)
        X = generator.standard_normal((m, 200), dtype="float32").T
        Y = (X[:1] > 0).astype("float32")
        return {
            "gradients": lambda: network.gradients(params, X, Y, l2=0.1),
            "cost": lambda: network.cost(params, X, Y, l2=0.1),
            "predict": lambda: network.predict(params, X),
            "train": lambda: nn.train(network, X, Y, params=params, epochs=2, validation=(X, Y)),
            "dropout": lambda: nn.train(network, X, Y, params=params, epochs=2, dropout=0.5),
        }

    @pytest.mark.parametrize("name", ["gradients", "cost", "predict", "train", "dropout"])
    def test_it_does_not_grow_with_m(self, name, peak) -> None:
        peaks = []
        for m in (30_000, 300_000):
            call = self.calls(m)[name]
            for program in idle.living():
                program.release()  # so that neither finds the memory of the other
            peaks.append(peak(call))
        small, great = peaks
        outputs = {"predict": 2, "train": 3}.get(name, 0) * 4 * (300_000 - 30_000)
        assert great - small < 2**23 + outputs  # two floats for each hidden unit of each example would be 320 MB
        assert great < 64 * 2**20

    def test_networks_of_the_past_leave_no_buffers_behind(self) -> None:
        X, Y = np.ones((50, 8000), "float32"), np.ones((1, 8000), "float32")
        for n in range(400, 440):
            network = nn.Network((50, n, 1))
            network.gradients(network.init(0), X, Y)
        assert 0 < idle.idle_bytes() < idle.LIMIT + 2**26

    @pytest.mark.parametrize("reason", [None, "a test"])
    def test_networks_in_turn_keep_no_more_than_the_limit(self, reason, monkeypatch) -> None:
        """Also once each has its program, as machine code or as NumPy's calls."""
        if reason is not None:
            monkeypatch.setattr(machine_code, "unavailable_reason", lambda: reason)
        X, Y = np.ones((50, 8000), "float32"), np.ones((1, 8000), "float32")
        networks = [nn.Network((50, n + (reason is None), 1)) for n in range(500, 540, 2)]
        for network in networks * 2:
            network.gradients(network.init(0), X, Y, workers=1)
        assert 0 < idle.idle_bytes() <= idle.LIMIT

    @pytest.mark.parametrize("sizes", [(1024, 1024, 1024, 10), (*[512] * 20, 10), (*[256] * 40, 10)])
    def test_a_step_of_a_large_network_stays_within_six_times_its_parameters(self, sizes, peak) -> None:
        network = nn.Network(sizes, output="softmax")
        params = network.init(0)
        X = np.random.default_rng(0).standard_normal((8192, sizes[0]), dtype="float32").T
        Y = nn.one_hot(np.arange(8192) % 10, 10).astype("float32")

        def step() -> Any:
            for program in idle.living():
                program.release()
            return network.gradients(params, X, Y, workers=2)

        assert peak(step) < 64 * 2**20 + 6 * params.vector.nbytes

    @pytest.mark.skipif(not makes_machine_code(), reason="NumPy's calls keep no memory for panels")
    def test_a_last_narrower_tile_has_the_memory_that_waits(self, monkeypatch) -> None:
        """And the tiles' programs are two, though two workers ask for the first one at once."""
        made, new_program = list[Any](), machine_code.new_program

        def counted(*args: Any, **options: Any) -> Any:
            made.append(new_program(*args, **options))
            return made[-1]

        monkeypatch.setattr(machine_code, "new_program", counted)
        network = nn.Network((300, 503, 501, 1))
        m = 2 * engine.tile_width(network, 10**6, 4) + 600
        width = engine.tile_width(network, m, 4)
        assert m % width
        X = np.random.default_rng(0).standard_normal((m, 300), dtype="float32").T
        params, Y = network.init(0), (X[:1] > 0).astype("float32")
        for program in idle.living():
            program.release()
        found = [network.gradients(params, X, Y, workers=2)[1].vector for _ in range(3)]
        assert len(made) == 2
        arenas = [arena.memory.nbytes for program in made for arena in program.idle]
        assert len(arenas) <= 2
        assert min(arenas) > 2**23
        for g in found[1:]:
            np.testing.assert_array_equal(g, found[0])


LIMITED = """
import resource, sys
import numpy as np
import nnarray as nn
path, limited = sys.argv[1], sys.argv[2] == "limited"
table = np.load(path, mmap_mode="r")
Y = (np.arange(table.shape[0]) % 3 == 0).astype("float32")[None, :]
network = nn.Network((table.shape[1], 8, 1))
warm = nn.train(network, np.ones((table.shape[1], 9000), "float32"), np.ones((1, 9000)), epochs=1, workers=2)
if limited:
    used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + table.nbytes // 3,) * 2)
    try:
        np.array(table)
    except MemoryError:
        print("too large to be loaded", file=sys.stderr)
X = table.T if limited else np.array(table).T
for options in ({}, {"batch_size": 5000}):
    result = nn.train(network, X, Y, epochs=2, optimizer=nn.Adam(0.01), workers=2, **options)
    print(result.params.vector.tobytes().hex(), result.history[-1].cost)
"""


class TestFiles:
    def test_a_mapped_file_is_known_however_it_is_seen(self, tmp_path: Path) -> None:
        np.save(tmp_path / "table.npy", np.ones((30, 4), "float32"))
        table = np.load(tmp_path / "table.npy", mmap_mode="r")
        assert mapped_file(table) is not None
        assert mapped_file(np.asarray(table).T[1:, ::2]) is mapped_file(table)
        assert mapped_file(np.array(table)) is None
        assert mapped_file([1.0]) is None

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", ">f4"])
    def test_a_file_of_any_dtype_is_used_where_it_lies(self, dtype, tmp_path: Path, peak) -> None:
        generator = np.random.default_rng(0)
        table = generator.integers(0, 200, (150_000, 50)).astype(dtype)
        np.save(tmp_path / "table.npy", table)
        mapped = np.load(tmp_path / "table.npy", mmap_mode="r").T
        network = nn.Network((50, 6, 1), "tanh")
        params, Y = network.init(0, "small"), (table[:, :1] > 100).T.astype("float32")
        in_memory = table.astype("float32").T
        for call in (
            lambda X: network.gradients(params, X, Y)[1].vector,
            lambda X: network.predict(params, X),
            lambda X: network.cost(params, X, Y),
            lambda X: network.forward(params, X[:, :10])[-1],
            lambda X: nn.train(network, X, Y, params=params, epochs=1, batch_size=7000).params.vector,
        ):
            np.testing.assert_array_equal(call(mapped), call(in_memory))
        assert peak(lambda: network.gradients(params, mapped, Y)) < 0.6 * in_memory.nbytes

    @pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
    def test_a_file_of_three_times_the_memory_trains_to_the_same_parameters(self, tmp_path: Path) -> None:
        table = np.random.default_rng(0).standard_normal((90_000, 500), dtype="float32")
        np.save(tmp_path / "table.npy", table)
        done = [
            subprocess.run(
                [sys.executable, "-c", LIMITED, str(tmp_path / "table.npy"), how],
                capture_output=True,
                text=True,
                check=True,
            )
            for how in ("limited", "free")
        ]
        assert done[0].stderr == "too large to be loaded\n"
        assert done[0].stdout == done[1].stdout


class TestUpdates:
    OPTIMIZERS = (nn.GradientDescent(0.1), nn.Momentum(0.1), nn.Nesterov(0.1), nn.RMSprop(0.01), nn.Adam(0.01))

    @pytest.mark.parametrize("size", [1, 5, 2**16, 2**16 + 1, 150_000])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_piece_by_piece_and_in_place_is_the_rule_on_the_whole(self, optimizer, dtype, size) -> None:
        generator = np.random.default_rng(size)
        theta = generator.standard_normal(size).astype(dtype)
        expected, state = theta, optimizer.init_vector(theta, NUMPY)
        own, own_state = theta.copy(), optimizer.init_vector(theta, NUMPY)
        pure, pure_state = theta, optimizer.init_vector(theta, NUMPY)
        for t in range(1, 4):
            g = generator.standard_normal(size).astype(dtype)
            means = [getattr(state, name) for name in optimizer.remembers]
            expected, *means = optimizer.step(expected, *means, g=g, t=t, alpha=optimizer.alpha(t - 1), xp=np)
            state = state._replace(t=t, **dict(zip(optimizer.remembers, means, strict=True)))
            given, own_state = optimizer.update_vector(own, g, own_state, NUMPY, in_place=True)
            assert given is own
            before = pure.copy()
            after, pure_state = optimizer.update_vector(pure, g, pure_state, NUMPY)
            np.testing.assert_array_equal(pure, before)
            pure = after
            np.testing.assert_array_equal(own, pure)
            close_to(own, expected)
            for name in optimizer.remembers:
                np.testing.assert_array_equal(getattr(own_state, name), getattr(pure_state, name))
                close_to(getattr(own_state, name), getattr(state, name))

    def test_training_makes_no_vector_of_theta_s_size_in_a_step(self, peak) -> None:
        network, (X, Y) = nn.Network((500, 400, 1)), (np.ones((500, 64), "float32"), np.ones((1, 64), "float32"))
        params = network.init(0)

        def train(epochs: int) -> int:
            return peak(lambda: nn.train(network, X, Y, params=params, epochs=epochs, batch_size=8, progress=False))

        assert train(30) - train(2) < params.vector.nbytes / 2


class TestDropoutMasks:
    @pytest.mark.parametrize("m", [7, 40])
    def test_they_do_not_depend_on_the_tiles(self, m) -> None:
        drop = Dropout((0.5, 0.2), (3, 5, 4, 1), 0, NUMPY)
        batch = engine.Batch(np.zeros((3, m)), np.zeros((1, m)), m)
        for _ in range(3):
            masked, drop.position = drop.ahead(batch, "float32")
            assert len(masked.draw_masks) == 2
            for draw in masked.draw_masks:
                for width in (1, 2, 3, m):
                    tiles = [draw(start, min(start + width, m)) for start in range(0, m, width)]
                    np.testing.assert_array_equal(np.concatenate(tiles, axis=1), draw(0, m))

    @pytest.mark.parametrize("rates", [(0.5, 0.2), (0.0, 0.0)])
    def test_of_inputs_do_not_depend_on_the_tiles(self, rates) -> None:
        m, drop = 23, Dropout(rates, (3, 5, 4, 1), 0, NUMPY, input_rate=0.3)
        batch = engine.Batch(np.ones((3, m)), np.zeros((1, m)), m)
        seen = []
        for _ in range(3):
            masked, drop.position = drop.ahead(batch, "float64")
            whole = masked.tile(0, m, np.dtype("float64"), NUMPY)
            np.testing.assert_array_equal(np.unique(whole.X), [0, 1 / 0.7])
            assert len(whole.masks) == 2 * any(rates)
            for width in (1, 2, 5):
                tiles = [masked.tile(at, min(at + width, m), np.dtype("float64"), NUMPY) for at in range(0, m, width)]
                np.testing.assert_array_equal(np.concatenate([tile.X for tile in tiles], axis=1), whole.X)
            seen.append(whole.X)
        assert not np.array_equal(seen[0], seen[1])

    def test_of_inputs_are_the_same_for_any_workers_and_other_bits_are_drawn_for_none(self) -> None:
        network, layers, X, Y = problem((9, 40, 1), "tanh", "sigmoid", m=20_000)
        options = {"params": layers, "epochs": 2, "batch_size": 9000, "dropout": 0.3}
        one, four, without = (
            nn.train(network, X, Y, **options, **more).params.vector
            for more in ({"input_dropout": 0.2, "workers": 1}, {"input_dropout": 0.2, "workers": 4}, {})
        )
        np.testing.assert_array_equal(one, four)
        assert not np.array_equal(one, without)


def test_a_run_of_small_steps_has_one_thread_and_one_of_large_steps_its_own() -> None:
    outside = BLAS_THREADS.outside()
    small, large = nn.Network((64, 100, 10), output="softmax"), nn.Network((784, 512, 512, 10), output="softmax")
    with engine.ThreadsOfARun(small, 200, nn.backend("numpy")) as threads:
        for _ in range(2):
            threads.hold()
            assert set(settings()) == {1}
            assert BLAS_THREADS.outside() == outside
    assert max(settings()) == outside
    for network, columns in ((large, 200), (small, 20_000)):
        with engine.ThreadsOfARun(network, columns, nn.backend("numpy")) as threads:
            threads.hold()
            assert max(settings()) == outside


def test_training_on_small_batches_is_such_a_run(monkeypatch) -> None:
    """Piece by piece, as with dropout, and where a step is one call."""
    network, layers, X, Y = problem((40, 70, 3), "tanh", "softmax", m=40)
    for owner, name, dropout in ((engine, "cost_and_gradients", 0.1), (TrainingSteps, "launch", 0.0)):
        seen: list[int] = []
        real = getattr(owner, name)

        def looking(*given: Any, seen: Any = seen, real: Any = real, **options: Any) -> Any:
            seen.extend(settings())
            return real(*given, **options)

        monkeypatch.setattr(owner, name, looking)
        nn.train(network, X, Y, params=layers, epochs=1, batch_size=8, dropout=dropout)
        assert set(seen) == {1}


def test_steps_without_a_product_for_two_threads_leave_blas_alone() -> None:
    outside, network = BLAS_THREADS.outside(), nn.Network((64, 100, 10), output="softmax")
    for columns, expected in ((1, outside), (2, 1)):
        with engine.ThreadsOfSteps(network, columns, nn.backend("numpy")) as threads:
            threads.hold()
            assert set(settings()) == {expected}
