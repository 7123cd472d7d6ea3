"""Examples in the chunks of dask arrays give what the same examples give in one array, wherever the chunks are."""

import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import columns_of

import nnarray as nn
from nnarray.engine import dask_chunks
from nnarray.network import chunks

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

M = 300
OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
case = partial(columns_of, M)


@pytest.fixture(autouse=True, params=["sync", "threads"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    with dask.config.set(scheduler=request.param):
        yield


def chunked(V: np.ndarray, columns: Any = (7, 130, 0, 60, 103)) -> Any:
    return da.from_array(V, chunks=(*(-1 for _ in V.shape[1:]), columns))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_costs_gradients_predictions_and_scores(output: str, weighted: bool) -> None:
    network, X, Y = case(output)
    params = network.init(0, dtype="float64")
    w = np.random.default_rng(1).random(M) * (np.arange(M) > 7) if weighted else None
    J, g = network.gradients(params, X, Y, l2=0.3, l1=0.2, weights=w)
    x, y = chunked(X), chunked(Y)
    for weights in (w, None if w is None else chunked(w), None if w is None else chunked(w[None])):
        J_found, g_found = network.gradients(params, x, y, l2=0.3, l1=0.2, weights=weights)
        np.testing.assert_allclose(g_found.vector, g.vector, rtol=1e-11, atol=1e-13)
        assert J_found == pytest.approx(float(J), rel=1e-12)
        assert J_found.shape == ()
        assert network.cost(params, x, y, l2=0.3, l1=0.2, weights=weights) == pytest.approx(float(J), rel=1e-12)
    predicted = network.predict(params, x)
    assert isinstance(predicted, da.Array)
    np.testing.assert_allclose(predicted.compute(), network.predict(params, X), rtol=1e-12)
    assert network.score(params, x, y) == pytest.approx(network.score(params, X, Y), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 16, 21])
def test_sums_of_chunks_are_added_neighbours_first(count: int) -> None:
    rng = np.random.default_rng(count)
    sums = [(rng.lognormal(sigma=9, size=50), rng.lognormal(sigma=9), float(rng.integers(9))) for _ in range(count)]
    found = dask_chunks.total([dask.delayed(one) for one in sums]).compute()
    parts = [np.array([*g, losses, m]) for g, losses, m in sums]
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    assert [*found[0], *found[1:]] == parts[0].tolist()


def test_a_thread_keeps_free_gradient_vectors_as_long_as_the_chunk_is_there() -> None:
    """Of a chunk of four tiles, one: with it, a further step allocates its result alone."""
    network, rng = nn.Network((400, 200, 1)), np.random.default_rng(0)
    X = rng.random((2048, 400), dtype="float32").T
    given: Any = X, X[:1].round(), None, range(2048), None
    theta, kept = network.init(0).vector, dask_chunks._of_thread.kept
    found = [chunks._sums(network, theta, None, True, *given)[0]]
    before, spare = found[0].copy(), kept["spare"]
    assert [V.shape for V in spare] == [theta.shape]
    tracemalloc.start()
    found.append(chunks._sums(network, theta, None, True, *given)[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert theta.nbytes <= peak < 1.5 * theta.nbytes
    assert [V.tobytes() for V in found] == [before.tobytes()] * 2
    assert kept["spare"] is spare
    assert not any(V is W for V in found for W in spare)
    other = nn.Network((400, 9, 1))
    chunks._sums(other, other.init(0).vector, None, True, *given)
    assert all(V.shape == (other.size,) for V in kept["spare"])
    assert kept["spare"]
    gone = weakref.ref(kept["spare"][0])
    del X, given
    assert not kept
    assert gone() is None


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("size", [300, 100, 75, 50, 13])
def test_small_chunks_have_a_task_together_and_the_same_bits(size: int, dropout: float, monkeypatch) -> None:
    network, X, Y = case()
    w = np.random.default_rng(1).random(M)
    given, count = (chunked(X, size), chunked(Y, size)), -(-M // size)
    params = network.init(0, dtype="float64")
    tasks, compute = list[int](), chunks.dask_tasks.compute

    def counted(asked: Any) -> Any:
        tasks.append(sum("_sums" in str(key) for task in asked for key in task.__dask_graph__()))
        return compute(asked)

    def found() -> tuple[bytes, ...]:
        tasks.clear()
        J, g = network.gradients(params, *given, weights=w)
        run = nn.train(network, *given, params=params, epochs=2, dropout=dropout, progress=False)
        return J.tobytes(), g.vector.tobytes(), run.params.vector.tobytes()

    monkeypatch.setattr(chunks.dask_tasks, "compute", counted)
    monkeypatch.setattr(chunks, "SMALL", 10**9)
    alone = found()
    assert max(tasks) == count
    monkeypatch.setattr(chunks, "SMALL", 0)
    assert found() == alone
    assert max(tasks) == -(-count // dask_chunks.FOLDED)


def test_the_bad_one_of_small_chunks_is_named() -> None:
    network, X, Y = case()
    X[0, -1] = np.nan
    with pytest.raises(ValueError, match="in the chunk of examples from 200 on: X"):
        network.gradients(network.init(0), chunked(X, 100), chunked(Y, 100))


def test_other_chunkings_and_kinds() -> None:
    network, X, Y = case()
    params = network.init(0)
    J, g = network.gradients(params, X, Y)
    layers = [(W, b) for W, b in params]
    for x, y in (
        (da.from_array(X, chunks=(2, 50)), da.from_array(Y, chunks=(1, 77))),
        (da.from_array(X.T, chunks=(100, 2)).T, Y),
        (chunked(X.astype("float32")), chunked(Y.astype(bool))),
    ):
        for given in (params, layers):
            J_found, g_found = network.gradients(given, x, y)
            assert J_found.dtype == np.float32
            assert J_found == pytest.approx(float(J), rel=1e-5)
            np.testing.assert_allclose(g_found.vector, g.vector, atol=1e-5)


def test_a_cost_of_one_s_own() -> None:
    network, X, Y = case("identity")
    params = network.init(0, dtype="float64")
    huber = nn.Cost(lambda A, Y, *, xp: xp.where(xp.abs(A - Y) < 1, 0.5 * (A - Y) ** 2, xp.abs(A - Y) - 0.5),
                    dZ=lambda A, Y, *, xp: xp.where(xp.abs(A - Y) < 1, A - Y, xp.sign(A - Y)))  # fmt: skip
    J, g = network.gradients(params, X, Y, cost=huber)
    J_found, g_found = network.gradients(params, chunked(X), chunked(Y), cost=huber)
    assert J_found == pytest.approx(float(J), rel=1e-12)
    np.testing.assert_allclose(g_found.vector, g.vector, atol=1e-13)


@pytest.mark.parametrize("output", OUTPUTS)
def test_training_on_the_whole_batch(output: str) -> None:
    network, X, Y = case(output)
    options: dict[str, Any] = {
        "epochs": 30,
        "dtype": "float64",
        "optimizer": nn.Adam(0.01),
        "l2": 0.1,
        "l1": 0.05,
        "patience": 9,
    }
    one = nn.train(network, X, Y, validation=(X[:, :90], Y[:, :90]), **options)
    x, y = chunked(X), chunked(Y)
    for validation in ((x[:, :90], y[:, :90]), (X[:, :90], Y[:, :90])):
        found = nn.train(network, x, y, validation=validation, **options)
        np.testing.assert_allclose(found.params.vector, one.params.vector, rtol=0, atol=1e-9)
        assert (found.stopped, found.best_epoch) == (one.stopped, one.best_epoch)
        for record, expected in zip(found.history, one.history, strict=True):
            assert record.cost == pytest.approx(expected.cost, rel=1e-9)
            assert record.validation_cost == pytest.approx(expected.validation_cost, rel=1e-9)
            assert record.validation_score == pytest.approx(expected.validation_score, rel=1e-9)
            assert record.training_cost is not None


def test_mini_batches_see_every_column_once_and_go_on_to_the_bit() -> None:
    network, X, Y = case()
    x, y = chunked(X), chunked(Y)
    options: dict[str, Any] = {"batch_size": 32, "optimizer": nn.Adam(0.02), "l2": 0.1}
    whole = nn.train(network, x, y, epochs=5, **options)
    first = nn.train(network, x, y, epochs=2, **options)
    rest = nn.train(network, x, y, epochs=3, state=first.state, **options)
    assert whole.params.vector.tobytes() == rest.params.vector.tobytes()
    assert whole.state.t == 5 * sum(-(-columns // 32) for columns in (7, 130, 60, 103))
    assert whole.history[-1].cost < whole.history[0].cost
    still = nn.train(network, x, y, epochs=1, batch_size=32, optimizer=nn.GradientDescent(1e-12), dtype="float64")
    assert still.history[0].cost == pytest.approx(float(network.cost(network.init(0, dtype="float64"), X, Y)), rel=1e-6)


@pytest.mark.parametrize("columns", [(7, 131, 0, 59, 103), (1,) * 3 + (297,), (300,)])
@pytest.mark.parametrize("rates", [(0.3, 0.0), (0.0, 0.4), (0.3, 0.2)])
def test_dropout_is_that_of_one_array(columns: tuple[int, ...], rates: tuple[float, float]) -> None:
    _, X, Y = case("softmax")
    network = nn.Network((5, 7, 3, 3), "tanh", "softmax")
    options: dict[str, Any] = {"dtype": "float64", "optimizer": nn.Adam(0.02), "seed": 3}
    options |= {"dropout": (rates[0], rates[0] / 2), "input_dropout": rates[1]}
    one = nn.train(network, X, Y, epochs=9, patience=50, **options)
    x, y = chunked(X, columns), chunked(Y, columns)
    found = nn.train(network, x, y, epochs=9, patience=50, **options)
    np.testing.assert_allclose(found.params.vector, one.params.vector, rtol=0, atol=1e-9)
    assert [e.cost for e in found.history] == pytest.approx([e.cost for e in one.history], rel=1e-9)
    assert found.state.position.masks == one.state.position.masks
    assert abs(one.params.vector - nn.train(network, X, Y, epochs=9, dtype="float64").params.vector).max() > 1e-3


@pytest.mark.parametrize("batch_size", [None, 32])
def test_dropout_goes_on_to_the_bit(batch_size: int | None) -> None:
    network, X, Y = case()
    x, y = chunked(X), chunked(Y)
    options: dict[str, Any] = {"batch_size": batch_size, "optimizer": nn.Adam(0.02), "dropout": 0.3}
    options |= {"input_dropout": 0.1}
    whole = nn.train(network, x, y, epochs=5, **options)
    first = nn.train(network, x, y, epochs=2, **options)
    rest = nn.train(network, x, y, epochs=3, state=first.state, **options)
    assert whole.params.vector.tobytes() == rest.params.vector.tobytes()
    assert (
        whole.params.vector.tobytes()
        != nn.train(network, x, y, epochs=5, **options | {"dropout": 0.2}).params.vector.tobytes()
    )


def test_mini_batches_compute_each_chunk_once_an_epoch() -> None:
    network, X, Y = case()
    seen = []

    def counted(block: np.ndarray) -> np.ndarray:
        seen.append(block.shape[1])
        return block

    x = chunked(X).map_blocks(counted, dtype=X.dtype, meta=X[:, :0])
    result = nn.train(network, x, chunked(Y), epochs=3, batch_size=16)
    assert sorted(seen) == sorted([7, 130, 60, 103] * 3)
    assert result.state.t == 3 * sum(-(-columns // 16) for columns in (7, 130, 60, 103))


class BrokenOffError(Exception):
    pass


@pytest.mark.parametrize("batch_size", [None, 32])
def test_checkpoints_go_on_to_the_bit(batch_size: int | None, tmp_path: Path) -> None:
    network, X, Y = case()
    w, path = np.random.default_rng(1).random(M), tmp_path / "run.safetensors"
    options: dict[str, Any] = {"batch_size": batch_size, "optimizer": nn.Adam(0.02), "dropout": 0.2, "weights": w}
    calls = 0

    def breaks(block: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise BrokenOffError
        return block

    x, y = chunked(X), chunked(Y)
    whole = nn.train(network, x, y, epochs=9, **options)
    keeping: dict[str, Any] = {"checkpoint": path, "checkpoint_every": 1e-9}
    with pytest.raises(BrokenOffError):
        nn.train(network, x.map_blocks(breaks, dtype=x.dtype), y, epochs=9, **options, **keeping)
    for other in (options | {"weights": None}, options | {"l2": 1.0}):
        with pytest.raises(ValueError, match="of another run"):
            nn.train(network, x, y, epochs=9, resume=path, **other)
    with pytest.raises(ValueError, match="X"):
        nn.train(network, chunked(X, (150, 150)), y, epochs=9, resume=path, **options)
    for other_x, other_y in ((x + 1, y), (x, 1 - y), (x * chunked(1.0 + (np.arange(M)[None] > 200)), y)):
        with pytest.raises(ValueError, match="hold other numbers"):
            nn.train(network, other_x, other_y, epochs=9, resume=path, **options)
    rest = nn.train(network, x, y, epochs=9, resume=path, **options)
    assert rest.params.vector.tobytes() == whole.params.vector.tobytes()
    assert [e.cost for e in rest.history] == [e.cost for e in whole.history]


def test_dropout_in_mini_batches_of_a_chunk_is_that_of_one_array() -> None:
    """One update per chunk, in the chunks' drawn order and with the drawn columns, given as a stream."""
    network, X, Y = case()
    columns = (50, 113, 137)
    options: dict[str, Any] = {"dtype": "float64", "dropout": 0.3, "input_dropout": 0.2, "seed": 5}
    found = nn.train(network, chunked(X, columns), chunked(Y, columns), batch_size=137, epochs=1, **options)
    draws = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1,)))
    firsts, order = np.cumsum([0, *columns]), draws.permutation(3)
    taken = [firsts[i] + draws.permutation(columns[i]) for i in order]
    one = nn.train(network, [(X[:, some], Y[:, some]) for some in taken], epochs=1, **options)
    np.testing.assert_allclose(found.params.vector, one.params.vector, rtol=0, atol=1e-12)


def longer(V: Any) -> Any:
    """Its chunks have a column more than they say."""
    return V.map_blocks(lambda V: np.concatenate([V, V[:, :1]], axis=1), dtype=V.dtype)


BAD: dict[str, tuple[Any, str]] = {
    "rows": (
        lambda net, p, x, y: net.gradients(p, x[:4], y),
        r"X must have shape \(n_x, m\) = \(5, m\).*\(4, 300\)",
    ),
    "turned": (lambda net, p, x, y: net.predict(p, x.T), r"X must have shape.*is it X\.T\?"),
    "columns": (lambda net, p, x, y: net.cost(p, x, y[:, :9]), r"Y must have shape \(n\[L\], m\) = \(1, 300\)"),
    "unknown": (lambda net, p, x, y: net.gradients(p, x[:, x[0] > 0], y), r"unknown size.*X\.compute_chunk_sizes\(\)"),
    "NaN": (
        lambda net, p, x, y: net.gradients(p, da.where(x > 2.7, np.nan, x), y),
        r"in the chunk of examples from \d+ on: X must be finite in float64, got nan",
    ),
    "NaN to predict": (
        lambda net, p, x, y: net.predict(p, x * np.inf).compute(),
        r"examples from \d+ on: X must",
    ),
    "targets": (lambda net, p, x, y: net.gradients(p, x, y + 1), r"examples from \d+ on: Y must be in \[0, 1\]"),
    "weights": (lambda net, p, x, y: net.gradients(p, x, y, weights=-np.ones(M)), "weights must be ≥ 0"),
    "weights for float64": (
        lambda net, p, x, y: net.gradients(net.init(), x, y, weights=np.full(M, 1e60)),
        r"in the chunk of examples from \d+ on: weights must be finite",
    ),
    "one axis": (lambda net, p, x, y: net.gradients(p, x, y[0]), r"Y must have shape .*got \(300,\)"),
    "one axis of the host": (lambda net, p, x, y: net.cost(p, x, np.ones(M)), r"Y must have shape .*got \(300,\)"),
    "no columns": (lambda net, p, x, y: net.predict(p, x[:, :0]), r"X must have shape .*got \(5, 0\)"),
    "another m": (
        lambda net, p, x, y: net.predict(p, x.map_blocks(lambda V: V[:, :1], dtype=x.dtype)).compute(),
        "in the chunk of examples from .*X says that it has",
    ),
    **{
        f"another m of X and Y {name}": (
            call,
            r"in the chunk of examples from \d+ on: X says that .*compute_chunk_sizes",
        )
        for name, call in {
            "to the gradient": lambda net, p, x, y: net.gradients(p, longer(x), longer(y)),
            "to the score": lambda net, p, x, y: net.score(p, longer(x), longer(y)),
            "with weights": lambda net, p, x, y: net.cost(p, longer(x), longer(y), weights=np.ones(M)),
            "in batches": lambda net, p, x, y: nn.train(net, longer(x), longer(y), epochs=1, batch_size=9),
            "with batch normalisation": lambda net, p, x, y: nn.train(
                nn.Network((5, 6, 1), batch_norm=True), longer(x), longer(y), epochs=1
            ),
        }.items()
    },
    "few weights": (lambda net, p, x, y: net.cost(p, x, y, weights=[1.0]), r"weights must have shape \(1, m\)"),
    "no weight": (lambda net, p, x, y: net.gradients(p, x, y, weights=da.zeros(M)), "weights must be ≥ 0 with a posi"),
    "no weight to train": (
        lambda net, p, x, y: nn.train(net, x, y, epochs=1, batch_size=9, weights=np.zeros(M)),
        "weights must be ≥ 0 with a positive sum",
    ),
    "weights too large": (lambda net, p, x, y: net.cost(p, x, y, weights=np.full(M, 1e307)), "a sum of inf"),
    "weights too small": (lambda net, p, x, y: net.cost(p, x, y, weights=np.full(M, 1e-320)), "with a positive sum"),
    "l2": (lambda net, p, x, y: net.gradients(p, x, y, l2=-1), "l2 must be"),
}


KINDS: dict[str, tuple[Any, str]] = {
    "complex X": (lambda net, p, x, y: net.cost(p, x * 1j, y), "examples from .* on: X must hold real numbers"),
    "object Y": (lambda net, p, x, y: net.gradients(p, x, y.astype(object)), "on: Y must hold real numbers"),
    "text to predict": (lambda net, p, x, y: net.predict(p, x.astype(str)).compute(), "on: X must hold real numbers"),
    "text weights": (lambda net, p, x, y: net.cost(p, x, y, weights=np.array(["a"] * M)), "weights must hold real"),
    "validation": (
        lambda net, p, x, y: nn.train(net, np.ones((5, 9)), np.ones((1, 9)), epochs=1, validation=(x, y)),
        "X of validation must not be a dask array",
    ),
    "only Y": (lambda net, p, x, y: nn.train(net, np.ones((5, M)), y, epochs=1), "Y must not be a dask array"),
}


@pytest.mark.parametrize("name", KINDS)
def test_wrong_kinds(name: str) -> None:
    network, X, Y = case()
    call, message = KINDS[name]
    with pytest.raises(TypeError, match=message):
        call(network, network.init(0, dtype="float64"), chunked(X), chunked(Y))


def test_chunks_in_a_stream_are_refused() -> None:
    network, X, Y = case()
    x, y = chunked(X), chunked(Y)
    with pytest.raises(TypeError, match="batch 1: X must lie in memory"):
        nn.train(network, lambda: [(x, y)], epochs=1)


@pytest.mark.parametrize("batch_size", [None, 50])
def test_columns_that_weigh_nothing_are_as_good_as_absent(batch_size: int | None) -> None:
    """A whole chunk of them, too; the examples that an epoch compares with those of validation weigh alike."""
    network, X, Y = case()
    X, Y = np.tile(X[:, :50], 6), np.tile(Y[:, :50], 6)
    w = np.repeat([0.0, 2.0, 0.0, 0.0, 3.0, 1.0], 50)
    kept, options = w > 0, {"epochs": 4, "dtype": "float64", "batch_size": batch_size}
    x, y = chunked(X, (50,) * 6), chunked(Y, (50,) * 6)
    result = nn.train(network, x, y, weights=w, validation=(X, Y), **options)
    assert [epoch.training_cost for epoch in result.history] == pytest.approx(
        [epoch.validation_cost for epoch in result.history], rel=1e-12
    )
    if batch_size is None:
        expected = nn.train(network, X[:, kept], Y[:, kept], weights=w[kept], **options)
        np.testing.assert_allclose(result.params.vector, expected.params.vector, rtol=1e-9)
    assert result.state.t == (4 if batch_size is None else 12)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    network, X, Y = case()
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(network, network.init(0, dtype="float64"), chunked(X), chunked(Y))


@pytest.mark.parametrize("space", ["numpy", "cupy"], indirect=True)
def test_a_nan_in_whichever_batch_of_a_chunk_is_told(space) -> None:
    network, X, Y = case()
    X[2, 17] = np.nan
    x = da.from_array(space.asarray(X, "float32"), chunks=(5, M), asarray=False, name=False)
    for seed in range(4):  # the batches that come before it differ
        with pytest.raises(ValueError, match=r"X must be finite in float32, got nan at \[2, 17\]"):
            nn.train(network, x, Y, epochs=2, batch_size=50, seed=seed)


def test_targets_of_the_host_leave_the_settings_of_distributed_as_they_are() -> None:
    """In a process of its own, where `distributed` is imported by the call."""
    code = (
        "import sys, numpy as np, dask, dask.array as da, nnarray as nn; assert 'distributed' not in sys.modules\n"
        "network = nn.Network((2, 1)); x = da.ones((2, 8), chunks=(2, 4))\n"
        "network.cost(network.init(), x, np.ones((1, 8)))\n"
        "import distributed; assert dask.config.get('distributed.comm.timeouts.connect')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
