"""Several ranks, each with columns of its own, compute what one process computes of all of them."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space, columns_of
from safetensors import safe_open
from threaded_ranks import ThreadComm, assert_is_the_run_of_one_process, on_ranks

import nnarray as nn
from nnarray.engine.ranks import Ranks, _words_of
from nnarray.training.checkpoint_file import CheckpointFile

M = 211
CUTS = {1: (0, M), 2: (0, 30, M), 3: (0, 2, 50, M)}
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
case = partial(columns_of, M)


def mine(comm: Any) -> slice:
    return slice(*CUTS[comm.size][comm.rank : comm.rank + 2])


def theta(result: Any) -> bytes:
    return bytes(result.params.backend.to_numpy(result.params.vector).tobytes())


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_and_costs_are_those_of_all_columns(size: int, output: str, weighted: bool) -> None:
    network, X, Y = case(output)
    params = network.init(0, dtype="float64")
    weights = np.random.default_rng(1).random(M) * (np.arange(M) % 3 > 0) if weighted else None
    J, g = network.gradients(params, X, Y, l2=0.3, l1=0.2, weights=weights)

    def call(comm: ThreadComm) -> Any:
        part = mine(comm)
        own = None if weights is None else weights[part]
        options: dict[str, Any] = {"l2": 0.3, "l1": 0.2, "weights": own, "comm": comm}
        found = network.gradients(params, X[:, part], Y[:, part], **options)
        return *found, network.cost(params, X[:, part], Y[:, part], **options)

    found = on_ranks(size, call)
    for J_found, g_found, cost in found:
        np.testing.assert_allclose(g_found.vector, g.vector, rtol=1e-9, atol=1e-12)
        assert J_found == pytest.approx(float(J), rel=1e-12)
        assert cost == J_found
        assert J_found.shape == ()
        assert g_found.vector.tobytes() == found[0][1].vector.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_every_namespace(space: Space, dtype: str) -> None:
    network, X, Y = case("softmax")
    layers = [(np.asarray(W), np.asarray(b)) for W, b in network.init(0, dtype=dtype)]
    J, g = network.gradients(layers, X, Y, l2=0.1)
    kept: dict[str, Any] = {"epochs": 4, "batch_size": 50, "optimizer": nn.Adam(0.01), "l2": 0.1}

    def call(comm: ThreadComm) -> Any:
        x, y = space.asarray(X[:, mine(comm)], dtype), space.asarray(Y[:, mine(comm)], dtype)
        params = space.pairs(layers, dtype)
        J_found, g_found = network.gradients(params, x, y, l2=0.1, comm=comm)
        space.assert_same_place(g_found.vector, dtype)
        space.assert_same_place(network.cost(params, x, y, comm=comm), dtype)
        return float(J_found), space.to_numpy(g_found.vector), nn.train(network, x, y, params=params, comm=comm, **kept)

    tolerance = 1e-12 if dtype == "float64" else 1e-5
    found = on_ranks(2, call)
    for J_found, g_found, trained in found:
        assert J_found == pytest.approx(float(J), rel=tolerance)
        np.testing.assert_allclose(g_found, g.vector, rtol=0, atol=tolerance)
        assert theta(trained) == theta(found[0][2])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("output", OUTPUTS)
def test_training_on_the_whole_batch_is_that_of_one_process(size: int, output: str) -> None:
    network, X, Y = case(output)
    options: dict[str, Any] = {"epochs": 60, "dtype": "float64", "optimizer": nn.Adam(0.01), "l2": 0.1, "l1": 0.05}
    one = nn.train(network, X, Y, validation=(X[:, ::2], Y[:, ::2]), patience=30, **options)

    def call(comm: ThreadComm) -> Any:
        validation = X[:, ::2][:, comm.rank :: comm.size], Y[:, ::2][:, comm.rank :: comm.size]
        own = X[:, mine(comm)], Y[:, mine(comm)]
        return nn.train(network, *own, validation=validation, patience=30, comm=comm, **options)

    found = on_ranks(size, call)
    for result in found:
        assert theta(result) == theta(found[0])
        assert_is_the_run_of_one_process(result, one)


@pytest.mark.parametrize("size", [2, 3])
def test_mini_batches_are_of_everybody_and_goes_on_to_the_bit(size: int) -> None:
    network, X, Y = case()
    options: dict[str, Any] = {"batch_size": 16, "optimizer": nn.Adam(0.02), "dropout": 0.1, "l2": 0.1}

    def call(comm: ThreadComm) -> Any:
        own = X[:, mine(comm)], Y[:, mine(comm)]
        whole = nn.train(network, *own, epochs=7, comm=comm, **options)
        part = nn.train(network, *own, epochs=3, comm=comm, **options)
        return whole, nn.train(network, *own, epochs=4, state=part.state, comm=comm, **options)

    found = on_ranks(size, call)
    for whole, rest in found:
        assert theta(whole) == theta(rest) == theta(found[0][0])
        assert whole.state.t == 7 * -(-M // 16)
        assert whole.history[-1].cost < whole.history[0].cost
        assert [record.cost for record in whole.history] == [record.cost for record in found[0][0].history]


NOTHING: dict[str, Any] = {
    "no columns": lambda X, Y, weights, rank: (X[:, :0], Y[:, :0], weights[:0]) if rank == 1 else (X, Y, weights),
    "columns that weigh nothing": lambda X, Y, weights, rank: (X, Y, weights * (rank != 1)),
}


@pytest.mark.parametrize("what", NOTHING)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_rank_that_has_nothing_to_add(what: str, output: str) -> None:
    network, X, Y = case(output)
    params, weights = network.init(0, dtype="float64"), np.random.default_rng(1).random(M)
    cut = NOTHING[what]
    parts = [(X[:, :40], Y[:, :40], weights[:40]), (X[:, 40:90], Y[:, 40:90], weights[40:90])]
    parts = [cut(*part, rank) for rank, part in enumerate([*parts, (X[:, 90:], Y[:, 90:], weights[90:])])]
    all_X, all_Y = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    all_weights = np.concatenate([part[2] for part in parts])
    J, g = network.gradients(params, all_X, all_Y, l2=0.3, weights=all_weights)
    options: dict[str, Any] = {"epochs": 12, "dtype": "float64", "optimizer": nn.Adam(0.01), "params": params}
    one = nn.train(network, all_X, all_Y, weights=all_weights, validation=(X, Y), patience=5, **options)

    def call(comm: ThreadComm) -> Any:
        x, y, w = parts[comm.rank]
        validation = (X[:, :0], Y[:, :0]) if comm.rank == 2 else (X[:, comm.rank :: 2], Y[:, comm.rank :: 2])
        common: dict[str, Any] = {"weights": w, "comm": comm}
        mini = nn.train(network, x, y, batch_size=16, dropout=0.2, input_dropout=0.1, **options, **common)
        whole = nn.train(network, x, y, validation=validation, patience=5, **options, **common)
        cost = network.cost(params, x, y, l2=0.3, **common)
        return *network.gradients(params, x, y, l2=0.3, **common), cost, mini, whole

    found = on_ranks(3, call)
    for result in found:
        assert not isinstance(result, BaseException), result
        J_found, g_found, cost, mini, whole = result
        np.testing.assert_allclose(g_found.vector, g.vector, rtol=1e-9, atol=1e-12)
        assert J_found == cost == pytest.approx(float(J), rel=1e-12)
        assert theta(mini) == theta(found[0][3])
        assert mini.history[-1].cost < mini.history[0].cost
        np.testing.assert_allclose(whole.params.vector, one.params.vector, rtol=0, atol=1e-9)
        assert whole.history[-1].validation_score == pytest.approx(one.history[-1].validation_score, rel=1e-9)


@pytest.mark.parametrize("calls", ["cost", "gradients", "train"])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_ranks_together_need_an_example(calls: str, weighted: bool) -> None:
    network, X, Y = case()
    columns = slice(0, 7 if weighted else 0)

    def call(comm: ThreadComm) -> Any:
        given = X[:, columns], Y[:, columns]
        options: dict[str, Any] = {"comm": comm, "weights": np.zeros(7) if weighted else None}
        if calls == "train":
            return nn.train(network, *given, epochs=1, **options)
        return getattr(network, calls)(network.init(0), *given, **options)

    for error in on_ranks(2, call):
        assert isinstance(error, ValueError)
        assert "at least one example that weighs something" in str(error)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("what", ["cost", "gradients", "train"])
def test_weights_of_one_rank_that_are_none_are_refused(weight: float, what: str) -> None:
    network, X, Y = case()
    params = network.init(0, dtype="float64")

    def call(comm: ThreadComm) -> Any:
        weights = np.ones(M)
        weights[3] = weight if comm.rank == 1 else 1.0
        if what == "train":
            return nn.train(network, X, Y, weights=weights, epochs=1, comm=comm)
        return getattr(network, what)(params, X, Y, weights=weights, comm=comm)

    other, own = on_ranks(2, call)
    assert str(own) == "weights must be finite and ≥ 0"
    assert "rank 1 failed: ValueError: weights must be finite and ≥ 0" in str(other)


@pytest.mark.parametrize("wrong", ["X", "Y", "weights"])
def test_no_columns_of_another_shape(wrong: str) -> None:
    network, X, Y = case()
    shapes = {"X": (5, 0), "Y": (1, 0), "weights": (1, 0)} | {wrong: (4, 3) if wrong == "weights" else (3, 0)}
    given = {name: np.zeros(shape) for name, shape in shapes.items()}

    def call(comm: ThreadComm) -> Any:
        mine = given if comm.rank else {"X": X, "Y": Y, "weights": np.ones(M)}
        return network.cost(network.init(0), **mine, comm=comm)

    found = on_ranks(2, call)
    assert all(isinstance(error, ValueError | RuntimeError) for error in found)
    assert f"{wrong} must have shape" in str(found[1])


def test_examples_that_weigh_nothing_together_make_no_update() -> None:
    network, X, Y = case()

    def call(comm: ThreadComm) -> Any:
        weights = np.zeros(20)
        weights[0] = 1.0
        own = X[:, :20], Y[:, :20]
        return nn.train(network, *own, weights=weights, epochs=2, batch_size=4, seed=5, comm=comm)

    found = on_ranks(2, call)
    assert [result.state.t for result in found] == [found[0].state.t] * 2
    assert 2 <= found[0].state.t <= 4


def test_training_examples_are_compared_though_those_of_validation_are_elsewhere() -> None:
    """Each rank's share of them, not as many as it has for validation."""
    network, X, Y = case()
    one = nn.train(network, X, Y, validation=(X, Y), epochs=2, dtype="float64").history[-1]

    def call(comm: ThreadComm) -> Any:
        none, all_of_it = (X[:, :0], Y[:, :0]), (X, Y)
        own, validation = (none, all_of_it) if comm.rank else (all_of_it, none)
        return nn.train(network, *own, validation=validation, epochs=2, dtype="float64", comm=comm)

    for result in on_ranks(2, call):
        assert result.history[-1].training_cost == pytest.approx(one.training_cost, rel=1e-9)
        assert result.history[-1].training_score == one.training_score


def test_a_seed_that_is_drawn_is_drawn_once() -> None:
    network, X, Y = case()
    found = on_ranks(2, lambda comm: nn.train(network, X, Y, epochs=1, batch_size=64, seed=None, comm=comm))
    assert theta(found[0]) == theta(found[1])


@pytest.mark.parametrize("speaks", [0, 1])
def test_one_rank_s_callback_stops_all(speaks: int) -> None:
    network, X, Y = case()

    def call(comm: ThreadComm) -> Any:
        callback = (lambda record: record.epoch == 7) if comm.rank == speaks else None
        return nn.train(network, X[:, mine(comm)], Y[:, mine(comm)], epochs=50, callback=callback, comm=comm)

    found = on_ranks(3, call)
    assert [(result.stopped, len(result.history)) for result in found] == [("callback", 7)] * 3
    assert len({theta(result) for result in found}) == 1


def test_an_interrupt_of_one_rank_ends_all_after_the_same_update() -> None:
    network, X, Y = case()

    def call(comm: ThreadComm) -> Any:
        def callback(record: nn.Epoch) -> None:
            if record.epoch == 5 and comm.rank == 2:
                raise KeyboardInterrupt

        own = X[:, mine(comm)], Y[:, mine(comm)]
        return nn.train(network, *own, epochs=50, batch_size=50, callback=callback, comm=comm)

    found = on_ranks(3, call)
    assert [(result.stopped, len(result.history)) for result in found] == [("interrupt", 5)] * 3
    assert len({theta(result) for result in found}) == 1


class OddError(Exception):
    pass


def _fails_at(epoch: int) -> Any:
    def callback(record: nn.Epoch) -> None:
        if record.epoch == epoch:
            msg = "so odd"
            raise OddError(msg)

    return callback


FAILURES: dict[str, Any] = {
    "a shape": lambda network, X, Y, comm: network.gradients(network.init(0), X[: 4 + (comm.rank != 1)], Y, comm=comm),
    "a kind": lambda network, X, Y, comm: network.cost(network.init(0), X if comm.rank != 1 else "no", Y, comm=comm),
    "NaN": lambda network, X, Y, comm: network.gradients(
        network.init(0), X if comm.rank != 1 else X * np.nan, Y, comm=comm
    ),
    "NaN for a cost": lambda network, X, Y, comm: network.cost(
        network.init(0), X if comm.rank != 1 else X * np.nan, Y, comm=comm
    ),
    "an option": lambda network, X, Y, comm: nn.train(network, X, Y, epochs=3 if comm.rank != 1 else -1, comm=comm),
    "NaN to train on": lambda network, X, Y, comm: nn.train(
        network, X if comm.rank != 1 else X * np.nan, Y, epochs=3, comm=comm
    ),
    "a callback": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=9, batch_size=20, callback=_fails_at(4) if comm.rank == 1 else None, comm=comm
    ),
    "the last callback": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=4, callback=_fails_at(4) if comm.rank == 1 else None, comm=comm
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_where_one_fails_all_end_with_its_message(name: str) -> None:
    network, X, Y = case()

    def call(comm: ThreadComm) -> Any:
        return FAILURES[name](network, X[:, mine(comm)], Y[:, mine(comm)], comm)

    found = on_ranks(3, call)
    assert isinstance(found[1], ValueError | TypeError | OddError)
    for other in (found[0], found[2]):
        assert isinstance(other, RuntimeError)
        assert str(other) == f"rank 1 failed: {type(found[1]).__name__}: {found[1]}"


DIFFERENT: dict[str, Any] = {
    "l2": lambda network, X, Y, comm: network.gradients(network.init(0), X, Y, l2=0.1 * comm.rank, comm=comm),
    "dtype": lambda network, X, Y, comm: network.cost(
        network.init(0, dtype=("float32", "float64")[comm.rank]), X, Y, comm=comm
    ),
    "params": lambda network, X, Y, comm: network.gradients(network.init(comm.rank), X, Y, comm=comm),
    "seed": lambda network, X, Y, comm: nn.train(network, X, Y, epochs=2, seed=comm.rank, comm=comm),
    "epochs": lambda network, X, Y, comm: nn.train(network, X, Y, epochs=2 + comm.rank, comm=comm),
    "batch_size": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, batch_size=[8, None][comm.rank], comm=comm
    ),
    "optimizer": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, optimizer=[nn.Adam(), nn.Momentum()][comm.rank], comm=comm
    ),
    "learning_rate": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, optimizer=nn.Adam(0.1 + comm.rank), comm=comm
    ),
    "learning_rate=StepDecay": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, optimizer=nn.Adam(nn.schedules.StepDecay(0.1, 0.5, 3 + comm.rank)), comm=comm
    ),
    "learning_rate must": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, optimizer=nn.Adam(lambda t: 0.1 + comm.rank), comm=comm
    ),
    "the checksum of params must": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, optimizer=nn.Adam(lambda t: 0.1 * (t > comm.rank)), batch_size=50, comm=comm
    ),
    "validation": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, validation=[None, (X, Y)][comm.rank], comm=comm
    ),
    "min_delta": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=9, patience=1, min_delta=float(comm.rank), comm=comm
    ),
    "average": lambda network, X, Y, comm: nn.train(network, X, Y, epochs=2, average=[None, 0.9][comm.rank], comm=comm),
    "l1": lambda network, X, Y, comm: nn.train(network, X, Y, epochs=2, l1=float(comm.rank), comm=comm),
    "input_dropout": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, input_dropout=0.1 * comm.rank, comm=comm
    ),
    "hidden": lambda network, X, Y, comm: nn.train(
        nn.Network(network.sizes, ["tanh", "relu"][comm.rank]), X, Y, epochs=2, comm=comm
    ),
    "output": lambda network, X, Y, comm: nn.Network(
        network.sizes, "tanh", ["sigmoid", "identity"][comm.rank]
    ).gradients(network.init(0), X, Y, comm=comm),
    "cost": lambda network, X, Y, comm: network.cost(
        network.init(0), X, Y, cost=[None, nn.Cost(loss_of_half, dA=loss_of_half)][comm.rank], comm=comm
    ),
    "state": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, params=network.init(0), state=[None, later(network, X, Y)][comm.rank], comm=comm
    ),
    "state must be the same on all ranks, got State(t=2,": lambda network, X, Y, comm: nn.train(
        network, X, Y, epochs=2, state=later(network, X, Y)._replace(v=np.full(network.size, comm.rank)), comm=comm
    ),
}


def loss_of_half(A: Any, Y: Any, xp: Any) -> Any:
    return (A - Y) / 2


def later(network: nn.Network, X: Any, Y: Any) -> Any:
    return nn.train(network, X, Y, epochs=2).state


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_must_be_the_same_on_all_ranks(name: str) -> None:
    network, X, Y = case()
    found = on_ranks(2, lambda comm: DIFFERENT[name](network, X, Y, comm))
    for error in found:
        assert isinstance(error, ValueError)
        assert name in str(error)
        assert "must be the same on all ranks" in str(error)


def test_a_failure_in_a_call_within_another_ends_both() -> None:
    """All ranks leave both, whoever catches the inner one."""
    network, X, Y = case()

    def call(comm: ThreadComm, *, catches: bool) -> Any:
        def inner(record: nn.Epoch) -> None:
            wrong = np.full_like(X, np.nan) if comm.rank == 0 else X
            try:
                network.gradients(record.params, wrong, Y, comm=comm)
            except nn.engine.RankError:
                if not catches:
                    raise

        return nn.train(network, X, Y, epochs=2, callback=inner, comm=comm)

    for catches in (False, True):
        first, second = on_ranks(2, partial(call, catches=catches))
        assert isinstance(first, ValueError)
        assert isinstance(second, nn.engine.RankError)
        assert "rank 0 failed: ValueError: X must be finite" in str(second)


OTHER_CALLS: dict[str, Any] = {
    "cost beside gradients": lambda network, params, X, Y, comm: (
        network.cost(params, X, Y, comm=comm) if comm.rank else network.gradients(params, X, Y, comm=comm)
    ),
    "cost beside train": lambda network, params, X, Y, comm: (
        network.cost(params, X, Y, comm=comm) if comm.rank else nn.train(network, X, Y, epochs=1, comm=comm)
    ),
    "cost within train": lambda network, params, X, Y, comm: nn.train(
        network, X, Y, epochs=2, comm=comm, callback=lambda _: comm.rank and network.cost(params, X, Y, comm=comm)
    ),
}


@pytest.mark.parametrize("name", OTHER_CALLS)
def test_ranks_that_make_other_calls_are_told(name: str) -> None:
    network, X, Y = case()
    params = network.init(0)
    for error in on_ranks(2, lambda comm: OTHER_CALLS[name](network, params, X, Y, comm)):
        assert isinstance(error, nn.engine.RankError)
        assert "all ranks must make the same calls, in the same order" in str(error)


@pytest.mark.parametrize("normalized", [0, 1])
def test_batch_normalisation_on_one_rank_alone_is_refused(normalized: int) -> None:
    _, X, Y = case()
    networks = [nn.Network((len(X), 3, len(Y)), batch_norm=rank == normalized) for rank in range(2)]
    for error in on_ranks(2, lambda comm: nn.train(networks[comm.rank], X, Y, epochs=1, comm=comm)):
        assert isinstance(error, ValueError)
        assert "must be the same on all ranks" in str(error)


def test_another_backend_on_one_rank_is_refused_by_its_name() -> None:
    pytest.importorskip("torch")
    network, X, Y = case()
    for error in on_ranks(
        2, lambda comm: nn.train(network, X, Y, epochs=1, backend=("numpy", "torch")[comm.rank], comm=comm)
    ):
        assert str(error) == "backend must be the same on all ranks, got numpy on rank 0 and torch on rank 1"


@pytest.mark.parametrize("values", [(1, 1.0, True), (0.1, np.float64(0.1), 0.1), ("a", "a", "a")])
def test_things_that_are_equal_agree_however_they_are_written(values: Any) -> None:
    def call(comm: ThreadComm) -> Any:
        with Ranks(comm) as ranks:
            return ranks.agree(comm.rank, 2.0, thing=values[comm.rank])

    assert on_ranks(3, call) == [[3.0, 6.0]] * 3


@pytest.mark.parametrize("values", [(1, 2, 3), (2, 1, 3), (0, 0, 1), (1.0, 1.0 + 2**-52, 1.0), ("a", "b", "a")])
def test_things_that_differ_on_any_rank_are_refused_on_all(values: Any) -> None:
    def call(comm: ThreadComm) -> Any:
        with Ranks(comm) as ranks:
            return ranks.agree(thing=values[comm.rank])

    for error in on_ranks(3, call):
        assert isinstance(error, ValueError)
        assert f"thing must be the same on all ranks, got {values[0]} on rank 0 and" in str(error)


@pytest.mark.parametrize("sizes", [(5, 6, 1), (300, 100, 100, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_in_another_order_are_other_parameters(sizes: tuple[int, ...], dtype: str) -> None:
    network, (n_x, n_1, *_) = nn.Network(sizes), sizes
    first, second, *rest = [(np.array(W), np.array(b)) for W, b in network.init(0, dtype=dtype)]
    order = np.arange(n_1)
    order[[1, 4]] = order[[4, 1]]
    other = [(first[0][order], first[1][order]), (second[0][:, order], second[1]), *rest]
    X, Y = np.ones((n_x, 7)), np.ones((sizes[-1], 7))

    def call(comm: ThreadComm) -> Any:
        return network.gradients([first, second, *rest] if comm.rank else other, X, Y, comm=comm)

    assert all("the checksum of params must be the same" in str(error) for error in on_ranks(2, call))


@pytest.mark.parametrize("size", [2, 3, 7, 1000])
def test_words_tell_one_rank_of_many(size: int) -> None:
    for i in range(50):
        words = np.array([_words_of({"thing": i + (rank == i % size)}) for rank in range(size)], "float64")
        assert (size * (words**2).sum(axis=0) != words.sum(axis=0) ** 2).any()
        same = np.repeat(words[:1], size, axis=0)
        assert (size * (same**2).sum(axis=0) == same.sum(axis=0) ** 2).all()


def test_divergence_is_everybody_s() -> None:
    network, X, Y = case("identity")

    def call(comm: ThreadComm) -> Any:
        own = X[:, mine(comm)], Y[:, mine(comm)]
        return nn.train(network, *own, epochs=50, optimizer=nn.GradientDescent(1e6), comm=comm)

    found = on_ranks(2, call)
    assert all(isinstance(error, nn.DivergenceError) for error in found)
    assert theta(found[0]) == theta(found[1])


def test_bad_communicators_and_streams() -> None:
    network, X, Y = case()
    with pytest.raises(TypeError, match=r"comm must be a communicator of mpi4py.*got a int"):
        network.gradients(network.init(0), X, Y, comm=3)  # type: ignore[arg-type]
    (error,) = on_ranks(1, lambda comm: nn.train(network, lambda: [(X, Y)], epochs=1, comm=comm))
    assert isinstance(error, ValueError)
    assert "comm must be left out where X is a stream" in str(error)


UNDER_MPI = """
import os, signal, sys, zlib
import numpy as np
from mpi4py import MPI
import nnarray as nn
comm = MPI.COMM_WORLD
rng = np.random.default_rng(0)
X = rng.normal(size=(5, 101)); Y = (X[:1] > 0).astype(float)
network = nn.Network((5, 4, 1), "tanh")
params = network.init(0, dtype="float64")
part = slice(0, 30) if comm.rank == 0 else slice(30, 101)
J, g = network.gradients(params, X, Y, l2=0.3)
for dtype, limit in (("float64", 1e-12), ("float32", 1e-5)):
    found = network.gradients(network.init(0, dtype=dtype), X[:, part], Y[:, part], l2=0.3, comm=comm)
    expected = network.gradients(network.init(0, dtype=dtype), X, Y, l2=0.3)
    assert abs(found[0] - expected[0]) < limit and abs(found[1].vector - expected[1].vector).max() < limit
def callback(record):
    if sys.argv[1] == "interrupted" and comm.rank == 1 and record.epoch == 5:
        os.kill(os.getpid(), signal.SIGINT)
    if sys.argv[1] == "failed" and comm.rank == 1 and record.epoch == 5:
        raise OSError("the disk of this rank is full")
result = nn.train(network, X[:, part], Y[:, part], epochs=20, batch_size=10, callback=callback, comm=comm)
line = f"{zlib.crc32(result.params.vector.tobytes())} {result.stopped} {len(result.history)}"
lines = comm.gather(line)
if comm.rank == 0:
    print(len(set(lines)), *result.stopped, sep="")
"""


def under_mpi(*arguments: str, script: str = UNDER_MPI) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert mpiexec is not None
    environment = {**os.environ, "NNARRAY_NUM_THREADS": "1"}
    command = [mpiexec, "-n", "2", sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


@pytest.mark.parametrize(("what", "said"), [("whole", "1epochs\n"), ("interrupted", "1interrupt\n")])
def test_under_mpi(what: str, said: str) -> None:
    done = under_mpi(what)
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_a_failure_under_mpi_ends_all() -> None:
    done = under_mpi("failed")
    assert done.returncode != 0
    assert "OSError: the disk of this rank is full" in done.stderr
    assert "rank 1 failed: OSError: the disk of this rank is full" in done.stderr


class StoppedError(Exception):
    pass


KEPT: dict[str, dict[str, Any]] = {
    "whole": {"epochs": 12},
    "best": {"epochs": 30, "patience": 5, "min_delta": 0.01},
    "batches": {"epochs": 5, "batch_size": 16, "average": 0.9},
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("every", [0, "2 epochs"])
@pytest.mark.parametrize("run", KEPT)
def test_a_run_that_ended_anywhere_goes_on_to_the_bit(
    run: str, every: Any, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, X, Y = case()
    options: dict[str, Any] = {"optimizer": nn.Adam(0.02), "dropout": 0.2, "l2": 0.1, "seed": 3, **KEPT[run]}
    written = 0

    def call(comm: ThreadComm, **more: Any) -> Any:
        return nn.train(network, X[:, mine(comm)], Y[:, mine(comm)], comm=comm, **options, **more)

    expected = on_ranks(size, call)
    write = CheckpointFile.write

    def write_and_stop(keeping: CheckpointFile, content: bytes) -> bool:
        nonlocal written
        written += 1
        is_written = write(keeping, content)
        if written % 3 == 0:
            raise StoppedError
        return is_written

    monkeypatch.setattr(CheckpointFile, "write", write_and_stop)
    kept: dict[str, Any] = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": every, "resume": True}
    for _ in range(99):
        found = on_ranks(size, lambda comm: call(comm, **kept))
        if not isinstance(found[0], StoppedError):
            break
        assert all("rank 0 failed: StoppedError" in str(other) for other in found[1:])
    assert written > 3
    for result, whole in zip(found, expected, strict=True):
        assert theta(result) == theta(whole)
        assert [record.cost for record in result.history] == [record.cost for record in whole.history]
        assert result.best_epoch == whole.best_epoch
        assert result.state.position.order == whole.state.position.order
        assert result.state.position.masks == whole.state.position.masks


def test_checkpoints_of_other_ranks_are_refused(tmp_path: Path) -> None:
    network, X, Y = case()
    path = tmp_path / "run.safetensors"

    def call(comm: ThreadComm, **more: Any) -> Any:
        return nn.train(network, X[:, mine(comm)], Y[:, mine(comm)], epochs=2, comm=comm, **more)

    on_ranks(2, lambda comm: call(comm, checkpoint=path))
    assert all(isinstance(result, nn.training.TrainingResult) for result in on_ranks(2, lambda c: call(c, resume=path)))
    (error, *others) = on_ranks(3, lambda comm: call(comm, resume=path))
    assert "'ranks' is 2 there and 3 here" in str(error)
    assert all(f"rank 0 failed: ValueError: {error}" == str(other) for other in others)
    with pytest.raises(ValueError, match="a checkpoint of another run"):
        nn.train(network, X, Y, epochs=2, resume=path)
    path.unlink()
    nn.train(network, X, Y, epochs=2, checkpoint=path)
    assert "'ranks' is None there and 2 here" in str(on_ranks(2, lambda comm: call(comm, resume=path))[0])


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    network, X, Y = case()
    folder = tmp_path / "gone"
    folder.mkdir()

    def call(comm: ThreadComm) -> Any:
        def callback(record: nn.Epoch) -> None:
            if record.epoch == 1 and comm.rank == 0:
                shutil.rmtree(folder)

        options: dict[str, Any] = {"callback": callback, "checkpoint": folder / "run", "checkpoint_every": "epoch"}
        return nn.train(network, X[:, mine(comm)], Y[:, mine(comm)], epochs=3, comm=comm, **options)

    with pytest.warns(RuntimeWarning, match="cannot be written"):
        found = on_ranks(2, call)
    assert [len(result.history) for result in found] == [3, 3]


ENDED_UNDER_MPI = """
import os, signal, sys, threading, zlib
import numpy as np
from mpi4py import MPI
import nnarray as nn
comm, what, path = MPI.COMM_WORLD, sys.argv[1], sys.argv[2]
rng = np.random.default_rng(0)
X = rng.normal(size=(5, 101)); Y = (X[:1] > 0).astype(float)
part = slice(0, 30) if comm.rank == 0 else slice(30, 101)
def callback(record):
    if record.epoch == 20 and comm.rank == 1 and what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))
kept = {} if what == "whole" else {"checkpoint": path, "checkpoint_every": 0.01, "resume": True}
result = nn.train(nn.Network((5, 4, 1), "tanh"), X[:, part], Y[:, part], epochs=40, batch_size=10, dropout=0.2,
                  callback=callback, comm=comm, **kept)
bits = comm.gather(zlib.crc32(result.params.vector.tobytes()))
if comm.rank == 0:
    print(*bits, len(result.history))
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_under_mpi_a_run_that_was_ended_goes_on_to_the_bit(number: str, tmp_path: Path) -> None:
    path = str(tmp_path / "run.safetensors")
    whole = under_mpi("whole", path, script=ENDED_UNDER_MPI)
    assert whole.returncode == 0, whole.stderr
    ended = under_mpi(number, path, script=ENDED_UNDER_MPI)
    assert (ended.returncode == 0) == (number == "SIGINT")
    epoch = json.loads(safe_open(path, "numpy").metadata()["nnarray checkpoint"])["now"]["epoch"]
    assert epoch == 20 if number != "SIGKILL" else 0 <= epoch <= 20
    resumed = under_mpi("resumed", path, script=ENDED_UNDER_MPI)
    assert (resumed.returncode, resumed.stdout) == (0, whole.stdout), resumed.stderr
