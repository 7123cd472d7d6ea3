"""What `bench.scale` measures: a step on dask's workers and under MPI, neither in what the other leaves behind."""

import os
import subprocess
import warnings
from typing import Any

import pytest

from bench import scale

pytest.importorskip("distributed")


def test_ranks_inherit_nothing_of_what_dask_starts_workers_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)  # of other tests' workers
    before, environments = dict(os.environ), list[dict[str, str]]()

    def run(command: Any, *, env: dict[str, str], **_: Any) -> Any:
        environments.append(env)
        return subprocess.CompletedProcess(command, 0, "0.001")

    with scale.workers(1):
        assert "MALLOC_TRIM_THRESHOLD_" in os.environ
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(scale.shutil, "which", lambda *_, **__: "mpiexec")
    assert scale.under_mpi("8 columns", 2) == 0.001
    assert environments == [before | {"NNARRAY_NUM_THREADS": "1"}]


def _first_entries(dask_worker: Any) -> list[float]:
    """Of the chunks of X that a worker holds."""
    return sorted(float(V[0, 0]) for V in dask_worker.data.values() if V.shape[0] == 784)


def test_chunks_are_shared_out_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = scale.examples(8000)
    with scale.workers(2) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        x, y = (scale.chunks_of(V, 2000, client) for V in (X, Y))
        held = client.run(_first_entries)
        assert x.chunks == ((784,), (2000,) * 4)
        assert (x.compute() == X).all()
        assert (y.compute() == Y).all()
    assert sorted(held.values()) == sorted(sorted(X[0, [i, i + 2000]].tolist()) for i in (0, 4000))
