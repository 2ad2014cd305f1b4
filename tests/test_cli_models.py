"""Models in files, several detectors, choices made for the user, JSON and events."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import skad
from skad.__main__ import main
from skad._commands._defaults import default_detector
from skad._commands._scaling import with_scaling
from skad.persistence._file import write
from tests.test_cli import SQUARE, complaint, save_pictures

COLUMNS = ["width", "height", "weight"]


@pytest.fixture
def files(tmp_path):
    """Paths of a training file, and of a labelled one with five odd rows at its end."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3)) * [1, 1000, 0.01]
    X[85:, 2] += 0.2
    frame = pd.DataFrame(X, columns=COLUMNS)
    frame["name"] = [f"r{i:02}" for i in range(90)]
    frame["kind"] = "ok"
    frame.loc[85:, "kind"] = "bad"
    paths = tmp_path / "train.csv", tmp_path / "test.csv"
    frame[:60].to_csv(paths[0], index=False, sep=";", decimal=",")
    frame[60:].to_csv(paths[1], index=False, sep=";", decimal=",")
    return paths


READ = ["--id-column", "name", "--label-column", "kind", "--anomaly-label", "bad"]
READ += ["--sep", ";", "--decimal", ","]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def rows(out, name="scores.csv"):
    with (out / name).open() as lines:
        return list(csv.DictReader(lines))


def fit(train, out, *more):
    return run("fit", "--train", train, "--out", out, *more)


# ------------------------------------------------------------------------------- models


@pytest.mark.parametrize("detector", ["KNN", "IsolationForest", "AutoEncoder"])
@pytest.mark.parametrize("scaling", [[], ["--scale"], ["--scaling", "none"]])
def test_a_model_scores_as_detect_does(detector, scaling, files, tmp_path, capsys):
    options = [*READ, "--detector", detector, *scaling, "--false-alarm-rate", 0.1]
    options += ["--set", "max_epochs=2"] if detector == "AutoEncoder" else []
    model, one, two = (tmp_path / name for name in ("m.skad", "one", "two"))
    paths = ["--train", files[0], "--test", files[1]]
    assert run("detect", *paths, *options, "--out", one) == 0
    assert fit(files[0], model, *options) == 0
    files[0].unlink()
    # columns in another order, and two that nobody knows
    new = pd.read_csv(files[1], sep=";", dtype=str)
    new = new[new.columns[::-1]].assign(note="new", more="1")
    new.to_csv(files[1], index=False, sep=";")
    capsys.readouterr()
    assert run("score", model, files[1], "--out", two) == 0
    printed = capsys.readouterr()
    assert "'more', 'note' left out" in printed.err.replace(
        "'note', 'more'", "'more', 'note'"
    )
    assert "ROC AUC" in printed.out
    assert rows(one) == rows(two)
    assert rows(two)[0]["name"] == "r60"
    pages = [(out / "index.html").read_text() for out in (one, two)]
    assert all("what 90 % of the training rows hold" in page for page in pages)


def test_a_model_is_a_detector_of_python(files, tmp_path):
    assert fit(files[0], tmp_path / "m.skad", *READ, "--detector", "KNN") == 0
    assert run("score", tmp_path / "m.skad", files[1], "--out", tmp_path / "r") == 0
    detector = skad.load(tmp_path / "m.skad")
    X = pd.read_csv(files[1], sep=";", decimal=",")[COLUMNS].to_numpy()
    found = [float(row["score"]) for row in rows(tmp_path / "r")]
    np.testing.assert_array_equal(found, detector.score_samples(X))


def test_a_model_says_what_a_file_lacks(files, tmp_path, capsys):
    model = tmp_path / "m.skad"
    assert fit(files[0], model, *READ, "--detector", "KNN") == 0
    frame = pd.read_csv(files[1], sep=";", dtype=str)
    frame.drop(columns=["height", "kind"]).to_csv(files[1], index=False, sep=";")
    capsys.readouterr()
    text = complaint(capsys, run("score", model, files[1], "--out", tmp_path / "r"))
    assert "test.csv: lacks 'height', which the model has learned from" in text
    assert not (tmp_path / "r").exists()
    # without labels there are no metrics, unless they are asked for by name
    frame.drop(columns=["kind"]).to_csv(files[1], index=False, sep=";")
    assert run("score", model, files[1], "--out", tmp_path / "r") == 0
    assert "ROC AUC" not in capsys.readouterr().out
    options = ["--label-column", "sort", "--out", tmp_path / "r"]
    text = complaint(capsys, run("score", model, files[1], *options))
    assert "no label column 'sort'" in text


def test_options_of_reading_travel_and_give_way(files, tmp_path, capsys):
    model = tmp_path / "m.skad"
    assert fit(files[0], model, *READ, "--detector", "KNN") == 0
    frame = pd.read_csv(files[1], sep=";", decimal=",")
    frame.to_csv(files[1], index=False)
    capsys.readouterr()
    out = ["--out", tmp_path / "r"]
    text = complaint(capsys, run("score", model, files[1], *out))
    assert "test.csv" in text
    assert run("score", model, files[1], *out, "--sep", ",", "--decimal", ".") == 0
    assert len(rows(tmp_path / "r")) == 30


def test_what_is_no_model(files, tmp_path, capsys):
    out = ["--out", tmp_path / "r"]

    def wrong(path):
        return complaint(capsys, run("score", path, files[1], *out))

    assert "none.skad: no such file" in wrong(tmp_path / "none.skad")
    assert "is a folder, not a model" in wrong(tmp_path)
    (tmp_path / "a.skad").write_text("nothing of the kind")
    assert "A model is what `skad fit` writes" in wrong(tmp_path / "a.skad")
    X = np.random.default_rng(0).normal(size=(50, 3))
    detector = skad.KNN().fit(X)
    skad.save(detector, tmp_path / "b.skad")
    assert "a detector that Python saved" in wrong(tmp_path / "b.skad")
    for notes in ({}, {"format": 2}, [1], {"format": 1, "kind": "tables"}):
        write(detector, tmp_path / "c.skad", notes=notes)
        assert "c.skad: is no model of `skad fit`" in wrong(tmp_path / "c.skad")


def forged(notes, path):
    """Yield (what was changed, notes) with one value each that cannot be."""
    changes = {
        "kind": "sounds",
        "columns": [1, 2, 3],
        "scaling": "fast",
        "image_shape": [0, -1],
        "known_labels": 7,
        "reading": {"sep": 3},
        "learned": {**notes["learned"], "train_range": [[0.0]]},
    }
    for name, value in changes.items():
        yield name, notes | {name: value}
    for name, value in (
        ("threshold", "low"),
        ("held_out", -1),
        ("window", 0.5),
        ("train_score", [[1.0]]),
        ("scale", [1.0, 2.0, 3.0]),
        ("n_train", None),
    ):
        yield name, notes | {"learned": notes["learned"] | {name: value}}


def test_notes_that_somebody_forged_are_refused(files, tmp_path, capsys):
    from skad.persistence._file import read

    assert fit(files[0], tmp_path / "m.skad", *READ, "--detector", "KNN") == 0
    detector, notes = read(tmp_path / "m.skad")
    capsys.readouterr()
    for name, changed in forged(notes, tmp_path):
        write(detector, tmp_path / "f.skad", notes=changed)
        status = run("score", tmp_path / "f.skad", files[1], "--out", tmp_path / "r")
        assert "f.skad: is no model" in complaint(capsys, status), name


def test_where_a_model_cannot_be_written(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(skad.KNN, "fit", None)  # nothing is learned before

    def wrong(out):
        return complaint(capsys, fit(files[0], out, *READ, "--detector", "KNN"))

    assert "is a folder; name a file" in wrong(tmp_path)
    assert "there is no folder" in wrong(tmp_path / "none" / "m.skad")
    assert "would write over" in wrong(files[0])
    several = ["--detector", "KNN", "LOF", "--out", tmp_path / "m.skad"]
    text = complaint(capsys, run("fit", "--train", files[0], *READ, *several))
    assert "--detector: a model holds one" in text


def test_a_model_of_pictures(tmp_path, capsys):
    good, new = tmp_path / "good", tmp_path / "new"
    save_pictures(good, [f"{i}.png" for i in range(8)])
    save_pictures(new / "good", ["a.png", "b.png"], seed=1)
    save_pictures(new / "spot", ["c.png"], defect=SQUARE, seed=2)
    options = ["--detector", "PatchCore", "--set", "smoothing=1"]
    options += ["--image-size", "20,24", "--calibrate", 0.25]
    one, two, model = (tmp_path / name for name in ("one", "two", "m.skad"))
    paths = ["--train", good, "--test", new, "--out", one]
    assert run("detect", *paths, *options) == 0
    assert fit(good, model, *options) == 0
    capsys.readouterr()
    assert run("score", model, new, "--out", two) == 0
    assert "2 held-out pictures" in capsys.readouterr().out
    assert rows(one) == rows(two)
    for row in rows(one):
        assert (one / row["map"]).read_bytes() == (two / row["map"]).read_bytes()
    # one of them, which is a file and no table
    assert run("score", model, new / "spot" / "c.png", "--out", tmp_path / "lone") == 0
    assert rows(tmp_path / "lone")[0]["score"] == rows(two)[2]["score"]
    # of any size, as the training pictures were
    save_pictures(tmp_path / "large", ["d.png"], shape=(50, 60))
    assert run("score", model, tmp_path / "large", "--out", two) == 0
    capsys.readouterr()
    text = complaint(capsys, run("score", model, tmp_path / "none", "--out", two))
    assert "none" in text
    table = tmp_path / "a.csv"
    table.write_text("a\n1\n")
    text = complaint(capsys, run("score", model, table, "--out", two))
    assert "looks at pictures" in text


def test_a_model_of_pictures_without_a_size_names_fit(tmp_path, capsys):
    save_pictures(tmp_path / "good", [f"{i}.png" for i in range(6)])
    save_pictures(tmp_path / "new", ["a.png"], shape=(12, 12))
    assert fit(tmp_path / "good", tmp_path / "m.skad") == 0
    capsys.readouterr()
    status = run("score", tmp_path / "m.skad", tmp_path / "new", "--out", tmp_path)
    text = complaint(capsys, status)
    assert "a.png: is 12 x 12 pixels" in text
    assert "`skad fit --image-size HEIGHT,WIDTH`" in text


@pytest.fixture
def series(tmp_path):
    """Two machines, day-first dates that only the first file settles, a break in b."""
    rng = np.random.default_rng(0)
    paths = tmp_path / "a.csv", tmp_path / "b.csv"
    for path, start in zip(paths, ("2024-01-13", "2024-02-03"), strict=True):
        step = np.arange(240)
        frame = pd.DataFrame(rng.normal(0, 0.05, (240, 2)), columns=list("ab"))
        frame += np.sin(2 * np.pi * step / 20)[:, None]
        frame["b"] *= 100
        frame["machine"] = np.repeat(["one", "two"], 120)
        days = pd.Timestamp(start) + pd.to_timedelta(step % 120, "min")
        frame["time"] = days.strftime("%d.%m.%Y %H:%M")
        if path == paths[1]:
            frame.loc[70:76, "b"] = 400.0
            frame.loc[84:88, "b"] = 400.0
        frame.to_csv(path, index=False)
    return paths


TIMES = ["--series", "--group-column", "machine", "--time-column", "time"]
KNN_10 = ["--detector", "SubsequenceKNN", "--set", "window_size=10"]


def test_a_model_of_series(series, tmp_path, capsys):
    one, two, model = (tmp_path / name for name in ("one", "two", "m.skad"))
    paths = ["--train", series[0], "--test", series[1], "--out", one]
    assert run("detect", *paths, *TIMES, *KNN_10) == 0
    assert fit(series[0], model, *TIMES, *KNN_10) == 0
    assert run("score", model, series[1], "--out", two) == 0
    assert rows(one) == rows(two)
    assert rows(one, "events.csv") == rows(two, "events.csv")
    assert rows(two, "events.csv")[0]["start_time"].startswith("2024-02-03 01:")
    frame = pd.read_csv(series[1]).drop(columns=["machine"])
    frame.to_csv(series[1], index=False)
    capsys.readouterr()
    text = complaint(capsys, run("score", model, series[1], "--out", two))
    assert "no column 'machine'" in text


def test_gaps_and_durations_of_events(series, tmp_path, capsys):
    paths = ["--train", series[0], "--test", series[1], *TIMES, *KNN_10]
    paths += ["--contamination", "0.001"]

    def events(name, *options):
        assert run("detect", *paths, "--out", tmp_path / name, *options) == 0
        return rows(tmp_path / name, "events.csv")

    alone = events("alone")
    one = events("one", "--merge-gap", 200)
    assert len(alone) >= len(one) == 1
    assert one == events("time", "--merge-gap", "2h")
    assert "events: 1, the most anomalous from 2024-02-03" in capsys.readouterr().out
    assert one[0]["channels"].startswith("b")
    assert events("short", "--min-duration", "3h") == []
    assert "events: none" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run("detect", *paths, "--merge-gap", "5x")
    assert "'5x' is neither a number of steps" in complaint(capsys, stop.value.code)
    numbers = tmp_path / "numbers"
    shutil.copy(series[0], tmp_path / "c.csv")
    options = ["--drop", "time", "--drop", "machine", "--series", *KNN_10]
    options += ["--merge-gap", "5min", "--out", numbers]
    text = complaint(capsys, run("detect", tmp_path / "c.csv", *options))
    assert "--merge-gap 5min: needs a --time-column" in text
    assert not numbers.exists()
    text = complaint(capsys, run("detect", tmp_path / "c.csv", "--merge-gap", 3))
    assert "--merge-gap is not for tables" in text


# ------------------------------------------------------------------- one file by itself


@pytest.mark.parametrize("alone", [[], ["--train"]])
@pytest.mark.parametrize("detector", ["KNN", "Mahalanobis"])
def test_a_table_is_searched_for_its_own_anomalies(
    alone, detector, files, tmp_path, capsys
):
    options = [*READ, "--detector", detector, "--scaling", "none"]
    options += ["--contamination", 0.1, "--out", tmp_path / "r"]
    assert run("detect", *alone, files[1], *options) == 0
    printed = capsys.readouterr().out
    assert "the same rows were learned from and looked at" in printed
    X = pd.read_csv(files[1], sep=";", decimal=",")[COLUMNS].to_numpy()
    model = getattr(skad, detector)(contamination=0.1)
    labels = model.fit_predict(X)
    assert [int(row["label"]) for row in rows(tmp_path / "r")] == labels.tolist()
    found = [float(row["score"]) for row in rows(tmp_path / "r")]
    np.testing.assert_allclose(found, model.score_samples(X), rtol=1e-12)


@pytest.mark.parametrize("how", ["folder", "train", "files"])
def test_pictures_are_searched_for_their_own_anomalies(how, tmp_path, capsys):
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for i in range(14):
        picture = rng.normal(128, 8, size=(32, 32)).clip(0, 255).astype(np.uint8)
        if i == 3:
            picture[8:16, 10:18] = 230
        if i == 9:  # of another kind, or the two would be like each other
            picture[20:24] = np.arange(32) % 2 * 100
        Image.fromarray(picture).save(folder / f"{i:02}.png")
    files = sorted(folder.glob("*.png"))
    asked = {"folder": [folder], "train": ["--train", folder], "files": files}[how]
    options = ["--detector", "PatchCore", "--set", "random_state=0"]
    options += ["--contamination", 2 / 14, "--out", tmp_path / "r"]
    assert run("detect", *asked, *options) == 0
    assert "the same pictures were learned from" in capsys.readouterr().out
    found = rows(tmp_path / "r")
    assert [row["file"] for row in found] == [file.name for file in files]
    flagged = {row["file"] for row in found if row["label"] == "-1"}
    assert flagged == {"03.png", "09.png"}
    assert len(list((tmp_path / "r" / "maps").iterdir())) == 14
    page = (tmp_path / "r" / "index.html").read_text("utf-8")
    assert "copies that have not learned from it" in page
    # as a detector says that has learned the others, and not as one that has it
    pictures = np.stack([np.asarray(Image.open(file)) for file in files])
    order = np.random.RandomState(0).permutation(14)
    held = order[::5]
    model = skad.PatchCore(random_state=0).fit(np.delete(pictures, held, axis=0))
    scores = np.array([float(row["score"]) for row in found])
    np.testing.assert_allclose(scores[held], model.score_samples(pictures[held]))


def test_one_picture_has_no_others(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "one" / "a.png")
    options = ["--detector", "PatchCore", "--out", tmp_path / "r"]
    text = complaint(capsys, run("detect", tmp_path / "one", *options))
    assert "one picture has no others" in text


def test_labels_of_what_is_searched_are_not_learned(files, tmp_path, monkeypatch):
    seen = []
    fit_of = skad.KNN.fit
    monkeypatch.setattr(
        skad.KNN, "fit", lambda self, X, y=None: seen.append(y) or fit_of(self, X, y)
    )
    options = [*READ, "--detector", "KNN", "--out", tmp_path / "r"]
    assert run("detect", files[1], *options) == 0
    assert seen == [None]


def test_which_file_is_meant(files, capsys):
    text = complaint(capsys, run("detect", "--detector", "KNN"))
    assert "--train is missing" in text
    text = complaint(capsys, run("detect", files[0], "--train", files[1]))
    assert "is named beside --train" in text
    text = complaint(capsys, run("detect", *files))
    assert "test.csv: is one file more than is looked at" in text
    text = complaint(capsys, run("detect", files[0], "--test", files[1]))
    assert "--test: needs --train" in text
    text = complaint(capsys, run("detect", "--detector", "KNN", files[0]))
    assert "a file stands before --detector" in text


# ------------------------------------------------------------------- several detectors


def test_several_detectors_are_compared(files, tmp_path, capsys):
    out = tmp_path / "r"
    options = ["--train", files[0], "--test", files[1], *READ, "--out", out]
    options += ["--detector", "KNN,IsolationForest", "Mahalanobis"]
    options += ["--set", "KNN.n_neighbors=3", "contamination=0.1"]
    assert run("detect", *options) == 0
    printed = capsys.readouterr().out
    header, *lines = printed.splitlines()[1:5]
    assert header.split()[:2] == ["detector", "flagged"]
    assert "ROC AUC" in header
    names = ["KNN", "IsolationForest", "Mahalanobis"]
    assert [line.split()[0] for line in lines] == names
    alone = tmp_path / "alone"
    single = [*options[:-6], "--detector", "KNN", "--set", "n_neighbors=3"]
    single[single.index(out)] = alone
    assert run("detect", *single, "contamination=0.1") == 0
    assert rows(out / "KNN") == rows(alone)
    page = (out / "index.html").read_text()
    assert page.count("Detectors compared") == 1
    assert "rank correlation" in page
    table = rows(out, "comparison.csv")
    scores = pd.DataFrame(
        {name: [float(row["score"]) for row in rows(out / name)] for name in names}
    )
    expected = scores.corr("spearman").to_numpy()
    found = [float(row["rank_correlation"]) for row in table]
    np.testing.assert_allclose(found, (expected.sum(axis=1) - 1) / 2, rtol=1e-9)
    flags = {n: [row["label"] == "-1" for row in rows(out / n)] for n in names}
    same = np.mean(np.equal(flags["KNN"], flags["Mahalanobis"]))
    capsys.readouterr()
    assert run("detect", *options, "--json") == 0
    told = json.loads(capsys.readouterr().out)["comparison"]
    assert told["same_labels"]["KNN"]["Mahalanobis"] == pytest.approx(same)


def test_what_is_wrong_with_several_detectors(files, capsys):
    def wrong(*options):
        return complaint(capsys, run("detect", files[0], *READ, *options))

    several = ["--detector", "KNN", "LOF"]
    assert "--detector KNN: is named twice" in wrong("--detector", "KNN,KNN")
    assert "'none'" in wrong("--detector", "KNN,none")
    text = wrong(*several, "--set", "nu=0.1")
    assert "--set nu: none of KNN, LOF has it" in text
    text = wrong(*several, "--set", "ECOD.n_jobs=1")
    assert "--set ECOD.n_jobs: 'ECOD' is not among" in text
    text = wrong(*several, "--set", "LOF.n_neighbor=3")
    assert "did you mean 'n_neighbors'?" in text


# ---------------------------------------------------------------- choices for the user


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (("tables", 1000, 1000, 10), "KNN"),
        (("tables", 500_000, 500_000, 10), "IsolationForest"),
        (("tables", 100, 100, 64, (8, 8)), "KNN"),
        (("tables", 100, 100, 4096, (64, 64)), "PatchCore"),
        (("series", 5000, 5000, 2), "SubsequenceKNN"),
        (("series", 30_000, 30_000, 38), "KMeansAD"),
        (("pictures", 10, 10, 1), "PatchCore"),
    ],
)
def test_the_default_suits_the_data(about, name):
    found, why = default_detector(*about)
    assert found == name
    assert hasattr(skad, found)
    assert "\n" not in why


def test_the_choice_is_told(files, series, tmp_path, capsys):
    out = ["--out", tmp_path / "r"]
    assert run("detect", files[1], *READ, *out) == 0
    assert capsys.readouterr().out.startswith("KNN was taken: ")
    assert run("detect", series[0], *TIMES, *out, "--set", "window_size=10") == 0
    assert capsys.readouterr().out.startswith("SubsequenceKNN was taken: ")


def test_scaling_is_robust_where_units_count(files, tmp_path, capsys):
    paths = ["--train", files[0], "--test", files[1], *READ]

    def scores(name, *options):
        assert run("detect", *paths, "--out", tmp_path / name, *options) == 0
        return np.array([float(row["score"]) for row in rows(tmp_path / name)])

    X, X_test = (
        pd.read_csv(file, sep=";", decimal=",")[COLUMNS].to_numpy() for file in files
    )
    found = scores("robust", "--detector", "KNN")
    assert "since KNN depends on units" in capsys.readouterr().out
    mean, deviation = X.mean(axis=0), X.std(axis=0)  # nothing strays
    expected = skad.KNN().fit((X - mean) / deviation)
    expected = expected.score_samples((X_test - mean) / deviation)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    scores("none", "--detector", "KNN", "--scaling", "none")
    printed = capsys.readouterr()
    assert "scaling: none, though the spreads of the features differ" in printed.err
    found = scores("free", "--detector", "Mahalanobis")
    assert "scaling: " not in capsys.readouterr().out
    expected = skad.Mahalanobis().fit(X).score_samples(X_test)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    both = ["--scale", "--scaling", "none", "--detector", "KNN"]
    with pytest.raises(SystemExit) as stop:
        run("detect", *paths, *both)
    assert "--scaling" in complaint(capsys, stop.value.code)


def test_stray_values_do_not_blind_a_feature():
    X = np.random.default_rng(0).normal(size=(200, 2))
    X[0, 0] = 1e6
    new = np.array([[8.0, 0.0]])
    robust, standard = (
        with_scaling(skad.KNN(), X, how).model.fit(X) for how in ("robust", "standard")
    )
    assert robust.predict(new)[0] == -1
    assert standard.predict(new)[0] == 1
    constant = np.where(np.arange(200)[:, None] < 190, 0.0, [[1.0, 5.0]])
    scaled = with_scaling(skad.KNN(), constant).model[0].transform(constant)
    np.testing.assert_allclose(scaled.std(axis=0), 1)


@pytest.mark.parametrize(
    "name", [name for name, kind in skad.all_detectors() if kind._ignores_units]
)
def test_units_change_no_rank_where_a_class_says_so(name):
    kind = getattr(skad, name)
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(200, 3)), 2 * rng.normal(size=(200, 3))
    units, zero = np.array([1000.0, 1e-3, 1.0]), np.array([5.0, 0.0, -70.0])
    options = {"window_size": 10} if kind._data == "series" else {}
    if "random_state" in kind().get_params():
        options["random_state"] = 0
    first = kind(**options).fit(X).score_samples(new)
    second = kind(**options).fit(X * units + zero).score_samples(new * units + zero)
    np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-7)


def test_pictures_in_rows_are_not_scaled():
    X = np.random.default_rng(0).random((20, 16))
    assert with_scaling(skad.KNN(), X, image_shape=(4, 4)).scaling == "none"
    assert with_scaling(skad.KNN(), X).scaling == "robust"
    edges = np.arange(12.0).reshape(4, 3)
    assert with_scaling(skad.series.MIDAS(), edges).scaling == "none"


def test_the_same_command_gives_the_same(files, tmp_path):
    options = ["--train", files[0], "--test", files[1], *READ]
    options += ["--detector", "IsolationForest", "--out"]
    for name in ("one", "two"):
        assert run("detect", *options, tmp_path / name) == 0
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


# --------------------------------------------------------------------------------- JSON


def test_json_of_detect_fit_and_score(files, tmp_path, capsys):
    out, model = tmp_path / "r", tmp_path / "m.skad"
    options = [*READ, "--detector", "KNN", "--json"]
    commands = {
        "detect": ["--train", files[0], "--test", files[1], *options, "--out", out],
        "fit": ["--train", files[0], *options, "--out", model],
        "score": [model, files[1], "--json", "--out", out],
    }
    for command, arguments in commands.items():
        assert run(command, *arguments) == 0
        printed = capsys.readouterr()
        told = json.loads(printed.out)
        assert told["command"] == command
        assert told["detector"] == "KNN"
        assert told["skad"] == skad.__version__
        assert told["scaling"] == "robust"
        for path in told["files"].values():
            assert (tmp_path / path).exists()
        if command == "fit":
            assert told["columns"] == COLUMNS
            continue
        table = rows(out)
        assert told["looked_at"] == len(table) == 30
        assert told["flagged"] == sum(row["label"] == "-1" for row in table)
        assert told["metrics"]["ROC AUC"] == pytest.approx(1, abs=0.2)
        worst = min(table, key=lambda row: float(row["score"]))
        top = told["top_anomalies"][0]
        assert (str(top["row"]), top["name"]) == (worst["row"], worst["name"])
        assert top["score"] == float(worst["score"])
        assert top["feature_1"] == worst["feature_1"]
        assert len(told["top_anomalies"]) == 10


def test_json_of_series_and_of_warnings(series, tmp_path, capsys):
    paths = ["--train", series[0], "--test", series[1], "--out", tmp_path / "r"]
    assert run("detect", *paths, *TIMES, *KNN_10, "--json", "--scaling", "none") == 0
    told = json.loads(capsys.readouterr().out)
    events = rows(tmp_path / "r", "events.csv")
    assert told["n_events"] == len(events)
    assert told["top_events"][0]["start_time"] == events[0]["start_time"]
    assert told["top_events"][0]["group"] == "one"
    assert any("scaling: none" in text for text in told["warnings"])


def test_json_of_a_failure_is_nothing(files, capsys):
    complaint(capsys, run("detect", files[0], "--detector", "none", "--json"))


def test_list_by_kind_and_as_json(capsys):
    assert run("list", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_detectors"] == len(skad.all_detectors())
    kinds = {each["name"]: each["kind"] for each in told["detectors"]}
    assert kinds["KNN"] == "tables"
    assert kinds["Energy"] == "classifiers"
    assert all(each["summary"].endswith(".") for each in told["detectors"])
    assert run("list", "pictures", "series") == 0
    printed = capsys.readouterr().out
    assert "PatchCore" in printed
    assert "MatrixProfile" in printed
    assert "Detectors on tables" not in printed
    assert "did you mean 'series'?" in complaint(capsys, run("list", "serie"))
