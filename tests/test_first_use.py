"""What a first use meets: data on which nothing can be told apart, single rows."""

import os
import re
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone

import skad
from tests._process import run_python

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 4))


def warnings_of(function, *args):
    """Return the texts of the warnings of a call."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        function(*args)
    return [str(one.message) for one in said]


# ---------------------------------------------------------------- equal training scores


@pytest.mark.parametrize("contamination", ["auto", 0.1])
@pytest.mark.parametrize(
    ("name", "X"),
    [
        ("KNN", np.ones((60, 4))),
        ("FeatureBagging", np.ones((60, 4))),
        ("ScoreEnsemble", np.ones((60, 4))),
        ("IsolationForest", 1.7e9 + 1e-9 * ROWS),
        ("KDE", 1e-9 * ROWS),
    ],
)
def test_equal_training_scores_are_warned_of_once(name, X, contamination):
    detector = getattr(skad, name)(contamination=contamination)
    said = warnings_of(detector.fit, X)
    assert len([text for text in said if "60 training samples got" in text]) == 1


def test_equal_training_scores_are_warned_of_by_what_has_a_threshold_of_its_own():
    for detector in (skad.OneClassSVM(), skad.SVDD(), skad.DeepSVDD(max_epochs=1)):
        said = warnings_of(detector.fit, np.ones((60, 4)))
        assert len([text for text in said if "training samples got" in text]) == 1
    stream = skad.AutoEncoder(max_epochs=1)
    said = warnings_of(stream.partial_fit, np.ones((60, 4)))
    assert len([text for text in said if "training samples got" in text]) == 1


@pytest.mark.parametrize(
    "name", ["KNN", "KDE", "GMM", "OneClassSVM", "IsolationForest"]
)
def test_scores_that_differ_are_not_warned_of(name):
    said = warnings_of(getattr(skad, name)().fit, ROWS)
    assert not [text for text in said if "training samples got" in text]


# ------------------------------------------------------ what arrays of pictures mean

PICTURES = RNG.integers(90, 256, (8, 16, 24, 3), dtype=np.uint8)
NAMES = ("PaDiM", "PatchCore", "STFPM", "TiledDetector", "AutoEncoder")


def fitted(name, X, **parameters):
    """Return a detector of pictures, fitted quickly."""
    detector = getattr(skad, name)(**parameters)
    if "max_epochs" in detector.get_params():
        detector.set_params(max_epochs=1)
    return detector.fit(X)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_floats_far_outside_of_0_to_1_are_refused(name, as_tensor):
    floats = PICTURES.astype(np.float32)
    wrong = torch.from_numpy(floats) if as_tensor else floats
    line = r"to 255, .*write X / 255 or X\." + ("to" if as_tensor else "astype")
    with pytest.raises(ValueError, match=line):
        fitted(name, wrong)
    for train in (PICTURES, floats / 255):
        detector = fitted(name, train)
        with pytest.raises(ValueError, match=line):
            detector.score_samples(wrong)
        with pytest.raises(ValueError, match=r"write X / 65535\."):
            detector.score_samples(wrong * 257)
        with pytest.raises(ValueError, match=r"fitted to pictures in 0\.\.1"):
            detector.score_samples((wrong - 170) / 50)
        assert np.allclose(
            detector.score_samples(PICTURES), detector.score_samples(floats / 255)
        )


@pytest.mark.parametrize("name", NAMES)
def test_standardised_floats_are_taken_for_what_they_are(name):
    around_zero = (PICTURES - PICTURES.mean()) / PICTURES.std()
    detector = fitted(name, around_zero)
    assert np.isfinite(detector.score_samples(around_zero[:2])).all()
    with pytest.raises(ValueError, match=r"whole numbers, which are brought to 0\.\.1"):
        detector.score_samples(PICTURES)
    with pytest.raises(ValueError, match="write X / 255"):
        detector.score_samples(PICTURES + 0.0)
    with pytest.raises(ValueError, match=r"write \(X - X.mean\(\)\) / X.std\(\)"):
        fitted(name, PICTURES - PICTURES.mean())


@pytest.mark.parametrize("name", ["PaDiM", "AutoEncoder"])
def test_rows_with_an_image_shape_are_pictures_and_tables_are_not(name):
    rows = PICTURES.reshape(8, -1) + 0.0
    with pytest.raises(ValueError, match="write X / 255"):
        fitted(name, rows, image_shape=(16, 24, 3))
    assert np.isfinite(fitted("AutoEncoder", rows).score_samples(rows)).all()


@pytest.mark.parametrize("name", NAMES)
def test_channels_first_and_single_pictures_are_refused(name):
    first = PICTURES.transpose(0, 3, 1, 2)
    with pytest.raises(ValueError, match=r"X.transpose\(0, 2, 3, 1\)"):
        fitted(name, first)
    with pytest.raises(ValueError, match=r"X.permute\(0, 2, 3, 1\)"):
        fitted(name, torch.from_numpy(first.copy()))
    with pytest.raises(ValueError, match=r"X\[None\]"):
        fitted(name, PICTURES[0])
    detector = fitted(name, PICTURES)
    with pytest.raises(ValueError, match=r"X.transpose\(0, 2, 3, 1\)"):
        detector.score_samples(first)
    with pytest.raises(ValueError, match=r"X\[None\]"):
        detector.score_samples(PICTURES[0])


def test_an_image_shape_says_that_channels_are_last():
    first = PICTURES.transpose(0, 3, 1, 2)
    detector = fitted("AutoEncoder", first, image_shape=first.shape[1:])
    assert detector.image_shape_ == (3, 16, 24)


# ------------------------------------------------------------ the first row of a stream


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kind in skad.all_detectors()
        if hasattr(kind, "partial_fit") and kind._data == "rows"
    ],
)
def test_a_stream_begins_with_one_row(name):
    detector = getattr(skad, name)()
    if "random_state" in detector.get_params():
        detector.set_params(random_state=0)
    if "max_epochs" in detector.get_params():
        detector.set_params(max_epochs=1)
    if "n_search_steps" in detector.get_params():
        detector.set_params(n_search_steps=5)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        detector.fit(ROWS[:1])
    said = []
    for i in range(30):
        said += warnings_of(detector.partial_fit, ROWS[i : i + 1])
        assert np.isfinite(detector.score_samples(ROWS)).all()
        assert np.isfinite(detector.offset_)
        if i == 0:  # its own score is the threshold
            assert detector.predict(ROWS[:1]) == 1
    assert not [text for text in said if "cannot be fitted without" in text]
    assert detector.n_samples_seen_ == 30
    assert (detector.predict(ROWS) == -1).mean() < 0.25
    if not hasattr(detector, "net_"):
        whole = clone(detector).fit(ROWS[:30])
        assert np.allclose(detector.score_samples(ROWS), whole.score_samples(ROWS))


# --------------------------------------------------------------------- forked processes

FORKED = """
import multiprocessing, sys
import numpy as np, torch, skad
torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(3000, 64))
def score(detector):
    return torch.get_num_threads(), detector.score_samples(X)
if __name__ == "__main__":
    for detector in (skad.AutoEncoder(max_epochs=1), skad.VAE(max_epochs=1)):
        detector.fit(X)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            [(threads, found)] = pool.map_async(score, [detector]).get(60)
        assert threads == 1
        assert torch.get_num_threads() == 2
        assert np.allclose(found, detector.score_samples(X))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_scores_networks_and_the_parent_keeps_its_threads(tmp_path):
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    run_python(script, env=environment)


# ------------------------------------------------------- a training series with changes


def waves():
    t = np.arange(600)
    return (np.sin(t / 8) + 0.2 * np.random.default_rng(1).normal(size=600))[:, None]


@pytest.mark.parametrize("start", [0, 300, 560])
def test_a_changed_copy_of_the_training_series_is_anomalous_where_it_changed(start):
    x = waves()
    detector = skad.MatrixProfile(window_size=30).fit(x)
    copy, rows = x.copy(), slice(start, start + 30)
    copy[rows] += 0.8 * np.random.default_rng(2).normal(size=(30, 1))
    with pytest.warns(UserWarning, match="X is the training series but for"):
        found = -detector.score_samples(copy)
    # as a plain loop over all windows but those near finds it
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], 30)
    own = copy[rows, 0]
    unit = [(w - w.mean()) / w.std() for w in (*windows, own)]
    apart = [
        np.linalg.norm(unit[-1] - unit[i])
        for i in range(len(windows))
        if abs(i - start) > 8
    ]
    series = skad.MatrixProfile(window_size=30, align="end").fit(x)
    with pytest.warns(UserWarning, match="X is the training series but for"):
        assert -series.score_samples(copy)[start + 29] == pytest.approx(min(apart))
    assert found[rows].mean() > 1.2 * np.median(found)
    with pytest.warns(UserWarning, match="X is the training series but for"):
        inspection = detector.inspect(copy)
    assert np.allclose(-inspection.scores, found)


def test_the_training_series_and_new_ones_are_no_changed_copies():
    x = waves()
    detector = skad.MatrixProfile(window_size=30).fit(x)
    new = np.random.default_rng(3).normal(size=(200, 1))
    for probe in (x, x[100:300], new, np.r_[x, new]):
        said = warnings_of(detector.score_samples, probe)
        assert not [text for text in said if "training series" in text]


@pytest.mark.parametrize("channel", [0, 1])
def test_a_missing_value_in_one_channel_leaves_the_others(channel):
    x = RNG.normal(size=(60, 2)).round(1)
    x[30, channel] = np.nan
    detector = skad.MatrixProfile(window_size=5, align="end", missing="skip").fit(x)
    other = skad.MatrixProfile(window_size=5, align="end").fit(x[:, [1 - channel]])
    assert detector.profile_[26:31] == pytest.approx(other.profile_[26:31])
    scores = -detector.score_samples(x)
    assert scores[4:] == pytest.approx(detector.profile_)


# ------------------------------------------------------------------ frames as they come


def frames():
    """Yield frames that hold more than numbers, and what is said of them."""
    times = np.datetime64("2024-01-01", "ns") + np.arange(60)
    own = {"a": ROWS[:, 0]}
    yield pd.DataFrame({**own, "kind": ["x", "y"] * 30}), "'kind' (such as 'x')"
    yield (
        pd.DataFrame({**own, "kind": pd.Categorical(["x", "y"] * 30)}),
        "taken as they come by skad.ContingencyTables",
    )
    long = pd.DataFrame({"note": ["words " * 99] * 60})
    yield long, "'words words ... words words '"
    yield pd.DataFrame({**own, "price": ["1,5"] * 60}), "decimal=','"
    yield pd.DataFrame({**own, "when": times}), "'when' (times)"
    yield pd.DataFrame({"when": times, "then": times}), "columns=['when', 'then']"
    yield pd.DataFrame({"since": times - times[0]}), "'since' (times)"
    yield pd.DataFrame({**own, "at": pd.Series(times).dt.tz_localize("UTC")}), "'at'"
    yield pd.DataFrame({"day": pd.Series(times).dt.date}), "'day' (times)"
    yield pd.DataFrame({"day": pd.Series(times).dt.to_period("D")}), "'day' (times)"
    yield pl.DataFrame({**own, "kind": ["x", "y"] * 30}), "X.drop(['kind'])"
    yield pl.DataFrame({**own, "when": times}), "'when' (times)"
    yield pd.DataFrame([["x"] * 12] * 60).add_prefix("c"), "'c7' (such as 'x'), 4 more"
    yield np.array(times)[:, None], "X has datetime64[ns], times"
    yield pl.DataFrame(own).lazy(), "X.collect()"
    yield np.rec.fromarrays([ROWS[:, 0]], names="a"), "pandas.DataFrame(X)"
    yield [{"a": 1.0}] * 60, "pandas.DataFrame(X)"


@pytest.mark.parametrize(("X", "words"), list(frames()))
def test_a_frame_of_more_than_numbers_is_told_by_its_columns(X, words):
    for detector in (skad.KNN(), skad.SubsequenceKNN(window_size=5), skad.PaDiM()):
        with pytest.raises(ValueError, match=re.escape(words)):
            detector.fit(X)


def test_numbers_of_any_dtype_of_frames_are_numbers():
    whole = np.random.default_rng(0).integers(0, 99, 60)
    columns = {
        "plain": whole.astype(float),
        "Int64": pd.array(whole, dtype="Int64"),
        "boolean": pd.array(whole > 50, dtype="boolean"),
        "category": pd.Categorical(whole),
        "object": whole.astype(object),
        "text": whole.astype(str),
    }
    expected = np.column_stack(
        [np.asarray(values).astype(float) for values in columns.values()]
    )
    frame = pd.DataFrame(columns)
    scores = skad.KNN().fit(expected).score_samples(expected)
    np.testing.assert_array_equal(skad.KNN().fit(frame).score_samples(frame), scores)
    frame = pl.DataFrame({"a": whole, "b": whole > 50, "c": whole.astype(np.float32)})
    detector = skad.KNN().fit(frame)
    assert np.isfinite(detector.score_samples(frame)).all()


# ------------------------------------------------------------------- rows in memory


def lying_apart(rows):
    """Return rows of which neither columns nor rows are next to each other."""
    return np.repeat(np.repeat(rows, 2, axis=0), 2, axis=1)[::2, ::2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [np.array, np.asfortranarray, lying_apart])
def test_rows_in_any_order_of_memory_are_checked(layout, dtype):
    rows = ROWS.astype(dtype)
    limit = float(np.finfo(dtype).max) ** 0.4
    detector = skad.HBOS().fit(rows)

    def scores(value):
        odd = rows.copy()
        odd[3, -1] = value
        return detector.score_samples(layout(odd))

    whole = detector.score_samples(layout(rows))
    np.testing.assert_array_equal(whole, detector.score_samples(rows))
    assert np.isfinite(scores(np.nan)).all()  # it is left out
    for value, words in ((np.inf, "infinity"), (-1.01 * limit, "too large for sums")):
        with pytest.raises(ValueError, match=words):
            scores(value)
    # each is small enough, and their squares add up to more
    most = np.full_like(rows, 0.99 * limit)
    assert np.isfinite(detector.score_samples(layout(most))).all()
