"""Machine code for CPUs: its functions, its programs, and what it does with arrays that it is not for."""

import os
import pickle
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_programs import EQUATIONS, HIDDEN, OUTPUTS, replayed, tile_of

from nnarray import Adam, Network, train
from nnarray.backends import NUMPY
from nnarray.backends.cblas import cblas
from nnarray.core.primitives import bind
from nnarray.engine import equations
from nnarray.engine.batch import Tile
from nnarray.programs.schedule import Plan
from nnarray.programs.targets.llvm import (
    arrays,
    blocked,
    compiler,
    driver,
    mathematics,
    pieces,
    products,
    team,
    training_step,
)
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.loops import LoopCode
from nnarray.programs.targets.llvm.places import Places
from nnarray.programs.targets.llvm.program import LIMITS, Program
from nnarray.programs.trace import Trace

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def program(graph: Any) -> Program:
    blas = cblas()
    assert blas is not None
    return Program(graph, blas)


def field_of_a_record(V: np.ndarray) -> np.ndarray:
    """A view whose strides are no multiples of its entries' size."""
    table = np.zeros(V.shape, [("label", "i1"), ("value", V.dtype)])
    table["value"] = V
    return table["value"]


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(np.asarray(found - expected)) / (np.linalg.norm(np.asarray(expected)) or 1))


class TestMathematics:
    """Against the next wider float of NumPy, over all exponents, near 0, 1 and every end."""

    ENDS = (0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 88.72, 88.73, -87.4, -103.9, 709.78, 709.79, -708.4, -745.1)

    @staticmethod
    def arguments(dtype: str) -> np.ndarray:
        generator, bits = np.random.default_rng(0), np.uint32 if dtype == "float32" else np.uint64
        any_bits = generator.integers(0, 2 ** (8 * np.dtype(bits).itemsize), 1_000_000, dtype=np.uint64, endpoint=False)
        drawn = [generator.normal(size=100_000) * scale for scale in (1e-6, 1e-3, 1, 30)]
        near_one = 1 + generator.normal(size=100_000) * 1e-3
        tiny = np.geomspace(np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny * 10, 1000, dtype=dtype)
        ends = np.array(TestMathematics.ENDS)
        with np.errstate(over="ignore"):
            parts = [any_bits.astype(bits).view(dtype), *drawn, near_one, tiny, -tiny, ends]
            return np.concatenate([part.astype(dtype) for part in parts])

    @pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_within_4_ulp_over_the_whole_range(self, name, dtype) -> None:
        trace, x = Trace(dtype), self.arguments(dtype)
        V = trace.input("V", x.shape)
        found = np.empty_like(x)
        program(trace.graph({"out": getattr(trace, name)(V)}))(x, found)
        wide = "float64" if dtype == "float32" else "longdouble"
        with np.errstate(all="ignore"):
            exact = getattr(np, name)(x.astype(wide))
            expected = exact.astype(dtype)
            finite = np.isfinite(expected)
            ulp = np.spacing(np.abs(expected[finite])).astype(wide)
            assert np.max(np.abs(found[finite].astype(wide) - exact[finite]) / ulp) <= 4
        np.testing.assert_array_equal(found[~finite], expected[~finite])
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))

    def test_the_larger_of_two_is_nan_if_either_is(self) -> None:
        trace = Trace("float64")
        V, W = trace.input("V", (9,)), trace.input("W", (9,))
        values = [1.0, np.nan, -np.inf]
        v, w = np.repeat(values, 3), np.tile(values, 3)
        found = np.empty(9)
        program(trace.graph({"out": trace.maximum(V, W)}))(v, w, found)
        np.testing.assert_array_equal(found, np.maximum(v, w))

    def test_a_selection_of_parts_is_no_branch(self) -> None:
        """A loop with a branch would not vectorise."""
        for function in (
            mathematics.exp,
            mathematics.expm1,
            mathematics.sign,
            mathematics.log,
            mathematics.log1p,
            mathematics.tanh,
        ):
            code = Code("float")
            function(code, "%x")
            assert " br " not in code.function("%table").split("start:")[1]


@pytest.mark.parametrize("wanted", EQUATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_network(hidden, output, dtype, full, wanted) -> None:
    for sizes, m in (((3, 4, 5, 2), 9), ((2, 3, 40), 300), ((6, 2), 1), ((20, 30, 18, 3), 65)):
        network, layers, tile = tile_of(sizes, hidden, output, m, dtype, full=full)
        J, expected = wanted(tile, layers, network, bind(np))
        for _ in range(2):
            found, out, _ = replayed(wanted, tile, layers, network, program)
            assert J is None or relative(found, J) < TOLERANCE[dtype]
            for one, other in zip(out, expected, strict=True):
                assert one.dtype == dtype
                assert relative(one, other) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    "layout",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda V: V[::-1, ::-1],
        lambda V: np.repeat(V, 2, 1)[:, ::2],
        field_of_a_record,
    ],
)
def test_arrays_may_lie_anyhow(layout) -> None:
    network, layers, tile = tile_of((20, 30, 2), "relu", "sigmoid", 65, "float64", full=True)
    laid = Tile(layout(tile.X), layout(tile.Y), layout(tile.weights), [layout(D) for D in tile.masks])
    pairs = [(layout(W), layout(b)) for W, b in layers]
    J, expected = equations.cost_and_gradients(laid, pairs, network, bind(np))
    found, out, _ = replayed(equations.cost_and_gradients, laid, pairs, network, program)
    assert relative(found, J) < 1e-12
    for one, other in zip(out, expected, strict=True):
        assert relative(one, other) < 1e-12


def test_a_program_is_bound_once_for_arrays_that_lie_alike() -> None:
    trace = Trace("float64")
    made = program(trace.graph({"out": trace.input("V", (3, 4)) + 1.0}))
    V = np.zeros((3, 4))
    first = made.call([V, V.copy()]).bound
    assert made.call([V.copy(), V]).bound is first
    for other in (np.asfortranarray(V), V.view(np.memmap), V.astype(np.dtype("f8", metadata={"a": 1}))):
        bound = made.call([other, V]).bound
        assert bound is not first
        assert made.call([other, V]).bound is bound


def test_a_program_is_bound_once_for_arrays_that_were_unpickled() -> None:
    trace = Trace("float32")
    made = program(trace.graph({"out": trace.input("V", (3, 4)) * 2.0}))
    out = np.empty((3, 4), "float32")
    for k in range(5):
        V = pickle.loads(pickle.dumps(np.full((3, 4), k, "float32")))
        assert V.dtype is not out.dtype
        made(V, out)
        assert (out == 2 * k).all()
    assert len(made._arrays._bound) == 1


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize(("sizes", "output"), [((300, 1), "sigmoid"), ((300, 3), "softmax"), ((300, 5, 1), "identity")])
def test_an_input_that_two_products_read_is_read_in_blocks(sizes, output, layout, monkeypatch) -> None:
    monkeypatch.setattr("nnarray.programs.targets.llvm.columns.BLOCK_BYTES", 300 * 8 * 19)  # so 16 columns at once
    found = []
    network, layers, tile = tile_of(sizes, "relu", output, 65, "float64", full=False)
    tile = tile._replace(X=layout(tile.X))
    J, expected = equations.cost_and_gradients(tile, layers, network, bind(np))

    def seen(graph: Any) -> Program:
        found.append(program(graph))
        return found[0]

    result, out, _ = replayed(equations.cost_and_gradients, tile, layers, network, seen)
    made = [piece for stage in found[0].parts.stages for strand in stage for piece in strand]
    assert len([piece for piece in made if piece.adds]) == 4
    assert relative(result, J) < 1e-12
    for one, other in zip(out, expected, strict=True):
        assert relative(one, other) < 1e-12


def test_inputs_are_read_and_never_written() -> None:
    network, layers, tile = tile_of((20, 30, 2), "tanh", "softmax", 65, "float32", full=True)
    given = [tile.X, tile.Y, tile.weights, *tile.masks, *(V for pair in layers for V in pair)]
    before = [V.copy() for V in given]
    replayed(equations.cost_and_gradients, tile, layers, network, program)
    for V, was in zip(given, before, strict=True):
        np.testing.assert_array_equal(V, was)


@pytest.mark.parametrize(
    ("V", "message"),
    [
        (np.ones((3, 5)), r"expected an array of shape \(3, 4\) and dtype float64, got \(3, 5\) and float64"),
        (np.ones((3, 4), "float32"), "got .* and float32"),
        (np.ones(12), r"got \(12,\)"),
        (np.ones((1, 3, 4)), r"got \(1, 3, 4\)"),
        (np.ones((3, 4), ">f8"), "got .* and >f8"),
    ],
)
def test_other_arrays_than_the_graph_s_are_refused_before_anything_is_computed(V, message) -> None:
    trace = Trace("float64")
    run = program(trace.graph({"out": trace.input("V", (3, 4)) * 2.0}))
    out = np.zeros((3, 4))
    for _ in range(2):  # before it knows arrays that it can take, and after
        with pytest.raises(ValueError, match=message):
            run(V, out)
        assert not out.any()
        run(np.zeros((3, 4)), out)


def test_what_is_no_array_is_refused() -> None:
    trace = Trace("float64")
    run = program(trace.graph({"out": trace.input("V", (3, 4)) * 2.0}))
    run(np.ones((3, 4)), np.empty((3, 4)))
    for wrong in (None, 3, [1.0], "text"):
        with pytest.raises((ValueError, AttributeError)):
            run(wrong, np.empty((3, 4)))


def test_an_update_in_place_and_not() -> None:
    trace = Trace("float32")
    theta, g, t = trace.input("theta", (1000,)), trace.input("g", (1000,)), trace.scalar("t")
    run = program(trace.graph({"new": theta - g / (1 - 0.9**t)}, over={"new": theta}))
    assert run.works_in_place
    x, y = np.linspace(-1, 1, 1000, dtype="float32"), np.linspace(2, 3, 1000, dtype="float32")
    apart = np.empty_like(x)
    run(x, y, 3, apart)
    np.testing.assert_allclose(apart, x - y / (1 - 0.9**3), rtol=1e-5)
    run(x, y, 3, x)
    np.testing.assert_array_equal(x, apart)


def test_equal_loops_of_all_networks_are_compiled_once() -> None:
    def run(sizes: tuple[int, ...], m: int) -> None:
        network, layers, tile = tile_of(sizes, "relu", "softmax", m, "float32", full=False)
        replayed(equations.cost_and_gradients, tile, layers, network, program)

    run((40, 50, 60, 70), 33)
    before = functions_compiled()
    run((41, 55, 66, 71), 35)
    run((41, 55, 66, 59, 47, 71), 129)
    assert functions_compiled() == before


@pytest.mark.parametrize("batch_norm", [False, True])
def test_another_number_of_examples_compiles_nothing(batch_norm) -> None:
    network, generator = Network((30, 20, 3), output="softmax", batch_norm=batch_norm), np.random.default_rng(0)
    params = network.init()

    def run(m: int) -> None:
        network.gradients(params, generator.normal(size=(30, m)), np.eye(3)[:, generator.integers(0, 3, m)])

    run(50)
    before = functions_compiled()
    run(53)
    run(140)
    assert functions_compiled() == before


@pytest.mark.parametrize("batch_norm", [False, True])
def test_ten_layers_compile_no_more_than_five(batch_norm) -> None:
    """Whether they are equally wide or not: what layers share with one another is no loop of several."""
    generator = np.random.default_rng(0)

    def run(sizes: tuple[int, ...]) -> None:
        X, Y = generator.normal(size=(sizes[0], 64)), np.eye(sizes[-1])[:, generator.integers(0, sizes[-1], 64)]
        network = Network(sizes, output="softmax", batch_norm=batch_norm)
        train(network, X, Y, optimizer=Adam(), epochs=1, batch_size=32, progress=False)

    run((30, 29, 28, 27, 26, 25))
    before = functions_compiled()
    run((30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20))
    run((30,) * 11)
    assert functions_compiled() == before


def test_a_program_is_compiled_as_one_module(monkeypatch) -> None:
    modules, real = list[int](), compiler._compiled
    network, layers, tile = tile_of((20, 30, 18, 13, 3), "relu", "softmax", 65, "float32", full=False)
    replayed(equations.cost_and_gradients, tile, layers, network, program)
    monkeypatch.setattr(compiler, "_functions", {})
    monkeypatch.setattr(compiler, "_compiled", lambda sources: modules.append(len(sources)) or real(sources))
    replayed(equations.cost_and_gradients, tile, layers, network, program)
    assert [count > 5 for count in modules] == [True]


class TestProductsOfFewTerms:
    """Products in vectors of columns, the last of which may be masked."""

    @staticmethod
    def check(
        rows: int,
        terms: int,
        columns: int,
        dtype: str,
        *,
        scale: float = 1.0,
        turned: bool = False,
        standing: bool = False,
    ) -> None:
        """A product of views into arrays of NaN, written into one: to its last entry, and nothing beside it.

        With A transposed, and B with contiguous columns, as an option each.
        """
        trace, generator = Trace(dtype), np.random.default_rng(rows * terms * columns)
        a, b, out = [np.full((n, k + 40), np.nan, dtype) for n, k in ((rows, terms), (terms, columns), (rows, columns))]
        a[:, 20:-20], b[:, 20:-20] = generator.normal(size=(rows, terms)), generator.normal(size=(terms, columns))
        A, B = trace.input("A", (terms, rows) if turned else (rows, terms)), trace.input("B", (terms, columns))
        graph = trace.graph({"out": ((A.T if turned else A) @ B) * scale})
        view = a[:, 20:-20]
        columns_of_B, right = np.full((columns, terms + 40), np.nan, dtype), b[:, 20:-20]
        columns_of_B[:, 20:-20] = right.T
        if standing:
            right = columns_of_B[:, 20:-20].T
        program(graph)(view.T.copy() if turned else view, right, out[:, 20:-20])
        expected = scale * (view.astype("float64") @ right.astype("float64"))
        np.testing.assert_allclose(out[:, 20:-20], expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        assert np.isnan(out[:, :20]).all()
        assert np.isnan(out[:, -20:]).all()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("columns", [1, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 130])
    def test_all_sizes(self, columns, dtype) -> None:
        for rows, terms in ((1, 1), (1, 16), (2, 2), (3, 5), (5, 3), (8, 16), (37, 1)):
            self.check(rows, terms, columns, dtype)
            self.check(rows, terms, columns, dtype, scale=0.3, turned=True)
            self.check(rows, terms, columns, dtype, scale=0.3, standing=True)

    def test_all_layers_share_one_function(self) -> None:
        self.check(3, 4, 50, "float32")
        before = functions_compiled()
        for rows, terms, columns in ((1, 16, 7), (9, 1, 200), (2, 3, 1)):
            self.check(rows, terms, columns, "float32")
            self.check(rows, terms, columns, "float32", turned=True)
        assert functions_compiled() == before

    def test_the_layout_of_examples_changes_no_bit(self) -> None:
        """Where rows of what is made are not contiguous, terms are written out, and LLVM chooses which it fuses."""
        trace, generator = Trace("float32"), np.random.default_rng(0)
        for terms in (1, 2, 3, 7):
            A, B = trace.input("A", (4, terms)), trace.input("B", (terms, 50))
            run = program(trace.graph({"out": A @ B}))
            a, b = generator.normal(size=(4, terms)).astype("f"), generator.normal(size=(terms, 50)).astype("f")
            plain = np.empty((4, 50), "f")
            run(a, b, plain)
            for right in (np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2]):
                for found in (np.empty((4, 50), "f"), np.empty((4, 50), "f", order="F")):
                    run(a, right, found)
                    np.testing.assert_array_equal(found, plain)
            trace = Trace("float32")

    def test_zeros_keep_their_signs_and_nan_its_column(self) -> None:
        trace = Trace("float32")
        A, B = trace.input("A", (1, 2)), trace.input("B", (2, 18))
        b, found = np.zeros((2, 18), "f"), np.empty((1, 18), "f")
        b[:, 17], b[0, 16] = np.inf, np.nan
        program(trace.graph({"out": A @ B}))(np.full((1, 2), -1, "f"), b, found)
        np.testing.assert_array_equal(found[0], [-0.0] * 16 + [np.nan, -np.inf])
        assert np.signbit(found[0, :16]).all()


class TestRowsTimesExamples:
    """Both products of a layer of one unit with examples that are contiguous each, in blocks and at once."""

    @staticmethod
    def made(n: int, m: int, dtype: str, *, offset: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X, from some entry of an array of NaN on, with w X and 0.3 (w X) Xᵀ."""
        generator, trace = np.random.default_rng(0), Trace(dtype)
        memory = np.full(m * (n + 3) + 40, np.nan, dtype)
        first = -(memory.ctypes.data // memory.itemsize) % 16 + offset
        V = memory[first : first + m * (n + 3)].reshape(m, n + 3)[:, :n].T
        V[:] = generator.normal(size=(n, m))
        w, X = trace.input("w", (1, n)), trace.input("X", (n, m), per_example=True)
        Z = w @ X
        found, outputs = program(trace.graph({"dW": Z @ X.T * 0.3, "Z": Z})), [np.empty((1, k), dtype) for k in (n, m)]
        found(generator.normal(size=(1, n)).astype(dtype), V, *outputs)
        return V, *outputs

    @pytest.mark.parametrize("block_bytes", [1, 2**30], ids=["in blocks", "at once"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("n", "m"), [(1, 9), (3, 20), (17, 5), (257, 1), (257, 7), (304, 65)])
    def test_are_those_of_a_wider_float(self, n, m, dtype, block_bytes, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.programs.targets.llvm.columns.BLOCK_BYTES", block_bytes)
        for name in ("FEW", "SMALL"):
            monkeypatch.setattr(products, name, 0)
        for offset in (0, 5):
            V, dW, Z = self.made(n, m, dtype, offset=offset)
            generator = np.random.default_rng(0)
            X = generator.normal(size=(n, m)).astype(dtype).astype("float64")
            np.testing.assert_array_equal(V, X)
            w = generator.normal(size=(1, n)).astype(dtype).astype("float64")
            assert relative(Z, w @ X) < TOLERANCE[dtype]
            assert relative(dW, (w @ X) @ X.T * 0.3) < TOLERANCE[dtype]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_have_the_same_bits_wherever_the_examples_lie(self, dtype) -> None:
        _, *expected = self.made(301, 13, dtype)
        for offset in range(1, 16):
            _, *found = self.made(301, 13, dtype, offset=offset)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_only_blocks_that_there_are_come_in_from_memory(self, monkeypatch) -> None:
        monkeypatch.setattr("nnarray.programs.targets.llvm.columns.BLOCK_BYTES", 300 * 8 * 19)
        trace = Trace("float64")
        w, X = trace.input("w", (1, 300)), trace.input("X", (300, 65), per_example=True)
        stages = program(trace.graph({"dW": (w @ X) @ X.T})).parts.stages
        added = [piece for [[piece]] in stages if piece.terms.length < 65]
        assert [piece.ahead for piece in added] == [16, 16, 16, 0, 0]


def functions_compiled() -> int:
    return len(compiler._functions)


ENGINES: list[Any] = []
"""Those that were in use for other processors: programs may still run their code."""


@pytest.fixture
def processor(monkeypatch, request) -> Any:
    """Functions are compiled anew, for this processor as if it could no more than `request.param` says."""
    import llvmlite.binding as llvm

    def machine() -> Any:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple()
        return llvm, target.create_target_machine(cpu=request.param, features="", opt=3, jit=True), ""

    functions = [driver.driver, driver.filler, team.leader, team.helper]
    functions += [training_step._function, training_step._gathering]
    monkeypatch.setattr(compiler, "_machine", machine)
    monkeypatch.setattr(compiler, "_engines", {})
    monkeypatch.setattr(compiler, "_functions", {})
    for function in functions:
        function.cache_clear()
    yield request.param
    ENGINES.append(compiler._engine())
    for function in functions:
        function.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are processors for x86-64")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v2", "x86-64-v3"], indirect=True)
class TestOlderProcessors:
    @pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_within_4_ulp(self, name, dtype, processor) -> None:
        TestMathematics().test_within_4_ulp_over_the_whole_range(name, dtype)

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_networks(self, output, processor) -> None:
        TestProductsOfFewTerms().test_all_sizes(33, "float32")
        TestRowsTimesExamples().test_have_the_same_bits_wherever_the_examples_lie("float32")
        for hidden in HIDDEN:
            test_every_network(hidden, output, "float32", True, equations.cost_and_gradients)


def test_every_part_compiles_for_aarch64(monkeypatch) -> None:
    """Compiled only: there is no such processor here."""
    import llvmlite.binding as llvm

    sources = dict[str, Any]()
    monkeypatch.setattr(compiler, "_functions", sources)
    for output in OUTPUTS:
        network, layers, tile = tile_of((20, 30, 18, 13, 3), ("tanh", "gelu", "tanh"), output, 65, "float32", full=True)
        replayed(equations.cost_and_gradients, tile, layers, network, program)
    TestRowsTimesExamples().made(300, 9, "float32")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple("aarch64-linux-gnu").create_target_machine(cpu="neoverse-v1", opt=3)
    assert len(sources) > 10
    for source in sources:
        module = llvm.parse_assembly(source)
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        assert "program:" in machine.emit_assembly(module)


def test_threads_run_side_by_side() -> None:
    network, layers, tile = tile_of((20, 30, 1), "tanh", "sigmoid", 500, "float32", full=False)
    _, expected, run = replayed(equations.cost_and_gradients, tile, layers, network, program)
    given = [tile.X, tile.Y, *(V for pair in layers for V in pair)]

    def once(_: int) -> bool:
        out = [np.empty_like(V) for V in expected]
        run(*given, *out)
        return all(np.array_equal(one, other) for one, other in zip(out, expected, strict=True))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(once, range(400)))
    assert run.idle_bytes > 0
    run.release()
    assert run.idle_bytes == 0
    assert once(0)


def test_numpy_s_arrays_are_known_and_blas_is_found() -> None:
    assert arrays.are_known()
    assert cblas() is not None
    assert driver.driver().address


def test_a_program_of_the_engine_is_machine_code() -> None:
    trace = Trace("float64")
    assert isinstance(NUMPY.new_program(trace.graph({"out": trace.input("V", (3,)) * 2.0})), Program)


def test_a_column_below_another_reduction_is_not_read_beyond_its_end() -> None:
    """b has 3 rows: it belongs to the first sum, whose value the loop over 5 rows reads."""
    trace = Trace("float64")
    V, b, U = trace.input("V", (3, 4)), trace.input("b", (3, 1)), trace.input("U", (5, 4))
    first = trace.sum(V + b, axis=0, keepdims=True)
    second = trace.sum(U * first, axis=0, keepdims=True)
    plan = Plan(trace.graph({"out": second}), LIMITS)
    [loop] = plan.stages[0].loops
    places = Places(Code("double"), {x.node: i for i, x in enumerate((V, b, U))}, frozenset())
    assert [*LoopCode(loop, plan, places)._same_along_the_row([second.node], 5, "%r")] == []
    assert [*LoopCode(loop, plan, places)._same_along_the_row([first.node], 3, "%r")] == [b.node]
    v, c, u = (np.random.default_rng(0).normal(size=shape) for shape in ((3, 4), (3, 1), (5, 4)))
    out = np.empty((1, 4))
    program(trace.graph({"out": second}))(v, c, u, out)
    np.testing.assert_allclose(out, (u * (v + c).sum(axis=0)).sum(axis=0, keepdims=True), rtol=1e-13)


def test_places_name_each_word_of_their_table_once() -> None:
    trace = Trace("float32")
    V = trace.input("V", (3, 4)).node
    places = Places(Code("float"), {V: 0}, frozenset())
    for _ in range(2):
        places.load(V, "1", "2")
    assert places.keys == [("stride", V, 0), ("nothing", 0), ("stride", V, 1), ("address", V)]


class TestBounds:
    """The generated code with a check before each load and store, in processes of their own."""

    @staticmethod
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        env = os.environ | {"NNARRAY_CHECKED_CODE": "1"}
        return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)

    def test_no_program_leaves_its_arrays(self) -> None:
        tests = Path(__file__).parent
        left_out = ("aarch64", "places_name", "Bounds", "Older", "ulp", "numpy_calls", "cuda", "dtype")
        chosen = " and ".join(f"not {name}" for name in left_out) + " and not (every_network and float64)"
        files = [str(tests / f"test_{name}.py") for name in ("machine_code", "plans", "steps", "native_calls")]
        found = self.run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, *files)
        assert found.returncode == 0, found.stdout[-3000:]
        assert " passed" in found.stdout

    @pytest.mark.parametrize("made", ["V + 1.0", "W @ V"])
    def test_a_load_outside_ends_the_process(self, made) -> None:
        code = (
            "import numpy as np, sys\n"
            "from nnarray.backends.cblas import cblas\n"
            "from nnarray.programs.targets.llvm import pieces\n"
            "from nnarray.programs.targets.llvm.program import Program\n"
            "from nnarray.programs.trace import Trace\n"
            "trace = Trace('float32'); W, V = trace.input('W', (3, 3)), trace.input('V', (3, 40))\n"
            f"program = Program(trace.graph({{'out': {made}}}), cblas())\n"
            "if sys.argv[1] == 'wrong':\n"
            "    [[[piece]]] = program.parts.stages\n"
            "    program.parts = program.parts._replace(stages=[[[piece._replace(columns=pieces.Span(1, 42))]]])\n"
            "W, V = np.zeros((3, 3), 'f'), np.zeros((3, 40), 'f'); program(W, V, V.copy()); print('done')"
        )
        assert self.run("-c", code, "right").stdout == "done\n"
        wrong = self.run("-c", code, "wrong")
        assert wrong.returncode < 0
        assert wrong.stdout == ""


def test_a_large_product_is_cut_once_for_each_of_few_processors(monkeypatch) -> None:
    """Unless it is in blocks, where no piece copies what another one copies too."""
    monkeypatch.setattr(blocked, "suits", lambda _: False)
    trace = Trace("float32")
    W, X = trace.input("W", (512, 784)), trace.input("X", (784, 1024))
    graph, found = trace.graph({"Z": W @ X}), []
    for most in (1, 2, 8):
        monkeypatch.setattr(pieces, "MOST_COPIES", most)
        [stage] = Program(graph, cblas()).parts.stages
        found.append(len(stage))
        assert sum(piece.columns.length for [piece] in stage) == 1024
    assert found == [1, 2, 4]


def test_how_products_are_cut_depends_on_the_machine_and_not_on_what_a_process_may_use() -> None:
    code = (
        "import os; os.environ['NNARRAY_NUM_THREADS'] = '1'\n"
        "if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from nnarray.programs.targets.llvm import pieces; print(pieces.MOST_COPIES)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found) == pieces.MOST_COPIES


class TestTeam:
    """Stages of pieces that a leader and helpers take in turn."""

    @staticmethod
    def counting(stages: list[int], waits: list[int] | None = None) -> tuple[team.Job, np.ndarray]:
        """A job whose piece i of stage s looks whether the stages are complete that it waits for, and counts itself."""
        counts, offset = np.zeros(sum(stages), np.int64), 0
        code = Code("double")
        mine, before, length = (code.parameter("%table", i, kind) for i, kind in enumerate(("ptr", "ptr", "i64")))
        now = code.add(code.value(f"load i64, ptr {mine}"), "1")
        wrong = code.variable("i64")
        code.do(f"store i64 0, ptr {wrong}")
        with code.loop(length, may_be_empty=True) as i:
            late = code.value(f"icmp slt i64 {code.word(before, i)}, {now}")
            with code.branch(late):
                code.do(f"store i64 1000000, ptr {wrong}")
        code.do(f"store i64 {code.add(now, code.value(f'load i64, ptr {wrong}'))}, ptr {mine}")
        function, tables, pieces = compiler.compiled(code.function("%table", "%room")), [], list[team.Stage]()
        for number, length_of_stage in enumerate(stages):
            stage, awaited = [], number if waits is None else waits[number]
            for i in range(offset, offset + length_of_stage):
                words = [counts[i:].ctypes.data, counts.ctypes.data, sum(stages[:awaited])]
                tables.append(np.array(words, np.int64))
                stage.append((function.address, tables[-1].ctypes.data))
            pieces.append(team.Stage(stage, awaited))
            offset += length_of_stage
        job = team.Job(pieces, 0, 4)
        job.kept = tables, function  # type: ignore[attr-defined]
        return job, counts

    @pytest.mark.parametrize("helpers", [0, 1, 3])
    @pytest.mark.parametrize("waits", [None, [0, 1, 1, 2, 1, 4, 0], [0] * 7])
    def test_each_piece_runs_once_a_round_after_all_that_it_waits_for(self, waits, helpers) -> None:
        job, counts = self.counting([1, 4, 1, 1, 3, 8, 2], waits)
        for _ in range(20):
            job.open()
            with ThreadPoolExecutor(helpers + 1) as pool:
                found = [pool.submit(job) for _ in range(helpers)]
                for _ in range(500):
                    job.round()
                job.stop()
                for future in found:
                    future.result(timeout=20)
        np.testing.assert_array_equal(counts, 20 * 500)

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_no_two_threads_have_the_same_room(self, threads) -> None:
        """Each piece marks its room, looks whether another one does, and does not wait for any."""
        code = Code("double")
        wrong, marks = code.parameter("%table", 0, "ptr"), code.variable("i64")
        code.do(f"store i64 0, ptr {marks}")
        with code.loop("200"):
            before = code.value("atomicrmw add ptr %room, i64 1 seq_cst")
            code.do(f"store i64 {code.add(code.value(f'load i64, ptr {marks}'), before)}, ptr {marks}")
            code.value("atomicrmw sub ptr %room, i64 1 seq_cst")
        code.value(f"atomicrmw add ptr {wrong}, i64 {code.value(f'load i64, ptr {marks}')} seq_cst")
        function, found = compiler.compiled(code.function("%table", "%room")), np.zeros(1, np.int64)
        table, rooms = np.array([found.ctypes.data], np.int64), np.zeros(threads * blocked.ROOM // 8, np.int64)
        stage = team.Stage([(function.address, table.ctypes.data)] * 40, 0)
        job = team.Job([stage], rooms.ctypes.data, threads)
        assert job.most == threads
        job.open()
        with ThreadPoolExecutor(5) as pool:
            helping = [pool.submit(job) for _ in range(5)]
            for _ in range(200):
                job.round()
            job.stop()
            for future in helping:
                future.result(timeout=20)
        assert found[0] == 0
        assert not rooms.any()

    def test_the_time_of_a_round_grows_as_its_stages_do(self) -> None:
        """Whoever knows that a stage is done does not ask again."""

        def each(stages: int) -> float:
            job, counts = self.counting([2, *[1] * (stages - 1)], [0, *[1] * (stages - 1)])
            job.round()
            job._stages[:, 1] = range(stages)  # the pieces look at two counts each, but wait for all stages before
            taken = []
            for _ in range(50):
                start = time.perf_counter()
                for _ in range(20):
                    job.round()
                taken.append(time.perf_counter() - start)
            assert counts.all()
            return min(taken) / stages

        assert each(1600) < 2 * each(100)

    def test_one_who_comes_late_finds_nothing_to_do(self) -> None:
        job, counts = self.counting([2, 2])
        job.open()
        job.round()
        job.stop()
        job()
        np.testing.assert_array_equal(counts, 1)
