"""The contract over rows in time, on rows that are no tables: a family over frames."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    TimeSeriesSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline

from skad import SubsequenceKNN
from skad._array import namespace
from skad._group_rows import long_enough, series_rows
from skad._grouped import GroupedDetector
from skad.metrics import make_series_scorer, vus_pr


class FrameChange(GroupedDetector):
    """The squared change since the frame before, over the training scale."""

    _row = "frame"

    def _validate(self, X, *, reset):
        if X.ndim != 4:
            raise ValueError("X has no frames (n, h, w, c).")
        if reset:
            self.frame_shape_ = X.shape[1:]
            self.n_features_in_ = int(np.prod(X.shape[1:]))
        return X

    def _no_rows(self):
        return np.empty((0, *self.frame_shape_))

    def _fit_series(self, series, labels):
        self.lengths_ = [len(x) for x in series]
        changes = np.concatenate([np.diff(x, axis=0).ravel() for x in series])
        self.scale_ = float(changes.std())

    def _min_steps(self):
        return 2, "a change needs"

    def _streams(self):
        return True

    def _past_steps(self, n_seen):
        return min(n_seen, 1)

    def _map(self, x):
        xp = namespace(x)
        change = (x[1:] - x[:-1]) / self.scale_
        return xp.concat([xp.zeros_like(x[:1]), change**2])

    def _anomaly(self, x):
        return namespace(x).sum(self._map(x), axis=(1, 2, 3))


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 3, 4, 2)), np.repeat(["a", "b"], [5, 7])


def alone(detector, X):
    """Return the anomaly of one series of frames."""
    change = np.diff(X, axis=0) / detector.scale_
    return np.append(0.0, (change**2).sum(axis=(1, 2, 3)))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_groups_are_never_mixed(frames, library):
    X, groups = frames
    data = X if library == "numpy" else pytest.importorskip("torch").tensor(X)
    detector = FrameChange(contamination=0.1).fit(X, groups=groups)
    assert detector.lengths_ == [5, 7]
    expected = np.concatenate([alone(detector, X[:5]), alone(detector, X[5:])])
    scores = detector.score_samples(data, groups)
    assert type(scores) is type(data)
    assert_allclose(scores, -expected)
    maps = detector.transform(data, groups)
    assert maps.shape == X.shape
    assert_allclose(maps.sum(axis=(1, 2, 3)), expected)
    together = detector.score_samples(data)
    assert together[5] < 0 == scores[5]
    assert_allclose(detector.offset_, np.quantile(-expected, 0.1))
    assert_allclose(detector.decision_function(X, groups), -expected - detector.offset_)
    assert_allclose(
        detector.predict(X, groups), np.where(-expected < detector.offset_, -1, 1)
    )


def test_interrupted_series_are_joined(frames):
    X, groups = frames
    order = np.random.default_rng(1).permutation(len(X))
    order = order[np.argsort(groups[order], kind="stable")]  # two series, shuffled
    X = X[order]
    mixed = np.argsort(np.r_[0:10:2, 1:8:2, 8, 9, 10], kind="stable")
    detector = FrameChange().fit(X, groups=groups)
    scores = detector.score_samples(X, groups)
    assert_allclose(detector.score_samples(X[mixed], groups[mixed]), scores[mixed])


def test_streams_go_on_with_frames(frames):
    X, groups = frames
    detector = FrameChange().fit(X, groups=groups)
    whole = detector.score_samples(np.concatenate([X[5:], X[:5]]))[7:]
    pieces = [detector.score_stream(X[:1]), detector.score_stream(X[1:5])]
    assert_allclose(np.concatenate(pieces), whole)
    assert_allclose(
        detector.reset_stream().score_stream(X[:5]), detector.score_samples(X[:5])
    )


def test_errors_speak_of_what_the_family_calls_rows(frames):
    X, _ = frames
    detector = FrameChange().fit(X)
    with pytest.raises(ValueError, match="groups has 2 labels for 12 frames"):
        detector.score_samples(X, [0, 1])
    with pytest.raises(ValueError, match="NaN: every frame needs a label"):
        detector.score_samples(X, np.r_[np.zeros(11), np.nan])
    with pytest.raises(ValueError, match="X has 1 frames, fewer than a change needs"):
        detector.predict(X[:1])
    with pytest.raises(ValueError, match="longest series of X has 1 frames, fewer"):
        FrameChange().fit(X[:2], groups=[0, 1])
    with pytest.warns(UserWarning, match=r"series \(number 1\) have fewer frames"):
        FrameChange().fit(X, groups=np.r_[np.zeros(11), 1])
    with pytest.raises(ValueError, match="2 labels for 3 rows"):
        series_rows([0, 1], 3)
    with pytest.raises(ValueError, match="X has 1 rows, fewer than size=2"):
        long_enough([slice(0, 1)], 2, "size=2", "row", "")


def test_groups_are_routed_unasked(frames):
    X, groups = frames
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(FrameChange()).fit(X, groups=groups)
        assert pipeline[-1].lengths_ == [5, 7]
        expected = FrameChange().fit(X, groups=groups).predict(X, groups)
        assert_allclose(pipeline.predict(X, groups=groups), expected)


@pytest.fixture
def machines():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1)).cumsum(axis=0)
    return X, np.where(np.arange(120) % 40 == 7, -1, 1), np.repeat(range(4), 30)


def validated(detector, X, y, groups):
    cross_validate(detector, X, y, groups=groups, cv=GroupKFold(2), scoring="roc_auc")


def searched(detector, X, y, groups):
    scorer = make_series_scorer(vus_pr)
    search = GridSearchCV(
        detector, {"n_neighbors": [1, 2]}, cv=GroupKFold(2), scoring=scorer
    )
    search.fit(X, y, groups=groups)


def with_rows_in_between(detector, X, y, groups):
    cross_validate(detector, X, y, cv=KFold(3), scoring="roc_auc")


@pytest.mark.parametrize(
    ("call", "missed"),
    [
        (validated, {"fit", "scores"}),
        (searched, {"fit", "scores"}),
        (with_rows_in_between, {"fit"}),
    ],
)
def test_groups_that_do_not_arrive_are_missed(machines, call, missed):
    detector = SubsequenceKNN(window_size=5, contamination=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call(detector, *machines)
    said = [str(one.message) for one in said if "groups" in str(one.message)]
    assert all("enable_metadata_routing=True" in words for words in said)
    assert {words.split(" of Sub")[0].split()[-1] for words in said} == missed


@pytest.mark.filterwarnings("error")
def test_groups_that_arrive_are_not_missed(machines):
    X, y, groups = machines
    detector = SubsequenceKNN(window_size=5, contamination=0.1)
    cross_validate(detector, X, y, cv=TimeSeriesSplit(2), scoring="roc_auc")
    with config_context(enable_metadata_routing=True):
        scorer = make_series_scorer(vus_pr, undefined=0.0)
        cross_validate(
            detector,
            X,
            y,
            params={"groups": groups},
            cv=GroupKFold(2),
            scoring=scorer,
        )
        search = GridSearchCV(
            detector, {"n_neighbors": [1, 2]}, cv=GroupKFold(2), scoring=scorer
        )
        search.fit(X, y, groups=groups)
