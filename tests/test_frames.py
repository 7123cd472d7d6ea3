"""In Python a model takes what the command line takes: `Model.predict` of a frame is `nnarray predict` of it."""

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from nnarray.files import read_model

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("here")

M = 120
K = np.random.default_rng(0).integers(0, 5, M)
DAYS = pandas.date_range("2020-01-01", periods=M, freq="37h")
SECONDS = pandas.to_timedelta(K * 1000 + np.arange(M), "s")


def series(values, dtype=None):
    return pandas.Series(values, dtype=dtype)


COLUMNS = {
    "durations": series(SECONDS),
    "durations with gaps": series(SECONDS).mask(K == 0),
    "durations of Arrow": series(SECONDS).astype("duration[us][pyarrow]"),
    "dates as one number": series([int(day.strftime("%Y%m%d")) for day in DAYS]),
    "dates with the day first": series(DAYS.strftime("%d.%m.%Y")),
    "dates with the month first, and a time": series(DAYS.strftime("%m/%d/%Y %H:%M:%S")),
    "dates with slashes": series(DAYS.strftime("%Y/%-m/%-d")),
    "dates with names of months": series(DAYS.strftime("%d %B %Y")),
    "dates with the month's name first": series(DAYS.strftime("%b %-d, %Y %-I:%M:%S.25 p.m.")),
    "dates as in a mail": series(DAYS.strftime("%a, %d %b %Y %H:%M:%S +0200")),
    "dates with a clock of twelve hours": series(DAYS.strftime("%m/%d/%Y %I:%M %p")),
    "dates with the year first and such a clock": series(DAYS.strftime("%Y-%m-%d %I:%M %p")),
    "dates as one number with gaps": series([int(day.strftime("%Y%m%d")) for day in DAYS], "Int64").mask(K == 0),
    "moments without marks": series(DAYS.strftime("%Y%m%dT%H%M%S")),
    "dates with an offset": series(DAYS.strftime("%Y-%m-%dT%H:%M:%S+02:00")),
    "dates with a time zone": series(DAYS.tz_localize("UTC").tz_convert("America/New_York")),
    "dates with gaps": series(DAYS).mask(K == 0),
    "integers with gaps": series(K, "Int64").mask(K == 1),
    "truth with gaps": series(K > 2, "boolean").mask(K == 0),
    "decimals": series([Decimal(int(k) * 10) / 100 for k in K], object),
    "texts with spaces": series(np.array(["a", " b", "c ", "é", "É"])[K]),
    "texts that mark a missing cell": series(np.array(["", "b", "NA", "nan", "c"])[K]),
    "numbers among marks": series(np.array(["1", "2.5", "NA", "", "7"])[K]),
    "bytes": series([bytes([97 + k]) for k in K], object),
}


def model_and_predictions(run, column, *options):
    """The model that the command line makes of a frame, the frame, and what the command line predicts for it."""
    frame = pandas.DataFrame({"z": K + np.arange(M) / 99, "x": column, "y": K * 2.5 + np.arange(M) / 50})
    frame.to_parquet("t.parquet")
    assert run("train", "t.parquet", "--epochs", "3", "--force", *options)[0] == 0
    code, out, _ = run("predict", "model.safetensors", "t.parquet")
    assert code == 0
    return read_model("model.safetensors"), frame, np.array(out.splitlines()[1:], dtype=float)


def assert_same(model, columns, expected):
    np.testing.assert_allclose(model.predict(columns)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("options", [(), ("--categorical", "x")], ids=["as it is", "categories"])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_frame_is_read_as_its_file(run, name, options):
    model, frame, expected = model_and_predictions(run, COLUMNS[name], *options)
    assert_same(model, frame, expected)
    assert_same(model, {name: frame[name].tolist() for name in "zx"}, expected)
    assert_same(model, pandas.read_parquet("t.parquet"), expected)


def test_a_masked_cell_is_missing(run):
    model, frame, expected = model_and_predictions(run, series(K / 2).mask(K == 1))
    masked = np.ma.array(np.where(K == 1, -1e6, K / 2), mask=K == 1)
    assert_same(model, {"z": frame["z"], "x": masked}, expected)
    assert_same(
        model, np.ma.array([frame["z"].to_numpy(), masked.data], mask=[np.zeros(M, bool), masked.mask]), expected
    )


def test_marks_of_missing_cells_are_those_of_training(run):
    texts = series(np.array(["?", "b", "c", "b", "c"])[K])
    model, frame, expected = model_and_predictions(run, texts, "--na", "?")
    assert None in model.preprocessing.columns[1].categories
    assert_same(model, frame, expected)


@pytest.mark.parametrize("write", ["to_parquet", "to_csv"])
def test_numbers_mark_missing_cells_too(run, write):
    """-9999, as an integer or a float, is missing in the file, in its frame and in texts of it."""
    numbers = series(np.where(K == 1, -9999, K * 1.5))
    frame = pandas.DataFrame({"z": K + np.arange(M) / 99, "x": numbers, "y": K * 2.5 + np.arange(M) / 50})
    getattr(frame, write)("t.table", index=False)
    assert run("train", "t.table", "--epochs", "3", "--na=-9999")[0] == 0
    assert "'x' has" in (said := run("predict", "model.safetensors", "t.table", "--out", "p.csv"))[2], said
    expected = pandas.read_csv("p.csv")["prediction"]
    model = read_model("model.safetensors")
    assert model.preprocessing.columns[1].fill > 0
    assert_same(model, frame.assign(x=numbers.mask(K == 1)), expected)
    assert_same(model, frame, expected)
    assert_same(model, frame.assign(x=numbers.astype(str)), expected)


def test_bits_are_the_truth(run):
    model, frame, expected = model_and_predictions(run, series(K > 2))
    assert model.preprocessing.columns[1].categories == ("False", "True")
    for given in (K > 2, (K > 2).astype(int), np.where(K > 2, 1.0, 0.0), np.where(K > 2, "1", "0")):
        assert_same(model, {"z": frame["z"], "x": given}, expected)


@pytest.mark.parametrize(
    "make",
    [
        pyarrow.Table.from_pandas,
        lambda frame: frame.to_records(index=False),
        lambda frame: frame.rename(columns={"x": " x ", "z": "z "}),
        lambda frame: {"x": frame["x"], "x ": None, "z": frame["z"]},
    ],
    ids=["an Arrow table", "a structured array", "names with spaces", "the name itself beside one with a space"],
)
def test_columns_are_found_by_name_in_other_tables(run, make):
    model, frame, expected = model_and_predictions(run, series(np.array(["a", "b", "c", "d", "é"])[K]))
    assert_same(model, make(frame), expected)


def test_columns_with_numbers_for_names(run):
    frame = pandas.DataFrame({0: K + np.arange(M) / 99, 1: K * 1.5, 2: K * 2.5 + np.arange(M) / 50})
    frame.to_csv("t.csv", index=False)
    assert run("train", "t.csv", "--epochs", "3")[0] == 0
    assert run("predict", "model.safetensors", "t.csv", "--out", "p.csv")[0] == 0
    assert_same(read_model("model.safetensors"), frame, pandas.read_csv("p.csv")["prediction"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": K}, "needs the columns 'z', one of each; the table has 'x'"),
        ({"Z": K, "x": K}, "needs the columns 'z', one of each; the table has 'Z', 'x'"),
        ({" z": K, "z ": K, "x": K}, "needs the columns 'z', one of each; the table has ' z', 'z ', 'x'"),
        ({}, "needs the columns 'z', 'x', one of each; the table has none"),
    ],
)
def test_columns_that_are_not_there(run, given, said):
    model, _, _ = model_and_predictions(run, series(K))
    with pytest.raises(ValueError, match=said):
        model.predict(given)


@pytest.mark.parametrize(
    ("trained_on", "given", "said"),
    [
        (
            np.array(["a", "b", "c", "d", "é"])[K],
            np.where(K > 3, "Ulm", "a"),
            r"\d+ of 120 cells, such as 'Ulm', are none",
        ),
        (K * 1.5, np.where(K > 3, 1e6, K), r"\d+ of 120 cells, such as '1000000.0', are far beyond all"),
        (
            DAYS.strftime("%d.%m.%Y"),
            DAYS.astype("datetime64[s]").astype("int64"),
            "120 of 120 cells, .* are far beyond",
        ),
    ],
    ids=["texts", "numbers", "seconds for days"],
)
def test_cells_that_training_had_none_like_are_told(run, trained_on, given, said):
    model, frame, expected = model_and_predictions(run, series(trained_on))
    with pytest.warns(UserWarning, match=f"^the column 'x': {said}") as caught:
        model.predict({"z": frame["z"], "x": given})
    assert caught[0].filename == __file__
    assert_same(model, frame, expected)  # without a warning


def test_missing_cells_are_not_told_as_unseen(run):
    model, frame, _ = model_and_predictions(run, series(np.array(["a", "b", "c", "d", "é"])[K]))
    assert None not in model.preprocessing.columns[1].categories
    for missing in (None, float("nan"), pandas.NA, "NA", " "):
        model.predict({"z": frame["z"], "x": [missing] * M})  # a warning would be an error
    with pytest.raises(ValueError, match="at least one example"):
        model.predict(frame[:0])


@pytest.mark.parametrize("write", ["to_parquet", "to_csv"])
def test_dates_as_one_number_are_dates_with_gaps_too(run, write):
    days = series([int(day.strftime("%Y%m%d")) for day in DAYS], "Int64").mask(K == 0)
    getattr(pandas.DataFrame({"x": days, "y": K * 1.5}), write)("t.table", index=False)
    assert run("train", "t.table", "--epochs", "1")[0] == 0
    assert read_model("model.safetensors").preprocessing.columns[0].kind == "date"


def test_numbers_are_the_categories_that_they_equal(run):
    model, frame, expected = model_and_predictions(
        run, series(np.array(["1.0", "1.50", "2", "b", "c"])[K]), "--categorical", "x"
    )
    cells = [1, 1.5, Decimal("2.0"), "b", "c"]
    assert_same(model, frame.assign(x=series([cells[k] for k in K], object)), expected)
    codes = model.preprocessing.columns[1].codes
    assert codes(["1.50", "1.5", 1.25]).tolist() == [1, -1, -1]


@pytest.mark.parametrize(
    ("trained_on", "given", "said"),
    [
        (series(K), series(DAYS), "takes numbers here, got dates"),
        (series(K), K * 1j, "takes numbers here, got complex numbers"),
        (series(K), np.stack([K, K], axis=1), r"shape \(m,\), got shape \(120, 2\)"),
        (series(K), ["1_000"] * M, "could not convert string to float: '1_000'"),
        (series(K), ["\u0661\u0662"] * M, "could not convert string to float: "),
        (series(DAYS), series(SECONDS), "takes dates here, got timedelta64"),
        (series(DAYS), K > 2, "takes dates here, got bool"),
        (series(DAYS), series(["2020-01-01", 5] * (M // 2), object), "takes dates here, got numbers among them"),
        (series(DAYS), ["2020-01-01", "5"] * (M // 2), "'5' is no date"),
        (series(DAYS), ["now"] * M, "'now' is no date"),
        (series(DAYS), ["2020-13-01"] * M, "2020-13-01.* ISO texts"),
        (series(DAYS), ["01.02.2020"] * M, "'01.02.2020' is no date; dates are datetimes, ISO texts"),
        (series(DAYS.strftime("%d.%m.%Y")), ["01.13.2020"] * M, "2020-13-01"),
        (series(DAYS.strftime("%m/%d/%Y")), ["01/02/2020 14:30 PM"] * M, "14:30 PM' is no date"),
        (series(np.array(list("abcde"))[K]), np.array(list("abcde"))[K][:, None], r"got shape \(120, 1\)"),
    ],
)
def test_cells_of_another_kind_are_refused(run, trained_on, given, said):
    model, frame, _ = model_and_predictions(run, trained_on)
    with pytest.raises((TypeError, ValueError), match=f"the column 'x': .*{said}"):
        model.predict({"z": frame["z"], "x": given})


def test_seconds_in_python_too(run):
    model, frame, expected = model_and_predictions(run, series(SECONDS))
    given = [timedelta(seconds=x) if k % 2 else x for k, x in enumerate(SECONDS.total_seconds())]
    assert_same(model, {"z": frame["z"], "x": given}, expected)
