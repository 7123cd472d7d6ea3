"""`nnarray train` under mpiexec: every rank trains on its rows, one speaks, and the model is that of one process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnarray as nn

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

OPTIONS = (
    *("--target", "y", "--dtype", "float64", "--epochs", "40", "--batch-size", "1000", "--hidden", "6"),
    *("--dropout", "0", "--seed", "2"),
)


def launched(*words: Any, ranks: int | None = None) -> list[str]:
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert mpiexec is not None
    launcher = [] if ranks is None else [mpiexec, "-n", str(ranks)]
    return [*launcher, sys.executable, "-m", "nnarray", *map(str, words)]


def nnarray(*words: Any, ranks: int | None = None, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NNARRAY_NUM_THREADS": "1"}
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 200, "env": environment}
    return subprocess.run(launched(*words, ranks=ranks), cwd=folder, check=False, **options)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["a,kind,b,y"]
    for i in range(83):
        a, kind, b = rng.normal(loc=1e6), "xyz"[i % 3 if i > 70 else 0], "" if i % 9 == 0 else f"{rng.lognormal():.4f}"
        rows.append(f"{a:.3f},{kind},{b},{'yes' if a + (kind == 'y') > 1e6 else 'no'}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("further", [(), ("--batch-norm",)], ids=str)
def test_the_model_is_that_of_one_process(further: tuple[str, ...], table: Path, tmp_path: Path) -> None:
    words = ("train", table, *OPTIONS, *further, "--out")
    one = nnarray(*words, "one.safetensors", folder=tmp_path)
    two = nnarray(*words, "two.safetensors", "--history", "h.csv", ranks=2, folder=tmp_path)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert "on 2 ranks" in two.stdout
    assert two.stdout.count("model written to") == 1
    assert len((tmp_path / "h.csv").read_text().splitlines()) == 41
    models = [nn.read_model(tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    assert models[0].preprocessing == models[1].preprocessing
    of_one, of_two = (model.params for model in models)
    np.testing.assert_allclose(of_one.vector, of_two.vector, rtol=0, atol=1e-9)
    if further:
        np.testing.assert_allclose(of_one.statistics, of_two.statistics, rtol=0, atol=1e-9)


def test_an_error_is_said_once(tmp_path: Path) -> None:
    done = nnarray("train", "none.csv", *OPTIONS, ranks=2, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("nnarray: error:") == 1
    assert "none.csv" in done.stderr


def test_standard_input_is_of_one_rank(tmp_path: Path) -> None:
    done = nnarray("train", "-", *OPTIONS, ranks=2, folder=tmp_path)
    assert done.returncode == 2
    assert "give a file" in done.stderr


def test_a_run_that_is_kept_goes_on(table: Path, tmp_path: Path) -> None:
    words = ("train", table, *OPTIONS, "--batch-size", 16, "--dropout", 0.2, "--out")
    whole = nnarray(*words, "whole.safetensors", ranks=2, folder=tmp_path)
    kept = ("--checkpoint", "run.safetensors", "--checkpoint-every", "0")
    process = subprocess.Popen(
        launched(*words, "model.safetensors", *kept, "--force", ranks=2), cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    rest = nnarray(*words, "model.safetensors", *kept, "--force", ranks=2, folder=tmp_path)
    assert (whole.returncode, rest.returncode) == (0, 0), rest.stderr
    models = [nn.read_model(tmp_path / f"{name}.safetensors") for name in ("whole", "model")]
    assert models[0].params.vector.tobytes() == models[1].params.vector.tobytes()


def test_a_model_is_applied_by_the_first_rank_alone(table: Path, tmp_path: Path) -> None:
    assert nnarray("train", table, *OPTIONS, "--out", "m.safetensors", folder=tmp_path).returncode == 0
    for words in (("predict", "m.safetensors", table), ("evaluate", "m.safetensors", table), ("info", "m.safetensors")):
        one, two = (nnarray(*words, ranks=ranks, folder=tmp_path) for ranks in (None, 2))
        assert (two.returncode, two.stdout) == (0, one.stdout), two.stderr
    done = nnarray("predict", "m.safetensors", table, "--out", "p.csv", ranks=2, folder=tmp_path)
    assert done.returncode == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 84
    failed = nnarray("predict", "m.safetensors", "none.csv", ranks=2, folder=tmp_path)
    assert (failed.returncode, failed.stderr.count("nnarray: error:")) == (2, 1)


def test_what_a_shell_starts_on_each_rank_is_its_own(table: Path, tmp_path: Path) -> None:
    assert nnarray("train", table, *OPTIONS, "--out", "m.safetensors", folder=tmp_path).returncode == 0
    command = " ".join(launched("predict", "m.safetensors", table, "--out", "p$PMI_RANK.csv"))
    done = subprocess.run(
        [launched(ranks=2)[0], "-n", "2", "sh", "-c", f"{command}; true"], cwd=tmp_path, check=False, timeout=200
    )
    assert done.returncode == 0
    assert (tmp_path / "p0.csv").read_text() == (tmp_path / "p1.csv").read_text()


def test_ranks_that_were_given_other_tables_do_not_train_together(table: Path, tmp_path: Path) -> None:
    (tmp_path / "table0.csv").write_text(table.read_text())
    (tmp_path / "table1.csv").write_text(table.read_text())
    command = " ".join(launched("train", "table$PMI_RANK.csv", *OPTIONS))
    mpiexec = launched(ranks=2)[0]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 200, "cwd": tmp_path}
    done = subprocess.run([mpiexec, "-n", "2", "sh", "-c", f"{command}"], check=False, **options)
    assert done.returncode == 2
    assert "data must be the same on all ranks, got table0.csv on rank 0 and table1.csv on rank 1" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
@pytest.mark.parametrize("order", [1, -1])
def test_other_commands_beside_train_end_with_a_message(order: int, table: Path, tmp_path: Path) -> None:
    commands = [launched("train", table, *OPTIONS), launched("info", "m.safetensors")][::order]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 100, "cwd": tmp_path}
    words = [launched(ranks=1)[0], "-n", "1", *commands[0], ":", "-n", "1", *commands[1]]
    done = subprocess.run(words, check=False, **options)
    assert done.returncode == 2
    assert "all ranks must be given one command, got info beside train" in done.stderr


def test_mpi4py_is_not_imported_elsewhere(table: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; from nnarray.cli import main; main(['train', {str(table)!r}, *{OPTIONS!r}, '--quiet']); "
        "sys.exit('mpi4py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=200).returncode == 0
