"""Files as users have them: the numbers, the names and the times that stand there."""

import csv
import gzip
import os
import warnings
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skad.__main__ import main
from skad._times import TimeError, read_times, settled_day_first
from skad.datasets import read_table
from skad.inspection import SeriesDisplay, examine_series
from skad.series import SubsequenceKNN

moments = st.datetimes(datetime(1970, 1, 1), datetime(2068, 12, 31))
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
quick = settings(max_examples=60, deadline=None)


def write(folder, content, name="a.csv", encoding="utf-8"):
    """Write text into a file, packed where its name says so; return the path."""
    data = content.encode(encoding)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return folder / name


def same_moments(times, expected):
    return (times.values == np.array(expected, dtype="M8[ns]")).all()


# ------------------------------------------------------------------------------- times

# What writes dates so: ISO 8601 and Python, Python's logging, Java, DB2, Oracle, RFC
# 2822, ctime, Apache, spreadsheets in three countries.
FORMATS = [
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y%m%dT%H%M%S", "%Y%m%d%H%M%S"),
    *("%Y-%m-%d %H:%M:%S,%f", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d %H:%M:%S"),
    *("%Y-%m-%d-%H.%M.%S.%f", "%d-%b-%Y %H:%M:%S", "%d-%b-%y %I.%M.%S.%f %p"),
    *("%a, %d %b %Y %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S"),
    *("[%d/%b/%Y:%H:%M:%S +0000]", "[%Y-%m-%d %H:%M:%S]"),
    *("%B %d, %Y %I:%M:%S %p", "%d %B %Y %H:%M:%S", "%Y-%b-%d %H:%M:%S"),
    *("%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%y, %H:%M:%S"),
]


@pytest.mark.parametrize("form", FORMATS)
@quick
@given(found=st.lists(moments, min_size=1, max_size=4))
def test_times_are_read_or_refused_never_others(form, found):
    found = [m if "%f" in form else m.replace(microsecond=0) for m in found]
    # one row that shows which number is the day, and which the year
    found += [datetime(2031, 12, 31, 23, 59, 58), datetime(2045, 1, 13)]
    texts = [moment.strftime(form) for moment in found]
    # two digits may be the day or the year, but behind dots
    times = read_times(texts, day_first=True if "/%y" in form else None)
    assert same_moments(times, found)
    if "%d.%m" not in form and "%d/%m" not in form:
        assert times.texts.tolist() == texts


@quick
@given(
    found=st.lists(moments, min_size=1, max_size=5),
    minutes=st.integers(-23 * 60, 23 * 60),
    zone=st.sampled_from(["{:+}", " {:+}", "Z", " UTC", " GMT", "{}[Europe/Berlin]"]),
)
def test_zones_are_brought_to_utc(found, minutes, zone):
    if "{" in zone:
        ahead = timedelta(minutes=minutes)
        sign = "-" if minutes < 0 else "+"
        offset = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
        zone = zone.replace("{:+}", offset).replace("{}", offset)
    else:
        ahead = timedelta(0)
    texts = [moment.isoformat() + zone for moment in found]
    times = read_times(texts)
    assert times.utc
    assert times.texts.tolist() == texts
    expected = [moment.replace(tzinfo=timezone(ahead)) for moment in found]
    expected = [m.astimezone(UTC).replace(tzinfo=None) for m in expected]
    assert same_moments(times, expected)


@quick
@given(
    first=st.integers(1, 12), second=st.integers(1, 12), year=st.integers(1980, 2060)
)
def test_a_date_with_two_meanings_is_refused_until_it_is_said(first, second, year):
    assume(first != second)
    texts = [f"{first:02d}.{second:02d}.{year}"]
    with pytest.raises(TimeError, match="day or the month first in every row"):
        read_times(texts)
    assert settled_day_first(texts) is None
    as_day = read_times(texts, day_first=True)
    assert same_moments(as_day, [datetime(year, second, first)])
    assert as_day.texts.tolist() == [f"{year}-{second:02d}-{first:02d}"]
    assert same_moments(
        read_times(texts, day_first=False), [datetime(year, first, second)]
    )
    # another row, or another file, settles it
    assert same_moments(
        read_times([*texts, f"13.01.{year}"]),
        [datetime(year, second, first), datetime(year, 1, 13)],
    )
    assert settled_day_first(texts, [f"01.13.{year}"]) is False


def test_a_date_that_reads_the_same_both_ways_is_no_riddle():
    assert same_moments(read_times(["02/02/2015 10:00"]), [datetime(2015, 2, 2, 10)])


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["2024-01-01", "soon"], "row 1 holds 'soon', neither"),
        (["2024-01-01", ""], "row 1 is missing"),
        (["2024-01-01", "2024-02-30"], "row 1 holds '2024-02-30'"),
        (
            ["2024-01-01", "2024-01-02 00:00Z"],
            "row 0 .* without the others' time zone",
        ),
        (["2024-01-01", "00:00:01"], "row 1 holds .* another kind"),
        (["13.01.2024", "01.13.2024"], "no dates in one order"),
        (["24/01/02", "24/01/03"], "the year first"),
        (["2024-01-01 10:00 IST"], "neither"),
    ],
)
def test_what_is_no_column_of_times(texts, words):
    with pytest.raises(TimeError, match=words):
        read_times(texts)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0 days 00:00:01.5", "1 days 00:00:00"], [1.5, 86400]),
        (["00:00:01.000000001", "25:00:00"], [1.000000001, 90000]),
        (["-1 day, 23:59:59"], [-1]),
        (["1:30 PM"], [13.5 * 3600]),
    ],
)
def test_durations_are_seconds(texts, expected):
    assert read_times(texts).drawn().tolist() == expected


@quick
@given(whole=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_whole_numbers_stay_exact(whole):
    for values in (whole, [str(value) for value in whole], np.array(whole)):
        times = read_times(values)
        assert times.texts.tolist() == [str(value) for value in whole]
        if times.values.dtype.kind == "i":  # eight digits may be a date
            assert times.values.tolist() == whole


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_numbers_since_1970_are_drawn_as_dates(unit):
    expected = np.array(["2024-01-01T00:00:00", "2024-01-01T00:01:00"], "M8[ns]")
    count = expected.astype(f"M8[{unit}]").astype(np.int64)
    assert (read_times(count).dates() == expected).all()
    assert read_times(count).texts.tolist() == [str(value) for value in count]
    assert (read_times(count, time_format=unit).values == expected).all()
    assert read_times([1_000_000, 1_000_001]).dates() is None


def test_serial_numbers_of_spreadsheets_where_they_are_named():
    times = read_times(["45292,25", "45292,5"], time_format="excel")
    assert same_moments(times, [datetime(2024, 1, 1, 6), datetime(2024, 1, 1, 12)])
    assert read_times(["45292.25"]).values.tolist() == [45292.25]


def test_dates_of_python_and_pandas():
    index = pd.date_range("2024-03-31", periods=4, freq="h", tz="Europe/Berlin")
    naive = index.tz_convert("UTC").tz_localize(None).to_numpy()
    for values in (index, pd.Series(index), index.to_pydatetime(), list(index)):
        times = read_times(values)
        assert times.utc
        assert (times.values == naive).all()
    assert (read_times(naive).values == naive).all()
    assert read_times([index[0].date()]).texts.tolist() == ["2024-03-31"]
    assert read_times(np.array(["9999-12-31"], "M8[s]")).values.astype(str) == (
        "9999-12-31T00:00:00"
    )


# ------------------------------------------------------------------------------ tables

MARKS = [(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", "."), ("|", ".")]


@pytest.mark.parametrize(("sep", "decimal"), MARKS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_numbers_are_those_of_the_file(sep, decimal, ends, rows, tmp_path_factory):
    rows = [*rows, (0.25, -17.5)]  # which says where decimals stand
    lines = [
        sep.join(repr(value).replace(".", decimal) for value in row) for row in rows
    ]
    content = ends.join([f"a{sep}b", *lines, ""])
    path = write(tmp_path_factory.mktemp("table"), content)
    table = read_table(path)
    assert table.columns == ["a", "b"]
    np.testing.assert_array_equal(table.X, rows)


@pytest.mark.parametrize(
    ("encoding", "warns"),
    [
        *[(name, False) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")],
        *[("utf-32", False), ("cp1252", True), ("latin-1", True)],
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
def test_encodings(encoding, warns, name, tmp_path):
    path = write(tmp_path, "Größe,b\n1,2\n3,4\n", name, encoding)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_table(path)
    assert table.columns == ["Größe", "b"]
    assert table.X.tolist() == [[1, 2], [3, 4]]
    assert [("UTF-8" in str(item.message)) for item in caught] == [True] * warns


@quick
@given(blank=st.sets(st.integers(0, 11)), columns=st.integers(1, 3), last=st.booleans())
def test_a_blank_line_is_a_row(blank, columns, last, tmp_path_factory):
    blank -= {11}
    names = ",".join("abc"[:columns])
    lines = ["" if i in blank else ",".join([f"{i}.5"] * columns) for i in range(12)]
    content = "\n".join([names, *lines]) + "\n" * (1 + last)
    path = write(tmp_path_factory.mktemp("table"), content)
    if columns == 1 and last and not blank:
        with pytest.raises(ValueError, match="ends with a blank line"):
            read_table(path, allow_nan=True)
        return
    X = read_table(path, allow_nan=True).X
    assert len(X) == 12 + (columns == 1 and last)
    assert set(np.flatnonzero(np.isnan(X[:12, 0]))) == blank
    if blank and columns > 1:
        with pytest.raises(ValueError, match=f"row {min(blank)} is missing altogether"):
            read_table(path)
    if blank:
        with pytest.raises(ValueError, match=f"row {min(blank)} is missing"):
            read_table(path)


@pytest.mark.parametrize(
    "content",
    [
        "0.5,0.5,0.1\n0.5,0.5,0.2\n",
        "1,2,3\n4,5,6\n",
        "2024-01-01,0.1\n2024-01-02,0.2\n",
        "13.01.2024;0,1\n14.01.2024;0,2\n",
        "ok,0.1\nok,0.2\n",
        "0.1\n0.2\n",
        "1e5,nan\n2e5,3\n",
    ],
)
def test_the_first_row_is_not_lost(content, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=r"a\.csv: the first line holds"):
        read_table(path)
    aside = ["x0"] if content[0] == "o" or "01" in content else []
    table = read_table(path, header=False, aside=aside, allow_nan=True)
    assert len(table.X) == 2
    assert table.columns[-1].startswith("x")


@pytest.mark.parametrize("names", ["a,b", ",0", "id,400", "0,1", '"1st",2024', "t,x 1"])
def test_names_are_names(names, tmp_path):
    path = write(tmp_path, f"{names}\n1.5,2.5\n3.5,4.5\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_table(path).X.tolist() == [[1.5, 2.5], [3.5, 4.5]]


def test_a_column_that_counts_the_rows_is_no_feature(tmp_path):
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": [1.0, 0.0, 1.0]})
    for index in (None, [7, 3, 5]):
        path = tmp_path / "a.csv"
        frame.set_index(pd.Index(index or [0, 1, 2])).to_csv(path)
        with pytest.warns(UserWarning, match="'Unnamed: 0' has no name of its own"):
            assert read_table(path).columns == ["a", "b"]
    path = write(tmp_path, "0,0.5\n1,0.7\n2,0.1\n")
    with pytest.warns(UserWarning, match="'x0'"):
        assert read_table(path, header=False).columns == ["x1"]
    # a name of its own makes it a feature, and so does any other number
    path = write(tmp_path, "n,a\n0,0.5\n1,0.7\n2,0.1\n")
    assert read_table(path).columns == ["n", "a"]
    path = write(tmp_path, "0,0.5\n1,0.7\n3,0.1\n")
    assert read_table(path, header=False).columns == ["x0", "x1"]


def test_a_separator_at_the_end_of_lines_is_no_column(tmp_path):
    path = write(tmp_path, "a,b,\n1,2,\n3,4,\n")
    with pytest.warns(UserWarning, match="no name and no values"):
        assert read_table(path).columns == ["a", "b"]
    path = write(tmp_path, "a,b,\n1,2,\n3,4,5\n")
    with pytest.raises(ValueError, match="'Unnamed: 2' in row 0 is missing"):
        read_table(path)
    # several, as spreadsheets write them, and where the first line has none
    for content in ("a,b,,\n1,2,,\n3,4,,\n", "a,b\n1,2,,\n3,4,,\n"):
        with pytest.warns(UserWarning, match="last 2 columns have no name and no v"):
            assert read_table(write(tmp_path, content)).columns == ["a", "b"]
    rows = "1,2,\n" * 300
    for content in ("a,b\n1,2,\n3,4,5\n", f"a,b\n{rows}3,4,5\n", "a,b\n1,2,\n3,4\n"):
        with pytest.raises(ValueError, match="hold more values than the first line"):
            read_table(write(tmp_path, content))


def test_digits_of_one_width_may_be_names(tmp_path):
    path = write(tmp_path, "m,v\n007,0.5\n070,0.7\n123,01\n")
    with pytest.warns(UserWarning, match="column 'm' holds '007'") as warned:
        assert read_table(path).X[:, 0].tolist() == [7, 70, 123]
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(read_table(path, aside=["m"]).aside["m"]) == ["007", "070", "123"]
        path = write(tmp_path, "a,b\n0,07\n1,7\n")
        assert read_table(path).X.tolist() == [[0, 7], [1, 7]]


@pytest.mark.parametrize("series", [True, False])
def test_a_feature_that_counts_is_pointed_at(series, tmp_path, capsys):
    steps = 1_711_836_000_000 + 100 * np.arange(40)
    content = "".join(f"{t},{v}\n" for t, v in zip(steps, WAVE, strict=True))
    path = write(tmp_path, "ts,v\n" + content)
    assert detect(path, "--out", tmp_path / "r", series=series) == 0
    said = capsys.readouterr().err
    assert "column 'ts' grows by one step" in said
    option = "--time-column" if series else "--id-column"
    assert f"{option} or --drop names it" in said
    assert detect(path, option, "ts", "--out", tmp_path / "s", series=series) == 0
    assert "grows" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("front", "names", "n_left_out"),
    [
        ("# logger v3, unit C\na,b\n", ["a", "b"], 1),
        ("# logger v3\n#\n\n# 2 channels\na,b\n", ["a", "b"], 3),
        ("# logger v3\n# a,b\n", ["a", "b"], 1),
        ("# a,b\n", ["a", "b"], 0),
        ("#,b\n", ["#", "b"], 0),
        ("#id,b\n", ["#id", "b"], 0),
    ],
)
def test_lines_in_front_that_begin_with_a_hash(front, names, n_left_out, tmp_path):
    path = write(tmp_path, front + "1,2.5\n2,3.5\n")
    words = f"{n_left_out} lines in front begin with #"
    with pytest.warns(UserWarning, match=words) if n_left_out else nullcontext():
        table = read_table(path)
    assert table.columns == names
    np.testing.assert_array_equal(table.X, [[1, 2.5], [2, 3.5]])


def test_comments_in_front_of_lines_without_names(tmp_path):
    path = write(tmp_path, "# a,b\n#N/A,2.5\n2,3.5\n")
    with pytest.warns(UserWarning, match="1 lines in front"):
        table = read_table(path, header=False, allow_nan=True)
    np.testing.assert_array_equal(table.X, [[np.nan, 2.5], [2, 3.5]])
    np.savetxt(path, table.X[1:], header="a b")
    table = read_table(path)
    assert table.columns == ["a", "b"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["2024-01-01 10:00", "2024-01-01 11:00"], r"a time; aside=\['a'\] keeps"),
        (["12.5%", "3%"], "a number and its unit"),
        (["$1,200.00", "$3"], "a number and its unit"),
        (["20 degC", "21 degC"], "a number and its unit"),
        (["kPa", "1", "2", "3"], "take that line out where it holds units"),
        (["1", "-", "2", "3"], "leave the cell empty where it is missing"),
        (["good", "bad"], "label_column='a' takes it for labels"),
        (["M12", "M13"], "label_column='a' takes it for labels"),
    ],
)
def test_what_is_no_number_is_told_by_what_it_looks_like(cells, words, tmp_path):
    path = write(tmp_path, "a\tb\n" + "".join(f"{cell}\t1\n" for cell in cells))
    with pytest.raises(ValueError, match=rf"'a' is not numeric: .*{words}"):
        read_table(path)


def test_a_stray_zero_byte_is_no_other_encoding(tmp_path):
    path = write(tmp_path, "a,b\n1.25,2.5\n3.25\0,4.5\n")
    with pytest.raises(ValueError, match=r"column 'a' is not numeric: row 1 holds"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a;b\n1,234;5\n2,345;3\n", "decimal comma or one with its thousands apart"),
        ("a;b\n1,5;x\n0.5;3\n", "decimal comma"),
        ("a;b\n1,5;0.5\n2,5;0.5\n", "'0.5' is no number with a decimal comma"),
    ],
)
def test_decimals_with_two_meanings(content, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        read_table(write(tmp_path, content))


def test_a_word_among_numbers_is_named_whatever_these_may_mean(tmp_path):
    for word in ("-", "C", "n.a."):
        path = write(tmp_path, f"a,b\n1.234,1.5\n{word},2.5\n")
        with pytest.raises(
            ValueError, match=f"'a' is not numeric: row 1 holds '{word}'"
        ):
            read_table(path)


def test_a_minus_may_be_that_of_typography(tmp_path):
    path = write(tmp_path, "a,b\n\u22121.5,1\n2.25,\u22123\n1e\u22122,4\n")
    assert read_table(path).X.tolist() == [[-1.5, 1], [2.25, -3], [0.01, 4]]
    path = write(tmp_path, "a;b\n\u22121.234,5;1\n0,25;3\n")
    assert read_table(path).X.tolist() == [[-1234.5, 1], [0.25, 3]]


def test_thousands(tmp_path):
    path = write(tmp_path, "a;b\n1.234,5;1\n-2.345.678,25;2\n")
    assert read_table(path).X[:, 0].tolist() == [1234.5, -2345678.25]
    path = write(tmp_path, 'a,b\n"1,234.5",1\n"12,345",2\n')
    assert read_table(path).X[:, 0].tolist() == [1234.5, 12345]
    path = write(tmp_path, "a;b\n1,234;5\n2,345;3\n")
    assert read_table(path, decimal=",").X[:, 0].tolist() == [1.234, 2.345]
    assert read_table(path, decimal=".").X[:, 0].tolist() == [1234, 2345]


def test_points_that_may_keep_thousands_apart(tmp_path):
    """1.234 beside 567 is hardly a thousandth of what it was meant to be."""
    content = "a;b\n1.234;5\n567;-12\n-2.345;3\n"
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=r"'1\.234' may be a number with a decimal"):
        read_table(path)
    assert read_table(path, decimal=",").X[:, 0].tolist() == [1234, 567, -2345]
    assert read_table(path, decimal=".").X[:, 0].tolist() == [1.234, 567, -2.345]
    for other in ("0.500", "1.5", "2.0000", "1567", "1e2"):  # no such number
        path = write(tmp_path, content + f"{other};1\n")
        assert read_table(path).X[:, 0].tolist() == [1.234, 567, -2.345, float(other)]
    path = write(tmp_path, content.replace(";5", ";0.25"))
    assert read_table(path).X[0].tolist() == [1.234, 0.25]
    path = write(tmp_path, "a;b\n1.234;567\n2.345;890\n")  # of one unit each
    assert read_table(path).X[0].tolist() == [1.234, 567]
    path = write(tmp_path, content.replace(";", ","))
    assert read_table(path).X[0].tolist() == [1.234, 5]


@quick
@given(names=st.lists(st.text("0123456789", min_size=1, max_size=22), min_size=1))
def test_what_is_aside_is_the_text_of_the_file(names, tmp_path_factory):
    lines = [f"{name},{i}.5" for i, name in enumerate(names)]
    path = write(tmp_path_factory.mktemp("table"), "\n".join(["g,v", *lines, ""]))
    assert read_table(path, aside=["g"]).aside["g"].tolist() == names
    assert read_table(path, label_column="g").labels.tolist() == names


# ------------------------------------------------------------------- the command line


def detect(path, *more, series=True):
    options = ["--train", path, "--test", path, "--detector"]
    options += ["SubsequenceKNN", "--series"] if series else ["KNN"]
    options += ["--set", "window_size=8"] if series else []
    return main(["detect", *map(str, [*options, *more])])


def written(out, name="scores.csv"):
    with (out / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


WAVE = np.where(np.arange(40) == 30, 4.0, np.sin(np.arange(40) / 3))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name", ["score", "row", "start", "channel_1", "$x_", "日本", "a,b"]
)
def test_whatever_a_column_is_called(name, tmp_path):
    out, path = tmp_path / "report", tmp_path / "a.csv"
    times = [str(3 * i) for i in range(40)]
    pd.DataFrame({name: times, "$v_": WAVE}).to_csv(path, index=False)
    assert detect(path, "--time-column", name, "--out", out) == 0
    rows = written(out)
    assert times in [[row[key] for row in rows] for key in rows[0] if name in key]
    assert float(rows[30]["score"]) == min(float(row["score"]) for row in rows)
    two = {name: ["007"] * 160 + ["7"] * 40, "v": [*np.tile(WAVE[:20], 8), *WAVE]}
    pd.DataFrame(two).to_csv(path, index=False)
    assert detect(path, "--group-column", name, "--out", out) == 0
    event = written(out, "events.csv")[0]
    assert "7" in [event[key] for key in event if name in key]
    assert (out / "index.html").exists()


def test_ids(tmp_path):
    path = tmp_path / "a.parquet"
    ids = 2**60 + np.arange(40)
    pd.DataFrame({"id": ids, "v": WAVE}).to_parquet(path)
    assert detect(path, "--id-column", "id", "--out", tmp_path / "r", series=False) == 0
    assert [row["id"] for row in written(tmp_path / "r")] == [str(i) for i in ids]


def test_what_is_read_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    pd.DataFrame({"v": WAVE}).to_csv(path, index=False)
    before = path.read_bytes()
    assert detect(path, "--out", tmp_path) == 2
    assert "would write over" in capsys.readouterr().err
    assert path.read_bytes() == before
    (tmp_path / "r" / "events.csv").mkdir(parents=True)
    assert detect(path, "--out", tmp_path / "r") == 2
    assert "events.csv: is a folder" in capsys.readouterr().err


def test_a_terminal_that_shows_ascii_only_or_has_gone(tmp_path, monkeypatch):
    import io
    import sys

    path = tmp_path / "Größe.csv"
    pd.DataFrame({"v": WAVE}).to_csv(path, index=False)
    for encoding in ("ascii", None):
        out = tmp_path / f"größe {encoding}"
        terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding or "utf-8")
        if encoding is None:
            terminal.close()
        monkeypatch.setattr(sys, "stdout", terminal)
        assert detect(path, "--out", out) == 0
        assert len(written(out)) == 40


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there")
def test_a_file_name_that_is_no_text(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")
    pd.DataFrame({"v": WAVE}).to_csv(path, index=False)
    out = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9")
    assert detect(path, "--out", out) == 0
    page = Path(out, "index.html").read_text(encoding="utf-8")
    assert "caf\\xe9.csv" in page


def test_settings_of_matplotlib_do_not_matter(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    path = tmp_path / "a.csv"
    pd.DataFrame({"v": WAVE}).to_csv(path, index=False)
    assert detect(path, "--out", tmp_path / "r") == 0
    assert (tmp_path / "r" / "index.html").exists()


# --------------------------------------------------------------------------- displays


def test_displays_take_the_times_of_the_command_line():
    X = WAVE[:, None]
    times = [f"{1 + i:02d}.01.2024" for i in range(31)]
    times += [f"{1 + i:02d}.02.2024" for i in range(9)]
    detector = SubsequenceKNN(window_size=8).fit(X)
    display = SeriesDisplay.from_estimator(detector, X, time=times)
    first = display.axes_[0].lines[0].get_xdata()
    assert np.diff(first).tolist() == [1] * (len(first) - 1)
    with pytest.raises(ValueError, match="day_first"):
        SeriesDisplay.from_estimator(detector, X[:9], time=times[:9])
    SeriesDisplay.from_estimator(detector, X[:9], time=times[:9], day_first=True)
    found = examine_series(SubsequenceKNN(window_size=8), X, X, time=times)
    assert found.identity()["time"][31] == "2024-02-01"
    frame = pd.DataFrame(X, pd.date_range("2024-01-01", periods=40, tz="UTC"))
    assert len(SeriesDisplay.from_estimator(detector, frame).time) == 40
