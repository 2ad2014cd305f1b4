"""Probabilities and thresholds with labels: formulas, and all choices tried."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import erf, gammainc
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import ECOD, KNN, Energy, Mahalanobis
from skad.calibration import ProbabilityCalibrator, QuantileThreshold, ThresholdTuner
from skad.calibration._probability import WITH_LABELS
from skad.inspection import ThresholdDisplay

METHODS = ["linear", "gaussian", "gamma", "isotonic", "sigmoid"]


class Column(BaseEstimator):
    """Is as anomalous as a row's first value."""

    offset_ = -1.0

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def score_samples(self, X):
        return -np.asarray(X)[:, 0].astype(float)


def frozen():
    return FrozenEstimator(Column().fit(None))


def column(values):
    return np.asarray(values, dtype=float)[:, None]


@pytest.fixture(scope="module")
def labelled():
    """Return anomalies that a logistic model labels, for learning and for testing."""
    rng = np.random.default_rng(0)
    anomaly = rng.gamma(2.0, size=4000)
    y = np.where(rng.random(4000) < 1 / (1 + np.exp(4 - 1.2 * anomaly)), -1, 1)
    return column(anomaly[:2000]), y[:2000], column(anomaly[2000:]), y[2000:]


# ------------------------------------------------------------------------ probabilities


def test_unifying_scalings_are_the_papers(labelled):
    X, _, Q, _ = labelled
    a, q = X[:, 0], Q[:, 0]
    mean, deviation = a.mean(), a.std()
    k, theta = mean**2 / deviation**2, deviation**2 / mean
    at_mean = gammainc(k, mean / theta)
    expected = {
        "linear": np.clip((q - a.min()) / (a.max() - a.min()), 0, 1),
        "gaussian": np.maximum(0, erf((q - mean) / (deviation * np.sqrt(2)))),
        "gamma": np.maximum(0, (gammainc(k, q / theta) - at_mean) / (1 - at_mean)),
    }
    for method, probability in expected.items():
        found = ProbabilityCalibrator(frozen(), method=method).fit(X).predict_proba(Q)
        assert found.shape == (2000, 2)
        assert_allclose(found[:, 0], probability, rtol=1e-10, atol=1e-12)
        assert_allclose(found.sum(axis=1), 1)
        if method != "linear":
            assert (found[q <= mean, 0] == 0).all()
            assert (found[q > mean + 1e-6, 0] > 0).all()


def test_the_baseline_regularises(labelled):
    X, _, Q, _ = labelled
    for method in ("linear", "gaussian", "gamma"):
        plain = ProbabilityCalibrator(frozen(), method=method)
        above = plain.fit(np.maximum(0, X - 1.5)).predict_proba(np.maximum(0, Q - 1.5))
        found = clone(plain).set_params(baseline=1.5).fit(X).predict_proba(Q)
        assert_allclose(found, above, atol=1e-12)
    shifted = ProbabilityCalibrator(frozen(), method="gamma")
    least = clone(shifted).set_params(baseline="minimum").fit(X).predict_proba(Q)
    found = shifted.fit(X - 7).predict_proba(Q - 7)  # negative anomalies
    assert_allclose(found, least, atol=1e-9)


def test_isotonic_is_scikit_learns(labelled):
    X, y, Q, _ = labelled
    found = ProbabilityCalibrator(frozen(), method="isotonic").fit(X, y)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(X[:, 0], y == -1)
    rows = np.concatenate([Q, [[-5.0], [1e6]]])
    assert_allclose(found.predict_proba(rows)[:, 0], theirs.predict(rows[:, 0]))


def test_sigmoid_is_scikit_learns(labelled):
    X, y, Q, _ = labelled
    found = ProbabilityCalibrator(frozen(), method="sigmoid")
    for n in (2000, 60):
        probability = found.fit(X[:n], y[:n]).predict_proba(Q)[:, 0]
        # Platt's smoothed targets as weights of a row in either class
        n_anomalies, n_normal = (y[:n] == -1).sum(), (y[:n] == 1).sum()
        target = np.where(
            y[:n] == -1, (n_anomalies + 1) / (n_anomalies + 2), 1 / (n_normal + 2)
        )
        theirs = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(
            np.concatenate([X[:n], X[:n]]),
            np.repeat([1, 0], n),
            sample_weight=np.concatenate([target, 1 - target]),
        )
        assert_allclose(probability, theirs.predict_proba(Q)[:, 1], rtol=1e-4)
    # the labels follow this model
    slope, intercept = found.fit(X, y).curve_[1:]
    assert_allclose([slope, intercept], [1.2, -4], rtol=0.1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_probabilities_rise_with_the_anomaly(data):
    n = data.draw(st.integers(2, 30))
    value = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))
    anomaly = data.draw(st.lists(value, min_size=n, max_size=n))
    y = np.where(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), 1, -1)
    y[:2] = 1, -1
    probe = np.sort(np.array(data.draw(st.lists(value, min_size=2)) + anomaly))
    for method in METHODS:
        found = ProbabilityCalibrator(frozen(), method=method)
        # known anomalies do not count without labels
        found.fit(column(anomaly), y if method in WITH_LABELS else None)
        both = found.predict_proba(column(probe))
        assert np.isfinite(both).all()
        assert (np.diff(both[:, 0]) >= -1e-12).all()
        assert both.min() >= 0
        assert both.max() <= 1


def test_calibrated_probabilities_beat_the_raw_range(labelled):
    X, y, Q, truth = labelled
    raw = ProbabilityCalibrator(frozen(), method="linear").fit(X).predict_proba(Q)
    score = brier_score_loss(truth == -1, raw[:, 0])
    constant = brier_score_loss(truth == -1, np.full(len(Q), (y == -1).mean()))
    for method in WITH_LABELS:
        found = ProbabilityCalibrator(frozen(), method=method).fit(X, y)
        assert brier_score_loss(truth == -1, found.predict_proba(Q)[:, 0]) < min(
            score, 0.9 * constant
        )
        mean = found.predict_proba(Q)[:, 0].mean()
        assert mean == pytest.approx((truth == -1).mean(), abs=0.02)


def test_labels_that_contradict_the_scores_reverse_nothing():
    X, y = column(np.arange(40)), np.repeat([-1, 1], 20)
    for method in WITH_LABELS:
        found = ProbabilityCalibrator(frozen(), method=method).fit(X, y)
        assert_allclose(found.predict_proba(X)[:, 0], 0.5, atol=1e-6)


def test_scores_maps_and_threshold_are_the_detectors(blobs):
    train, normal, _ = blobs
    inner = KNN(contamination=0.2).fit(train)
    pipeline = make_pipeline(StandardScaler(), KNN(contamination=0.2)).fit(train)
    for detector, own in ((KNN(contamination=0.2), inner), (pipeline, pipeline[-1])):
        found = ProbabilityCalibrator(detector).fit(train)
        assert found.offset_ == own.offset_
        assert_array_equal(found.predict(normal), detector.fit(train).predict(normal))
        assert_array_equal(found.transform(normal), detector.transform(normal))
        tensor = found.predict_proba(torch.from_numpy(normal)) if own is inner else None
        if tensor is not None:
            assert_allclose(tensor.numpy(), found.predict_proba(normal), atol=1e-9)
    with pytest.raises(ValueError, match=r"KernelDensity\(\) has no threshold"):
        ProbabilityCalibrator(KernelDensity()).fit(train)
    within = QuantileThreshold(KernelDensity(), false_alarm_rate=0.2, cv=None)
    assert np.mean(ProbabilityCalibrator(within).fit(train).predict(train) == -1) > 0.1


def test_held_out_scores_calibrate(blobs):
    train = blobs[0]
    found = ProbabilityCalibrator(Mahalanobis(), cv=3).fit(train)
    folds = np.array_split(np.arange(len(train)), 3)
    a = np.concatenate(
        [
            -Mahalanobis().fit(np.delete(train, own, axis=0)).score_samples(train[own])
            for own in folds
        ]
    )
    assert_allclose(found.curve_[1:], [a.mean(), a.std()])
    y = np.ones(len(train), dtype=int)
    y[:5] = -1
    known = ProbabilityCalibrator(Mahalanobis(), cv=None).fit(train, y)
    a = -Mahalanobis().fit(train).score_samples(train[5:])
    assert_allclose(known.curve_[1:], [a.mean(), a.std()])
    # without the anomalies, and each as if it had not been learned from
    known = ProbabilityCalibrator(KNN(n_neighbors=1)).fit(train, y)
    near = np.linalg.norm(train[:, None] - train, axis=2) + np.diag([np.inf] * len(y))
    a = near.min(axis=1)[5:]
    assert_allclose(known.curve_[1:], [a.mean(), a.std()])


def test_constant_and_huge_scores_have_probabilities():
    for values in (np.full(9, 0.1), np.zeros(9), 1e200 * np.arange(9.0)):
        for method in ("linear", "gaussian", "gamma"):
            found = ProbabilityCalibrator(frozen(), method=method).fit(column(values))
            both = found.predict_proba(column([values[0], values[-1] + 5, 1e300]))
            assert np.isfinite(both).all()
            assert both[0, 0] == pytest.approx(0, abs=1e-9)
            assert both[2, 0] == pytest.approx(1)


@pytest.mark.parametrize("method", WITH_LABELS)
@pytest.mark.parametrize("y", [None, np.ones(50), -np.ones(50), np.zeros(50)])
def test_calibration_without_both_labels_is_an_error(method, y, labelled):
    found = ProbabilityCalibrator(frozen(), method=method)
    assert found.__sklearn_tags__().target_tags.required
    with pytest.raises(ValueError, match=f"method='{method}' needs labels y of both"):
        found.fit(labelled[0][:50], y)
    assert not hasattr(found, "offset_")


def test_rows_without_a_label_do_not_count(labelled):
    X, y, Q, _ = labelled
    partly = np.where(np.arange(2000) < 500, y, 0)
    for method in WITH_LABELS:
        found = ProbabilityCalibrator(frozen(), method=method)
        few = clone(found).fit(X[:500], y[:500]).predict_proba(Q)
        assert_allclose(found.fit(X, partly).predict_proba(Q), few)


# --------------------------------------------------------------------------- thresholds


def brute_force(scores, y, value):
    """Return the best value over all ways to cut the scores."""
    cuts = np.unique(scores)
    predictions = [np.ones(len(scores), dtype=int)]
    predictions += [np.where(scores <= cut, -1, 1) for cut in cuts]
    values = [value(y, labels) for labels in predictions]
    return max(v for v in values if v is not None)


def f1(y, alarm):
    return 2 * np.sum(alarm & (y == -1)) / (np.sum(alarm) + np.sum(y == -1))


def precision_and_recall(y, labels):
    """Return the two by counting; the precision of no alarm is None."""
    alarms = [truth for truth, label in zip(y, labels, strict=True) if label == -1]
    hits = sum(truth == -1 for truth in alarms)
    return hits / len(alarms) if alarms else None, hits / np.sum(y == -1)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_tuner_tries_all_thresholds(data):
    n = data.draw(st.integers(2, 15))
    value = st.one_of(st.integers(-4, 4).map(float), st.floats(-1e9, 1e9))
    anomaly = np.array(data.draw(st.lists(value, min_size=n, max_size=n)))
    y = np.where(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), 1, -1)
    y[:2] = 1, -1
    X = column(anomaly)
    beta = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    cost = np.array(data.draw(st.lists(st.integers(-2, 9), min_size=4, max_size=4)))
    cost = cost.reshape(2, 2).astype(float)
    target = data.draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))

    def mean_cost(y, labels):
        return -np.mean(cost[(y == 1).astype(int), (labels == 1).astype(int)])

    def f_beta(y, labels):
        precision, recall = precision_and_recall(y, labels)
        if not precision:
            return 0.0
        return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)

    def recall_at(y, labels):
        precision, recall = precision_and_recall(y, labels)
        return recall if precision is not None and precision >= target else None

    def precision_at(y, labels):
        precision, recall = precision_and_recall(y, labels)
        return precision if recall >= target else None

    objectives = {
        "f_beta": f_beta,
        "cost": mean_cost,
        "recall": recall_at,
        "precision": precision_at,
    }
    for name, objective in objectives.items():
        tuner = ThresholdTuner(
            frozen(), objective=name, beta=beta, cost=cost, target=target
        )
        try:
            best = brute_force(-anomaly, y, objective)
        except ValueError:  # nothing is allowed
            with pytest.raises(ValueError, match=f"target={target} is a precision"):
                tuner.fit(X, y)
            continue
        tuner.fit(X, y)
        assert_allclose(tuner.best_score_, best, atol=1e-12)
        # what is promised is what the predictions give
        assert_allclose(objective(y, tuner.predict(X)), best, atol=1e-12)
        assert tuner.offset_ == tuner.best_threshold_


def test_the_fewest_alarms_of_equals():
    y = np.array([-1, 1, 1, -1, 1])
    tuner = ThresholdTuner(frozen(), objective="precision", target=0.5)
    assert tuner.fit(column([5, 4, 3, 2, 1]), y).best_score_ == 1.0
    assert_array_equal(tuner.predict(column([5, 4])), [-1, 1])
    assert tuner.best_threshold_ == -4.5  # halfway


def test_a_number_is_the_cost_of_a_miss(labelled):
    X, y, _, _ = labelled
    by_number = ThresholdTuner(frozen(), objective="cost", cost=4).fit(X, y)
    by_matrix = ThresholdTuner(frozen(), objective="cost", cost=[[0, 4], [1, 0]])
    assert by_matrix.fit(X, y).best_threshold_ == by_number.best_threshold_
    # flag where the probability is above 1 / (1 + 4); the labels' model says where
    optimal = (4 - np.log(4)) / 1.2
    assert -by_number.best_threshold_ == pytest.approx(optimal, abs=0.4)


def test_the_curve_is_what_predictions_give(labelled):
    X, y = labelled[0][:200], labelled[1][:200]
    tuner = ThresholdTuner(frozen()).fit(X, y)
    curve = tuner.curve_
    assert (np.diff(curve["thresholds"]) > 0).all()
    assert np.isnan(curve["precision"][0])
    for i in range(1, len(curve["thresholds"]), 37):
        labels = np.where(-X[:, 0] < curve["thresholds"][i], -1, 1)
        both = curve["precision"][i], curve["recall"][i]
        assert both == precision_and_recall(y, labels)
        assert curve["alarm_rate"][i] == np.mean(labels == -1)
        assert curve["scores"][i] == pytest.approx(f1(y, labels == -1))
    assert curve["scores"].max() == tuner.best_score_
    display = ThresholdDisplay(
        curve["thresholds"] - tuner.offset_,
        curve["alarm_rate"],
        curve["precision"],
        curve["recall"],
    )
    pytest.importorskip("matplotlib")
    assert display.plot().ax_ is not None


def test_thresholds_come_from_held_out_scores(blobs):
    train, _, anomalies = blobs
    X = np.concatenate([train, anomalies])
    y = np.repeat([1, -1], [300, 40])
    tuner = ThresholdTuner(Mahalanobis(), cv=4).fit(X, y)
    held_out = np.empty(340)
    for fold, test in StratifiedKFold(4).split(X, y):
        held_out[test] = Mahalanobis().fit(X[fold]).score_samples(X[test])
    scores = [f1(y, held_out <= cut) for cut in held_out]
    assert tuner.best_score_ >= max(scores)
    assert tuner.best_score_ == f1(y, held_out < tuner.best_threshold_)
    assert tuner.curve_["thresholds"][0] == held_out.min()
    whole = Mahalanobis().fit(X)
    assert_array_equal(tuner.score_samples(X), whole.score_samples(X))
    inside = ThresholdTuner(FrozenEstimator(whole)).fit(X, y)
    assert inside.best_threshold_ != tuner.best_threshold_
    assert ThresholdTuner(Mahalanobis(), cv=None).fit(X, y).offset_ == inside.offset_


def test_without_labels_the_threshold_stays(blobs):
    train = blobs[0]
    unlabelled = [None, np.ones(300), -np.ones(300), np.zeros(300)]
    for y in unlabelled:
        with pytest.warns(UserWarning, match="tunes nothing without labels y of both"):
            tuner = ThresholdTuner(KNN()).fit(train, y)
        assert tuner.offset_ == KNN().fit(train).offset_
        assert not hasattr(tuner, "curve_")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ThresholdTuner(KNN()).fit(train, np.where(np.arange(300) % 9, 1, -1))


def test_classes_and_outliers_are_told_apart(blobs):
    train, _, anomalies = blobs
    X = np.concatenate([train, anomalies])
    classes = (X[:, 0] > 0).astype(int)
    y_ood = np.repeat([1, -1], [300, 40])
    detector = Energy(LogisticRegression())
    tuner = ThresholdTuner(detector, cv=None).fit(X, classes, y_ood=y_ood)
    scores = tuner.detector_.score_samples(X)
    best = brute_force(scores, y_ood, lambda y, p: f1(y, p == -1))
    assert tuner.best_score_ == pytest.approx(best)
    again = ThresholdTuner(detector, cv=None).fit(X, y_ood, y_class=classes)
    assert again.best_threshold_ == tuner.best_threshold_


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"objective": "accuracy"}, "'objective' parameter"),
        ({"beta": 0}, "'beta' parameter"),
        ({"target": 1.5}, "'target' parameter"),
        ({"cost": -1}, "'cost' parameter"),
        ({"objective": "cost", "cost": [1, 2]}, "cost=.* matrix"),
        ({"objective": "cost", "cost": [[0, np.nan], [1, 0]]}, "cost=.* finite"),
        ({"objective": "recall", "target": 1.0}, "target=1.0 is a precision .* 0.5"),
    ],
)
def test_tuner_parameters_out_of_range(setting, message):
    X, y = column([4, 3, 2, 1]), np.array([1, -1, 1, -1])
    with pytest.raises(ValueError, match=message):
        ThresholdTuner(frozen(), **setting).fit(X, y)


def test_calibrator_parameters_out_of_range():
    for setting in ({"method": "beta"}, {"baseline": "mean"}):
        with pytest.raises(ValueError, match=f"'{next(iter(setting))}' parameter"):
            ProbabilityCalibrator(frozen(), **setting).fit(column([1, 2]))


def test_files_keep_what_was_calibrated(blobs, tmp_path):
    train, normal, anomalies = blobs
    X, y = np.concatenate([train, anomalies]), np.repeat([1, -1], [300, 40])
    for method in METHODS:
        within = ThresholdTuner(ECOD(), cv=2)
        found = ProbabilityCalibrator(within, method=method).fit(X, y)
        skad.save(found, tmp_path / "one.skad")
        loaded = skad.load(tmp_path / "one.skad")
        assert_array_equal(loaded.predict_proba(normal), found.predict_proba(normal))
        assert_array_equal(loaded.predict(normal), found.predict(normal))
        assert loaded.detector_.best_score_ == within.fit(X, y).best_score_


@pytest.mark.parametrize(
    "detector",
    [
        skad.SVDD(),
        skad.QuantileThreshold(),
        skad.ProbabilityCalibrator(),
        skad.DeepSAD(max_epochs=1, pretrain_epochs=1, hidden_sizes=(4,)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_labels_that_name_no_anomaly_get_a_warning(detector):
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = np.repeat([0, 1], [36, 4])  # as in PyOD
    with pytest.warns(UserWarning, match=r"np.where\(y == 1, -1, 1\)"):
        clone(detector).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(detector).fit(X, np.where(y == 1, -1, 1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [2.2e-313, 1e-300])
def test_probabilities_of_almost_equal_anomalies_are_finite(method, size):
    anomaly, y = [0.0, size], np.array([1, -1])
    found = ProbabilityCalibrator(frozen(), method=method)
    found.fit(column(anomaly), y if method in WITH_LABELS else None)
    both = found.predict_proba(column(np.array(anomaly)))
    assert np.isfinite(both).all()
    assert both[1, 0] >= both[0, 0]
