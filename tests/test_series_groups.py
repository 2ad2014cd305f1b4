"""Machines of different scale: a scaler for each group, and a threshold for each."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import skad
from skad._group_rows import rows_by_label
from skad.calibration import EVTThreshold, MADThreshold, QuantileThreshold
from skad.neighbors import KNN
from skad.series import GroupScaler, SubsequenceKNN, WindowDetector, ZScore


def test_a_list_of_series_says_how_to_pass_them():
    rng = np.random.default_rng(0)
    several = [rng.normal(size=(60, 2)), rng.normal(size=(40, 2))]
    for kind in (list, tuple):
        with pytest.raises(ValueError, match="is a list of 2 tables") as caught:
            SubsequenceKNN(window_size=4).fit(kind(several))
    assert "groups=np.repeat(np.arange(len(X)), [len(x) for x in X])" in str(
        caught.value
    )
    groups = np.repeat(np.arange(len(several)), [len(x) for x in several])
    detector = SubsequenceKNN(window_size=4).fit(np.concatenate(several), groups=groups)
    with pytest.raises(ValueError, match="is a list of 2 tables"):
        detector.predict(several)


def machines(n=400, seed=0):
    """Return series (2 n, 2) of a machine and of one a thousand times as large."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None] / [4, 6]
    parts = [
        size * (np.sin(t) + 0.1 * rng.normal(size=(n, 2)) + 3) for size in (1, 1000)
    ]
    return np.concatenate(parts), np.repeat(["small", "large"], n)


def shuffled(groups, seed=0):
    """Return an order of rows that mixes groups and keeps the order within each."""
    order = np.random.default_rng(seed).permutation(len(groups))
    places = np.empty(len(groups), dtype=int)
    for label in np.unique(groups):
        own = np.flatnonzero(groups == label)
        places[np.sort(np.flatnonzero(groups[order] == label))] = own
    return places


# ------------------------------------------------------------------------------ scalers


@pytest.mark.parametrize("scaler", [None, MinMaxScaler()])
def test_each_group_has_a_scaler_of_its_own(scaler):
    X, groups = machines()
    found = GroupScaler(scaler).fit_transform(X, groups=groups)
    for label in ("small", "large"):
        own = StandardScaler() if scaler is None else MinMaxScaler()
        assert_allclose(found[groups == label], own.fit_transform(X[groups == label]))
    order = shuffled(groups)
    mixed = GroupScaler(scaler).fit(X[order], groups=groups[order])
    assert_allclose(mixed.transform(X[order], groups=groups[order]), found[order])


def test_new_rows_are_scaled_as_the_training_was():
    X, groups = machines()
    scaler = GroupScaler().fit(X, groups=groups)
    expected = StandardScaler().fit(X[:400]).transform(X[:3] + 7)
    assert_allclose(scaler.transform(X[:3] + 7, groups=["small"] * 3), expected)
    assert set(scaler.scalers_) == set(scaler.groups_) == {"small", "large"}


def test_groups_that_were_not_seen():
    X, groups = machines()
    scaler = GroupScaler().fit(X, groups=groups)
    with pytest.raises(ValueError, match=r"groups has 'other', .* 'large'"):
        scaler.transform(X[:2], groups=["other", "small"])
    with pytest.raises(ValueError, match="groups is missing"):
        scaler.transform(X[:2])
    pooled = GroupScaler(unknown="pooled").fit(X, groups=groups)
    found = pooled.transform(X[:2], groups=["other", "small"])
    assert_allclose(found[0], StandardScaler().fit(X).transform(X[:1])[0])
    assert_allclose(found[1], scaler.transform(X[:2], groups=["small"] * 2)[1])


def test_a_scaler_that_drops_columns_is_refused():
    X, groups = machines()
    with pytest.raises(ValueError, match=r"PCA makes .*has to keep them"):
        GroupScaler(PCA(1)).fit_transform(X, groups=groups)


def test_one_group_is_the_plain_scaler_and_a_proper_transformer():
    X, _ = machines()
    assert_allclose(GroupScaler().fit_transform(X), StandardScaler().fit_transform(X))
    check_estimator(GroupScaler())


def test_labels_of_any_kind():
    rows = rows_by_label(np.array([3, 3, 1]), 3)
    assert list(rows) == [3, 1]
    assert all(type(label) is int for label in rows)
    assert list(rows_by_label(None, 4)) == [None]


def test_one_detector_serves_machines_of_all_scales():
    X, groups = machines()
    new, _ = machines(seed=1)
    new[100:110, 0], new[500:510, 0] = 3.0, 3000.0  # the first sensor of both sticks
    hit = np.r_[100:110, 500:510]
    watch = make_pipeline(GroupScaler(), SubsequenceKNN(window_size=10, align="center"))
    with config_context(enable_metadata_routing=True):
        watch.fit(X, groups=groups)
        decision = watch.decision_function(new, groups=groups)
        assert_allclose(
            decision[:400], watch.decision_function(new[:400], groups=groups[:400])
        )
    found = np.argsort(decision)[:10]
    assert abs(found[:, None] - hit).min(axis=1).max() <= 5
    assert 0 < (found < 400).sum() < 10  # in both
    assert (decision[hit] < 0).mean() > 0.8
    assert (np.delete(decision, np.r_[90:120, 490:520]) < 0).mean() < 0.1


# --------------------------------------------------------------------------- thresholds

THRESHOLDS = [
    QuantileThreshold(ZScore()),
    QuantileThreshold(ZScore(), cv=3),
    QuantileThreshold(ZScore(), cv=None),
    MADThreshold(ZScore(), cv=None),
    EVTThreshold(ZScore(), risk=0.02, cv=None),
]


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
def test_each_group_has_the_threshold_of_its_own_scores(threshold):
    X, groups = machines()
    X = X - np.where(groups[:, None] == "small", 3, 3000)
    plain = type(threshold)(**threshold.get_params(deep=False)).fit(X, groups=groups)
    each = threshold.set_params(per_group=True).fit(X, groups=groups)
    if threshold.cv != "auto":  # which takes copies' scores to tell groups apart
        assert each.offset_ == plain.offset_
    scores = plain.score_samples(X, groups=groups)
    for label in ("small", "large"):
        own = groups == label
        if threshold.cv is None:
            expected = threshold._threshold(plain.calibration_scores_[own])
            assert each.offsets_[label] == expected
        assert_allclose(
            each.decision_function(X, groups=groups)[own],
            scores[own] - each.offsets_[label],
        )
    flagged = each.predict(X, groups=groups) == -1
    rates = [flagged[groups == label].mean() for label in ("small", "large")]
    # the means of copies differ by more than the small machine moves
    assert abs(rates[0] - rates[1]) < (0.1 if threshold.cv == "auto" else 0.05)
    threshold.set_params(per_group=False)


def test_one_threshold_hides_the_small_machine():
    """By one threshold all alarms are the large machine's."""
    X, groups = machines()
    rates = {}
    for per_group in (False, True):
        detector = QuantileThreshold(
            WindowDetector(KNN(), window_size=5), per_group=per_group, cv=None
        ).fit(X, groups=groups)
        flagged = detector.predict(X, groups=groups) == -1
        rates[per_group] = [flagged[groups == g].mean() for g in ("small", "large")]
    assert rates[False][0] == 0
    assert_allclose(rates[True], 0.05, atol=0.01)


def test_detectors_of_rows_need_no_groups():
    X, groups = machines()
    detector = QuantileThreshold(KNN(), per_group=True)
    labels = detector.fit_predict(X, groups=groups)
    assert_allclose(
        [(labels[groups == g] == -1).mean() for g in ("small", "large")],
        0.05,
        atol=0.01,
    )
    assert_allclose(
        detector.transform(X[:5], groups=groups[:5]),
        detector.detector_.transform(X[:5]),
    )
    found = detector.inspect(X, groups=groups)
    assert_array_equal(found.labels, labels)
    assert_array_equal(found.scores, detector.score_samples(X, groups=groups))


def test_other_groups_have_the_threshold_of_all():
    X, groups = machines()
    detector = QuantileThreshold(KNN(), per_group=True).fit(X, groups=groups)
    scores = detector.detector_.score_samples(X[:3])
    new = detector.decision_function(X[:3], groups=["other", "small", "other"])
    offsets = [detector.offset_, detector.offsets_["small"], detector.offset_]
    assert_allclose(new, scores - offsets)


def test_groups_are_asked_for():
    X, groups = machines()
    detector = QuantileThreshold(KNN(), per_group=True)
    with pytest.raises(ValueError, match=r"per_group=True\) needs groups"):
        detector.fit(X)
    with pytest.raises(ValueError, match="groups is missing"):
        detector.fit(X, groups=groups).predict(X)


def test_known_anomalies_are_in_no_threshold():
    X, groups = machines()
    y = np.ones(len(X), dtype=int)
    y[:50], X[:50] = -1, 50.0
    detector = QuantileThreshold(KNN(), per_group=True).fit(X, y, groups=groups)
    scores = detector.detector_.score_samples(X)
    expected = np.quantile(scores[(groups == "small") & (y == 1)], 0.05)
    assert_allclose(detector.offsets_["small"], expected)


@pytest.mark.parametrize("cv", [None, 3])
def test_scaler_detector_and_threshold_go_together(cv):
    X, groups = machines()
    watch = make_pipeline(GroupScaler(), WindowDetector(KNN(), window_size=5))
    with config_context(enable_metadata_routing=True):
        detector = QuantileThreshold(watch, per_group=True, cv=cv).fit(X, groups=groups)
        scores = detector.score_samples(X, groups=groups)
        inner = detector.detector_
        by_hand = inner[-1].score_samples(inner[0].transform(X, groups), groups)
        shift = [detector.offset_ - detector.offsets_[label] for label in groups]
        assert_allclose(scores, by_hand + shift)
        assert_array_equal(
            detector.predict(X, groups=groups),
            np.where(scores < detector.offset_, -1, 1),
        )
        frozen = QuantileThreshold(FrozenEstimator(inner), per_group=True)
        frozen.fit(X, groups=groups)
        if cv is None:
            assert frozen.offsets_ == detector.offsets_
        outer = make_pipeline(QuantileThreshold(KNN(), per_group=True))
        outer.fit(X, groups=groups)
        assert len(outer.predict(X, groups=groups)) == len(X)


def test_files_keep_the_thresholds(tmp_path):
    X, groups = machines()
    detector = QuantileThreshold(KNN(), per_group=True).fit(X, groups=groups)
    skad.save(detector, tmp_path / "a.skad")
    again = skad.load(tmp_path / "a.skad")
    assert_array_equal(
        again.predict(X, groups=groups), detector.predict(X, groups=groups)
    )
