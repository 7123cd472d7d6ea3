"""Training steps that are one call of machine code: to the bit what steps made piece by piece give."""

from typing import Any

import numpy as np
import pytest
from conftest import problem

import nnarray as nn
from nnarray import engine
from nnarray.programs.targets.llvm import steps

OPTIMIZERS = {
    "descent": nn.GradientDescent(0.1),
    "momentum": nn.Momentum(0.1),
    "nesterov": nn.Nesterov(0.05),
    "rmsprop": nn.RMSprop(0.01),
    "adam": nn.Adam(nn.schedules.CosineWithWarmup(0.02, steps=60, warmup=5)),
}


@pytest.fixture
def launched(monkeypatch) -> list[int]:
    """One entry per step that was one call."""
    found, launch = list[int](), steps.Steps.launch
    monkeypatch.setattr(steps.Steps, "launch", lambda self: (found.append(1), launch(self))[1])
    return found


def train(network: nn.Network, X: Any, Y: Any, *, piecewise: bool, monkeypatch: Any, **options: Any) -> Any:
    with monkeypatch.context() as patch:
        if piecewise:
            patch.setattr(engine.captured, "captures_steps", lambda _: False)
        return nn.train(network, X, Y, seed=3, progress=False, **options)


def same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.params.vector, other.params.vector)
    assert one.history.columns()["cost"] == other.history.columns()["cost"]
    assert one.state.t == other.state.t


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser(name, dtype, launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 20, 8, 3), ("relu", "tanh"), "softmax", m=103)
    options = {"epochs": 4, "batch_size": 16, "optimizer": OPTIMIZERS[name], "dtype": dtype}
    whole = train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 4 * 6
    same(whole, train(network, X, Y, piecewise=True, monkeypatch=monkeypatch, **options))


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
@pytest.mark.parametrize("hidden", ["relu", "gelu"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda V: np.repeat(V, 2, axis=1)[:, ::2]])
def test_outputs_layouts_weights_and_a_penalty(layout, hidden, output, launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 30, 2), hidden, output, m=90)
    weights = np.linspace(0, 2, 90)
    options = {"epochs": 3, "batch_size": 20, "dtype": "float64", "weights": weights, "l2": 0.3}
    whole = train(network, layout(X), layout(Y), piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 3 * 4
    same(whole, train(network, layout(X), layout(Y), piecewise=True, monkeypatch=monkeypatch, **options))


def test_large_steps_with_several_threads_of_blas(launched, monkeypatch) -> None:
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(300, 700)).astype("f"), nn.one_hot(generator.integers(4, size=700), 4).astype("f")
    network = nn.Network((300, 260, 4), output="softmax")
    options = {"epochs": 2, "batch_size": 128}
    whole = train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, **options)
    assert len(launched) == 2 * 5
    same(whole, train(network, X, Y, piecewise=True, monkeypatch=monkeypatch, **options))


def test_dropout_goes_piece_by_piece(launched, monkeypatch) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=50)
    train(network, X, Y, piecewise=False, monkeypatch=monkeypatch, epochs=1, batch_size=10, dropout=0.5)
    assert launched == []


def test_an_epoch_is_seen_as_before(launched) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "softmax", m=50)
    seen = []
    options = {"epochs": 9, "batch_size": 10, "dtype": "float64", "validation": (X, Y), "progress": False}
    result = nn.train(network, X, Y, callback=lambda epoch: seen.append(epoch) or len(seen) == 4, **options)
    assert (result.stopped, len(seen), len(launched)) == ("callback", 4, 4 * 5)
    assert [epoch.epoch for epoch in seen] == [1, 2, 3, 4]
    assert seen[-1].validation_cost < seen[0].validation_cost


def test_divergence_is_seen(launched) -> None:
    network, _, X, Y = problem((5, 20, 3), "relu", "identity", m=50)
    with pytest.raises(nn.DivergenceError, match="diverged"):
        nn.train(
            network,
            X,
            Y * 1e3,
            epochs=50,
            batch_size=10,
            dtype="float64",
            optimizer=nn.GradientDescent(1e3),
            progress=False,
        )
    assert launched
