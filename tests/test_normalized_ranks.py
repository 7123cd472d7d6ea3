"""Batch normalisation on several ranks, each with columns of its own: the numbers of one process with all of them."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import Space
from test_batch_norm import examples, network_of, normalized_layers
from threaded_ranks import ThreadComm, assert_is_the_run_of_one_process, on_ranks

import nnarray as nn
from nnarray import engine
from nnarray.engine import RankError
from nnarray.training.batches import seed_of

SIZES = (4, 6, 5, 3)
M = 101
CUTS = {1: (0, M), 2: (0, 30, M), 3: (0, 2, 50, M), 4: (0, 40, 40, 41, M)}
"""of four ranks, one has no columns and one has one"""


def mine(comm: Any) -> slice:
    return slice(*CUTS[comm.size][comm.rank : comm.rank + 2])


def bits(params: Any) -> bytes:
    host = params.backend.to_numpy
    return bytes(host(params.vector).tobytes() + host(params.statistics).tobytes())


def every(size: int, call: Any) -> list[Any]:
    """What the call gives on each rank; raises what it raised."""
    found = on_ranks(size, call)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hidden", [("gelu", "relu"), "tanh"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_gradients_costs_and_statistics_are_those_of_all_columns(size, hidden, weighted) -> None:
    network, (X, Y), layers = network_of(hidden=hidden), examples(SIZES, "softmax", M), normalized_layers(SIZES)
    weights = np.random.default_rng(1).random(M) * (np.arange(M) > 60) if weighted else None
    options: dict[str, Any] = {"l2": 0.3, "l1": 0.2}
    J, g = network.gradients(layers, X, Y, weights=weights, **options)

    def call(comm: ThreadComm) -> Any:
        own = None if weights is None else weights[mine(comm)]
        given = layers, X[:, mine(comm)], Y[:, mine(comm)]
        found = network.gradients(*given, weights=own, comm=comm, **options)
        return *found, network.cost(*given, weights=own, comm=comm, **options)

    found = every(size, call)
    for J_found, g_found, cost in found:
        np.testing.assert_allclose(g_found.vector, g.vector, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(g_found.statistics, g.statistics, rtol=1e-12, atol=1e-12)
        assert abs(J_found - J) < 1e-12
        assert cost == J_found
        assert bits(g_found) == bits(found[0][1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_every_namespace(space: Space, dtype: str) -> None:
    network, (X, Y) = network_of(), examples(SIZES, "softmax", M)
    params = network.init(3, dtype="float64")
    J, g = network.gradients(params, X, Y, l2=0.1)
    one = nn.train(network, X, Y, params=params, epochs=3, optimizer=nn.Adam(0.01), l2=0.1, progress=False).params
    first = params.to(space.backend, dtype)

    def call(comm: ThreadComm) -> Any:
        x, y = space.asarray(X[:, mine(comm)], dtype), space.asarray(Y[:, mine(comm)], dtype)
        J_found, g_found = network.gradients(first, x, y, l2=0.1, comm=comm)
        space.assert_same_place(g_found.vector, dtype)
        space.assert_same_place(g_found.statistics, dtype)
        space.assert_same_place(network.cost(first, x, y, comm=comm), dtype)
        options: dict[str, Any] = {"epochs": 3, "optimizer": nn.Adam(0.01), "l2": 0.1, "progress": False}
        return J_found, g_found, nn.train(network, x, y, params=first, comm=comm, **options).params

    tolerance = 1e-11 if dtype == "float64" else 1e-4
    found = every(4, call)
    for J_found, g_found, trained in found:
        assert abs(float(J_found) - J) < tolerance
        np.testing.assert_allclose(space.to_numpy(g_found.vector), g.vector, rtol=0, atol=tolerance)
        assert bits(trained) == bits(found[0][2])
        if dtype == "float64":
            np.testing.assert_allclose(space.to_numpy(trained.vector), one.vector, rtol=0, atol=1e-9)


@pytest.mark.parametrize("workers", [1, 3])
def test_ranks_of_several_tiles(workers) -> None:
    m, cut = 16_000, (0, 9000, 9001, 16_000)
    network, (X, Y), layers = network_of(), examples(SIZES, "softmax", m), normalized_layers(SIZES)
    assert engine.tile_width(network, 9000, 8) < 9000
    J, g = network.gradients(layers, X, Y)

    def call(comm: ThreadComm) -> Any:
        own = slice(*cut[comm.rank : comm.rank + 2])
        return network.gradients(layers, X[:, own], Y[:, own], workers=workers, comm=comm)

    for J_found, g_found in every(3, call):
        assert abs(J_found - J) < 1e-12
        np.testing.assert_allclose(g_found.vector, g.vector, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(g_found.statistics, g.statistics, rtol=1e-12, atol=1e-12)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalties and patience": {"l2": 0.1, "l1": 0.05, "patience": 15},
    "average": {"average": 0.9},
    "a cost of one's own": {"cost": nn.Cost(lambda A, Y, xp: (A - Y) ** 2, dA=lambda A, Y, xp: 2.0 * (A - Y))},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [2, 4])
def test_training_on_the_whole_batch_is_that_of_one_process(size, name) -> None:
    network, (X, Y) = network_of(hidden="tanh"), examples(SIZES, "softmax", M)
    weights = np.random.default_rng(2).uniform(0.5, 2, M)
    options = {"epochs": 40, "dtype": "float64", "optimizer": nn.Adam(0.02), "progress": False} | OPTIONS[name]
    one = nn.train(network, X, Y, weights=weights, validation=(X[:, ::2], Y[:, ::2]), **options)

    def call(comm: ThreadComm) -> Any:
        validation = X[:, ::2][:, comm.rank :: comm.size], Y[:, ::2][:, comm.rank :: comm.size]
        given = X[:, mine(comm)], Y[:, mine(comm)]
        return nn.train(network, *given, weights=weights[mine(comm)], validation=validation, comm=comm, **options)

    found = every(size, call)
    for result in found:
        assert bits(result.params) == bits(found[0].params)
        assert_is_the_run_of_one_process(result, one)
        np.testing.assert_allclose(result.params.statistics, one.params.statistics, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [2, 4])
def test_mini_batches_are_steps_on_everybodys_portions(size) -> None:
    network, (X, Y), batch_size, epochs = network_of(), examples(SIZES, "softmax", M), 16, 3
    optimizer, number = nn.Momentum(0.05), -(-M // batch_size)

    def call(comm: ThreadComm) -> Any:
        options: dict[str, Any] = {"dtype": "float64", "optimizer": optimizer, "seed": 5, "progress": False}
        given = X[:, mine(comm)], Y[:, mine(comm)]
        return nn.train(network, *given, epochs=epochs, batch_size=batch_size, comm=comm, **options)

    params = network.init(5, dtype="float64")
    state = optimizer.init(params)
    starts = CUTS[size]
    drawn = [np.random.default_rng(seed_of(5 if rank == 0 else (5, rank), 1)) for rank in range(size)]
    for _ in range(epochs):
        orders = [
            one.permutation(stop - start) + start for one, (start, stop) in zip(drawn, pairwise(starts), strict=True)
        ]
        for k in range(number):
            parts = [own[k * len(own) // number : (k + 1) * len(own) // number] for own in orders]
            columns = np.concatenate(parts)
            _, g = network.gradients(params, X[:, columns], Y[:, columns])
            params, state = optimizer.update(params, g, state)
    found = every(size, call)
    for result in found:
        assert bits(result.params) == bits(found[0].params)
        assert result.state.t == epochs * number
        np.testing.assert_allclose(result.params.vector, params.vector, rtol=0, atol=1e-9)
        np.testing.assert_allclose(result.params.statistics, params.statistics, rtol=0, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"average": 0.9}, {"patience": 50}], ids=str)
def test_runs_go_on_to_the_bit_from_states_and_checkpoints(options, tmp_path) -> None:
    network, (X, Y) = network_of(), examples(SIZES, "softmax", M)
    given = {"batch_size": 16, "dropout": 0.2, "input_dropout": 0.1, "progress": False} | options

    def call(comm: ThreadComm) -> Any:
        own = X[:, mine(comm)], Y[:, mine(comm)]
        whole = nn.train(network, *own, epochs=7, comm=comm, **given)
        part = nn.train(network, *own, epochs=3, comm=comm, **given)
        rest = nn.train(network, *own, epochs=4, state=part.state, comm=comm, **given)
        kept = {"checkpoint": tmp_path / "run", "checkpoint_every": 0.0, "comm": comm}
        nn.train(network, *own, epochs=7, callback=lambda epoch: epoch.epoch == 2, **given, **kept)
        resumed = nn.train(network, *own, epochs=7, resume=True, **given, **kept)
        return whole, rest, resumed

    found = every(3, call)
    for results in found:
        assert len({bits(result.params) for result in (found[0][0], *results)}) == 1
        assert [record.cost for record in results[2].history] == [record.cost for record in results[0].history]


def test_batches_of_one_example_are_refused_by_all() -> None:
    network, (X, Y), params = network_of(), examples(SIZES, "softmax", 3), network_of().init(dtype="float64")

    def call(of: Any, counts: tuple[int, ...], **options: Any) -> Any:
        def on(comm: ThreadComm) -> Any:
            n = counts[comm.rank]
            if of == "train":
                return nn.train(network, X[:, :n], Y[:, :n], epochs=1, comm=comm, **options)
            return getattr(network, of)(params, X[:, :n], Y[:, :n], comm=comm)

        return on_ranks(len(counts), on)

    for of in ("cost", "gradients", "train"):
        for error in call(of, (0, 1)):
            assert isinstance(error, ValueError)
            assert "at least 2 examples on all ranks together" in str(error)
        for error in call(of, (0, 0)):
            assert isinstance(error, ValueError)
            assert "at least one example that weighs something" in str(error)
        assert not any(isinstance(one, BaseException) for one in call(of, (1, 1)))
    for error in call("train", (3, 2), batch_size=2):
        assert isinstance(error, ValueError)
        assert "batch_size must leave no batch of a single example" in str(error)


@pytest.mark.parametrize("what", ["cost", "gradients", "train"])
def test_examples_that_weigh_nothing_count_in_the_statistics_alone(what) -> None:
    network, (X, Y), params = network_of(), examples(SIZES, "softmax", M), network_of().init(dtype="float64")
    weights = np.where(np.arange(M) < 30, 0.0, 1.0)

    def asked(columns: slice, **options: Any) -> Any:
        given = X[:, columns], Y[:, columns]
        if what == "train":
            options |= {"epochs": 5, "params": params}
            return nn.train(network, *given, weights=weights[columns], **options).params.vector
        found = getattr(network, what)(params, *given, weights=weights[columns], **options)
        return found if what == "cost" else found[1].vector

    wanted = asked(slice(0, M))
    for found in every(2, lambda comm: asked(mine(comm), comm=comm)):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


def test_what_differs_or_fails_on_one_rank_is_told_to_all() -> None:
    network, (X, Y) = network_of(), examples(SIZES, "softmax", M)
    layers = normalized_layers(SIZES)
    params = network.init(dtype="float64")
    averages = np.linspace(1, 2, 22)

    def of(comm: ThreadComm, kind: str) -> Any:
        x, first = X[:, mine(comm)], params
        if kind == "X" and comm.rank == 1:
            x = np.where(x > 3, np.nan, x)
        if kind == "averages":
            first = network.parameters(params.vector, statistics=averages + comm.rank)
        if kind == "plain" and comm.rank == 1:
            return nn.Network(SIZES, network.hidden, "softmax").gradients(
                [v[:2] for v in layers], x, Y[:, mine(comm)], comm=comm
            )
        if kind in ("X", "plain"):
            return network.gradients(layers, x, Y[:, mine(comm)], comm=comm)
        return nn.train(network, x, Y[:, mine(comm)], params=first, epochs=1, comm=comm)

    other, own = on_ranks(2, lambda comm: of(comm, "X"))
    assert isinstance(own, ValueError)
    assert "X must be finite" in str(own)
    assert isinstance(other, RankError)
    for kind, said in (("plain", "batch_norm must be the same"), ("averages", "averages must be the same")):
        for error in on_ranks(2, lambda comm, kind=kind: of(comm, kind)):
            assert isinstance(error, ValueError)
            assert said in str(error)


def test_a_rank_without_room_makes_its_passes_again_in_narrower_tiles(open_space, monkeypatch) -> None:
    space = open_space("torch")
    network, (X, Y), layers = network_of(), examples(SIZES, "softmax", M), normalized_layers(SIZES)
    J, g = network.gradients(layers, X, Y)
    real, left = engine.compute.over_columns, {1: 3}

    def call(comm: ThreadComm) -> Any:
        layers_here = [tuple(map(space.asarray, layer)) for layer in layers]
        batch = engine.Batch(
            space.asarray(X[:, mine(comm)]),
            space.asarray(Y[:, mine(comm)]),
            CUTS[2][comm.rank + 1] - CUTS[2][comm.rank],
        )

        def over(of_tile, add, columns, *rest):
            if columns == 71 and left.get(1):
                left[1] -= 1
                if not left[1]:
                    raise MemoryError("full")
            return real(of_tile, add, columns, *rest)

        monkeypatch.setattr(engine.compute, "over_columns", over)
        with engine.Ranks(comm) as ranks:
            return engine.batch_norm_ranks.cost_and_gradients(
                batch, layers_here, network, space.backend, ranks, l2=0.0, l1=0.0
            )

    for J_found, g_found, m, _ in every(2, call):
        assert m == M
        assert abs(J_found - J) < 1e-12
        np.testing.assert_allclose(space.to_numpy(g_found), g.vector, rtol=1e-10, atol=1e-12)
    assert left == {1: 0}
