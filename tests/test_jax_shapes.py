"""JAX arrays with many numbers of columns: the same numbers as NumPy's, from few programs."""

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import targets

import nnarray as nn
from nnarray.engine import equations, jitted, jitted_steps, rules
from nnarray.engine.batch import Tile

jax = pytest.importorskip("jax")

NETWORK = nn.Network((4, 7, 3), "tanh", "softmax")
BACKEND = nn.backend("jax")


@pytest.fixture(autouse=True)
def few_exact_widths(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(jitted, "EXACT_WIDTHS", 3)
    jitted_steps._compiled.cache_clear()
    jitted._exact_widths.cache_clear()
    jitted._jitted.cache_clear()
    yield
    jitted._exact_widths.cache_clear()


def examples(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(m)
    return generator.normal(size=(4, m)), targets("softmax", 3, m, generator), generator.random((1, m)) + 0.1


def on_jax(*arrays: np.ndarray) -> list[object]:
    return [jax.device_put(V, BACKEND.device) for V in arrays]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_numbers_are_numpys_however_many_there_were_before(weighted) -> None:
    host, params = NETWORK.init(0, dtype="float64"), NETWORK.init(0, backend="jax", dtype="float64")
    for m in [5, 6, 7, 8, 9, 10, 11, 13, 17, 40, 100, 257, 8, 5, 1]:
        X, Y, w = examples(m)
        own = dict(zip(("X", "Y", "weights"), on_jax(X, Y, w), strict=True))
        weights, on_device = (w, own["weights"]) if weighted else (None, None)
        A = NETWORK.predict(params, own["X"])
        assert (A.shape, A.dtype.name, A.device) == ((3, m), "float64", BACKEND.device)
        np.testing.assert_allclose(A, NETWORK.predict(host, X), rtol=1e-12)
        J, gradients = NETWORK.gradients(params, own["X"], own["Y"], weights=on_device, l2=0.1)
        J_host, gradients_host = NETWORK.gradients(host, X, Y, weights=weights, l2=0.1)
        np.testing.assert_allclose(J, J_host, rtol=1e-12)
        np.testing.assert_allclose(gradients.vector, gradients_host.vector, rtol=1e-10, atol=1e-14)
        cost = NETWORK.cost(params, own["X"], own["Y"], weights=on_device)
        np.testing.assert_allclose(cost, NETWORK.cost(host, X, Y, weights=weights), rtol=1e-12)


def test_the_pullback_is_numpys_where_there_are_fewer_examples_than_units() -> None:
    host, params = NETWORK.init(0, dtype="float64"), NETWORK.init(0, backend="jax", dtype="float64")
    for m in [9, 8, 7, 6, 5, 3, 2, 1, 40, 100]:
        X, dA, _ = examples(m)
        (A, pull), (A_host, pull_host) = NETWORK.vjp(params, *on_jax(X)), NETWORK.vjp(host, X)
        (gradients, dX), (gradients_host, dX_host) = pull(*on_jax(dA)), pull_host(dA)
        np.testing.assert_allclose(A, A_host, rtol=1e-12)
        np.testing.assert_allclose(gradients.vector, gradients_host.vector, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(dX, dX_host, rtol=1e-10, atol=1e-14)


def test_training_with_dropout_and_validation() -> None:
    for m in (20, 21, 22, 23, 24, 31):
        X, Y, _ = examples(m)
        own, own_Y = on_jax(X, Y)
        options = {"epochs": 2, "batch_size": 7, "dropout": 0.4, "dtype": "float64"}
        expected = nn.train(NETWORK, X, Y, validation=(X, Y), **options)
        found = nn.train(NETWORK, own, own_Y, validation=(own, own_Y), **options)
        np.testing.assert_allclose(found.params.vector, expected.params.vector, rtol=1e-9, atol=1e-12)
        assert found.history[-1].validation_cost == pytest.approx(expected.history[-1].validation_cost, rel=1e-9)


def test_new_widths_compile_nothing_more(caplog) -> None:
    params = NETWORK.init(0, backend="jax", dtype="float64")

    def ask(m: int) -> None:
        X, Y, w = examples(m)
        own, own_Y, own_w = on_jax(X, Y, w)
        NETWORK.predict(params, own)
        NETWORK.gradients(params, own, own_Y)
        NETWORK.gradients(params, own, own_Y, weights=own_w)

    for m in (65, 66, 67, 80, 96):
        ask(m)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for m in range(68, 97):
            ask(m)
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []


def squared() -> nn.Cost:
    return nn.Cost(
        loss=lambda A, Y, xp: xp.sum((A - Y) ** 2 / A, axis=0, keepdims=True),
        dA=lambda A, Y, xp: 1 - (Y / A) ** 2,
    )


CALLS = {
    "forward": lambda network, params, X, Y, cost: network.forward(params, X),
    "gradients": lambda network, params, X, Y, cost: network.gradients(params, X, Y, cost=cost)[1].vector,
    "cost": lambda network, params, X, Y, cost: network.cost(params, X, Y, cost=cost),
    "vjp": lambda network, params, X, Y, cost: [(made := network.vjp(params, X))[0], made[1](Y)[1]],
    "train": lambda network, params, X, Y, cost: (
        nn.train(network, X, Y, params=params, epochs=2, dtype="float64", cost=cost, progress=False).params.vector
    ),
}


def assert_compiles_nothing_more(ask, caplog) -> None:
    """For numbers of examples between those that it was asked for."""
    for m in (65, 66, 67, 80, 96):
        ask(m)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for m in range(81, 96):
            ask(m)
    assert [record.getMessage()[:90] for record in caplog.records if "Compiling" in record.message] == []


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_new_widths_are_numpys_numbers_and_compile_nothing_more(name, batch_norm, caplog) -> None:
    network = nn.Network((4, 7, 3), "tanh", "softmax", batch_norm=batch_norm)
    host, params = network.init(0, dtype="float64"), network.init(0, backend="jax", dtype="float64")

    def ask(m: int) -> None:
        X, Y, _ = examples(m)
        found = CALLS[name](network, params, *on_jax(X, Y), None)
        expected = CALLS[name](network, host, X, Y, None)
        for V, other in zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]:
            assert isinstance(V, jax.Array)
            assert V.dtype.name == "float64"
            np.testing.assert_allclose(V, other, rtol=1e-9, atol=1e-13)

    if name == "forward" and batch_norm:  # by the averages, of which there are none yet
        params, host = (p.replace(p.vector) if not hasattr(p, "statistics") else p for p in (params, host))
    assert_compiles_nothing_more(ask, caplog)


def test_a_cost_of_the_caller_s_own_is_padded_with_the_last_example(caplog) -> None:
    params, host = NETWORK.init(0, backend="jax", dtype="float64"), NETWORK.init(0, dtype="float64")
    cost = squared()

    def ask(m: int) -> None:
        X, Y, w = examples(m)
        own, own_Y, own_w = on_jax(X, Y, w)
        J, g = NETWORK.gradients(params, own, own_Y, cost=cost, weights=own_w)
        expected, expected_g = NETWORK.gradients(host, X, Y, cost=cost, weights=w)
        np.testing.assert_allclose(J, expected, rtol=1e-12)
        np.testing.assert_allclose(g.vector, expected_g.vector, rtol=1e-10, atol=1e-14)

    assert_compiles_nothing_more(ask, caplog)


def test_the_first_widths_compile_the_equations_and_nothing_else(caplog) -> None:
    params = NETWORK.init(0, backend="jax", dtype="float64")
    NETWORK.gradients(params, *on_jax(*examples(5)[:2]))
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        NETWORK.gradients(params, *on_jax(*examples(6)[:2]))
    assert len([record for record in caplog.records if "Compiling" in record.message]) == 1


def test_a_trace_counts_for_nothing_and_sees_its_own_width() -> None:
    pairs = [(W, b) for W, b in NETWORK.init(0, backend="jax", dtype="float64")]
    for m in range(5, 12):
        X, Y, _ = examples(m)
        own, own_Y = on_jax(X, Y)
        traced = jax.jit(lambda pairs, X, Y: NETWORK.gradients(pairs, X, Y)[0])(pairs, own, own_Y)
        np.testing.assert_allclose(traced, NETWORK.cost(NETWORK.init(0, dtype="float64"), X, Y), rtol=1e-12)
    assert jitted._exact_widths.cache_info().misses <= 1


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 100, 129, 1000, 4097, 10**6 + 1])
def test_the_padding_is_at_most_a_quarter(columns) -> None:
    width = jitted.padded_width(columns)
    assert columns <= width <= max(1.25 * columns, columns)
    assert jitted.padded_width(width) == width
    assert len({jitted.padded_width(m) for m in range(1, 5000)}) < 50


@pytest.mark.parametrize("m", [29, 41])
def test_batches_of_padded_examples_are_those_of_numpy(m) -> None:
    for before in (20, 21, 22):
        nn.train(NETWORK, *on_jax(*examples(before)[:2]), epochs=1, batch_size=7, dtype="float64")
    X, Y, w = examples(m)
    own, own_Y, own_w = on_jax(X, Y, w)
    options = {"epochs": 3, "batch_size": 7, "dtype": "float64", "l2": 0.1}
    expected = nn.train(NETWORK, X, Y, weights=w, **options)
    found = nn.train(NETWORK, own, own_Y, weights=own_w, **options)
    np.testing.assert_allclose(found.params.vector, expected.params.vector, rtol=1e-9, atol=1e-12)
    assert [epoch.cost for epoch in found.history] == pytest.approx([epoch.cost for epoch in expected.history])


def test_training_on_new_widths_compiles_nothing_more(caplog) -> None:
    def train(m: int) -> None:
        own, own_Y = on_jax(*examples(m)[:2])
        for options in ({"batch_size": 7}, {"batch_size": 7, "dropout": 0.2}):
            nn.train(NETWORK, own, own_Y, epochs=2, validation=(own, own_Y), **options)

    for m in (65, 66, 67, 71):
        train(m)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for m in (72, 73, 74):  # padded to what 71 is padded to, and as many are left after batches of 7 as above
            train(m)
    assert [record.getMessage()[:90] for record in caplog.records if "Compiling" in record.message] == []


def test_products_of_several_layers_are_not_fused() -> None:
    """These predictions, which are only compiled here, took JAX 23 s in one fusion."""
    network = nn.Network((784, 512, 512, 10), output="softmax")
    layers = list(network.init(0, backend="jax"))
    X = jax.ShapeDtypeStruct((784, 60_000), "float32")
    function = jitted._jitted(equations.prediction, network, BACKEND, np.dtype("float32"), True)
    text = function.lower(Tile(X, None, None, ()), layers, {}).compile().as_text()
    products = [part.count(" dot(") for part in text.split("\n\n")]
    assert (sum(products), max(products)) == (3, 1)


def test_a_batch_is_gathered_along_the_rows_of_X() -> None:
    """As a table, which XLA makes of it for the product, it takes six times as long."""
    given = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((512, 784), (784, 12_288)))
    rows = jax.ShapeDtypeStruct((128,), "int32")
    text = jax.jit(lambda W, X, rows: W @ BACKEND.gathered(X, rows)).lower(*given, rows).compile().as_text()
    fused = [line for line in text[text.index("ENTRY") :].splitlines() if "f32[784,12288]" not in line]
    assert any("f32[784,128]" in line for line in fused)
    assert not any("f32[128,784" in line for line in fused)


def test_updates_are_compiled_once_and_are_numpys() -> None:
    host, params = NETWORK.init(0, dtype="float64"), NETWORK.init(0, backend="jax", dtype="float64")
    optimizer = nn.Adam(nn.schedules.ExponentialDecay(0.1, 0.5, 2))
    state, own = optimizer.init(host), optimizer.init(params)
    g = np.linspace(-1.0, 1.0, NETWORK.size)
    before = jitted._update.cache_info().misses
    for _ in range(5):
        host, state = optimizer.update(host, host.replace(g), state)
        params, own = optimizer.update(params, params.replace(*on_jax(g)), own)
        np.testing.assert_allclose(params.vector, host.vector, rtol=1e-13)
    assert jitted._update.cache_info().misses - before <= 1
    run, _ = jitted._update(rules.key_of(optimizer.step), 3, NETWORK.size, np.dtype("float64"), BACKEND)
    assert run._cache_size() == 1
