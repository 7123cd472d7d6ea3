"""In Python a model takes what the command line takes: `Model.predict` of a frame is `nnarray predict` of it."""

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from nnarray.files import read_model

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
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
        (series(DAYS), series(SECONDS), "takes dates here, got timedelta64"),
        (series(DAYS), K > 2, "takes dates here, got bool"),
        (series(DAYS), series(["2020-01-01", 5] * (M // 2), object), "takes dates here, got numbers among them"),
        (series(DAYS), ["2020-01-01", "5"] * (M // 2), "'5' is no date"),
        (series(DAYS), ["now"] * M, "'now' is no date"),
        (series(DAYS), ["2020-13-01"] * M, "2020-13-01.* ISO texts"),
        (series(DAYS), ["01.02.2020"] * M, "'01.02.2020' is no date; dates are datetimes, ISO texts"),
        (series(DAYS.strftime("%d.%m.%Y")), ["01.13.2020"] * M, "2020-13-01"),
        (series(DAYS.strftime("%m/%d/%Y")), ["01/02/2020 02:30 PM"] * M, "02:30 PM' is no date"),
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
