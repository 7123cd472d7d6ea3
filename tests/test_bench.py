"""The benchmark harness, on sizes that take no time."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from bench import estimators, lecture_loop, sweep
from bench.agreement import Result, disagreement, epoch_disagreements, errors, reference
from bench.cli import main
from bench.contestants import CONTESTANTS, choose
from bench.contestants.plain import Plain
from bench.harness import Settings, run_workload
from bench.limits import limit_of
from bench.memory import measure, peak_above
from bench.problems import make_problem
from bench.report import main as report
from bench.report import markdown
from bench.workloads import Workload, by_name

TINY = Workload("tiny", (7, 5, 3), 64, output="softmax")
SETTINGS = Settings(rounds=2, memory=False)
CASES = [("step", output) for output in ("sigmoid", "softmax", "identity", "exp")]
CASES += [(kind, output) for kind in ("predict", "epoch") for output in ("sigmoid", "softmax")]
NAMES = ("nnarray-numpy", "nnarray-torch", "plain-numpy", "torch", "jax", "scikit-learn")
DOERS = [(name, *case) for name in NAMES for case in CASES if (name, case[1]) != ("scikit-learn", "exp")]
FIELDS = {"median_ms", "min_ms", "q1_ms", "q3_ms", "rounds", "gflops", "share_of_limit", "ratio", "error", "cost_error"}


@pytest.fixture(autouse=True)
def _precision_as_it_was():
    """The contestants set their libraries' precision for the whole process; put it back after each test."""
    jax = sys.modules.get("jax")
    torch = sys.modules.get("torch")
    enabled = os.environ.get("JAX_ENABLE_X64") == "1" if jax is None else jax.config.jax_enable_x64
    products = "highest" if torch is None else torch.get_float32_matmul_precision()
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", enabled)
        sys.modules["jax"].config.update("jax_default_matmul_precision", None)
    if "torch" in sys.modules:
        sys.modules["torch"].set_float32_matmul_precision(products)


class Wrong(Plain):
    """The plain equations, with a gradient that is off by the factor that a forgotten example makes."""

    def __init__(self):
        super().__init__("numpy")
        self.name = "wrong"

    def prepare(self, problem):
        prepared = super().prepare(problem)

        def result():
            right = prepared.result()
            return Result(right.cost, right.values * problem.workload.m / (problem.workload.m - 1))

        return replace(prepared, result=result)


class Failing(Plain):
    def __init__(self):
        super().__init__("numpy")
        self.name = "failing"

    def prepare(self, problem):
        msg = "no compiler\nand more"
        raise OSError(msg)


def quiet(_):
    pass


def statuses(record):
    return {found["contestant"]: found["status"] for found in record["results"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "results.json"
    arguments = ["--quick", "--rounds", "2", "--workloads", "lecture,logistic", "--json", str(path)]
    assert main([*arguments, "--contestants", "nnarray-numpy,plain-numpy,scikit-learn", "--lecture-loop"]) == 0
    return path


def test_json_has_the_fields(results):
    found = json.loads(results.read_text())
    assert {"created", "machine", "versions", "settings", "workloads", "lecture_loop", "thread_pools"} <= set(found)
    assert found["machine"]["cores"] >= 1
    assert "numpy" in found["versions"]
    for record in found["workloads"]:
        assert {"name", "kind", "sizes", "m", "precision", "device", "flops", "limit"} <= set(record)
        assert record["limit"]["median_ms"] > 0
        assert [entry["status"] for entry in record["results"]] == ["timed"] * 3
        for entry in record["results"]:
            assert set(entry) >= FIELDS
            assert 0 < entry["min_ms"] <= entry["q1_ms"] <= entry["median_ms"] <= entry["q3_ms"]


def test_the_summary_goes_between_the_readme_s_marks(results, tmp_path):
    readme = tmp_path / "README.md"
    marks = f"<!-- bench: {results.as_posix()} -->\nold\n<!-- end of bench -->"
    readme.write_text(f"before\n{marks}\nafter\n")
    assert report([str(results), "--into", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end of bench -->\nafter\n")
    assert "old" not in text
    found = json.loads(results.read_text())["workloads"]
    assert [line for line in text.splitlines() if line.startswith("| ")][2:] != []
    assert all(record["name"] in text for record in found)


def test_the_report_is_a_markdown_table_of_the_json(results, capsys):
    assert report([str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 2 * 3
    assert len({row.count("|") for row in rows}) == 1
    assert any("**nnarray-numpy**" in row for row in rows)
    fastest = min(json.loads(results.read_text())["workloads"][0]["results"], key=lambda found: found["median_ms"])
    assert fastest["contestant"] in rows[2]


def test_the_chart_is_drawn(results, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.png"
    assert report([str(results), "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_wrong_or_failing_contestant_is_not_timed():
    record = run_workload(TINY, [Wrong(), Failing(), Plain("numpy")], SETTINGS, quiet)
    assert statuses(record) == {"wrong": "wrong", "failing": "failed", "plain-numpy": "timed"}
    wrong, failing, _ = record["results"]
    assert "differs" in wrong["reason"]
    assert failing["reason"] == "OSError: no compiler"
    assert "median_ms" not in wrong
    machine = {"cpu": "", "cores": 1, "memory_gb": 1, "gpu": None, "python": ""}
    text = markdown({"workloads": [record], "machine": machine, "versions": {}, "created": ""})
    assert "wrong wrong: its gradient" in text


def test_a_contestant_that_cannot_run_says_why():
    record = run_workload(TINY, [CONTESTANTS["plain-cupy"], Plain("numpy")], SETTINGS, quiet)
    assert record["results"][0]["status"] == "unavailable"
    assert record["results"][0]["reason"]
    assert CONTESTANTS["scikit-learn"].unfit(replace(TINY, hidden="leaky_relu"), "float32") == "has no leaky_relu"
    assert CONTESTANTS["plain-numpy"].unfit(TINY, "tf32") == "does not compute in tf32"


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("name", "kind", "output"), DOERS)
def test_contestants_agree_with_the_reference(name, kind, output, precision):
    contestant = CONTESTANTS[name]
    units = 3 if output == "softmax" else 1
    workload = Workload("own", (6, 5, units), 64, "tanh", output, kind, 16 if kind == "epoch" else None)
    if contestant.unavailable("cpu"):
        pytest.skip(contestant.unavailable("cpu"))
    assert contestant.unfit(workload, precision) is None
    problem = make_problem(workload, precision=precision)
    first = [(W.copy(), b.copy()) for W, b in problem.layers]
    prepared = contestant.prepare(problem)
    assert disagreement(errors(prepared.result(), reference(problem)), precision) is None
    cost = prepared.run()
    prepared.synchronize()
    assert (kind == "epoch") == (cost is not None and np.isfinite(cost))
    for (W, b), (W_first, b_first) in zip(problem.layers, first, strict=True):
        assert np.array_equal(W, W_first)
        assert np.array_equal(b, b_first)


def test_epochs_that_learn_something_else_are_found():
    assert epoch_disagreements({"a": 1.0, "b": 1.1, "c": 1.02}) == {}
    assert set(epoch_disagreements({"a": 1.0, "b": 2.3, "c": 1.02, "d": float("nan")} | {"e": 1.0})) == {"b", "d"}


def test_nan_agrees_with_nothing():
    truth = Result(1.0, np.ones(3))
    assert disagreement(errors(Result(1.0, np.full(3, np.nan)), truth), "float32")
    assert disagreement(errors(Result(float("nan"), np.ones(3)), truth), "float32")
    assert disagreement(errors(Result(1.0, np.ones(2)), truth), "float32")


@pytest.mark.parametrize("workload", [TINY, Workload("one layer", (9, 1), 64), replace(TINY, kind="predict")])
def test_limits_run(workload):
    name, limit = limit_of(make_problem(workload))
    assert name
    limit.run()


def test_memory_sees_what_was_allocated_and_freed():
    megabytes = peak_above(lambda: np.ones(25_000_000).sum()) / 1e6
    assert 195 < megabytes < 230


def test_memory_is_measured_in_a_process_of_its_own():
    workload = Workload("memory", (100, 200, 1), 20_000)
    found = measure("plain-numpy", workload, precision="float32", device="cpu", seed=0)
    one_activation = 200 * 20_000 * 4 / 1e6
    assert 2 * one_activation < found["memory_mb"] < 6 * one_activation
    assert "memory_error" in measure("plain-cupy", workload, precision="float32", device="cpu", seed=0)


def test_list_names_workloads_and_contestants(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("logistic-wide", "gpu-wide", "nnarray-cupy", "torch-compile"))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no workload 'shalow'"):
        list(by_name("deep,shalow"))
    with pytest.raises(ValueError, match="no contestant 'tensorflow'"):
        choose("tensorflow")
    assert [c.name for c in choose(backends="numpy", peers="torch")] == ["nnarray-numpy", "torch"]
    assert [c.name for c in choose(backends="numpy", peers="none")] == ["nnarray-numpy"]


def test_the_lecture_loop_forms_agree():
    found = lecture_loop.measure(m=20, rounds=1)
    assert [form["form"] for form in found["forms"]] == ["loops", "loop with np.dot", "vectorised"]
    assert found["forms"][0]["speed_up"] == 1


def test_data_is_the_same_for_a_seed_whatever_the_threads():
    one, other = make_problem(TINY, seed=3), make_problem(TINY, seed=3)
    assert np.array_equal(one.X, other.X)
    assert np.array_equal(one.Y, other.Y)
    assert one.table.flags.c_contiguous
    assert not np.array_equal(one.X, make_problem(TINY, seed=4).X)


def test_the_sweep_times_every_width_and_compares_the_automatic_one(capsys, tmp_path) -> None:
    record = sweep.sweep(Workload("tiny", (5, 4, 1), 3000), "float32", 1)
    assert {found["width"] for found in record["times"]} == {"automatic", 256, 512, 1024, 2048, "one piece"}
    assert record["chosen"] == 3008
    assert record["slower_than_best"] >= 0
    assert "3008 columns chosen" in sweep.table(record)
    path = tmp_path / "sweep.json"
    assert sweep.main(["--workloads", "lecture", "--rounds", "1", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["sweeps"][0]["workload"] == "lecture"
    assert "lecture: 512 columns chosen" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_estimators_are_timed_and_tabled(capsys, tmp_path) -> None:
    readme, path = tmp_path / "README.md", tmp_path / "sklearn.json"
    readme.write_text(f"before\n<!-- bench: {path.as_posix()} -->\nold\n<!-- end of bench -->\nafter\n")
    options = ["--m", "210", "--rounds", "1", "--json", str(path), "--into", str(readme)]
    assert estimators.main(options) == 0
    records = json.loads(path.read_text())["estimators"]
    assert len(records) == 2 * len(estimators.ALL)
    for record in records:
        times = record["times"]
        assert record["ratio"] == times["scikit-learn"]["median_ms"] / times["nnarray"]["median_ms"]
        assert f"{record['ratio']:.2f}×" in readme.read_text()
    assert readme.read_text().startswith("before\n<!-- bench")
    assert readme.read_text().endswith("after\n")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_estimators_that_disagree_are_not_timed(monkeypatch) -> None:
    monkeypatch.setitem(estimators.AGREE, "float64", -1.0)
    with pytest.raises(ArithmeticError, match="disagree"):
        estimators.measure(replace(estimators.ALL[0], m=50), "float64", 1)
