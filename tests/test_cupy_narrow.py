"""Examples in bfloat16 and float16 on CuPy: read as they are, and narrowed once where a run has them to itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import conftest
import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import backends
from nnarray.backends.cupy.backend import CupyBackend
from nnarray.backends.cupy.graph import GraphedSteps
from nnarray.engine import compiling

REASON = backends.unavailable_reason("cupy")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"cupy: {REASON}")

PRECISIONS = ("bfloat16", "float16")
LARGE, SMALL, TALL = (40, 128, 40, 10), (5, 6, 3), (70, 1)
"""Networks whose X is read by products, by columns in the registers of a thread, and of a warp."""


@pytest.fixture
def emulator() -> Any:
    if not hasattr(conftest, "EMULATOR"):
        pytest.skip("cupy: needs the emulated GPU")
    return conftest.EMULATOR


def dtype_of(precision: str) -> Any:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if precision == "bfloat16" else precision)


def on_card(sizes: tuple[int, ...], precision: str, order: Any = "F", **options: Any) -> tuple[Any, ...]:
    """A network with its parameters, X in the narrower float, the same X in float32, and Y."""
    import cupy

    output = "sigmoid" if sizes[-1] == 1 else "softmax"
    network, layers, X, Y = problem(sizes, "tanh", output, m=200)
    if options:
        network = nn.Network(sizes, "tanh", output, **options)
        params = network.init(0).to(nn.backend("cupy", precision=precision))
    else:
        params = nn.Parameters.from_layers(layers).to(nn.backend("cupy", precision=precision), "float32")
    narrow = cupy.asarray(np.asarray(X, dtype_of(precision), order=order))
    return network, params, narrow, narrow.astype("float32", order="K"), cupy.asarray(Y.astype("float32"))


@contextmanager
def largest_allocation() -> Iterator[list[int]]:
    """The bytes of what CuPy's pool is asked for in the block, the most at last."""
    import cupy

    sizes = [0]

    class Hook(cupy.cuda.MemoryHook):
        def malloc_preprocess(self, *, size: int, **_: Any) -> None:
            sizes[0] = max(sizes[0], size)

    with Hook():
        yield sizes


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found.get(), expected.get())


class TestAsTheyAre:
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("order", ["F", "C"])
    @pytest.mark.parametrize("sizes", [LARGE, SMALL, TALL], ids=str)
    def test_the_bits_are_those_of_the_same_numbers_in_float32(self, sizes, order, precision) -> None:
        network, params, narrow, wide, Y = on_card(sizes, precision, order)
        A, pull = network.vjp(params, narrow)
        gradients, dX = pull(A)
        for _ in range(3):  # as they stand, captured, replayed
            J, g = network.gradients(params, narrow, Y, l2=0.1)
            J_wide, g_wide = network.gradients(params, wide, Y, l2=0.1)
            same(J, J_wide)
            same(g.vector, g_wide.vector)
            same(network.cost(params, narrow, Y), network.cost(params, wide, Y))
            same(network.predict(params, narrow), network.predict(params, wide))
        A_wide, pull = network.vjp(params, wide)
        same(A, A_wide)
        same(gradients.vector, pull(A)[0].vector)
        same(dX, pull(A)[1])
        assert g.vector.dtype == dX.dtype == A.dtype == np.float32

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_they_are_never_widened(self, precision, monkeypatch) -> None:
        import cupy

        monkeypatch.setattr("nnarray.backends.cupy.replays.Replays._captured", lambda *_: None)  # for its workspace
        network, params, narrow, _, _ = on_card((784, 20, 2), precision)
        narrow = cupy.concatenate([narrow] * 20, axis=1)
        Y = nn.one_hot(np.arange(narrow.shape[1]) % 2, 2)
        narrow, Y = cupy.asfortranarray(narrow), cupy.asarray(Y, "float32")
        for X, is_widened in ((narrow, False), (cupy.asfortranarray(narrow.astype("float32")), True)):
            network.gradients(params, X, Y)  # which looks for NaN
            with largest_allocation() as found:
                network.gradients(params, X, Y)
                network.predict(params, X)
            assert (found[0] >= narrow.nbytes) == is_widened

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_calls_are_replays(self, precision, emulator) -> None:
        network, params, narrow, _, Y = on_card(LARGE, precision)
        for _ in range(3):
            emulator.reset()
            network.gradients(params, narrow, Y)
        assert (emulator.count("graphs"), emulator.count("launches"), emulator.count("to host")) == (1, 0, 0)

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("width", [None, 64])
    def test_under_batch_normalisation(self, width, precision, monkeypatch) -> None:
        network, params, narrow, wide, Y = on_card((40, 30, 20, 3), precision, batch_norm=True)
        if width is not None:
            monkeypatch.setattr(CupyBackend, "most_columns", width)
        (J, g), (J_wide, g_wide) = (network.gradients(params, X, Y) for X in (narrow, wide))
        same(J, J_wide)
        same(g.vector, g_wide.vector)
        same(network.predict(params, narrow), network.predict(params, wide))

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_where_nothing_is_compiled(self, precision, monkeypatch) -> None:
        network, params, narrow, wide, Y = on_card(SMALL, precision)
        assert [A.dtype for A in network.forward(params, narrow)] == [np.float32] * 3
        for A, other in zip(network.forward(params, narrow), network.forward(params, wide), strict=True):
            same(A, other)
        monkeypatch.setattr("nnarray.backends.cupy.backend.plain_primitives", lambda: True)
        same(network.gradients(params, narrow, Y)[1].vector, network.gradients(params, wide, Y)[1].vector)

        def untraceable(A: Any, Y: Any, *, xp: Any) -> Any:
            return (A - Y) * float(A.shape[1] > 0 and 1.0) if hasattr(A, "get") else None

        cost = nn.Cost(lambda A, Y, *, xp: xp.sum((A - Y) ** 2, axis=0, keepdims=True) / 2, dA=untraceable)
        monkeypatch.undo()
        same(
            network.gradients(params, narrow, Y, cost=cost)[1].vector,
            network.gradients(params, wide, Y, cost=cost)[1].vector,
        )

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_nan_is_told(self, precision) -> None:
        network, params, narrow, _, Y = on_card(LARGE, precision)
        narrow[3, 7] = np.nan
        for call in (lambda: network.gradients(params, narrow, Y), lambda: network.predict(params, narrow)):
            with pytest.raises(ValueError, match=rf"X must be finite in {precision}, got nan at \[3, 7\]"):
                call()

    def test_of_another_precision_they_are_converted(self) -> None:
        network, params, narrow, wide, Y = on_card(LARGE, "float16")
        for precision in (None, "tf32", "bfloat16"):
            there = params.to(nn.backend("cupy", precision=precision))
            same(network.gradients(there, narrow, Y)[1].vector, network.gradients(there, wide, Y)[1].vector)


def trained(monkeypatch: Any, *given: Any, **options: Any) -> tuple[Any, list[Any]]:
    """The result of a run, and X as the device has it in captured steps."""
    seen, as_it_was = list[Any](), GraphedSteps.__init__

    def captured(self: Any, gradient: Any, update: Any, arrays: Any, **sizes: Any) -> None:
        seen.append(arrays.examples[0])
        as_it_was(self, gradient, update, arrays, **sizes)

    with monkeypatch.context() as patch:
        patch.setattr(GraphedSteps, "__init__", captured)
        return nn.train(*given, epochs=3, **options), seen


@pytest.mark.parametrize("precision", PRECISIONS)
def test_examples_by_rows_have_the_bits_of_those_by_columns(precision, emulator) -> None:
    """The emulator's products are exact, whatever way their operands lie."""
    network, params, _, wide, Y = on_card(LARGE, precision)
    by_rows = wide.copy(order="C")
    for _ in range(3):
        same(network.gradients(params, by_rows, Y)[1].vector, network.gradients(params, wide, Y)[1].vector)


class TestRuns:
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("order", ["F", "C"])
    @pytest.mark.parametrize("batch_size", [None, 64])
    @pytest.mark.parametrize("sizes", [LARGE, SMALL, TALL], ids=str)
    def test_x_is_narrowed_once_and_lies_by_columns(self, sizes, batch_size, order, precision, monkeypatch) -> None:
        network, params, narrow, wide, Y = on_card(sizes, precision, order)
        found, seen = trained(monkeypatch, network, wide, Y, params=params, batch_size=batch_size)
        assert {(X.dtype, X.strides[0]) for X in seen} == {(narrow.dtype, 2)}
        for given in ((narrow, Y), (wide.get(), Y.get())):
            options = {"params": params, "batch_size": batch_size, "backend": params.backend}
            other, _ = trained(monkeypatch, network, *given, **options)
            same(found.params.vector, other.params.vector)

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("batch_size", [None, 64])
    @pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"input_dropout": 0.2}], ids=str)
    def test_so_it_is_step_by_step_and_where_there_is_no_room(self, options, batch_size, precision, monkeypatch):
        """Products round X to the same numbers, in each step or once."""
        network, params, narrow, wide, Y = on_card(LARGE, precision)
        options |= {"params": params, "batch_size": batch_size, "validation": (narrow, Y)}
        found, _ = trained(monkeypatch, network, wide, Y, **options)
        with monkeypatch.context() as patch:
            patch.setattr(CupyBackend, "new_compiled_steps", lambda *_, **__: None)
            same(found.params.vector, nn.train(network, wide, Y, epochs=3, **options).params.vector)
        monkeypatch.setattr(CupyBackend, "fits", lambda *_, **__: False)
        other, seen = trained(monkeypatch, network, wide, Y, **options)
        assert {X.dtype.name for X in seen} <= {"float32"}
        same(found.params.vector, other.params.vector)
        assert found.history[-1].validation_cost == other.history[-1].validation_cost

    def test_without_the_package_that_has_bfloat16(self, monkeypatch) -> None:
        network, params, _, wide, Y = on_card(LARGE, "bfloat16")
        found, _ = trained(monkeypatch, network, wide, Y, params=params)
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
        other, seen = trained(monkeypatch, network, wide, Y, params=params)
        assert [X.dtype.name for X in seen] == ["float32"]
        same(found.params.vector, other.params.vector)

    @pytest.mark.parametrize("batch_size", [None, 64])
    def test_float32s_x_by_rows_lies_by_columns_in_a_run(self, batch_size, monkeypatch) -> None:
        """Columns are gathered, and held in registers, where they are side by side."""
        import cupy

        network, layers, X, Y = problem(TALL, (), "sigmoid", m=200)
        X, Y = cupy.asarray(np.ascontiguousarray(X)), cupy.asarray(Y)
        options = {"params": layers, "dtype": "float64", "batch_size": batch_size, "backend": "cupy"}
        found, seen = trained(monkeypatch, network, X, Y, **options)
        assert [X.strides[0] for X in seen] == [8] * len(seen) != []
        again, _ = trained(monkeypatch, network, X.copy(order="F"), Y, **options)
        same(found.params.vector, again.params.vector)
        monkeypatch.setattr(CupyBackend, "fits", lambda *_, **__: False)
        assert trained(monkeypatch, network, X, Y, **options)[1][0] is X

    def test_what_float16_does_not_hold_is_told(self) -> None:
        network, params, _, wide, Y = on_card(LARGE, "float16")
        wide[2, 5] = 1e5
        for validation, name in ((None, "X"), ((wide, Y), "validation X")):
            X = wide if validation is None else wide * 0
            with pytest.raises(ValueError, match=rf"{name} must be finite in float16, got inf at \[2, 5\]"):
                nn.train(network, X, Y, params=params, epochs=1, validation=validation)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_stream_of_narrow_batches(self, precision) -> None:
        network, params, narrow, wide, Y = on_card(LARGE, precision)

        def batches(X: Any) -> Any:
            return lambda: ((X[:, i : i + 50], Y[:, i : i + 50]) for i in (0, 50))

        results = [nn.train(network, batches(X), params=params, epochs=2) for X in (narrow, wide)]
        same(*[result.params.vector for result in results])

    def test_torchs_bfloat16_on_the_host(self) -> None:
        torch = pytest.importorskip("torch")
        network, params, _, wide, Y = on_card(LARGE, "bfloat16")
        X = torch.from_numpy(np.ascontiguousarray(wide.get().T)).bfloat16().T
        backend = nn.backend("cupy", precision="bfloat16")
        found = nn.train(network, X, torch.from_numpy(Y.get()), params=params, backend=backend, epochs=2)
        same(found.params.vector, nn.train(network, wide, Y, params=params, epochs=2).params.vector)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_checkpoint_is_resumed_where_there_is_less_room(self, precision, tmp_path, monkeypatch) -> None:
        network, params, narrow, wide, Y = on_card(LARGE, precision)
        options = {"params": params, "batch_size": 64, "checkpoint": tmp_path / "run"}
        expected = nn.train(network, wide, Y, epochs=4, **options | {"checkpoint": None})
        nn.train(network, wide, Y, epochs=2, **options)
        monkeypatch.setattr(CupyBackend, "fits", lambda self, size, *, beside=0: size < narrow.nbytes)
        same(nn.train(network, wide, Y, epochs=4, resume=True, **options).params.vector, expected.params.vector)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_an_estimator_narrows_its_table_once(settings, precision, monkeypatch) -> None:
    pytest.importorskip("sklearn")
    from nnarray.sklearn import MLPClassifier

    generator = np.random.default_rng(0)
    X = generator.normal(size=(400, 40)).astype("float32")
    y = (X[:, :3].sum(axis=1) > 0).astype(int)
    narrow = list[bool]()
    made = compiling.compiled

    def compiled(wanted: Any, network: Any, columns: int, dtype: Any, given: Any, *rest: Any, **options: Any) -> Any:
        narrow.append(given.narrow)
        return made(wanted, network, columns, dtype, given, *rest, **options)

    monkeypatch.setattr(compiling, "compiled", compiled)
    settings |= {"hidden_layer_sizes": (64,), "max_iter": 20, "random_state": 0, "dtype": "float32"}
    model = MLPClassifier(backend=nn.backend("cupy", precision=precision), **settings).fit(X, y)
    assert narrow
    assert all(narrow)
    expected = MLPClassifier(**settings).fit(X, y)
    assert np.mean(model.predict(X) == expected.predict(X)) > 0.97
    wide = MLPClassifier(backend="cupy", **settings).fit(X, y)
    assert np.abs(wide.predict_proba(X) - expected.predict_proba(X)).max() < 1e-3


@pytest.mark.parametrize("kind", ["step", "predict", "epoch"])
def test_the_benchmarks_x_is_held_in_bfloat16_as_its_peers_hold_it(kind) -> None:
    from bench.agreement import disagreement, errors, reference
    from bench.contestants.nnarray_backends import NNArray
    from bench.problems import make_problem
    from bench.workloads import Workload

    work = Workload("own", (40, 50, 3), 64, "tanh", "softmax", kind, 16 if kind == "epoch" else None)
    problem, contestant = make_problem(work, precision="bfloat16", device="gpu"), NNArray("cupy")
    assert contestant._place(problem)[3].dtype.name == "bfloat16"
    prepared = contestant.prepare(problem)
    assert disagreement(errors(prepared.result(), reference(problem)), "bfloat16") is None
    prepared.run()
