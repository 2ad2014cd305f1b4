"""Series: groups, streams and windows, against loops that see one window at a time."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    TimeSeriesSplit,
    cross_validate,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skad
from skad._group_rows import series_rows
from skad.embedding import dominant_period
from skad.metrics import vus_pr
from skad.series import KMeansAD, SubsequenceKNN, SubsequenceLOF, WindowDetector
from skad.series._base import SeriesDetector
from tests._series_data import load_series, peer_figures

ALIGNS = ["mean", "center", "end", "max"]


@pytest.fixture(scope="module")
def walk():
    """Three channels of a random walk."""
    return np.random.default_rng(0).normal(size=(60, 3)).cumsum(axis=0)


def naive(detector, X):
    """Return the anomaly (t,) and the map (t, c) by a loop over steps and windows."""
    size, stride, align = detector.window_size_, detector.stride, detector.align
    n = len(X)
    padded = np.concatenate([np.repeat(X[:1], size - 1, axis=0), X])
    starts = sorted({*range(0, n - size + 1, stride), n - size})
    if align == "end":
        starts = [end - size + 1 for end in range(0, n, stride)]
    anomaly, maps = {}, {}
    for start in starts:
        window = padded[start + size - 1 : start + 2 * size - 1].reshape(1, -1)
        anomaly[start] = -detector.detector_.score_samples(window)[0]
        maps[start] = detector.detector_.transform(window).reshape(size, -1)
    scores, parts = [], []
    for t in range(n):
        if align == "end":
            used = [max(start for start in starts if start + size - 1 <= t)]
        else:
            used = [start for start in starts if start <= t < start + size]
        if align == "max":
            used = [max(used, key=lambda start: anomaly[start])]
        elif align == "center":
            used = [min(used, key=lambda s: (abs(s + size // 2 - t), -s))]
        scores.append(np.mean([anomaly[start] for start in used]))
        own = [maps[start][min(t - start, size - 1)] for start in used]
        parts.append(size * np.mean(own, axis=0))
    return np.array(scores), np.array(parts)


@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize(
    ("size", "stride"), [(1, 1), (2, 1), (2, 2), (5, 1), (5, 3), (8, 5), (60, 7)]
)
def test_windows_are_folded_as_one_by_one(walk, align, size, stride):
    detector = WindowDetector(
        skad.Mahalanobis(covariance="ledoit_wolf"),
        window_size=size,
        stride=stride,
        align=align,
        batch_size=7,
    )
    train = np.random.default_rng(1).normal(size=(90, 3)).cumsum(axis=0)
    detector.fit(train)
    anomaly, maps = naive(detector, walk)
    assert_allclose(-detector.score_samples(walk), anomaly, rtol=1e-9)
    scale = 1e-9 * np.abs(maps).max()
    assert_allclose(detector.transform(walk), maps, rtol=1e-9, atol=scale)
    tensor = torch.from_numpy(walk)
    assert_allclose(-detector.score_samples(tensor), anomaly, rtol=1e-9)
    assert_allclose(detector.transform(tensor), maps, rtol=1e-9, atol=scale)
    detector.set_params(batch_size=None)
    assert_allclose(-detector.score_samples(walk), anomaly, rtol=1e-9)
    single = detector.score_samples(walk.astype(np.float32))
    assert_allclose(-single, anomaly, rtol=1e-3)


def test_score_and_map_share_out_the_same_windows(walk):
    """What the windows' anomalies are in total, the score spreads, the map places."""
    detector = WindowDetector(window_size=6).fit(walk[:40])
    covering = np.convolve(np.ones(len(walk) - 5), np.ones(6))
    scores = -detector.score_samples(walk)
    maps = detector.transform(walk)
    assert_allclose(covering @ scores, covering @ maps.sum(axis=1))
    assert not np.allclose(scores, maps.sum(axis=1))
    assert not detector._map_sums_to_score
    short = WindowDetector(window_size=1).fit(walk[:40])
    assert short._map_sums_to_score
    assert_allclose(short.transform(walk).sum(axis=1), -short.score_samples(walk))


def test_the_map_is_sharper_than_the_score(walk):
    X = np.sin(np.arange(300) / 5)[:, None] + np.zeros((1, 4))
    spike = X.copy()
    spike[200, 2] += 2
    detector = WindowDetector(window_size=20).fit(X)
    maps = detector.transform(spike)
    assert np.unravel_index(maps.argmax(), maps.shape) == (200, 2)
    scores = -detector.score_samples(spike)
    assert (scores > scores.max() / 4).sum() > 10  # spread over the windows
    assert (maps.max(axis=1) > maps.max() / 4).sum() == 1


# ------------------------------------------------------------- causality and the stream


@pytest.mark.parametrize("method", ["score_samples", "transform"])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("align", ALIGNS)
def test_later_steps_change_only_what_is_near(walk, align, stride, method):
    size = 5
    detector = WindowDetector(window_size=size, stride=stride, align=align)
    score = getattr(detector.fit(walk[::-1]), method)
    whole = score(walk)
    for cut in range(size, len(walk)):
        kept = cut if align == "end" else max(0, cut - 2 * size + 1)
        assert_array_equal(score(walk[:cut])[:kept], whole[:kept])
    if align == "mean":
        assert not np.allclose(score(walk[:30])[-2:], whole[28:30])


@pytest.mark.parametrize("stride", [1, 2, 4])
@given(cuts=st.lists(st.integers(1, 59), max_size=8, unique=True))
@settings(max_examples=10, deadline=None)
def test_a_stream_is_the_whole_in_pieces(walk, stride, cuts):
    detector = WindowDetector(
        skad.Mahalanobis(), window_size=4, stride=stride, align="end"
    ).fit(walk[:31])
    both = np.concatenate([walk[:31], walk[::-1]])
    pieces = np.split(walk[::-1], sorted(cuts))
    found = np.concatenate([detector.score_stream(piece) for piece in pieces])
    assert_allclose(found, detector.score_samples(both)[31:], rtol=1e-10)
    assert len(detector._stream_[1]) < 4 + 2 * stride
    detector.reset_stream()
    again = pickle.loads(pickle.dumps(detector))
    found = np.concatenate([again.score_stream(piece) for piece in pieces])
    assert_allclose(found, detector.score_samples(walk[::-1]), rtol=1e-10)


def test_streams_take_tensors_and_go_on_after_the_last_series(walk):
    detector = SubsequenceKNN(window_size=4, align="end")
    detector.fit(walk, groups=np.repeat([1, 0], [25, 35]))
    found = detector.score_stream(torch.from_numpy(walk[:3]))
    assert isinstance(found, torch.Tensor)
    expected = detector.score_samples(np.concatenate([walk[25:], walk[:3]]))[35:]
    assert_allclose(found, expected, rtol=1e-9)
    before = detector._stream_
    with pytest.raises(ValueError, match="NaN"):
        detector.score_stream(walk[:3] * np.nan)
    assert detector._stream_ is before
    with pytest.raises(ValueError, match="features"):
        detector.score_stream(walk[:3, :2])


def test_only_causal_windows_stream(walk):
    detector = WindowDetector(window_size=4).fit(walk)
    assert not hasattr(detector, "score_stream")
    assert not hasattr(detector, "reset_stream")
    with pytest.raises(sklearn.exceptions.NotFittedError):
        WindowDetector(align="end").score_stream(walk)


# ------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("stride", [1, 2])
def test_no_window_crosses_from_one_series_to_another(walk, align, stride):
    detector = WindowDetector(window_size=4, stride=stride, align=align).fit(walk)
    groups = np.repeat(["b", "a", "c"], [10, 30, 20])
    series = walk[:10], walk[10:40], walk[40:]
    for method in ("score_samples", "decision_function", "predict", "transform"):
        score = getattr(detector, method)
        expected = np.concatenate([score(x) for x in series])
        assert_array_equal(score(walk, groups=groups), expected)
        assert_array_equal(score(walk, groups=torch.arange(60) * 0), score(walk))
    # rows of one series keep their order, whatever lies between them
    ranks = np.concatenate([np.arange(n) / n for n in (10, 30, 20)])
    mixed = np.argsort(ranks, kind="stable")
    for method in ("score_samples", "transform"):
        score = getattr(detector, method)
        found = score(walk[mixed], groups=groups[mixed])
        assert_array_equal(found, score(walk, groups=groups)[mixed])


def test_training_windows_come_from_within_series(walk):
    groups = np.repeat([0, 1, 0], [20, 20, 20])
    detector = WindowDetector(window_size=5, contamination=0.1)
    detector.fit(walk, groups=groups)
    joined = np.concatenate([walk[:20], walk[40:]])
    windows = {
        tuple(x[i : i + 5].ravel())
        for x in (joined, walk[20:40])
        for i in range(len(x) - 4)
    }
    assert {tuple(row) for row in detector.detector_._search_.bank} == windows
    scores = detector.score_samples(walk, groups=groups)
    assert detector.offset_ == np.quantile(scores, 0.1)
    labels = clone(detector).fit_predict(walk, groups=groups)
    assert_array_equal(labels, detector.predict(walk, groups))
    maps = WindowDetector(window_size=5).fit_transform(walk, groups=groups)
    assert_array_equal(maps, detector.transform(walk, groups))


def test_rows_of_series():
    assert series_rows(None, 4) == [slice(0, 4)]
    assert series_rows(list("bba"), 3) == [slice(0, 2), slice(2, 3)]
    apart = series_rows([1, 0, 1, 0, 0], 5)
    assert [own.tolist() for own in apart] == [[0, 2], [1, 3, 4]]
    last = series_rows([0, 1, 1, 0], 4)
    assert [own.tolist() for own in last] == [[1, 2], [0, 3]]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0, 1], "groups has 2 labels for 60 time steps"),
        (np.r_[np.nan, np.zeros(59)], "groups contains NaN"),
        (["a", 1] * 30, None),
        (np.array(["a", None] * 30, dtype=object), "groups has labels"),
        (np.zeros((60, 2)), "1d array"),
    ],
)
def test_wrong_groups(walk, groups, message):
    detector = WindowDetector(window_size=5).fit(walk)
    if message is None:  # NumPy makes strings of such a list
        assert detector.score_samples(walk, groups).shape == (60,)
        return
    for call in (detector.fit, detector.score_samples, detector.transform):
        with pytest.raises(ValueError, match=message):
            call(walk, groups=groups)


def groups_seen(y_true, y_pred, groups):
    """Score a fold by the number of its series: a metric that needs `groups`."""
    return float(len(np.unique(groups)))


def test_groups_travel_through_cross_validation(walk):
    X = np.concatenate([walk] * 4)
    groups = np.repeat(np.arange(8), 30)
    seen = []

    class Recorder(SeriesDetector):
        _map_sums_to_score = True

        def _fit_series(self, series, labels):
            seen.append([len(x) for x in series])
            self.scale_ = 1.0

        def _map(self, x):
            seen.append(len(x))
            return x**2

    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(groups_seen).set_score_request(groups=True)
        found = cross_validate(
            make_pipeline(StandardScaler(), Recorder(contamination=0.1)),
            X,
            np.ones(240),
            cv=GroupKFold(4),
            params={"groups": groups},
            scoring=scorer,
        )
        assert_array_equal(found["test_score"], 2)
        assert [s for s in seen if isinstance(s, list)] == [[30] * 6] * 4
        seen.clear()
        deaf = Recorder(contamination=0.1).set_fit_request(groups=False)
        cross_validate(
            make_pipeline(StandardScaler(), deaf),
            X,
            np.ones(240),
            cv=GroupKFold(4),
            params={"groups": groups},
            scoring=scorer,
        )
        assert [s for s in seen if isinstance(s, list)] == [[180]] * 4
        pipeline = make_pipeline(StandardScaler(), WindowDetector(window_size=5))
        pipeline.fit(X, groups=groups)
        scaled = pipeline[0].transform(X)
        assert_array_equal(
            pipeline.decision_function(X, groups=groups),
            pipeline[1].decision_function(scaled, groups),
        )
        assert_array_equal(
            pipeline.transform(X, groups=groups), pipeline[1].transform(scaled, groups)
        )
        for setter in (
            "set_fit_request",
            "set_predict_request",
            "set_decision_function_request",
            "set_transform_request",
        ):
            getattr(pipeline[1], setter)(groups=True)


# ------------------------------------------------------------------------- any detector


@pytest.mark.parametrize(
    "head",
    [
        IsolationForest(n_estimators=20, random_state=0),
        OneClassSVM(),
        EllipticEnvelope(random_state=0),
        GaussianMixture(2, random_state=0),
        LocalOutlierFactor(novelty=True),
        make_pipeline(StandardScaler(), OneClassSVM()),
    ],
    ids=lambda head: type(head).__name__,
)
def test_detectors_of_scikit_learn(walk, head):
    detector = WindowDetector(head, window_size=2).fit(walk)
    windows = np.stack([walk[i : i + 2].ravel() for i in range(59)])
    anomaly = -head.fit(windows).score_samples(windows)
    expected = np.convolve(anomaly, np.ones(2)) / np.r_[1, [2] * 58, 1]
    assert_allclose(-detector.score_samples(walk), expected, rtol=1e-9)
    tensors = detector.score_samples(torch.from_numpy(walk))
    assert_allclose(-tensors.numpy(), expected, rtol=1e-9)
    with pytest.raises(AttributeError, match="no anomaly map"):
        detector.transform(walk)


@pytest.mark.parametrize(
    "head",
    [
        skad.OneClassSVM(),
        skad.IsolationForest(n_estimators=20, random_state=0),
        skad.PCAReconstruction(),
        skad.ECOD(),
        skad.AutoEncoder(max_epochs=1, hidden_sizes=(4,), random_state=0),
        make_pipeline(StandardScaler(), skad.KNN()),
    ],
    ids=lambda head: type(head).__name__,
)
def test_detectors_of_every_kind(walk, head):
    detector = WindowDetector(head, window_size=3).fit(walk)
    assert detector.transform(walk).shape == walk.shape
    X = np.concatenate([walk, walk[:5] + 100 * np.abs(walk).max()])
    assert detector.score_samples(X)[-5:].max() < detector.score_samples(X)[:55].min()


class Labelled(BaseEstimator):
    """Remembers the labels that it was fitted with."""

    _uses_labels = True

    def fit(self, X, y=None):
        self.seen_ = y
        return self

    def score_samples(self, X):
        return -np.abs(X).sum(axis=1)


def test_known_anomalies_label_their_windows(walk):
    y = np.ones(60, dtype=int)
    y[10], y[30] = -1, 0
    detector = WindowDetector(Labelled(), window_size=3, stride=2).fit(walk, y)
    starts = np.arange(0, 58, 2)
    expected = np.where(np.isin(starts, [8, 10]), -1, 1)
    expected[np.isin(starts, [28, 30])] = 0
    assert_array_equal(detector.detector_.seen_, expected)
    deep = skad.DeepSAD(
        max_epochs=1, pretrain_epochs=1, hidden_sizes=(4,), random_state=0
    )
    scores = [
        WindowDetector(deep, window_size=3).fit(walk, labels).score_samples(walk)
        for labels in (None, y)
    ]
    assert not np.array_equal(*scores)
    # methods without labels ignore whatever y is
    WindowDetector(window_size=3).fit(walk, ["what"] * 60)


def test_training_windows_are_taken_evenly(walk):
    detector = WindowDetector(window_size=5, max_windows=10)
    bank = detector.fit(walk)._gathered([walk[:30], walk[30:]], None)[0]
    starts = [*range(26)] + [30 + i for i in range(26)]
    picked = [starts[i * 52 // 10] for i in range(10)]
    assert_array_equal(bank, [walk[i : i + 5].ravel() for i in picked])
    assert len(detector.detector_._search_.bank) == 10


# --------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window_size": 0}, "'window_size' parameter"),
        ({"window_size": "long"}, "'window_size' parameter"),
        ({"window_size": 2.5}, "'window_size' parameter"),
        ({"stride": 0}, "'stride' parameter"),
        ({"window_size": 3, "stride": 4}, "stride=4 must be at most window_size=3"),
        ({"align": "left"}, "'align' parameter"),
        ({"normalize": "minmax"}, "'normalize' parameter"),
        ({"max_windows": 1}, "'max_windows' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"window_size": 61}, "X has 60 time steps, fewer than window_size=61"),
        ({"window_size": 60}, "only one window of window_size=60"),
        ({"detector": StandardScaler()}, "'detector' parameter"),
        ({"detector": LocalOutlierFactor()}, "'detector' parameter"),
        ({"detector": KMeansAD()}, "detector=KMeansAD looks at series itself"),
        ({"detector": skad.KNN(n_neighbors=0)}, "'n_neighbors' parameter"),
        (
            {"detector": skad.KNN(n_neighbors=58), "window_size": 3},
            "KNN cannot be fitted on the 58 windows of window_size=3: 55 of 58",
        ),
    ],
)
def test_wrong_parameters(walk, parameters, message):
    with pytest.raises(ValueError, match=message):
        WindowDetector(**parameters).fit(walk)


def test_short_series(walk):
    detector = WindowDetector(window_size=5).fit(walk)
    with pytest.raises(
        ValueError, match="X has 4 time steps, fewer than window_size=5"
    ):
        detector.score_samples(walk[:4])
    with pytest.raises(ValueError, match="longest series of X has 4 time steps, fewer"):
        detector.transform(walk[:7], groups=np.repeat([0, 1], [4, 3]))


def test_a_short_series_takes_nothing_from_the_others(walk):
    groups = np.repeat([0, 1], [57, 3])
    alone = WindowDetector(window_size=5).fit(walk[:57])
    with pytest.warns(UserWarning, match=r"1 of 2 series \(number 1\) have fewer time"):
        both = WindowDetector(window_size=5).fit(walk, groups=groups)
    assert_allclose(both.detector_._search_.bank, alone.detector_._search_.bank, rtol=0)
    longer = np.concatenate([walk[[57, 57]], walk[57:]])
    for method in ("score_samples", "transform"):
        with pytest.warns(UserWarning, match="first time step repeated before them"):
            found = getattr(both, method)(walk, groups=groups)
        assert_allclose(found[:57], getattr(alone, method)(walk[:57]))
        assert_allclose(found[57:], getattr(alone, method)(longer)[2:])
    with pytest.warns(UserWarning, match="fewer time steps"):
        assert_allclose(both.inspect(walk, groups=groups).maps, found)
    # a stream has begun with as few
    live = WindowDetector(window_size=5, align="end").fit(walk[:57])
    assert_allclose(
        live.reset_stream().score_stream(walk[:3]), live.score_samples(walk[:3])
    )


def test_few_clusters_are_too_many_for_fewer_windows(walk):
    with pytest.raises(ValueError, match="n_clusters=30 must be at most"):
        KMeansAD(n_clusters=30, window_size=40).fit(walk)
    with pytest.raises(ValueError, match=r"0 of 21 .* pass fewer n_neighbors"):
        SubsequenceKNN(n_neighbors=30, window_size=40).fit(walk)


def test_z_windows_have_no_level_and_no_scale(walk):
    X = walk.copy()
    X[:, 2] = 0.1  # constant
    for normalize, factor in (("z", [3.0, 0.2, 7.0]), ("window", 5.0)):
        detector = WindowDetector(window_size=6, normalize=normalize).fit(X[:40])
        new = X[::-1]
        moved = new * factor + (np.array([10.0, -4.0, 1.0]) if normalize == "z" else 9)
        assert_allclose(detector.score_samples(moved), detector.score_samples(new))
        bank = detector.detector_._search_.bank.reshape(-1, 6, 3)
        axis = 1 if normalize == "z" else (1, 2)
        assert_allclose(bank.mean(axis=axis), 0, atol=1e-12)
        deviation = bank.std(axis=axis)
        if normalize == "z":
            assert_array_equal(bank[..., 2], 0)
            deviation = deviation[:, :2]
        assert_allclose(deviation, 1)


@pytest.mark.parametrize("normalize", ["none", "z", "window"])
@pytest.mark.parametrize("channels", [[0], [0, 1, 2]])
def test_a_training_window_is_not_its_own_neighbour(walk, channels, normalize):
    X = walk[:, channels]
    detector = SubsequenceKNN(
        n_neighbors=1, window_size=7, normalize=normalize, align="center", batch_size=5
    ).fit(X)
    bank = detector.detector_._search_.bank
    distance = np.linalg.norm(bank[:, None] - bank, axis=2)
    start = np.arange(len(bank))
    distance[abs(start[:, None] - start) <= 3] = np.inf  # half of a window
    expected = distance.min(axis=1)[np.clip(np.arange(60) - 3, 0, 53)]
    assert_allclose(-detector.score_samples(X), expected)
    # found again whatever library looks, since windows are equal to the last bit
    assert_allclose(-detector.score_samples(torch.from_numpy(X)), expected)


# --------------------------------------------------------------------------- the period


def test_the_dominant_period():
    t = np.arange(2000)
    noise = np.random.default_rng(0).normal(size=2000)
    assert dominant_period(np.sin(2 * np.pi * t / 50) + 0.3 * noise) == 50
    two = np.stack([np.sin(2 * np.pi * t / 40), np.full(2000, 0.1)], axis=1)
    assert dominant_period(two) == 40
    assert dominant_period(torch.from_numpy(two)) == 40
    assert dominant_period(pd.DataFrame(two * 1e200)) == 40
    assert dominant_period(two.tolist()) == 40
    assert dominant_period(np.sin(2 * np.pi * t / 390)) == 390
    gap = np.where((t > 300) & (t < 310), np.nan, two[:, 0])
    assert dominant_period(gap) == 40
    with pytest.raises(ValueError, match="infinity"):
        dominant_period([1, np.inf] * 9)
    with pytest.raises(ValueError, match="'prominent' or 'tsb'"):
        dominant_period(two, rule="fft")
    with pytest.raises(ValueError, match="groups has 3 labels for 2000"):
        dominant_period(two, [1, 2, 3])


@pytest.mark.parametrize(
    "x",
    [
        np.ones(50),
        np.arange(4.0),
        np.arange(400.0),
        np.random.default_rng(0).normal(size=3000),
        np.random.default_rng(0).normal(size=3000).cumsum(),
        np.append(np.zeros(500), [9.0, *np.zeros(300), 9.0, *np.zeros(700)]),
    ],
    ids=["constant", "few", "line", "noise", "walk", "spikes"],
)
def test_what_has_no_period_says_so(x):
    with pytest.warns(UserWarning, match="No period was found: 125"):
        assert dominant_period(x) == 125


def shaped(period, n):
    """Return a daily shape with two bumps, of which one is lower."""
    phase = np.arange(n) / period % 1
    high, low = (np.exp(-(((phase - at) / 0.06) ** 2)) for at in (0.3, 0.75))
    x = high + 0.6 * low
    return (x - x.mean()) / x.std()


@pytest.mark.parametrize("trend", ["none", "curve", "walk"])
@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("period", [24, 48, 150, 500])
def test_noise_and_trends_hide_no_period(period, noise, trend):
    rng, n = np.random.default_rng(period), 6000
    x = shaped(period, n) + noise * rng.normal(size=n)
    if trend == "curve":
        x += 5 * np.linspace(0, 1, n) ** 2
    if trend == "walk":
        walk = rng.normal(size=n).cumsum()
        x += walk / walk.std()
    assert dominant_period(x) == pytest.approx(period, rel=0.03)


def test_series_and_channels_vote_on_the_period():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1500, 2))
    long, short = np.arange(900), np.arange(300)
    X = 0.1 * rng.normal(size=(1500, 2))
    X[:900, 0] += np.sin(2 * np.pi * long / 60)  # 900 steps of period 60
    X[900:1200, 0] += np.sin(2 * np.pi * short / 25)
    X[1200:, 0] += np.sin(2 * np.pi * short / 25)  # 600 of 25
    X[:, 1] = noise[:, 1]  # and one without
    groups = np.repeat(["a", "b", "c"], [900, 300, 300])
    assert dominant_period(X, groups) == 60
    assert dominant_period(X[600:], groups[600:]) == 25


def test_tsb_rule_is_the_highest_peak():
    t = np.arange(2000)
    assert dominant_period(np.sin(2 * np.pi * t / 40), rule="tsb") == 40
    with pytest.warns(UserWarning, match="No period"):  # beyond 303
        assert dominant_period(np.sin(2 * np.pi * t / 390), rule="tsb") == 125


def test_auto_windows_fit_the_series(walk):
    t = np.arange(1000)
    X = np.sin(2 * np.pi * t / 30)[:, None]

    def window(X, groups=None, **parameters):
        detector = WindowDetector(skad.Mahalanobis(), contamination=0.1, **parameters)
        return detector.fit(X, groups=groups).window_size_

    assert window(X) == 50  # no less
    assert window(X, window_size="tsb") == 30
    assert window(np.sin(2 * np.pi * t / 80)[:, None]) == 80
    assert window(np.sin(2 * np.pi * np.arange(3000) / 700)[:, None]) == 400  # no more
    assert window(X[:75]) == 25
    groups = np.repeat([0, 1], [988, 12])
    with pytest.warns(UserWarning, match="fewer time steps than window_size=50"):
        assert window(X, groups) == 50
    assert window(X, np.repeat(np.arange(10), 100)) == 33
    noise = np.random.default_rng(0).normal(size=(1000, 1))
    with pytest.warns(UserWarning, match="no period .* is 125 steps"):
        assert window(noise) == 125
    with pytest.warns(UserWarning, match="no period"):
        assert window(X[:5]) == 1


# ---------------------------------------------------------------------- named detectors


def test_kmeans_is_the_distance_to_the_nearest_centre(walk):
    detector = KMeansAD(
        n_clusters=4, window_size=5, normalize="none", random_state=0
    ).fit(walk)
    windows = np.stack([walk[i : i + 5].ravel() for i in range(56)])
    centres = detector.cluster_centers_.reshape(4, -1)
    distance = np.linalg.norm(windows[:, None] - centres, axis=2)
    anomaly = distance.min(axis=1)
    expected = np.convolve(anomaly, np.ones(5)) / np.convolve(np.ones(56), np.ones(5))
    assert_allclose(-detector.score_samples(walk), expected)
    for j in range(4):
        own = windows[distance.argmin(axis=1) == j]
        assert_allclose(own.mean(axis=0), centres[j])  # a fixed point of k-means
    inertia = KMeans(4, n_init=1, random_state=0).fit(windows).inertia_
    assert_allclose((anomaly**2).sum(), inertia, rtol=0.2)
    one = KMeansAD(n_clusters=1, window_size=1, normalize="none").fit(walk)
    centred = np.linalg.norm(walk - walk.mean(axis=0), axis=1)
    assert_allclose(-one.score_samples(walk), centred)
    assert_allclose(one.transform(walk).sum(axis=1), centred)


@pytest.mark.parametrize("detector", [SubsequenceKNN, SubsequenceLOF])
def test_named_detectors_are_the_lift_of_theirs(walk, detector):
    named = detector(n_neighbors=4, window_size=5, stride=2, align="max").fit(walk)
    head = {SubsequenceKNN: skad.KNN, SubsequenceLOF: skad.LOF}[detector](n_neighbors=4)
    lifted = WindowDetector(head, window_size=5, stride=2, align="max").fit(walk)
    assert_array_equal(named.score_samples(walk), lifted.score_samples(walk))
    assert_array_equal(named.transform(walk), lifted.transform(walk))
    assert named.offset_ == lifted.offset_


# ---------------------------------------------------------------------------------- use


def test_frames_keep_their_time_index(walk):
    times = pd.date_range("2024-01-01", periods=60, freq="h")
    frame = pd.DataFrame(walk, columns=list("abc"), index=times)
    detector = WindowDetector(window_size=5).set_output(transform="pandas")
    maps = detector.fit_transform(frame)
    assert maps.index.equals(times)
    assert list(maps.columns) == list("abc")
    assert_array_equal(
        maps, detector.fit(walk).set_output(transform="default").transform(walk)
    )
    table = pl.DataFrame(walk, schema=["a", "b", "c"])
    out = WindowDetector(window_size=5).set_output(transform="polars")
    assert out.fit_transform(table).columns == ["a", "b", "c"]
    for one in (frame["b"], table["b"]):
        alone = WindowDetector(window_size=5).fit(one)
        assert_array_equal(alone.score_samples(one), alone.score_samples(walk[:, [1]]))
        assert list(alone.feature_names_in_) == ["b"]


def test_a_window_is_searched_for(walk):
    t = np.arange(900)
    rng = np.random.default_rng(0)
    X = np.sin(2 * np.pi * t / 25)[:, None] + 0.1 * rng.normal(size=(900, 1))
    y = np.ones(900, dtype=int)
    for start in (330, 560, 820):
        X[start : start + 12] = X[start + 11 : start - 1 : -1].copy()  # runs backwards
        y[start : start + 12] = -1
    search = GridSearchCV(
        SubsequenceKNN(),
        {"window_size": [1, 20]},
        cv=TimeSeriesSplit(3),
        scoring="roc_auc",
    ).fit(X, y)
    assert search.best_params_ == {"window_size": 20}
    assert search.best_score_ > 0.9


def test_memory_is_bounded():
    X = np.random.default_rng(0).normal(size=(100_000, 5))
    detector = KMeansAD(
        n_clusters=3, window_size=80, max_windows=1000, random_state=0
    ).fit(X[:3000])  # all windows of X are 320 MB
    for method in (detector.score_samples, detector.transform):
        tracemalloc.start()
        method(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60e6


# -------------------------------------------------------------------------- real series


@pytest.mark.parametrize(
    ("name", "window", "tsb"),
    [
        ("nab_ec2_latency", 125, 6),  # it has none
        ("nab_nyc_taxi", 48, 125),  # a day
        ("ucr_135", 183, 183),
        ("ucr_136", 183, 183),
    ],
)
@pytest.mark.filterwarnings("ignore:No period")
def test_periods_of_real_series(shared, name, window, tsb):
    X = load_series(shared, name)[0]
    assert dominant_period(X) == window
    assert dominant_period(X, rule="tsb") == tsb


@pytest.mark.parametrize(
    ("name", "method", "detector", "tolerance"),
    [
        (
            "nab_ec2_latency",
            "TSB-AD.Sub_KNN",
            SubsequenceKNN(
                n_neighbors=50,
                window_size=12,
                align="center",
                normalize="window",
                exclude=0,
            ),
            1e-3,
        ),
        (
            "nab_nyc_taxi",
            "TSB-AD.Sub_KNN",
            SubsequenceKNN(
                n_neighbors=50,
                window_size=125,
                align="center",
                normalize="window",
                exclude=0,
            ),
            1e-3,
        ),
        (
            "nab_ec2_latency",
            "TSB-AD.Sub_LOF",
            SubsequenceLOF(window_size=12, align="center", exclude=0),
            1e-3,
        ),
        (
            "ucr_135",
            "TSB-AD.Sub_LOF",
            SubsequenceLOF(window_size=125, align="center", exclude=0),
            1e-3,
        ),
        (
            "nab_ec2_latency",
            "aeon.LOF(k=20)",
            SubsequenceLOF(n_neighbors=20, window_size="tsb", exclude=0),
            1e-3,
        ),
        (
            "ucr_136",
            "TSB-AD.KMeansAD_U",
            KMeansAD(n_clusters=10, window_size=125, random_state=0),
            5e-3,
        ),
    ],
)
def test_peers_figures_come_out(shared, name, method, detector, tolerance):
    X, y = load_series(shared, name)
    peer = peer_figures(shared)[name, method]
    scores = detector.fit(X).score_samples(X)
    found = vus_pr(y, -scores, window=int(peer["window"]), pos_label=1)
    assert abs(found - peer["vus_pr"]) < tolerance


def test_defaults_are_not_below_the_peers(shared):
    names = ["nab_ec2_latency", "ucr_135"]
    peers = peer_figures(shared)
    for detector, method in (
        (SubsequenceKNN(), "TSB-AD.Sub_KNN"),
        (SubsequenceLOF(), "TSB-AD.Sub_LOF"),
    ):
        found, known = [], []
        for name in names:
            X, y = load_series(shared, name)
            peer = peers[name, method]
            scores = detector.fit(X).score_samples(X)
            window = int(peer["window"])
            found.append(vus_pr(y, -scores, window=window, pos_label=1))
            known.append(peer["vus_pr"])
            labels = np.where(y == 1, -1, 1)
            assert roc_auc_score(labels, scores) > 0.5
        assert np.mean(found) > np.mean(known) - 1e-3
