"""Runs that are killed, terminated or interrupted go on from their checkpoint to the bits of an undisturbed one.

By default some checkpoints of each run and some kills; with NNARRAY_CHECKPOINTS=all every checkpoint, and 30 kills of
each kind of run.
"""

import contextlib
import json
import math
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Space
from interrupting import faults, interrupt, points, run
from safetensors import safe_open
from safetensors.numpy import save_file
from test_going_on import LAYERS, NETWORK, OPTIMIZERS, OPTIONS, X, Y, rows
from threaded_ranks import on_ranks

import nnarray as nn
from nnarray.backends.atomic import write_atomically
from nnarray.cli import main
from nnarray.training import checkpoint_file
from nnarray.training.checkpoint_format import ENTRY, TENSORS
from nnarray.training.checkpoint_schema import DESCRIPTION
from nnarray.training.checkpointing import Checkpoints

ALL = os.environ.get("NNARRAY_CHECKPOINTS") == "all"

EPOCHS = 5


class KilledError(BaseException):
    """In the place of a death."""


def train(**options: Any) -> nn.TrainingResult:
    given = {"params": LAYERS, "seed": 3, "epochs": EPOCHS, "progress": False, "optimizer": nn.Adam(0.02)}
    return nn.train(NETWORK, X, Y, **given | options)


def same(found: nn.TrainingResult, expected: nn.TrainingResult) -> bool:
    """Whether two results have the same bits, but for the seconds."""
    vectors = [(found.params.vector, expected.params.vector)]
    vectors += [(getattr(found.state, name), getattr(expected.state, name)) for name in ("v", "s", "average")]
    bits = [[None if V is None else nn.backend("numpy").to_numpy(V).tobytes() for V in pair] for pair in vectors]
    numbers = [
        (one.state.t, one.best_epoch, one.stopped, one.history.kept_epoch, rows(one.history))
        for one in (found, expected)
    ]
    places = [one.state.position._replace(params=None) for one in (found, expected)]  # type: ignore[union-attr]
    return all(one == other for one, other in bits) and numbers[0] == numbers[1] and places[0] == places[1]


def killing(at: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on, the run dies after it wrote so many checkpoints; the sizes of these."""
    sizes, write = list[int](), checkpoint_file.write_atomically

    def written(path: Any, content: bytes) -> None:
        write_atomically(path, content)
        sizes.append(len(content))
        if len(sizes) == at:
            raise KilledError

    monkeypatch.setattr(checkpoint_file, "write_atomically", written)
    monkeypatch.setattr("nnarray.training.checkpointing.Checkpoints.continue_from", real_resume(monkeypatch, write))
    return sizes


def real_resume(monkeypatch: pytest.MonkeyPatch, write: Any) -> Callable[..., None]:
    """A run that goes on dies no more."""
    resume = Checkpoints.continue_from

    def go_on(run: Any, path: str) -> None:
        monkeypatch.setattr(checkpoint_file, "write_atomically", write)
        resume(run, path)

    return go_on


def deaths(call: Callable[..., nn.TrainingResult], path: Path) -> Iterator[nn.TrainingResult]:
    """What a run ends with that died after its first checkpoint and was resumed; after its second; …"""
    chosen, count = range(1, 1000), math.inf
    if not ALL:
        with pytest.MonkeyPatch.context() as patch:
            sizes = killing(0, patch)
            call(checkpoint=path, checkpoint_every=0)
            count = len(sizes)
        chosen = sorted({1, 2, count // 2, count - 1, count} - {0})  # type: ignore[assignment]
    for at in chosen:
        path.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            killing(at, patch)
            try:
                call(checkpoint=path, checkpoint_every=0)
            except KilledError:
                yield call(checkpoint=path, checkpoint_every=0, resume=True)
            else:
                return


class TestTheSameBits:
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
    def test_after_whichever_checkpoint_it_dies(self, optimizer, options, tmp_path) -> None:
        def call(**further: Any) -> nn.TrainingResult:
            return train(optimizer=optimizer, **options, **further)

        whole = call()
        found = [same(one, whole) for one in deaths(call, tmp_path / "run")]
        assert len(found) >= 2  # a full batch makes many epochs in one call
        assert all(found)

    @pytest.mark.parametrize("options", [{"batch_size": 5}, {"batch_size": 7, "dropout": 0.3}, {}], ids=str)
    def test_on_every_namespace(self, space: Space, options, tmp_path) -> None:
        X_here, Y_here = space.asarray(X, "float64"), space.asarray(Y, "float64")

        def call(**further: Any) -> nn.TrainingResult:
            given = {"params": space.pairs(LAYERS, "float64"), "epochs": 3, "optimizer": nn.Adam(0.02)} | options
            return nn.train(NETWORK, X_here, Y_here, **given, **further)

        whole = call()
        for found in deaths(call, tmp_path / "run"):
            space.assert_same_place(found.params.vector, "float64")
            assert same(found, whole)

    def test_where_nobody_asks_for_a_seed(self, tmp_path) -> None:
        def call(**further: Any) -> nn.TrainingResult:
            return train(batch_size=5, dropout=0.2, seed=None, **further)

        for _ in range(3):
            (tmp_path / "run").unlink(missing_ok=True)
            with pytest.MonkeyPatch.context() as patch:
                killing(7, patch)
                with pytest.raises(KilledError):
                    call(checkpoint=tmp_path / "run", checkpoint_every=0)
            kept = (tmp_path / "run").read_bytes()
            one = call(checkpoint=tmp_path / "run", resume=True)
            (tmp_path / "run").write_bytes(kept)
            assert same(call(checkpoint=tmp_path / "run", resume=True), one)

    @pytest.mark.parametrize("capturing", ["before", "after"])
    def test_with_other_steps_it_is_the_same_run_to_rounding(self, capturing, tmp_path, monkeypatch) -> None:
        """A machine without compiled steps counts what those of another one kept."""
        path, whole = tmp_path / "run", train(batch_size=2, epochs=2)

        def plain() -> None:
            monkeypatch.setattr("nnarray.engine.compiled_steps", lambda *_, **__: None)

        with monkeypatch.context() as patch:
            if capturing == "after":
                patch.setattr("nnarray.engine.compiled_steps", lambda *_, **__: None)
            killing(4, patch)
            with pytest.raises(KilledError):
                train(batch_size=2, epochs=2, checkpoint=path, checkpoint_every=0)
        if capturing == "before":
            plain()
        found = train(batch_size=2, epochs=2, checkpoint=path, resume=True)
        np.testing.assert_allclose(found.params.vector, whole.params.vector, rtol=1e-12)
        assert found.history.columns()["cost"] == pytest.approx(whole.history.columns()["cost"], rel=1e-12)

    def test_a_run_that_went_on_from_a_state(self, tmp_path) -> None:
        first = train(epochs=2, batch_size=5)

        def call(**further: Any) -> nn.TrainingResult:
            return train(state=first.state, params=None, batch_size=5, **further)

        whole = call()
        assert [record.epoch for record in whole.history] == [3, 4, 5, 6, 7]
        assert all(same(one, whole) for one in deaths(call, tmp_path / "run"))

    def test_a_cost_and_a_rule_of_one_s_own(self, tmp_path) -> None:
        class Slow(nn.training.Optimizer):
            learning_rate, remembers = 0.05, ("v", "u")

            def step(self, theta: Any, v: Any, u: Any, *, g: Any, t: int, alpha: float, xp: Any) -> Any:
                v, u = 0.5 * v + xp.tanh(g), xp.maximum(u, xp.abs(g))
                return [theta - alpha * v / (1 + u), v, u]

        cost = nn.Cost(lambda Z, Y, xp: (Z - Y) ** 4, dZ=lambda Z, Y, xp: 4 * (Z - Y) ** 3)
        slow = Slow()

        def call(**further: Any) -> nn.TrainingResult:
            return train(cost=cost, optimizer=slow, batch_size=9, **further)

        whole = call()
        assert all(same(one, whole) for one in deaths(call, tmp_path / "run"))

    @pytest.mark.parametrize("further", [{}, {"validation": (X, Y), "patience": 30}], ids=["", "patience"])
    def test_a_stream_goes_on_from_the_end_of_an_epoch(self, further, tmp_path) -> None:
        batches, path = [(X[:, :8], Y[:, :8]), (X[:, 8:10], Y[:, 8:10]), (X[:, 10:], Y[:, 10:])], tmp_path / "run"
        options = {"params": LAYERS, "epochs": 4, "dropout": 0.2} | further
        whole = nn.train(NETWORK, batches, **options)

        def call(**further: Any) -> nn.TrainingResult:
            return nn.train(NETWORK, batches, **options, **further)

        assert all(same(one, whole) for one in deaths(call, path))
        epochs = []

        def interrupted() -> Iterator[Any]:
            epochs.append(len(epochs))
            for number, batch in enumerate(batches):
                if len(epochs) == 3 and number == 1:
                    raise KeyboardInterrupt
                yield batch

        path.unlink()
        broken = nn.train(NETWORK, interrupted, **options, checkpoint=path)
        assert (broken.stopped, len(broken.history)) == ("interrupt", 2)
        assert same(call(checkpoint=path, resume=True), whole)


class TestWhatIsAsked:
    def test_every_so_many_epochs(self, tmp_path, monkeypatch) -> None:
        for options in ({}, {"batch_size": 5}, {"callback": lambda _: None}):
            sizes = killing(0, monkeypatch)
            train(epochs=11, checkpoint=tmp_path / "run", checkpoint_every="4 epochs", **options)
            assert len(sizes) == 3, options  # 4, 8 and the last one
            (tmp_path / "run").unlink()
        sizes = killing(0, monkeypatch)
        train(epochs=6, checkpoint=tmp_path / "run", checkpoint_every="epoch")
        assert len(sizes) == 6

    def test_what_is_there_is_not_written_over_by_a_run_that_begins(self, tmp_path) -> None:
        """Nor by one that goes on from another file."""
        path, other = tmp_path / "run", tmp_path / "other"
        for one in (path, other):
            train(epochs=2, checkpoint=one)
        kept = path.read_bytes()
        for resume in (False, other, tmp_path / "missing"):
            with pytest.raises(FileExistsError, match="there already: resume=True goes on from it"):
                train(epochs=1, checkpoint=path, resume=resume)
        assert path.read_bytes() == kept
        os.link(path, tmp_path / "link")
        assert train(epochs=3, checkpoint=path, resume=tmp_path / "link").history[-1].epoch == 3

    @pytest.mark.parametrize("end", ["", "."])
    @pytest.mark.parametrize("resume", [False, True])
    def test_a_folder_s_path_is_no_file_s(self, end, resume, tmp_path) -> None:
        """It was, and what was there was not seen, and written over."""
        train(epochs=1, checkpoint=tmp_path / "run")
        kept = (tmp_path / "run").read_bytes()
        for write in (lambda path: train(checkpoint=path, resume=resume), lambda path: nn.save(path, NETWORK, LAYERS)):
            with pytest.raises(IsADirectoryError):
                write(os.path.join(tmp_path, "run", end))
        assert (tmp_path / "run").read_bytes() == kept

    def test_seconds_that_do_not_pass(self, tmp_path, monkeypatch) -> None:
        sizes = killing(0, monkeypatch)
        train(batch_size=1, checkpoint=str(tmp_path / "run"))
        assert len(sizes) == 1

    def test_without_a_checkpoint_nothing_is_listened_to(self, monkeypatch) -> None:
        seen = []
        handler = signal.getsignal(signal.SIGTERM)
        train(callback=lambda _: seen.append(signal.getsignal(signal.SIGTERM)))
        assert set(seen) == {handler}

    def test_one_takes_less_than_a_hundredth_of_30_seconds(self, tmp_path, monkeypatch) -> None:
        """Of a network whose theta takes 2.7 MB, with both of Adam's means beside it."""
        spent, write = list[float](), Checkpoints.write

        def timed(kept: Checkpoints) -> None:
            began = time.process_time()
            write(kept)
            spent.append(time.process_time() - began)

        monkeypatch.setattr(Checkpoints, "write", timed)
        rng = np.random.default_rng(0)
        network = nn.Network((784, 512, 512, 10), output="softmax")
        data = rng.normal(size=(784, 256)).astype("float32"), nn.one_hot(rng.integers(10, size=256), 10)
        nn.train(network, *data, epochs=2, batch_size=64, checkpoint=tmp_path / "run", checkpoint_every=0)
        assert len(spent) > 5
        assert float(np.median(spent)) < 0.01 * 30
        assert os.path.getsize(tmp_path / "run") < 3.1 * network.init().vector.nbytes

    def test_where_nothing_is_there_yet_it_begins(self, tmp_path) -> None:
        assert same(train(checkpoint=tmp_path / "run", resume=True), train())
        with pytest.raises(FileNotFoundError):
            train(resume=tmp_path / "other")

    def test_a_run_that_ended_is_given_back_and_goes_on_for_more_epochs(self, tmp_path) -> None:
        path, calls = tmp_path / "run", []
        whole = train(batch_size=5, checkpoint=path)
        again = train(batch_size=5, checkpoint=path, resume=True, callback=calls.append)
        assert same(again, whole)
        assert calls == []
        assert same(train(batch_size=5, epochs=8, resume=path), train(batch_size=5, epochs=8))
        assert same(train(batch_size=5, resume=path), whole), "a file that is gone on from alone is left as it is"

    def test_one_that_patience_ended_stays_so(self, tmp_path) -> None:
        options = {"epochs": 60, "patience": 2, "optimizer": nn.Momentum(12.0), "batch_size": 7}
        whole = train(**options, checkpoint=tmp_path / "run")
        assert whole.stopped == "patience"
        assert same(train(**options, checkpoint=tmp_path / "run", resume=True), whole)

    def test_one_that_a_callback_ended_goes_on(self, tmp_path) -> None:
        options = {"batch_size": 5, "checkpoint": tmp_path / "run"}
        first = train(**options, callback=lambda record: record.epoch == 2)
        assert (first.stopped, len(first.history)) == ("callback", 2)
        seen = []
        found = train(**options, resume=True, callback=lambda record: seen.append(record.epoch))
        assert same(found, train(batch_size=5))
        assert seen == [3, 4, 5]

    def test_seconds_go_on(self, tmp_path) -> None:
        first = train(batch_size=5, checkpoint=tmp_path / "run")
        seconds = train(batch_size=5, epochs=7, resume=tmp_path / "run").history.columns()["seconds"]
        assert seconds == sorted(seconds)
        assert seconds[:5] == first.history.columns()["seconds"]

    def test_a_file_that_can_no_longer_be_written_is_told(self, tmp_path, monkeypatch) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint_file, "write_atomically", full)
        with pytest.warns(RuntimeWarning, match=r"run cannot be written: No space left on device"):
            found = train(checkpoint=tmp_path / "run", checkpoint_every="2 epochs")
        assert same(found, train())

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"checkpoint": 3}, TypeError, "checkpoint must be a path, got int"),
            ({"resume": 3}, TypeError, "resume must be a path or a bool, got int"),
            ({"resume": True}, ValueError, "no checkpoint= is given"),
            ({"checkpoint": "{}/no/run"}, FileNotFoundError, "there is no folder"),
            ({"checkpoint": "{}"}, IsADirectoryError, "Is a directory"),
            ({"checkpoint": ""}, FileNotFoundError, "No such file"),
            ({"checkpoint": "/dev/null"}, OSError, "not a regular file"),
            ({"checkpoint": "{}/circle"}, OSError, "Too many levels of symbolic links"),
            ({"checkpoint": "{}/" + "x" * 300}, OSError, "name too long"),
            ({"checkpoint_every": -1}, ValueError, "checkpoint_every must be a finite number ≥ 0"),
            ({"checkpoint_every": math.nan}, ValueError, "checkpoint_every must be a finite number ≥ 0"),
            ({"checkpoint_every": "5"}, ValueError, "epochs in words such as \"5 epochs\", got '5'"),
            ({"checkpoint_every": "0 epochs"}, ValueError, "got '0 epochs'"),
            ({"checkpoint_every": None}, TypeError, "checkpoint_every must be a number, got None"),
        ],
    )
    def test_what_makes_no_sense(self, options, error, message, tmp_path) -> None:
        named = {key: value.format(tmp_path) if type(value) is str else value for key, value in options.items()}
        (tmp_path / "circle").symlink_to("circle")
        with pytest.raises(error, match=message):
            train(**named)

    def test_a_path_of_bytes(self, tmp_path) -> None:
        found = train(checkpoint=os.fsencode(tmp_path / "run"))
        assert same(found, train(resume=os.fsencode(tmp_path / "run")))
        assert os.listdir(tmp_path) == ["run"]


class TestAnotherRun:
    """A checkpoint of another run is refused, and the file stays."""

    OPTIONS = {"batch_size": 5, "patience": 9, "validation": (X[:, :9], Y[:, :9])}  # noqa: RUF012

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        train(**self.OPTIONS, checkpoint=tmp_path / "run")
        return tmp_path / "run"

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"optimizer": nn.Adam(0.03)}, "'learning_rate' is 0.02 there and 0.03 here"),
            ({"optimizer": nn.Adam(nn.schedules.Constant(0.02))}, "'learning_rate' is 0.02 there and 'Constant"),
            ({"optimizer": nn.Adam(lambda t: 0.02)}, "'learning_rate' is 0.02 there and "),
            ({"optimizer": nn.RMSprop(0.02)}, "'optimizer' is 'Adam' there and 'RMSprop' here"),
            ({"batch_size": 6}, "'batch_size' is 5 there and 6 here"),
            ({"batch_size": None}, "'batch_size' is 5 there and 23 here"),
            ({"l2": 0.1}, "'l2' is 0.0 there and 0.1 here"),
            ({"dropout": [0.0, 0.5]}, r"'dropout' is \[0.0, 0.0\] there and \[0.0, 0.5\] here"),
            ({"weights": np.ones(23)}, "'weights' is False there and True here"),
            ({"seed": 4}, "'seed' is 3 there and 4 here"),
            ({"patience": None}, "'patience' is 9 there and None here"),
            ({"min_delta": 0.5}, "'min_delta' is 0.0 there and 0.5 here"),
            ({"validation": None}, "'validation' is 9 there and None here"),
            ({"validation": (X, Y)}, "'validation' is 9 there and 23 here"),
            ({"params": [(W.astype("float32"), b.astype("float32")) for W, b in LAYERS]}, "'dtype' is 'float64' there"),
            ({"cost": nn.Cost(lambda Z, Y, xp: Z * Y, dZ=lambda Z, Y, xp: Y)}, "'cost' is None there"),
        ],
    )  # fmt: skip
    def test_of_other_options(self, options, told, path) -> None:
        kept = path.read_bytes()
        with pytest.raises(ValueError, match=f"checkpoint of another run: {told}") as caught:
            train(**self.OPTIONS | options, checkpoint=path, resume=True)
        assert type(caught.value) is ValueError
        assert path.read_bytes() == kept

    @pytest.mark.parametrize(
        ("network", "m", "told"),
        [
            (nn.Network((4, 6, 5, 2), hidden="tanh"), 23, "'hidden' is "),
            (nn.Network((4, 6, 6, 2), hidden=("tanh", "relu")), 23, "'sizes' is "),
            (nn.Network((4, 6, 5, 2), hidden=("tanh", "relu"), output="identity"), 23, "'output' is "),
            (nn.Network((4, 6, 5, 2), hidden=("tanh", "relu")), 22, r"'X' is \[4, 23\] there and \[4, 22\] here"),
        ],
    )
    def test_of_another_network_or_data(self, network, m, told, path) -> None:
        given = {"dtype": "float64", "seed": 3, "epochs": 5, "optimizer": nn.Adam(0.02)} | self.OPTIONS
        with pytest.raises(ValueError, match=f"checkpoint of another run: {told}"):
            nn.train(network, X[:, :m], Y[:, :m], **given, resume=path)

    @pytest.mark.parametrize("space", ["numpy", "strict", "torch", "jax", "cupy"], indirect=True)
    def test_of_other_examples(self, path, space) -> None:
        """And of the same ones, wherever they are."""
        given = {"dtype": "float64", "seed": 3, "epochs": 5, "optimizer": nn.Adam(0.02)} | self.OPTIONS
        given |= {"validation": tuple(space.asarray(V) for V in self.OPTIONS["validation"])}
        given["params"] = space.pairs(LAYERS)
        for x, y in ((X + 1e-9, Y), (X, np.roll(Y, 1, axis=1))):
            with pytest.raises(ValueError, match="X or Y are of this shape, and hold other numbers"):
                nn.train(NETWORK, space.asarray(x), space.asarray(y), **given, resume=path)
        assert len(nn.train(NETWORK, space.asarray(X), space.asarray(Y), **given, resume=path).history) == 5

    @pytest.mark.parametrize("kind", ["host", "dask", "ranks"])
    def test_of_other_weights_or_validation(self, kind, tmp_path) -> None:
        """Of the same shape."""
        weights, path = np.linspace(1, 2, X.shape[1]), tmp_path / "run"
        if kind == "dask":
            da = pytest.importorskip("dask.array")
        on = {"dask": lambda V: da.from_array(V, chunks=(-1, 4))}.get(kind, lambda V: V)

        def call(w: Any, x: Any, y: Any, **further: Any) -> Any:
            given = {"weights": w, "validation": (on(x), on(y)), "epochs": 2} | further
            if kind != "ranks":
                return nn.train(NETWORK, on(X), on(Y), **given)
            found = on_ranks(1, lambda comm: nn.train(NETWORK, X, Y, comm=comm, **given))[0]
            if isinstance(found, Exception):
                raise found
            return found

        call(weights, X, Y, checkpoint=path)
        changed = {
            "weights": (weights[::-1], X, Y),
            "X or Y of validation": (weights, np.roll(X, 1, axis=1), Y),
            "X or Y of validation ": (weights, X, 1 - Y),
        }
        for name, given in changed.items():
            with pytest.raises(ValueError, match=f"its {name.strip()} are of this shape, and hold other numbers"):
                call(*given, resume=path)
        assert len(call(weights, X, Y, resume=path, epochs=3).history) == 3


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()[ENTRY]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The ways to each part of a tree of objects."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else ():
        yield from leaves(value[key], (*at, key))


def changed(tree: Any, at: tuple[str, ...], value: Any) -> Any:
    key, *rest = at
    return tree | {key: changed(tree[key], tuple(rest), value) if rest else value}


class TestHostileFiles:
    OPTIONS = {"batch_size": 5, "patience": 9, "dropout": 0.2}  # noqa: RUF012

    @pytest.fixture(params=["within", "between"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            killing(10 if request.param == "within" else 0, patch)
            with contextlib.suppress(KilledError):
                self.train(checkpoint=tmp_path / "run", checkpoint_every=0)
        assert (parts(tmp_path / "run")[0]["within"] is not None) == (request.param == "within")
        return tmp_path / "run"

    def train(self, **further: Any) -> nn.TrainingResult:
        return train(**self.OPTIONS, epochs=4, optimizer=nn.Adam(0.02), **further)

    def refused(self, path: Path) -> None:
        with pytest.raises(nn.ModelFileError, match="is not a valid checkpoint") as caught:
            self.train(resume=path)
        assert len(str(caught.value)) < 1000
        assert str(caught.value).isprintable()

    def test_truncated_anywhere(self, path) -> None:
        content = path.read_bytes()
        for size in [*range(0, len(content), len(content) // 40), len(content) - 1]:
            path.write_bytes(content[:size])
            self.refused(path)

    def test_a_byte_of_another_value_anywhere(self, path) -> None:
        """In a tensor, it would be another number."""
        content = path.read_bytes()
        for place in range(0, len(content), 37):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            self.refused(path)

    def test_files_from_before_there_were_checksums(self, path) -> None:
        description, tensors = parts(path)
        description["run"] = {name: value for name, value in description["run"].items() if "checksum" not in name}
        save_file(tensors, path, metadata={ENTRY: json.dumps(description)})
        assert same(self.train(resume=path), self.train())

    @pytest.mark.parametrize(
        "content",
        [b"", b"\0" * 100, b"\xff" * 100, pickle.dumps({"theta": 1}), b"\x02\0\0\0\0\0\0\0{}", b"PK\3\4"],
        ids=["empty", "zeros", "ones", "pickle", "no entry", "zip"],
    )
    def test_never_a_checkpoint(self, content, tmp_path) -> None:
        (tmp_path / "run").write_bytes(content)
        self.refused(tmp_path / "run")

    def test_a_model_is_none(self, tmp_path) -> None:
        nn.save(tmp_path / "run", NETWORK, LAYERS)
        self.refused(tmp_path / "run")
        train(checkpoint=tmp_path / "other")
        with pytest.raises(nn.ModelFileError, match="it is a checkpoint, from which"):
            nn.load(tmp_path / "other")

    def test_a_pipe_is_not_waited_on(self, tmp_path) -> None:
        os.mkfifo(tmp_path / "run")
        self.refused(tmp_path / "run")

    def test_whatever_stands_in_its_description(self, path) -> None:
        """Each part is replaced by what is none: refused, or where it happens to be one, gone on from."""
        description, tensors = parts(path)
        wrong = [None, -1, 3, 2.5, 10**400, 2**200, True, "x", [], {}, [1], {"a": 1}, "\x1b[31m" * 50]
        seen = 0
        for at in leaves(description):
            for value in wrong:
                save_file(tensors, path, metadata={ENTRY: json.dumps(changed(description, at, value))})
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        self.train(resume=path)
                    except ValueError as error:
                        seen += 1
                        assert str(error).isprintable()  # noqa: PT017
                        assert type(error) is nn.ModelFileError or "of another run" in str(error)  # noqa: PT017
        assert seen > 200

    @pytest.mark.parametrize("text", ["{", "[]", "3", '{"format": NaN}', '{"format": 1, "format": 1}', "[" * 100_000])
    def test_what_is_no_such_json(self, text, path) -> None:
        save_file(parts(path)[1], path, metadata={ENTRY: text})
        self.refused(path)

    def test_keys_that_are_missing_or_unknown(self, path) -> None:
        description, tensors = parts(path)
        without = [{key: value for key, value in description.items() if key != name} for name in DESCRIPTION]
        other = [{"more": 1}, {"format": 2}, *[{"draws": draws} for draws in (3, [3], [{"now": {}, "best": None}], [])]]
        for wrong in (*without, *[description | one for one in other]):
            save_file(tensors, path, metadata={ENTRY: json.dumps(wrong)})
            self.refused(path)

    def test_whatever_tensors_it_has(self, path) -> None:
        description, tensors = parts(path)
        metadata = {ENTRY: json.dumps(description)}
        for name in (*TENSORS, "other"):
            kept = tensors.get(name)
            made = [np.zeros(0), np.zeros((2, 3)), np.zeros(7, "int64"), np.zeros(999, "float32"), np.zeros(3, "bool")]
            if kept is not None:
                save_file({key: V for key, V in tensors.items() if key != name}, path, metadata=metadata)
                self.refused(path)
                made += [kept[:-1], kept.astype("float16"), kept[None]]
            for wrong in made:
                if kept is not None and wrong.shape == kept.shape and wrong.dtype.kind == "f":
                    continue  # no costs, where there are none
                if kept is None and name.startswith("history.") and wrong.shape == (4,):
                    continue
                save_file(tensors | {name: wrong}, path, metadata=metadata)
                self.refused(path)
        for value in (np.nan, np.inf):
            theta = tensors["now.theta"].copy()
            theta[-1] = value
            save_file(tensors | {"now.theta": theta}, path, metadata=metadata)
            self.refused(path)


KILLED = """
import os, random, signal, sys, time
import numpy as np
import nnarray as nn
kind, rounds, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(1)
X = rng.normal(size=(12, 640)).astype("float32")
Y = (X[:1] * X[1:2] > 0).astype("float32")
network = nn.Network((12, 16, 8, 1))
schedule = nn.schedules.CosineWithWarmup(0.02, steps=800, warmup=20)
options = {
    "full batch": dict(epochs=800, optimizer=nn.Momentum(schedule)),
    "full batch with masks": dict(epochs=100, optimizer=nn.Adam(schedule), dropout=0.2),
    "mini-batches": dict(epochs=30, batch_size=24, optimizer=nn.Adam(schedule)),
    "mini-batches with masks": dict(epochs=6, batch_size=24, optimizer=nn.Momentum(schedule), dropout=[0.3, 0.1]),
    "patience": dict(epochs=40, batch_size=40, patience=40, validation=(X[:, ::3], Y[:, ::3])),
}[kind]
def train(**further):
    return nn.train(network, X, Y, progress=False, **options, **further)
def bits(result):
    vectors = [V.tobytes() for V in (result.params.vector, result.state.v, result.state.s) if V is not None]
    rows = [record._replace(seconds=0) for record in result.history]
    return vectors, rows, result.state.t, result.best_epoch, result.stopped
train()
began = time.perf_counter()
whole = bits(train())
alone = time.perf_counter() - began
draws, same, within = random.Random(int(sys.argv[4])), 0, 0
began = time.perf_counter()
train(checkpoint=path, checkpoint_every=0.002)
kept = time.perf_counter() - began
for _ in range(rounds):
    if os.path.exists(path):
        os.unlink(path)
    for resume in (False, True):  # killed once more after it went on
        child = os.fork()
        if not child:
            train(checkpoint=path, checkpoint_every=0.002, resume=resume)
            os._exit(0)
        time.sleep(draws.random() * kept * (0.5 if resume else 0.9))
        os.kill(child, signal.SIGKILL)
        within += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    same += bits(train(checkpoint=path, resume=True)) == whole
print(same, within > 0, len(os.listdir(os.path.dirname(path))))
"""

SIGNALLED = """
import os, signal, sys, threading
import numpy as np
import nnarray as nn
path, how, batch = sys.argv[1:4]
handled = []
if how == "exits":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
elif how == "is told":
    signal.signal(signal.SIGTERM, lambda *_: handled.append(1))
elif how == "ignores":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
rng = np.random.default_rng(1)
X = rng.normal(size=(12, 640)).astype("float32")
Y = (X[:1] * X[1:2] > 0).astype("float32")
network = nn.Network((12, 16, 8, 1))
before = signal.getsignal(signal.SIGTERM)
def train(epochs, **further):
    return nn.train(network, X, Y, epochs=epochs, dropout=0.1, batch_size=int(batch) or None, progress=False, **further)
def send():
    print("training", flush=True)
    os.kill(os.getpid(), signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM)
if how == "another thread":
    thread = threading.Thread(target=train, args=(20,), kwargs={"checkpoint": path})
    thread.start()
    thread.join()
    print(signal.getsignal(signal.SIGTERM) == before)
    sys.exit(0)
alarm = threading.Timer(0.2, send)
def is_over(record):
    if record.epoch == 1:
        alarm.start()
    return bool(handled) or (how == "ignores" and alarm.finished.is_set())
result = train(10**6, checkpoint=path, callback=is_over)
print(result.stopped, len(handled), signal.getsignal(signal.SIGTERM) == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
class TestSignals:
    @pytest.mark.parametrize(
        "kind", ["full batch", "full batch with masks", "mini-batches", "mini-batches with masks", "patience"]
    )
    def test_killed_at_random_moments(self, kind, tmp_path) -> None:
        rounds = 30 if ALL else 2
        done = run(KILLED, kind, str(rounds), str(tmp_path / "run"), "7")
        assert (done.stdout, done.stderr) == (f"{rounds} True 1\n", "")

    @pytest.mark.parametrize("batch", ["0", "40"])
    @pytest.mark.parametrize(
        ("how", "code", "out"),
        [
            ("dies", -signal.SIGTERM, "training\n"),
            ("exits", 143, "training\n"),
            ("is told", 0, "training\ncallback 1 True\n"),
            ("ignores", 0, "training\ncallback 0 True\n"),
            ("Ctrl-C", 0, "training\ninterrupt 0 True\n"),
            ("another thread", 0, "True\n"),
        ],
    )
    def test_it_is_kept_and_ends_as_it_would_without(self, how, code, out, batch, tmp_path) -> None:
        path = tmp_path / "run"
        done = run(SIGNALLED, str(path), how, batch)
        assert (done.returncode, done.stdout, done.stderr) == (code, out, "")
        rng = np.random.default_rng(1)
        X = rng.normal(size=(12, 640)).astype("float32")
        Y = (X[:1] * X[1:2] > 0).astype("float32")
        epoch = parts(path)[0]["now"]["epoch"]
        options: dict[str, Any] = {"batch_size": int(batch) or None, "dropout": 0.1, "epochs": epoch + 3}
        network = nn.Network((12, 16, 8, 1))
        assert same(nn.train(network, X, Y, **options, resume=path), nn.train(network, X, Y, **options))

    @pytest.mark.parametrize(
        "options",
        [
            {"batch_size": 6},
            {"batch_size": 6, "dropout": 0.3, "validation": (X, Y)},
            {"patience": 3},
            {"validation": (X, Y)},
            {"dropout": 0.2, "patience": 9},
        ],
        ids=["captured", "masks", "patience", "validation", "patience and masks"],
    )
    def test_an_interrupt_at_every_point(self, options, tmp_path) -> None:
        """Wherever Ctrl-C comes, the run goes on from its last checkpoint to the same bits, if it has one."""
        path, options = tmp_path / "run", {"epochs": 3, **options}
        whole = train(**options)

        def call() -> bool:
            return train(**options, checkpoint=path, checkpoint_every="2 epochs").stopped == "interrupt"

        def check() -> None:
            assert set(os.listdir(tmp_path)) <= {path.name}
            assert same(train(**options, checkpoint=path, resume=True), whole)
            path.unlink()

        call()
        path.unlink()
        count = points(call, opcodes=False)
        path.unlink()
        chosen = range(1, count + 1, 1 if ALL else max(1, count // 20))
        assert faults(call, act=interrupt, chosen=chosen, opcodes=False, check=check) == []


class TestShell:
    """The same command goes on where a killed one left a checkpoint, to the same model."""

    @pytest.fixture(autouse=True)
    def table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        x = np.random.default_rng(0).normal(size=(90, 3))
        lines = [f"{a:.4f},{b:.4f},{'yes' if a * b > 0 else 'no'}" for a, b, _ in x]
        Path("t.csv").write_text("\n".join(["a,b,kind", *lines]))

    def command(self, *words: str) -> int:
        return main(["train", "t.csv", "--epochs", "6", "--history", "h.csv", *words])

    def trained(self, model: str = "model.safetensors") -> tuple[bytes, list[list[str]]]:
        lines = [line.split(",") for line in Path("h.csv").read_text().splitlines()]
        seconds = lines[0].index("seconds")
        return nn.load(model)[1].vector.tobytes(), [line[:seconds] + line[seconds + 1 :] for line in lines]

    @pytest.mark.parametrize("resume", [("--checkpoint", "run"), ("--resume", "run")], ids=" ".join)
    @pytest.mark.parametrize("at", [1, 7, 17])
    def test_a_killed_run(self, at, resume, capsys, monkeypatch) -> None:
        assert self.command("--out", "whole") == 0
        whole = self.trained("whole")
        with monkeypatch.context() as patch:
            killing(at, patch)
            with pytest.raises(KilledError):
                self.command("--checkpoint", "run", "--checkpoint-every", "0")
        capsys.readouterr()
        assert self.command(*resume) == 0
        assert "in float32, from the checkpoint run on\n" in capsys.readouterr().out
        assert self.trained() == whole
        assert not os.path.exists("run")

    def test_an_interrupted_run_leaves_its_model_and_its_checkpoint(self, capsys, monkeypatch) -> None:
        assert self.command("--out", "whole") == 0
        whole = self.trained("whole")
        with monkeypatch.context() as patch:
            patch.setattr("nnarray.cli.watching.Watching.__call__", lambda *_: signal.raise_signal(signal.SIGTERM))
            assert self.command("--checkpoint", "run") == 143
        assert "the same command goes on from the checkpoint run\n" in capsys.readouterr().out
        assert self.command("--checkpoint", "run") == 0  # over the model of the interrupted one
        assert self.trained() == whole

    def test_without_a_file_it_begins_and_a_run_that_ended_leaves_none(self, monkeypatch) -> None:
        sizes = killing(0, monkeypatch)
        assert self.command("--checkpoint", "run", "--checkpoint-every", "2 epochs", "--json") == 0
        assert len(sizes) == 3
        assert not os.path.exists("run")

    def test_what_is_refused(self, capsys) -> None:
        Path("run").write_text("mine")
        assert self.command("--checkpoint", "run") == 2
        assert "run is not a valid checkpoint" in capsys.readouterr().err
        assert Path("run").read_text() == "mine"
        assert self.command("--checkpoint", "no/run") == 2
        assert "--checkpoint no/run: there is no folder" in capsys.readouterr().err
        assert self.command("--checkpoint", "r", "--checkpoint-every", "soon") == 2
        assert "must be a number of seconds ≥ 0, or epochs such as" in capsys.readouterr().err

    def test_the_model_s_own_file_is_no_place_for_it(self, capsys) -> None:
        """A run that ends removes its checkpoint, and with it the model."""
        assert self.command("--out", "model", "--checkpoint", "./model") == 2
        assert "--checkpoint ./model would be written over --out" in capsys.readouterr().err

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX pipes")
    def test_a_pipe_is_not_waited_on(self, capsys) -> None:
        os.mkfifo("pipe")
        assert self.command("--resume", "pipe") == 2
        assert "pipe is not a valid model file: it is not a regular file" in capsys.readouterr().err

    def test_other_options(self, capsys, monkeypatch) -> None:
        killing(3, monkeypatch)
        with pytest.raises(KilledError):
            self.command("--checkpoint", "run", "--checkpoint-every", "0")
        assert self.command("--checkpoint", "run", "--hidden", "3") == 2
        assert "run is a checkpoint of another run: 'sizes' is [2, 64, 1] there" in capsys.readouterr().err
