"""Thresholds and p-values around any detector: their formulas and their guarantees."""

import math

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.neighbors import KernelDensity, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad._training._held_out import held_samples
from skad.calibration import (
    SPOT,
    ConformalDetector,
    EVTThreshold,
    MADThreshold,
    QuantileThreshold,
)
from skad.calibration._conformal import largest_count, tie_break
from skad.density import Mahalanobis
from skad.neighbors import KNN
from tests._pixels import Pixels

AROUND = [ConformalDetector, EVTThreshold, MADThreshold, QuantileThreshold]
around = pytest.mark.parametrize("calibrated", AROUND, ids=lambda each: each.__name__)


class Column(BaseEstimator):
    """Scores a row by its first value; keeps what it was fitted on."""

    def fit(self, X, y=None, sample_weight=None):
        self.X_, self.y_, self.weight_ = X, y, sample_weight
        return self

    def score_samples(self, X):
        return np.asarray(X)[:, 0].astype(float)


class Steps(Column):
    """Takes `groups`, as detectors of series do."""

    def fit(self, X, y=None, groups=None):
        self.groups_ = groups
        return super().fit(X, y)

    def score_samples(self, X, groups=None):
        return super().score_samples(X)


class Centre(BaseEstimator):
    """Distance to the training mean; `sign=-1` takes the farthest for the best."""

    def __init__(self, sign=1):
        self.sign = sign

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        return self

    def score_samples(self, X):
        return -self.sign * np.linalg.norm(X - self.mean_, axis=1)


class Constant(Column):
    def score_samples(self, X):
        return np.zeros(len(X))


class Remembering(BaseEstimator):
    """Distance to the nearest training row, which for training rows is themselves."""

    def fit(self, X, y=None):
        self.X_ = X
        return self

    def score_samples(self, X):
        return -np.linalg.norm(X[:, None] - self.X_, axis=2).min(axis=1)


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def frozen_column():
    return FrozenEstimator(Column().fit(column([0.0, 1.0])))


# --------------------------------------------------------------- p-values by definition


def naive_p_values(pairs):
    """Return p-values of new rows from (calibration scores, new scores) of each fit."""
    n = sum(len(own) for own, _ in pairs)
    m = len(pairs[0][1])
    return np.array(
        [
            (1 + sum(s <= new[j] for own, new in pairs for s in own)) / (n + 1)
            for j in range(m)
        ]
    )


@pytest.mark.parametrize(
    ("method", "n_fits"), [("split", 1), ("cross", 4), ("jackknife+", 23)]
)
def test_p_values_are_those_of_the_definition(method, n_fits):
    rng = np.random.default_rng(0)
    X, X_new = rng.normal(size=(23, 2)), rng.normal(size=(40, 2)) * 2
    detector = ConformalDetector(
        Column(), method=method, n_splits=4, false_alarm_rate=0.2, random_state=0
    ).fit(X)
    members, scores = detector.estimators_, detector.calibration_scores_
    assert len(members) == n_fits
    held = [set(own) for own in scores]
    for member, own in zip(members, held, strict=True):
        # every row is either learned from or calibrated with, in each fit
        assert own.isdisjoint(member.X_[:, 0])
        assert own | set(member.X_[:, 0]) == set(X[:, 0])
    if method == "split":
        assert detector.n_calibration_ == 12
    else:
        assert set.union(*held) == set(X[:, 0])
        assert detector.n_calibration_ == 23
    pairs = [
        (own, member.score_samples(X_new))
        for member, own in zip(members, scores, strict=True)
    ]
    assert_array_equal(detector.p_values(X_new), naive_p_values(pairs))


def test_each_row_is_compared_under_the_detector_that_has_not_seen_it():
    rng = np.random.default_rng(1)
    X, X_new = rng.normal(size=(20, 2)), rng.normal(size=(15, 2)) + 1
    detector = ConformalDetector(
        Centre(), method="jackknife+", false_alarm_rate=0.1, random_state=0
    ).fit(X)
    counts = np.ones(15)
    for i in range(20):
        without = Centre().fit(np.delete(X, i, axis=0))
        counts += without.score_samples(X[[i]]) <= without.score_samples(X_new)
    assert_allclose(detector.p_values(X_new), counts / 21)


def test_ties_count_and_anomalies_rank_by_their_score():
    detector = ConformalDetector(frozen_column(), false_alarm_rate=0.25)
    detector.fit(column([1, 2, 2, 5]))
    X = column([-1e6, 0, 1, 2, 3, 5, 9])
    assert_allclose(detector.p_values(X), [0.2, 0.2, 0.4, 0.8, 0.8, 1, 1])
    scores = detector.score_samples(X)
    assert (np.diff(scores) > 0).all()
    assert_array_equal(detector.predict(X), [-1, -1, 1, 1, 1, 1, 1])
    assert detector.offset_ == 0.2


finite = st.floats(-1e100, 1e100, allow_subnormal=False)
ties = st.integers(-3, 3).map(float)


@settings(max_examples=100, deadline=None)
@given(
    calibration=st.lists(finite | ties, min_size=1, max_size=40),
    new=st.lists(finite | ties, min_size=1, max_size=10),
    data=st.data(),
)
def test_decision_is_negative_exactly_where_p_is_at_most_the_rate(
    calibration, new, data
):
    n = len(calibration)
    share = st.integers(1, n).map(lambda k: k / (n + 1))
    rate = data.draw(share | st.floats(1 / (n + 1), 1, exclude_max=True))
    detector = ConformalDetector(frozen_column(), false_alarm_rate=rate)
    detector.fit(column(calibration))
    X = column([*new, *calibration])
    p, scores = detector.p_values(X), detector.score_samples(X)
    assert_array_equal(detector.decision_function(X) < 0, p <= rate)
    assert_array_equal(detector.predict(X) == -1, p <= rate)
    # the score is the p-value less at most a step, and ranks as the detector does
    assert (scores <= p).all()
    assert (scores >= p - 1 / (n + 1) - 1e-12).all()
    order = np.argsort(X[:, 0])
    assert (np.diff(p[order]) >= 0).all()
    assert (np.diff(scores[order]) >= 0).all()


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 10**6), data=st.data())
def test_the_largest_count_is_exact_in_floating_point(n, data):
    share = st.integers(0, n).map(lambda k: k / (n + 1))
    rate = data.draw(share | st.floats(0, 1, exclude_max=True))
    k = largest_count(rate, n)
    assert k / (n + 1) <= rate < (k + 1) / (n + 1)


def test_scores_far_out_stay_apart():
    detector = ConformalDetector(frozen_column(), false_alarm_rate=0.1)
    detector.fit(column(np.arange(100)))
    X = column([-1e30, -1e15, -1e8, -1e8 + 1, -5])
    assert (np.diff(detector.score_samples(X)) > 0).all()
    assert (detector.p_values(X) == 1 / 101).all()


def test_the_tie_break_never_lifts_a_p_value_to_the_next():
    z = np.array([-np.inf, -1e300, -1e8, -1, 0, 1, 1e8, 1e300, np.inf])
    found = tie_break(z)
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found[1:7]) > 0).all()
    assert found[0] == 0
    for count in (0, 7, 10**6):
        assert (count + found < count + 1).all()
    assert_allclose(tie_break(torch.from_numpy(z)), found)


@pytest.mark.parametrize("huge", [-1e12, 1e12])
def test_one_huge_calibration_score_takes_no_power(huge):
    detector = ConformalDetector(frozen_column(), false_alarm_rate=0.05)
    detector.fit(column([*np.linspace(-1, 1, 199), huge]))
    lower = 1 + (huge < 0)
    assert_allclose(
        detector.p_values(column([-1e13, -30, -1.1])) * 201, [1, lower, lower]
    )
    assert detector.p_values(column([0.0]))[0] > 0.4


def test_calibration_rows_tie_with_themselves_in_any_batch():
    X = np.random.default_rng(0).normal(size=(200, 7))
    for method in ("split", "cross"):
        detector = ConformalDetector(Mahalanobis(), method=method, random_state=0).fit(
            X
        )
        single = np.concatenate([detector.p_values(row[None]) for row in X])
        assert_array_equal(single, detector.p_values(X))


# -------------------------------------------------------------------- their guarantees

RATES = np.array([0.05, 0.1, 0.2, 0.3, 0.5])


def draws(p_values_of, n_draws, n_train, n_new=20, n_features=2):
    """Return the share of new rows with p <= rate in each draw, (n_draws, n_rates)."""
    rng = np.random.default_rng(0)
    shares = []
    for i in range(n_draws):
        X = rng.standard_t(3, size=(n_train + n_new, n_features))
        p = p_values_of(X[:n_train], X[n_train:], i)
        shares.append((p[:, None] <= RATES).mean(axis=0))
    return np.array(shares)


def check_super_uniform(shares, factor=1.0):
    """Check that P(p <= a) is at most `factor` a, but for chance."""
    sigma = shares.std(axis=0, ddof=1) / math.sqrt(len(shares))
    assert (shares.mean(axis=0) <= factor * RATES + 3 * sigma).all()


def conformal(detector, **parameters):
    """Return a function of training rows, new rows and a seed to p-values."""

    def p_values_of(X, X_new, seed):
        around = ConformalDetector(
            detector, false_alarm_rate=0.5, random_state=seed, **parameters
        )
        return around.fit(X).p_values(X_new)

    return p_values_of


@pytest.mark.parametrize(
    "detector",
    [Mahalanobis(), Remembering(), Centre(sign=-1), Constant()],
    ids=["good", "memory", "reversed", "constant"],
)
def test_split_p_values_are_super_uniform_however_bad_the_detector(detector):
    shares = draws(conformal(detector), n_draws=225, n_train=38)
    check_super_uniform(shares)
    if not isinstance(detector, Constant):
        # with 19 calibration scores each rate of the grid is a step: no slack
        sigma = shares.std(axis=0, ddof=1) / 15
        assert (np.abs(shares.mean(axis=0) - RATES) < 3.5 * sigma).all()


@pytest.mark.parametrize(
    ("parameters", "n_train", "n_draws"),
    [({"method": "cross", "n_splits": 4}, 40, 200), ({"method": "jackknife+"}, 19, 80)],
    ids=["cross", "jackknife+"],
)
def test_cross_p_values_keep_their_bound_and_stay_near_the_rate(
    parameters, n_train, n_draws
):
    shares = draws(conformal(Centre(), **parameters), n_draws, n_train)
    check_super_uniform(shares, factor=2.0)
    assert (np.abs(shares.mean(axis=0) - RATES) < 0.05).all()


def in_sample(X, X_new, seed):
    """Return what p-values are not: compared with scores of rows learned from."""
    detector = Remembering().fit(X)
    own, new = detector.score_samples(X), detector.score_samples(X_new)
    return naive_p_values([(own, new)])


def test_the_check_sees_p_values_from_training_scores():
    shares = draws(in_sample, n_draws=50, n_train=38)
    with pytest.raises(AssertionError):
        check_super_uniform(shares)
    with pytest.raises(AssertionError):
        check_super_uniform(shares, factor=2.0)


def discoveries(detect, n_draws=150):
    """Return false discovery proportion and power of each draw."""
    rng = np.random.default_rng(0)
    false, power = [], []
    for i in range(n_draws):
        X, X_new = rng.normal(size=(400, 2)), rng.normal(size=(50, 2))
        X_new[:10] += 3
        alarm = detect(X, X_new, i) == -1
        false.append(alarm[10:].sum() / max(1, alarm.sum()))
        power.append(alarm[:10].mean())
    return np.array(false), np.array(power)


def conformal_detect(dependence="positive"):
    def detect(X, X_new, seed):
        around = ConformalDetector(Centre(), random_state=seed).fit(X)
        return around.detect(X_new, false_discovery_rate=0.2, dependence=dependence)

    return detect


def test_false_discoveries_are_controlled():
    def one_by_one(X, X_new, seed):
        return ConformalDetector(Centre(), random_state=seed).fit(X).predict(X_new)

    false, power = discoveries(conformal_detect())
    sigma = false.std(ddof=1) / math.sqrt(len(false))
    # Benjamini and Hochberg's rate is that of the normal share of the batch
    assert false.mean() <= 0.2 * 40 / 50 + 3 * sigma
    assert false.mean() > 0.08
    assert power.mean() > 0.7
    careful, less = discoveries(conformal_detect("any"), n_draws=50)
    assert careful.mean() < false.mean()
    assert less.mean() < power.mean()
    # labels of rows by themselves know nothing of the batch
    assert discoveries(one_by_one, n_draws=50)[0].mean() > 0.1


def test_detect_adjusts_as_benjamini_and_hochberg():
    detector = ConformalDetector(frozen_column(), false_alarm_rate=0.1)
    detector.fit(column(np.arange(99)))
    X = column([-1, -2, 0.5, 3.5, 50, 70, 80, 90])
    p = detector.p_values(X)
    assert_allclose(p, [0.01, 0.01, 0.02, 0.05, 0.52, 0.72, 0.82, 0.92])
    passed = np.sort(p) <= 0.1 * np.arange(1, 9) / 8
    largest = np.sort(p)[np.flatnonzero(passed)[-1]]
    labels = detector.detect(X, false_discovery_rate=0.1)
    assert_array_equal(labels, np.where(p <= largest, -1, 1))
    assert_array_equal(labels, [-1, -1, -1, -1, 1, 1, 1, 1])
    tensor = detector.detect(torch.from_numpy(X), false_discovery_rate=0.1)
    assert_array_equal(tensor.numpy(), labels)
    fewer = detector.detect(X, false_discovery_rate=0.15, dependence="any")
    assert_array_equal(fewer, [-1, -1, -1, 1, 1, 1, 1, 1])
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="false_discovery_rate"):
            detector.detect(X, false_discovery_rate=wrong)
    with pytest.raises(ValueError, match="dependence='no'"):
        detector.detect(X, dependence="no")


def test_labels_at_a_rate_flag_that_rate():
    rng = np.random.default_rng(0)
    X, X_new = rng.normal(size=(2000, 3)), rng.normal(size=(4000, 3))
    for method in ("split", "cross"):
        detector = ConformalDetector(KNN(), method=method, random_state=0).fit(X)
        assert 0.03 < np.mean(detector.predict(X_new) == -1) < 0.07


def test_the_map_is_the_mean_of_the_members_maps(blobs):
    train, normal, _ = blobs
    detector = ConformalDetector(method="cross", n_splits=3, random_state=0).fit(train)
    maps = np.mean([member.transform(normal) for member in detector.estimators_], 0)
    assert_allclose(detector.transform(normal), maps, rtol=1e-12)


def test_conformal_ranks_as_its_detector(blobs):
    train, normal, anomalies = blobs
    X = np.concatenate([normal, anomalies])
    detector = ConformalDetector(KNN(), random_state=0).fit(train)
    inner = detector.estimators_[0].score_samples(X)
    assert_array_equal(np.argsort(detector.score_samples(X)), np.argsort(inner))
    again = ConformalDetector(KNN(), random_state=0).fit(train)
    assert_array_equal(again.score_samples(X), detector.score_samples(X))
    other = ConformalDetector(KNN(), random_state=1).fit(train)
    assert not np.array_equal(other.score_samples(X), detector.score_samples(X))


def test_the_seed_reaches_unset_seeds_of_the_detector(blobs):
    train, normal, _ = blobs
    forest = skad.IsolationForest(n_estimators=5)
    scores = [
        ConformalDetector(forest, random_state=0).fit(train).score_samples(normal)
        for _ in range(2)
    ]
    assert_array_equal(*scores)
    kept = ConformalDetector(forest.set_params(random_state=7), random_state=0)
    assert kept.fit(train).estimators_[0].random_state == 7


# ------------------------------------------------------------------------------- errors


def test_too_few_rows_for_the_rate_are_an_error_with_the_smallest_rate():
    X = np.random.default_rng(0).normal(size=(36, 2))
    with pytest.raises(ValueError, match=r"at least 19 .* there are 18: .* 0\.05263"):
        ConformalDetector().fit(X)
    ConformalDetector(false_alarm_rate=1 / 19).fit(X)
    ConformalDetector(method="cross").fit(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"calibration_size": 60}, "calibration_size=60"),
        ({"calibration_size": 1.5}, "'calibration_size' parameter"),
        ({"method": "cross", "n_splits": 61}, "n_splits=61"),
        ({"false_alarm_rate": 1.0}, "'false_alarm_rate' parameter"),
        ({"method": "full"}, "'method' parameter"),
        ({"detector": frozen_column(), "method": "cross"}, "method='cross'"),
        ({"detector": StandardScaler()}, "'detector' parameter"),
        ({"detector": KNN(n_neighbors=25), "calibration_size": 40}, "n_neighbors=25"),
        ({"detector": KNN(n_neighbors=25), "calibration_size": 40}, "20 samples"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    X = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(ValueError, match=message):
        ConformalDetector(**parameters).fit(X)


def test_a_calibration_size_may_be_a_number_or_a_share():
    X = np.random.default_rng(0).normal(size=(60, 2))
    for size, n in [(25, 25), (0.4, 24), (0.34, 21)]:
        detector = ConformalDetector(calibration_size=size, random_state=0).fit(X)
        assert detector.n_calibration_ == n


# ------------------------------------------------------------- thresholds by definition


def test_the_quantile_of_training_scores_is_what_contamination_does(blobs):
    train, normal, _ = blobs
    for inner in (KNN(), Mahalanobis()):
        around = QuantileThreshold(clone(inner), false_alarm_rate=0.1, cv=None)
        around.fit(train)
        inner.set_params(contamination=0.1).fit(train)
        assert_allclose(around.offset_, inner.offset_, rtol=1e-12)
        assert_array_equal(around.predict(normal), inner.predict(normal))
        assert_array_equal(around.transform(normal), inner.transform(normal))


@pytest.mark.parametrize("cv", [3, KFold(4, shuffle=True, random_state=1)])
def test_thresholds_take_scores_out_of_the_folds(blobs, cv):
    train, normal, _ = blobs
    scores = np.empty(len(train))
    folds = KFold(cv) if isinstance(cv, int) else cv
    for learn, test in folds.split(train):
        scores[test] = KNN(n_neighbors=1).fit(train[learn]).score_samples(train[test])
    inner = KNN(n_neighbors=1)
    offsets = {
        QuantileThreshold(inner, cv=cv): np.quantile(scores, 0.05),
        MADThreshold(inner, n_deviations=2.5, cv=cv): np.median(scores)
        - 2.5 * 1.4826022 * np.median(np.abs(scores - np.median(scores))),
        EVTThreshold(inner, risk=1e-3, level=0.9, cv=cv): -SPOT(1e-3, 0.9)
        .fit(-scores)
        .threshold_,
    }
    for detector, offset in offsets.items():
        assert detector.fit(train).offset_ == pytest.approx(offset, rel=1e-7)
        assert_array_equal(np.sort(detector.calibration_scores_), np.sort(scores))
        # the detector itself has learned from all rows
        assert_array_equal(
            detector.score_samples(normal),
            clone(inner).fit(train).score_samples(normal),
        )


def test_scores_out_of_the_folds_mend_the_rate_of_false_alarms():
    rng = np.random.default_rng(0)
    X, X_new = rng.normal(size=(150, 30)), rng.normal(size=(2000, 30))
    inside = QuantileThreshold(Mahalanobis(), cv=None).fit(X)
    assert np.mean(inside.predict(X_new) == -1) > 0.25
    for cv in ("auto", 10):
        outside = QuantileThreshold(Mahalanobis(), cv=cv).fit(X)
        assert np.mean(outside.predict(X_new) == -1) < 0.12


def test_scores_are_those_that_the_detector_took_its_threshold_from(blobs):
    train = blobs[0]
    rows = np.random.RandomState(0).permutation(len(train))
    out = rows[::5]  # of more than 200, a fifth
    members = {
        # a sample is not its own neighbour
        KNN(n_neighbors=3): -kneighbors(train, 4)[:, 3],
        make_pipeline(StandardScaler(), KNN(n_neighbors=3)): -kneighbors(
            StandardScaler().fit_transform(train), 4
        )[:, 3],
        # copies, where a detector has no such scores
        KernelDensity(): KernelDensity()
        .fit(np.delete(train, out, axis=0))
        .score_samples(train[out]),
        KNN(n_neighbors=3, contamination=0.1): -kneighbors(
            np.delete(train, out, axis=0), 3, train[out]
        )[:, 2],
    }
    for inner, scores in members.items():
        found = QuantileThreshold(inner).fit(train)
        assert_allclose(np.sort(found.calibration_scores_), np.sort(scores))
        assert found.offset_ == pytest.approx(np.quantile(scores, 0.05))
    # a network has held some out, and tells nobody which
    network = skad.AutoEncoder(max_epochs=1, random_state=0)
    found = QuantileThreshold(network).fit(train)
    held = train[held_samples(len(train), network.validation_fraction)]
    assert len(held) == 60
    assert_allclose(found.calibration_scores_, found.detector_.score_samples(held))
    assert set(vars(found.detector_)) == set(vars(network.fit(train)))
    groups = np.repeat([0, 1], len(train) // 2)
    apart = QuantileThreshold(network, per_group=True).fit(train, groups=groups)
    assert len(apart.calibration_scores_) == len(train) // 5
    with pytest.warns(UserWarning, match="cannot be fitted on the 3 samples"):
        few = QuantileThreshold(Few()).fit(train[:4])
    assert len(few.calibration_scores_) == 4


def kneighbors(X, k, rows=None):
    """Return the distances to the k nearest, of the rows themselves too."""
    found = NearestNeighbors(n_neighbors=k).fit(X)
    return found.kneighbors(X if rows is None else rows)[0]


class Few(KernelDensity):
    """Takes four samples at least."""

    def fit(self, X, y=None):
        if len(X) < 4:
            raise ValueError("four are needed")
        return super().fit(X)


def test_half_of_the_scores_do_not_move_the_deviation_far():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=1000)
    spoiled = scores.copy()
    spoiled[:300] -= 1e6
    clean = MADThreshold(frozen_column()).fit(column(scores))
    assert clean.offset_ == pytest.approx(-3, abs=0.2)
    dirty = MADThreshold(frozen_column()).fit(column(spoiled))
    assert -6 < dirty.offset_ < -3
    assert (dirty.predict(column(spoiled))[:300] == -1).all()


@pytest.mark.parametrize("level", [0.9, 0.98])
def test_the_extreme_value_threshold_is_where_spot_starts(level):
    rng = np.random.default_rng(0)
    anomaly = rng.exponential(size=1500)
    detector = EVTThreshold(frozen_column(), risk=1e-4, level=level)
    detector.fit(column(-anomaly))
    spot = SPOT(risk=1e-4, level=level).fit(anomaly)
    assert detector.offset_ == -spot.threshold_
    assert (detector.level_, detector.shape_, detector.scale_, detector.n_peaks_) == (
        *(spot.level_, spot.shape_, spot.scale_, spot.n_peaks_),
    )


@pytest.mark.parametrize(
    ("draw", "tail"),
    [
        (lambda rng, n: rng.exponential(size=n), lambda x: math.exp(-max(x, 0))),
        (
            lambda rng, n: np.abs(rng.normal(size=n)),
            lambda x: math.erfc(max(x, 0) / math.sqrt(2)),
        ),
        (lambda rng, n: rng.pareto(4, size=n), lambda x: (1 + max(x, 0)) ** -4.0),
    ],
    ids=["exponential", "Gaussian", "Pareto"],
)
def test_a_fitted_tail_is_nearer_to_a_small_risk_than_the_empirical_quantile(
    draw, tail
):
    rng = np.random.default_rng(0)
    risk, n = 1e-4, 1000
    errors = {"fitted": [], "empirical": []}
    for _ in range(100):
        anomaly = draw(rng, n)
        detector = EVTThreshold(frozen_column(), risk=risk).fit(column(-anomaly))
        thresholds = {
            "fitted": -detector.offset_,
            "empirical": np.quantile(anomaly, 1 - risk),
        }
        for name, threshold in thresholds.items():
            errors[name].append(math.log10(tail(threshold) / risk))
    spread = {name: np.sqrt(np.mean(np.square(e))) for name, e in errors.items()}
    assert spread["fitted"] < 0.9 * spread["empirical"]
    rate = {name: np.mean(np.power(10.0, e)) for name, e in errors.items()}
    assert 1 < rate["fitted"] < 0.5 * rate["empirical"]


def test_the_tail_that_is_taken_by_itself():
    rng = np.random.default_rng(0)
    for n, n_peaks in [(10, 9), (20, 10), (50, 10), (100, 20), (9000, 1000)]:
        detector = EVTThreshold(frozen_column(), risk=1e-3)
        detector.fit(column(rng.normal(size=n)))
        assert detector.n_peaks_ == n_peaks
    with pytest.raises(ValueError, match="exceed their quantile level"):
        EVTThreshold(frozen_column()).fit(column(np.zeros(100)))
    with pytest.raises(ValueError, match=r"risk=0\.3 must be less than 0\.2"):
        EVTThreshold(frozen_column(), risk=0.3).fit(column(rng.normal(size=200)))


# -------------------------------------------------------------- any detector, any input


def tuned(calibrated, detector=None, **parameters):
    """Return a calibrated detector whose rate few rows can show."""
    rates = {ConformalDetector: {"false_alarm_rate": 0.2}, EVTThreshold: {"risk": 0.05}}
    return calibrated(detector, **rates.get(calibrated, {}), **parameters)


@around
def test_a_frozen_detector_is_calibrated_with_all_rows_and_not_fitted(
    calibrated, blobs
):
    train, normal, _ = blobs
    inner = KNN().fit(train[:100])
    before = inner.score_samples(normal)
    parameters = {} if calibrated is ConformalDetector else {"cv": 5}
    detector = tuned(calibrated, FrozenEstimator(inner), **parameters)
    detector.fit(train[100:])
    scores = np.concatenate(np.atleast_2d(detector.calibration_scores_))
    assert_array_equal(scores, inner.score_samples(train[100:]))
    assert_array_equal(inner.score_samples(normal), before)
    assert_array_equal(detector.transform(normal), inner.transform(normal))
    assert detector.n_features_in_ == 6
    with pytest.raises(NotFittedError):
        tuned(calibrated, FrozenEstimator(KNN())).fit(train)


@around
def test_detectors_of_scikit_learn_have_scores_and_no_map(calibrated, blobs):
    train, normal, anomalies = blobs
    X = np.concatenate([normal, anomalies])
    detector = tuned(calibrated, IsolationForest(n_estimators=20, random_state=0))
    assert not hasattr(detector, "transform")
    detector.fit(train)
    assert not hasattr(detector, "transform")
    assert not hasattr(detector, "fit_transform")
    with pytest.raises(AttributeError, match="no attribute 'transform'") as raised:
        detector.transform(X)
    assert "IsolationForest has no anomaly map" in str(raised.value.__cause__)
    scores = detector.score_samples(X)
    assert roc_auc_score(np.repeat([1, -1], [100, 40]), scores) > 0.9
    found = detector.score_samples(torch.from_numpy(X))
    assert isinstance(found, torch.Tensor)
    assert_array_equal(found.numpy(), scores)
    assert isinstance(detector.predict(torch.from_numpy(X)), torch.Tensor)


@around
def test_frames_keep_their_names_and_frames_inside_do_no_harm(calibrated, blobs):
    X = pd.DataFrame(blobs[0], columns=list("abcdef"))
    inner = make_pipeline(StandardScaler(), KNN()).set_output(transform="pandas")
    detector = tuned(calibrated, inner).fit(X)
    assert list(detector.feature_names_in_) == list("abcdef")
    maps = detector.transform(X)
    assert isinstance(maps, np.ndarray)
    frame = detector.set_output(transform="polars").transform(X)
    assert frame.columns == list("abcdef")
    assert_array_equal(frame.to_numpy(), maps)
    with sklearn.config_context(transform_output="pandas"):
        assert_array_equal(tuned(calibrated, KNN()).fit_transform(X).columns, X.columns)


@around
def test_pictures_go_through(calibrated, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = rng.integers(90, 110, size=(30, 8, 6), dtype=np.uint8)
    bad = pictures[:1].copy()
    bad[0, 2:4, 3:5] = 255
    paths = [tmp_path / f"{i:02}.png" for i in range(30)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    inner = skad.image.PaDiM(backbone=Pixels, layers=("pixel",), smoothing=0)
    parameters = {"random_state": 0} if calibrated is ConformalDetector else {"cv": 3}
    kinds = [
        pictures,
        torch.from_numpy(pictures),
        skad.image.PictureFiles(paths),
        [str(path) for path in paths],
    ]
    fitted = [tuned(calibrated, inner, **parameters).fit(X) for X in kinds]
    for detector in fitted:
        assert detector.image_shape_ == (8, 6, 1)
        assert detector.offset_ == pytest.approx(fitted[0].offset_, rel=1e-5)
        assert_array_equal(detector.predict(bad), [-1])
        maps = detector.transform(bad)
        assert maps.shape == (1, 8, 6)
        assert maps[0, 2:4, 3:5].min() > np.delete(maps[0], [2, 3], axis=0).max()


@around
def test_known_anomalies_do_not_calibrate_but_are_learned_from(calibrated):
    values = np.arange(40.0)
    y = np.where(values < 6, -1, 1)
    detector = tuned(calibrated, Column()).fit(column(values), y)
    scores = np.concatenate(np.atleast_2d(detector.calibration_scores_))
    assert scores.min() >= 6
    if calibrated is ConformalDetector:
        member = detector.estimators_[0]
        assert set(member.X_[:, 0]) >= set(range(6))
        assert len(scores) == 17
    else:
        member = detector.detector_
        assert len(scores) == 34
    assert_array_equal(member.y_ == -1, member.X_[:, 0] < 6)
    for inside, params in [
        (frozen_column(), {}),
        (Steps(), {"groups": np.repeat(np.arange(20), 2)}),
    ]:
        held = tuned(calibrated, inside).fit(column(values), y, **params)
        scores = np.concatenate(np.atleast_2d(held.calibration_scores_))
        assert scores.min() >= 6
    for labels in (torch.from_numpy(y), pd.Series(y)):
        again = tuned(calibrated, Column())
        if calibrated is ConformalDetector:
            again.set_params(random_state=0)
        found = again.fit(column(values), labels).calibration_scores_
        assert np.concatenate(np.atleast_2d(found)).min() >= 6
    with pytest.raises(ValueError, match="39 labels for 40 samples"):
        tuned(calibrated, Column()).fit(column(values), y[1:])
    with pytest.raises(ValueError, match=r"normal|false_alarm_rate"):
        tuned(calibrated, Column()).fit(column(values), -np.ones(40))


@around
def test_classes_of_a_classifier_are_no_anomalies(calibrated):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-3, 1, (40, 2)), rng.normal(3, 1, (40, 2))])
    y = np.repeat([-1, 1], 40)
    inner = skad.ood.Energy(LogisticRegression())
    y_ood = np.where(np.arange(80) % 10 == 0, -1, 1)
    folds = KFold(4, shuffle=True, random_state=0)
    parameters = {"random_state": 0}
    if calibrated is not ConformalDetector:
        parameters = {"cv": folds}

    def n_scores(*labels, inner=inner, **params):
        detector = tuned(calibrated, inner, **parameters).fit(X, *labels, **params)
        return len(np.concatenate(np.atleast_2d(detector.calibration_scores_)))

    split = calibrated is ConformalDetector
    assert n_scores(y) == (40 if split else 80)
    assert n_scores(y, y_ood=y_ood) == (36 if split else 72)
    assert n_scores(y_ood, y_class=y) == (36 if split else 72)
    pipeline = make_pipeline(StandardScaler(), inner)
    assert n_scores(y, inner=pipeline) == (40 if split else 80)
    assert n_scores(y, inner=pipeline, energy__y_ood=y_ood) == (36 if split else 72)


@around
def test_weights_are_cut_as_the_rows_are(calibrated):
    values = np.arange(40.0)
    parameters = {} if calibrated is ConformalDetector else {"cv": 4}
    detector = tuned(calibrated, Column(), **parameters)
    detector.fit(column(values), sample_weight=values + 0.5)
    members = getattr(detector, "estimators_", None) or [detector.detector_]
    for member in members:
        assert_array_equal(member.weight_, member.X_[:, 0] + 0.5)
    with pytest.raises(TypeError, match="colour"):
        detector.fit(column(values), colour=values)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(detector)
        routed.set_params(detector=Column().set_fit_request(sample_weight=True))
        routed.fit(column(values), sample_weight=values + 0.5)
        with pytest.raises(TypeError, match="colour"):
            routed.fit(column(values), colour=values)


# ------------------------------------------------------------------------------- series


@pytest.fixture(scope="module")
def waves():
    """Twelve series of 60 steps, the last with a flat stretch, and their groups."""
    rng = np.random.default_rng(0)
    steps = np.arange(60)
    X = np.concatenate(
        [np.sin(steps / 3 + rng.uniform(0, 6)) for _ in range(12)]
    ) + 0.05 * rng.normal(size=720)
    return X[:, None], np.repeat(np.arange(12), 60)


def windows():
    return skad.series.SubsequenceKNN(window_size=8, n_neighbors=1)


@around
def test_whole_series_are_held_out_and_none_is_joined(calibrated, waves):
    X, groups = waves
    parameters = {"random_state": 0}
    if calibrated is not ConformalDetector:
        parameters = {"cv": GroupKFold(4)}
    detector = tuned(calibrated, windows(), **parameters).fit(X, groups=groups)
    if calibrated is ConformalDetector:
        assert detector.n_calibration_ == 360
        held = np.isin(
            detector.estimators_[0].score_samples(X, groups),
            detector.calibration_scores_[0],
        ).reshape(12, 60)
        assert set(held.mean(axis=1)) == {0.0, 1.0}
    else:
        scores = np.empty(len(X))
        for learn, test in GroupKFold(4).split(X, groups=groups):
            member = windows().fit(X[learn], groups=groups[learn])
            scores[test] = member.score_samples(X[test], groups[test])
        assert_array_equal(np.sort(scores), np.sort(detector.calibration_scores_))
    with pytest.raises(ValueError, match="719 labels for 720 samples"):
        clone(detector).fit(X, groups=groups[1:])
    bad = X[:60].copy()
    bad[30:40] = 0.0
    series = np.concatenate([X[60:120], bad]), groups[:120]
    labels = detector.predict(series[0], groups=series[1])
    assert np.mean(labels[90:100] == -1) > 0.9
    assert np.mean(labels[:60] == -1) < 0.5
    maps = detector.transform(series[0], groups=series[1])
    assert maps.shape == (120, 1)
    assert_array_equal(
        detector.fit_predict(X, groups=groups), detector.predict(X, groups=groups)
    )
    # not the same as one series
    assert not np.array_equal(
        detector.score_samples(*series[:1]),
        detector.score_samples(series[0], groups=series[1]),
    )


def test_a_single_series_is_cut_into_blocks(waves):
    X = waves[0]
    split = ConformalDetector(windows(), calibration_size=120).fit(X)
    inner = windows().fit(X[:600])
    assert_array_equal(split.calibration_scores_[0], inner.score_samples(X[600:]))
    cross = ConformalDetector(windows(), method="cross", n_splits=3).fit(X)
    pieces = np.delete(X, np.s_[240:480], axis=0)
    inner = windows().fit(pieces, groups=np.repeat([0, 1], 240))
    assert_array_equal(cross.calibration_scores_[1], inner.score_samples(X[240:480]))
    assert_array_equal(ConformalDetector(Steps()).fit(X).estimators_[0].groups_, 0)
    steps = ConformalDetector(Steps(), method="cross", n_splits=3).fit(X)
    pieces = [member.groups_ for member in steps.estimators_]
    assert_array_equal(pieces[1], np.repeat([0, 1], 240))
    assert [len(np.unique(groups)) for groups in pieces] == [1, 2, 1]
    with pytest.raises(ValueError, match="groups"):
        ConformalDetector(windows(), method="jackknife+").fit(X)
    leave_one_out = ConformalDetector(windows(), method="jackknife+")
    assert len(leave_one_out.fit(X, groups=waves[1]).estimators_) == 12


@around
def test_groups_are_routed_through_pipelines_and_searches(calibrated, waves):
    X, groups = waves
    parameters = {"random_state": 0}
    if calibrated is not ConformalDetector:
        parameters = {"cv": GroupKFold(2)}
    detector = tuned(calibrated, windows(), **parameters)
    direct = clone(detector).fit(X, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(clone(detector)).fit(X, groups=groups)
        assert_array_equal(
            pipeline.predict(X, groups=groups), direct.predict(X, groups=groups)
        )
        search = GridSearchCV(
            clone(detector),
            {"detector__n_neighbors": [1]},
            cv=GroupKFold(2),
            scoring=lambda fitted, X, y=None: fitted.offset_,
        ).fit(X, groups=groups)
    assert pipeline[0].offset_ == search.best_estimator_.offset_ == direct.offset_
    first, second = GroupKFold(2).split(X, groups=groups)
    offsets = [
        clone(detector).fit(X[learn], groups=groups[learn]).offset_
        for learn, _ in (first, second)
    ]
    assert search.best_score_ == pytest.approx(np.mean(offsets))


# --------------------------------------------------------------------- inside of others


@around
def test_calibrated_detectors_go_where_detectors_go(calibrated, blobs):
    train, normal, _ = blobs
    inside = tuned(calibrated, KNN())
    if calibrated is ConformalDetector:
        inside.set_params(random_state=0)
    for outside in (
        skad.FeatureBagging(inside, n_estimators=2, random_state=0),
        skad.WindowDetector(inside, window_size=2),
        QuantileThreshold(inside),
        ConformalDetector(inside, false_alarm_rate=0.2, random_state=0),
    ):
        outside.fit(train)
        scores, maps = outside.score_samples(normal), outside.transform(normal)
        assert np.isfinite(scores).all()
        assert maps.shape == normal.shape
        found = outside.score_samples(torch.from_numpy(normal))
        assert_allclose(found.numpy(), scores, rtol=1e-6, atol=1e-9)


@around
def test_a_default_detector_is_taken_and_none_is_changed(calibrated, blobs):
    inner = KNN(n_neighbors=3)
    detector = tuned(calibrated, inner).fit(blobs[0])
    assert detector.detector is inner
    assert not hasattr(inner, "n_features_in_")
    detector.set_params(detector__n_neighbors=4)
    assert inner.n_neighbors == 4
    default = tuned(calibrated).fit(blobs[0])
    members = getattr(default, "estimators_", None) or [default.detector_]
    assert isinstance(members[0], Mahalanobis)
