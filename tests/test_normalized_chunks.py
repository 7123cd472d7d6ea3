"""Batch normalisation over the chunks of dask arrays: what the same examples give in one array."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray.engine import batch_norm_chunks

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

M, CHUNKS = 300, (7, 130, 0, 1, 59, 103)
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")


@pytest.fixture(autouse=True, params=["sync", "threads"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    with dask.config.set(scheduler=request.param):
        yield


def case(output: str = "softmax", hidden: tuple[int, ...] = (7, 6)) -> tuple[nn.Network, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(5, M)), rng.random((3, M)).round()
    if output == "softmax":
        Y = nn.one_hot(rng.integers(0, 3, M), 3)
    return nn.Network((5, *hidden, 3), "tanh", output, batch_norm=True), X, Y


def chunked(V: np.ndarray, columns: Any = CHUNKS) -> Any:
    return da.from_array(V, chunks=(-1, columns))


@pytest.mark.parametrize("width", [None, 48])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("output", "hidden"), [*((output, (7, 6)) for output in OUTPUTS), ("softmax", ())])
def test_costs_and_gradients(output: str, hidden: Any, weighted: bool, width: int | None, monkeypatch) -> None:
    network, X, Y = case(output, hidden)
    params = network.init(0, dtype="float64")
    w = np.random.default_rng(1).random(M) * (np.arange(M) > 7) if weighted else None
    options: dict[str, Any] = {"l2": 0.3, "l1": 0.2, "weights": w}
    J, g = network.gradients(params, X, Y, **options)
    if width is not None:
        monkeypatch.setattr(batch_norm_chunks, "tile_width", lambda *_: width)
    for columns in (CHUNKS, (300,), 37):
        x, y = chunked(X, columns), chunked(Y, columns)
        J_found, found = network.gradients(params, x, y, **options)
        assert isinstance(found, nn.NormalizedParameters)
        np.testing.assert_allclose(found.vector, g.vector, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.statistics, g.statistics, rtol=1e-12, atol=1e-14)
        assert J_found == pytest.approx(float(J), rel=1e-12)
        assert network.cost(params, x, y, **options) == pytest.approx(float(J), rel=1e-12)
    assert network.score(params, x, y) == pytest.approx(network.score(params, X, Y), rel=1e-12)
    np.testing.assert_allclose(network.predict(params, x).compute(), network.predict(params, X), rtol=1e-12)


@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.3, 0.2)])
def test_training_on_the_whole_batch(rates: tuple[float, float]) -> None:
    network, X, Y = case()
    options: dict[str, Any] = {"dtype": "float64", "epochs": 9, "patience": 50, "l2": 0.1, "average": 0.8}
    options |= {"dropout": rates[0], "input_dropout": rates[1]}
    x, y = chunked(X), chunked(Y)
    one = nn.train(network, X, Y, validation=(X, Y), **options)
    found = nn.train(network, x, y, validation=(x, y), **options)
    np.testing.assert_allclose(found.params.vector, one.params.vector, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.params.statistics, one.params.statistics, rtol=0, atol=1e-9)
    for name in ("cost", "validation_cost", "validation_score"):
        assert [getattr(e, name) for e in found.history] == pytest.approx(
            [getattr(e, name) for e in one.history], rel=1e-9
        )


def test_a_cost_of_one_s_own_and_a_patient_run() -> None:
    network, X, Y = case("identity")
    huber = nn.Cost(
        lambda Z, Y, xp: xp.sqrt(1.0 + (Z - Y) ** 2) - 1.0, lambda Z, Y, xp: (Z - Y) / xp.sqrt(1.0 + (Z - Y) ** 2)
    )
    options: dict[str, Any] = {"dtype": "float64", "epochs": 5, "patience": 3, "cost": huber}
    one, found = nn.train(network, X, Y, **options), nn.train(network, chunked(X), chunked(Y), **options)
    np.testing.assert_allclose(found.params.vector, one.params.vector, rtol=0, atol=1e-10)


def test_mini_batches_of_a_chunk_are_those_of_one_array() -> None:
    """One update per chunk, in the chunks' drawn order and with the drawn columns, given as a stream."""
    network, X, Y = case()
    columns, weights = (50, 113, 137), np.random.default_rng(1).random(M)
    options: dict[str, Any] = {"dtype": "float64", "dropout": 0.3, "seed": 5, "epochs": 1}
    found = nn.train(network, chunked(X, columns), chunked(Y, columns), weights=weights, batch_size=137, **options)
    draws = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1,)))
    firsts, order = np.cumsum([0, *columns]), draws.permutation(3)
    taken = [firsts[i] + draws.permutation(columns[i]) for i in order]
    one = nn.train(network, [(X[:, some], Y[:, some], weights[some]) for some in taken], **options)
    np.testing.assert_allclose(found.params.vector, one.params.vector, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.params.statistics, one.params.statistics, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 25])
def test_runs_go_on_to_the_bit(batch_size: int | None, tmp_path: Path) -> None:
    network, X, Y = case()
    x, y = chunked(X, (100, 200)), chunked(Y, (100, 200))
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "dropout": 0.2,
        "weights": np.arange(M) % 3 + (np.arange(M) > 99),
    }
    whole = nn.train(network, x, y, epochs=5, **options)
    first = nn.train(network, x, y, epochs=2, checkpoint=tmp_path / "run", **options)
    for given in ({"state": first.state, "epochs": 3}, {"resume": tmp_path / "run", "epochs": 5}):
        rest = nn.train(network, x, y, **options, **given)
        assert rest.params.vector.tobytes() == whole.params.vector.tobytes()
        assert rest.params.statistics.tobytes() == whole.params.statistics.tobytes()


def test_a_batch_that_weighs_nothing_makes_no_update() -> None:
    network, X, Y = case()
    x, y, weights = chunked(X, (100, 200)), chunked(Y, (100, 200)), (np.arange(M) > 99).astype(float)
    found = nn.train(network, x, y, weights=weights, epochs=1, batch_size=50)
    assert found.state.t == 4


BAD: dict[str, tuple[Any, str]] = {
    "one example": (lambda net, p, x, y: net.gradients(p, x[:, :1], y[:, :1]), "at least 2 examples"),
    "one example's cost": (lambda net, p, x, y: net.cost(p, x[:, :1], y[:, :1]), "at least 2 examples"),
    "one example to train": (lambda net, p, x, y: nn.train(net, x[:, :1], y[:, :1], epochs=1), "at least 2 examples"),
    "one in a batch": (
        lambda net, p, x, y: nn.train(net, x, y, epochs=1, batch_size=43),
        "of the chunk of 130 examples from 7 on, in batches of 43, one has a single one",
    ),
    "batches of one": (lambda net, p, x, y: nn.train(net, x, y, epochs=1, batch_size=1), "of a single example"),
    "NaN": (
        lambda net, p, x, y: net.gradients(p, da.where(x > 2.7, np.nan, x), y),
        r"in the chunk of examples from \d+ on: X must be finite in float64, got nan",
    ),
    "infinity": (
        lambda net, p, x, y: nn.train(net, da.where(x > 2.7, np.inf, x), y, epochs=1),
        r"in the chunk of examples from \d+ on: X must be finite in float32, got inf",
    ),
    "targets": (lambda net, p, x, y: net.cost(p, x, 2 * y), r"examples from \d+ on: Y must be in \[0, 1\]"),
    "no weight": (lambda net, p, x, y: net.gradients(p, x, y, weights=np.zeros(M)), "weights must be ≥ 0 with a posi"),
    "dask params": (
        lambda net, p, x, y: net.gradients([tuple(map(da.asarray, layer)) for layer in p], x, y),
        "params must be NormalizedParameters or arrays of the host beside a dask X",
    ),
    "ranks": (lambda net, p, x, y: net.gradients(net.init(), x, y, comm=Alone()), "dask knows its workers"),
}


class Alone:
    """A communicator of one rank."""

    rank, size = 0, 1

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        pass

    def allgather(self, sendobj: Any) -> list[Any]:
        return [sendobj]


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    network, X, Y = case()
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(network, network.init(0, dtype="float64"), chunked(X), chunked(Y))


def test_no_hidden_layer_and_a_nan() -> None:
    network, X, Y = case(hidden=())
    X[2, 200] = np.nan
    with pytest.raises(ValueError, match="in the chunk of examples from 197 on: X must be finite"):
        network.gradients(network.init(), chunked(X), chunked(Y))


@pytest.mark.parametrize("space", ["numpy", "cupy"], indirect=True)
def test_chunks_on_a_device(space: Any) -> None:
    """Y lies on the host, and the parameters."""
    network, X, Y = case()
    params = network.init(0, dtype="float64")
    J, g = network.gradients(params, X, Y)
    x = da.concatenate(
        [
            da.from_array(space.asarray(part, "float64"), chunks=-1, asarray=False, name=False)
            for part in np.split(X, [100, 170], axis=1)
        ],
        axis=1,
    )
    J_found, found = network.gradients(params, x, Y)
    np.testing.assert_allclose(found.vector, g.vector, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.statistics, g.statistics, rtol=0, atol=1e-12)
    assert J_found == pytest.approx(float(J), rel=1e-12)
    assert network.cost(params, x, Y) == pytest.approx(float(J), rel=1e-12)
    of_batches = nn.train(network, x, Y, epochs=1, batch_size=50, params=params)
    assert np.isfinite(of_batches.params.statistics).all()
