"""`python -m bench.gpu`: what a run leaves behind when a contestant, a part or the run itself ends early."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from bench.gpu import parts
from bench.gpu.__main__ import main
from bench.gpu.figures import Figures
from bench.report import markdown

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, which other tests import; here nobody does

HERE = Path(__file__).parent
STUBS = (sys.executable, str(HERE / "gpu_contestants.py"))
LECTURE = ("gpu-lecture", "float32", "float64")
EMULATED = os.environ | {"NNARRAY_EMULATE_GPU": "1", "PYTHONPATH": str(HERE.parent)}
OUTLIVES = [sys.executable, "-c", "import time; print('began', flush=True); time.sleep(300)"]


@pytest.fixture(autouse=True)
def _paths(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))


def figures(path, seconds=120.0, **settings):
    return Figures(path, time.monotonic() + seconds, quick=True, command=STUBS, **settings)


def statuses(path):
    found = json.loads(path.read_text())
    return [{one["contestant"]: one["status"] for one in record["results"]} for record in found["workloads"]]


def read_when_there(path, condition, seconds=100):
    """The file's content as soon as it is there and as wanted."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if path.exists() and condition(content := json.loads(path.read_text())):
            return content
        time.sleep(0.05)
    pytest.fail(f"{path.name} did not get as far in {seconds} s")


class TestFigures:
    def test_a_contestant_that_fails_or_dies_stops_no_other(self, tmp_path) -> None:
        path = tmp_path / "figures.json"
        run = figures(path)
        try:
            run.measure([LECTURE], ["failing", "dying", "fine"])
        finally:
            run.end()
        assert statuses(path) == [
            {"failing": "failed", "dying": "timed", "fine": "timed"},
            {"failing": "failed", "dying": "failed", "fine": "timed"},
        ]
        found = json.loads(path.read_text())
        first, second = (record["results"] for record in found["workloads"])
        assert first[0]["reason"] == "RuntimeError: an illegal memory access was encountered"
        assert second[1]["reason"] == "its process ended: SIGSEGV"
        assert 0 < first[2]["host_ms"] <= first[2]["median_ms"] * 1.01
        assert found["ended"] == "all was measured"
        assert "gpu-lecture" in markdown(found)  # also where the limit failed

    def test_a_contestant_over_its_limit_is_ended(self, tmp_path) -> None:
        path = tmp_path / "figures.json"
        run = figures(path, task=12.0)
        try:
            run.measure([LECTURE[:2]], ["slow", "fine"])
        finally:
            run.end()
        assert statuses(path) == [{"slow": "failed", "fine": "timed"}]
        assert json.loads(path.read_text())["workloads"][0]["results"][0]["reason"] == "took longer than 12 s"

    def test_where_time_runs_out_the_rest_is_left(self, tmp_path) -> None:
        path = tmp_path / "figures.json"
        run = figures(path, seconds=0.5)
        try:
            run.measure([LECTURE], ["fine"])
        finally:
            run.end()
        assert json.loads(path.read_text())["ended"] == "no time left at gpu-lecture, float32, fine"

    def test_a_second_pass_goes_on_with_the_records(self, tmp_path) -> None:
        path = tmp_path / "figures.json"
        run = figures(path)
        try:
            run.measure([("gpu-minibatch-128", "float32")], ["fine"], ["learns something else", "dying"])
        finally:
            run.end()
        # of two that differ neither is the middle one: the third says which
        assert statuses(path) == [{"fine": "timed", "learns something else": "wrong", "dying": "timed"}]

    def test_killed_half_way_it_leaves_what_it_had_and_no_process(self, tmp_path) -> None:
        path, script = tmp_path / "figures.json", "import sys\nfrom tests.test_bench_gpu import *\n"
        script += "run = figures(Path(sys.argv[1]), 600)\nrun.measure([LECTURE], ['fine', 'slow'])\n"
        started = subprocess.Popen([sys.executable, "-c", script, str(path)], env=EMULATED, cwd=HERE.parent)
        try:
            found = read_when_there(path, lambda content: content["workloads"][0]["results"])
            children = children_of(started.pid)
        finally:
            started.kill()
            started.wait()
        assert found["ended"] == "cut short"
        assert statuses(path) == [{"fine": "timed"}]
        assert len(children) == 3  # of the reference and the contestants; the limit's has failed
        assert end_soon(children)


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def end_soon(pids, seconds=20):
    ends = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < ends:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def part(seconds, *commands):
    return parts.Part(seconds, lambda run, limit: commands)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(parts.Run, "_look_at_the_gpu", lambda _: {"name": "NVIDIA H200"})
    return parts.Run(tmp_path / "out", 60)


def found_in(run):
    return {part["part"]: part["status"] for part in json.loads((run.folder / "run.json").read_text())["parts"]}


class TestParts:
    def test_one_over_its_limit_or_that_fails_stops_no_other(self, run, monkeypatch) -> None:
        monkeypatch.setattr(parts, "FEWEST_SECONDS", 0.1)
        says = [sys.executable, "-c", "print('done')"]
        made = {"long": part(2, OUTLIVES), "bad": part(9, [sys.executable, "-c", "1/0"], says), "good": part(9, says)}
        monkeypatch.setattr(parts, "PARTS", made)
        assert run.all(["long", "bad", "good"]) == 1
        assert found_in(run) == {"long": "over its limit", "bad": "failed: code 1", "good": "passed"}
        assert (run.folder / "long.log").read_text() == "began\n"
        assert "ZeroDivisionError" in (run.folder / "bad.log").read_text()
        assert (run.folder / "bad.log").read_text().endswith("done\n")

    def test_the_whole_has_a_limit(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(parts.Run, "_look_at_the_gpu", lambda _: {})
        run = parts.Run(tmp_path, 5)
        monkeypatch.setattr(parts, "PARTS", {"long": part(100, OUTLIVES), "rest": part(100, OUTLIVES)})
        assert run.all(["long", "rest"]) == 1
        assert found_in(run) == {"long": "over its limit", "rest": "skipped: no time left"}

    def test_what_is_not_installed_is_told(self, run, monkeypatch, capsys) -> None:
        monkeypatch.setattr(parts, "NEEDED", {"no_such_package": "nothing of it runs"})
        assert run.all([]) == 0
        warning = "no_such_package is not installed: nothing of it runs"
        assert json.loads((run.folder / "run.json").read_text())["warnings"] == [warning]
        assert warning in capsys.readouterr().err

    def test_the_sanitizer_runs_where_it_is(self, run, monkeypatch) -> None:
        monkeypatch.setattr(parts.shutil, "which", lambda name, path=None: path and f"{path}/{name}")
        commands = list(parts.PARTS["sanitizer"].commands(run, 9))
        assert all(command[0] == "/usr/local/cuda/bin/compute-sanitizer" for command in commands)
        assert {"memcheck", "racecheck", "initcheck", "synccheck"} == {
            command[command.index("--tool") + 1] for command in commands
        }

    def test_tests_are_those_named_cupy(self, run) -> None:
        ((_, _, *words),) = parts.PARTS["tests"].commands(run, 9)
        assert words[:4] == ["pytest", "-q", "-k", "cupy"]
        assert "no:benchmark" in words
        assert "filterwarnings=default" in words
        assert parts.PARTS["tests"].environment == {"JAX_PLATFORMS": "cpu"}

    def test_without_pytest_they_are_skipped(self, run, monkeypatch) -> None:
        monkeypatch.setattr(parts, "find_spec", lambda package: None if package == "pytest" else True)
        assert run.all(["tests"]) == 0
        assert found_in(run) == {"tests": "skipped"}
        warnings = json.loads((run.folder / "run.json").read_text())["warnings"]
        assert warnings == ["pytest is not installed: no tests run"]

    def test_files_are_named_after_the_gpu(self, run) -> None:
        run.found["gpu"] = {"name": "NVIDIA H200"}
        ((*_, path, _, seconds),) = parts.PARTS["figures"].commands(run, 100)
        assert path == str(run.folder / "nvidia-h200.json")
        assert seconds == "97"  # to end by itself, before it is ended


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("NNARRAY_EMULATE_GPU", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["--out", str(tmp_path), "--only", "figures"]) == 2
    assert json.loads((tmp_path / "run.json").read_text())["gpu"]["reason"] in capsys.readouterr().err


def test_an_unknown_part_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "figures,speed"])
    assert "no part 'speed'; the parts are sanitizer, tests, figures" in capsys.readouterr().err


def test_packages_come_from_a_folder_of_wheels(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    seen = [sys.executable, "-c", "import carried; print(carried.WHAT)"]
    monkeypatch.setattr(parts.Run, "_look_at_the_gpu", lambda _: {})
    monkeypatch.setattr("bench.gpu.__main__.PARTS", made := {"seen": part(60, seen)})
    monkeypatch.setattr(parts, "PARTS", made)
    monkeypatch.setattr(parts, "NEEDED", {"carried": "nothing runs"})
    with ZipFile(tmp_path / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "WHAT = 'a wheel'\n")
        wheel.writestr("carried-1.0.dist-info/METADATA", "Name: carried\nVersion: 1.0\n")
    assert main(["--out", str(tmp_path / "out"), "--wheels", str(tmp_path)]) == 0
    assert (tmp_path / "out" / "seen.log").read_text() == "a wheel\n"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["warnings"] == []
    assert main(["--out", str(tmp_path / "out"), "--wheels", str(tmp_path / "out")]) == 1
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("carried")


@pytest.mark.skipif(os.environ.get("NNARRAY_EMULATE_GPU", "0") == "0", reason="cupy: needs the emulated GPU")
def test_all_parts_on_an_emulated_gpu_with_cupy(tmp_path) -> None:
    chosen = ["sanitizer", "tests", "figures", "probes"]  # what `nnarray check` does, other tests look at
    what = ["--quick", "--workloads", "gpu-lecture", "--only", ",".join(chosen)]
    command = [sys.executable, "-m", "bench.gpu", "--out", str(tmp_path), *what]
    one = "tests/test_cupy.py::test_scipys_theta_on_the_gpu"
    done = subprocess.run(
        [*command, "--", one], env=EMULATED, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    found = json.loads((tmp_path / "run.json").read_text())
    assert {part["part"]: part["status"] for part in found["parts"]} == dict.fromkeys(chosen, "passed"), done.stderr
    assert done.returncode == 0
    assert len(list(tmp_path.iterdir())) <= 8
    record = json.loads((tmp_path / "emulated-gpu.json").read_text())
    assert [one["status"] for one in record["workloads"][0]["results"] if one["contestant"] == "nnarray-cupy"] == [
        "timed"
    ]
    probes = json.loads((tmp_path / "probes.json").read_text())
    assert set(probes) == {"launches", "steps", "copies", "masks", "uploads", "products"}
    assert all(value > 0 for found in probes.values() for value in found.values())


def test_a_run_that_is_told_to_end_ends_its_part(tmp_path) -> None:
    script = "import sys\nfrom tests.test_bench_gpu import *\nfrom bench.gpu import __main__\n"
    script += "parts.Run._look_at_the_gpu = lambda _: {}\n"
    script += (
        "parts.PARTS['figures'] = part(300, OUTLIVES)\nsys.exit(main(['--out', sys.argv[1], '--only', 'figures']))"
    )
    started = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=EMULATED, cwd=HERE.parent)
    try:
        read_when_there(tmp_path / "run.json", lambda content: content["parts"])
        ends = time.monotonic() + 30
        while not (children := children_of(started.pid)) and time.monotonic() < ends:
            time.sleep(0.05)
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 130
    finally:
        started.kill()
    assert children
    assert end_soon(children)
    assert json.loads((tmp_path / "run.json").read_text())["parts"][0]["status"] == "running"
