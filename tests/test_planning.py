"""What a step takes on many machines: the formula beside the simulation, and tables made of measurements."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import planning, scale

KNOWN = planning.Constants(column=0.02, overhead=1.5, latency=0.005, transfer=0.4)


def results() -> dict[str, Any]:
    times = {
        "full batch": (1400.0, 1450.0, 740.0),
        "batches of 4096": (110.0, 111.0, 60.0),
        "8 columns": (1.0, 1.6, 2.1),
    }
    records = [
        {"work": work, "engine": engine, "without_ms": without, "one_ms": one, "two_ms": two}
        for work, (without, one, two) in times.items()
        for engine in ("MPI", "dask")
    ]
    machine = {"cpu": "a CPU", "cores": 2, "memory_gb": 24.0, "gpu": None, "python": "3.11"}
    about = {"created": "2026-01-01", "machine": machine, "versions": {"numpy": "2.4"}}
    return {**about, "theta_bytes": 2_700_000, "reduction_ms": 0.5, "latency_ms": 0.01, "results": records}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7, 64, 512, 1000])
@pytest.mark.parametrize("columns", [8, 60_000])
def test_the_formula_is_what_the_simulation_gives(ranks: int, columns: int) -> None:
    found = planning.simulated(KNOWN, columns, ranks, np.zeros(ranks))
    assert found == pytest.approx(planning.step(KNOWN, columns, ranks), rel=1e-12)


@pytest.mark.parametrize("ranks", [2, 16, 1000])
def test_delays_cost_as_much_as_the_latest_of_all(ranks: int) -> None:
    late = np.random.default_rng(0).exponential(3.0, (300, ranks))
    found = np.mean([planning.simulated(KNOWN, 60_000, ranks, delays) for delays in late])
    expected = planning.step(KNOWN, 60_000, ranks) + 3.0 * sum(1 / k for k in range(1, ranks + 1))
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("ranks", [2, 64, 1000])
def test_half_of_the_step_is_computing_where_it_says_so(ranks: int) -> None:
    m = planning.half_efficient_at(KNOWN, ranks)
    assert KNOWN.column * m / ranks / planning.step(KNOWN, m, ranks) == pytest.approx(0.5, abs=0.01)


def test_constants_are_those_of_the_file() -> None:
    known = planning.constants_of(results())
    assert known == pytest.approx((1400 / 60_000, 1.6, 0.01, 0.48))
    assert planning.step(known, 8, 2) == pytest.approx(8 * 1400 / 60_000 / 2 + 0.5 + 1.6, rel=1e-9)


def test_tables_are_put_between_marks(tmp_path: Path) -> None:
    path, page = tmp_path / "scale.json", tmp_path / "page.md"
    path.write_text(json.dumps(results()))
    for main, options in ((planning.main, []), (scale.main, ["--measured"])):
        page.write_text(f"before\n<!-- bench: {path.as_posix()} -->\nold\n<!-- end of bench -->\nafter\n")
        main(["--json", str(path), "--into", str(page), *options])
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
    assert "| full batch | MPI | 1,400 | 1,450 | 740 | 0.98 |" in text
    assert "| 8 columns | dask | 1.00 | 1.60 | 2.10 |  |" in text
