"""What the command line says of a table that a person should know, and of columns that it does not use."""

import errno
import json
import os
from contextlib import suppress

import numpy as np
import pytest
from conftest import trained

from nnarray.files import read_model

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("here")

M = 120
RNG = np.random.default_rng(0)
X, NOISE = RNG.normal(size=M).round(4), RNG.normal(size=M).round(4)
Y = (X + NOISE).round(3)


def write(path, **columns):
    pandas.DataFrame(columns).to_csv(path, index=False)


def refused(run, *words):
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("nnarray: error: ").rstrip("\n")


class TestLeaks:
    """A column that is the target in other words gives a model that is useless where it counts."""

    @pytest.mark.parametrize(
        ("leak", "y"),
        [
            (Y, Y),
            (1e6 - 250 * Y, Y),
            ((1.1 * Y).round(4), 1000 + Y),
            (np.where(Y > 0, "paid", "open"), np.where(Y > 0, "yes", "no")),
            (np.where(Y > 0, 2.5, -1), np.where(Y > 0, "yes", "no")),
            (np.digitize(Y, [-1, 1]), np.array(["low", "middle", "high"])[np.digitize(Y, [-1, 1])]),
        ],
    )
    def test_are_told(self, run, leak, y):
        write("t.csv", leak=leak, x=X, y=y)
        (note,) = trained(run)["notes"]
        assert note.startswith("the column 'leak' tells the target alone, in other words or units: ")
        assert trained(run, "--drop", "leak")["notes"] == []

    @pytest.mark.parametrize(
        ("column", "y"),
        [
            (Y + 0.05 * NOISE, Y),
            (np.where(Y > 0, "paid", np.where(Y > -1, "open", "lost")), np.where(Y > 0, "yes", "no")),
            (np.where(Y > 0.1, "paid", "open"), np.where(Y > 0, "yes", "no")),
            (Y, np.where(Y > 0, "yes", "no")),
        ],
    )
    def test_what_only_tells_much_is_not(self, run, column, y):
        write("t.csv", column=column, x=X, y=y)
        assert trained(run)["notes"] == []


class TestTotals:
    """A spreadsheet's row of totals would be one example more, and a hundred times as large as the others."""

    @pytest.mark.parametrize("last", [{"x": True, "y": True}, {"x": True, "y": False}, {"x": False, "y": True}])
    def test_a_last_row_of_sums_is_told(self, run, last):
        columns = {"x": np.abs(X).round(2), "y": np.abs(Y) + 1, "z": NOISE}
        ends = {"x": [columns["x"].sum().round(2) if last["x"] else ""], "z": [0.5]}
        ends["y"] = [columns["y"].sum().round(3) if last["y"] else 1.5]
        write("t.csv", **{name: [*columns[name], *ends[name]] for name in "xzy"})
        named = ", ".join(repr(name) for name in "xy" if last[name])
        said = f"the last row has the sums of all others in {named}: if these are totals, leave it out"
        assert said in trained(run)["notes"]

    @pytest.mark.parametrize(
        "x",
        [
            np.r_[np.zeros(M - 1), 0],
            np.r_[np.zeros(M - 3), 1, 1, 2],
            np.r_[np.ones(M - 1), M - 2],
            np.r_[X[:-1], X[:-1].sum()],
        ],
        ids=["zeros", "two alone", "one less", "of both signs"],
    )
    def test_what_may_be_chance_is_not(self, run, x):
        write("t.csv", x=x, z=NOISE, y=Y)
        assert not any("sums" in said for said in trained(run)["notes"])


class TestMissingTargets:
    """What the line on a missing target says is what `evaluate` takes."""

    def test_their_rows_are_left_out_where_asked(self, run):
        gaps = np.arange(M) % 8 == 3
        table = pandas.DataFrame({"x": X, "day": "2020-01-01", "y": pandas.Series(Y).mask(gaps)})
        table.loc[2, "x"] = np.nan
        table.to_csv("t.csv", index=False)
        table.dropna().to_csv("whole.csv", index=False)
        trained(run, "--missing", "drop")
        code, out, err = run("evaluate", "model.safetensors", "t.csv", "--json")
        assert (code, out) == (2, "")
        assert "row 4 (line 5), column 'y': the empty cell is a missing target" in err
        assert "--missing drop" in err
        code, out, err = run("evaluate", "model.safetensors", "t.csv", "--missing", "drop", "--json")
        assert (code, err) == (0, f"note: {gaps.sum() + 1} rows with missing cells are left out\n")
        figures = json.loads(out)
        assert figures["examples"] == M - gaps.sum() - 1
        assert "held_out" in figures
        whole = json.loads(run("evaluate", "model.safetensors", "whole.csv", "--json")[1])
        assert figures["r2"] == whole["r2"]

    def test_of_what_is_left_each_cell_is_told_by_its_own_row(self, run):
        write("t.csv", x=X, y=Y)
        trained(run)
        write("new.csv", x=["", "1.5", "many"], y=Y[:3])
        code, _, err = run("evaluate", "model.safetensors", "new.csv", "--missing", "drop")
        assert code == 2
        assert "row 3 (line 4), column 'x': 'many' is not a finite number" in err
        assert err.rstrip().endswith("Mend such cells or mark them as missing with --na")  # the model needs the column
        write("bad.csv", x=["many", *X[1:]], y=Y)
        assert (
            run("train", "bad.csv", "--force")[2]
            .rstrip()
            .endswith("take the column as categories with --categorical or leave it out with --drop")
        )


ONCE = 5
"""A row of the training part."""


class TestMarks:
    """Numbers that stand for a missing cell are far from all others, and come more than once."""

    @pytest.mark.parametrize("mark", ["-9999", "-999", "99999", "-32768", "2147483647"])
    def test_are_told_and_taken(self, run, mark):
        x = np.where(np.arange(M) % 9 == 4, int(mark), (100 * X).round())
        write("t.csv", x=x, z=NOISE, y=Y)
        (note,) = trained(run)["notes"]
        assert note.startswith(f"the column 'x' has {mark} in ")
        assert note.endswith(f" rows, far from all others: if it marks a missing cell, say --na={mark}")
        (note,) = trained(run, f"--na={mark}")["notes"]
        assert note == "the column 'x' has 13 missing cells, taken for its median"

    def test_of_dates_and_of_the_target(self, run):
        days = pandas.date_range("2020-01-01", periods=M).strftime("%Y-%m-%d").to_numpy()
        rows = np.arange(M) % 9 == 4
        write("t.csv", day=np.where(rows, "9999-12-31", days), z=NOISE, y=np.where(rows, -999, Y))
        first, second = trained(run)["notes"]
        assert first.startswith("the target has -999 in ")
        assert second.startswith("the column 'day' has 9999-12-31 in ")
        assert second.endswith("say --na=9999-12-31")

    @pytest.mark.parametrize(
        "x",
        [
            np.where(np.arange(M) % 9 == 4, 99, np.arange(M) % 90),
            np.where(np.arange(M) == ONCE, -9999, np.arange(M) * 40),
            np.where(np.arange(M) % 9 == 4, -5000, np.arange(M) % 90),
        ],
        ids=["near", "once", "no such number"],
    )
    def test_other_numbers_are_not(self, run, x):
        write("t.csv", x=x, z=NOISE, y=Y)
        assert not any("marks a missing cell" in said for said in trained(run)["notes"])


class TestRepeats:
    def test_a_file_with_rows_of_the_training_is_told(self, run):
        table = pandas.DataFrame({"x": X, "town": np.where(NOISE > 0, "Ulm", "Bonn"), "y": Y})
        write("t.csv", **table)
        write("v.csv", **table[["y", "x", "town"]][30:50])
        write("new.csv", **table.assign(x=table.x + 1)[:40])
        notes = trained(run, "--test", "v.csv", "--validation", "0")["notes"]
        assert notes == ["20 of the 20 rows of v.csv are the same as rows that are trained on"]
        assert trained(run, "--test", "new.csv", "--validation", "0")["notes"] == []
        (note,) = trained(run, "--test", "new.csv", "--validation", "v.csv")["notes"]
        assert "rows of v.csv are the same" in note
        _, out, _ = run("train", "t.csv", "--force", "--quiet", "--epochs", 2, "--test", "v.csv", "--validation", "0")
        assert out.endswith(", on 20 held-out examples, 20 of which are the same as rows that training saw\n")

    def test_what_training_never_saw_is_said_of_no_other_rows(self, run):
        once = pandas.DataFrame({"x": X, "y": Y})
        for table, said in ((once, "that training never saw"), (pandas.concat([once, once]), "of which are the same")):
            write("t.csv", **table)
            assert said in run("train", "t.csv", "--force", "--quiet", "--epochs", 2)[1]

    def test_the_same_features_with_another_target_are_other_rows(self, run):
        write("t.csv", x=X, y=Y)
        write("v.csv", x=X, y=Y + 1)
        assert trained(run, "--test", "v.csv")["notes"] == []


class TestFarCells:
    @pytest.mark.parametrize(("cell", "count"), [("1e30", 1), (-70_000, 1), (4, 0), ("", 0)])
    def test_numbers_in_another_unit_are_told(self, run, cell, count):
        write("t.csv", x=X, day=pandas.date_range("2024-01-01", periods=M).astype(str), y=Y)
        trained(run)
        write("new.csv", x=[1, cell, 2], day=["2024-02-03", "2024-02-04", "3024-01-01" if count else "2024-03-01"])
        code, _, err = run("predict", "model.safetensors", "new.csv")
        assert code == 0
        assert err.count("far beyond all of the training's") == 2 * count
        if count:
            assert "note: the column 'x' has 1 cells far beyond all of the training's, such as " in err
            assert "note: the column 'day' has 1 cells far beyond" in err


class TestColumnsThatAreNotUsed:
    def test_constant_ones_are_named(self, run):
        write("t.csv", one=5, x=X, same="a", y=Y)
        out = run("train", "t.csv", "--epochs", 1)[1]
        assert "3 features (2 of them constant in the training part, ignored: 'one', 'same')" in out

    def test_an_index_of_pandas(self, run):
        write("t.csv", **{"Unnamed: 0.1": np.arange(M), "Unnamed: 0": np.arange(M), "x": X, "y": Y})
        assert trained(run)["notes"] == [
            "the index 'Unnamed: 0', 'Unnamed: 0.1' of pandas is left out, unless --features has it"
        ]
        assert read_model("model.safetensors").metadata["features"] == ["x"]
        trained(run, "--features", "Unnamed: 0,x")
        assert read_model("model.safetensors").metadata["features"] == ["Unnamed: 0", "x"]

    def test_an_index_of_parquet_is_what_it_is_in_csv(self, run):
        table = pandas.DataFrame({"x": X, "y": Y})
        keys = pandas.Index([f"k{k}" for k in range(M)], name="key")
        table.assign(list=[[1]] * M)[["list", "x", "y"]].set_index(keys).to_parquet("t.parquet")
        table.set_index(pandas.date_range("2024-01-01", periods=M)).to_parquet("dates.parquet")
        trained(run, "--id", "key", "--drop", "list", path="t.parquet")
        assert run("predict", "model.safetensors", "t.parquet")[1].startswith("key,prediction\nk0,")
        assert trained(run, path="dates.parquet")["notes"] == ["its index has no name and is left out"]
        assert run("predict", "model.safetensors", "t.parquet")[0] == 0

    def test_columns_of_parquet_that_cannot_be_read_may_be_there(self, run):
        table = pandas.DataFrame(
            {"list": [[1, 2]] * M, "x": X, "record": [{"a": 1, "b": 2}] * M, "bytes": [b"\xff\xfe"] * M, "y": Y}
        )
        table.to_parquet("t.parquet")
        said = refused(run, "train", "t.parquet")
        for name in ("list", "record"):
            assert f"column '{name}': lists and records are not read: leave it out with --drop" in said
        assert "column 'bytes': bytes that are no text: leave it out with --drop" in said
        for options in (["--drop", "list,record,bytes"], ["--features", "x"]):
            trained(run, *options, path="t.parquet")
            assert run("predict", "model.safetensors", "t.parquet")[0] == 0
            assert run("evaluate", "model.safetensors", "t.parquet")[0] == 0
        for option in ("--target", "--weights"):
            said = refused(run, "train", "t.parquet", option, "list", "--features", "x", "--force")
            assert "column 'list': lists and records are not read" in said
        assert "column 'record': lists" in refused(run, "predict", "model.safetensors", "t.parquet", "--id", "record")

    def test_two_columns_of_one_name(self, run):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table([X, X, Y], names=["a", "a", "y"]), "t.parquet")
        said = "t.parquet must have rows, and columns of different names; it has 'a', 'a', 'y'"
        assert refused(run, "train", "t.parquet") == said


class TestWeights:
    @pytest.mark.parametrize(
        ("cell", "count", "said"),
        [
            (-1, 1, "'-1' is no weight: these are finite numbers ≥ 0"),
            ("heavy", 3, "'heavy' is no weight (and 2 more such)"),
            ("", 2, "the empty cell is no weight (and 1 more such)"),
            ("1e999", 1, "'1e999' is no weight"),
            ("2024-01-31", M - 4, f"'2024-01-31' is no weight (and {M - 5} more such)"),
        ],
    )
    def test_a_cell_that_is_none(self, run, cell, count, said):
        weights = [cell if 4 <= k < 4 + count else 1 for k in range(M)]
        write("t.csv", x=X, w=weights, y=Y)
        error = refused(run, "train", "t.csv", "--weights", "w")
        assert f"t.csv, row 5 (line 6), column 'w': {said}" in error
        assert error.endswith("give the row one, 0 to leave it out")
        assert "--categorical" not in error

    @pytest.mark.parametrize("unit", [1e-320, 1e-9, 1000, 1e307])
    def test_their_unit_makes_no_difference(self, run, unit):
        weights = np.where(X > 0, 3, 1)
        figures = []
        for scale in (1, unit):
            write("t.csv", x=X, w=weights * scale, y=Y)
            figures.append(trained(run, "--weights", "w")["held_out"]["rmse"])
        assert figures[0] == pytest.approx(figures[1], rel=1e-3 if unit < 1e-300 else 1e-6)

    def test_one_column_is_asked_for(self, run):
        write("t.csv", x=X, w=1, y=Y)
        said = "t.csv has no column 'x,w'; its columns are 'x', 'w', 'y'"
        assert refused(run, "train", "t.csv", "--weights", "x,w") == said
        write("t.csv", **{"x,w": 1, "x": X, "y": Y})
        trained(run, "--weights", "x,w")


class TestFormats:
    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"SQLite format 3\0" + bytes(99), "an SQLite database"),
            (b"ARROW1\0\0\xff\xff", "Feather"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
            (b"\x80\x04\x95\x10\0\0", "a pickle of Python, which may run code"),
            (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
            (b"\x93NUMPY\x01\0", "an array of NumPy, whose name has to end in .npy"),
            (b"]\0\0\x80\0\xff\xff", "an archive of a kind that is not unpacked"),
            (b"a.csv" + bytes(252) + b"ustar\x0000", "a tar archive"),
        ],
    )
    @pytest.mark.parametrize("packed", [False, True])
    def test_bytes_are_named_for_what_they_are(self, run, here, content, what, packed):
        import gzip

        (here / "t.csv").write_bytes(gzip.compress(content) if packed else content)
        assert refused(run, "train", "t.csv").startswith(f"t.csv is {what}")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
    def test_marks_of_encodings(self, run, here, encoding):
        table = pandas.DataFrame({"größe": X, "y": Y}).to_csv(index=False)
        (here / "t.csv").write_text(table, encoding=encoding)
        trained(run)
        assert read_model("model.safetensors").metadata["features"] == ["größe"]

    def test_a_name_that_is_no_utf_8_costs_no_training(self, run, here):
        name = "caf\udce9.csv"
        write(name, x=X, y=Y)
        trained(run, "--test", name, path=name)
        assert read_model("model.safetensors").metadata["training"]["data"] == r"caf\udce9.csv"

    def test_a_cell_of_megabytes_is_told_where_it_is(self, run, here):
        rows = "".join(f"{x},{y}\n" for x, y in zip(X, Y, strict=True))
        (here / "t.csv").write_text(f"x,y\n{rows}{'9' * 3_000_000},1\n")
        said = refused(run, "train", "t.csv")
        assert f"row {M + 1} (line {M + 2}), column 'x': '999" in said
        assert "… (3000000 characters) is not a finite number" in said
        assert len(said) < 600

    def test_a_value_that_begins_with_a_dash(self, run):
        assert "one that begins with - is joined by =, as --drop=-x" in refused(run, "train", "t.csv", "--drop", "--x")


class TestWords:
    """What is printed stays in its line, and a stream that takes nothing is named."""

    def test_labels_and_names_with_line_ends(self, run):
        label = "a\nerror: all is lost"
        write("t\nu.csv", x=X, y=np.where(X > 0, label, "b"))
        _, out, _ = run("train", "t\nu.csv", "--force", "--epochs", 2)
        assert run("evaluate", "model.safetensors", "t\nu.csv")[1].count(r"a\nerror: all is lost") >= 2
        assert out.startswith(r"read t\nu.csv: 120 examples, ")
        assert "2 classes ('a\\nerror: all is lost', 'b')" in out
        assert "\nerror" not in out

    def test_a_quotation_mark_that_is_never_closed(self, run, here):
        (here / "t.csv").write_text("x,y\n" + "1,2\n" * 9 + '"3,4\n' + "1,2\n" * 9)
        assert refused(run, "train", "t.csv") == "t.csv, line 11: a quotation mark opens a cell that never ends"

    @pytest.mark.parametrize("command", ["train t.csv --force --epochs 1", "info", "predict model.safetensors t.csv"])
    def test_a_full_standard_output_is_named(self, run, monkeypatch, command):
        write("t.csv", x=X, y=Y)
        trained(run)
        full = open("/dev/full", "w")  # noqa: SIM115
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", full)
            code, _, err = run(*command.split())
        with suppress(OSError):
            full.close()
        assert (code, err) == (2, "nnarray: error: standard output: No space left on device\n")

    @pytest.mark.filterwarnings("always:the checkpoint")
    def test_a_file_that_cannot_be_written_is_named_and_no_other(self, run, monkeypatch):
        """A disk that is full at the end; a checkpoint is told in one line, and training goes on."""
        write("t.csv", x=X, y=Y)

        def full(file, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        trained(run)
        for option, words in (
            ("--split-out", "train t.csv --out m.safetensors --epochs 1 --quiet"),
            ("--history", "train t.csv --out m.safetensors --epochs 1 --quiet"),
            ("OUT", "export model.safetensors"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr("nnarray.cli.train.save", lambda *_, **__: None)
                patch.setattr(os, "write", full)
                code, _, err = run(*words.split(), *([option] if option != "OUT" else []), "f.onnx")
            assert (code, err) == (2, "nnarray: error: f.onnx: No space left on device\n")
        every = ("--checkpoint", "c", "--checkpoint-every", "epoch")
        with monkeypatch.context() as patch:
            patch.setattr("nnarray.cli.train.save", lambda *_, **__: None)
            patch.setattr(os, "write", full)
            code, _, err = run("train", "t.csv", "--epochs", 2, "--quiet", "--out", "m.safetensors", *every)
        assert (code, {*err.splitlines()}) == (
            0,
            {"nnarray: warning: the checkpoint c cannot be written: No space left on device"},
        )


class TestOtherTables:
    """What holds for DATA holds for every other table that a command reads."""

    @pytest.fixture
    def tables(self, run):
        town = np.where(NOISE > 0, "Ulm", "Bonn")
        write("t.csv", x=X, town=town, y=Y)
        trained(run, "--out", "first")
        write("unseen.csv", x=X + 0.5, town=["Rom", "Oslo"] * (M // 2), y=Y)
        write("far.csv", x=np.where(np.arange(M) < 7, 1e9, X + 0.5), town=town, y=Y)
        write("holes.csv", x=np.where(np.arange(M) < 5, np.nan, X + 0.5), town=town, y=Y)
        write("no_target.csv", x=X + 0.5, town=town, y=np.where(np.arange(M) < 9, np.nan, Y))

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("unseen.csv", "'town' has 120 texts that are none of its categories, such as 'Rom'"),
            ("far.csv", "'x' has 7 cells far beyond all of the training's, such as '1000000000.0'"),
            ("holes.csv", "'x' has 5 missing cells"),
        ],
    )
    def test_cells_that_training_had_none_like_are_told(self, run, tables, name, said):
        for command in ("predict", "evaluate"):
            assert f"note: the column {said}\n" in run(command, "first", name)[2]
        for option in ("--test", "--validation"):
            assert f"in {name}, the column {said}" in trained(run, option, name)["notes"]
        (note,) = trained(run, "--resume", "first", "--out", "again", path=name)["notes"]
        assert note.startswith(f"the column {said}")

    def test_whole_numbers_that_are_categories_may_have_a_point(self, run):
        """As pandas writes them where one is missing; and codes may have lost their zeros, if it is clear which."""
        code = np.array(["007", "12", "x", "inf"])[np.arange(M) % 4]
        write("t.csv", code=code, x=X, y=Y)
        trained(run, "--categorical", "code")
        write("same.csv", code=code, x=X)
        changed = {"007": "7", "12": "12.0", "x": "x", "inf": "inf"}
        write("other.csv", code=[changed[text] for text in code], x=X)
        said = [run("predict", "model.safetensors", name) for name in ("same.csv", "other.csv")]
        assert said[0] == said[1] == (0, said[0][1], "")
        write("other.csv", code=["7.5", "nan7", "1e400", "13.0"], x=[1, 2, 3, 4])
        assert "has 4 texts that are none of its categories" in run("predict", "model.safetensors", "other.csv")[2]

    @pytest.mark.parametrize("label", ["1e400", "1e999999999", "snan", "NaN1", "-inf", "9" * 300, "0x10", "1_0"])
    def test_labels_that_look_like_numbers(self, run, label):
        write("t.csv", x=X, y=np.where(X > 0, label, "b"))
        assert [*trained(run)["held_out"]["classes"]] == sorted([label, "b"])
        assert run("evaluate", "model.safetensors", "t.csv")[0] == 0
        write("t.csv", x=X, y=np.where(X > 0, "3", "b"))
        trained(run)
        write("new.csv", x=X, y=label)
        assert "is none of the model's classes: 3, b" in refused(run, "evaluate", "model.safetensors", "new.csv")

    @pytest.mark.parametrize("option", ["--test", "--validation"])
    def test_missing_cells(self, run, tables, option):
        error = refused(run, "train", "t.csv", "--missing", "refuse", option, "holes.csv")
        assert "holes.csv has missing cells, which --missing refuse forbids: row 1 (line 2), column 'x'" in error
        assert "no_target.csv, row 1 (line 2), column 'y': the empty cell is a missing target" in refused(
            run, "train", "t.csv", option, "no_target.csv"
        )
        for name, rows in (("holes.csv", M - 5), ("no_target.csv", M - 9)):
            found = trained(run, "--missing", "drop", "--test", name)
            assert found["held_out"]["examples"] == rows

    def test_a_model_that_stands_where_data_should(self, run, tables):
        assert refused(run, "train", "first").startswith("first is in the format safetensors, as models are, and not a")
