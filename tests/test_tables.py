"""The folder tests/tables: ordinary tables as people have them, each with what it shows and what it must give."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest

from nnarray.files import read_model, save
from nnarray.files.preprocessing import Category

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("here")
pytest.importorskip("sklearn")

FOLDER = Path(__file__).parent / "tables"


class Good(NamedTuple):
    """A table that is trained on: what it shows, the least score, options of ours, and pandas' for the oracle."""

    shows: str
    least: float
    options: str = ""
    read: dict = MappingProxyType({})


class Bad(NamedTuple):
    """A table that is refused: what it shows, what the line says, and the options with which it is trained on."""

    shows: str
    said: str
    options: str = ""


HOUSES = 0.95

GOOD = {
    "minutes.csv": Good("minutes counted from the year 1, which float32 cannot tell apart", 0.95),
    "far_target.csv": Good("a target of 1.7e9 whose spread is 10", 0.95),
    "unix_seconds.csv": Good("Unix seconds, a minute apart", 0.95),
    "utm.csv": Good("coordinates in metres, a few metres apart, and classes", 0.95),
    "tiny_column.csv": Good("a feature near 1e-40", 0.95),
    "subnormal.csv": Good("a feature near 1e-310", 0.95),
    "tiny_target.csv": Good("a target near 1e-300", 0.95),
    "big_labels.csv": Good("labels beyond 2^53, one apart", 0.95, read={"dtype": {"label": str}}),
    "postal_labels.csv": Good("labels of digits with a zero in front", 0.95, read={"dtype": {"label": str}}),
    "padded_labels.csv": Good("7 and 007 are two labels", 0.95, read={"dtype": {"label": str}}),
    "underscore_labels.csv": Good("1_1 is no number", 0.95, read={"dtype": {"label": str}}),
    "truth_labels.csv": Good("TRUE and FALSE", 0.95, read={"dtype": {"label": str}}),
    "none_label.csv": Good("None is a label", 0.95, read={"keep_default_na": False}),
    "quoted_labels.csv": Good("quotes, commas and line ends in labels", 0.95),
    "decimal_comma.csv": Good("semicolons and decimal commas", HOUSES, read={"sep": ";", "decimal": ","}),
    "thousands.csv": Good("1.234,5", HOUSES, read={"sep": ";", "decimal": ",", "thousands": "."}),
    "tabs.tsv": Good("tabs", HOUSES, read={"sep": "\t"}),
    "bars.txt": Good("bars", HOUSES, read={"sep": "|"}),
    "spaces.data": Good("columns lined up with spaces", HOUSES, read={"sep": r"\s+"}),
    "cp1252.csv": Good("another encoding", HOUSES, "--encoding cp1252", {"encoding": "cp1252"}),
    "utf16.csv": Good("UTF-16 with its mark", HOUSES, read={"encoding": "utf-16"}),
    "bom.csv": Good("UTF-8 with a byte order mark", HOUSES),
    "crlf_blank.csv": Good("CRLF and blank lines", HOUSES),
    "packed.csv.gz": Good("packed by gzip", HOUSES),
    "packed.csv.zst": Good("packed by zstd", HOUSES),
    "houses.parquet": Good("Parquet", HOUSES),
    "index_column.csv": Good("an index column without a name", HOUSES, read={"index_col": 0}),
    "row_names.csv": Good("R's row names, without a name of their own", HOUSES, read={"index_col": 0}),
    "trailing_commas.csv": Good("a separator at the end of every line", HOUSES, read={"usecols": [0, 1, 2]}),
    "numbered_columns.csv": Good("names of columns that are numbers", HOUSES),
    "year_columns.csv": Good("years as names", 0.95),
    "no_header.csv": Good("no line of names", HOUSES, "--no-header", {"header": None}),
    "towns.csv": Good("texts are categories", 0.85),
    "missing_towns.csv": Good("a missing text is a category of its own", 0.95),
    "holes.csv": Good("missing numbers", 0.8),
    "dates.csv": Good("ISO dates", 0.9),
    "german_dates.csv": Good("dates with the day first", 0.9),
    "american_dates.csv": Good("dates with the month first", 0.9),
    "seasons.csv": Good("dates as one number, and what depends on the season", 0.9),
    "codes.csv": Good("postal codes are categories", 0.95, read={"dtype": {"zip": str}}),
    "names.csv": Good("a column of names, all different", 0.9, read={"usecols": ["x", "y"]}),
    "constant_and_noise.csv": Good("a constant column", 0.95),
}

BAD = {
    "one_na_target.csv": Bad(
        "one NA among 400 targets", "row 18 (line 19), column 'y': 'NA' is a missing target", "--missing drop"
    ),
    "one_bad_target.csv": Bad("one text among 400 targets", "row 18 (line 19), column 'y': '12,5' is not a finite"),
    "empty_label.csv": Bad("an empty label", "row 5 (line 6), column 'label': the empty cell", "--missing drop"),
    "two_bad_columns.csv": Bad(
        "two columns with a bad cell, told at once",
        "row 4 (line 5), column 'area': '?' is not a finite number; row 9 (line 10), column 'rooms': 'many' is not",
        "--na ?,many",
    ),
    "iris_without_header.csv": Bad("a row where names should be", "say --no-header if that is a row", "--no-header"),
    "no_header.csv": Bad("numbers where names should be", "got '224.0', '3', '561971.6'", "--no-header"),
    "constants.csv": Bad("nothing but constants", "nothing to learn from: 'a', 'b' are the same in every row"),
    "ragged.csv": Bad("a row that is too short", "ragged.csv, line 22: the row has 2 cells, the header has 3"),
    "ambiguous.csv": Bad("two separators", "may be separated by ',' or by ';': say which with --sep"),
    "mixed_decimals.csv": Bad("two decimal marks", "say which with --decimal"),
    "huge.csv": Bad("numbers whose squares overflow", "the numbers of column 'a' are too large to standardise"),
    "infinite.csv": Bad("an infinity", "row 6 (line 7), column 'a': '1e999' is not a finite number", "--na 1e999"),
    "unclear_dates.csv": Bad("dates of which day and month are not clear", "write them as 2026-01-31", "--drop sold"),
    "cp1252.csv": Bad("an encoding that is not told", "say what it is with --encoding", "--encoding cp1252"),
}

WORTHLESS = {"nothing_in_it.csv": "no better than the most frequent class heads alone"}
OTHERS = {"rare.csv", "weights.csv"}


def trained(run, name, *options):
    """The figures of a training on a table of the folder."""
    path = FOLDER / name if (FOLDER / name).exists() else name
    code, out, err = run("train", path, "--json", "--force", *options)
    assert (code, err) == (0, "")
    return json.loads(out)


def score(figures):
    return figures.get("accuracy", figures.get("r2"))


def frame_of(name, read):
    """The table as pandas reads it when it is told how."""
    path = FOLDER / name
    return pandas.read_parquet(path) if name.endswith(".parquet") else pandas.read_csv(path, **read)


def prepared(X):
    """Columns for scikit-learn: dates as days, their season beside them; numbers and texts as they are."""
    X = X.set_axis([str(name) for name in X.columns], axis=1).copy()
    for name in [name for name in X if name in ("sold", "day")]:
        form = {"-": "%Y-%m-%d", ".": "%d.%m.%Y", "/": "%m/%d/%Y"}
        mark = next((mark for mark in form if mark in str(X[name].iloc[0])), None)
        moments = pandas.to_datetime(X[name].astype(str), format=form.get(mark, "%Y%m%d"))
        days = (moments - pandas.Timestamp("1970-01-01")).dt.days
        X = X.drop(columns=name).assign(
            days=days, sin=np.sin(2 * np.pi * days / 365.2425), cos=np.cos(2 * np.pi * days / 365.2425)
        )
    return X


def oracle_score(table, rows, is_classes):
    """The held-out score of scikit-learn's MLP, in a pipeline of the same preprocessing, on the same split."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    X, y = prepared(table.iloc[:, :-1]), table.iloc[:, -1]
    numeric = [name for name in X if pandas.api.types.is_numeric_dtype(X[name])]
    texts = [name for name in X if name not in numeric]
    X[texts] = X[texts].astype(object).where(X[texts].notna(), "missing")
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numeric),
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
        ]
    )
    settings = {"hidden_layer_sizes": (64,), "alpha": 1.0, "batch_size": 16, "max_iter": 60, "random_state": 0}
    if is_classes:
        model = make_pipeline(columns, MLPClassifier(**settings))
    else:
        y = y / np.abs(y).max()  # its squares of 1e-300 would be 0
        model = TransformedTargetRegressor(
            make_pipeline(columns, MLPRegressor(**settings)), transformer=StandardScaler()
        )
    learned, held = rows != "test", rows == "test"
    return model.fit(X[learned], y[learned]).score(X[held], y[held])


def test_every_table_is_described():
    named = {*GOOD, *BAD, *WORTHLESS, *OTHERS}
    assert {path.name for path in FOLDER.iterdir()} == named
    assert len(named) >= 25


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("name", GOOD)
def test_it_is_trained_to_its_score_as_scikit_learn_does(run, name):
    case = GOOD[name]
    options = case.options.split()
    found = trained(run, name, *options, "--split-out", "split.csv")
    ours = score(found["held_out"])
    assert ours >= case.least
    rows = pandas.read_csv("split.csv")["part"].to_numpy()
    theirs = oracle_score(frame_of(name, case.read), rows, "accuracy" in found["held_out"])
    assert ours >= theirs - 0.05

    options = [word for word in options if word != "--no-header"]
    code, out, _ = run("evaluate", "model.safetensors", FOLDER / name, "--json", *options)
    assert code == 0
    evaluated = json.loads(out)
    assert score(evaluated) >= case.least - 0.03
    assert evaluated["trained_on"] == found["trained_on"]
    assert score(evaluated["held_out"]) == pytest.approx(ours, abs=1e-9)

    code, out, _ = run("predict", "model.safetensors", FOLDER / name, *options)
    said = [row[0] for row in csv.reader(out.splitlines(keepends=True))][1:]
    truth = frame_of(name, case.read).iloc[:, -1]
    if "accuracy" in evaluated:
        assert np.mean([a == b for a, b in zip(said, map(str, truth), strict=True)]) == evaluated["accuracy"]
    else:
        unit = float(np.abs(truth).max())
        error, deviation = np.array(said, float) / unit - truth / unit, (truth - truth.mean()) / unit
        assert 1 - np.sum(error**2) / np.sum(deviation**2) == pytest.approx(evaluated["r2"], abs=1e-6)


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_in_one_line_and_taken_where_the_line_says_how(run, name):
    case = BAD[name]
    code, out, err = run("train", FOLDER / name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("nnarray: error: ")
    assert name in err or name == "huge.csv"
    assert case.said in err
    if case.options:
        code, _, err = run("train", FOLDER / name, "--epochs", 2, *case.options.split())
        assert (code, err) == (0, "") or (name == "unclear_dates.csv" and "no column besides the target" in err)


@pytest.mark.parametrize("name", WORTHLESS)
def test_a_result_that_is_worth_nothing_is_told(run, name):
    _, out, _ = run("train", FOLDER / name, "--quiet")
    assert WORTHLESS[name] in out


def test_rare_classes_weigh_as_much_as_frequent_ones(run):
    plain = trained(run, "rare.csv")["held_out"]["classes"]["yes"]["recall"]
    balanced = trained(run, "rare.csv", "--class-weight", "balanced")["held_out"]["classes"]["yes"]["recall"]
    assert balanced >= 0.7 > plain


def test_a_column_of_weights(run):
    trained(run, "weights.csv", "--weights", "w")
    x = np.linspace(-1, 1, 9)
    A = read_model("model.safetensors").predict({"x": x})
    assert read_model("model.safetensors").metadata["features"] == ["x"]
    np.testing.assert_allclose(A[0], 3 * x, atol=0.5)


def write(path, frame, **options):
    frame.to_csv(path, index=False, **options)
    return path


def towns(m=200, seed=0):
    """A table of an id, a town, a number and a class that both decide."""
    rng = np.random.default_rng(seed)
    town, x = rng.choice(["Ulm", "Jena", "Bonn"], m), rng.normal(size=m)
    kind = np.where(x + 2 * (town == "Ulm") - 2 * (town == "Bonn") > 0, "01", np.where(x > -1, "02", "x9"))
    return pandas.DataFrame({"key": np.arange(m) + 500, "town": town, "x": x.round(3), "kind": kind})


class TestRoles:
    def test_ids_are_carried_through(self, run):
        write("t.csv", towns())
        trained(run, Path("t.csv").resolve(), "--id", "key")
        assert read_model("model.safetensors").metadata["features"] == ["town", "x"]
        _, out, err = run("predict", "model.safetensors", "t.csv", "--probabilities")
        rows = list(csv.reader(out.splitlines()))
        assert err == ""
        assert rows[0] == ["key", "prediction", "probability 01", "probability 02", "probability x9"]
        assert [row[0] for row in rows[1:]] == [str(k + 500) for k in range(200)]
        shares = np.array([row[2:] for row in rows[1:]], dtype=float)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        assert [row[1] for row in rows[1:]] == [["01", "02", "x9"][k] for k in shares.argmax(axis=1)]

    def test_labels_keep_their_writing_where_fewer_of_them_occur(self, run):
        table = towns()
        write("t.csv", table)
        run("train", "t.csv", "--drop", "key")
        write("few.csv", table[table.kind != "x9"])
        code, out, _ = run("evaluate", "model.safetensors", "few.csv", "--json")
        assert code == 0
        assert json.loads(out)["accuracy"] > 0.8

    def test_a_label_that_training_had_not(self, run):
        write("t.csv", towns())
        run("train", "t.csv", "--drop", "key")
        write("new.csv", towns().assign(kind=lambda t: t.kind.replace("x9", "X9")))
        row = towns().kind.tolist().index("x9") + 1
        said = f"new.csv, row {row} (line {row + 1}), column 'kind': 'X9' is none of the model's classes: 01, 02, x9"
        for words in (
            ["evaluate", "model.safetensors", "new.csv"],
            ["train", "t.csv", "--force", "--test", "new.csv"],
            ["train", "new.csv", "--force", "--resume", "model.safetensors"],
        ):
            code, _, err = run(*words)
            assert (code, said in err, err.endswith("did you mean 'x9'?\n")) == (2, True, True)

    @pytest.mark.parametrize(
        ("options", "features"),
        [
            (["--features", "x"], ["x"]),
            (["--features", "x,town"], ["x", "town"]),
            (["--features", "x", "--features", "town"], ["x", "town"]),
            (["--drop", "key,town"], ["x"]),
            (["--drop", "key", "--drop", "town"], ["x"]),
        ],
    )
    def test_columns_are_chosen(self, run, options, features):
        write("t.csv", towns())
        assert run("train", "t.csv", "--epochs", 2, *options)[0] == 0
        assert read_model("model.safetensors").metadata["features"] == features

    def test_any_name_can_be_dropped(self, run):
        write("t.csv", towns().rename(columns={"key": "a, b", "town": "--x"}))
        assert run("train", "t.csv", "--epochs", 2, "--drop", "a, b", "--drop=--x")[0] == 0
        assert read_model("model.safetensors").metadata["features"] == ["x"]

    def test_numbers_that_are_categories(self, run):
        table = towns().assign(code=lambda t: t.town.map({"Ulm": 7, "Jena": 8, "Bonn": 9}))[["code", "x", "kind"]]
        write("t.csv", table)
        assert run("train", "t.csv", "--categorical", "code")[0] == 0
        code, x = read_model("model.safetensors").metadata["preprocessing"]["columns"]
        assert (code, x["kind"]) == ({"kind": "category", "categories": ["7", "8", "9"]}, "number")
        said = read_model("model.safetensors").predict({"code": [7, 9], "x": [0.1, -0.1]})
        assert said.argmax(axis=0).tolist() == [0, 1]

    def test_a_column_said_to_be_numbers(self, run):
        write("t.csv", towns())
        code, _, err = run("train", "t.csv", "--numeric", "town")
        assert code == 2
        assert "row 1 (line 2), column 'town': " in err
        assert "is not a finite number (and 199 more such)" in err

    def test_ids_are_warned_of(self, run):
        names = [f"no {k}" for k in range(200)]
        write("t.csv", towns().assign(name=names)[["name", "key", "x", "kind"]])
        _, out, _ = run("train", "t.csv", "--epochs", 2)
        assert "note: the column 'name' looks like an id, since all its texts are different: it is left out" in out
        assert "note: the column 'key' may be an id" in out

    def test_texts_unseen_in_training_are_counted(self, run):
        write("t.csv", towns())
        run("train", "t.csv", "--epochs", 2, "--drop", "key")
        write("new.csv", towns().assign(town=["Rom"] * 3 + [""] + ["Ulm"] * 196))
        code, out, err = run("predict", "model.safetensors", "new.csv")
        assert (code, len(out.splitlines())) == (0, 201)
        assert "column 'town' has 3 texts that are none of its categories, such as 'Rom'" in err
        assert "column 'town' has 1 missing cells" in err
        assert run("predict", "model.safetensors", "new.csv", "--missing", "refuse")[0] == 2

    def test_parts_in_files_of_their_own(self, run):
        write("t.csv", towns())
        write("v.csv", towns(50, seed=1))
        write("w.csv", towns(70, seed=2)[["kind", "x", "town"]])
        code, out, _ = run("train", "t.csv", "--drop", "key", "--validation", "v.csv", "--test", "w.csv", "--json")
        assert code == 0
        found = json.loads(out)
        assert (found["trained_on"], found["held_out"]["examples"]) == (200, 70)
        assert found["held_out"]["accuracy"] > 0.8
        _, out, _ = run("evaluate", "model.safetensors", "w.csv", "--json")
        again = json.loads(out)
        assert again["accuracy"] == found["held_out"]["accuracy"]
        assert "trained_on" not in again or again["trained_on"] < 10

    def test_ids_are_told_and_carried_on(self, run):
        table = towns().assign(one="u", name=lambda t: "n" + t.key.astype(str), other=lambda t: t.key * 7)
        write("t.csv", table[["key", "other", "name", "one", "town", "x", "kind"]])
        quick = ("--epochs", "1", "--force")
        run("train", "t.csv", "--id", "key, other", *quick)
        run("train", "t.csv", "--resume", "model.safetensors", "--out", "again", *quick)
        for model in ("model.safetensors", "again"):
            out = run("info", model)[1]
            assert "carried through by predict, as ids: 'key', 'other'\n" in out
            assert re.search("'name' +ignored +left out: .* all different", out)
            assert run("predict", model, "t.csv")[1].startswith("key,other,prediction,probability\n500,3500,")
        write("u.csv", table[["name", "one", "town", "x", "kind"]])
        run("train", "u.csv", "--resume", "model.safetensors", "--out", "again", "--test", "t.csv", *quick)
        assert run("predict", "again", "u.csv")[1].startswith("prediction,probability\n")

    def test_pictures(self, run, here):
        pytest.importorskip("matplotlib")
        for name in ("codes.csv", "bars.txt"):
            run("train", FOLDER / name, "--epochs", 3, "--force", "--plot", "curve.png", "--history", "epochs.csv")
            code, _, err = run("evaluate", "model.safetensors", FOLDER / name, "--plot", "picture.svg")
            assert (code, err) == (0, "")
            assert (here / "curve.png").read_bytes().startswith(b"\x89PNG")
            assert b"<svg" in (here / "picture.svg").read_bytes()
            assert (b"shades: the share of each row" in (here / "picture.svg").read_bytes()) == (name == "codes.csv")
            history = pandas.read_csv("epochs.csv")
            assert history.epoch.tolist() == [1, 2, 3]
            assert (
                history[["training_cost", "validation_cost", "training_score", "validation_score"]]
                .notna()
                .all(axis=None)
            )

    def test_progress_off_a_terminal(self, run, monkeypatch):
        monkeypatch.setattr("nnarray.cli.watching.SECONDS", 0.0)
        _, _, err = run("train", FOLDER / "bars.txt", "--epochs", 4)
        lines = err.splitlines()
        assert [line.split(":")[0] for line in lines] == [f"epoch {k} of 4" for k in (1, 2, 3)]
        assert run("train", FOLDER / "bars.txt", "--epochs", 4, "--quiet", "--force")[2] == ""

    def test_a_model_tells_what_it_holds(self, run):
        write("t.csv", towns())
        run("train", "t.csv", "--drop", "key", "--epochs", 2, "--seed", 5)
        code, out, err = run("info", "model.safetensors")
        assert (code, err) == (0, "")
        for said in ("'town'  category  3 categories: Bonn, Jena, Ulm", "'kind': 3 classes: 01, 02, x9", "softmax"):
            assert said in out
        for line in (r"seed +5", r"trained on +120", r"accuracy +0\.\d+", r"nnarray +\d", r"float32, format 2"):
            assert re.search(line, out)


IN_TWICE_PANDAS_TIME = """
import time
import pandas
from nnarray.cli.tables import read_table
def seconds(read):
    began = time.process_time()
    read("t.csv")
    return time.process_time() - began
print(any(seconds(read_table) < 2 * seconds(pandas.read_csv) for _ in range(7)))
"""
"""In a process of its own: what other tests keep makes Python's collector slow."""


class TestReading:
    @pytest.mark.parametrize(
        ("first", "mark", "decimal", "end", "options"),
        [
            ("sep=;", ";", ",", "\r\n", []),
            ('"sep=,"', ",", ".", "\n", []),
            ("SEP=\t", "\t", ".", "\n", []),
            ("sep= ", " ", ".", "\n", []),
            ("sep=|", "|", ".", "\r", []),
            ("sep=;", ";", ",", "\r\n", ["--encoding", "utf-16"]),
            ("sep=;", ";", ",", "\r\n", ["--no-header"]),
            ("sep=,", ";", ".", "\n", ["--sep", "semicolon"]),
        ],
    )
    def test_a_line_that_tells_the_separator(self, run, here, first, mark, decimal, end, options):
        rows = [("a", "b, c", "y"), *((k / 7, k % 5 + 0.5, k / 3 + 0.25) for k in range(60))]
        if "--no-header" in options:
            del rows[0]
        elif mark in " ,":
            rows[0] = ("a", "b", "y")
        text = "".join(mark.join(map(str, row)).replace(".", decimal) + end for row in rows)
        encoding = options[-1] if "--encoding" in options else "utf-8-sig"
        (here / "t.csv").write_text(f"{first}{end}{text}", newline="", encoding=encoding)
        found = trained(run, Path("t.csv").resolve(), *options)
        assert found["held_out"]["r2"] > 0.9
        model = read_model("model.safetensors")
        assert model.metadata["training"]["split"]["rows"] == 60
        assert [*model.metadata["features"], model.metadata["target"]] == (
            ["1", "2", "3"] if "--no-header" in options else list(rows[0])
        )
        (here / "bad.csv").write_text(f"{first}{end}{text}oh{mark}1{mark}2{end}", newline="", encoding=encoding)
        line = len(rows) + 2
        assert f"row 61 (line {line}), column" in run("train", "bad.csv", "--force", *options)[2]

    def test_many_columns(self, run, here):
        """Longer rows than are looked at at first, of several kinds; read in twice pandas' time."""
        from nnarray.cli.tables import read_table

        m, n = 40, 20_000
        X = np.random.default_rng(0).normal(size=(m, n)).round(4)
        names = [f"c{k}" for k in range(n)]
        cells = [*map(str, range(2**53 + 1, 2**53 + 1 + m)), *["x"] * m, *["007"] * m]
        first = [",".join(cells[k::m]) for k in range(m)]
        rows = [",".join(map(str, row)) for row in X.tolist()]
        lines = [
            f"big,text,code,{','.join(names)},label",
            *(f"{a},{b},0{k % 2}" for k, (a, b) in enumerate(zip(first, rows, strict=True))),
        ]
        (here / "t.csv").write_text("\n".join(lines))
        table = read_table("t.csv")
        assert table.names == ["big", "text", "code", *names, "label"]
        np.testing.assert_array_equal(np.stack(table.columns[3:-1]), X.T)
        np.testing.assert_array_equal(table.column("big"), np.arange(2**53 + 1, 2**53 + 1 + m))
        for name, cells in (("text", ["x"] * m), ("code", ["007"] * m), ("label", ["00", "01"] * (m // 2))):
            assert table.column(name).tolist() == cells
        assert pandas.read_csv("t.csv").shape == (m, n + 4)

        done = subprocess.run([sys.executable, "-c", IN_TWICE_PANDAS_TIME], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr

        european = [line.replace(",", ";").replace(".", ",") for line in lines]
        (here / "european.csv").write_text("\n".join(european))
        np.testing.assert_array_equal(np.stack(read_table("european.csv").columns[3:-1]), X.T)

    def test_a_column_whose_kind_changes_far_down(self, run):
        """pandas guesses chunk by chunk: what is a number in one and text in another is text as it is written."""
        m = 300_000
        code = np.where(np.arange(m) < m - 9, "1.50", "x")
        write("t.csv", pandas.DataFrame({"code": code, "y": np.arange(m) % 2}))
        _, _, err = run("train", "t.csv")
        assert f"row {m - 8} (line {m - 7}), column 'code': 'x' is not a finite number (and 8 more such)" in err
        assert run("train", "t.csv", "--na", "x", "--epochs", 1)[2].endswith("or an id\n")

    @pytest.mark.parametrize("options", [["--sep", "semicolon", "--decimal", ","], []])
    def test_what_training_was_told_of_cells_holds_for_predictions(self, run, options):
        table = towns().assign(x=lambda t: t.x.astype(str).str.replace(".", ","))
        table.loc[::10, "x"] = "?"
        write("t.csv", table, sep=";")
        assert run("train", "t.csv", "--drop", "key", "--na", "?", "--epochs", 2, *options)[0] == 0
        code, out, err = run("predict", "model.safetensors", "t.csv")
        assert (code, len(out.splitlines())) == (0, 201)
        assert "'x' has 20 missing cells" in err

    @pytest.mark.parametrize("start", ["", "\n", "\r\n\n"])
    def test_line_ends_within_names(self, run, here, start):
        rows = "".join(f"{k / 7:.3f},{k / 3:.3f}\n" for k in range(60))
        (here / "t.csv").write_text(f'{start}"the\nfirst, of two","y\n\n1"\n{rows}', newline="")
        assert trained(run, "t.csv")["held_out"]["r2"] > 0.9
        model = read_model("model.safetensors")
        assert (model.metadata["features"], model.metadata["target"]) == (["the\nfirst, of two"], "y\n\n1")
        assert model.metadata["training"]["split"]["rows"] == 60
        (here / "bad.csv").write_text(f'{start}"the\nfirst, of two","y\n\n1"\n{rows}oh,3\n', newline="")
        line = 61 + 4 + start.count("\n")
        assert f"row 61 (line {line}), column 'the\\nfirst, of two': 'oh'" in run("train", "bad.csv", "--force")[2]

    def test_truth_in_any_writing(self, run):
        table = pandas.DataFrame({"on": ["TRUE", "FALSE"] * 60, "y": [1.5, -1.5] * 60})
        write("t.csv", table)
        trained(run, "t.csv", "--epochs", "60")
        for writing in (str.upper, str.lower, str.title):
            write("new.csv", table.assign(on=table.on.map(writing)))
            _, out, err = run("evaluate", "model.safetensors", "new.csv", "--json")
            assert err == ""
            assert json.loads(out)["r2"] > 0.9

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            (["14:35", "9:05"], "times of day, such as '14:35', are not read: write them as hours"),
            (["2:35:10 pm", "12:00:00 am"], "times of day, such as '2:35:10 pm', are not read"),
            (["31.12.24", "01.02.25"], "dates with a year of two digits, such as '31.12.24', are not read"),
            (["Jan 2024", "Feb 2025"], "months, such as 'Jan 2024', are not read: write them as 2026-01"),
            (["1/2024", "12/2025"], "months, such as '1/2024', are not read"),
            (["2024Q1", "2025-Q4"], "quarters, such as '2024Q1', are not read: write them as their first month"),
            (["Q1 2024", "Q4 2025"], "quarters, such as 'Q1 2024', are not read"),
            (["2024-W01", "2025-W50"], "weeks, such as '2024-W01', are not read: write them as their first day"),
        ],
    )
    def test_times_that_are_not_read(self, run, cells, said):
        write("t.csv", pandas.DataFrame({"t": cells * 50, "x": range(100), "y": np.arange(100) / 7}))
        code, _, err = run("train", "t.csv")
        assert (code, err.count("\n")) == (2, 1)
        assert f"column 't': {said}" in err
        for option in ("--categorical", "--drop"):
            assert option in err
            assert run("train", "t.csv", "--epochs", 1, "--force", option, "t")[0] == 0

    def test_classes_that_differ_in_case(self, run):
        write("t.csv", pandas.DataFrame({"x": range(90), "y": ["yes", "Yes", "no"] * 30}))
        notes = trained(run, Path("t.csv").resolve(), "--epochs", "1")["notes"]
        assert "the classes 'Yes', 'yes' differ in upper and lower case only" in notes

    @pytest.mark.parametrize(
        "cell", ["45%", "$1,200", "€ 3.50", "(1.25)", "\u22121.5", "1\u00a0500", "<15", "15°", "5'9\"", '"15"']
    )
    def test_numbers_with_a_unit_are_no_categories(self, run, cell):
        write(
            "t.csv", pandas.DataFrame({"price": [cell.replace("5", str(k % 10)) for k in range(100)], "y": range(100)})
        )
        code, _, err = run("train", "t.csv")
        assert code == 2
        assert "column 'price': " in err
        assert "is not a finite number (and 99 more such)" in err

    @pytest.mark.parametrize(
        "written",
        [
            "{} kg",
            "{}kg",
            "{},5 m²",
            "{}k",
            "USD {}",
            "{} km/h",
            "Rs. {}",
            "{}h 30m",
            "{}.5 kg|{}.5 lb",
            "{} kg|unknown",
        ],
    )
    def test_many_numbers_with_units_are_refused(self, run, written):
        first, other = written.split("|") if "|" in written else (written, written)
        cells = [(other if k % 3 == 0 else first).format(100 + k) for k in range(90)]
        write("t.csv", pandas.DataFrame({"w": cells, "x": range(90), "y": np.arange(90) / 7}), sep=";")
        code, _, err = run("train", "t.csv", "--decimal", ".")
        assert (code, err.count("\n")) == (2, 1)
        assert "column 'w': numbers with units, such as " in err
        assert "are not read: write the numbers alone, all in one unit" in err
        for option in ("--categorical", "--drop"):
            assert run("train", "t.csv", "--decimal", ".", "--epochs", 1, "--force", option, "w")[0] == 0

    def test_few_numbers_with_units_are_told(self, run):
        write("t.csv", pandas.DataFrame({"ram": ["2 GB", "4 GB", "8 GB"] * 30, "y": np.arange(90) / 7}))
        said = "the column 'ram' has numbers with units, such as '2 GB': they are categories, unless written alone"
        assert said in trained(run, Path("t.csv").resolve(), "--epochs", "1")["notes"]
        assert trained(run, Path("t.csv").resolve(), "--epochs", "1", "--categorical", "ram")["notes"] == []

    @pytest.mark.parametrize("written", ["{} Main St", "E{}", "no {}", "#{}", "{0}{1}", "{}-{}"])
    def test_names_with_numbers_are_no_quantities(self, run, written):
        cells = [written.format(k % 30, "ABC"[k % 3]) for k in range(90)]
        write("t.csv", pandas.DataFrame({"w": cells, "x": range(90), "y": np.arange(90) / 7}))
        assert run("train", "t.csv", "--epochs", 1)[0] == 0

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            (pandas.date_range("2024-01-31", periods=90).strftime("%Y-%m-%d"), "dates or times, such as '2024-01-31'"),
            (pandas.date_range("2024-01-31", periods=90), "dates or times, such as '2024-01-31'"),
            (pandas.date_range("2024-01-31", periods=90).strftime("%d/%m/%Y"), "dates or times, such as '31/01/2024'"),
            ([f"{k // 60}:{k % 60:02d}" for k in range(90)], "dates or times, such as '0:00'"),
            ([f"{k % 30}.5 kg" for k in range(180)], "numbers with units, such as '0.5 kg'"),
            ([f"${k},000" for k in range(90)], "numbers with units, such as '$0,000'"),
            ([f"{k}%" for k in range(90)], "numbers with units, such as '0%'"),
        ],
    )
    def test_a_target_that_is_neither_classes_nor_numbers(self, run, cells, said):
        table = pandas.DataFrame({"x": np.arange(len(cells)) / 7, "y": cells})
        table.to_parquet("t.parquet")
        write("t.csv", table)
        for name in ("t.csv", "t.parquet"):
            code, _, err = run("train", name)
            assert (code, err.count("\n")) == (2, 1)
            assert f"the target is {said}, which are not read: write it as " in err
        assert ("too many to be classes" in run("train", "t.csv", "--output", "softmax")[2]) == (len(cells) == 90)

    def test_classes_that_are_dates(self, run):
        days = pandas.to_datetime(["2024-01-31", "2025-06-01"] * 50)
        table = pandas.DataFrame({"x": np.arange(100) % 2, "y": days})
        table.to_parquet("t.parquet")
        write("t.csv", table)
        for name, other in (("t.csv", "t.parquet"), ("t.parquet", "t.csv")):
            assert list(trained(run, Path(name).resolve())["held_out"]["classes"]) == ["2024-01-31", "2025-06-01"]
            assert json.loads(run("evaluate", "model.safetensors", other, "--json")[1])["accuracy"] == 1

    def test_infinities_are_labels(self, run):
        write("t.csv", pandas.DataFrame({"x": np.arange(90) % 2, "y": ["inf", "-inf"] * 45}))
        found = trained(run, Path("t.csv").resolve())["held_out"]
        assert (list(found["classes"]), found["accuracy"]) == (["-inf", "inf"], 1)

    @pytest.mark.parametrize("output", ["softmax", "sigmoid"])
    def test_versions_are_labels_where_classes_are_asked_for(self, run, output):
        """1.10 and 1.1 are two, as they are written, in every command and file."""
        labels = ["1.1", "1.10", "1.2"] if output == "softmax" else ["3.1", "3.10"]
        k = np.arange(120) % len(labels)
        table = pandas.DataFrame({"x": k, "y": np.array(labels, dtype=object)[k]})
        table.to_parquet("t.parquet")
        write("t.csv", table)
        write("few.csv", table[k == 1])
        for source in ("t.csv", "t.parquet"):
            found = trained(
                run, Path(source).resolve(), "--output", output, "--validation", "few.csv", "--test", "t.csv"
            )
            assert (list(found["held_out"]["classes"]), found["held_out"]["accuracy"]) == (labels, 1)
            for name in ("t.csv", "t.parquet", "few.csv"):
                assert json.loads(run("evaluate", "model.safetensors", name, "--json")[1])["accuracy"] == 1
            out = run("predict", "model.safetensors", "few.csv")[1]
            assert {line.split(",")[0] for line in out.splitlines()[1:]} == {labels[1]}
            again = ("--resume", "model.safetensors", "--epochs", "1", "--test", "few.csv", "--out", "again")
            assert trained(run, Path(source).resolve(), *again)["held_out"]["accuracy"] == 1
        write("other.csv", table.replace("1.2" if output == "softmax" else "3.1", "3.100"))
        assert "'3.100' is none of the model's classes" in run("evaluate", "model.safetensors", "other.csv")[2]

    def test_codes_with_a_zero_in_front_are_categories_of_parquet_as_of_text(self, run):
        """Postal codes: of a text file by their zeros, of a data frame's column of texts likewise."""
        k = np.arange(90)
        codes = np.array(["01067", "80331", "99084"])[k % 3]
        pandas.DataFrame({"code": codes, "x": k % 7, "y": k % 3 == 0}).to_parquet("t.parquet")
        pandas.DataFrame({"code": codes, "x": k % 7, "y": k % 3 == 0}).to_csv("t.csv", index=False)
        pandas.DataFrame({"code": (k % 3).astype(str), "x": k % 7, "y": k % 3 == 0}).to_parquet("plain.parquet")
        of_each = {}
        for name in ("t.parquet", "t.csv", "plain.parquet"):
            trained(run, Path(name).resolve(), "--epochs", "1", "--out", "m.safetensors")
            of_each[name] = read_model("m.safetensors").preprocessing.columns[0]
        assert of_each["t.parquet"] == of_each["t.csv"] == Category(("01067", "80331", "99084"))
        assert type(of_each["plain.parquet"]).__name__ == "Number"

    def test_fractions_of_parquet_and_arrays_are_labels_where_classes_are_asked_for(self, run):
        k = np.arange(120) % 3
        y = np.array([0.1, 0.5, 3.0], dtype="float32")[k]
        pandas.DataFrame({"x": k, "y": y}).to_parquet("t.parquet")
        np.savez("t.npz", X=k[:, None], y=y)
        for name in ("t.parquet", "t.npz"):
            found = trained(run, Path(name).resolve(), "--output", "softmax")["held_out"]
            assert (list(found["classes"]), found["accuracy"]) == (["0.1", "0.5", "3"], 1)
            assert json.loads(run("evaluate", "model.safetensors", name, "--json")[1])["accuracy"] == 1

    def test_labels_that_are_one_number(self, run):
        write("t.csv", pandas.DataFrame({"x": range(90), "y": ["1", "1.0", "2"] * 30}))
        notes = trained(run, Path("t.csv").resolve(), "--epochs", "1")["notes"]
        assert "the classes '1', '1.0' are one number, written differently" in notes

    def test_targets_that_are_too_large_are_told(self, run):
        write("t.csv", pandas.DataFrame({"x": range(90), "y": np.arange(90) * 1e306}))
        assert (
            run("train", "t.csv")[2] == "nnarray: error: the targets are too large to standardise, such as 8.8e+307\n"
        )

    def test_what_parquet_holds_besides(self, run):
        """Truth with gaps, durations."""
        m = 90
        on = pandas.array([True, False, None] * (m // 3), dtype="boolean")
        table = pandas.DataFrame(
            {"on": on, "for": pandas.to_timedelta(np.arange(m), "s"), "y": np.where(on.fillna(value=False), 5.5, 0.25)}
        )
        table.to_parquet("t.parquet")
        found = trained(run, Path("t.parquet").resolve())
        assert found["notes"] == ["the column 'on' has 30 missing cells, a category of their own"]
        assert found["held_out"]["r2"] > 0.8
        table.assign(x=[str(k) if k % 9 else "" for k in range(m)]).iloc[:, [3, 2]].to_parquet("gaps.parquet")
        notes = trained(run, Path("gaps.parquet").resolve(), "--epochs", "1", "--out", "m")["notes"]
        assert notes == ["the column 'x' has 10 missing cells, taken for its median"]
        truth, duration = read_model("model.safetensors").metadata["preprocessing"]["columns"]
        assert (truth["categories"], duration["kind"]) == (["False", "True", None], "number")

    @pytest.mark.parametrize("options", [["--output", "softmax"], []], ids=str)
    @pytest.mark.parametrize("of_pandas", [True, False])
    def test_integers_of_parquet_with_gaps_keep_their_digits(self, run, options, of_pandas):
        import pyarrow.parquet

        k = np.arange(120) % 3
        labels = [2**53 + int(one) for one in k]
        gaps = pandas.array([*labels, None], dtype="Int64")
        table = pyarrow.table({"x": [*k, 0], "y": [*labels, None]})
        if of_pandas:  # which say in the file how they were held
            table = pyarrow.Table.from_pandas(pandas.DataFrame({"x": [*k, 0], "y": gaps}))
        pyarrow.parquet.write_table(table, "t.parquet")
        found = trained(run, Path("t.parquet").resolve(), "--missing", "drop", *options)["held_out"]
        assert list(found["classes"]) == [str(2**53 + one) for one in range(3)]
        assert found["accuracy"] == 1
        said = "row 121, column 'y': 'None' is a missing target"
        assert said in run("train", "t.parquet", "--force", *options)[2]

    def test_bytes_of_parquet_are_text_or_refused(self, run):
        k = np.arange(90) % 3
        towns = np.array([b"Ulm", b"J\xc3\xa4na", None], dtype=object)
        table = pandas.DataFrame({"town": towns[k], "y": towns[:2][k % 2]})
        table.to_parquet("t.parquet")
        found = trained(run, Path("t.parquet").resolve())
        assert list(found["held_out"]["classes"]) == ["Jäna", "Ulm"]
        assert "the column 'town' holds bytes, which are read as UTF-8" in found["notes"]
        assert read_model("model.safetensors").preprocessing.columns[0].categories == ("Jäna", "Ulm", None)
        table.assign(town=b"\xff\x00").to_parquet("t.parquet")
        said = "t.parquet, column 'town': bytes that are no text: leave it out with --drop, or write it as text"
        assert run("train", "t.parquet", "--force")[2] == f"nnarray: error: {said}\n"

    def test_a_number_that_dwarfs_the_others_is_told(self, run):
        rng = np.random.default_rng(0)
        x = rng.normal(size=300).round(3)
        table = pandas.DataFrame({"wide": np.exp(2 * rng.normal(size=300)), "x": x, "y": 3 * x + rng.normal(size=300)})
        table["rare"] = np.arange(300) % 20 == 0
        table["rare"] = table["rare"].astype(int)
        table = table[["wide", "rare", "x", "y"]]
        write("t.csv", table)
        assert trained(run, Path("t.csv").resolve(), "--test", "0")["notes"] == []
        for name in ("rare", "x", "y"):
            far = table.astype(float)
            far.loc[41, name] = 1e9
            far.loc[7, "wide"] = np.nan
            write("t.csv", far)
            far.to_parquet("t.parquet")
            for source in ("t.csv", "t.parquet"):
                parts = ("--test", "0", "--validation", "0", "--epochs", "1")
                notes = trained(run, Path(source).resolve(), *parts)["notes"]
                what = "the target" if name == "y" else f"the column {name!r}"
                assert any(note.startswith(f"{what} has 1e+09 in row 42, ") for note in notes)
                assert len(notes) == 2  # and the missing cell

    def test_a_date_that_dwarfs_the_others_is_told(self, run):
        days = (np.datetime64("2024-01-01") + np.arange(90)).astype(str)
        days[3] = "9999-12-31"
        write("t.csv", pandas.DataFrame({"day": days, "y": np.arange(90) / 7}))
        parts = ("--test", "0", "--validation", "0", "--epochs", "1")
        (note,) = trained(run, Path("t.csv").resolve(), *parts)["notes"]
        assert note.startswith("the column 'day' (in days since 1970) has 2.9329e+06 in row 4, ")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                '[{"a":1,"y":2},\n {"a":2,"y":3}]',
                "is JSON, not a table with separators: write it as CSV, in Python by ",
            ),
            ('{"a":1,"y":2}\n{"a":2,"y":3}\n', "is JSON, an object in each line, not a table"),
            ('\n{\n "a": [1, 2],\n "y": [2, 3]\n}\n', "is JSON, not a table"),
            (
                "<!DOCTYPE html>\n<html><body></body></html>",
                "is an HTML page, not a table with separators, perhaps of a login",
            ),
            ('<?xml version="1.0"?>\n<a><b>1</b></a>', "is XML, not a table"),
            (
                "% flowers\n\n@RELATION iris\n@ATTRIBUTE a NUMERIC\n@DATA\n1,2\n",
                "is ARFF, as Weka writes it, not a table",
            ),
        ],
    )
    def test_files_of_another_format_are_named(self, run, here, text, said):
        (here / "t.csv").write_text(text)
        code, _, err = run("train", "t.csv")
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"nnarray: error: t.csv {said}")

    @pytest.mark.parametrize(
        ("above", "line"),
        [
            ("Sales report", 2),
            ("Sales report\n", 3),
            ("Sales, in all, of 2024\n,,\n", None),
            ("Sales report,,\n,,", 3),
            ("# made by me, in 2024\n# again", 3),
            ("#\n", 3),
        ],
    )
    def test_lines_above_the_table_are_told(self, run, here, above, line):
        rows = "".join(f"{k},{2 * k},{k + 0.5}\n" for k in range(60))
        (here / "t.csv").write_text(f"{above}\na,b,y\n{rows}")
        code, _, err = run("train", "t.csv")
        assert (code, err.count("\n")) == (2, 1)
        if line is None:  # that may be names
            return
        said = f"looks like a title or a comment above the table, which begins in line {line}: leave such lines out"
        assert f"t.csv: {above.splitlines()[0]!r} {said}, as tail -n +{line} does" in err
        (here / "t.csv").write_text(f"# a,b,y\n{rows}")  # names, as numpy.savetxt writes them
        assert run("train", "t.csv", "--epochs", 1)[0] == 0

    def test_a_name_that_is_a_value_too(self, run):
        table = pandas.DataFrame({"x": np.arange(60) / 7, "red": ["red", "blue"] * 30})
        write("t.csv", table)
        assert "say --no-header if that is a row" in run("train", "t.csv")[2]
        assert run("train", "t.csv", "--header", "--epochs", 2)[0] == 0
        assert run("evaluate", "model.safetensors", "t.csv")[0] == 0

    def test_arrays_of_another_source(self, run):
        """A model of a table without texts takes an array of as many columns."""
        run("train", FOLDER / "bars.txt", "--epochs", 2)
        X = np.array([[100.0, 3], [200, 5]])
        np.savez("new.npz", X=X)
        code, out, _ = run("predict", "model.safetensors", "new.npz")
        assert code == 0
        said = read_model("model.safetensors").predict(X.T)[0]
        np.testing.assert_allclose([float(line) for line in out.splitlines()[1:]], said)
        assert run("predict", "model.safetensors", FOLDER / "towns.csv")[0] == 2


class TestGoingOn:
    def test_with_the_columns_classes_and_layers_of_a_model(self, run):
        table = towns()
        write("t.csv", table)
        write("more.csv", towns(60, seed=3)[["town", "kind", "x"]][lambda t: t.kind != "x9"])
        first = trained(run, "t.csv", "--drop", "key", "--epochs", "5", "--hidden", "7,5", "--schedule", "constant")
        before = read_model("model.safetensors")
        again = trained(run, "more.csv", "--resume", "model.safetensors", "--target", "kind", "--epochs", "5")
        after = read_model("model.safetensors")
        assert (again["sizes"], after.network) == (first["sizes"], before.network)
        for key in ("classes", "features", "preprocessing", "target"):
            assert after.metadata[key] == before.metadata[key]
        assert not np.array_equal(after.params.vector, before.params.vector)
        whole = trained(run, "t.csv", "--resume", "model.safetensors", "--epochs", "40")
        assert whole["held_out"]["accuracy"] >= first["held_out"]["accuracy"]

    def test_without_an_update_it_is_the_same(self, run):
        trained(run, "bars.txt", "--epochs", "2")
        before = read_model("model.safetensors")
        trained(
            run, "bars.txt", "--epochs", "1", "--learning-rate", "1e-30", "--l2", "0", "--resume", "model.safetensors"
        )
        np.testing.assert_allclose(read_model("model.safetensors").params.vector, before.params.vector, rtol=1e-6)

    @pytest.mark.parametrize("option", ["--hidden", "--output"])
    def test_other_layers_are_refused(self, run, option):
        trained(run, "bars.txt", "--epochs", "2")
        value = {"--hidden": "3", "--output": "exp"}[option]
        code, _, err = run("train", FOLDER / "bars.txt", "--force", "--resume", "model.safetensors", option, value)
        assert (code, f"{option} cannot be said with --resume" in err) == (2, True)


PECULIAR = {
    "reading": [[], {"na": 5}, {"na": [1]}, {"header": "no"}, {"id": {"a": 1}}, {"id": ["none such"]}, "x"],
    "baseline": [[], {"answer": 99, "name": "x"}, {"answer": "x", "name": "x"}, {"answer": 0}, 7],
    "split": [[], {"rows": 200}, {"rows": 200, "seed": -1, "trained_on": 1, "validation": 0.5, "test": 0.5}, None],
    "sketch": ["x", ["x"], [1], ["g" * 16], {}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in PECULIAR.items() for value in values])
def test_a_model_that_tells_nonsense_of_its_training(run, key, value):
    write("t.csv", towns())
    run("train", "t.csv", "--drop", "key", "--epochs", 1)
    model = read_model("model.safetensors")
    save(
        "m",
        model.network,
        model.params,
        metadata=model.metadata | {"training": model.metadata["training"] | {key: value}},
    )
    for words in (["evaluate", "m", "t.csv"], ["predict", "m", "t.csv"], ["info", "m"]):
        code, _, err = run(*words)
        assert (code, err) == (0, "")
