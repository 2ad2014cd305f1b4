"""Missing values in series: refused, filled in, or the series is parted there."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import skad
from skad.ensemble import IsolationForest
from skad.series import (
    PASAD,
    KMeansAD,
    LeftMatrixProfile,
    MatrixProfile,
    SpectralResidual,
    SubsequenceKNN,
    WindowDetector,
    ZScore,
    split_at_gaps,
)
from skad.series._base import SeriesDetector
from tests._instances import brief, default_instance, seeded

SERIES = [
    name
    for name, detector in skad.all_detectors()
    if issubclass(detector, SeriesDetector)
]


def wave(n=240, n_channels=2):
    rng = np.random.default_rng(0)
    phase = np.arange(n)[:, None] / 4 + np.arange(n_channels)
    return np.sin(phase) + 0.1 * rng.normal(size=(n, n_channels))


def holes(X):
    """Return a copy with a gap, single missing values and one at each end."""
    X = X.copy()
    X[100:104] = np.nan
    X[[0, 180], [0, 1]] = np.nan
    X[-1] = np.nan
    return X


def made(name, **settings):
    detector = seeded(brief([default_instance(name)])[0])
    if "window_size" in detector.get_params():
        settings = {"window_size": 12, **settings}
    return detector.set_params(**settings)


@pytest.mark.parametrize("name", SERIES)
def test_nan_is_an_error_that_names_what_else_there_is(name):
    X = wave()
    detector = made(name)
    with pytest.raises(ValueError, match=r"contains NaN.*'interpolate'.*'skip'"):
        detector.fit(holes(X))
    detector.fit(X)
    for method in ("score_samples", "transform", "inspect", "predict"):
        for rows in (holes(X), torch.from_numpy(holes(X))):
            with pytest.raises(ValueError, match=r"contains NaN.*'interpolate'"):
                getattr(detector, method)(rows)
    assert not detector.__sklearn_tags__().input_tags.allow_nan


@pytest.mark.parametrize("missing", ["interpolate", "skip"])
@pytest.mark.parametrize("name", SERIES)
def test_no_score_is_nan(name, missing):
    X = wave()
    detector = made(name, missing=missing).fit(holes(X))
    assert detector.__sklearn_tags__().input_tags.allow_nan
    scores, _, labels, maps = detector.inspect(holes(X))
    assert np.isfinite(scores).all()
    assert np.isfinite(maps).all()
    assert scores.shape == (240,)
    assert maps.shape == X.shape
    assert_array_equal(detector.score_samples(holes(X)), scores)
    assert_array_equal(detector.transform(holes(X)), maps)
    if missing == "skip":
        gone = np.isnan(holes(X)).any(axis=1)
        assert (labels[gone] == 1).all()
    whole = made(name).fit(X)
    same = made(name, missing=missing).fit(X)
    assert_array_equal(whole.score_samples(X), same.score_samples(X))
    assert whole.offset_ == same.offset_


@pytest.mark.parametrize("name", SERIES)
def test_what_is_interpolated_is_as_if_it_had_been_there(name):
    X, groups = wave(), np.repeat([0, 1], 120)
    filled = X.copy()
    lost = np.arange(100, 104)
    for j in range(2):
        filled[lost, j] = np.interp(lost, [99, 104], X[[99, 104], j])
    filled[180, 1] = (X[179, 1] + X[181, 1]) / 2
    filled[0, 0], filled[-1] = X[1, 0], X[-2]
    seen = made(name).fit(filled, groups=groups)
    detector = made(name, missing="interpolate").fit(holes(X), groups=groups)
    expected = seen.score_samples(filled, groups=groups)
    assert_allclose(detector.score_samples(holes(X), groups=groups), expected)
    assert_allclose(detector.offset_, seen.offset_)
    tensor = torch.from_numpy(holes(X))
    assert_allclose(detector.score_samples(tensor, groups=groups), expected)


def test_lines_do_not_run_over_the_end_of_a_series():
    X, groups = np.zeros((20, 1)), np.repeat([0, 1], 10)
    X[10:] = 100
    X[9] = X[10] = np.nan
    detector = ZScore(missing="interpolate", contamination=0.1).fit(X, groups=groups)
    assert_allclose(detector.mean_, 50)  # 0 before the boundary, 100 after it


def test_a_channel_without_values_is_its_training_mean():
    X = wave()
    detector = ZScore(missing="interpolate").fit(holes(X))
    new = wave(30)
    new[:, 1] = np.nan
    filled = new.copy()
    filled[:, 1] = np.nanmean(holes(X)[:, 1])
    assert_allclose(detector.transform(new), detector.transform(filled))
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="all time steps of channel 1"):
        ZScore(missing="interpolate").fit(X)


@pytest.mark.parametrize(
    "detector",
    [
        SubsequenceKNN(window_size=8),
        WindowDetector(IsolationForest(random_state=0), window_size=8),
        KMeansAD(window_size=8, random_state=0),
        PASAD(window_size=8, rank=3),
        SpectralResidual(),
        ZScore(),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_skipping_parts_the_series(detector):
    """No window holds a missing value: as with groups that end there."""
    X = wave()
    gone = np.zeros(240, dtype=bool)
    gone[100:104] = gone[108] = gone[200] = True
    lost = X.copy()
    lost[gone, 1] = np.nan
    groups = np.cumsum(gone)
    kept = ~gone
    least = detector.get_params().get("window_size") or 1
    kept[104:108] = least <= 4  # too few for a window
    parts = clone(detector)
    parts.fit(X[kept], groups=groups[kept])
    detector.set_params(missing="skip").fit(lost)
    scores = detector.score_samples(lost)
    assert_array_equal(scores[kept], parts.score_samples(X[kept], groups=groups[kept]))
    assert detector.offset_ == parts.offset_
    assert len(np.unique(scores[~kept])) == 1
    assert (detector.predict(lost)[~kept] == 1).all()
    maps = detector.transform(lost)
    assert not maps[~kept].any()
    assert_array_equal(maps[kept], parts.transform(X[kept], groups=groups[kept]))


def test_a_series_with_too_much_missing_is_an_error():
    X = wave()
    detector = SubsequenceKNN(window_size=8, missing="skip").fit(X)
    X[::5] = np.nan
    with pytest.raises(ValueError, match=r"too often .*'interpolate'"):
        detector.score_samples(X)
    with pytest.raises(ValueError, match=r"too often .*'interpolate'"):
        detector.fit(X)


@pytest.mark.parametrize(
    "detector",
    [
        SubsequenceKNN(window_size=8, align="end"),
        PASAD(window_size=8, rank=3, align="end"),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_streams_with_missing_values(detector):
    X = wave()
    new = holes(wave(200))
    detector.set_params(missing="skip").fit(X)
    pieces = np.array_split(new, [3, 50, 101, 102, 140])
    detector.reset_stream()
    live = np.concatenate([detector.score_stream(piece) for piece in pieces])
    assert_allclose(live, detector.score_samples(new))
    detector.set_params(missing="interpolate").fit(holes(X))
    live = np.concatenate([detector.score_stream(piece) for piece in pieces])
    filled = new.copy()
    filled[0, 0] = X[-2, 0]  # the last known value of the training series
    filled[100:104], filled[180, 1], filled[-1] = filled[99], filled[179, 1], filled[-2]
    known = detector.fit(holes(X)).score_stream(filled)
    assert_allclose(live, known)


def test_profiles_skip_channel_by_channel_and_interpolate():
    X = holes(wave())
    for profile in (MatrixProfile, LeftMatrixProfile):
        skipping = profile(window_size=12, missing="skip").fit(X)
        assert np.isfinite(skipping.score_samples(X)).all()
        with pytest.raises(ValueError, match="contains NaN"):
            profile(window_size=12, missing="refuse").fit(X)  # the former name


def test_series_end_at_gaps():
    times = np.array([0.0, 1, 2, 3, 4.4, 6, 7, 17, 18])
    assert_array_equal(split_at_gaps(times), [0, 0, 0, 0, 0, 1, 1, 2, 2])
    assert_array_equal(split_at_gaps(torch.tensor(times), most=2), [0] * 7 + [1] * 2)
    days = np.datetime64("2020-03-01") + (times * 10).astype("timedelta64[m]")
    assert_array_equal(split_at_gaps(days), split_at_gaps(days.astype(str)))
    # interleaved series have gaps of their own
    both = np.repeat(times, 2)
    groups = split_at_gaps(both, np.tile(["a", "b"], len(times)))
    assert_array_equal(groups[::2], [0, 0, 0, 0, 0, 1, 1, 2, 2])
    assert_array_equal(groups[1::2], groups[::2] + 3)
    assert_array_equal(split_at_gaps([5]), [0])
    with pytest.raises(ValueError, match="go back"):
        split_at_gaps([1, 3, 2])
    with pytest.raises(ValueError, match=r"most=0\.5"):
        split_at_gaps([1, 2, 3], most=0.5)


def test_no_window_runs_over_a_gap():
    X = wave()
    times = np.arange(240.0)
    times[120:] += 1000
    groups = split_at_gaps(times)
    detector = SubsequenceKNN(window_size=8).fit(X, groups=groups)
    other = X.copy()
    other[120:] *= 5
    assert_array_equal(
        detector.score_samples(X, groups=groups)[:120],
        detector.score_samples(other, groups=groups)[:120],
    )
