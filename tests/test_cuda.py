"""CUDA programs: what they compute, on the host; how many launches they take; and that NVIDIA's compiler takes them."""

import pickle
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy as compat
import host_device
import numpy as np
import pytest
import traffic
from conftest import problem
from host_device import COMPILER, DeviceArray, DeviceNamespace, Event, HostDevice, rounded
from hypothesis import given, settings
from hypothesis import strategies as st

import nnarray as nn
from nnarray import engine
from nnarray.backends import Backend, arrays
from nnarray.backends.cupy import backend as cupy_backend
from nnarray.backends.cupy.backend import CupyBackend
from nnarray.backends.primitives import primitives_for
from nnarray.backends.uploads import Uploads
from nnarray.core import updates
from nnarray.engine import compiling, equations
from nnarray.engine.batch import Tile
from nnarray.engine.compiling import Given, inputs_of, kinds_of
from nnarray.programs.products import gemm
from nnarray.programs.targets.cuda import loops
from nnarray.programs.targets.cuda.planning import LIMITS
from nnarray.programs.targets.cuda.prelude import COMMON, DEVICE
from nnarray.programs.targets.cuda.program import Program
from nnarray.programs.trace import Trace
from nnarray.training import watch
from nnarray.training.optimizers import State

HIDDEN = ("relu", "tanh", "sigmoid", "leaky_relu", "identity")
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
EQUATIONS = (equations.prediction, equations.cost, equations.cost_and_prediction, equations.cost_and_gradients)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
NUMPY = nn.backend("numpy")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.fixture
def gpu(monkeypatch) -> Iterator[HostDevice]:
    """The stand-in, in the GPU's place."""
    device = HostDevice()
    monkeypatch.setattr(cupy_backend, "gpu", lambda: device)
    forget_programs()
    yield device
    forget_programs()


def forget_programs() -> None:
    """Let no program of the stand-in serve a GPU, nor one of another test."""
    compiling.compiled.cache_clear()
    engine.updates._program.cache_clear()
    engine.tiling._widest.clear()


def on_gpu(precision: str | None = None) -> Backend:
    """A backend that the engine takes for CuPy; its arrays are NumPy's."""
    return CupyBackend("cupy", compat, Place("cpu"), precision)


class Place(str):
    """A device that counts how often it is made the current one."""

    entered = 0

    def __enter__(self) -> None:
        Place.entered += 1

    def __exit__(self, *_: object) -> None:
        pass


class OnDevice(CupyBackend):
    """A backend whose arrays are those that count who looks."""

    def _holds(self, x: Any) -> bool:
        return isinstance(x, DeviceArray)


def record(
    wanted: Any, network: nn.Network, tile: Tile, dtype: str, numbers: Any = equations.NO_NUMBERS, precision: Any = None
) -> Program:
    given = Given(tile.Y is not None, tile.weights is not None, bool(tile.masks), kinds_of(numbers))
    return compiling.compiled(wanted, network, tile.X.shape[1], np.dtype(dtype), given, on_gpu(precision))


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(np.asarray(found - expected)) / (np.linalg.norm(np.asarray(expected)) or 1))


def tile_of(sizes: tuple[int, ...], hidden: Any, output: str, m: int, dtype: str, *, full: bool) -> tuple[Any, ...]:
    network, layers, X, Y = problem(sizes, hidden, output, m=m)
    generator = np.random.default_rng(1)
    weights = generator.uniform(0.5, 2, (1, m)).astype(dtype) if full else None
    masks = [((generator.random((n, m)) < 0.7) / 0.7).astype(dtype) for n in sizes[1:-1]] if full else ()
    pairs = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
    return network, pairs, Tile(X.astype(dtype), Y.astype(dtype), weights, masks)


def by_columns(shape: tuple[int, int], dtype: Any) -> np.ndarray:
    return np.full(shape[::-1], np.nan, dtype).T


@needs_compiler
class TestNumbers:
    @pytest.mark.parametrize("wanted", EQUATIONS, ids=lambda f: f.__name__)
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("output", OUTPUTS)
    @pytest.mark.parametrize("hidden", HIDDEN)
    def test_every_network(self, hidden, output, dtype, full, wanted, gpu) -> None:
        for sizes, m in (((3, 4, 5, 2), 9), ((2, 3, 40), 300), ((6, 2), 1)):
            network, layers, tile = tile_of(sizes, hidden, output, m, dtype, full=full)
            J, expected = wanted(tile, layers, network, primitives_for(np))
            program = record(wanted, network, tile, dtype)
            made = [by_columns(V.shape, dtype) for V in expected]
            for _ in range(2):
                found = program(*inputs_of(tile, layers), *made)
                assert J is None or found.dtype == dtype
                assert J is None or relative(found, J) < TOLERANCE[dtype]
                for one, other in zip(made, expected, strict=True):
                    assert relative(one, other) < TOLERANCE[dtype]

    @pytest.mark.parametrize("layout", ["F", "C", "far"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_tall_examples_of_one_layer(self, dtype, layout, gpu, monkeypatch) -> None:
        """Each column is a block's; such as lie by rows, or too far apart for 32 bits, have products of their own."""
        network, layers, tile = tile_of((1300, 2), "relu", "softmax", 1030, dtype, full=True)
        tile = tile._replace(X=np.asarray(tile.X, order="C" if layout == "C" else "F"))
        if layout == "far":
            monkeypatch.setattr("nnarray.programs.targets.cuda.program._is_far", lambda _: True)
        numbers = {"m": 1030, "l2": 0.3}
        J, expected = equations.cost_and_gradients(tile, layers, network, primitives_for(np), **numbers)
        made = [np.full_like(V, np.nan) for V in expected]
        program = record(equations.cost_and_gradients, network, tile, dtype, numbers)
        gpu.counts.clear()
        assert relative(program(*inputs_of(tile, layers, numbers), *made), J) < TOLERANCE[dtype]
        for one, other in zip(made, expected, strict=True):
            assert relative(one, other) < TOLERANCE[dtype]
        assert (gpu.counts["products"] == 0) == (layout == "F")

    @pytest.mark.parametrize("numbers", [{"m": 9}, {"m": 7.25, "l2": 0.3}, {"m": np.array(7.25), "l2": 0.3}], ids=str)
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_a_whole_batch_divided_and_with_its_penalty(self, output, numbers, gpu) -> None:
        for sizes in ((3, 4, 5, 2), (6, 2), (1, 1, 3), (200, 190, 2)):
            network, layers, tile = tile_of(sizes, "tanh", output, 9, "float64", full=True)
            J, expected = equations.cost_and_gradients(tile, layers, network, primitives_for(np), **numbers)
            made = [np.full_like(V, np.nan) for V in expected]
            program = record(equations.cost_and_gradients, network, tile, "float64", numbers)
            assert relative(program(*inputs_of(tile, layers, numbers), *made), J) < 1e-12
            for one, other in zip(made, expected, strict=True):
                assert relative(one, other) < 1e-12

    @pytest.mark.parametrize("layout", ["F", "C", "every other row of Y", "reversed Y", "one y for all"])
    def test_layouts(self, layout, gpu) -> None:
        network, layers, tile = tile_of((3, 4, 2), "relu", "identity", 9, "float64", full=True)
        X, Y = np.asfortranarray(tile.X), np.asfortranarray(tile.Y)
        if layout == "C":
            X, Y = np.ascontiguousarray(X), np.ascontiguousarray(Y)
        elif layout == "every other row of Y":
            Y = np.repeat(Y, 2, axis=0)[::2]
        elif layout == "reversed Y":
            Y = np.ascontiguousarray(Y[::-1, ::-1])[::-1, ::-1]
        elif layout == "one y for all":
            Y = np.broadcast_to(Y[:, :1], Y.shape)
        tile = tile._replace(X=X, Y=Y)
        layers = [(np.asfortranarray(W), b) for W, b in layers] if layout == "C" else layers
        J, expected = equations.cost_and_gradients(tile, layers, network, primitives_for(np))
        program = record(equations.cost_and_gradients, network, tile, "float64")
        for new in (np.empty_like, lambda V: np.asfortranarray(np.empty_like(V))):
            made = [new(V) for V in expected]
            assert relative(program(*inputs_of(tile, layers), *made), J) < 1e-12
            for one, other in zip(made, expected, strict=True):
                assert relative(one, other) < 1e-12

    def test_inputs_are_never_written(self, gpu) -> None:
        network, layers, tile = tile_of((3, 4, 5, 2), "relu", "softmax", 9, "float32", full=True)
        before = [V.copy() for V in inputs_of(tile, layers)]
        program = record(equations.cost_and_gradients, network, tile, "float32")
        program(*inputs_of(tile, layers), *(np.empty_like(V) for pair in layers for V in pair))
        for V, copy in zip(inputs_of(tile, layers), before, strict=True):
            np.testing.assert_array_equal(V, copy)

    def test_nan_and_saturation(self, gpu) -> None:
        """A maximum hands NaN on, which fmax does not; logits of 1e4 have a finite loss."""
        network, layers, tile = tile_of((3, 4, 2), "relu", "sigmoid", 5, "float32", full=False)
        program = record(equations.cost_and_gradients, network, tile, "float32")
        made = [np.empty_like(V) for pair in layers for V in pair]
        tile.X[0, 0] = np.nan
        assert np.isnan(program(*inputs_of(tile, layers), *made))
        assert np.isnan(made[0]).any()
        tile.X[...] = 1e4
        assert np.isfinite(program(*inputs_of(tile, layers), *made))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_shapes(self, data) -> None:
        depth = data.draw(st.integers(0, 3))
        sizes = tuple(data.draw(st.sampled_from([1, 2, 7, 33, 70])) for _ in range(depth + 1))
        output = data.draw(st.sampled_from(OUTPUTS))
        sizes = (*sizes, data.draw(st.sampled_from([2, 3, 35] if output == "softmax" else [1, 2, 35])))
        hidden = tuple(data.draw(st.sampled_from(HIDDEN)) for _ in sizes[1:-1]) or "relu"
        m = data.draw(st.sampled_from([1, 2, 31, 1100]))
        network, layers, tile = tile_of(sizes, hidden, output, m, "float64", full=data.draw(st.booleans()))
        J, expected = equations.cost_and_gradients(tile, layers, network, primitives_for(np), m=m, l2=0.1)
        trace_device = HostDevice()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cupy_backend, "gpu", lambda: trace_device)
            program = record(equations.cost_and_gradients, network, tile, "float64", {"m": m, "l2": 0.1})
        made = [np.full_like(V, np.nan) for V in expected]
        assert relative(program(*inputs_of(tile, layers, {"m": m, "l2": 0.1}), *made), J) < 1e-12
        for one, other in zip(made, expected, strict=True):
            assert relative(one, other) < 1e-12


RULES: dict[str, tuple[int, Any]] = {
    "gradient_descent": (1, lambda theta, *, g, t, alpha, xp: (updates.gradient_descent(theta, g, alpha=alpha),)),
    "momentum": (2, lambda theta, v, *, g, t, alpha, xp: updates.momentum(theta, g, v, alpha=alpha, beta=0.9)),
    "nesterov": (2, lambda theta, v, *, g, t, alpha, xp: updates.nesterov(theta, g, v, alpha=alpha, beta=0.9)),
    "rmsprop": (
        2,
        lambda theta, s, *, g, t, alpha, xp: updates.rmsprop(theta, g, s, alpha=alpha, beta=0.9, eps=1e-8, xp=xp),
    ),
    "adam": (
        3,
        lambda theta, v, s, *, g, t, alpha, xp: updates.adam(
            theta, g, v, s, t=t, alpha=alpha, beta1=0.9, beta2=0.999, eps=1e-8, xp=xp
        ),
    ),
}


@needs_compiler
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_every_update_is_one_launch(name, dtype, in_place, gpu) -> None:
    count, rule = RULES[name]
    generator = np.random.default_rng(0)
    vectors = [generator.random(1000).astype(dtype) for _ in range(count)]
    g = generator.normal(size=1000).astype(dtype)
    expected = [V.copy() for V in vectors]
    for t in range(1, 4):
        expected = rule(*expected, g=g, t=t, alpha=0.1, xp=np)
        before = gpu.counts["launches"]
        old = [V.copy() for V in vectors]
        made = engine.update(rule, vectors, g, on_gpu(), t=t, alpha=0.1, in_place=in_place)
        assert gpu.counts["launches"] == before + 1
        for V, was in zip(vectors, old, strict=True):
            assert in_place or np.array_equal(V, was)
        vectors = list(made)
        for one, other in zip(vectors, expected, strict=True):
            assert relative(one, other) < TOLERANCE[dtype]


@needs_compiler
def test_an_update_with_a_sum_over_theta_is_not_made_in_place(gpu) -> None:
    """Other threads would read what is written over."""

    def rule(theta: Any, v: Any, *, g: Any, t: int, alpha: float, xp: Any) -> Any:
        v = 0.9 * v + g
        return theta - alpha * v / xp.sqrt(xp.sum(v * v)), v

    generator = np.random.default_rng(0)
    theta, v, g = (generator.normal(size=1000) for _ in range(3))
    before = theta.copy(), v.copy()
    made = engine.update(rule, [theta, v], g, on_gpu(), t=1, alpha=0.1, in_place=True)
    for V, was, found, expected in zip(
        (theta, v), before, made, rule(*before, g=g, t=1, alpha=0.1, xp=np), strict=True
    ):
        np.testing.assert_array_equal(V, was)
        assert relative(found, expected) < 1e-12


@needs_compiler
class TestLaunches:
    """What a step costs: one launch between two products, one arena, and nothing read on the host."""

    @pytest.mark.parametrize("output", OUTPUTS)
    @pytest.mark.parametrize("hidden", HIDDEN)
    @pytest.mark.parametrize("full", [False, True])
    def test_of_a_step(self, hidden, output, full, gpu) -> None:
        layers_, hidden_layers = 3, 2
        rectified = hidden_layers if hidden == "relu" and not full else 0  # Z and A in one
        assert self.counts((40, 70, 60, 33), hidden, output, full, gpu) == Counter(
            products=layers_ + layers_ + hidden_layers,  # Z; dW; dA
            rectified=rectified,
            launches=hidden_layers - rectified + 1 + hidden_layers + 1,  # A; A[L], dZ[L], the loss; dZ, db; over m
            arrays=2,  # the arena and J
        )

    @pytest.mark.parametrize("output", OUTPUTS)
    @pytest.mark.parametrize("hidden", HIDDEN)
    @pytest.mark.parametrize("full", [False, True])
    def test_of_a_small_network(self, hidden, output, full, gpu) -> None:
        """One launch goes forward and back through all layers, one adds up the parts of its sums."""
        penalties = 1  # whose sums are beside the first
        assert self.counts((5, 6, 4, 2), hidden, output, full, gpu) == {"launches": 1 + penalties, "arrays": 2}

    @pytest.mark.parametrize(
        ("name", "calls"),
        [
            ("lecture", 2),
            ("deep", 9),
            ("deep, bfloat16", 10),
            ("deep, X in bfloat16", 10),
            ("logistic", 2),
            ("logistic-wide", 2),
            ("logistic, X in bfloat16", 2),
            ("wide", 14),
            ("predict", 3),
        ],
    )
    def test_device_calls(self, name, calls) -> None:
        sizes, m, options = traffic.NETWORKS[name]
        assert len(list(traffic.calls(traffic.step(sizes, m, **options)))) == calls

    def test_products_of_a_narrower_float_move_less(self) -> None:
        """Z and dA of three layers in 2 bytes in place of 4, written once and read once."""
        sizes, m, options = traffic.NETWORKS["deep, bfloat16"]
        moved = sum(call.read + call.written for call in traffic.calls(traffic.step(sizes, m, **options)))
        assert moved < 1.37e9 < moved + 3 * 2 * (2 * 512 * m)

    @pytest.mark.parametrize(
        ("name", "saved", "size"),
        [("deep", 3, 4), ("deep, bfloat16", 3, 2), ("wide", 4, 4), ("predict", 2, 4)],
    )
    def test_rectifying_in_products_saves_passes(self, name, saved, size) -> None:
        """Z[1] is neither read nor written, and of the last hidden layer A alone is, where A is stored anyway."""
        sizes, m, options = traffic.NETWORKS[name]
        moved = [
            sum(call.read + call.written for call in traffic.calls(traffic.step(sizes, m, rectifies=one, **options)))
            for one in (False, True)
        ]
        assert 0 <= saved * sizes[1] * m * size - (moved[0] - moved[1]) < 2e6  # but for b

    def test_a_narrow_x_is_not_narrowed(self) -> None:
        """A product and dW read its 2 bytes; no step reads 4 and writes 2."""
        sizes, m, options = traffic.NETWORKS["deep, X in bfloat16"]
        found = list(traffic.calls(traffic.step(sizes, m, **options)))
        before = list(traffic.calls(traffic.step(sizes, m, **options | {"narrow": False})))
        assert sum(c.read for c in before) - sum(c.read for c in found) == sizes[0] * m * 4
        assert sum(c.written for c in before) - sum(c.written for c in found) == sizes[0] * m * 2

    @pytest.mark.parametrize(("name", "size"), [("logistic", 4), ("logistic-wide", 4), ("logistic, X in bfloat16", 2)])
    def test_one_layer_reads_its_examples_once(self, name, size) -> None:
        sizes, m, options = traffic.NETWORKS[name]
        read = sum(call.read for call in traffic.calls(traffic.step(sizes, m, **options)))
        assert sizes[0] * m * size < read < 1.01 * sizes[0] * m * size

    @pytest.mark.parametrize(("sizes", "m"), [((12_288, 1), 1023), ((12_289, 1), 2000), ((5121, 2), 2000)], ids=str)
    def test_where_blocks_would_gain_nothing_or_have_no_room_cublas_reads_twice(self, sizes, m) -> None:
        assert sum("product" in call.what for call in traffic.calls(traffic.step(sizes, m, output="sigmoid"))) == 2

    @pytest.mark.parametrize("sizes", [(12_288, 1), (5120, 2), (3328, 3), (2560, 4)], ids=str)
    def test_blocks_have_room_up_to_here(self, sizes) -> None:
        program = traffic.step(sizes, 1024, output="sigmoid")
        assert not any("product" in call.what for call in traffic.calls(program))
        log = compiled_by_nvidia(program.source)[1]
        assert log.count("0 bytes spill stores") == len(program.kernels)

    def test_of_examples_by_rows(self, gpu) -> None:
        """Warps would read neighbours of a column from lines far apart: the way without columns in registers."""
        for order, products in (("F", 8), ("C", 11)):
            counts = self.counts((40, 70, 60, 33), "relu", "softmax", False, gpu, order=order)
            assert counts["products"] == products
        assert "products" not in self.counts((5, 6, 4, 2), "relu", "softmax", False, gpu, order="C")

    def counts(
        self, sizes: tuple[int, ...], hidden: str, output: str, full: bool, gpu: HostDevice, order: Any = "F"
    ) -> dict[str, int]:
        network, layers, (X, Y, weights, masks) = tile_of(sizes, hidden, output, 40, "float32", full=full)
        tile = Tile(*(np.asarray(V, order=order) for V in (X, Y)), weights, [np.asfortranarray(D) for D in masks])
        numbers = {"m": 40, "l2": 0.1}
        program = record(equations.cost_and_gradients, network, tile, "float32", numbers)
        made = [np.empty_like(V) for pair in layers for V in pair]
        program(*inputs_of(tile, layers, numbers), *made)  # asks once what products there are
        gpu.counts.clear()
        program(*inputs_of(tile, layers, numbers), *made)
        return gpu.counts

    def test_many_layers(self, gpu) -> None:
        """No launch has more parameters than fit into 4096 bytes."""
        gpu.kernel = lambda *_: None
        network = nn.Network((2,) * 150, "tanh", "identity")
        given = Given(labels=True, weights=False, masks=False, numbers=(("m", False), ("l2", False)))
        program = compiling.compiled(equations.cost_and_gradients, network, 5, np.dtype("float32"), given, on_gpu())
        assert max(len(kernel.parameters) for kernel in program.kernels) * 8 <= 4096

    def test_a_long_chain_is_cut(self, gpu) -> None:
        trace = Trace("float64")
        V = trace.input("V", (3, 4))
        chain, expected, x = V, np.ones((3, 4)) / 3, np.ones((3, 4)) / 3
        for i in range(1500):
            chain, expected = V - chain / float(i + 2), x - expected / (i + 2)
        found = np.empty((3, 4))
        program = Program(trace.graph({"out": chain}), device=gpu)
        program(x, found)
        assert np.array_equal(found, expected)
        assert gpu.counts["launches"] == len(program.kernels) == -(-2 * 1500 // LIMITS.chain)

    def test_a_long_chain_under_a_sum_over_everything(self, gpu) -> None:
        trace, V = Trace("float64"), np.ones((3, 5)) / 3
        chain, expected = trace.input("V", (3, 5)), V
        first = chain
        for i in range(400):
            chain, expected = first - chain / float(i + 2), V - expected / (i + 2)
        program = Program(trace.graph(result=trace.sum(chain)), device=gpu)
        assert abs(program(V) - expected.sum()) < 1e-12

    def test_what_many_calls_read_is_looked_at_once(self, gpu) -> None:
        """Else each of these would double the time."""
        trace, V = Trace("float64"), np.ones((3, 5)) / 3
        both, expected = trace.input("V", (3, 5)), V
        for _ in range(30):
            both, expected = both * 0.5 + trace.tanh(both), expected * 0.5 + np.tanh(expected)
        found = np.empty((3, 5))
        Program(trace.graph({"out": both}), device=gpu)(V, found)
        assert relative(found, expected) < 1e-12

    def test_the_device_is_made_the_current_one(self, gpu) -> None:
        network, layers, X, _ = problem((5, 7, 3), "relu", "softmax", m=40)
        before = Place.entered
        engine.predict(X, layers, network, on_gpu())
        assert Place.entered > before
        before = Place.entered
        assert on_gpu().asarray([1.0]).tolist() == [1.0]
        assert Place.entered == before + 1

    def test_logistic_regression(self, gpu) -> None:
        network, _, tile = tile_of((50, 1), (), "sigmoid", 40, "float32", full=False)
        program = record(equations.cost_and_gradients, network, tile, "float32", {"m": 40})
        assert [[loop.kind for loop in kernel.loops] for kernel in program.kernels] == [
            ["registers"],
            ["columns", "entries", "entries"],
        ]

    def test_the_way_back_needs_two_activations_besides_those_of_the_way_forward(self, gpu) -> None:
        network, _, tile = tile_of((50,) * 12 + (1,), "relu", "sigmoid", 640, "float32", full=False)
        program = record(equations.cost_and_gradients, network, tile, "float32", {"m": 40})
        assert program.memory.size <= (11 + 2 + 0.1) * 50 * 640 * 4
        program = record(equations.prediction, network, tile._replace(Y=None), "float32")
        assert program.memory.size <= 2.1 * 50 * 640 * 4

    def test_another_m_needs_no_other_source(self, gpu) -> None:
        found = set()
        for m in (40, 41, 30_000):
            network, _, tile = tile_of((5, 7, 3), "relu", "softmax", m, "float32", full=True)
            found.add(record(equations.cost_and_gradients, network, tile, "float32", {"m": m}).source)
        assert len(found) == 1

    def test_what_cannot_be_fused_is_refused(self) -> None:
        for make in (lambda r, V: r.sum(V, axis=1), lambda r, V: r.max(V), lambda r, V: r.exp(V.T)):
            trace = Trace("float32")
            V = trace.input("V", (3, 4))
            with pytest.raises(ValueError, match="cannot be fused"):
                Program(trace.graph({"out": make(trace, V)}), device=HostDevice())

    def test_a_field_of_records_is_refused_before_anything_is_queued(self) -> None:
        trace, device = Trace("float64"), HostDevice()
        program = Program(trace.graph({"out": trace.input("V", (3, 4)) * 2.0}), device=device)
        field = np.zeros((3, 4), [("label", "i1"), ("value", "f8")])["value"]
        with pytest.raises(ValueError, match="no multiples of the 8 bytes of an entry"):
            program(field, np.empty((3, 4)))
        assert device.counts["launches"] == 0

    def test_an_output_that_is_an_input_or_another_output_is_a_copy(self) -> None:
        trace = Trace("float64")
        V = trace.input("V", (3, 4))
        E = trace.exp(V)
        program = Program(trace.graph({"a": V, "b": E, "c": E}), device=HostDevice())
        x, made = np.random.default_rng(0).normal(size=(3, 4)), [np.empty((3, 4)) for _ in range(3)]
        program(x, *made)
        np.testing.assert_array_equal(made[0], x)
        np.testing.assert_allclose(made[1], np.exp(x), rtol=1e-15)
        np.testing.assert_array_equal(made[2], made[1])


def as_it_lies(V: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another layout."""
    if layout in "FC":
        return np.asarray(V, order=layout)
    if layout == "every other column":
        return np.asfortranarray(np.repeat(V, 2, axis=1))[:, ::2]
    moved = np.empty(V.size + 1, V.dtype)[1:]  # not at a multiple of 16 bytes
    moved[...] = V.ravel(order="F")
    return moved.reshape(V.shape, order="F")


@needs_compiler
class TestNeighbours:
    """A thread takes neighbours at once: 16 bytes of what lies dense, any other entry by itself."""

    @pytest.mark.parametrize("layout", ["F", "C", "every other column", "moved by one"])
    @pytest.mark.parametrize("order", ["F", "C"])
    @pytest.mark.parametrize("operands", [None, "bfloat16", "float64"])
    @pytest.mark.parametrize(("rows", "m"), [(8, 7), (10, 33), (3, 5), (1, 6), (5, 1)])
    def test_the_bits_are_those_of_entries_one_by_one(self, rows, m, operands, order, layout, gpu, monkeypatch) -> None:
        """In memory of the program and of the caller, beside a row and a column that are broadcast."""
        monkeypatch.setattr(loops, "FEWEST", 1)
        dtype = "float64" if operands == "float64" else "float32"
        generator, trace = np.random.default_rng(0), Trace(dtype)
        V, b, w, W = (
            trace.input(name, shape, order=order)
            for name, shape in (("V", (rows, m)), ("b", (rows, 1)), ("w", (1, m)), ("W", (2, rows)))
        )
        H = trace.tanh(V + b) * w
        graph = trace.graph({"out": H, "product": W @ trace.maximum(V * w, b)})
        x = as_it_lies(generator.normal(size=(rows, m)).astype(dtype), layout)
        given = [x, *(generator.normal(size=V.shape).astype(dtype) for V in (b, w, W))]

        def made() -> list[np.ndarray]:
            program = Program(graph, device=gpu, operands=operands, in_registers=False)
            outputs = [as_it_lies(np.full((rows, m), np.nan, dtype), layout), np.full((2, m), np.nan, dtype, order="F")]
            program(*given, *outputs)
            assert ("begin < whole" in program.source) == (loops.LoopText._at_once != 1)
            return outputs

        found = made()
        monkeypatch.setattr(loops.LoopText, "_at_once", 1)
        for one, other in zip(found, made(), strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_array_equal(one, other)

    def test_what_lies_dense(self) -> None:
        source = """
        struct asked { const float* p; long long inner, outer, length, count; long long* answer; };
        extern "C" __global__ void ask(const asked a) {
            *a.answer = lies_dense<4>(a.p, a.inner, a.outer, a.length, a.count);
        }
        """
        ask, answer = HostDevice().kernel(source, "ask", "qqqqqq"), np.zeros(1, np.int64)
        for place, inner, outer, length, count, expected in (
            (64, 1, 10, 10, 7, True),
            (64 + 4, 1, 10, 10, 7, False),
            (64 + 8, 1, 10, 10, 7, False),
            (64 + 16, 1, 10, 10, 7, True),
            (64, 1, 11, 10, 7, False),
            (64, 2, 20, 10, 7, False),
            (64, 7, 1, 10, 7, False),
            (64, 1, 11, 10, 1, True),
            (64, 11, 1, 1, 7, True),
        ):
            ask(1, 1, (place, inner, outer, length, count, answer.ctypes.data))
            assert answer[0] == expected

    @pytest.mark.parametrize(
        ("operands", "wide", "vector"), [(None, "f32", "v4.f32"), ("bfloat16", "f32|u32", "v4.u16")]
    )
    def test_what_the_compiler_moves_at_once(self, operands, wide, vector) -> None:
        """What is between large products, and what is added in the end; no division for the place of a bias.

        Eight floats of 16 bits are loaded as four words of 32.
        """
        program = traffic.step((4096, 4096, 4096, 10), 65_536, precision=operands, rectifies=False)
        plain = [kernel for kernel in program.kernels if {loop.kind for loop in kernel.loops} == {"entries"}]
        assert len(plain) >= 4
        code = ptx(program.source)
        for kernel in plain:
            [text] = re.findall(rf"\.entry {kernel.name}\(.*?(?=\.entry|\Z)", code, re.DOTALL)
            assert re.search(rf"ld\.global\.v4\.({wide})", text)
            assert re.search(rf"st\.global\.v4\.({wide})|st\.global\.{vector}", text)
            assert not re.search(r"\b(div|rem)\.[us]", text)

    @pytest.mark.parametrize(("dtype", "vector"), [("float32", "v4.f32"), ("float64", "v2.f64")])
    def test_what_the_compiler_moves_at_once_in_an_update(self, dtype, vector, gpu) -> None:
        gpu.kernel = lambda *_: None
        count, rule = RULES["adam"]
        source = engine.updates._program(engine.rules.key_of(rule), count, 1000, dtype, on_gpu()).source
        code, log = ptx(source), compiled_by_nvidia(source)[1]
        assert code.count(f"ld.global.{vector}") == 4
        assert code.count(f"st.global.{vector}") == 3
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log
        assert max(map(int, re.findall(r"Used (\d+) registers", log))) <= 80


class TestProducts:
    """BLAS's words for a product, read back as BLAS reads them."""

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_every_layout(self, data) -> None:
        def matrix(rows: int, columns: int) -> np.ndarray:
            more, transposed = data.draw(st.integers(0, 3)), data.draw(st.booleans())
            lies = (rows + more, columns) if not transposed else (columns + more, rows)
            memory = np.asfortranarray(np.random.default_rng(0).normal(size=lies))
            V = memory[: lies[0] - more]
            return V.T if transposed else V

        m, n, k = (data.draw(st.integers(1, 5)) for _ in range(3))
        A, B, C = matrix(m, k), matrix(k, n), matrix(m, n)
        expected = A @ B
        strides = [tuple(s // 8 for s in V.strides) for V in (A, B, C)]
        how = gemm((A.shape, B.shape), *strides)
        left, right = (B, A) if how.swapped else (A, B)
        HostDevice().product("float64", "float64")(how, left.ctypes.data, right.ctypes.data, C.ctypes.data)
        np.testing.assert_allclose(C, expected, rtol=1e-13)

    @pytest.mark.parametrize("strides", [(2, 2), (-1, 3), (1, 2), (0, 1)])
    def test_what_blas_cannot_read(self, strides) -> None:
        with pytest.raises(ValueError, match=r"BLAS cannot read a matrix of shape \(3, 4\)"):
            gemm(((3, 4), (4, 2)), strides, (1, 4), (1, 3))


@needs_compiler
class TestPrecision:
    @pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
    def test_operands_are_rounded_and_nothing_else(self, precision, gpu) -> None:
        """One layer by hand: products of rounded operands, everything else in float32."""
        network, [(W, b)], tile = tile_of((30, 20), (), "softmax", 50, "float32", full=False)
        program = record(equations.cost_and_gradients, network, tile, "float32", precision=precision)
        dW, db = np.empty_like(W), np.empty_like(b)
        J = program(tile.X, tile.Y, W, b, dW, db)
        Z = (rounded(W, precision) @ rounded(tile.X, precision) + b).astype("float64")
        E = np.exp(Z - Z.max(axis=0))
        A = E / E.sum(axis=0)
        exact = (A - tile.Y).astype("float32")
        dZ = rounded(exact, precision)
        assert relative(J, np.sum(np.log(E.sum(axis=0)) - np.sum((Z - Z.max(axis=0)) * tile.Y, axis=0))) < 1e-5
        tolerance = 1e-4 if precision == "bfloat16" else 1e-5  # a dZ that lies between two of them may go either way
        assert relative(dW, dZ @ rounded(tile.X, precision).T) < tolerance
        assert relative(db, exact.sum(axis=1, keepdims=True)) < 1e-5

    @pytest.mark.parametrize(("precision", "bound"), [("tf32", 1e-3), ("float16", 1e-3), ("bfloat16", 1e-2)])
    @pytest.mark.parametrize("hidden", HIDDEN)
    def test_gradients_are_near_those_of_float64(self, hidden, precision, bound, gpu) -> None:
        network, layers, tile = tile_of((40, 60, 30, 5), hidden, "softmax", 200, "float64", full=True)
        J, expected = equations.cost_and_gradients(tile, layers, network, primitives_for(np))
        narrow = Tile(*(V.astype("float32") for V in tile[:3]), [D.astype("float32") for D in tile.masks])
        layers = [(W.astype("float32"), b.astype("float32")) for W, b in layers]
        program = record(equations.cost_and_gradients, network, narrow, "float32", precision=precision)
        made = [np.empty_like(V) for pair in layers for V in pair]
        found = program(*inputs_of(narrow, layers), *made)
        assert 1e-8 < relative(found, J) < bound
        for one, other in zip(made, expected, strict=True):
            assert 1e-7 < relative(one, other) < 30 * bound
        exact = record(equations.cost_and_gradients, network, narrow, "float32")
        exact(*inputs_of(narrow, layers), *made)
        assert max(relative(one, other) for one, other in zip(made, expected, strict=True)) < 1e-5

    def test_what_products_take_is_stored_narrow_and_what_the_caller_gets_is_not(self, gpu) -> None:
        network, _, tile = tile_of((25, 37, 36, 23), "relu", "softmax", 40, "float32", full=False)
        program = record(equations.cost_and_gradients, network, tile, "float32", precision="bfloat16")
        assert len(program.graph.narrow) == 3 + 1 + 2 + 3 + 2 + 2  # W and X; A; dZ; b, but for b[L]; dA
        assert not program.graph.narrow & set(program.graph.outputs.values())
        assert "const bfloat16*" in program.source

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_products_write_narrow_what_only_makes_narrow_operands(self, precision, gpu) -> None:
        """By hand: Z[1] and dA[1] are rounded; Z[2], of which the cost is, the sums, dW and db are not."""
        network, layers, tile = tile_of((30, 40, 20), "tanh", "softmax", 50, "float32", full=False)
        (W1, b1), (W2, b2) = layers
        program = record(equations.cost_and_gradients, network, tile, "float32", precision=precision)
        made = [np.empty_like(V) for pair in layers for V in pair]
        J = program(*inputs_of(tile, layers), *made)

        def narrow(V: np.ndarray) -> np.ndarray:
            return rounded(np.ascontiguousarray(V, "float32"), precision)

        A1 = np.tanh(narrow(narrow(W1) @ narrow(tile.X)) + b1)
        Z2 = (narrow(W2) @ narrow(A1) + b2).astype("float64")
        A2 = np.exp(Z2 - Z2.max(axis=0))
        A2 /= A2.sum(axis=0)
        dZ2 = (A2 - tile.Y).astype("float32")
        dZ1 = narrow(narrow(W2.T) @ narrow(dZ2)) * (1 - narrow(A1) ** 2)
        expected = narrow(dZ1) @ narrow(tile.X).T, dZ1.sum(axis=1), narrow(dZ2) @ narrow(A1).T, dZ2.sum(axis=1)
        assert relative(J, -np.sum(tile.Y * np.log(A2))) < 1e-5
        tolerance = 3e-4 if precision == "bfloat16" else 3e-5  # what lies between two of them may go either way
        for one, other in zip(made, expected, strict=True):
            assert relative(one.squeeze(), other.squeeze()) < tolerance

    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_means_and_costs_are_of_float32s_products(self, batch_norm, gpu) -> None:
        """Sums that are no gradients would be of rounded numbers: of Z under batch normalisation, and of Z[L]."""
        network = nn.Network((40, 60, 30), output="softmax", batch_norm=batch_norm)
        wanted = engine.batch_norm.training_gradients if batch_norm else equations.cost_and_gradients
        given = Given(labels=True, weights=False, masks=False, numbers=())
        graph = compiling.traced(wanted, network, 200, np.dtype("float32"), given)
        program = Program(graph, device=gpu, operands="bfloat16")
        stored = [n.shape for n in program.graph.narrow if n.operation == "matmul"]
        assert stored == ([] if batch_norm else [(60, 200)] * 2)  # which are Z[1] and dA[1]

    def test_of_a_backend(self) -> None:
        backend = on_gpu("bfloat16")
        assert "bfloat16" in repr(backend)
        assert backend != on_gpu()
        assert hash(backend) != hash(on_gpu())
        with pytest.raises(ValueError, match='the precision "bfloat16" is one of float32\'s, got dtype "float64"'):
            backend.dtype("float64")
        with pytest.raises(ValueError, match='precision="tf32" is for the backend "cupy", got the backend "numpy"'):
            nn.backend("numpy", precision="tf32")
        params = nn.Parameters(np.zeros(3), (2, 1), backend)
        assert params.to(nn.backend("numpy")).backend.precision is None
        assert pickle.loads(pickle.dumps(params)).backend.precision == "bfloat16"
        with pytest.raises(ValueError, match='precision must be one of "tf32", "bfloat16", "float16", or None'):
            nn.backend("numpy", precision="float8")

    @pytest.mark.parametrize(("sizes", "held"), [((40, 60, 30, 5), False), ((70, 1), True)])
    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_examples_by_rows_are_narrowed_row_by_row(self, precision, sizes, held, gpu) -> None:
        """Threads beside each other load and store what lies side by side; all that is made of X lies by columns."""
        output = "sigmoid" if sizes[-1] == 1 else "softmax"
        network, layers, tile = tile_of(sizes, "tanh", output, 200, "float32", full=False)
        tile = tile._replace(X=np.ascontiguousarray(tile.X))
        program = record(equations.cost_and_gradients, network, tile, "float32", precision=precision)
        made = {order: [np.empty_like(V) for pair in layers for V in pair] for order in "FC"}
        for order, outputs in made.items():
            X = np.asarray(tile.X, order=order)
            suited = program.suited(given := [*inputs_of(tile._replace(X=X), layers), *outputs])
            suited.run(given, suited.allocated())
            copies = [node for node in suited.graph.narrow if node.operation == "copy" and node.shape == X.shape]
            assert [suited.plan.order(node) for node in copies] == ([] if held and order == "F" else [order])
            loops = [loop for kernel in suited.kernels for loop in kernel.loops if set(copies) & set(loop.nodes)]
            assert [loop.order for loop in loops] == [order] * len(copies)
            columns = [n for n in suited.plan.stored if n.operation != "copy" and n.shape[1:] == (200,)]
            assert {suited.plan.order(node) for node in columns} <= {"F"}
        for one, other in zip(made["C"], made["F"], strict=True):
            assert relative(one, other) < 1e-2


def compiled_by_nvidia(source: str, architecture: str = "sm_90") -> tuple[bytes, str]:
    """Machine code for an H100 or H200, and what it takes; raises the compiler's words where there is an error."""
    pytest.importorskip("cupy", reason="cupy: not installed, and with it what calls NVIDIA's compiler")
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="nvrtc: not installed", exc_type=ImportError)
    program = nvrtc.createProgram(DEVICE + COMMON + source, "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(program, (f"-arch={architecture}", "--std=c++17", "-ftz=true", "--ptxas-options=-v"))
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)


def ptx(source: str) -> str:
    """What NVIDIA's compiler makes of a source before it is an H100's or H200's code."""
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="nvrtc: not installed", exc_type=ImportError)
    program = nvrtc.createProgram(DEVICE + COMMON + source, "kernels.cu", [], [])
    nvrtc.compileProgram(program, ("-arch=compute_90", "--std=c++17", "-ftz=true"))
    text = nvrtc.getPTX(program)
    return text if isinstance(text, str) else text.decode()


class TestNvidiasCompiler:
    @pytest.mark.parametrize("precision", [None, "tf32", "bfloat16", "float16", "float64"])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_every_step(self, output, precision, gpu) -> None:
        dtype, precision = ("float64", None) if precision == "float64" else ("float32", precision)
        network, _, tile = tile_of((5, 7, 7, 7, 7, 7, 40), HIDDEN, output, 40, dtype, full=True)
        for wanted in EQUATIONS:
            gpu.kernel = lambda *_: None
            numbers = {"m": np.array(40.0), "l2": 0.1} if wanted is equations.cost_and_gradients else {}
            assert compiled_by_nvidia(record(wanted, network, tile, dtype, numbers, precision).source)[0]

    @pytest.mark.parametrize("name", traffic.NETWORKS)
    def test_no_kernel_spills(self, name) -> None:
        """What a lane holds of a column, and of sums over columns, is in registers."""
        sizes, m, options = traffic.NETWORKS[name]
        program = traffic.step(sizes, m, **options)
        _, log = compiled_by_nvidia(program.source)
        assert log.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == len(program.kernels) > 0
        assert max(map(int, re.findall(r"Used (\d+) registers", log))) <= 144

    @pytest.mark.parametrize("sizes", [(16,) * 9, (16,) * 14, (8,) * 17, (12,) * 12, (4,) * 36], ids=str)
    def test_deep_networks_are_cut_before_they_spill(self, sizes) -> None:
        """A kernel in registers holds so many products and sums; what is beyond is another kernel's."""
        program = traffic.step(sizes, 400)
        _, log = compiled_by_nvidia(program.source)
        assert len(program.kernels) > 1
        spilled = list(map(int, re.findall(r"(\d+) bytes spill stores", log)))
        assert len(spilled) == len(program.kernels)
        assert max(spilled) <= 32  # of up to 488 for deeper kernels

    def test_an_older_gpu(self, gpu) -> None:
        gpu.kernel = lambda *_: None
        network, _, tile = tile_of((5, 7, 40), "relu", "softmax", 40, "float32", full=True)
        for precision in (None, "bfloat16", "float16"):
            program = record(equations.cost_and_gradients, network, tile, "float32", precision=precision)
            assert compiled_by_nvidia(program.source, "sm_75")[0]

    @pytest.mark.parametrize("name", RULES)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_every_update(self, name, dtype, gpu) -> None:
        gpu.kernel = lambda *_: None
        count, rule = RULES[name]
        parts = engine.rules.key_of(rule)
        assert compiled_by_nvidia(engine.updates._program(parts, count, 1000, dtype, on_gpu()).source)[0]

    @pytest.mark.parametrize(
        ("sizes", "output", "m", "wide"),
        [
            ((3, 4, 2), "sigmoid", 2**30, [True, False]),
            ((17, 32, 1500), "softmax", 4_500_000, [True, False, False]),
            ((17, 32, 2), "softmax", 1000, [False, False]),
        ],
    )
    def test_more_entries_than_32_bits_count(self, sizes, output, m, wide, gpu) -> None:
        gpu.kernel, gpu.ones = lambda *_: None, lambda *_: np.ones((1, 1))
        network = nn.Network(sizes, output=output)
        given = Given(labels=True, weights=False, masks=False, numbers=())
        program = compiling.compiled(equations.cost_and_gradients, network, m, np.dtype("float32"), given, on_gpu())
        assert [kernel.wide for kernel in program.kernels] == wide
        assert compiled_by_nvidia(program.source)[0]


@needs_compiler
class TestMemory:
    def batch(self, m: int = 1000) -> tuple[Any, ...]:
        network, layers, tile = tile_of((5, 7, 6, 3), "relu", "softmax", m, "float64", full=True)
        masks = tile.masks
        batch = engine.Batch(tile.X, tile.Y, float(tile.weights.sum()), tile.weights)
        return network, layers, batch._replace(draw_masks=[lambda start, stop, D=D: D[:, start:stop] for D in masks])

    @pytest.mark.parametrize("room", [10**9, 60_000, 20_000, 5_000])
    def test_tiles_are_halved_until_they_fit(self, room, gpu) -> None:
        gpu.most = room
        network, layers, batch = self.batch()
        for _ in range(2):
            J, g = engine.cost_and_gradients(batch, layers, network, on_gpu(), l2=0.1)
            expected = engine.cost_and_gradients(batch, layers, network, NUMPY, l2=0.1)
            assert relative(J, expected[0]) < 1e-12
            assert relative(g, expected[1]) < 1e-12
            assert gpu.largest <= room
        keep = engine.TileColumns(1000, on_gpu())
        batch = batch._replace(draw_masks=())
        J = engine.cost(batch, layers, network, on_gpu(), l2=0.1, keep=keep)
        A = engine.TileColumns(1000, NUMPY)
        assert relative(J, engine.cost(batch, layers, network, NUMPY, l2=0.1, keep=A)) < 1e-12
        assert relative(keep.joined(), A.joined()) < 1e-12
        found = engine.predict(batch.X, layers, network, on_gpu())
        assert relative(found, A.joined()) < 1e-12

    def test_so_are_those_of_batch_normalisation(self, gpu) -> None:
        network, layers, batch = self.batch()
        network = nn.Network(network.sizes, network.hidden, network.output, batch_norm=True)
        layers = [*((W, b, np.ones_like(b)) for W, b in layers[:-1]), layers[-1]]
        expected = engine.batch_norm.cost_and_gradients(batch, layers, network, NUMPY, l2=0.1)
        gpu.most = 20_000
        for _ in range(2):
            found = engine.batch_norm.cost_and_gradients(batch, layers, network, on_gpu(), l2=0.1)
            for ours, its in zip(found, expected, strict=True):
                assert relative(ours, its) < 1e-12
            assert gpu.largest <= gpu.most
        gpu.most = 100
        with pytest.raises(MemoryError, match=r"m = 1000 .*keeps 20 numbers"):
            engine.batch_norm.cost_and_gradients(batch, layers, network, on_gpu(), l2=0.1)

    def test_at_one_column_the_error_is_the_callers(self, gpu) -> None:
        gpu.most = 100
        network, layers, batch = self.batch(8)
        with pytest.raises(MemoryError, match="no room for"):
            engine.cost_and_gradients(batch, layers, network, on_gpu(), l2=0.0)

    @pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", ">f8"])
    @pytest.mark.parametrize("order", ["F", "C"])
    @pytest.mark.parametrize("batch_size", [None, 64, 1000])
    def test_examples_too_many_for_the_card_come_in_tiles(
        self, dtype, order, batch_size, gpu, monkeypatch, tmp_path
    ) -> None:
        monkeypatch.setattr(engine.tiling, "UPLOAD_BYTES", 5 * 8 * 90)
        network, layers, batch = self.batch()
        host = np.asarray(np.abs(batch.X) * 10, dtype=dtype, order=order)
        table = np.memmap(tmp_path / "X", host.dtype, "w+", shape=host.T.shape if order == "F" else host.shape)
        table[...] = host.T if order == "F" else host
        X = table.T if order == "F" else table
        options = {"params": layers, "epochs": 3, "batch_size": batch_size, "validation": (X, batch.Y), "seed": 3}
        expected = nn.train(network, host, batch.Y, **options)
        gpu.free = X.size * 8
        found = nn.train(network, X, batch.Y, backend=on_gpu(), **options)
        assert gpu.counts["copies"] >= 3 * (12 if batch_size is None else 1000 // batch_size)
        assert relative(found.params.vector, expected.params.vector) < 1e-10
        assert found.history[-1].validation_cost == pytest.approx(expected.history[-1].validation_cost, rel=1e-10)

    def test_nan_in_examples_on_the_host(self, gpu) -> None:
        network, layers, batch = self.batch()
        batch.X[2, 700] = np.nan
        gpu.free = 1
        with pytest.raises(ValueError, match=r"X must be finite in float64, got nan at \[2, 700\]"):
            nn.train(network, batch.X, batch.Y, params=layers, epochs=1, backend=on_gpu())

    def test_examples_on_the_host_that_are_too_large_for_float32(self, gpu) -> None:
        network, _, batch = self.batch()
        batch.X[2, 700] = -1e300
        gpu.free = 1
        with pytest.raises(ValueError, match=r"X must be finite in float32, got -inf at \[2, 700\]"):
            nn.train(network, batch.X, batch.Y, epochs=1, backend=on_gpu())

    def test_an_upload_waits_for_what_still_reads_its_place(self) -> None:
        """The order of everything on both streams, for five tiles."""
        log: list[str] = []

        class Logging(HostDevice):
            def copy(self, there: Any, here: Any, stream: Any) -> None:
                stream.queue.append(lambda: log.append(f"copy {int(here[0, 0])}"))

        class Late(Event):
            def __init__(self) -> None:
                super().__init__()
                self.after: list[str] = []

            def record(self, stream: Any) -> None:
                super().record(stream)
                self.after = list(computed) if stream is device.now else []

            def happen(self) -> None:
                log.extend(f"after {tile}" for tile in self.after[-1:])
                super().happen()

        device, computed = Logging(), list[str]()
        device.new_event = Late
        uploads = Uploads(device, (4, 3), "float32")
        assert all(used.stream is device.now for used in uploads._used), "a copy may come while its place is in use"

        def fill(here: np.ndarray, i: int) -> None:
            assert uploads._copied[i % 2].host_knows, "pinned memory is filled that is still to be copied from"
            here.fill(i)

        for i in range(5):
            uploads.upload(4, lambda here, i=i: fill(here, i))
            computed.append(str(i))
            log.append(f"compute {i}")
        assert log == [
            *("copy 0", "compute 0"),
            *("copy 1", "compute 1"),
            *("after 0", "copy 2", "compute 2"),
            *("after 1", "copy 3", "compute 3"),
            *("after 2", "copy 4", "compute 4"),
        ]


@needs_compiler
class TestTheHostDoesNotLook:
    OPTIMIZERS = (nn.GradientDescent(0.1), nn.Momentum(0.1), nn.RMSprop(0.01), nn.Adam(0.01))

    @pytest.fixture
    def backend(self, gpu, monkeypatch) -> Backend:
        """A device whose arrays count every look, also that of a copy to the host."""
        module = sys.modules["nnarray.backends.array_api"]
        real = module.to_numpy

        def to_numpy(x: Any) -> Any:
            DeviceArray.looks["to_numpy"] += isinstance(x, DeviceArray)
            return real(x)

        monkeypatch.setattr(module, "to_numpy", to_numpy)
        DeviceArray.looks.clear()
        return OnDevice("cupy", DeviceNamespace(), Place("cpu"))

    def test_the_count_counts(self, backend) -> None:
        x = backend.asarray(np.arange(3.0))
        assert type(x) is type(x * 2) is type(backend.xp.sum(x)) is type(backend.xp.sum(x) * 2) is DeviceArray
        for look in (float, bool, int):
            before = DeviceArray.looks.total()
            look(backend.xp.sum(x))
            assert DeviceArray.looks.total() > before
        before = DeviceArray.looks.total()
        backend.to_numpy(x)
        assert DeviceArray.looks.total() == before + 1

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_within_a_step(self, optimizer, weighted, backend) -> None:
        network, layers, tile = tile_of((5, 7, 6, 3), "relu", "softmax", 40, "float32", full=True)
        X, Y, w = (backend.asarray(V) for V in (tile.X, tile.Y, tile.weights))
        batch = engine.Batch(X, Y, backend.xp.sum(w), w) if weighted else engine.Batch(X, Y, 40)
        params = nn.Parameters(
            backend.primitives.join([tuple(map(backend.asarray, pair)) for pair in layers]), (5, 7, 6, 3), backend
        )
        theta, state = params.vector, optimizer.init_vector(params.vector, backend)
        DeviceArray.looks.clear()
        for _ in range(3):
            _, g = engine.cost_and_gradients(batch, params.layers, network, backend, l2=0.1)
            theta, state = optimizer.update_vector(theta, g, state, backend, in_place=True)
        assert not DeviceArray.looks

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_in_a_call_with_arrays_that_were_checked_before(self, output, backend, monkeypatch) -> None:
        real = arrays.backend_of
        monkeypatch.setattr(arrays, "backend_of", lambda x: backend if isinstance(x, DeviceArray) else real(x))
        network, layers, tile = tile_of((5, 7, 3), "relu", output, 40, "float32", full=True)
        X, Y, w = (backend.asarray(V) for V in (tile.X, tile.Y, tile.weights))
        params = nn.Parameters(
            backend.primitives.join([tuple(map(backend.asarray, pair)) for pair in layers]), (5, 7, 3), backend
        )
        for call in (network.gradients, network.cost, lambda params, X, Y, weights: network.predict(params, X)):
            call(params, X, Y, weights=w)
            DeviceArray.looks.clear()
            call(params, X, Y, weights=w)
            assert not DeviceArray.looks
        for bad in ("X", "Y"):
            given = {"X": X.copy(), "Y": Y.copy()}
            given[bad][0, 0] = np.nan
            with pytest.raises(ValueError, match=f"{bad} must be"):
                network.gradients(params, **given)

    @pytest.mark.parametrize("batch_size", [None, 16])
    def test_in_training_but_for_the_costs_of_many_epochs_at_once(self, batch_size, backend, monkeypatch) -> None:
        network, layers, X, Y = problem((5, 7, 3), "relu", "softmax", m=40)
        options = {"params": layers, "batch_size": batch_size, "weights": np.linspace(0.5, 1, 40), "dropout": 0.1}
        monkeypatch.setattr(watch, "SECONDS", 1e9)
        looks = []
        for epochs in (1, 50):
            DeviceArray.looks.clear()
            result = nn.train(network, X, Y, backend=backend, epochs=epochs, **options)
            looks.append(DeviceArray.looks.total())
        assert looks[0] == looks[1] > 0
        expected = nn.train(network, X, Y, epochs=50, **options)
        np.testing.assert_allclose(result.history.columns()["cost"], expected.history.columns()["cost"], rtol=1e-10)
        assert relative(result.params.vector, expected.params.vector) < 1e-10

    def test_what_is_asked_for_is_read(self, backend) -> None:
        network, layers, X, Y = problem((5, 7, 3), "relu", "softmax", m=40)
        seen = []
        nn.train(
            network, X, Y, params=layers, backend=backend, epochs=5, callback=lambda epoch: seen.append(epoch.cost)
        )
        expected = nn.train(network, X, Y, params=layers, epochs=5)
        np.testing.assert_allclose(seen, expected.history.columns()["cost"], rtol=1e-10)
        found = nn.train(network, X, Y, params=layers, backend=backend, epochs=50, patience=2, optimizer=nn.Adam(0.5))
        expected = nn.train(network, X, Y, params=layers, epochs=50, patience=2, optimizer=nn.Adam(0.5))
        assert found.stopped == expected.stopped == "patience"
        assert found.best_epoch == expected.best_epoch
        assert relative(found.params.vector, expected.params.vector) < 1e-9

    @pytest.mark.parametrize("batch_size", [None, 16])
    def test_a_run_that_diverges_unread(self, batch_size, backend, monkeypatch) -> None:
        monkeypatch.setattr(watch, "SECONDS", 1e9)
        network, layers, X, Y = problem((5, 7, 3), "relu", "identity", m=40)
        errors = []
        options = {"optimizer": nn.GradientDescent(5.0), "batch_size": batch_size, "epochs": 400}
        for place in (None, backend):
            with pytest.raises(nn.DivergenceError, match="training diverged in epoch") as caught:
                nn.train(network, X, Y, params=layers, backend=place, **options)
            errors.append(caught.value)
        expected, found = errors
        assert len(found.history) == len(expected.history) > 0
        assert str(found) == str(expected)
        assert np.isfinite(found.params.vector).all()
        np.testing.assert_allclose(found.params.vector, expected.params.vector, rtol=1e-3)


@pytest.fixture
def cupy_in_host_memory(monkeypatch) -> Any:
    """CuPy without a GPU: its arrays lie in the host's memory, where the stand-in runs what is queued."""
    cupy = pytest.importorskip("cupy", reason="cupy: not installed")
    from nnarray.backends.cupy.device import CupyDevice

    def allocate(size: int) -> Any:
        memory = np.full(max(size, 1), 0xFF, np.uint8)
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(memory.ctypes.data, max(size, 1), memory, 0), 0)

    class Both(HostDevice):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.empty = CupyDevice().place, CupyDevice().empty

    device = Both()
    monkeypatch.setattr(cupy_backend, "gpu", lambda: device)
    monkeypatch.setattr(device, "ones", lambda shape, dtype: on_cupy(np.ones(shape, dtype)))
    forget_programs()
    before = cupy.cuda.get_allocator()
    cupy.cuda.set_allocator(allocate)
    yield device
    cupy.cuda.set_allocator(before)
    forget_programs()


def memory_of(x: Any) -> np.ndarray:
    """The host's memory in which such an array lies, as an array."""
    return host_device.memory(x.data.ptr, x.shape, x.dtype, x.strides)


def on_cupy(host: np.ndarray) -> Any:
    """CuPy's array in the host's memory with these values and this order."""
    import cupy

    x = cupy.empty(host.shape, host.dtype, order="F" if host.flags.f_contiguous else "C")
    memory_of(x)[...] = host
    return x


@needs_compiler
class TestOnCupysArrays:
    """CuPy's own arrays, namespace and allocator; only what a GPU would run is run on the host."""

    @pytest.mark.parametrize("order", ["F", "C"])
    @pytest.mark.parametrize("optimizer", TestTheHostDoesNotLook.OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_steps(self, optimizer, order, cupy_in_host_memory) -> None:
        import array_api_compat.cupy as xp

        backend = CupyBackend("cupy", xp, Place("GPU 0"))
        network, layers, tile = tile_of((5, 7, 6, 3), "tanh", "softmax", 40, "float64", full=True)
        X, Y = (np.asarray(V, order=order) for V in (tile.X, tile.Y))
        theta = on_cupy(primitives_for(np).join(layers))
        params = nn.Parameters(theta, network.sizes, backend)
        assert params[1].W.data.ptr == theta.data.ptr + (5 * 7 + 7) * 8
        batch = engine.Batch(on_cupy(X), on_cupy(Y), 40, on_cupy(tile.weights))
        expected, host = primitives_for(np).join(layers), engine.Batch(X, Y, 40, tile.weights)
        zeros = [np.zeros_like(expected) for _ in optimizer.remembers]
        host_state = State(0, **dict(zip(optimizer.remembers, zeros, strict=True)))
        state = host_state._replace(**{name: on_cupy(V) for name, V in zip(optimizer.remembers, zeros, strict=True)})
        spare: list[Any] = []
        for _ in range(5):
            J, g = engine.cost_and_gradients(batch, params.layers, network, backend, l2=0.1, spare=spare)
            layers = primitives_for(np).split(expected, network.sizes)
            J_host, g_host = engine.cost_and_gradients(host, layers, network, NUMPY, l2=0.1)
            assert relative(memory_of(J), J_host) < 1e-12
            assert relative(memory_of(g), g_host) < 1e-12
            _, state = optimizer.update_vector(theta, g, state, backend, in_place=True)
            expected, host_state = optimizer.update_vector(expected, g_host, host_state, NUMPY)
            spare.append(g)
        assert relative(memory_of(theta), expected) < 1e-12

    def test_predictions_and_costs(self, cupy_in_host_memory, monkeypatch) -> None:
        import array_api_compat.cupy as xp

        monkeypatch.setattr(engine.compute, "require_finite", lambda *_, **__: None)  # reads, which needs a GPU
        backend = CupyBackend("cupy", xp, Place("GPU 0"))
        network, layers, tile = tile_of((5, 7, 6, 3), "relu", "exp", 40, "float32", full=False)
        pairs = [(on_cupy(W), on_cupy(b)) for W, b in layers]
        found = engine.predict(on_cupy(tile.X), pairs, network, backend)
        assert found.flags.f_contiguous
        expected = engine.predict(tile.X, layers, network, NUMPY)
        assert relative(memory_of(found), expected) < 1e-5
        J = engine.cost(engine.Batch(on_cupy(tile.X), on_cupy(tile.Y), 40), pairs, network, backend, l2=0.1)
        expected = engine.cost(engine.Batch(tile.X, tile.Y, 40), layers, network, NUMPY, l2=0.1)
        assert relative(memory_of(J), expected) < 1e-5
