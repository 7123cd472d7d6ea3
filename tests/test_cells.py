"""How people write numbers and dates: read as what they are or refused with the way out, never as something else."""

import numpy as np
import pytest
from conftest import trained

from nnarray.cli import dates
from nnarray.cli.table import Table
from nnarray.files import read_model
from nnarray.files.preprocessing import Category

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("here")


def write(path, sep=",", **columns):
    pandas.DataFrame(columns).to_csv(path, index=False, sep=sep)


def refused(run, *options, path="t.csv"):
    """The one line with which a table is refused."""
    code, out, err = run("train", path, "--force", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("nnarray: error: ")
    return err


def predictions(run, path, *options):
    code, out, _ = run("predict", "model.safetensors", path, *options)
    assert code == 0
    return np.array(out.splitlines()[1:], dtype=float)


def german(x):
    return f"{x:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


M = 90
DAYS = pandas.date_range("2023-01-15", periods=M, freq="41h")
Y = np.arange(M) / 7


class TestDates:
    @pytest.mark.parametrize(
        ("form", "layout"),
        [
            ("%Y-%m-%d", "ISO8601"),
            ("%Y-%m-%dT%H:%M:%S+02:00", "ISO8601"),
            ("%-m/%-d/%Y %I:%M %p", "month"),
            ("%d/%m/%Y, %H:%M:%S", "day"),
            ("%d.%m.%Y", "day"),
            ("%Y/%m/%d", "year"),
            ("%Y-%-m-%-d", "year"),
            ("%Y-%m-%d %H:%M:%S,250", "year"),
            ("%-d %b %Y", "named"),
            ("%B %-d, %Y", "named"),
            ("%d-%b-%Y %H:%M", "named"),
            ("%a, %d %b %Y %H:%M:%S +0100", "named"),
        ],
    )
    def test_layouts_are_told_apart_and_read_to_the_second(self, form, layout):
        texts = DAYS.strftime(form).to_numpy(dtype=object)
        assert dates.find_layout(texts.tolist()) == layout
        shift = -2 if "+02:00" in form else -1 if "+0100" in form else 0
        moments = DAYS if "%H" in form or "%I" in form else DAYS.normalize()
        expected = (moments - pandas.Timestamp("1970-01-01")) / pandas.Timedelta("1D") + shift / 24
        expected = expected + (0.25 / 86400 if ",250" in form else 0)
        np.testing.assert_allclose(dates.read_days(texts, layout), expected, rtol=0, atol=1e-8)

    @pytest.mark.parametrize(
        ("layout", "right", "wrong"),
        [
            ("month", "1/31/2026", ["31/1/2026", "31 Jan 2026", "now", "12:00", "2026"]),
            ("day", "31.01.2026", ["01.31.2026", "Jan 31, 2026", "today", "5"]),
            ("year", "2026/1/31", ["2026/31/1", "31.01.2026", "2026", "202601"]),
            ("named", "31 Jan 2026", ["1/31/2026", "31.01.2026", "Monday", "5 pm"]),
            ("ISO8601", "2026-01-31", ["31.01.2026", "2026", "now", "2026-31-01"]),
            ("%Y%m%d", "20260131", ["20263101", "260131", "2026"]),
        ],
    )
    def test_what_is_no_date_of_the_layout_is_none(self, layout, right, wrong):
        """pandas would take the day for the month, and now for a date, row by row."""
        same = [right, "2026-01-31", "2026-1-31", None, *wrong]
        days = dates.read_days(np.array(same, dtype=object), layout)
        assert days[:3].tolist() == [20484.0] * 3
        assert np.isnan(days[3:]).all()

    @pytest.mark.parametrize("layout", ["%m/%d/%Y", "%d.%m.%Y", "%d %B %Y"])
    def test_new_tables_may_write_iso_but_no_other_order(self, run, layout):
        """A date that the model's layout reads otherwise than it was meant is refused, with its row."""
        write("t.csv", day=DAYS.strftime(layout), y=DAYS.day_of_year / 100)
        trained(run)
        write("iso.csv", day=DAYS.strftime("%Y-%m-%d"))
        write("same.csv", day=DAYS.strftime(layout))
        np.testing.assert_array_equal(predictions(run, "iso.csv"), predictions(run, "same.csv"))
        other = {"%m/%d/%Y": "%d/%m/%Y", "%d.%m.%Y": "%m.%d.%Y", "%d %B %Y": "%d/%m/%Y"}[layout]
        write("other.csv", day=DAYS.strftime(other))
        code, out, err = run("predict", "model.safetensors", "other.csv")
        assert (code, out) == (2, "")
        assert f"{DAYS[0].strftime(other)!r} is no date as others in its column" in err

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            (DAYS.strftime("%H:%M"), "times of day, such as '00:00', are not read: write them as hours"),
            (DAYS.strftime("%Y-%m-%d %H:%M CET"), "dates with the name of a time zone, such as '2023-01-15 00:00 CET'"),
            (DAYS.strftime("%d-%b-%y"), "dates with a year of two digits, such as '15-Jan-23', are not read"),
            (DAYS.strftime("%d-%b"), "dates without a year, such as '15-Jan', are not read: write them as 2026-01-31"),
            (DAYS.strftime("%b '%y"), 'months, such as "Jan \'23", are not read: write them as 2026-01'),
            (DAYS.strftime("%-d. Januar %Y"), "dates with such names of months, such as '15. Januar 2023', are not"),
            (DAYS.strftime("%-d de enero de %Y"), "dates with such names of months, such as '15 de enero de 2023'"),
            ([f"{k} days 0{k % 9}:15:00" for k in range(M)], "durations, such as '0 days 00:15:00', are not read"),
            ([f"PT{k}M" for k in range(M)], "durations, such as 'PT0M', are not read: write them as hours"),
        ],
    )
    @pytest.mark.parametrize("marked", [0, 7, 30])
    def test_moments_that_are_not_read_are_no_categories(self, run, cells, said, marked):
        """Nor are they where some of them are missing by a word of the table's own."""
        cells = np.where(np.arange(M) % 3 < 1 if marked == 30 else np.arange(M) >= M - marked, "unknown", cells)
        first = said.split(", such as ")[0]
        write("t.csv", t=cells, x=np.arange(M) % 8, y=Y)
        err = refused(run)
        assert f"column 't': {said if marked != 30 else first}" in err
        trained(run, "--drop", "t")

    def test_a_word_among_dates_is_told(self, run):
        write("t.csv", day=np.where(np.arange(M) % 9, DAYS.strftime("%Y-%m-%d"), "never"), y=Y)
        assert "row 1 (line 2), column 'day': 'never' is no date as others in its column (and 9 more such)" in refused(
            run
        )
        assert trained(run, "--na", "never")["notes"] == [
            "the column 'day' has 10 missing cells, taken for its median date"
        ]

    @pytest.mark.parametrize(
        "written",
        ["Windows {}", "Room {}", "Gate-{}", "{}/{}", "Model 20{}", "{}-{}", "12-{}34", "no {}:1"],
    )
    def test_names_with_numbers_are_no_moments(self, run, written):
        cells = [written.format(10 + k % 8, 1 + k % 3) for k in range(M)]
        write("t.csv", t=cells, x=np.arange(M) % 8, y=Y)
        trained(run)


class TestNumbers:
    @pytest.mark.parametrize(
        ("price", "options"),
        [
            (lambda p: f"{p:,.2f}", ()),
            (lambda p: f"{p:,.2f}".replace(",", "'"), ("--thousands", "'")),
            (lambda p: f"{p:,.2f}".replace(",", "\u202f").replace(".", ","), ("--thousands", "\u202f")),
        ],
        ids=["1,234.50", "1'234.50", "1 234,50"],
    )
    def test_marks_between_thousands_are_read_with_either_decimal_mark(self, run, price, options):
        prices = (3700 * (1.1 ** np.arange(M))).round(2)  # none of them without the mark
        targets = 1e4 * (Y - Y.min() + 1)
        write("t.csv", sep=";", x=np.arange(M), price=[price(p) for p in prices], y=[price(y) for y in targets])
        trained(run, *options)
        _, column = (model := read_model("model.safetensors")).preprocessing.columns
        assert column.kind == "number"
        assert 0.5 < column.fill / np.median(prices) < 2
        assert 0.9 < model.preprocessing.target.mean / targets.mean() < 1.1

    @pytest.mark.parametrize(
        ("mark", "said"), [("'", 'is its "\'" between thousands (see --thousands)?'), (",", "(--thousands ,)?")]
    )
    def test_a_target_with_them_says_what_reads_it(self, run, mark, said):
        write("t.csv", sep=";", x=np.arange(M), y=[f"{1e5 * abs(y) + 1e4:,.0f}".replace(",", mark) for y in Y])
        code, _, err = run("train", "t.csv")
        assert (code, err.count("\n")) == (2, 1)
        assert err.rstrip().endswith(said)

    def test_the_mark_between_thousands_is_none_in_dates_and_addresses(self, run):
        """pandas would read 15.01.2023 as 15012023 in such a table."""
        prices = 37 * (1.1 ** np.arange(M))
        write(
            "t.csv",
            sep=";",
            day=DAYS.strftime("%d.%m.%Y"),
            ip=[f"10.0.{k % 3}.{k % 2}" for k in range(M)],
            price=[german(p) for p in prices],
            whole=[f"{k * 400:,}".replace(",", ".") for k in range(M)],
            y=[german(1e4 * y) for y in Y],
        )
        trained(run)
        day, ip, price, whole = read_model("model.safetensors").preprocessing.columns
        assert (day.kind, day.layout, ip.kind, price.kind, whole.kind) == (
            "date",
            "day",
            "category",
            "number",
            "number",
        )
        again = read_model("model.safetensors").metadata["training"]["reading"]["thousands"]
        assert again == "."
        one = pandas.read_csv("t.csv", sep=";", dtype=str).iloc[60:64]
        one.to_csv("one.csv", index=False, sep=";")
        np.testing.assert_allclose(predictions(run, "one.csv"), predictions(run, "t.csv")[60:64], rtol=1e-5)

    @pytest.mark.parametrize(
        ("thousands", "decimal", "text", "number"),
        [
            (".", ",", "1.234.567,5", 1234567.5),
            (".", ",", "-1.234", -1234.0),
            (".", ",", "1234,5", 1234.5),
            (".", ",", "1.5", None),
            (".", ",", "31.12.2026", None),
            (".", ",", "1234.567", None),
            (None, ",", "1.5", None),
            (None, ",", "1.304", None),
            (None, ",", "1,5e3", 1500.0),
            (",", ".", "1,234.5", 1234.5),
            (",", ".", "1,5", None),
            ("'", ".", "1'234'567", 1234567.0),
            ("\u202f", ",", "12\u202f345,5", 12345.5),
            (None, ".", "1_000", None),
            (None, ".", "1,000", None),
        ],
    )
    def test_texts_as_numbers(self, thousands, decimal, text, number):
        table = Table("t", ["x"], [np.array([text], dtype=object)], None, decimal=decimal, thousands=thousands)
        found = table.numbers(table.columns[0])[0]
        assert np.isnan(found) if number is None else found == number

    @pytest.mark.parametrize("sep", [",", ";"])
    def test_a_point_that_may_stand_between_thousands_is_asked_for(self, run, sep):
        numbers = np.arange(M) * 77
        write("t.csv", sep=sep, x=[f"{k:,}".replace(",", ".") for k in numbers], y=np.arange(M) % 40)
        said = "column 'x' has numbers such as '1.001' and '77': is the point the decimal mark (--decimal .) or between"
        assert said in refused(run)
        trained(run, "--decimal", ".")
        assert read_model("model.safetensors").preprocessing.columns[0].scaling.mean < 100
        trained(run, "--thousands", ".")
        assert read_model("model.safetensors").preprocessing.columns[0].scaling.mean > 1000
        write("new.csv", sep=sep, x=["1.001", "2.002", "3.003"])
        whole = predictions(run, "t.csv", "--thousands", ".")
        np.testing.assert_allclose(predictions(run, "new.csv"), whole[[13, 26, 39]], rtol=1e-5)

    @pytest.mark.parametrize("mark", [".", ","])
    def test_so_is_one_that_comes_late(self, run, mark):
        cells = np.array([str(k % 900) for k in range(500)], dtype=object)
        cells[401:] = [f"{k % 8 + 1}{mark}{k % 900 + 50:03}" for k in range(99)]
        write("t.csv", sep=";", x=cells, w=[f"{k % 7}{mark}5" for k in range(500)], y=np.arange(500) % 40)
        assert "column 'x' has numbers such as '1" in refused(run)
        cells[300] = f"2{mark}5"
        write("t.csv", sep=";", x=cells, w=[f"{k % 7}{mark}5" for k in range(500)], y=np.arange(500) % 40)
        trained(run)

    @pytest.mark.parametrize(("mark", "options"), [("NA", ()), ("null", ()), ("?", ("--na", "?"))])
    def test_a_missing_cell_hides_neither_codes_nor_marks_between_thousands(self, run, mark, options):
        codes = [mark if k % 4 == 0 else ["01067", "80331", "99084"][k % 3] for k in range(M)]
        write("t.csv", zip=codes, x=np.arange(M) % 7, y=Y)
        trained(run, *options)
        assert read_model("model.safetensors").preprocessing.columns[0] == Category(("01067", "80331", "99084", None))
        write("t.csv", x=[mark if k % 4 == 0 else f"{k * 77:,}".replace(",", ".") for k in range(M)], y=Y)
        assert "is the point the decimal mark (--decimal .) or between" in refused(run, *options)

    @pytest.mark.parametrize(
        ("sep", "encoding", "gap"), [(",", "utf-8", ""), (";", "utf-16", "NA"), ("\t", "cp1252", "")]
    )
    def test_a_zero_in_front_that_comes_late_makes_codes_as_well(self, run, sep, encoding, gap):
        codes = [gap if k % 4 == 0 else ["10671", "80331"][k % 2] for k in range(500)]
        codes[401::4] = ["01067"] * 25
        days, whole = [f"2024-03-0{k % 9 + 1} 08:30" for k in range(500)], np.arange(500) % 7
        data = {"zip": codes, "day": days, "x": whole, "z": [f"0{k}.0" for k in whole], "y": np.arange(500) / 7}
        pandas.DataFrame(data).to_csv("t.csv", index=False, sep=sep, encoding=encoding)
        options = () if encoding == "utf-8" else ("--encoding", encoding)
        trained(run, *options)
        zips, _, *numbers = read_model("model.safetensors").preprocessing.columns
        assert zips.categories[:3] == ("01067", "10671", "80331")
        assert [number.scaling.mean for number in numbers] == pytest.approx([whole.mean()] * 2, abs=0.05)

    def test_a_zero_in_front_among_fractions_makes_no_codes(self, run):
        cells = [f"{k % 9 + 1}" for k in range(500)]
        cells[300:302] = "07", "8.0"
        write("t.csv", x=cells, z=np.arange(500) % 7, y=np.arange(500) / 7)
        trained(run)
        assert read_model("model.safetensors").preprocessing.columns[0].scaling.mean == pytest.approx(5, abs=0.1)

    def test_gaps_among_numbers_with_both_marks(self):
        cells = np.array([None, "1.234,5", None, "7"], dtype=object)
        table = Table("t", ["x"], [cells], None, decimal=",", thousands=".")
        np.testing.assert_array_equal(table.numbers(cells), [np.nan, 1234.5, np.nan, 7.0])

    @pytest.mark.parametrize("cells", [["1.234", "0.940"], ["1.25", "940"], ["1.234", "2.940"], ["0.125", "7"]])
    def test_fractions_are_no_thousands(self, run, cells):
        write("t.csv", x=[cells[k % 2] for k in range(M)], z=np.arange(M) % 7, y=Y)
        trained(run)
        assert read_model("model.safetensors").preprocessing.columns[0].scaling.mean < 1000

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            ("{}%", "write such numbers alone"),
            ("\u2212{}", "write such numbers alone, with - before one that is negative"),
            ("({}.30)", "write such numbers alone, with - before one that is negative"),
            ("1'2{}", 'is its "\'" between thousands (see --thousands)?'),
            ("12,{}", "is its comma the decimal mark (--decimal ,) or between thousands (--thousands ,)?"),
        ],
    )
    def test_numbers_that_are_not_read_are_told_how_they_are(self, run, cells, said):
        write("t.csv", x=[cells.format(10 + k) if k % 3 else str(k + 10) for k in range(M)], y=Y)
        err = refused(run, "--decimal", ".") if "," in cells else refused(run)
        assert f"row 2 (line 3), column 'x': {cells.format(11)!r} is not a finite number (and 59 more such)" in err
        assert said in err

    @pytest.mark.parametrize("mark", ["-", ".", "unknown", "?"])
    def test_a_word_for_what_is_missing_may_come_more_often_than_numbers(self, run, mark):
        write("t.csv", x=[mark if k % 3 else f"{k / 7:.2f}" for k in range(3 * M)], y=np.arange(3 * M) / 7)
        assert f"column 'x': {mark!r} is not a finite number (and 179 more such)" in refused(run)
        assert trained(run, "--na", mark)["notes"] == ["the column 'x' has 180 missing cells, taken for its median"]

    @pytest.mark.parametrize("written", ["\u2212{}.5", "({}.50)", "{}.5 %"])
    def test_a_target_of_such_numbers_is_told(self, run, written):
        write("t.csv", x=np.arange(M) % 8, y=[written.format(k) if k % 3 else str(k) for k in range(M)])
        said = f"the target is numbers with units, such as {written.format(1)!r}, which are not read"
        assert said in refused(run)


class TestOneColumn:
    """Without a separator, a blank line may be a missing cell: its prediction must not slip away from its row."""

    @pytest.fixture(autouse=True)
    def model(self, here, run):
        write("t.csv", x=np.arange(M) % 7 + 0.5, y=Y)
        trained(run)

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize(("lines", "line"), [("x,1,,3", 3), ("x,1,3, ,2", 4), ("x,,1", 2)])
    def test_a_blank_line_above_a_row_is_refused(self, run, here, lines, line, end):
        (here / "new.csv").write_text(lines.replace(",", end) + end, newline="")
        code, out, err = run("predict", "model.safetensors", "new.csv")
        assert (code, out) == (2, "")
        assert f'new.csv, line {line} is blank: in a table of one column that may be a missing cell; write ""' in err

    @pytest.mark.parametrize("lines", ['x,1,"",3', "x,1,NA,3", 'x,1,"",3,,', ',x,1,"",3, '])
    def test_a_missing_cell_in_quotes_and_blank_lines_around_are_read(self, run, here, lines):
        (here / "new.csv").write_text(lines.replace(",", "\n") + "\n")
        assert predictions(run, "new.csv").size == 3

    def test_a_bad_cell_below_a_missing_one_is_told_by_its_line(self, run, here):
        (here / "new.csv").write_text('x\n1\n""\noh\n')
        assert "row 3 (line 4), column 'x': 'oh'" in run("predict", "model.safetensors", "new.csv")[2]
