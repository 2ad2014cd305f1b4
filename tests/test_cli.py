"""The command line: what it writes, and one clear line for whatever is wrong."""

import csv
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import skad
from skad.__main__ import main
from skad._commands import demonstrated, trains_network
from skad._commands._data import warn_of_all_flagged
from skad._commands._outcome import plain
from skad.datasets import anomaly_labels, load_breast_cancer, read_table
from tests._process import run, run_python

COLUMNS = ["width", "height", "weight"]


@pytest.fixture
def data():
    """Training rows, and test rows of which the last five are anomalies in weight."""
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(60, 3)), rng.normal(size=(30, 3))
    test[25:, 2] += 20
    y = np.repeat([1, -1], [25, 5])
    return train, test, y


@pytest.fixture
def files(data, tmp_path):
    """Paths of a training and a test file in CSV, without labels."""
    train, test, _ = data
    paths = tmp_path / "train.csv", tmp_path / "test.csv"
    for path, X in zip(paths, (train, test), strict=True):
        pd.DataFrame(X, columns=COLUMNS).to_csv(path, index=False)
    return paths


def detect(train, test, *more, detector="Mahalanobis"):
    options = ["--train", train, "--test", test, "--detector", detector, *more]
    return main(["detect", *map(str, options)])


def complaint(capsys, status):
    """Return the one line on standard error of a run that failed as it should."""
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("skad: error: ")
    assert "Traceback" not in printed.err
    return printed.err


def write_table(folder, name, X, y=None):
    """Write a table in the format that its name says; return the path."""
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, X)
    elif path.suffix == ".npz":
        np.savez(path, X=X, **({} if y is None else {"y": y}))
    else:
        frame = pd.DataFrame(X, columns=COLUMNS)
        if y is not None:
            frame["y"] = y
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    return path


# ----------------------------------------------------------------------- what it writes


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npz"])
def test_detect_writes_report_and_scores(suffix, data, tmp_path, capsys):
    X_train, X_test, y = data
    train = write_table(tmp_path, f"train.{suffix}", X_train)
    test = write_table(tmp_path, f"test.{suffix}", X_test, y)
    out = tmp_path / "report"
    label = [] if suffix == "npz" else ["--label-column", "y"]
    assert detect(train, test, "--out", out, "--contamination", 0.05, *label) == 0
    printed = capsys.readouterr().out
    assert "ROC AUC: 1.0000" in printed
    page = (out / "index.html").read_text()
    assert f"test.{suffix}" in page
    assert "average precision" in page

    detector = skad.Mahalanobis(contamination=0.05).fit(X_train)
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert [int(row["row"]) for row in rows] == list(range(30))
    for column, expected in (
        ("score", detector.score_samples(X_test)),
        ("decision", detector.decision_function(X_test)),
        ("label", detector.predict(X_test)),
        ("true_label", y),
    ):
        found = [float(row[column]) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    where = "x2" if suffix == "npz" else "weight"
    assert {row["feature_1"] for row in rows[25:]} == {where}


def test_both_kinds_of_threshold(files, data, tmp_path, capsys):
    out = tmp_path / "report"
    X_train, X_test, _ = data
    for options, settings, words in (
        ([], {}, "about 5 % of new normal rows are to be below it"),
        (["--contamination", "auto"], {}, "about 5 %"),
        (["--false-alarm-rate", 0.2], {"false_alarm_rate": 0.2}, "about 20 % of new"),
        (["--contamination", 0.2], {"contamination": 0.2}, "20 % of the training rows"),
    ):
        assert detect(*files, *options, "--out", out) == 0
        detector = skad.Mahalanobis(**settings).fit(X_train)
        found = [
            int(row["label"]) for row in csv.DictReader((out / "scores.csv").open())
        ]
        assert found == detector.predict(X_test).tolist()
        assert words in capsys.readouterr().out
        page = (out / "index.html").read_text()
        assert words in page
        assert ("as if it were new" in page) == ("contamination" not in settings)
        if "contamination" not in settings:
            assert detector._honesty in page
    both = ["--contamination", 0.1, "--false-alarm-rate", 0.1, "--out", out]
    assert "has no meaning beside" in complaint(capsys, detect(*files, *both))
    with pytest.raises(SystemExit):
        detect(*files, "--contamination", "much")
    assert "'much' is neither auto nor a number" in capsys.readouterr().err


def test_detect_pictures(tmp_path):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 4, 6)), rng.normal(size=(20, 4, 6))
    test[3, 2, 1] = 50
    np.save(tmp_path / "train.npy", train)
    np.save(tmp_path / "test.npy", test)
    out = tmp_path / "report"
    assert detect(tmp_path / "train.npy", tmp_path / "test.npy", "--out", out) == 0
    assert "Anomaly map of row 3, largest at x13" in (out / "index.html").read_text()


def test_image_shape_option(files, tmp_path, capsys):
    out = tmp_path / "report"
    assert detect(*files, "--image-shape", "1,3", "--out", out) == 0
    assert "Anomaly map of row" in (out / "index.html").read_text()
    capsys.readouterr()
    text = complaint(capsys, detect(*files, "--image-shape", "2,2", "--out", out))
    assert "2,2" in text
    assert "3" in text


def test_scale_and_settings(files, data, tmp_path):
    out = tmp_path / "report"
    settings = ["--set", "n_neighbors=3", "--set", "method=mean"]
    assert detect(*files, "--scale", *settings, "--out", out, detector="KNN") == 0
    X_train, X_test, _ = data
    mean, deviation = X_train.mean(axis=0), X_train.std(axis=0)
    detector = skad.KNN(n_neighbors=3, method="mean").fit((X_train - mean) / deviation)
    rows = list(csv.DictReader((out / "scores.csv").open()))
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows],
        detector.score_samples((X_test - mean) / deviation),
        rtol=1e-9,
    )
    page = (out / "index.html").read_text()
    assert "StandardScaler(), then KNN(method=&#x27;mean&#x27;, n_neighbors=3, " in page


def test_labels_in_the_training_file_reach_fit(files, data, tmp_path, monkeypatch):
    X_train, X_test, y = data
    train = write_table(tmp_path, "labelled.csv", X_train, np.ones(60, dtype=int))
    test = write_table(tmp_path, "labelled_test.csv", X_test, y)
    seen = []
    fit = skad.Mahalanobis.fit
    monkeypatch.setattr(
        skad.Mahalanobis,
        "fit",
        lambda self, X, y=None: seen.append((X.shape, y)) or fit(self, X, y),
    )
    options = ["--label-column", "y", "--out", tmp_path / "report"]
    options += ["--contamination", 0.1]
    assert detect(train, test, *options) == 0
    assert detect(train, test, *options, "--anomaly-label", "-1") == 0
    assert detect(train, test, *options, "--anomaly-label", "1") == 0
    for (shape, labels), expected in zip(seen, (1, 1, -1), strict=True):
        assert shape == (60, 3)
        assert labels.tolist() == [expected] * 60


def test_drop_column(data, tmp_path):
    X_train, X_test, _ = data
    for name, X in (("train", X_train), ("test", X_test)):
        frame = pd.DataFrame(X, columns=COLUMNS)
        frame["id"] = [f"r{i}" for i in range(len(frame))]
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    paths = tmp_path / "train.csv", tmp_path / "test.csv"
    assert detect(*paths, "--drop", "id", "--out", tmp_path / "report") == 0


def test_float32_stays_float32(data, tmp_path):
    path = write_table(tmp_path, "a.npy", data[0].astype(np.float32))
    assert read_table(path).X.dtype == np.float32
    path = tmp_path / "a.parquet"
    pd.DataFrame(data[0].astype(np.float32), columns=COLUMNS).to_parquet(path)
    assert read_table(path).X.dtype == np.float32


def test_held_detector(files, tmp_path):
    out = tmp_path / "report"
    settings = ["--set", "detector__n_neighbors=3", "--set", "detector=KNN"]
    assert detect(*files, *settings, "--out", out, detector="FeatureBagging") == 0
    page = (out / "index.html").read_text()
    assert "FeatureBagging(detector=KNN(n_neighbors=3), random_state=0)" in page


def test_list_names_every_detector_by_kind_of_data(capsys):
    assert main(["list"]) == 0
    listed = {}
    for block in capsys.readouterr().out.split("\n\n"):
        heading, *lines = block.strip().splitlines()
        listed[heading] = [line.split()[0] for line in lines]
        assert all(line.startswith("  ") and line.endswith(".") for line in lines)
    assert [heading.removesuffix(":").split(" on ")[1] for heading in listed] == [
        *("tables", "pictures", "series", "a classifier")
    ]
    assert "KNN" in listed["Detectors on tables:"]
    assert "PatchCore" in listed["Detectors on pictures:"]
    assert "MatrixProfile" in listed["Detectors on series:"]
    assert "Energy" in listed["Detectors on a classifier:"]
    names = [name for block in listed.values() for name in block]
    assert sorted(names) == [name for name, _ in skad.all_detectors()]
    assert all(block == sorted(block) for block in listed.values())


def test_help_and_version(capsys):
    for arguments, words in (
        (["--help"], "detect"),
        (["detect", "--help"], "--label-column"),
        (["--version"], skad.__version__),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert words in capsys.readouterr().out


def test_in_a_process_of_its_own(files, tmp_path):
    command = [sys.executable, "-m", "skad", "detect", "--detector", "Mahalanobis"]
    command += ["--train", files[0], "--out", tmp_path / "report", "--test"]
    ended = run([*command, files[1]])
    assert ended.stderr == ""
    program = "import sys; from skad.__main__ import main; main(sys.argv[1:]); "
    program += "sys.exit('torch' in sys.modules)"
    run_python("-c", program, *command[3:], files[1])  # 1 where torch was imported
    ended = run([*command, "none.csv"], check=False)
    assert ended.returncode == 2
    assert ended.stderr == "skad: error: none.csv: no such file\n"


@pytest.mark.parametrize("scale", [[], ["--scale"]])
def test_progress_bars_go_to_standard_error(
    scale, files, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("sklearn.callback")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert detect(*files, "--out", tmp_path / "report", *scale) == 0
    with_bars = capsys.readouterr()
    assert "Mahalanobis" in with_bars.err
    assert "\r" not in with_bars.out
    assert with_bars.out.startswith("Mahalanobis: flagged")
    assert detect(*files, "--out", tmp_path / "report", "--no-progress") == 0
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------- what is wrong


def test_unknown_detector(files, capsys):
    text = complaint(capsys, detect(*files, detector="Mahalnobis"))
    assert "'Mahalnobis'" in text
    assert "did you mean 'Mahalanobis'" in text
    assert "did you mean 'LOF'" in complaint(capsys, detect(*files, detector="lof"))
    assert "mean" not in complaint(capsys, detect(*files, detector="qqqqqqq"))


@pytest.mark.parametrize(
    "line",
    [
        "detect a.csv --out=",
        "detect  --out new",
        "detect --train= --out new",
        "detect a.csv --test a.csv  --out new",
        "fit --train a.csv --detector KNN --out=",
        "fit --train  --detector KNN --out new",
        "score a.skad a.csv --out=",
        "score  a.csv --out new",
        "score a.skad  --out new",
        "demo --out=",
    ],
)
def test_no_path_may_be_empty(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(line.split(" "))
    assert stop.value.code == 2
    assert "a path may not be empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_parameter(files, capsys):
    text = complaint(capsys, detect(*files, "--set", "n_neighbor=5", detector="KNN"))
    assert "'n_neighbor'" in text
    assert "did you mean 'n_neighbors'?" in text
    assert "contamination" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "n_neighbors=0"], "n_neighbors"),
        (["--set", "n_neighbors=many"], "'many'"),
        (["--set", "n_neighbors=60"], "n_neighbors=60"),
        (["--contamination", "0.7"], "contamination"),
    ],
)
def test_bad_value(files, tmp_path, capsys, arguments, words):
    arguments = [*arguments, "--out", tmp_path / "report"]
    assert words in complaint(capsys, detect(*files, *arguments, detector="KNN"))


def test_bad_option(files, capsys):
    for option, words in (
        (["--set", "n_neighbors"], "'n_neighbors' is not of the form NAME=VALUE"),
        (["--image-shape", "8"], "'8' is not HEIGHT,WIDTH"),
        (["--contamination", "much"], "'much'"),
        (["--unknown"], "--unknown"),
    ):
        with pytest.raises(SystemExit) as stop:
            detect(*files, *option)
        assert words in complaint(capsys, stop.value.code)
    with pytest.raises(SystemExit) as stop:
        main([])
    assert "command" in complaint(capsys, stop.value.code)


def test_missing_file(files, tmp_path, capsys):
    text = complaint(capsys, detect(tmp_path / "none.csv", files[1]))
    assert "none.csv: no such file" in text
    assert "is a folder" in complaint(capsys, detect(_folder(tmp_path), files[1]))


def _folder(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    return tmp_path / "folder.csv"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.csv", "width,height,weight\n", "a.csv: no rows"),
        ("a.csv", "1,2,3\n4,5,6\n", "the first line holds numbers"),
        ("a.csv", "width,height\n1,2,3\n4,5,6\n", "more values than the first line"),
        ("a.csv", "width,height\n1,2\n4,5,6\n", "a.csv: cannot be read"),
        (
            "a.csv",
            "width,height,weight\n1,2,3\n4,tall,6\n",
            "'height' is not numeric: ro",
        ),
        ("a.csv", "width,height,weight\n1,2,3\n4,tall,6\n", "row 1 holds 'tall'"),
        ("a.csv", "width,height,weight\n1,2,3\n4,,6\n", "'height' in row 1 is missing"),
        (
            "a.csv",
            "width,height,weight\n1,2,inf\n4,1,6\n",
            "'weight' in row 0 is infin",
        ),
        ("a.csv", "a;b;c\n1,5;2,5;3,5\n", "'a', 'b', 'c'"),
        ("a.csv", "a\tb\tc\n1\t2\t3\n", "'a', 'b', 'c'"),
        ("a.csv", 'width,"height\n1,2\n', "a.csv: cannot be read"),
        ("a.parquet", "no parquet", "a.parquet: cannot be read"),
        ("a.npy", "no array", "a.npy: cannot be read"),
        ("a.npz", "no array", "a.npz: cannot be read"),
        ("a.xlsx", "no array", "unknown kind of file '.xlsx'"),
    ],
)
def test_bad_file(files, tmp_path, capsys, name, content, words):
    (tmp_path / name).write_text(content)
    assert words in complaint(capsys, detect(tmp_path / name, files[1]))
    assert words in complaint(capsys, detect(files[0], tmp_path / name))


def test_text_that_is_not_utf8(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_bytes(b"gr\xf6\xdfe\n1\n2\n3\n")
    assert detect(path, path, "--out", tmp_path / "report") == 0
    assert "is not text in UTF-8 and was read as" in capsys.readouterr().err
    assert scores(tmp_path / "report")[0]["feature_1"] == "gr\u00f6\u00dfe"
    text = complaint(capsys, detect(path, path, "--encoding", "utf-8"))
    assert "is not text in utf-8; --encoding names another" in text


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros(3), "shape (3,)"),
        (np.zeros((2, 2, 2, 2)), "shape (2, 2, 2, 2)"),
        (np.array([["a"]]), "not numbers"),
        (np.array([[1, None]], dtype=object), "cannot be read"),
    ],
)
def test_bad_array(files, tmp_path, capsys, X, words):
    np.save(tmp_path / "a.npy", X)
    assert words in complaint(capsys, detect(tmp_path / "a.npy", files[1]))


def test_bad_archive(tmp_path, capsys):
    good = write_table(tmp_path, "a.npz", np.zeros((3, 2)))
    np.savez(tmp_path / "b.npz", first=np.zeros((3, 2)), second=np.zeros((3, 2)))
    text = complaint(capsys, detect(good, tmp_path / "b.npz"))
    assert "no array 'X' among first, second" in text
    np.savez(tmp_path / "c.npz", X=np.zeros((3, 2)), y=np.zeros(2))
    assert "3 rows" in complaint(capsys, detect(good, tmp_path / "c.npz"))


def test_columns_that_differ(data, files, tmp_path, capsys):
    frame = pd.DataFrame(data[1], columns=COLUMNS)
    other = tmp_path / "other.csv"
    frame.rename(columns={"height": "length"}).to_csv(other, index=False)
    text = complaint(capsys, detect(files[0], other))
    assert "other.csv lacks 'height'" in text
    assert "'length'" in text
    frame[["width", "weight", "height"]].to_csv(other, index=False)
    text = complaint(capsys, detect(files[0], other))
    assert "another order" in text
    assert "'height'" in text


def test_a_missing_path_beside_pictures(files, tmp_path, capsys):
    text = complaint(capsys, detect(tmp_path, tmp_path / "new", detector="PaDiM"))
    assert text.endswith("new: no such file or folder\n")


def test_unknown_columns_in_options(files, capsys):
    text = complaint(capsys, detect(*files, "--label-column", "wight"))
    assert "no label column 'wight'; did you mean 'weight'?" in text
    text = complaint(capsys, detect(*files, "--drop", "wigth"))
    assert "did you mean 'width'?" in text
    everything = [option for name in COLUMNS for option in ("--drop", name)]
    assert "no columns left" in complaint(capsys, detect(*files, *everything))


@pytest.mark.parametrize("place", [0, 1])
def test_a_column_of_one_file_can_be_dropped(data, files, tmp_path, capsys, place):
    frame = pd.DataFrame(data[place], columns=COLUMNS).assign(note="none")
    wider = list(files)
    wider[place] = tmp_path / "wider.csv"
    frame.to_csv(wider[place], index=False)
    text = complaint(capsys, detect(*wider))
    assert "'note' is not numeric" in text
    assert "--drop note leaves the column out" in text
    expected, found = tmp_path / "expected", tmp_path / "found"
    assert detect(*files, "--out", expected) == 0
    assert detect(*wider, "--drop", "note", "--out", found) == 0
    scores = [(out / "scores.csv").read_text() for out in (expected, found)]
    assert scores[0] == scores[1]


def test_ambiguous_labels(data, files, tmp_path, capsys):
    y = np.array(["ok", "broken"])[(data[2] == -1).astype(int)]
    test = write_table(tmp_path, "labelled.csv", data[1], y)
    out = ["--out", tmp_path / "report"]
    text = complaint(capsys, detect(files[0], test, "--label-column", "y"))
    assert "'broken', 'ok'" in text
    assert "--anomaly-label" in text
    label = ["--label-column", "y", "--anomaly-label"]
    assert "'bad'" in complaint(capsys, detect(files[0], test, *label, "bad"))
    assert detect(files[0], test, *label, "broken", *out) == 0
    assert "ROC AUC: 1.0000" in capsys.readouterr().out
    assert "--label-column" in complaint(
        capsys, detect(*files, "--anomaly-label", "broken")
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, -1, 0], [1, -1, 0]),
        ([1.0, -1.0], [1, -1]),
        ([0, 1, 0], [1, -1, 1]),
        ([False, True], [1, -1]),
        (["0", "1"], [1, -1]),
        ([0, 0], [1, 1]),
    ],
)
def test_anomaly_labels(values, expected):
    assert anomaly_labels(np.array(values)).tolist() == expected


def test_anomaly_labels_look_at_both_files():
    assert anomaly_labels([1, 1], known=[-1, 1]).tolist() == [1, 1]
    assert anomaly_labels([1, 1], known=[0, 1]).tolist() == [-1, -1]
    with pytest.raises(ValueError, match="say which one"):
        anomaly_labels([1, 1])
    with pytest.raises(ValueError, match="row 1 is missing"):
        anomaly_labels([1.0, np.nan])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_folder_without_permission(files, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    text = complaint(capsys, detect(*files, "--out", tmp_path / "closed"))
    assert "cannot write there" in text


def test_folder_that_is_a_file(files, tmp_path, capsys):
    text = complaint(capsys, detect(*files, "--out", files[0]))
    assert "train.csv: cannot write there: it is a file, and results go" in text
    text = complaint(capsys, detect(*files, "--out", files[0] / "below"))
    assert "cannot write there" in text


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder that takes none")
def test_a_model_where_none_can_be_is_refused_before_the_work(files, capsys):
    fit = ["fit", "--train", str(files[0]), "--detector", "KNN"]
    text = complaint(capsys, main([*fit, "--out", "/proc/model.skad"]))
    assert "/proc: cannot write there" in text


def test_names_of_files_are_text_in_json_whatever_the_locale():
    # as Python has the name in a locale of ASCII, and one that is no UTF-8
    assert plain([Path("r \udce6\udcb8\udca9"), "\udce9"]) == ["r 温", "\\xe9"]


def test_nobody_need_listen(files, tmp_path, monkeypatch, capsys):
    """A service starts with closed streams; what is printed is never mixed up."""
    one = tmp_path / "one.csv"
    one.write_text("width,height,weight\n1,2,3\n")
    out = ["--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert detect(*files, *out, "--json") == 0
        json.loads(capsys.readouterr().out)
        assert detect(one, files[1], *out) == 2
        patch.setattr(sys, "stdout", None)
        assert detect(*files, *out) == 0
    assert capsys.readouterr().out == ""


def test_one_row_is_too_few_and_the_file_is_named(files, tmp_path, capsys):
    one = tmp_path / "one.csv"
    one.write_text("width,height,weight\n1,2,3\n")
    text = complaint(capsys, detect(one, files[1]))
    assert "one.csv: has 1 row, and Mahalanobis learns from 2 or more" in text
    assert detect(files[0], one, "--out", tmp_path / "out") == 0


def test_missing_extra_is_named(files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "pip install 'skad[report]'" in complaint(capsys, detect(*files))


def test_demo_prints_every_detector_on_rows_but_slow_networks(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path)]) == 0
    printed, warned = capsys.readouterr()
    assert warned == ""
    page = (tmp_path / "index.html").read_text()
    wanted = dict.fromkeys((name for name, _ in demonstrated()), 2)  # data sets
    wanted |= dict.fromkeys(["PatchCore", "PaDiM", "MatrixProfile"], 1)
    wanted |= {"SubsequenceKNN": 1}
    assert "A weave, drawn" in printed
    assert "A machine, drawn" in printed
    for k in range(1, 5):  # the page leads to each of the four sets
        assert f'<a href="#section-{k}">' in page
        assert f'<section id="section-{k}">' in page
    for name, _ in skad.all_detectors():
        lines = [line for line in printed.splitlines() if line.startswith(name + " ")]
        assert len(lines) == wanted.get(name, 0)
        for line in lines:
            auc, precision = map(float, line.split()[1:3])
            assert 0.55 < auc <= 1  # SelfRepresentation looks at directions alone
            assert 0.55 < precision <= 1
        # tables and gallery
        rows = {0: 0, 1: 1, 2: 3}[len(lines)]
        assert page.count(f'<th scope="row">{name}</th>') == rows


def test_demo_leaves_out_slow_networks_unless_asked():
    quick, all_ = dict(demonstrated()), dict(demonstrated(networks=True))
    assert {"AutoEncoder", "KNN", "DeepSVDD"} <= set(quick)
    more = set(all_) - set(quick)
    assert {"AnoGAN", "VAE", "RaPP"} <= more
    assert all(trains_network(all_[name]()) for name in more)
    assert not {"Energy", "MatrixProfile", "PaDiM", "QuantileThreshold"} & set(all_)


def test_pictures_are_pictures_to_networks(tmp_path, capsys):
    pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    file = write_table(tmp_path, "pictures.npy", pictures)
    assert read_table(file).X.max() <= 1
    table = write_table(tmp_path, "table.npy", pictures.reshape(20, -1))
    assert read_table(table).X.max() > 1
    settings = "max_epochs=1", "hidden_sizes=(4,8)", "random_state=0"
    options = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "report"
    assert detect(file, file, *options, "--out", out, detector="AutoEncoder") == 0
    with (out / "scores.csv").open() as lines:
        found = [float(row["score"]) for row in csv.DictReader(lines)]
    detector = skad.AutoEncoder(max_epochs=1, hidden_sizes=(4, 8), random_state=0)
    expected = detector.fit(pictures).score_samples(pictures)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_breast_cancer_rows_are_disjoint():
    data = load_breast_cancer()
    train = {row.tobytes() for row in data.X_train}
    assert not train & {row.tobytes() for row in data.X_test}
    assert np.sum(data.y_test == -1) == 212


def test_wrong_input_leaves_no_folder(files, tmp_path, capsys):
    out = tmp_path / "report"
    complaint(capsys, detect(tmp_path / "none.csv", files[1], "--out", out))
    complaint(capsys, detect(*files, "--out", out, detector="none"))
    assert not out.exists()


# --------------------------------------------------------------------------- pictures


def save_pictures(folder, names, *, defect=None, shape=(24, 32), seed=0):
    """Write grey noise, with a white square in the last rows where `defect` says."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        picture = rng.normal(120, 3, size=shape).astype(np.uint8)
        if defect is not None:
            picture[defect] = 250
        image.fromarray(picture).save(folder / name)


SQUARE = np.s_[12:18, 20:26]


@pytest.fixture
def picture_set(tmp_path):
    """A set in MVTec's layout, with masks."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path / "set"
    save_pictures(root / "train" / "good", [f"{i}.png" for i in range(8)])
    save_pictures(root / "test" / "good", ["a.png", "b.png"], seed=1)
    save_pictures(root / "test" / "spot", ["a.png", "c.png"], defect=SQUARE, seed=2)
    masks = root / "ground_truth" / "spot"
    masks.mkdir(parents=True)
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[SQUARE] = 255
    for name in ("a_mask.png", "c_mask.png"):
        image.fromarray(mask).save(masks / name)
    return root


def detect_pictures(*more, detector="PatchCore"):
    settings = ["--set", "smoothing=1", "random_state=0", "--contamination", "0.2"]
    options = ["--detector", detector, *(settings if detector == "PatchCore" else [])]
    return main(["detect", *map(str, [*options, *more])])


def scores(out):
    with (out / "scores.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("test", ["", "test", "set"])
def test_a_set_of_pictures_gives_metrics_and_maps(test, picture_set, tmp_path, capsys):
    out = tmp_path / "report"
    options = [] if not test else ["--test", picture_set / test.removeprefix("set")]
    options += ["--train", picture_set, "--out", out, "--calibrate", 0.4]
    assert detect_pictures(*options) == 0
    printed = capsys.readouterr().out
    found = dict(line.split(": ") for line in printed.splitlines()[1:-1])
    assert float(found["ROC AUC"]) == 1
    assert float(found["pixel ROC AUC"]) > 0.95
    assert float(found["AUPRO (to 0.3)"]) > 0.8
    rows = scores(out)
    prefix = "" if test == "test" else "test/"
    assert [row["file"].removeprefix(prefix) for row in rows] == [
        *("good/a.png", "good/b.png", "spot/a.png", "spot/c.png")
    ]
    assert [row["defect"] for row in rows] == ["good"] * 2 + ["spot"] * 2
    assert [row["true_label"] for row in rows] == ["1", "1", "-1", "-1"]
    page = (out / "index.html").read_text()
    assert "held-out pictures" in page
    assert "ROC AUC against good" in page
    image = pytest.importorskip("PIL.Image")
    for row in rows:
        grey = np.asarray(image.open(out / row["map"])).astype(int)
        assert grey.shape == (24, 32)
        if row["defect"] == "spot":
            assert grey[SQUARE].min() > 128  # over the threshold


def test_maps_and_scores_are_those_of_the_detector(picture_set, tmp_path):
    from skad.image import PatchCore, PictureFiles

    out = tmp_path / "report"
    good, new = picture_set / "train" / "good", picture_set / "test" / "spot"
    options = ["--train", good, "--test", new, "--out", out, "--maps", "npy"]
    assert detect_pictures(*options) == 0
    detector = PatchCore(smoothing=1, random_state=0, contamination=0.2)
    detector.fit(PictureFiles(sorted(good.iterdir())))
    X = PictureFiles(sorted(new.iterdir()))
    rows = scores(out)
    assert [row["file"] for row in rows] == ["a.png", "c.png"]
    assert "true_label" not in rows[0]
    found = [float(row["score"]) for row in rows]
    np.testing.assert_allclose(found, detector.score_samples(X), rtol=1e-5)
    maps = [np.load(out / row["map"]) for row in rows]
    assert maps[0].dtype == np.float32
    np.testing.assert_allclose(maps, detector.transform(X), rtol=1e-4, atol=1e-5)


def test_several_picture_files_and_no_maps(picture_set, tmp_path, capsys):
    out = tmp_path / "report"
    files = [picture_set / "test" / name for name in ("good/a.png", "spot/c.png")]
    train = sorted((picture_set / "train" / "good").iterdir())
    options = ["--train", *train, "--test", *files, "--out", out, "--maps", "none"]
    assert detect_pictures(*options, "--image-size", "12,16") == 0
    assert [row["file"] for row in scores(out)] == ["good/a.png", "spot/c.png"]
    assert "map" not in scores(out)[0]
    assert not (out / "maps").exists()
    assert "12 x 16" in (out / "index.html").read_text()


def test_a_table_detector_is_lifted_to_pictures(picture_set, tmp_path, capsys):
    out = ["--train", picture_set, "--out", tmp_path / "report"]
    text = complaint(capsys, detect_pictures(*out, detector="KNN"))
    assert "--detector PatchDetector --set detector=KNN" in text
    settings = ["--set", "detector=KNN", "detector__n_neighbors=2", "max_patches=200"]
    assert detect_pictures(*out, *settings, detector="PatchDetector") == 0


def test_what_is_wrong_with_pictures(picture_set, tmp_path, capsys):
    good, new = picture_set / "train" / "good", picture_set / "test"
    out = ["--out", tmp_path / "report"]

    def wrong(*options, **detector):
        return complaint(capsys, detect_pictures(*out, *options, **detector))

    assert "is a folder" not in wrong("--train", good, "--test", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    text = wrong("--train", good, "--test", tmp_path / "empty")
    assert "empty: there is no picture in it" in text
    assert "empty" in wrong("--train", tmp_path / "empty", "--test", good)
    text = wrong("--train", good, "--calibrate", 0.2)
    assert "none are known to be good" in text
    assert "looks at series" in wrong("--train", picture_set, detector="MatrixProfile")
    assert "a classifier" in wrong("--train", picture_set, detector="Energy")
    for option in (["--series"], ["--scale"], ["--label-column", "y"]):
        assert f"{option[0]} is not for pictures" in wrong(
            "--train", picture_set, *option
        )
    assert "--calibrate 0.01" in wrong("--train", picture_set, "--calibrate", 0.01)
    save_pictures(tmp_path / "odd", ["a.png"], shape=(10, 10))
    text = wrong("--train", good, "--test", tmp_path / "odd")
    assert "a.png: is 10 x 10 pixels" in text
    assert "--image-size HEIGHT,WIDTH" in text
    save_pictures(new / "good", ["odd.png"], shape=(10, 10))
    text = wrong("--train", good, "--test", new)
    assert "odd.png: is 10 x 10" in text
    assert "--image-size" in text
    save_pictures(new, ["loose.png"])
    assert "both right in it and in folders" in wrong("--train", good, "--test", new)
    assert not (tmp_path / "report").exists()


def test_broken_pictures_are_named_or_left_out(picture_set, tmp_path, capsys):
    (picture_set / "test" / "good" / "z.png").write_text("no picture")
    out = tmp_path / "report"
    options = ["--train", picture_set, "--out", out]
    text = complaint(capsys, detect_pictures(*options))
    assert "z.png: cannot be read as a picture" in text
    assert "--on-error skip leaves such files out" in text
    assert detect_pictures(*options, "--on-error", "skip") == 0
    printed = capsys.readouterr()
    assert "skad: left out: " in printed.err
    assert "z.png" in printed.err
    assert len(scores(out)) == 4
    assert "z.png" in (out / "index.html").read_text()
    assert "z.png" in (out / "skipped.csv").read_text()


def test_the_page_is_bounded_and_blocks_are_small(picture_set, tmp_path, monkeypatch):
    from skad.image import PictureFiles

    held = []
    read = PictureFiles.__getitem__

    def counted(self, rows):
        part = read(self, rows)
        held.append(len(part))
        return part

    monkeypatch.setattr(PictureFiles, "__getitem__", counted)
    monkeypatch.setattr("skad.inspection._pictures._BLOCK_ELEMENTS", 5 * 24 * 32)
    names = [f"{i:03}.png" for i in range(60)]
    save_pictures(tmp_path / "new", names, seed=3)
    save_pictures(tmp_path / "new", ["042.png"], defect=SQUARE)
    out = tmp_path / "report"
    good = picture_set / "train" / "good"
    options = ["--train", good, "--test", tmp_path / "new", "--out", out]
    assert detect_pictures(*options) == 0
    assert max(held) <= 8  # a batch of the fit
    rows = scores(out)
    assert len(rows) == len(list((out / "maps").iterdir())) == 60
    assert min(rows, key=lambda row: float(row["score"]))["file"] == "042.png"
    page = (out / "index.html").read_text()
    assert page.count("<figure") == 12
    assert page.index("042.png") == min(page.index(n) for n in names if n in page)


@pytest.mark.parametrize("more", [[], ["--maps", "none"], ["--calibrate", "0.25"]])
def test_every_picture_is_looked_at_once(more, picture_set, tmp_path, monkeypatch):
    from skad.embedding._gabor import GaborBank
    from skad.image import PictureFiles

    looked = []
    forward = GaborBank.forward
    monkeypatch.setattr(
        GaborBank, "forward", lambda self, x: looked.append(len(x)) or forward(self, x)
    )
    settings = {"smoothing": 1, "random_state": 0, "contamination": 0.2}
    good = PictureFiles(sorted((picture_set / "train" / "good").iterdir()))
    new = PictureFiles(sorted((picture_set / "test").glob("*/*.png")))
    held = 2 if "--calibrate" in more else 0
    detector = skad.PatchCore(**settings).fit(good[: len(good) - held])
    for pictures in (good[:held], new) if held else (new,):
        detector.inspect(pictures)
    expected = sum(looked)
    assert expected == len(good) + len(new)
    looked.clear()
    options = ["--train", picture_set, "--out", tmp_path / "report", *more]
    assert detect_pictures(*options) == 0
    assert sum(looked) == expected


def test_maps_do_not_depend_on_when_their_scale_is_known(tmp_path):
    from skad.inspection._map_files import MapFiles

    image = pytest.importorskip("PIL.Image")
    maps = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    late, early = (MapFiles(tmp_path / name, 3, None, "png") for name in "le")
    early.set_scale(-1.0, 2.0)
    for written in (late, early):
        for i, heat in enumerate(maps):
            written.write(i, heat)
    late.set_scale(-1.0, 2.0)
    for name in late.names:
        grey = [np.asarray(image.open(tmp_path / part / name)) for part in "le"]
        np.testing.assert_array_equal(*grey)
    assert len(list((tmp_path / "l" / "maps").iterdir())) == 3
    grey = np.asarray(image.open(tmp_path / "l" / late.names[1]))
    np.testing.assert_array_equal(grey > 128, maps[1] > 2.0 + 0.5 / 128 * 3)


# ----------------------------------------------------------------------------- series


@pytest.fixture
def series_files(tmp_path):
    """Two machines with three channels; one breaks in channel b from row 130 on."""
    rng = np.random.default_rng(0)
    paths = tmp_path / "a.csv", tmp_path / "b.csv"
    for path in paths:
        step = np.arange(300)
        frame = pd.DataFrame(rng.normal(0, 0.05, (300, 3)), columns=list("abc"))
        frame += np.sin(2 * np.pi * step / 20)[:, None]
        frame["machine"] = np.repeat(["one", "two"], 150)
        days = pd.Timestamp("2024-01-01") + pd.to_timedelta(step % 150, "h")
        frame["time"] = days.astype(str)
        frame["broken"] = 0
        if path == paths[1]:
            frame.loc[130:139, "b"] = 4.0
            frame.loc[130:139, "broken"] = 1
        frame.to_csv(path, index=False)
    return paths


SERIES = ["--series", "--group-column", "machine", "--time-column", "time"]


def detect_series(paths, *more, detector="SubsequenceKNN"):
    settings = ["--set", "window_size=10"] if detector == "SubsequenceKNN" else []
    return detect(*paths, *settings, "--contamination", 0.01, *more, detector=detector)


@pytest.mark.parametrize("scale", [["--scaling", "none"], ["--scale"]])
def test_detect_series(scale, series_files, tmp_path, capsys):
    out = tmp_path / "report"
    options = [*SERIES, "--label-column", "broken", "--out", out, *scale]
    assert detect_series(series_files, *options) == 0
    printed = capsys.readouterr().out
    assert "of 300 time steps" in printed
    assert "VUS-PR (window 10): " in printed
    assert "F1 of events" in printed
    rows = scores(out)
    frames = [pd.read_csv(path) for path in series_files]
    X_train, X = (frame[list("abc")].to_numpy() for frame in frames)
    if "--scale" in scale:
        mean, deviation = X_train.mean(axis=0), X_train.std(axis=0)
        X_train, X = (X_train - mean) / deviation, (X - mean) / deviation
    groups = frames[0]["machine"].to_numpy()
    detector = skad.SubsequenceKNN(window_size=10, contamination=0.01)
    detector.fit(X_train, groups=groups)
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows],
        detector.score_samples(X, groups=groups),
        rtol=1e-9,
    )
    assert [row["machine"] for row in rows] == groups.tolist()
    assert rows[5]["time"] == "2024-01-01 05:00:00"
    assert {row["channel_1"] for row in rows[131:139]} == {"b"}
    with (out / "events.csv").open() as lines:
        worst = next(csv.DictReader(lines))
    assert int(worst["start"]) <= 130
    assert int(worst["end"]) >= 139
    assert worst["machine"] == "one"
    assert worst["channels"].startswith("b")
    page = (out / "index.html").read_text()
    assert "machine one" in page
    assert worst["start_time"] in page


def test_series_by_rows_of_one_channel(tmp_path, capsys):
    x = np.sin(np.arange(400) / 5)[:, None]
    np.save(tmp_path / "a.npy", x)
    x[200:210] = 0
    np.save(tmp_path / "b.npy", x)
    paths = tmp_path / "a.npy", tmp_path / "b.npy"
    out = tmp_path / "report"
    options = ["--series", "--out", out, "--set", "window_size=20"]
    assert detect_series(paths, *options, detector="MatrixProfile") == 0
    row = min(scores(out), key=lambda row: float(row["score"]))
    assert 180 <= int(row["row"]) <= 230


def test_missing_values_in_series(series_files, tmp_path, capsys):
    frame = pd.read_csv(series_files[1])
    frame.loc[50, "a"] = np.nan
    frame.to_csv(series_files[1], index=False)
    options = [*SERIES, "--drop", "broken", "--out", tmp_path / "report"]
    settings = ["--set", "window_size=10"]
    text = complaint(
        capsys, detect_series(series_files, *options, *settings, detector="PASAD")
    )
    assert "column 'a' in row 50 is missing" in text
    settings += ["missing=skip"]
    status = detect_series(series_files, *options, *settings, detector="MatrixProfile")
    assert status == 0


def test_what_is_wrong_with_series(series_files, tmp_path, capsys):
    out = ["--drop", "broken", "--out", tmp_path / "report"]

    def wrong(*options, **detector):
        return complaint(
            capsys, detect_series(series_files, *out, *options, **detector)
        )

    text = wrong(*SERIES, detector="KNN")
    assert "--detector WindowDetector --set detector=KNN" in text
    assert "pass --series" in wrong("--drop", "machine")
    assert "looks at pictures" in wrong(*SERIES, detector="PaDiM")
    assert "no column 'machin'; did you mean 'machine'?" in wrong(
        "--series", "--group-column", "machin"
    )
    text = wrong(*SERIES[:1], *SERIES[3:], detector="MatrixProfile")
    assert "'machine' is not numeric" in text
    assert "--group-column machine or --id-column machine for names" in text
    text = wrong("--series", "--drop", "machine", detector="MatrixProfile")
    assert "a time; --series --time-column time takes it so" in text
    text = wrong("--series", "--drop", "machine", "--time-column", "time")
    assert "'time' goes back in row 150" in text
    assert "--maps is not for series" in wrong(*SERIES, "--maps", "png")
    assert "--group-column is not for tables" in wrong("--group-column", "machine")
    assert "fewer than window_size=200" in wrong(*SERIES, "--set", "window_size=200")
    frame = pd.read_csv(series_files[1])
    frame["time"] = "soon"
    frame.to_csv(series_files[1], index=False)
    text = wrong(*SERIES)
    assert "column 'time' row 0 holds 'soon', neither a number nor a time" in text


def test_picture_detectors_refuse_tables(files, capsys):
    text = complaint(capsys, detect(*files, detector="PatchCore"))
    assert "looks at pictures, not at rows of a table" in text
    text = complaint(capsys, detect(*files, "--image-size", "8,8"))
    assert "--image-size is not for tables" in text


@pytest.mark.parametrize(
    ("n", "known", "held_out", "warns"),
    [(5, None, 0, True), (4, None, 0, False), (5, -1, 0, False), (5, None, 3, False)],
)
def test_all_pictures_flagged(n, known, held_out, warns):
    y = None if known is None else np.full(n, known)
    flagged = np.ones(n, dtype=bool)
    findings = SimpleNamespace(flagged=flagged, y=y, held_out=held_out)
    words = "all of 5 pictures are flagged"
    with pytest.warns(UserWarning, match=words) if warns else nullcontext():
        warn_of_all_flagged(findings)
    flagged[0] = False
    warn_of_all_flagged(findings)
