"""Training on dask's workers, some of which are killed, freeze or go for good."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray.engine import dask_chunks, dask_tasks
from nnarray.network import chunks, normalized_chunks

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")  # which distributed needs

M = 300
QUIET = {"dashboard_address": ":0", "silence_logs": 50}
SETTINGS = {
    "scheduler": None,
    "distributed.scheduler.allowed-failures": 50,
    "distributed.worker.multiprocessing.spawn-method": "spawn",
    "distributed.comm.timeouts.connect": "5s",
    "distributed.deploy.lost-worker-timeout": "120s",  # else a worker killed twice within 15 s is given up for good
}


def case(*, batch_norm: bool = False) -> tuple[nn.Network, Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, M))
    columns = (7, 130, 0, 60, 103)
    x, y = (da.from_array(V, chunks=(-1, columns)) for V in (X, (X[:1] + X[1:2] ** 2 > 1).astype("float64")))
    return nn.Network((5, 6, 1), "tanh", batch_norm=batch_norm), x, y


OPTIONS: dict[str, Any] = {"optimizer": nn.Adam(0.02), "l2": 0.1, "dropout": 0.2}
RUNS: dict[str, dict[str, Any]] = {"whole": {"epochs": 12}, "batches": {"epochs": 4, "batch_size": 64}}

KILLED: dict[str, dict[str, Any]] = {"whole": {"epochs": 12}, "batches": {"epochs": 4, "batch_size": 64}}
if os.environ.get("NNARRAY_WORKERS") == "all":
    KILLED = {name: run | {"epochs": 60} for name, run in KILLED.items()}
KILLED["normalized"] = KILLED["whole"]
"""Runs in which a worker is killed after every third epoch: 4 times and 2, or each 20 times."""


def bits(result: Any) -> bytes:
    vector: np.ndarray = result.params.vector
    return vector.tobytes()


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    network, x, y = case()
    with dask.config.set(scheduler="sync"):
        return {name: bits(nn.train(network, x, y, **OPTIONS, **run)) for name, run in RUNS.items()}


@contextmanager
def in_processes(**settings: Any) -> Iterator[Any]:
    with (
        dask.config.set(SETTINGS | settings),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with in_processes() as client:
        yield client


@contextmanager
def in_threads(workers: int) -> Iterator[Any]:
    """A cluster in this process."""
    with (
        dask.config.set(scheduler=None),
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, processes=False, **QUIET) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_bits_for_any_number_of_workers(workers: int, run: str, expected: dict[str, bytes]) -> None:
    network, x, y = case()
    with in_threads(workers):
        assert bits(nn.train(network, x.persist(), y.persist(), **OPTIONS, **RUNS[run])) == expected[run]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_same_bits_with_batch_normalisation(workers: int, run: str) -> None:
    """The averages, too; a chunk that another worker holds is no other chunk."""
    network, x, y = case(batch_norm=True)
    with dask.config.set(scheduler="sync"):
        expected = nn.train(network, x, y, **OPTIONS, **RUNS[run]).params
    with in_threads(workers) as cluster:
        with dask.annotate(workers=[next(iter(cluster.workers.values())).address]):
            x, y = x.persist(), y.persist()
        found = nn.train(network, x, y, **OPTIONS, **RUNS[run]).params
    assert found.vector.tobytes() == expected.vector.tobytes()
    assert found.statistics.tobytes() == expected.statistics.tobytes()


@pytest.mark.parametrize("run", RUNS)
def test_the_same_bits_where_workers_are_given_theta_first(run: str, expected: dict[str, bytes], monkeypatch) -> None:
    network, x, y = case()
    held, real = list[bool](), dask_tasks._given

    def given(*call: Any) -> Any:
        found = real(*call)
        held.append(found is not None)
        return found

    monkeypatch.setattr(dask_tasks, "LARGE", 0)
    monkeypatch.setattr(dask_tasks, "_given", given)
    with in_threads(2):
        assert bits(nn.train(network, x.persist(), y.persist(), **OPTIONS, **RUNS[run])) == expected[run]
    assert held == [True] * {"whole": 12, "batches": 4 * 7}[run]


def test_theta_that_is_lost_with_its_worker_is_sent_again(client: Any, monkeypatch) -> None:
    network, x, y = case()
    params, lost, real = network.init(0, dtype="float64"), list[str](), dask_tasks._given
    with dask.config.set(scheduler="sync"):
        expected = network.gradients(params, x, y)[1].vector, network.score(params, x, y)

    def given(client: Any, V: np.ndarray) -> Any:
        held = real(client, V)
        (holders,) = client.who_has(distributed.futures_of(held)).values()
        pids = client.run(os.getpid)
        lost.extend(holders)
        os.kill(pids[holders[0]], signal.SIGKILL)
        return held

    client.wait_for_workers(2, timeout=60)
    monkeypatch.setattr(dask_tasks, "LARGE", 0)
    monkeypatch.setattr(dask_tasks, "_given", given)
    assert network.gradients(params, x, y)[1].vector.tobytes() == expected[0].tobytes()
    client.wait_for_workers(2, timeout=60)
    assert network.score(params, x, y) == expected[1]
    assert len(lost) == 2


def test_large_networks_and_targets_of_the_host_are_sent_without_a_warning(client: Any) -> None:
    """dask warns of graphs of 10 MB and more."""
    network, rng = nn.Network((3000, 1000, 60)), np.random.default_rng(0)
    params, x = network.init(), da.random.random((3000, 40_000), chunks=(-1, 20_000)).astype("float32")[:, ::200]
    Y = rng.random((60, 200)).round().astype("float32")
    client.wait_for_workers(1, timeout=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.cost(params, x, Y)
        network.score(params, x, Y)
        nn.train(network, x, Y, params=params, epochs=1, batch_size=64)
        nn.Network((1, 400))
        thin = da.zeros((1, 10_000), chunks=(-1, 5000))
        nn.Network((1, 400)).cost(nn.Network((1, 400)).init(), thin, np.zeros((400, 10_000), "float32"))


@pytest.mark.parametrize(
    ("holders", "threads", "expected"),
    [
        ("aaaaaabb", {"a": 1, "b": 1}, "aaaabbbb"),
        ("abababab", {"a": 1, "b": 1}, "abababab"),
        ("aaaaa", {"a": 1, "b": 1}, "aaabb"),
        ("aaaaaa", {"a": 2, "b": 1}, "aaaabb"),
        (["ab", "a", "a"], {"a": 1, "b": 1}, "baa"),
        (["a", "", "a"], {"a": 1, "b": 1}, ""),
        (["a", "a", "ab", "ba"], {"a": 1, "b": 1}, "aabb"),
        ("cc", {"a": 1, "b": 1}, "ab"),
        ("aa", {}, ""),
    ],
)
def test_no_worker_has_more_than_its_share(holders: Any, threads: dict[str, int], expected: str) -> None:
    assert dask_tasks._shared_out(holders, range(len(holders)), threads) == dict(enumerate(expected))


def test_chunks_that_one_worker_holds_are_computed_by_all(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    network, wide = nn.Network((64, 5, 1)), rng.random((64, 40_000))
    x, y = (da.from_array(V, chunks=(-1, 10_000)) for V in (wide, wide[:1].round()))
    params = network.init(0, dtype="float64")
    with dask.config.set(scheduler="sync"):
        expected = network.gradients(params, x, y)[1].vector
    began, real = list[list[str]](), chunks._sums

    @wraps(real)
    def sums(*given: Any) -> Any:
        began[-1].append(distributed.get_worker().address)
        return real(*given)

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}), in_threads(2) as cluster:
        one = next(iter(cluster.workers.values())).address
        with dask.annotate(workers=[one]):
            x, y = (dask.persist(V)[0] for V in (x, y))
        distributed.wait([x, y])
        monkeypatch.setattr(chunks, "_sums", sums)
        for _ in range(5):
            began.append([])
            np.testing.assert_array_equal(network.gradients(params, x, y)[1].vector, expected)
    assert [sorted(map(workers.count, set(workers))) for workers in began] == [[2, 2]] * 5


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("restricts", [{"workers": ["able"]}, {"resources": {"GPU": 1}}], ids=str)
def test_workers_that_the_caller_chose_compute(restricts: Any, batch_norm: bool, monkeypatch) -> None:
    """And not those that hold the chunks, which may be unable to."""
    network, x, y = case(batch_norm=batch_norm)
    params, names = network.init(0, dtype="float64"), list[str]()
    real = chunks.entered_there

    def entered_there(*given: Any) -> Any:
        names.append(distributed.get_worker().name)
        return real(*given)

    with dask.config.set(scheduler="sync"):
        expected = network.gradients(params, x, y)[1].vector, network.score(params, x, y)
    monkeypatch.setattr(dask_chunks, "WORTH_SENDING", 0)
    monkeypatch.setattr(chunks, "entered_there", entered_there)
    monkeypatch.setattr(normalized_chunks, "entered_there", entered_there)
    kinds = {"holder": {}, "able": {"resources": {"GPU": 1}}}
    spec = {name: {"cls": distributed.Worker, "options": {"nthreads": 1, **more}} for name, more in kinds.items()}
    scheduler = {"cls": distributed.Scheduler, "options": {"protocol": "inproc", "dashboard_address": ":0"}}
    with (
        dask.config.set({"scheduler": None, dask_tasks.TIMEOUT: "20s"}),
        distributed.SpecCluster(spec, scheduler, silence_logs=50) as cluster,
        distributed.Client(cluster),
    ):
        with dask.annotate(workers=["holder"]):
            x, y = x.persist(), y.persist()
        distributed.wait([x, y])
        with dask.annotate(**restricts):
            found = network.gradients(params, x, y)[1].vector, network.score(params, x, y)
    assert set(names) == {"able"}
    assert found[0].tobytes() == expected[0].tobytes()
    assert found[1] == expected[1]


TRIED = set[tuple[str, int]]()


def fails_once(block: np.ndarray, run: str, block_info: Any) -> np.ndarray:
    place = run, block_info[0]["chunk-location"][1]
    if place not in TRIED:
        TRIED.add(place)
        raise OSError(place)
    return block


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("call", ["train", "gradients", "cost", "score"])
def test_chunks_are_tried_as_often_as_their_annotations_say(call: str, batch_norm: bool) -> None:
    network, x, y = case(batch_norm=batch_norm)
    params, run = network.init(0, dtype="float64"), f"{call}, {batch_norm}"
    with in_threads(1):
        with dask.annotate(retries=1):
            x = x.map_blocks(fails_once, run, dtype=x.dtype)
        if call == "train":
            nn.train(network, x, y, **OPTIONS, epochs=1)
        else:
            getattr(network, call)(params, x, y)
    assert {(run, place) for place in (0, 1, 3, 4)} <= TRIED


def test_what_workers_hold_is_there_as_long_as_it_is_needed() -> None:
    """Targets of the host go to the workers once, and predictions may outlive the array that they are of."""
    network, x, y = case()
    params, Y = network.init(0, dtype="float64"), y.compute(scheduler="sync")
    weights = np.random.default_rng(1).random(M)
    with dask.config.set(scheduler="sync"):
        J, predicted = network.cost(params, x, y, weights=weights), network.predict(params, x).compute()
    with in_threads(1):
        for _ in range(6):
            assert network.cost(params, x.persist(), Y, weights=weights) == J
        held = x.persist()
        lazily = network.predict(params, held)
        del held
        gc.collect()
        time.sleep(0.3)
        assert lazily.compute().tobytes() == predicted.tobytes()


@pytest.mark.parametrize("run", [*RUNS, "normalized"])
def test_the_same_bits_after_workers_were_killed_at_any_moment(run: str, client: Any) -> None:
    network, x, y = case(batch_norm=run == "normalized")
    with dask.config.set(scheduler="sync"):
        expected = bits(nn.train(network, x, y, **OPTIONS, **KILLED[run]))
    draws, killed = random.Random(run), list[int]()

    def grown() -> list[int]:
        """Workers that have started for good: a nanny gives up on one that dies before."""
        pids: list[int] = sorted(client.run(os.getpid, on_error="ignore").values())
        return [pid for pid in pids if pid not in killed and time.time() - psutil.Process(pid).create_time() > 3]

    def kill(record: nn.Epoch) -> None:
        if record.epoch % 3 != 1:
            return
        deadline = time.monotonic() + 20
        while not (pids := grown()) and time.monotonic() < deadline:
            time.sleep(0.1)
        killed.append(draws.choice(pids))
        threading.Timer(draws.uniform(0, 0.2), os.kill, (killed[-1], signal.SIGKILL)).start()

    found = nn.train(network, x.persist(), y.persist(), callback=kill, **OPTIONS, **KILLED[run])
    assert bits(found) == expected
    assert len(killed) == -(-len(found.history) // 3)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Any]:
    """Examples as rows, in files of 60 MB each."""
    rows, n_x, paths = 60_000, 256, [tmp_path / f"{i}.npy" for i in range(12)]
    for i, path in enumerate(paths):
        np.save(path, np.random.default_rng(i).random((rows, n_x), dtype="float32"))
    tables = [dask.delayed(np.load)(path, mmap_mode="r") for path in paths]
    yield da.concatenate([da.from_delayed(table, (rows, n_x), "float32") for table in tables])
    for path in paths:
        path.unlink()


def test_data_larger_than_the_worker_s_memory(large: Any) -> None:
    x, limit = large.T, 600 * 2**20
    y = (x[:1] > 0.5).astype("float32")
    assert x.nbytes > 1.15 * limit
    network = nn.Network((x.shape[0], 8, 1))
    options: dict[str, Any] = {"epochs": 1, "batch_size": 20_000}
    with dask.config.set(scheduler="sync"):
        J, g = network.gradients(network.init(0), x, y)
        expected = nn.train(network, x, y, **options)
    settings = SETTINGS | {"distributed.scheduler.allowed-failures": 0}  # a worker that takes more is killed
    with (
        dask.config.set(settings),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=limit, **QUIET) as cluster,
        distributed.Client(cluster),
    ):
        J_found, g_found = network.gradients(network.init(0), x, y)
        found = nn.train(network, x, y, **options)
    assert float(J_found) == float(J)
    assert g_found.vector.tobytes() == g.vector.tobytes()
    assert bits(found) == bits(expected)


def test_a_frozen_worker_is_given_up(expected: dict[str, bytes]) -> None:
    network, x, y = case()
    frozen = []

    def freeze(record: nn.Epoch) -> None:
        if record.epoch == 3:
            frozen.append(next(iter(client.run(os.getpid).values())))
            os.kill(frozen[0], signal.SIGSTOP)

    with in_processes(**{"distributed.scheduler.worker-ttl": "5s"}) as client:
        try:
            began = time.monotonic()
            found = nn.train(network, x.persist(), y.persist(), callback=freeze, **OPTIONS, **RUNS["whole"])
            assert time.monotonic() - began < 40
        finally:
            for pid in frozen:
                with suppress(ProcessLookupError):  # its nanny did
                    os.kill(pid, signal.SIGKILL)
    assert bits(found) == expected["whole"]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[int]:
    """The process of a scheduler that a client and a worker know."""
    file = str(tmp_path / "scheduler.json")
    words = {
        "scheduler": ("--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
        "worker": ("--nthreads", "1", "--no-nanny", "--no-dashboard"),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{name}", *own, "--scheduler-file", file],
            stderr=subprocess.DEVNULL,
        )
        for name, own in words.items()
    ]
    try:
        with dask.config.set(SETTINGS), distributed.Client(scheduler_file=file, timeout="60s") as client:
            client.wait_for_workers(1, timeout=60)
            yield processes[0].pid
            for process in processes:  # before the client says goodbye
                process.kill()
    finally:
        for process in processes:
            process.kill()
            process.wait(20)


@pytest.mark.parametrize("run", RUNS)
def test_a_frozen_scheduler_is_given_up(run: str, scheduler: int, tmp_path: Path, expected: dict[str, bytes]) -> None:
    network, x, y = case()
    frozen = 5 if run == "whole" else 1

    def freeze(record: nn.Epoch) -> None:
        if record.epoch == frozen:
            os.kill(scheduler, signal.SIGSTOP)

    options = OPTIONS | RUNS[run]
    network.gradients(network.init(0), x, y)  # once its imports are made, the worker is quick
    with dask.config.set({"nnarray.no-workers-timeout": "6s"}):
        began = time.monotonic()
        with pytest.raises(nn.WorkersLostError, match=r"scheduler did not answer for 6 s.*no-workers-timeout") as met:
            nn.train(network, x, y, callback=freeze, checkpoint=tmp_path / "run", **options)
        assert time.monotonic() - began < 60
    assert met.value.state.position.epoch == len(met.value.history) == frozen
    os.kill(scheduler, signal.SIGCONT)
    assert bits(nn.train(network, x, y, resume=tmp_path / "run", **options)) == expected[run]


@pytest.mark.parametrize("run", RUNS)
def test_where_no_worker_is_left_the_last_parameters_are_kept(
    run: str, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    network, x, y = case()
    checkpoint = tmp_path / "run.safetensors"

    def leave(record: nn.Epoch) -> None:
        if record.epoch == (5 if run == "whole" else 1):
            cluster.scale(0)

    with in_threads(1) as cluster, dask.config.set({"nnarray.no-workers-timeout": "700 ms"}):
        options = OPTIONS | RUNS[run]
        with pytest.raises(nn.WorkersLostError, match=r"no dask worker was left for 0\.7 s.*no-workers-timeout") as met:
            nn.train(network, x, y, callback=leave, checkpoint=checkpoint, **options)
        error = met.value
        assert len(error.history) in ((5, 6) if run == "whole" else (1,))
        assert error.state.position.epoch == len(error.history)
        assert error.params.vector.tobytes() == error.state.position.params.vector.tobytes()
        cluster.scale(2)
        resumed = nn.train(network, x, y, checkpoint=checkpoint, resume=True, **options)
        assert bits(resumed) == expected[run]
        if run == "whole":
            rest = options | {"epochs": 12 - len(error.history)}
            assert bits(nn.train(network, x, y, state=error.state, **rest)) == expected[run]
        cluster.scale(0)
        time.sleep(0.2)
        with pytest.raises(nn.WorkersLostError) as met:
            network.gradients(network.init(0), x, y)
        assert met.value.params is None


def test_a_chunk_that_kills_every_worker_ends_the_run(client: Any) -> None:
    network, x, y = case()
    client.wait_for_workers(1, timeout=60)

    def deadly(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block.size and threading.current_thread() is not threading.main_thread():
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    try:
        with pytest.raises(nn.WorkersLostError, match="died") as met:
            nn.train(network, x.map_blocks(deadly, dtype=x.dtype), y, epochs=3)
    finally:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 50))
    assert met.value.state.t == 0
    client.wait_for_workers(1, timeout=60)
    assert nn.train(network, x, y, epochs=1, state=met.value.state).state.t == 1


def test_ctrl_c_gives_back_what_there_is_and_leaves_nothing_running(client: Any) -> None:
    network, x, y = case()
    client.wait_for_workers(1, timeout=60)
    gc.collect()  # what other tests left in cycles
    before = _tasks_of(client)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))

    def begun(epoch: nn.Epoch) -> None:
        if epoch.epoch == 1:  # what a busy machine takes until then has no bound that is known
            timer.start()

    try:
        result = nn.train(network, x, y, epochs=10_000, callback=begun, **OPTIONS)
    finally:
        timer.cancel()
    assert result.stopped == "interrupt"
    assert 0 < len(result.history) < 10_000
    client.run(int)  # it answers
    deadline = time.monotonic() + 20
    while _tasks_of(client) - before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.1)
    assert not _tasks_of(client) - before


def _tasks_of(client: Any) -> set[str]:
    """What the scheduler knows of."""
    return set(client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks]))
