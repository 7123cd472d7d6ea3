"""Programs on NumPy: traced once and replayed, they give the bits of core's functions."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import problem

from nnarray import Network, backend, engine
from nnarray.backends.primitives import primitives_for
from nnarray.core.activations import ACTIVATIONS
from nnarray.engine import equations
from nnarray.engine.batch import Tile
from nnarray.engine.compiling import Given, compiled, inputs_of, kinds_of, traced
from nnarray.programs.targets.numpy_calls import Program
from nnarray.programs.trace import Trace


def linear_backward(dZ: np.ndarray, A_prev: np.ndarray, *, m: float) -> tuple[np.ndarray, np.ndarray]:
    """core's, with the sum over columns as the product with ones to which programs lower it."""
    return dZ @ A_prev.T / m, dZ @ np.ones((dZ.shape[1], 1), dZ.dtype) / m


LOWERED = primitives_for(np)._replace(linear_backward=linear_backward)
HIDDEN = tuple(ACTIVATIONS)
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
EQUATIONS = (equations.prediction, equations.cost, equations.cost_and_prediction, equations.cost_and_gradients)


def tile_of(sizes: tuple[int, ...], hidden: str, output: str, m: int, dtype: str, *, full: bool) -> tuple[Any, ...]:
    """A network, its layers, and a tile; `full` with weights and masks."""
    network, layers, X, Y = problem(sizes, hidden, output, m=m)
    generator = np.random.default_rng(1)
    weights = generator.uniform(0.5, 2, (1, m)).astype(dtype) if full else None
    masks = [(generator.random((n, m)) < 0.7).astype(dtype) / 0.7 for n in sizes[1:-1]] if full else ()
    masks = [mask.astype(dtype) for mask in masks]
    pairs = [(W.astype(dtype), b.astype(dtype)) for W, b in layers]
    return network, pairs, Tile(X.astype(dtype), Y.astype(dtype), weights, masks)


def replayed(
    wanted: Any, tile: Tile, layers: Any, network: Network, target: Any = Program, **numbers: float
) -> tuple[Any, list[np.ndarray], Any]:
    given = Given(tile.Y is not None, tile.weights is not None, bool(tile.masks), kinds_of(numbers))
    program = target(traced(wanted, network, tile.X.shape[1], layers[0][0].dtype, given))
    _, made = wanted(tile, layers, network, LOWERED, **numbers)
    out = [np.full_like(V, np.nan) for V in made]
    return program(*inputs_of(tile, layers, numbers), *out), out, program


@pytest.mark.parametrize("wanted", EQUATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_network_has_the_same_bits(hidden, output, dtype, full, wanted) -> None:
    for sizes, m in (((3, 4, 5, 2), 9), ((2, 3, 2), 1), ((6, 2), 5), ((1, 1, 3), 4)):
        network, layers, tile = tile_of(sizes, hidden, output, m, dtype, full=full)
        J, expected = wanted(tile, layers, network, LOWERED)
        for _ in range(2):  # the second time in used buffers
            found, out, _ = replayed(wanted, tile, layers, network)
            assert found == J or J is None
            for one, other in zip(out, expected, strict=True):
                assert one.dtype == dtype
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("numbers", [{"m": 9}, {"m": 7.25, "l2": 0.3}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_whole_batch_has_the_same_bits(output, dtype, numbers) -> None:
    for sizes in ((3, 4, 5, 2), (6, 2), (1, 1, 3)):
        network, layers, tile = tile_of(sizes, "tanh", output, 9, dtype, full=True)
        J, expected = equations.cost_and_gradients(tile, layers, network, LOWERED, **numbers)
        found, out, _ = replayed(equations.cost_and_gradients, tile, layers, network, **numbers)
        assert found == J
        for one, other in zip(out, expected, strict=True):
            assert one.dtype == dtype
            np.testing.assert_array_equal(one, other)


def test_inputs_are_read_and_never_written() -> None:
    network, layers, tile = tile_of((3, 4, 5, 2), "relu", "sigmoid", 9, "float32", full=True)
    arrays = inputs_of(tile, layers)
    for V in arrays:
        V.flags.writeable = False
    replayed(equations.cost_and_gradients, tile, layers, network)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda V: V[::-1, ::-1]])
def test_inputs_may_lie_anyhow(layout) -> None:
    network, layers, tile = tile_of((3, 4, 2), "relu", "sigmoid", 9, "float64", full=False)
    laid = Tile(layout(tile.X), layout(tile.Y), None, ())
    pairs = [(layout(W), layout(b)) for W, b in layers]
    _, expected = equations.cost_and_gradients(laid, pairs, network, LOWERED)
    for one, other in zip(replayed(equations.cost_and_gradients, laid, pairs, network)[1], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-15)


def test_buffers_are_used_again() -> None:
    """However deep the network, the way back needs two activations besides those that the forward pass keeps."""
    network, layers, tile = tile_of((50,) * 12 + (1,), "relu", "sigmoid", 64, "float32", full=False)
    _, _, program = replayed(equations.cost_and_gradients, tile, layers, network)
    whole = [size for size in program.memory._blocks.sizes if size == 50 * 64 * 4]
    assert len(whole) <= 11 + 2
    network, layers, tile = tile_of((50,) * 12 + (1,), "relu", "sigmoid", 64, "float32", full=False)
    _, _, forward = replayed(equations.prediction, tile, layers, network)
    assert sum(forward.memory._blocks.sizes) <= 3 * 50 * 64 * 4


def test_the_same_call_is_made_once_and_what_nobody_reads_not_at_all() -> None:
    trace = Trace("float32")
    X = trace.input("X", (3, 4))
    trace.exp(X)
    program = Program(trace.graph({"A": trace.abs(X) + trace.abs(X)}))
    assert program.source.count("abs(") == 1
    assert "exp(" not in program.source


def test_zero_keeps_its_sign() -> None:
    trace = Trace("float64")
    X = trace.input("X", (1, 2))
    program, (A, B) = Program(trace.graph({"A": X * 0.0, "B": X * -0.0})), np.empty((2, 1, 2))
    program(np.ones((1, 2)), A, B)
    assert np.signbit(A).tolist() == [[False, False]]
    assert np.signbit(B).tolist() == [[True, True]]


def test_an_output_that_is_an_input_is_copied() -> None:
    trace = Trace("float32")
    X = trace.input("X", (2, 3))
    program = Program(trace.graph({"A": X, "B": X.T, "C": trace.sum(X, axis=1, keepdims=True)}))
    X_now, A, B, C = (
        np.arange(6, dtype="float32").reshape(2, 3),
        *(np.empty(s, "float32") for s in ((2, 3), (3, 2), (2, 1))),
    )
    program(X_now, A, B, C)
    np.testing.assert_array_equal(A, X_now)
    np.testing.assert_array_equal(B, X_now.T)
    np.testing.assert_array_equal(C, [[3], [12]])


def test_an_output_does_not_go_over_an_input_that_is_still_read() -> None:
    trace = Trace("float32")
    theta, g = trace.input("theta", (3,)), trace.input("g", (3,))
    new = theta - g
    assert not Program(trace.graph({"new": new, "other": theta * new}, over={"new": theta})).works_in_place
    assert Program(trace.graph({"new": new}, over={"new": theta})).works_in_place


def test_numbers_are_given_at_each_replay() -> None:
    trace = Trace("float64")
    V, t = trace.input("V", (3,)), trace.scalar("t")
    program = Program(trace.graph({"A": t * V / (1 - 0.5**t)}))
    A = np.empty(3)
    for t_now in (1, 2, 5):
        program(np.ones(3), t_now, A)
        np.testing.assert_array_equal(A, t_now * np.ones(3) / (1 - 0.5**t_now))


def test_what_core_does_not_use_is_not_known() -> None:
    with pytest.raises(AttributeError):
        Trace("float32").arctan  # noqa: B018


def test_threads_replay_side_by_side() -> None:
    network, layers, tile = tile_of((20, 30, 1), "tanh", "sigmoid", 500, "float32", full=False)
    given = Given(labels=True, weights=False, masks=False, numbers=())
    program = Program(traced(equations.cost_and_gradients, network, 500, np.dtype("float32"), given))
    expected = replayed(equations.cost_and_gradients, tile, layers, network)[1]

    def run(_: int) -> bool:
        out = [np.empty_like(V) for V in expected]
        program(*inputs_of(tile, layers), *out)
        return all(np.array_equal(one, other) for one, other in zip(out, expected, strict=True))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(400)))


def test_a_batch_of_one_tile_has_the_same_bits_from_the_first_call_on() -> None:
    before = compiled.cache_info().misses
    network, layers, X, Y = problem((4, 7, 3), "tanh", "softmax", m=13)
    batch = engine.Batch(X, Y, 13)
    results = [engine.cost_and_gradients(batch, layers, network, backend("numpy"), l2=0.1) for _ in range(4)]
    assert compiled.cache_info().misses == before + 1
    for J, g in results[1:]:
        assert results[0][0] == J
        np.testing.assert_array_equal(g, results[0][1])


def test_many_threads_trace_at_once() -> None:
    X, Y = np.ones((3, 40)), np.ones((1, 40))

    def run(n: int) -> bool:
        network = Network((3, n, 1))
        batch, layers = engine.Batch(X, Y, 40), network.init(0, dtype="float64").layers
        first, again = (
            engine.cost_and_gradients(batch, layers, network, backend("numpy"), l2=0.0, width=width)[1]
            for width in (8, 8)
        )
        return np.array_equal(first, again)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(1, 120)))


def test_what_a_program_returns_is_not_written_over() -> None:
    trace = Trace("float64")
    X = trace.input("X", (3, 4))
    J = trace.sum(X) / 12.0
    program = Program(trace.graph({"out": X + J * 0.1}, result=J))
    out = np.empty((3, 4))
    assert program(np.ones((3, 4)), out) == 1.0
    assert np.array_equal(out, np.full((3, 4), 1.1))


def test_every_elementwise_function_has_numpy_s_bits() -> None:
    generator = np.random.default_rng(0)
    V, U = generator.normal(size=(2, 3, 5)).round(1)
    trace = Trace("float64")
    one, other = trace.input("one", (3, 5)), trace.input("other", (3, 5))
    c = one > other
    chosen = trace.where(trace.logical_or(c, other <= -0.5), one, trace.where(c, 2.0, other))
    made = {
        **{name: getattr(trace, name)(one) for name in ("expm1", "floor", "sign", "abs", "exp", "tanh")},
        **{name: trace.astype(getattr(trace, name)(one, other), "float64") for name in ("equal", "not_equal")},
        **{name: getattr(trace, name)(one, other) for name in ("minimum", "maximum")},
        "chosen": chosen,
        "neither": trace.where(trace.logical_not(trace.logical_and(c, one < 1.0)), one * 2.0, -1.0),
    }
    program = Program(trace.graph({f"out_{name}": value for name, value in made.items()}))
    out = {name: np.full((3, 5), np.nan) for name in made}
    program(V, U, *out.values())
    expected = {name: getattr(np, name)(V) for name in ("expm1", "floor", "sign", "abs", "exp", "tanh")}
    expected |= {name: getattr(np, name)(V, U) for name in ("equal", "not_equal", "minimum", "maximum")}
    expected["chosen"] = np.where((V > U) | (U <= -0.5), V, np.where(V > U, 2.0, U))
    expected["neither"] = np.where(~((V > U) & (V < 1.0)), V * 2, -1.0)
    for name, found in out.items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
