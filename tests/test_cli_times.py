"""Times on the command line: no window runs over a gap, and steps made regular."""

import json

import numpy as np
import pytest

import skad
from skad.__main__ import main
from skad._commands._data import Part
from skad._commands._reading import Reading
from skad._commands._regular import resampled, stretches
from skad._times import read_times
from skad.series import split_at_gaps
from tests.test_cli import complaint, scores

pd = pytest.importorskip("pandas")

TIMES = ["--series", "--time-column", "time"]
HOUR = np.timedelta64(60, "m")


def waves(n, seed=0):
    """Return a noisy sine (n, 2) of 24 steps."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    return np.sin(2 * np.pi * t / 24 + [0, 1]) + 0.05 * rng.normal(size=(n, 2))


def write(path, X, times, **columns):
    frame = pd.DataFrame(X, columns=list("ab"))
    frame["time"] = np.asarray(times).astype(str)
    for name, values in columns.items():
        frame[name] = values
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def gaps(tmp_path):
    """Write two files of 400 hourly steps, each with a gap of days in it."""
    paths = []
    for seed, name in enumerate("ab"):
        hours = np.datetime64("2024-01-01T00:00") + HOUR * np.arange(400)
        hours[200:] += 100 * HOUR + np.timedelta64(7, "h")
        X = waves(560, seed)
        X = np.concatenate([X[:200], X[307:507]])
        if name == "b":
            X[300:306] = 0
        paths.append(write(tmp_path / f"{name}.csv", X, hours))
    return paths


def run(*arguments):
    return main([str(one) for one in arguments])


def detect(paths, *more):
    train, test = paths
    return run(
        *("detect", "--train", train, "--test", test, *TIMES),
        *("--detector", "SubsequenceKNN", "--set", "window_size=20", "--scaling"),
        *("none", *more),
    )


def features(path):
    return pd.read_csv(path)[["a", "b"]].to_numpy()


def test_no_window_runs_over_a_gap(gaps, tmp_path, capsys):
    frame, training = pd.read_csv(gaps[1]), features(gaps[0])
    # what a training window over the gap would know
    frame.loc[100:119, ["a", "b"]] = training[190:210]
    frame.to_csv(gaps[1], index=False)
    assert detect(gaps, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "a.csv: 1 gap parts the series; no window runs over one" in printed
    times = [pd.read_csv(path)["time"] for path in gaps]
    detector = skad.SubsequenceKNN(window_size=20)
    detector.fit(features(gaps[0]), groups=split_at_gaps(times[0]))
    expected = detector.score_samples(features(gaps[1]), groups=split_at_gaps(times[1]))
    found = [float(row["score"]) for row in scores(tmp_path / "out")]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_gaps_may_be_ignored(gaps, tmp_path, capsys):
    assert detect(gaps, "--gaps", "ignore", "--out", tmp_path / "out") == 0
    assert "the series; no window" not in capsys.readouterr().out
    detector = skad.SubsequenceKNN(window_size=20).fit(features(gaps[0]))
    found = [float(row["score"]) for row in scores(tmp_path / "out")]
    expected = detector.score_samples(features(gaps[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_no_event_runs_over_a_gap(gaps, tmp_path):
    frame = pd.read_csv(gaps[1])
    frame.loc[190:209, ["a", "b"]] = 0  # on both sides of the gap
    frame.to_csv(gaps[1], index=False)

    def spans(*options):
        out = tmp_path / "_".join(["out", *options])
        assert detect(gaps, "--merge-gap", "30", *options, "--out", out) == 0
        frame = pd.read_csv(out / "events.csv")
        return sorted(zip(frame["start"], frame["end"], strict=True))

    parted = spans()
    assert any(stop == 199 for _, stop in parted)
    assert any(start == 200 for start, _ in parted)
    assert any(start < 199 < 200 < stop for start, stop in spans("--gaps", "ignore"))


def test_models_know_gaps_and_steps(gaps, tmp_path, capsys):
    model = tmp_path / "model.skad"
    fit = ["fit", "--train", gaps[0], *TIMES, "--detector", "SubsequenceKNN"]
    assert (
        run(*fit, "--set", "window_size=20", "--scaling", "none", "--out", model) == 0
    )
    assert run("score", model, gaps[1], "--out", tmp_path / "one", "--json") == 0
    text = capsys.readouterr().out
    assert "b.csv: 1 gap parts" in json.loads(text[text.index("{") :])["notes"][0]
    assert detect(gaps, "--out", tmp_path / "two") == 0
    one, two = (
        [float(row["score"]) for row in scores(tmp_path / name)]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(one, two, rtol=1e-9)
    skip = ["--set", "window_size=20", "missing=skip", "--resample", "2h"]
    assert run(*fit, *skip, "--out", model) == 0
    assert run("score", model, gaps[1], "--out", tmp_path / "one") == 0
    assert len(scores(tmp_path / "one")) == (400 + 107) // 2 + 1


def test_the_date_and_the_time_of_day_may_be_two_columns(gaps, tmp_path, capsys):
    def apart(path):
        frame = pd.read_csv(path)
        times = pd.to_datetime(frame.pop("time"))
        frame.insert(0, "day", times.dt.strftime("%d.%m.%Y"))
        frame["clock"] = times.dt.strftime("%H:%M:%S")
        two = tmp_path / f"two_{path.name}"
        frame.to_csv(two, index=False)
        return two

    two = [apart(path) for path in gaps]
    options = ["--detector", "SubsequenceKNN", "--set", "window_size=20"]
    fit = [*options, "--out", tmp_path / "m.skad", "--series", "--time-column", "day"]
    text = complaint(capsys, run("fit", "--train", two[0], *fit))
    assert "--time-column DATE --time-column TIME" in text
    fit += ["--time-column", "clock"]
    assert run("fit", "--train", two[0], *fit) == 0
    assert run("score", tmp_path / "m.skad", two[1], "--out", tmp_path / "new") == 0
    assert "b.csv: 1 gap parts the series" in capsys.readouterr().out
    assert (
        run("fit", "--train", gaps[0], *TIMES, *options, "--out", tmp_path / "1") == 0
    )
    assert run("score", tmp_path / "1", gaps[1], "--out", tmp_path / "old") == 0
    found, expected = scores(tmp_path / "new"), scores(tmp_path / "old")
    times = [row.pop("day clock") for row in found]
    assert times[0] == "2024-01-01 00:00:00"  # the year first, and so no other day
    same = [np.datetime64(row.pop("time")) for row in expected]
    assert [np.datetime64(time) for time in times] == same
    assert found == expected
    capsys.readouterr()
    text = complaint(capsys, run("fit", "--train", two[0], *fit, "--drop", "clock"))
    assert "--time-column clock: is left out by --drop" in text


def test_a_model_that_names_one_time_column_in_words_is_read():
    assert Reading.of_json({"time_column": "t"}).time_column == ("t",)
    two = Reading(time_column=("date", "time"))
    assert Reading.of_json(two.to_json()) == two
    with pytest.raises(ValueError, match="time_column that is none"):
        Reading.of_json({"time_column": [1]})


def test_irregular_steps_are_parted_nowhere(gaps, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for path in gaps:
        minutes = np.cumsum(rng.exponential(10, size=400)).astype(int)
        write(path, features(path), np.datetime64("2024-01-01T00:00") + minutes)
    assert detect(gaps, "--out", tmp_path / "out") == 0
    assert "which parts nothing: --resample 10min" in capsys.readouterr().out


# ------------------------------------------------------------------------ regular steps


def part(times, X, **more):
    return Part(X=np.asarray(X, dtype=float), time=read_times(times), **more)


def test_means_of_steps_and_steps_without_rows():
    times = ["2024-01-01 10:01", "2024-01-01 10:09", "2024-01-01 10:31"]
    given = part(times, [[1, 1], [3, np.nan], [5, 7]], y=np.array([1, -1, 1]))
    found, line = resampled(given, "10min", "mean", "a.csv")
    nan = np.nan
    np.testing.assert_array_equal(found.X, [[2, 1], [nan, nan], [nan, nan], [5, 7]])
    assert found.time.texts.tolist() == [
        f"2024-01-01 10:{minute}:00" for minute in ("00", "10", "20", "30")
    ]
    assert found.y.tolist() == [-1, 1, 1, 1]
    assert line == "a.csv: 3 rows are 4 steps of 10min, 2 of which have missing values"


def test_lines_between_rows_that_are_near():
    given = part([0, 4, 11, 20, 60, 70], [[0], [4], [11], [20], [60], [70]])
    found, _ = resampled(given, "10", "interpolate", "a.csv")
    expected = [0, 10, 20, np.nan, np.nan, np.nan, 60, 70]
    np.testing.assert_allclose(found.X[:, 0], expected)
    assert found.time.texts.tolist() == [str(10 * i) for i in range(8)]
    found, _ = resampled(given, "10", "mean", "a.csv")
    np.testing.assert_allclose(found.X[:3, 0], [2, 11, 20])


def test_each_series_has_steps_of_its_own():
    times = ["00:00:10", "00:01:30", "00:05:00", "00:00:30", "00:00:50"]
    groups = np.array(["x", "x", "x", "y", "y"], dtype=object)
    given = part(times, [[1], [2], [3], [4], [6]], groups=groups, ids=np.arange(5))
    found, _ = resampled(given, "1min", "mean", "a.csv")
    assert found.groups.tolist() == ["x"] * 6 + ["y"]
    np.testing.assert_array_equal(found.X[:, 0], [1, 2, *[np.nan] * 3, 3, 5])
    assert found.time.texts.tolist()[:2] == ["00:00:00", "00:01:00"]
    assert found.ids is None


def test_zones_and_epochs_stay_times():
    given = part(["2024-01-01 10:00+02:00", "2024-01-01 10:20+02:00"], [[1], [2]])
    found, _ = resampled(given, "20min", "mean", "a.csv")
    assert found.time.texts.tolist() == [
        "2024-01-01 08:00:00+00:00",
        "2024-01-01 08:20:00+00:00",
    ]
    found, _ = resampled(part([1.7e9, 1.7e9 + 60], [[1], [2]]), "1min", "mean", "a")
    assert found.time.values.dtype.kind == "M"
    assert len(found.X) == 2


@pytest.mark.parametrize(
    ("times", "rule", "message"),
    [
        ([0, 1, 2], "1h", "needs a --time-column of dates or durations"),
        (["10:00", "10:05"], "5", "must be a time such as 30s"),
        (["10:00", "10:05"], "soon", "must be a time such as 30s"),
        ([0, 1, 2], "-1", "a number above 0"),
        ([0, 1, 20_000], "1", "makes 20,000 steps of 3 rows"),
    ],
)
def test_what_is_no_step(times, rule, message):
    given = part(times, np.zeros((len(times), 1)))
    with pytest.raises(ValueError, match=message):
        resampled(given, rule, "mean", "a.csv")


def test_a_regular_series_has_no_stretches():
    given = part(np.arange(10.0), np.zeros((10, 1)))
    assert stretches(given, "a.csv") == (None, None)


def test_detect_on_regular_steps(gaps, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for path in gaps:  # four rows an hour, at any time in it
        frame = pd.read_csv(path)
        seconds = np.sort(rng.integers(0, 3600, size=(400, 4)), axis=1)
        hours = pd.to_datetime(frame["time"]).to_numpy().astype("M8[s]")
        write(
            path,
            np.repeat(features(path), 4, axis=0),
            (hours[:, None] + seconds.astype("m8[s]")).ravel(),
        )
    options = ["--resample", "1h", "--out", tmp_path / "out"]
    text = complaint(capsys, detect(gaps, *options))
    assert "107 of 507 steps of 1h have missing values" in text
    assert "--set missing=skip" in text
    skip = ["--set", "window_size=20", "missing=skip"]
    assert detect(gaps, *options, *skip) == 0
    printed = capsys.readouterr().out
    assert "b.csv: 1,600 rows are 507 steps of 1h, 107 of which" in printed
    rows = scores(tmp_path / "out")
    assert rows[1]["time"] == "2024-01-01 01:00:00"
    worst = min(rows, key=lambda row: float(row["score"]))
    assert 395 <= int(worst["row"]) <= 425  # 300, behind the gap
    assert run("detect", gaps[1], *TIMES, *options, "--set", "missing=skip") == 0
    assert "SubsequenceKNN was taken" in capsys.readouterr().out
    assert len(scores(tmp_path / "out")) == 507


def test_what_goes_with_what(gaps, tmp_path, capsys):
    def wrong(*options):
        out = ["--out", tmp_path / "out", "--detector", "SubsequenceKNN"]
        return complaint(capsys, run("detect", gaps[0], *options, *out))

    drop = ["--series", "--drop", "time"]
    assert "--resample 1h: needs a --time-column" in wrong(*drop, "--resample", "1h")
    assert "--gaps ignore: needs a --time-column" in wrong(*drop, "--gaps", "ignore")
    text = wrong(*TIMES, "--resample-by", "mean")
    assert "--resample-by mean: needs --resample" in text
    text = wrong(*TIMES, "--resample", "1h", "--id-column", "a")
    assert "--id-column a: names rows" in text
    assert "--resample is not for tables" in wrong("--resample", "1h")
