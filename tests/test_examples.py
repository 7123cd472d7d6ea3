"""The examples run, and come out as they say."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnarray as nn

EXAMPLES = Path(__file__).resolve().parent


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def loops() -> Any:
    pytest.importorskip("jax")
    return load("jax_loops")


def test_optax_style(loops) -> None:
    assert loops.optax_style() >= 0.95


def test_jaxopt_style(loops) -> None:
    assert loops.jaxopt_style() >= 0.9


def test_blackjax_style(loops) -> None:
    assert 0.5 < loops.blackjax_style() <= 1.0


def test_ensemble(loops) -> None:
    X, _ = loops.data()
    alone = [loops.NETWORK.predict(loops.NETWORK.init(seed=seed, backend="jax"), X) for seed in range(8)]
    np.testing.assert_allclose(loops.ensemble(), np.mean(alone, axis=0), rtol=1e-5)


def test_gradient_norms(loops) -> None:
    X, Y = loops.data()
    params = loops.NETWORK.init(seed=0, backend="jax")
    _, g = loops.NETWORK.gradients(params, X[:, 5:6], Y[:, 5:6])
    norms = loops.gradient_norms()
    assert norms.shape == (64,)
    np.testing.assert_allclose(norms[5], np.linalg.norm(g.vector), rtol=1e-5)


README = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")


def code_of(part: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


def test_the_first_network_of_the_readme() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    plt.close("all")  # those of other tests
    names: dict[str, Any] = {}
    (block,) = code_of(README[README.index("## A first network") : README.index("## The equations are the code")])
    exec(block, names)
    assert names["network"].score(names["result"].params, names["X"], names["Y"]) > 0.9
    assert len(plt.get_fignums()) == 2
    plt.close("all")


def test_the_same_program_of_the_readme(tmp_path, monkeypatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    part = README[README.index("## The same program on CPU and GPU") : README.index("As a compute core under")]
    names: dict[str, Any] = {}
    exec(code_of(part)[0], names)
    assert names["network"].score(names["result"].params, names["X"], names["Y"]) > 0.98
    assert (tmp_path / "small.safetensors").exists()


def test_what_the_readme_links_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    files = [target for target in targets if not target.startswith(("http", "#"))]
    assert len(files) > 10
    assert [target for target in files if not (EXAMPLES.parent / target).exists()] == []
    heads = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", README, re.M)}
    assert {target[1:] for target in targets if target.startswith("#")} <= heads


def test_the_code_of_the_readme_about_other_tools() -> None:
    """SciPy's and optax's loops, on a small network."""
    for library in ("scipy", "jax", "optax"):
        pytest.importorskip(library)
    part = README[README.index("As a compute core under") : README.index("## A drop-in replacement")]
    generator = np.random.default_rng(0)
    X = generator.normal(size=(2, 60))
    names = {"network": nn.Network((2, 5, 1)), "X": X, "Y": (X.sum(axis=0, keepdims=True) > 0) * 1.0}
    blocks = code_of(part)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert names["best"].fun < 0.3
    assert float(names["J"]) < 0.2


def test_the_data_frame_of_the_readme(tmp_path, monkeypatch) -> None:
    """A table with texts, dates, gaps and categories; the model file prepares the frame as training did."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    area, town = rng.uniform(40, 200, 240), rng.choice(["Jena", "Ulm"], 240)
    sold = pandas.Timestamp("2022-05-01") + pandas.to_timedelta(rng.integers(0, 400, 240), unit="D")
    houses = pandas.DataFrame({"area": area, "town": pandas.Categorical(town), "sold": sold})
    houses["price"] = 10 * area + 400 * (town == "Ulm")
    houses.loc[7, "area"] = np.nan
    names: dict[str, Any] = {"nn": nn, "houses": houses}
    exec(code_of(README[README.index("A pandas data frame") : README.index("## Large batches")])[0], names)
    assert names["prices"].shape == (1, 240)
    assert np.corrcoef(names["prices"][0], houses["price"])[0, 1] > 0.95


def test_core_is_as_short_as_the_readme_says() -> None:
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines()) for path in (Path(nn.__file__).parent / "core").glob("*.py")
    )
    said = re.search(r"is under (\d+) lines in the letters of the\s+lecture", README)
    assert said is not None
    assert 500 < lines < int(said[1])
