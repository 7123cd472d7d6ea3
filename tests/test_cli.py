"""The command line, as a person meets it."""

import ast
import bz2
import contextlib
import csv
import gzip
import importlib.util
import io
import json
import lzma
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import nnarray as nn
from nnarray import starting, training
from nnarray.backends import atomic
from nnarray.cli import check as checking
from nnarray.cli import main
from nnarray.cli.columns import standardisation
from nnarray.cli.descent import OPTIMIZERS, SCHEDULES, STAIRCASES
from nnarray.cli.preparation import split
from nnarray.cli.targets import understand
from nnarray.files import read_model, save

pytestmark = pytest.mark.usefixtures("here")

QUICK = ["--epochs", "3", "--hidden", "8"]


@pytest.fixture
def run(run):
    """Run a command, which may overwrite a model."""
    return lambda *words: run(*words, *(["--force"] if words and words[0] == "train" else []))


def start(command, function=subprocess.run, env_extra=None, **options):
    """Run a command in a process of its own, which finds the same nnarray as this one."""
    environment = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parents[1])} | (env_extra or {})
    return function(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def flowers(m=120, seed=0):
    """Rows of (id, length, width, kind), where length and width say the kind, on scales far from 0 and 1."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(3, size=m)
    length, width = 1000 + 20.0 * kinds + rng.normal(size=m), 0.01 * (kinds % 2) + 0.001 * rng.normal(size=m)
    names = np.array(["grün", "red", "blue, pale"])
    return [(f"no {k}", length[k], width[k], names[kinds[k]]) for k in range(m)]


def houses(m=150, seed=0):
    """Rows of (area, rooms, price)."""
    rng = np.random.default_rng(seed)
    area, rooms = rng.uniform(50, 250, size=m), rng.integers(1, 8, size=m)
    price = 2e5 + 1500 * area + 1e4 * rooms + 3000 * rng.normal(size=m)
    return list(zip(area, rooms, price, strict=True))


@pytest.fixture
def flowers_csv(here):
    return write_csv(here / "flowers.csv", ["id", "length", "width", "kind"], flowers())


@pytest.fixture
def houses_csv(here):
    return write_csv(here / "houses.csv", ["area", "rooms", "price"], houses())


def rows_of(text):
    return list(csv.reader(text.splitlines()))


class TestRoundTrips:
    def test_classes_by_name(self, run, flowers_csv, here):
        code, out, err = run("train", flowers_csv, "--drop", "id", "--epochs", 40)
        assert (code, err) == (0, "")
        assert "120 examples, 2 features; the target 'kind' has 3 classes ('blue, pale', 'grün', 'red')\n" in out
        assert "72 to train on, 24 for validation (early stopping), 24 held out" in out
        assert float(re.search(r"accuracy ([\d.]+)", out)[1]) > 0.9

        model = read_model("model.safetensors")
        assert model.metadata["classes"] == ["blue, pale", "grün", "red"]
        assert model.metadata["features"] == ["length", "width"]
        A = model.predict({name: [row[k] for row in flowers()] for k, name in ((1, "length"), (2, "width"))})

        code, out, err = run("predict", "model.safetensors", flowers_csv)
        header, *rows = rows_of(out)
        assert (code, err, header) == (0, "", ["prediction", "probability"])
        assert [row[0] for row in rows] == [model.metadata["classes"][k] for k in A.argmax(axis=0)]
        np.testing.assert_allclose([float(row[1]) for row in rows], A.max(axis=0), rtol=1e-6)

        code, out, err = run("evaluate", "model.safetensors", flowers_csv)
        right = sum(row[0] == kind for row, (*_, kind) in zip(rows, flowers(), strict=True))
        assert (code, err) == (0, "")
        assert f"({right} of 120 right), on 120 examples" in out
        assert re.search(r"blue, pale +[\d.]+ +[\d.]+ +[\d.]+ +\d+", out)

    def test_columns_are_matched_by_name(self, run, flowers_csv, here):
        run("train", flowers_csv, "--drop", "id", *QUICK)
        other = [(width, kind, length) for _, length, width, kind in flowers()]
        write_csv(here / "other.csv", ["width", "kind", "length"], other)
        assert run("predict", "model.safetensors", "other.csv") == run("predict", "model.safetensors", flowers_csv)
        assert run("evaluate", "model.safetensors", "other.csv") == run("evaluate", "model.safetensors", flowers_csv)

    def test_real_numbers(self, run, houses_csv, here):
        code, out, err = run("train", houses_csv, "--out", "houses.safetensors")
        assert (code, err) == (0, "")
        assert "the target 'price' is real numbers from" in out
        assert float(re.search(r"R² ([\d.]+)", out)[1]) > 0.9
        _, out, _ = run("predict", "houses.safetensors", houses_csv, "--out", "p.csv")
        assert out == "150 predictions written to p.csv\n"
        header, *rows = rows_of((here / "p.csv").read_text())
        said, true = np.array(rows, dtype=float)[:, 0], np.array(houses())[:, 2]
        _, out, _ = run("evaluate", "houses.safetensors", houses_csv)
        r2 = 1 - np.sum((said - true) ** 2) / np.sum((true - true.mean()) ** 2)
        assert header == ["prediction"]
        rmse, mae = np.sqrt(np.mean((said - true) ** 2)), np.mean(np.abs(said - true))
        assert out.startswith(f"R² {r2:.4f}, RMSE {rmse:.6g}, on 150 examples\n")
        assert f"\nMAE {mae:.6g}; the mean " in out

    @pytest.mark.parametrize("kind", ["npz", "npy"])
    def test_arrays(self, run, here, kind):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(100, 3)).astype("float32")
        y = X[:, 0] > 0
        np.savez("data.npz", X=X, y=y)
        np.save("X.npy", X)
        np.save("y.npy", y)
        data = ["data.npz"] if kind == "npz" else ["X.npy", "y.npy"]
        code, out, _ = run("train", *data, "--epochs", 60)
        assert code == 0
        assert "the target has 2 classes (False, True)\n" in out
        assert read_model("model.safetensors").network.output == "sigmoid"
        _, out, _ = run("evaluate", "model.safetensors", *data)
        right = int(re.search(r"\((\d+) of 100 right\)", out)[1])
        _, out, _ = run("predict", "model.safetensors", data[0])
        said = np.array([row[0] == "True" for row in rows_of(out)[1:]])
        assert right == np.sum(said == y) > 80
        assert all(0.5 <= float(row[1]) <= 1 for row in rows_of(out)[1:])

    def test_a_model_made_in_python(self, run, here):
        network = nn.Network((3, 2), output="identity")
        save("m", network, network.init())
        np.save("X.npy", np.ones((4, 3)))
        code, out, _ = run("predict", "m", "X.npy")
        assert (code, out.splitlines()[0], len(out.splitlines())) == (0, "prediction 1,prediction 2", 5)

    @pytest.mark.parametrize("name", ["iris", "diabetes"])
    def test_bundled_sets(self, run, name):
        pytest.importorskip("sklearn")
        assert run("train", name, *QUICK)[0] == 0
        assert run("evaluate", "model.safetensors", name)[0] == 0
        assert run("predict", "model.safetensors", name)[0] == 0

    def test_the_same_command_gives_the_same_file(self, run, flowers_csv, here):
        run("train", flowers_csv, "--drop", "id", *QUICK, "--out", "a")
        run("train", flowers_csv, "--drop", "id", *QUICK, "--out", "b")
        run("train", flowers_csv, "--drop", "id", *QUICK, "--out", "c", "--seed", 1)
        assert (here / "a").read_bytes() == (here / "b").read_bytes() != (here / "c").read_bytes()


class TestDefaults:
    """With no option but the name, on real data."""

    @pytest.mark.parametrize(
        ("name", "figure", "least"),
        [("digits", "accuracy", 0.96), ("breast_cancer", "accuracy", 0.95), ("diabetes", "R²", 0.35)],
    )
    def test_held_out_results(self, run, name, figure, least):
        pytest.importorskip("sklearn")
        code, out, err = run("train", name, "--quiet")
        assert (code, err, out.count("\n")) == (0, "", 1)
        assert float(re.search(rf"{figure} ([\d.]+)", out)[1]) >= least


class TestOptions:
    @pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
    @pytest.mark.parametrize("schedule", list(SCHEDULES))
    def test_every_optimizer_with_every_schedule(self, run, houses_csv, optimizer, schedule):
        code, _, err = run("train", houses_csv, *QUICK, "--optimizer", optimizer, "--schedule", schedule)
        assert (code, err) == (0, "")

    @pytest.mark.parametrize(
        ("schedule", "rate"),
        [
            ("inverse-time", lambda epoch: 0.1 / (1 + 9 * epoch / 4)),
            ("inverse-sqrt", lambda epoch: 0.1 / (epoch + 1) ** 0.5),
            ("exponential", lambda epoch: 0.1 * 0.01 ** (epoch / 4)),
        ],
    )
    def test_a_staircase_is_constant_within_an_epoch(self, schedule, rate):
        stairs = STAIRCASES[schedule](0.1, 7, 28)
        expected = [rate(t // 7) for t in range(28)]
        np.testing.assert_allclose([stairs(t) for t in range(28)], expected, rtol=1e-14)
        smooth = SCHEDULES[schedule](0.1, 7, 28)
        assert len({smooth(t) for t in range(28)}) == 28

    def test_the_staircase_is_kept_with_the_model(self, run, houses_csv):
        options = [*QUICK, "--schedule", "inverse-sqrt", "--staircase", "--out", "m.safetensors"]
        assert run("train", houses_csv, *options)[::2] == (0, "")
        settings = read_model("m.safetensors", "numpy").metadata["training"]["settings"]
        assert (settings["schedule"], settings["staircase"]) == ("inverse-sqrt", True)

    @pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
    def test_no_staircase_of_a_schedule_without_one(self, run, houses_csv, schedule):
        code, _, err = run("train", houses_csv, "--schedule", schedule, "--staircase")
        assert code == 2
        assert f"--staircase goes with --schedule inverse-time, inverse-sqrt, exponential, not with {schedule}" in err

    @pytest.mark.parametrize(
        "options",
        [
            ["--hidden", "none"],
            ["--hidden", "6,4", "--activation", "tanh,sigmoid"],
            ["--validation", "0"],
            ["--test", "0"],
            ["--patience", "0"],
            ["--dtype", "float64"],
            ["--batch-size", "100000"],
            ["--output", "exp"],
            ["--average", "0.9"],
            ["--scheme", "lecun", "--input-dropout", "0.1"],
            ["--hidden", "none", "--input-dropout", "0.3", "--l1", "0.01"],
            ["--scheme", "xavier", "--l2", "0", "--dropout", "0", "--workers", "1", "--learning-rate", "1e-4"],
        ],
        ids=" ".join,
    )
    def test_others(self, run, houses_csv, options):
        write_csv("counts.csv", ["x", "count"], [(k, k // 10) for k in range(100)])
        data = "counts.csv" if "exp" in options else houses_csv
        code, out, err = run("train", data, *QUICK, *options)
        assert (code, err) == (0, "")
        assert ("Poisson loss without its constant log Y!" in out) == ("exp" in options)
        assert ("(early stopping)" in out) == (options not in (["--validation", "0"], ["--patience", "0"]))
        assert re.search(r"\(training cost \S+ with penalty and dropout", out)
        assert (", validation cost " in out) == (options != ["--validation", "0"])
        assert run("evaluate", "model.safetensors", data)[0] == 0

    @pytest.mark.parametrize("name", [n for n in nn.backends.BACKENDS if nn.backends.unavailable_reason(n) is None])
    def test_backends(self, run, houses_csv, name):
        code, out, err = run("train", houses_csv, "--epochs", 1, "--batch-size", 1000, "--backend", name)
        assert (code, err) == (0, "")
        assert f"training on {name}" in out
        assert run("evaluate", "model.safetensors", houses_csv, "--backend", name)[0] == 0

    def test_softmax_for_two_classes(self, run, here):
        write_csv("two.csv", ["x", "y"], [(k, "ab"[k % 2]) for k in range(50)])
        run("train", "two.csv", *QUICK, "--output", "softmax")
        assert read_model("model.safetensors").network.sizes == (1, 8, 2)

    def test_whole_numbers_taken_for_classes_are_told(self, run, here):
        write_csv("ratings.csv", ["x", "seen", "stars"], [(k, 1, k % 5) for k in range(50)])
        _, out, _ = run("train", "ratings.csv", *QUICK)
        told = "2 features (1 of them constant in the training part, ignored: 'seen')"
        stars = "the target 'stars' has 5 classes (0, 1, 2, 3, 4)"
        assert f"{told}; {stars} (--output identity to treat it as a number)\n" in out
        assert f"{stars}\n" in run("train", "ratings.csv", *QUICK, "--output", "softmax")[1]
        assert "'stars' is real numbers from 0 to 4\n" in run("train", "ratings.csv", *QUICK, "--output", "identity")[1]

    def test_plot(self, run, houses_csv, here):
        pytest.importorskip("matplotlib")
        code, out, _ = run("train", houses_csv, *QUICK, "--plot", "curve.png")
        assert code == 0
        assert "curve written to curve.png" in out
        assert (here / "curve.png").read_bytes().startswith(b"\x89PNG")

    def test_quiet_prints_the_result_alone(self, run, houses_csv):
        code, out, err = run("train", houses_csv, *QUICK, "--quiet")
        assert (code, err) == (0, "")
        assert re.fullmatch(r"R² .* on 30 held-out examples that training never saw\n", out)

    def test_help_and_version(self, run):
        code, out, err = run("--version")
        assert (code, out, err) == (0, f"nnarray {nn.__version__}\n", "")
        for words in ([], ["train"], ["predict"], ["evaluate"], ["check"], ["info"]):
            code, out, err = run(*words, "--help")
            assert (code, err) == (0, "")
            assert max(map(len, out.splitlines())) <= 100
            assert ("LABELS" in out) == (words in (["train"], ["evaluate"]))

    @pytest.mark.parametrize("width", [80, 40])
    @pytest.mark.parametrize("command", ["", "train", "predict", "evaluate", "export", "check", "info"])
    def test_help_is_as_wide_as_the_terminal(self, run, monkeypatch, command, width):
        monkeypatch.setenv("COLUMNS", str(width))
        code, out, _ = run(*command.split(), "--help")
        lines = out.splitlines()
        assert code == 0
        assert lines[0].startswith("usage: nnarray")
        assert max(map(len, lines)) <= width
        if command in {"train", "predict", "evaluate"}:
            assert max(len(line) for line in lines if line.startswith("  ")) > width - 10  # and no narrower

    def test_no_words_get_the_help(self, run):
        assert run() == (2, "", run("--help")[1])


BAD_FILES = {
    "model.bad": b"\0" * 100,
    "empty.csv": b"",
    "header.csv": b"a,b\n",
    "ragged.csv": b"a,b\n1,2\n1,2,3\n",
    "semicolons.csv": b"a;b;y\n1;2;0\n",
    "commas.csv": b"a;b;y\n1,5;2;0\n",
    "tabs.csv": b"a\tb\ty\n1\t2\t0\n",
    "mostly.csv": b"a,b\n" + b"".join(b"1,%d\n" % (k // 3) for k in range(300)),
    "twice.csv": b"a,a\n1,2\n",
    "nameless.csv": b"a,,c\n1,2,3\n",
    "headless.csv": b"1,2\n3,4\n",
    "bytes.csv": b"a,b\n\xff\xfe,1\n",
    "word.csv": b"a,b\n1,0\n2,1\n?,0\n4,1\n",
    "hole.csv": b"a,b\n1,0\n2,1\n,0\n",
    "nan.csv": b"a,b\n1,0\nnan,1\n",
    "inf.csv": b"a,b\n1,0\n1e999,1\n",
    "target_hole.csv": b"a,b\n1,0\n2,\n",
    "town.csv": b"town,b\nUlm,0\nJena,1\nUlm,0\n",
    "lonely.csv": b"b\n1\n2\n",
    "one_class.csv": b"a,b\n" + b"1,x\n" * 20,
    "many_classes.csv": b"a,b\n" + b"".join(b"1,x%d\n" % k for k in range(20)),
    "few.csv": b"a,b\n1,x\n2,x\n1,y\n2,y\n",
    "fine.csv": b"a,b\n" + b"1,0\n2,1\n" * 30,
    "three.csv": b"a,b\n" + b"1,0\n2,1\n3,2\n" * 30,
    "negative.csv": b"a,b\n" + b"1,-1.5\n2,3\n" * 30,
    "real.csv": b"a,b\n" + b"".join(b"%d,%d.25\n" % (k % 7, k) for k in range(60)),
    "huge.csv": b"a,b\n" + b"1e308,0.5\n-1e308,1.25\n" * 30,
    "other.csv": b"x,y,z\n1,0.5,1\n",
    "labels.csv": b"a,b\n1,0\n2,7\n",
    "text.txt": b"a",
    "bad.npz": b"PK\x03\x04",
    "bad.npy": b"\x93NUMPY",
    "pickle.npy": b"\x80\x04\x95.",
}

BAD_COMMANDS = [
    ("fly", "invalid choice: 'fly'"),
    ("train", "required: DATA (see nnarray train --help)"),
    (
        "train fine.csv --speed 3",
        "unrecognized arguments: --speed 3 (did you mean '--seed'?) (see nnarray train --help)",
    ),
    ("train fine.csv --epochs 0", "argument --epochs: must be a whole number ≥ 1, got '0'"),
    ("train fine.csv --epochs many", "got 'many'"),
    ("train fine.csv --hidden 3,x", "argument --hidden: must be a whole number ≥ 1, got 'x'"),
    ("train fine.csv --activation swish", "'swish' is none of"),
    ("train fine.csv --activation relu,tanh", "--activation names 2 activations for 1 hidden layers"),
    ("train fine.csv --learning-rate -1", "must be a number > 0, got '-1'"),
    ("train fine.csv --learning-rate nan", "must be a number > 0, got 'nan'"),
    ("train fine.csv --dropout 1", "must be a number ≥ 0 and < 1, got '1'"),
    ("train fine.csv --optimizer sgd", "invalid choice: 'sgd'"),
    ("train fine.csv --backend tpu", "invalid choice: 'tpu'"),
    ("train fine.csv --precision float8", "invalid choice: 'float8'"),
    (
        "train fine.csv --backend numpy --precision tf32",
        'precision="tf32" is for the backend "cupy", got the backend "numpy"',
    ),
    ("train fine.csv --validation 0.6 --test 0.5", "leave nothing to train on"),
    ("train fine.csv --target c", "fine.csv has no column 'c'; its columns are 'a', 'b'"),
    ("train fine.csv --drop c", "fine.csv has no column 'c'"),
    ("train fine.csv --out no/model", "--out no/model: there is no folder 'no'"),
    ("train fine.csv --out fine.csv", "--out fine.csv would be written over DATA, which is the same file"),
    ("train x.npy y.npy --out ./y.npy", "--out ./y.npy would be written over LABELS"),
    ("train fine.csv --validation other.csv --history other.csv", "--history other.csv would be written over --valid"),
    ("train fine.csv --out m --plot m", "--plot m would be written over --out"),
    ("predict good fine.csv --out fine.csv", "--out fine.csv would be written over DATA"),
    ("predict good fine.csv --out good", "--out good would be written over MODEL"),
    ("evaluate good fine.csv --plot fine.csv", "--plot fine.csv would be written over DATA"),
    ("train fine.csv --plot no/curve.png", "--plot no/curve.png: there is no folder 'no'"),
    ("train fine.csv --plot curve.xyz", "--plot curve.xyz: the name must end in one of"),
    ("train fine.csv --out .", "this is a folder"),
    ("train fine.csv --out new/", "this is a folder"),
    ("train missing.csv", "missing.csv: No such file or directory"),
    ("train missing.npz", "missing.npz: No such file or directory"),
    ("train text.txt", "text.txt has no rows below its header"),
    (
        "train irs",
        "irs is neither a file nor one of digits, breast_cancer, diabetes, iris, wine (did you mean 'iris'?)",
    ),
    ("train empty.csv", "empty.csv needs a first line"),
    ("train header.csv", "header.csv has no rows below its header"),
    ("train ragged.csv", "ragged.csv, line 3: the row has 3 cells, the header has 2"),
    ("train semicolons.csv --sep ,", "no column besides the target 'a;b;y'"),
    ("train commas.csv --sep ,", "commas.csv, line 2: the row has 2 cells, the header has 1"),
    ("predict good semicolons.csv --sep ,", "no column 'a'; its columns are 'a;b;y'"),
    ("train mostly.csv --output softmax", "100 different values in 300 rows: too many to be classes, which need 4"),
    ("train mostly.csv --output sigmoid", "too many to be classes, which need 4 rows each on average; use identity"),
    ("train fine.csv y.npy", "fine.csv takes no second file, got y.npy"),
    ("train twice.csv", "two columns called 'a'"),
    ("train nameless.csv", "needs a first line with a name for every column"),
    ("train headless.csv", "needs a first line with the names of its columns, got '1', '2': say --no-header"),
    ("train bytes.csv", "bytes.csv cannot be read as text in UTF-8 (byte 0xff): say what it is with --encoding"),
    ("train word.csv", "word.csv, row 3 (line 4), column 'a': '?' is not a finite number"),
    ("train hole.csv --missing refuse", "row 3 (line 4), column 'a': the empty cell"),
    ("train nan.csv --missing refuse", "row 2 (line 3), column 'a': 'nan'"),
    ("train inf.csv", "inf.csv, row 2 (line 3), column 'a': '1e999' is not a finite number"),
    ("train target_hole.csv", "target_hole.csv, row 2 (line 3), column 'b': the empty cell is a missing target"),
    ("train town.csv", "3 examples are too few"),
    ("train lonely.csv", "no column besides the target 'b'"),
    ("train one_class.csv", "the target is 'x' in every row"),
    ("train many_classes.csv", "20 different values in 20 rows: too many to be classes"),
    ("train few.csv", "4 examples are too few"),
    ("train town.csv --drop town", "no column besides the target"),
    ("train one_class.csv --output identity", "needs a target of numbers, this one holds text such as 'x'"),
    ("train three.csv --output sigmoid", "'sigmoid' tells two classes apart, the target has 3"),
    ("train negative.csv --output exp", "'exp' models counts, and the target holds -1.5"),
    ("train real.csv --output softmax", "too many to be classes, which need 4 rows each on average; use identity"),
    ("train huge.csv", "the numbers of column 'a' are too large"),
    ("train bad.npz", "bad.npz cannot be read as NumPy arrays"),
    ("train bad.npy bad.npy", "bad.npy cannot be read as NumPy arrays"),
    ("train pickle.npy pickle.npy", "pickle.npy cannot be read as NumPy arrays"),
    ("train object.npz", "object.npz cannot be read as NumPy arrays"),
    ("train x.npy", "the labels to x.npy are missing"),
    ("train x.npy x.npy", "x.npy: y must be 6 numbers or texts, one per row of X, got shape (6, 2)"),
    ("train only_x.npz", "only_x.npz must hold arrays X and y, y is missing; it holds 'X'"),
    ("train nan.npz", "nan.npz: X must be finite, got nan in row 1, column 0"),
    ("train flat.npz", "flat.npz: X must be a table of numbers, one example per row, got shape (6,)"),
    ("train x.npy y.npy --target b", "--target is for tables of named columns"),
    ("predict missing fine.csv", "missing: No such file or directory"),
    ("predict fine.csv m.safetensors", "the order is MODEL DATA"),
    ("evaluate fine.csv m.safetensors", "the order is MODEL DATA"),
    ("predict good fine.csv --drop a", "the model needs the column 'a'"),
    ("evaluate good fine.csv --drop a", "the model needs the column 'a'"),
    ("predict good x.npy y.npy", "unrecognized arguments: y.npy"),
    ("predict . fine.csv", ".: Is a directory"),
    ("predict model.bad fine.csv", "model.bad is not a valid model file"),
    ("predict good other.csv", "other.csv has no column 'a'; its columns are 'x', 'y', 'z'"),
    ("predict good wide.npz", "wide.npz has 5 feature columns, good takes 1"),
    ("evaluate good labels.csv", "labels.csv, row 2 (line 3), column 'b': '7' is none of the model's classes: 0, 1"),
    ("evaluate good other.csv", "other.csv has no column 'a', 'b'"),
    ("predict good fine.csv --out no/p.csv", "--out no/p.csv: there is no folder 'no'"),
]


@pytest.fixture
def bad_files(here):
    for name, content in BAD_FILES.items():
        (here / name).write_bytes(content)
    np.save("x.npy", np.ones((6, 2)))
    np.save("y.npy", np.ones(6))
    np.savez("only_x.npz", X=np.ones((6, 2)))
    np.savez("wide.npz", X=np.ones((6, 5)))
    np.savez("nan.npz", X=[[1.0], [np.nan]], y=[0, 1])
    np.savez("flat.npz", X=np.ones(6), y=np.ones(6))
    np.savez("object.npz", X=np.array([[1], [None]], dtype=object), y=[0, 1])
    network = nn.Network((1, 1))
    save("good", network, network.init(), metadata={"features": ["a"], "target": "b", "classes": [0, 1]})


class TestMistakes:
    @pytest.mark.parametrize(("words", "said"), BAD_COMMANDS, ids=[words for words, _ in BAD_COMMANDS])
    @pytest.mark.usefixtures("bad_files")
    def test_are_told_in_one_line(self, run, words, said):
        code, _, err = run(*words.split())
        assert code == 2
        assert err.startswith("nnarray: error: ")
        assert said in err
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert not os.path.exists("model.safetensors")

    def test_an_unavailable_backend(self, run, houses_csv):
        missing = [name for name in nn.backends.BACKENDS if nn.backends.unavailable_reason(name)]
        if not missing:
            pytest.skip("every backend works here")
        for words in (["train", houses_csv], ["predict", "m", houses_csv]):
            code, _, err = run(*words, "--backend", missing[0])
            assert code == 2
            assert err.startswith(f'nnarray: error: the backend "{missing[0]}" cannot run here: ')
            assert err.count("\n") == 1

    def test_a_wrong_backend_in_the_environment(self, run, houses_csv, monkeypatch):
        monkeypatch.setenv("NNARRAY_BACKEND", "abacus")
        code, _, err = run("train", houses_csv)
        assert (code, err.count("\n")) == (2, 1)
        assert "abacus" in err

    def test_divergence(self, run, houses_csv, here):
        options = ["--optimizer", "gradient-descent", "--learning-rate", "1e30", "--schedule", "constant"]
        code, _, err = run("train", houses_csv, *options)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith("nnarray: error: training diverged in epoch 1")
        assert not (here / "model.safetensors").exists()

    @pytest.mark.parametrize(
        ("module", "words"), [("sklearn", "train iris"), ("matplotlib", "train f.csv --plot c.png")]
    )
    def test_a_missing_extra_is_named(self, run, monkeypatch, module, words):
        write_csv("f.csv", ["a", "b"], [(1, 0), (2, 1)] * 20)
        monkeypatch.setitem(sys.modules, module, None)
        code, _, err = run(*words.split())
        package = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}[module]
        assert (code, err.count("\n")) == (2, 1)
        assert f"pip install {package} " in err

    def test_a_full_disk(self, run, houses_csv, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        code, _, err = run("train", houses_csv, *QUICK)
        assert (code, err) == (2, "nnarray: error: model.safetensors: No space left on device\n")


LONG, DEEP = "x" * 5000, "d/" * 1000 + "d"


class TestPlaces:
    def test_a_model_that_is_there_is_kept_unless_told(self, run, houses_csv, here, capsys):
        run("train", houses_csv, *QUICK)
        before = (here / "model.safetensors").read_bytes()
        assert main(["train", str(houses_csv), *QUICK, "--seed", "1"]) == 2
        assert "model.safetensors is there already: --force overwrites it" in capsys.readouterr().err
        assert (here / "model.safetensors").read_bytes() == before
        assert main(["train", str(houses_csv), *QUICK, "--seed", "1", "--out", "model.safetensors"]) == 0
        assert (here / "model.safetensors").read_bytes() != before

    def test_a_model_that_cannot_be_written_is_written_beside(self, run, houses_csv, here, monkeypatch):
        from nnarray.cli import train

        def refuse(path, *rest, **metadata):
            if "nnarray-" not in os.path.basename(path):
                raise OSError(28, "No space left on device", ".nnarray-12.tmp")
            save(path, *rest, **metadata)

        monkeypatch.setattr(train, "save", refuse)
        code, out, err = run("train", houses_csv, *QUICK, "--out", "mine", "--json")
        assert code == 0
        place = re.search(r"mine cannot be written \(No space left on device\); written to (\S+) in its place", err)[1]
        assert json.loads(out)["model"] == place
        assert read_model(place).network.sizes == (2, 8, 1)

    def test_nor_are_predictions_lost(self, run, houses_csv, here, monkeypatch):
        from nnarray.cli import apply

        def refuse(path, content):
            if "nnarray-" not in os.path.basename(path):
                raise OSError(28, "No space left on device", path)
            Path(path).write_bytes(content)

        run("train", houses_csv, *QUICK)
        monkeypatch.setattr(apply, "write_atomically", refuse)
        code, out, err = run("predict", "model.safetensors", houses_csv, "--out", "mine.csv")
        assert code == 0
        place = re.search(r"written to (\S+) in its place", err)[1]
        assert f"predictions written to {place}\n" in out
        assert len(Path(place).read_text().splitlines()) == len(houses_csv.read_text().splitlines())

    def test_nor_are_the_other_results(self, run, houses_csv, here, monkeypatch):
        """A picture without room took the history and the split with it; a long name had no room for more in front."""

        def refuse(path, content):
            if os.path.dirname(path) == str(folder):
                raise OSError(28, "No space left on device", path)
            write(path, content)

        folder, long, write = here / "full", "日" * 83, atomic.write_atomically
        folder.mkdir()
        for module in ("files.model", "training.figures", "cli.train", "cli.watching"):
            monkeypatch.setattr(f"nnarray.{module}.write_atomically", refuse)
        results = {"--out": long, "--plot": "日" * 80 + ".svg", "--history": "h.csv", "--split-out": "s.csv"}
        words = [word for option, name in results.items() for word in (option, str(folder / name))]
        code, out, err = run("train", houses_csv, *QUICK, *words)
        assert (code, list(folder.iterdir())) == (0, [])
        places = re.findall(r"cannot be written \(No space left on device\); written to (\S+) in its place", err)
        assert re.findall(r"(?:model|curve|history|split) written to (\S+)", out) == places
        assert read_model(places[0]).network.sizes == (2, 8, 1)
        assert places[1].endswith("日.svg")
        assert "<svg" in Path(places[1]).read_text()
        assert Path(places[2]).read_text().startswith("epoch,")
        assert Path(places[3]).read_text().startswith("row,part\n")
        code, out, err = run("evaluate", places[0], houses_csv, "--plot", folder / "p.svg")
        assert code == 0
        assert "R²" in out
        assert "<svg" in Path(re.findall(r"picture written to (\S+)", out)[0]).read_text()

    @pytest.mark.skipif(os.name == "nt", reason="a working folder cannot be removed")
    def test_nor_is_anything_with_the_working_folder(self, run, houses_csv, here, monkeypatch):
        def removes(*given, **options):
            result = real(*given, **options)
            shutil.rmtree(working)
            return result

        real, working = nn.train, here / "working"
        working.mkdir()
        monkeypatch.chdir(working)
        monkeypatch.setattr(nn, "train", removes)
        code, out, err = run("train", houses_csv, *QUICK, "--history", "h.csv")
        told = r"(\S+) cannot be written \(No such file or directory\); written to (\S+) in its place"
        (model, model_at), (history, history_at) = re.findall(told, err)
        assert (code, model, history) == (0, "model.safetensors", "h.csv")
        assert re.findall(r"(?:model|history) written to (\S+)", out) == [model_at, history_at]
        assert read_model(model_at).network.sizes == (2, 8, 1)
        os.unlink(model_at)
        os.unlink(history_at)
        for option in ("--out", "--history"):
            expected = f"nnarray: error: {option} o: No such file or directory\n"
            assert run("train", houses_csv, "--out", here / "o", option, "o") == (2, "", expected)
        network = nn.Network((1, 1))
        with pytest.raises(FileNotFoundError, match="'m'"):
            nn.save("m", network, network.init())

    @pytest.mark.parametrize(("name", "shown"), [("a  b.csv", "a  b.csv"), ("a\nb\r.csv", r"a\nb\r.csv")])
    def test_a_file_is_told_by_its_own_name(self, run, name, shown):
        code, _, err = run("train", name)
        assert (code, err) == (2, f"nnarray: error: {shown}: No such file or directory\n")

    @pytest.mark.parametrize(
        "words",
        [
            ("train", LONG),
            ("info", LONG),
            ("predict", DEEP, "houses.csv"),
            ("export", "m", DEEP),
            ("train", "houses.csv", "--out", LONG),
            ("train", DEEP, "--plot", DEEP),
            ("train", "houses.csv", "--encoding", LONG),
        ],
        ids=lambda words: " ".join(words)[:30],
    )
    def test_a_long_name_leaves_room_for_what_is_wrong(self, run, houses_csv, words):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert re.search(
            r"(: (File name too long|No such file|there is no (folder|such encoding))| is neither a file)", err
        )
        assert re.search(r"[xd]/?(…|\.\.\.)/?[xd]", err)
        assert len(err) < 600

    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
    @pytest.mark.parametrize("option", ["--out", "--checkpoint", "--plot", "--history", "--split-out"])
    def test_links_in_a_circle_are_told_before_training(self, run, houses_csv, here, option):
        (here / "circle.png").symlink_to("circle.png")
        code, out, err = run("train", houses_csv, *QUICK, option, "circle.png")
        expected = f"nnarray: error: {option} circle.png: Too many levels of symbolic links\n"
        assert (code, out, err) == (2, "", expected)

    def test_a_picture_that_cannot_be_drawn_is_told_before_training(self, run, houses_csv, here, monkeypatch):
        pytest.importorskip("matplotlib")
        monkeypatch.setitem(sys.modules["matplotlib"].rcParams, "pgf.texsystem", "lualatex")
        monkeypatch.setenv("PATH", str(here))
        code, out, err = run("train", houses_csv, *QUICK, "--plot", "curve.pgf")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(
            "nnarray: error: --plot curve.pgf: matplotlib cannot draw .pgf here ('lualatex' not found"
        )
        assert not os.path.exists("model.safetensors")

    def test_a_folder_that_cannot_be_written_to(self, run, houses_csv, here, monkeypatch):
        def refuse(*args, **options):
            raise OSError(30, "Read-only file system", "secret.tmp")

        monkeypatch.setattr(atomic.Trial, "make", refuse)
        code, out, err = run("train", houses_csv, "--out", "m")
        assert (code, out, err) == (2, "", "nnarray: error: --out m: Read-only file system\n")


EVIL = "a\x1b[2J\u202eb\x07"


class TestTerminals:
    """Nothing that a file, a name or an option holds moves a terminal's cursor."""

    @pytest.fixture
    def evil_csv(self, here):
        names = [EVIL, "x\x9b", "\x1b]0;kind"]
        labels = ["\x1b[31mred", "\u202ewhite"]
        return write_csv(here / f"{EVIL}.csv", names, [(k, "uv"[k % 2] + EVIL, labels[k % 2]) for k in range(60)])

    def commands(self):
        data = f"{EVIL}.csv"
        yield "train", data, *QUICK, "--out", EVIL
        yield "evaluate", EVIL, data
        yield "info", EVIL
        yield "evaluate", EVIL, data, "--json"
        yield "train", data, "--target", "\x1bno"
        yield "train", data, f"--{EVIL}"
        yield "train", data, "--epochs", EVIL
        yield "train", f"no{EVIL}"
        yield "train", data, "--plot", EVIL
        yield (EVIL,)
        yield "predict", EVIL, f"no{EVIL}.npz"

    def test_all_that_is_printed_is_visible(self, run, evil_csv):
        for words in self.commands():
            _, out, err = run(*words)
            printed = (out + err).replace("\n", "")
            assert printed.isprintable(), (words, printed)

    def test_predictions_are_written_as_they_are(self, run, evil_csv):
        run("train", evil_csv, *QUICK, "--out", "m")
        _, out, _ = run("predict", "m", evil_csv)
        assert {row[0] for row in rows_of(out)[1:]} <= {"\x1b[31mred", "\u202ewhite"}

    def test_long_cells_and_options_are_cut(self, run, here):
        write_csv("long.csv", ["a", "b"], [(k, k / 3) for k in range(50)] + [("x" * 100_000, 1.5)])
        for words in (["train", "long.csv"], ["train", "iris", "--epochs", "x" * 9999], ["y" * 9999]):
            code, _, err = run(*words)
            assert code == 2
            assert len(err) < 800

    def test_a_terminal_that_knows_few_characters(self, houses_csv):
        command = [sys.executable, "-m", "nnarray", "train", str(houses_csv), *QUICK]
        done = start(command, env_extra={"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, "")
        assert "R^2" in done.stdout
        assert (
            start([sys.executable, "-m", "nnarray", "train", "--help"], env_extra={"PYTHONIOENCODING": "ascii"}).stderr
            == ""
        )

    @pytest.mark.skipif(os.name == "nt", reason="POSIX shells")
    @pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
    def test_closed_streams(self, houses_csv, closed):
        name = shlex.quote(sys.executable)
        done = start(f"{name} -m nnarray train houses.csv --epochs 2 --out m {closed}", shell=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert read_model("m").network.sizes[0] == 2
        assert start(f"{name} -m nnarray train no.csv {closed}", shell=True).returncode == 2


def make_bomb(path, kind):
    """A small file that unpacks to 400 MB or more; a tail is one behind 4 MB of an ordinary table."""
    if kind.endswith("parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        if kind == "texts.parquet":  # 5 GB where each row holds a text of its own
            text = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(10_000, dtype="int32")), ["a" * 500_000])
            return parquet.write_table(pyarrow.table({"a": text, "y": np.arange(10_000) % 2}), path)
        zeros = pyarrow.array(np.zeros(5_000_000))
        table = pyarrow.table({"a": zeros, "y": zeros})
        with parquet.ParquetWriter(path, table.schema) as writer:
            for _ in range(28):
                writer.write_table(table)
        return None
    if kind == "npz":
        head = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (31250000, 2), }"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("X.npy", "w", force_zip64=True) as file:
                file.write(head.ljust(127) + b"\n")
                for _ in range(500):
                    file.write(bytes(10**6))
            archive.writestr("y.npy", b"")
        return None
    head = b"a,b\n"
    if kind.startswith("tail."):
        head += b"".join(b"%.8f,%.8f\n" % tuple(row) for row in np.random.default_rng(0).normal(size=(200_000, 2)))
    chunk = b"0,1\n" * 2**18
    if kind == "csv.gz":  # in one piece, which says how large it is; the others are of many
        content = gzip.compress(head + 400 * chunk, 6)
    else:
        pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.get(kind.split(".")[-1])
        pack = pack or pytest.importorskip("zstandard").ZstdCompressor().compress
        content = pack(head) + 400 * pack(chunk)
    Path(path).write_bytes(content)
    return None


class TestHostileTables:
    """One clean line and exit code 2, in bounded time and memory."""

    FILES: ClassVar = {
        "one_line.csv": b"a" * 10_000_000,
        "columns.csv": b",".join(b"c%d" % k for k in range(100_000)) + b"\n" + b",".join([b"1"] * 100_000) + b"\n",
        "nul.csv": b"a,b\n1,2\n\0\0",
        "noise.csv": bytes(range(256)) * 100,
        "open_quote.csv": b'a,b\n"1,2\n' + b"1,2\n" * 1000,
        "a_million_quotes.csv": b"a,b\n" + b'"' * 1_000_001 + b"\n",
        "cut.csv.gz": gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-20],
        "cut.csv.zst": b"\x28\xb5\x2f\xfd",
        "parquet.csv": b"PAR1" + bytes(range(256)) + b"PAR1",
        "zip.csv": b"PK\x03\x04junk",
    }

    @pytest.mark.parametrize("name", [*FILES, "bomb.csv.gz"])
    def test_are_refused(self, run, here, name):
        content = self.FILES.get(name) or gzip.compress(b"a,b\n" + b"0,1\n" * 2**25)
        (here / name).write_bytes(content)
        began = time.process_time()
        code, out, err = run("train", name)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert name in err
        assert err.replace("\n", "").isprintable()
        assert len(err) < 800
        assert time.process_time() - began < 20

    BOMBS = ("csv.gz", "csv.bz2", "csv.xz", "csv.zst", "tail.csv.gz", "tail.csv.xz", "npz", "parquet", "texts.parquet")

    @pytest.mark.parametrize("kind", BOMBS)
    def test_what_unpacks_to_gigabytes(self, here, kind):
        """Refused, or read as what it is, in a process that may take 2 GB of memory and 20 s of a core."""
        pytest.importorskip("resource")
        make_bomb(f"bomb.{kind}", kind)
        bounded = (  # by the process itself: a fork beside JAX's threads is warned of
            "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, 2 * 2**30)); "
            "resource.setrlimit(resource.RLIMIT_CPU, (20, 20)); from nnarray.cli import main; sys.exit(main())"
        )
        done = start([sys.executable, "-c", bounded, "train", f"bomb.{kind}", "--epochs", "1"])
        said = "nothing to learn from" if kind == "texts.parquet" else "unpacks to more than 100 times its size"
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"bomb.{kind}" in done.stderr
        assert said in done.stderr

    def test_a_table_that_is_packed_densely(self, run, here):
        """Mostly zeros, 50 to 100 times as large unpacked: a table like any other."""
        rng = np.random.default_rng(0)
        X = np.zeros((5000, 60), dtype=int)
        X[np.arange(5000), rng.integers(60, size=5000)] = 1
        text = (
            ",".join(f"c{k}" for k in range(60)) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in X.tolist())
        )
        for name, pack in (("t.csv.gz", gzip.compress), ("t.csv.bz2", bz2.compress), ("t.csv.xz", lzma.compress)):
            (here / name).write_bytes(pack(text.encode()))
            assert len(text) / (here / name).stat().st_size > 30
            assert run("train", name, *QUICK, "--force")[0] == 0

    @pytest.mark.parametrize("member", ["no array", "twice", "huge"])
    def test_archives(self, run, here, member):
        array = io.BytesIO()
        np.save(array, np.ones((6, 2)))
        head = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000, 2), }"
        X = {"no array": b"hello", "twice": array.getvalue(), "huge": head.ljust(127) + b"\n"}[member]
        with zipfile.ZipFile("data.npz", "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("X.npy", X)
            archive.writestr("y.npy", array.getvalue())
            if member == "twice":
                archive.writestr("X.npy", X)
        code, out, err = run("train", "data.npz")
        assert (code, out, err.count("\n")) == (2, "", 1)

    def test_long_doubles_are_numbers(self, run, here):
        X = np.random.default_rng(0).normal(size=(100, 2)).astype(np.longdouble)
        np.savez("data.npz", X=X, y=X[:, 0] / 3)
        assert run("train", "data.npz", *QUICK)[0] == 0

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_pipes_and_devices_are_not_waited_on(self, run, here):
        os.mkfifo("pipe.csv")
        for name in ("pipe.csv", "/dev/zero"):
            code, _, err = run("train", name)
            assert code == 2
            assert "pipe a table to standard input and name it -" in err
            for option in ("--validation", "--test"):
                assert f"{name} is " in run("train", "digits", option, name)[2]

    def test_standard_input(self, houses_csv):
        text = Path(houses_csv).read_text(encoding="utf-8")
        done = start([sys.executable, "-m", "nnarray", "train", "-", *QUICK, "--json"], input=text)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["data"] == "standard input"

    @pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
    def test_a_device_as_standard_input_is_not_read_for_ever(self):
        with open("/dev/zero", "rb") as endless:
            command = [sys.executable, "-m", "nnarray", "train", "-", *QUICK]
            done = subprocess.run(command, stdin=endless, capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, done.stdout) == (2, "")
        assert "- stands for a table that is piped to standard input, and nothing is" in done.stderr


class TestWhatWasMeant:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("trian iris", "did you mean 'train'?"),
            ("train fine.csv --ephocs 3", "did you mean '--epochs'?"),
            ("train fine.csv --optimizer adan", "did you mean 'adam'?"),
            ("train fine.csv --target prize", "did you mean 'price'?"),
            ("train fine.csv --drop room", "did you mean 'rooms'?"),
            ("train digitz", "did you mean 'digits'?"),
            ("train fine.csv --hidden 64 32", "--hidden 64,32"),
            ("train --hidden 64 32 16 fine.csv", "--hidden 64,32,16"),
            ("train fine.csv --target price --drop price", "the target 'price' cannot be a column of --drop as well"),
            ("train fine.csv --out=--", "expected one argument"),
        ],
    )
    def test_is_asked(self, run, here, words, said):
        write_csv("fine.csv", ["area", "rooms", "price"], houses())
        code, out, err = run(*words.split())
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


class TestInterrupt:
    def test_ctrl_c_saves_what_was_trained(self, run, houses_csv, monkeypatch):
        real = training.loop.Run.epoch

        def interrupted(self, number, *rest):
            if number == 3:
                raise KeyboardInterrupt
            return real(self, number, *rest)

        monkeypatch.setattr(training.loop.Run, "epoch", interrupted)
        code, out, err = run("train", houses_csv)
        assert (code, err) == (130, "")
        assert "interrupted after 2 epochs, what was trained so far is kept" in out
        assert "model written to model.safetensors" in out
        assert run("evaluate", "model.safetensors", houses_csv)[0] == 0

    def test_ctrl_c_elsewhere(self, run, houses_csv, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("nnarray.cli.train.prepare", interrupt)
        assert run("train", houses_csv) == (130, "", "nnarray: interrupted\n")

    @pytest.mark.parametrize("made_of_it", [None, ImportError("numpy._core.multiarray failed to import")])
    @pytest.mark.parametrize("command", ["train houses.csv", "predict model.safetensors houses.csv --out p.csv"])
    def test_ctrl_c_that_a_library_swallows(self, run, houses_csv, here, monkeypatch, command, made_of_it):
        """As compiled modules do while they are imported."""
        run("train", houses_csv, "--epochs", 1)
        if command.startswith("train"):
            os.rename("model.safetensors", "other.safetensors")
        where = {"train": "train.prepare", "predict": "apply.read_table"}[command.split()[0]]
        module, name = where.split(".")
        real = getattr(importlib.import_module(f"nnarray.cli.{module}"), name)

        def swallowing(*given, **options):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            if made_of_it is not None:
                raise made_of_it
            return real(*given, **options)

        before = sorted(os.listdir(here))
        monkeypatch.setattr(f"nnarray.cli.{where}", swallowing)
        code, _, err = run(*command.split())
        assert (code, err, sorted(os.listdir(here))) == (130, "nnarray: interrupted\n", before)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_ctrl_c_within_scikit_learn_leaves_its_options_as_they_were(self, run, here, monkeypatch):
        sklearn = pytest.importorskip("sklearn")

        def breaking(*_, **__):
            sklearn.set_config(skip_parameter_validation=True)
            signal.raise_signal(signal.SIGINT)

        run("train", "iris", "--epochs", 1)
        before = sklearn.get_config()
        monkeypatch.setattr("sklearn.metrics.roc_auc_score", breaking)
        try:
            assert run("evaluate", "model.safetensors", "iris")[0] == 130
            assert sklearn.get_config() == before
        finally:
            sklearn.set_config(**before)

    def test_an_error_after_training_has_answered_ctrl_c_is_told(self, run, houses_csv, monkeypatch):
        real = training.loop.Run.epoch

        def interrupted(self, number, *rest):
            if number == 3:
                signal.raise_signal(signal.SIGINT)
            return real(self, number, *rest)

        def full(*_, **__):
            raise OSError(28, "No space left on device", "model.safetensors")

        monkeypatch.setattr(training.loop.Run, "epoch", interrupted)
        assert run("train", houses_csv)[0] == 130
        assert os.path.exists("model.safetensors")
        monkeypatch.setattr("nnarray.cli.train.write_or_beside", full)
        code, _, err = run("train", houses_csv)
        assert (code, err) == (2, "nnarray: error: model.safetensors: No space left on device\n")

    @pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
    def test_ctrl_c_while_it_still_imports(self, here):
        """A NumPy of our own sends the signal as it is imported; the first line of output is the command's."""
        source = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"
        (here / "numpy.py").write_text(source)
        path = f"{here}{os.pathsep}{Path(nn.__file__).parents[1]}"
        done = start([sys.executable, "-m", "nnarray", "info"], env_extra={"PYTHONPATH": path})
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
        done = start([sys.executable, "-c", "from nnarray import Network"], env_extra={"PYTHONPATH": path})
        assert done.stderr.endswith("KeyboardInterrupt\n")

    def test_before_that_nothing_is_imported_that_takes_time(self):
        """Python's own start aside, Ctrl-C shows a traceback until then."""
        code = "import sys; before = {*sys.modules}; exec(open(sys.argv[1]).read()); print([*{*sys.modules} - before])"
        done = start([sys.executable, "-I", "-c", code, starting.__file__], check=True)
        assert set(ast.literal_eval(done.stdout)) <= {"_signal", "itertools"}

    @pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
    @pytest.mark.parametrize(
        ("number", "at_start", "code"),
        [
            (signal.SIGINT, "SIG_DFL", 130),
            (signal.SIGTERM, "SIG_DFL", 143),
            (signal.SIGTERM, "SIG_IGN", 143),  # as in the background
        ],
    )
    def test_a_real_signal(self, houses_csv, number, at_start, code):
        command = [
            sys.executable,
            "-u",
            "-m",
            "nnarray",
            "train",
            "houses.csv",
            "--epochs",
            "1000000",
            "--patience",
            "0",
            "--checkpoint",
            "begun",
            "--checkpoint-every",
            "100 epochs",
        ]
        set_it = f"import os, signal, sys; signal.signal(2, signal.{at_start}); os.execv(sys.argv[1], sys.argv[1:])"
        with start([sys.executable, "-c", set_it, *command], subprocess.Popen) as process:
            until = time.monotonic() + 100
            while not os.path.exists("begun"):  # what a busy machine takes until then has no bound that is known
                assert time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(number)
            out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (code, "")
        assert "interrupted after" in out
        assert read_model("model.safetensors").network.output == "identity"


class TestProcesses:
    def test_as_a_module(self):
        done = start([sys.executable, "-m", "nnarray", "train", "x.csv"])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "nnarray: error: x.csv: No such file or directory\n"

    @pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
    def test_a_closed_pipe_is_quiet(self, here):
        network = nn.Network((1, 1))
        save("m", network, network.init())
        np.save("X.npy", np.ones((100_000, 1)))
        command = f"{shlex.quote(sys.executable)} -m nnarray predict m X.npy | head -n 2"
        done = start(command, shell=True)
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == 2

    def test_starting_loads_nothing_heavy(self):
        heavy = ("sklearn", "matplotlib", "torch", "jax", "cupy", "pandas", "scipy")
        code = f"import sys, nnarray.cli; print([m for m in {heavy} if m in sys.modules])"
        done = start([sys.executable, "-c", code], check=True)
        assert done.stdout == "[]\n"


class TestCheckAndInfo:
    def test_check_finds_numpy_right(self, run, monkeypatch):
        monkeypatch.setattr(checking, "BACKENDS", ("numpy",))
        code, out, err = run("check")
        assert (code, err) == (0, "")
        assert re.search(r"^numpy +cpu .* ok$", out, re.MULTILINE)

    def test_check_tells_why_a_backend_is_absent(self, run, monkeypatch):
        monkeypatch.setattr(checking, "BACKENDS", ("numpy", "cupy"))
        monkeypatch.setattr(checking, "unavailable_reason", lambda name: "no card" if name == "cupy" else None)
        code, out, _ = run("check")
        assert code == 0
        assert "not checked:\n  cupy: no card\n" in out

    def test_check_fails_for_a_wrong_gradient(self, run, monkeypatch):
        from nnarray import engine

        real = engine.cost_and_gradients

        def wrong(*args, **kwargs):
            J, g = real(*args, **kwargs)
            return J, g * 1.001

        monkeypatch.setattr(checking, "BACKENDS", ("numpy",))
        monkeypatch.setattr(engine, "cost_and_gradients", wrong)
        code, out, _ = run("check")
        assert code == 1
        assert "FAIL" in out

    def test_check_fails_for_a_backend_that_computes_something_else(self, run, monkeypatch):
        real = checking._compute

        def wrong(network, *arrays):
            A, g = real(network, *arrays)
            return A * (1 + 1e-4 * wrong.calls.pop()), g

        wrong.calls = [1, 0] * 8
        monkeypatch.setattr(checking, "BACKENDS", ("numpy",))
        monkeypatch.setattr(checking, "_compute", wrong)
        code, out, _ = run("check")
        assert (code, out.count("FAIL")) == (1, 1)

    def test_check_tells_of_a_backend_that_breaks(self, run, monkeypatch):
        def broken(*_):
            raise RuntimeError("no kernel image")

        monkeypatch.setattr(checking, "BACKENDS", ("numpy",))
        monkeypatch.setattr(checking, "_gradient", broken)
        code, out, _ = run("check")
        assert code == 1
        assert "RuntimeError: no kernel image" in out

    def test_info(self, run):
        code, out, err = run("info")
        assert (code, err) == (0, "")
        for name in ("nnarray", "numpy", "array-api-compat", *nn.backends.BACKENDS, "processors", "blas"):
            assert re.search(rf"^  {name} +\S", out, re.MULTILINE)


def readme_commands():
    """The commands of README's part about the shell, comments cut off."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    block = text.split("## From the shell")[1].split("```sh\n")[1].split("```")[0]
    return [line.split("#")[0].split() for line in block.splitlines()]


class TestReadme:
    def test_its_commands_run_one_after_the_other(self, run, here, monkeypatch):
        pandas = pytest.importorskip("pandas")
        rng = np.random.default_rng(0)
        town, area = rng.choice(["Ulm", "Jena"], 150), rng.uniform(50, 250, 150)
        sold = pandas.Timestamp("2020-01-01") + pandas.to_timedelta(rng.integers(0, 1500, 150), unit="D")
        price = 2000 * area + 50_000 * (town == "Ulm") + rng.normal(0, 3000, 150)
        table = pandas.DataFrame({"house": range(150), "area": area, "town": town, "sold": sold, "price": price})
        table.to_csv("houses.csv", index=False)
        table.drop(columns="price").to_csv("new.csv", index=False)
        pandas.DataFrame(flowers(), columns=["id", "length", "width", "kind"]).to_csv("flowers.csv.gz", index=False)
        monkeypatch.setattr(checking, "BACKENDS", ("numpy",))
        commands = readme_commands()
        assert len(commands) >= 8
        for name, *words in commands:
            assert name == "nnarray"
            if words[0] == "export" and importlib.util.find_spec("onnx") is None:
                continue
            code, _, err = run(*words)
            assert (code, err) == (0, "")
        assert pandas.read_csv("prices.csv").columns.tolist() == ["house", "prediction"]
        assert len(pandas.read_csv("epochs.csv")) > 10
        model = read_model("model.safetensors")
        said = model.predict({"area": [120.0], "town": ["Ulm"], "sold": ["2024-03-01"]})
        assert said.shape == (1, 1)
        assert abs(said[0, 0] - 290_000) < 40_000


class TestPreparation:
    def test_standardisation(self):
        x = np.random.default_rng(0).normal(size=1000) * 50 + 3
        z = standardisation(x)(x)
        np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-9)

    @pytest.mark.parametrize("unit", [1.0, 1e-310, 1e-40, 1e290])
    @pytest.mark.parametrize("offset", [0, 1e6])
    def test_standardisation_of_any_size(self, unit, offset):
        steps = np.arange(11.0)
        z = standardisation((steps + offset) * unit)((steps + offset) * unit)
        np.testing.assert_allclose(z, (steps - 5) / np.std(steps), atol=1e-4)

    def test_a_nearly_constant_column_stays_within_bounds(self):
        x = np.zeros(1000)
        x[0] = 5
        assert 9.9 < standardisation(x)(x).max() <= 10

    def test_a_constant_column_is_left_out(self):
        assert standardisation(np.full(5, 0.1)) is None

    @pytest.mark.parametrize("m", [10, 97, 1000])
    def test_a_split_deals_every_row_once_and_each_class_in_proportion(self, m):
        strata = np.random.default_rng(0).integers(3, size=m)
        parts = split(m, strata, 0.2, 0.2, seed=5)
        assert sorted(np.concatenate(parts)) == list(range(m))
        assert abs(parts.test.size - 0.2 * m) <= 1
        assert abs(parts.validation.size - 0.2 * m) <= 1
        for k in range(3):
            assert abs(np.sum(strata[parts.test] == k) - 0.2 * np.sum(strata == k)) <= 1

    def test_a_split_depends_on_the_seed_alone(self):
        strata = np.zeros(50, dtype=int)
        assert split(50, strata, 0.2, 0.2, 3).test.tolist() == split(50, strata, 0.2, 0.2, 3).test.tolist()
        assert split(50, strata, 0.2, 0.2, 3).test.tolist() != split(50, strata, 0.2, 0.2, 4).test.tolist()


class TestTargets:
    @pytest.mark.parametrize(
        ("y", "output", "classes"),
        [
            (["b", "a", "b"] * 5, "sigmoid", ["a", "b"]),
            (["b", "a", "c"] * 5, "softmax", ["a", "b", "c"]),
            ([True, False] * 5, "sigmoid", [False, True]),
            ([0.0, 1.0, 2.0] * 5, "softmax", [0, 1, 2]),
            ([-1, 7] * 5, "sigmoid", [-1, 7]),
            ([0.0, 1.5] * 50, "identity", None),
            (list(range(21)) * 100, "identity", None),
            (list(range(20)) * 5, "softmax", list(range(20))),
            (list(range(20)) * 4, "identity", None),
        ],
    )
    def test_the_rule(self, y, output, classes):
        target = understand(np.array(y))
        assert (target.output, target.classes) == (output, classes)
        assert target.Y().shape == (target.units, len(y))
