"""Runs with batch normalisation that average, are killed and go on; torch.optim.swa_utils as oracle of the average."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space
from test_batch_norm import examples, torch_module
from test_checkpoints import KilledError, deaths, killing, parts, same
from test_going_on import OPTIMIZERS
from test_going_on import OPTIONS as PLAIN_OPTIONS

import nnarray as nn
from nnarray.cli import main

torch = pytest.importorskip("torch")

NETWORK = nn.Network((4, 6, 5, 3), "tanh", "softmax", batch_norm=True)
X, Y = examples((4, 6, 5, 3), "softmax", 23)
VALIDATION = {"validation": (X[:, :9], Y[:, :9])}
OPTIONS = {
    name: options | (VALIDATION if "validation" in options else {})
    for name, options in PLAIN_OPTIONS.items()
    if options.get("batch_size", 0) != 7  # whose last batch is of one example
}


def train(**options: Any) -> nn.TrainingResult:
    given = {"dtype": "float64", "seed": 3, "epochs": 4, "progress": False, "optimizer": nn.Adam(0.02)}
    return nn.train(NETWORK, X, Y, **given | options)


def statistics(params: Any) -> Any:
    return params.backend.to_numpy(params.statistics)


@pytest.mark.parametrize("optimizer", OPTIMIZERS[::2], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_a_run_that_was_killed_ends_with_the_bits_of_one_that_was_not(options, optimizer, tmp_path) -> None:
    def call(**further: Any) -> nn.TrainingResult:
        return train(optimizer=optimizer, **options, **further)

    whole, runs = call(), list(deaths(call, tmp_path / "run"))
    for found in runs:
        assert same(found, whole)
        np.testing.assert_array_equal(found.params.statistics, whole.params.statistics)
        for one, other in zip(*(result.state.position.params.averages for result in (found, whole)), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(runs) >= 2


@pytest.mark.parametrize("options", [{"batch_size": 6}, {"batch_size": 6, "average": 0.8}, {}], ids=str)
def test_on_every_namespace(space: Space, options, tmp_path: Path) -> None:
    X_here, Y_here = space.asarray(X), space.asarray(Y)

    def call(**further: Any) -> nn.TrainingResult:
        first = NETWORK.init(seed=1, dtype="float64", backend=space.backend)
        given = {"params": first, "epochs": 3, "optimizer": nn.Adam(0.02)} | options
        return nn.train(NETWORK, X_here, Y_here, **given, **further)

    whole = call()
    for found in itertools.islice(deaths(call, tmp_path / "run"), 2):
        space.assert_same_place(found.params.statistics, "float64")
        assert same(found, whole)
        np.testing.assert_array_equal(statistics(found.params), statistics(whole.params))


@pytest.mark.parametrize("options", [{"average": 0.9}, {"average": 0.8, "batch_size": 5, "patience": 40}], ids=str)
def test_a_state_goes_on_to_the_bit(options) -> None:
    whole, first = train(epochs=5, **options), train(epochs=2, **options)
    second = train(epochs=3, state=first.state, **options)
    np.testing.assert_array_equal(second.params.vector, whole.params.vector)
    np.testing.assert_array_equal(second.params.statistics, whole.params.statistics)
    np.testing.assert_array_equal(second.state.average, whole.state.average)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_weights_and_statistics_are_averaged_as_by_torchs_averaged_model(space: Space, batch_size) -> None:
    """Its average of parameters and buffers, exponentially weighted, from the first update on."""
    first, beta = NETWORK.init(seed=1, dtype="float64", backend=space.backend), 0.7
    model = torch_module(NETWORK, first.to(nn.backend("numpy")))
    averaged = torch.optim.swa_utils.AveragedModel(
        model, avg_fn=lambda mean, value, t: mean + (value - mean) * ((1 - beta) / (1 - beta ** (int(t) + 1))),
        use_buffers=True,
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    stream = batches(batch_size)
    for X_part, Y_part in stream * 3:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(X_part.T.copy())), torch.tensor(Y_part.T.copy()))
        loss.backward()
        optimizer.step()
        averaged.update_parameters(model)
    here = [(space.asarray(A), space.asarray(B)) for A, B in stream]
    records: list[Any] = []
    result = nn.train(
        NETWORK, lambda: here, params=first, optimizer=nn.GradientDescent(0.3), epochs=3, average=beta,
        validation=(space.asarray(X), space.asarray(Y)), callback=records.append,
    )  # fmt: skip
    wanted = averaged.module.eval()(torch.tensor(X.T.copy())).softmax(1).detach().numpy().T
    found = space.to_numpy(NETWORK.predict(result.params, space.asarray(X)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
    for seen, module in zip(result.params.averages, (averaged.module[1], averaged.module[4]), strict=True):
        np.testing.assert_allclose(space.to_numpy(seen.mean)[:, 0], module.running_mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(space.to_numpy(seen.variance)[:, 0], module.running_var, rtol=0, atol=1e-10)
    assert records[-1].validation_cost == pytest.approx(-(np.log(wanted) * Y).sum() / X.shape[1], abs=1e-10)
    np.testing.assert_array_equal(statistics(records[-1].params), statistics(result.params))


def batches(size: int | None) -> list[Any]:
    size = size or X.shape[1]
    return [(X[:, i : i + size], Y[:, i : i + size]) for i in range(0, X.shape[1], size)]


def test_the_descent_takes_no_notice_of_an_average() -> None:
    plain, averaged = train(batch_size=6), train(batch_size=6, average=0.9)
    trained = averaged.state.position.params
    np.testing.assert_array_equal(trained.vector, plain.params.vector)
    np.testing.assert_array_equal(trained.statistics, plain.params.statistics)
    assert [epoch.cost for epoch in averaged.history] == [epoch.cost for epoch in plain.history]
    assert not np.array_equal(averaged.params.statistics, plain.params.statistics)
    np.testing.assert_array_equal(train(batch_size=6, average=0.0).params.statistics, plain.params.statistics)


def test_a_checkpoint_of_a_plain_network_is_another_run(tmp_path: Path) -> None:
    train(checkpoint=tmp_path / "run")
    plain = nn.Network(NETWORK.sizes, NETWORK.hidden, NETWORK.output)
    given = {"dtype": "float64", "seed": 3, "epochs": 4, "optimizer": nn.Adam(0.02)}
    with pytest.raises(ValueError, match="'batch_norm' is True there and None here"):
        nn.train(plain, X, Y, **given, resume=tmp_path / "run")
    nn.train(plain, X, Y, **given, checkpoint=tmp_path / "plain")
    assert "batch_norm" not in parts(tmp_path / "plain")[0]["run"]
    with pytest.raises(ValueError, match="'batch_norm' is None there and True here"):
        train(resume=tmp_path / "plain")


def wrong_tensors() -> Iterator[tuple[str, Any]]:
    for name in ("now.statistics", "best.statistics", "now.average", "now.theta"):
        yield name, lambda V: None
        yield name, lambda V: V[1:]
        yield name, lambda V: V * np.nan
        yield name, lambda V: V.astype("float32")
    yield "now.statistics", lambda V: V - 1e6


@pytest.mark.parametrize(("name", "change"), list(wrong_tensors()))
def test_files_whose_statistics_are_none_are_refused(name, change, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    options, path = {"average": 0.9, "patience": 9, "batch_size": 6}, tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        killing(9, patch)
        with pytest.raises(KilledError):
            train(**options, checkpoint=path, checkpoint_every=0)
    with safe_open(path, "numpy") as file:
        entries = file.metadata()
    tensors = parts(path)[1]
    changed = change(tensors.pop(name))
    save_file(tensors | ({} if changed is None else {name: changed}), path, entries)
    with pytest.raises(nn.ModelFileError, match="is not a valid checkpoint"):
        train(**options, resume=path)


class TestCommandLine:
    OPTIONS = ("--batch-norm", "--average", "0.8", "--l1", "0.1", "--input-dropout", "0.1", "--hidden", "6,5")

    @pytest.fixture(autouse=True)
    def table(self, here: Path) -> None:
        rows = np.random.default_rng(0).normal(size=(61, 2))
        lines = [f"{a},{b},{'yes' if a * b > 0 else 'no'}" for a, b in rows]
        (here / "t.csv").write_text("\n".join(["a,b,kind", *lines]), encoding="utf-8")

    def command(self, *further: Any) -> int:
        return main(["train", "t.csv", "--epochs", "5", "--quiet", *self.OPTIONS, *map(str, further)])

    @pytest.mark.parametrize("resume", [("--checkpoint", "run"), ("--resume", "run")], ids=" ".join)
    def test_a_killed_run_goes_on_to_the_same_file(self, resume, capsys) -> None:
        assert self.command("--out", "whole") == 0
        with pytest.MonkeyPatch.context() as patch:
            killing(8, patch)
            with pytest.raises(KilledError):
                self.command("--checkpoint", "run", "--checkpoint-every", 0)
        assert self.command(*resume) == 0
        (network, found), (_, whole) = (nn.read_model(name)[:2] for name in ("model.safetensors", "whole"))
        assert network.batch_norm
        np.testing.assert_array_equal(found.variables, whole.variables)

    def test_a_model_is_used_exported_and_trained_further(self, capsys) -> None:
        assert self.command() == 0
        capsys.readouterr()
        assert main(["info", "model.safetensors"]) == 0
        out = capsys.readouterr().out
        for shown in ("batch norm, relu", "average         0.8", "l1              0.1", "input dropout   0.1"):
            assert shown in out
        for words in (["predict"], ["evaluate"]):
            assert main([*words, "model.safetensors", "t.csv"]) == 0
        assert main(["train", "t.csv", "--resume", "model.safetensors", "--epochs", "2", "--out", "further"]) == 0
        further = nn.read_model("further")
        assert further.metadata["training"]["settings"]["batch_norm"] is True
        assert not np.array_equal(further.params.statistics, nn.read_model("model.safetensors").params.statistics)
        assert main(["train", "t.csv", "--resume", "further", "--batch-norm", "--out", "other"]) == 2
        assert "--batch-norm cannot be said with --resume" in capsys.readouterr().err

    def test_a_size_that_was_not_asked_for_leaves_no_batch_of_one_example(self) -> None:
        """273 are 17 batches of 16 and one, and 16 of 17 and one."""
        x = np.random.default_rng(0).normal(size=273)
        Path("line.csv").write_text("\n".join(["x,y", *[f"{a},{2 * a}" for a in x]]), encoding="utf-8")
        words = ["--batch-norm", "--validation", "0", "--test", "0", "--epochs", "1", "--quiet"]
        assert main(["train", "line.csv", *words, "--output", "identity"]) == 0

    def test_a_graph_predicts_what_the_model_predicts(self, capsys) -> None:
        runtime = pytest.importorskip("onnxruntime")
        assert self.command() == 0
        assert main(["export", "model.safetensors", "model.onnx"]) == 0
        rows = np.random.default_rng(1).normal(size=(9, 2))
        session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
        found = session.run(["probabilities"], {"X": rows})[0]
        wanted = nn.read_model("model.safetensors").predict(rows.T)
        np.testing.assert_allclose(found[:, 1:], wanted.T, rtol=0, atol=1e-6)
