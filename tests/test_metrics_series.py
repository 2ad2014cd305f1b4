"""Metrics of series: figures of the reference implementations, definitions, traps.

The constants are those of TSB_AD 1.5, aeon 1.6.0, dtaianomaly 0.5.1, prts 1.0.0.3,
PATE 0.1.1 and the affiliation package that TSB_AD carries, on the series made here.
"""

import pickle
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad.metrics as metrics
from skad import KNN
from tests import _naive
from tests._series_data import load_machine

EVENTS = {
    0: [(50, 20), (120, 5), (130, 10)],  # buffers that merge
    1: [(0, 8), (150, 3), (290, 10)],  # events at both ends, ties
    2: [(10, 1), (20, 1), (200, 60)],  # points and a long event, ties
}


def series(seed):
    rng = np.random.default_rng(seed)
    anomalous = np.zeros(300, dtype=bool)
    for start, length in EVENTS[seed]:
        anomalous[start : start + length] = True
    score = rng.normal(size=300) + 1.5 * anomalous
    return anomalous, np.round(score) if seed else score


def over_one(metric, **params):
    return lambda y, score: metric(y, score > 1.0, **params)


def with_params(metric, **params):
    return lambda y, score: metric(y, score, **params)


def best_range_f1(y, score):
    def f1(y, flagged):
        p = metrics.range_precision(y, flagged)
        r = metrics.range_recall(y, flagged, alpha=0.2)
        return 2 * p * r / (p + r) if p + r else 0.0

    return metrics.best_over_thresholds(f1, y, score)


def best_affiliation_f1(y, score):
    def f1(y, flagged):
        p = metrics.affiliation_precision(y, flagged)
        r = metrics.affiliation_recall(y, flagged)
        return 2 * p * r / (p + r)

    return metrics.best_over_thresholds(f1, y, score)


W20, OLD = {"window": 20}, {"window": 20, "form": "original"}
B20 = {"early_buffer": 20, "delay_buffer": 20}
GOLDEN = {
    # name: (metric, figures for the three series)
    "TSB_AD VUS_PR": (
        with_params(metrics.vus_pr, **W20),
        (0.62233121, 0.43948458, 0.58086954),
    ),
    "TSB_AD VUS_ROC": (
        with_params(metrics.vus_roc, **W20),
        (0.9211572, 0.9232573, 0.86047311),
    ),
    "aeon range_pr_vus_score": (
        with_params(metrics.vus_pr, **OLD),
        (0.57153891, 0.39033064, 0.64266361),
    ),
    "aeon range_roc_vus_score": (
        with_params(metrics.vus_roc, **OLD),
        (0.88288289, 0.84229962, 0.81829478),
    ),
    "aeon range_pr_auc_score": (
        with_params(metrics.range_auc_pr, **OLD),
        (0.58782698, 0.39181758, 0.65565371),
    ),
    "aeon range_roc_auc_score": (
        with_params(metrics.range_auc_roc, **OLD),
        (0.88162036, 0.81008437, 0.80850448),
    ),
    "TSB_AD last buffer PR": (
        with_params(metrics.range_auc_pr, **W20),
        (0.68719797, 0.46884154, 0.62861887),
    ),
    "TSB_AD last buffer ROC": (
        with_params(metrics.range_auc_roc, **W20),
        (0.95335131, 0.94253016, 0.88550072),
    ),
    "sklearn average precision": (
        metrics.average_precision,
        (0.56393731, 0.39781579, 0.56098994),
    ),
    "sklearn best F1": (metrics.best_f1, (0.6, 0.58333333, 0.58715596)),
    "prts precision": (
        over_one(metrics.range_precision),
        (0.18928571, 0.33333333, 0.54545455),
    ),
    "prts recall, early bias": (
        over_one(metrics.range_recall, alpha=0.3, bias="front"),
        (0.52387879, 0.56416947, 0.7747393),
    ),
    "prts recall, middle": (
        over_one(metrics.range_recall, bias="middle", cardinality="one"),
        (0.78350168, 0.58333333, 0.83942652),
    ),
    "TSB_AD R-based F1": (best_range_f1, (0.46300468, 0.38257576, 0.62860506)),
    "affiliation precision": (
        over_one(metrics.affiliation_precision),
        (0.71362634, 0.78393062, 0.67473673),
    ),
    "affiliation recall": (
        over_one(metrics.affiliation_recall),
        (0.99789503, 0.99539825, 0.99885664),
    ),
    "TSB_AD affiliation F": (
        best_affiliation_f1,
        (0.93038246, 0.87709831, 0.80541101),
    ),
    "TSB_AD event F1": (
        over_one(metrics.event_f1),
        (0.55319149, 0.68292683, 0.81012658),
    ),
    "TSB_AD PA-F1": (
        over_one(metrics.point_adjusted_f1),
        (0.625, 0.76363636, 0.89208633),
    ),
    # the published rules, looped over: tadpak 1 and the KPI competition's
    "PA%60": (over_one(metrics.pa_k_f1, k=60), (0.625, 0.71698113, 0.58715596)),
    "PA%K AUC": (metrics.pa_k_auc, (0.78097998, 0.69468139, 0.76518969)),
    "delay 0": (
        over_one(metrics.delay_f1, delay=0),
        (0.49019608, 0.48888889, 0.89208633),
    ),
    "PATE": (with_params(metrics.pate, **B20), (0.60701631, 0.4686191, 0.68427366)),
    "PATE, two splits": (
        with_params(
            metrics.pate,
            early_buffer=10,
            delay_buffer=30,
            n_splits=2,
            include_zero=False,
        ),
        (0.6183705, 0.4777292, 0.69582043),
    ),
    "PATE, all thresholds": (
        with_params(metrics.pate, n_thresholds=None, **B20),
        (0.60815763, 0.4686191, 0.68427366),
    ),
    "PATE F1": (
        over_one(metrics.pate_f1, **B20),
        (0.55959069, 0.64008197, 0.6035814),
    ),
}
SCORED = [
    metrics.vus_pr,
    metrics.vus_roc,
    metrics.range_auc_pr,
    metrics.range_auc_roc,
    metrics.average_precision,
    metrics.best_f1,
    metrics.pa_k_auc,
    metrics.pate,
    metrics.ucr_score,
]
JUDGED = [
    metrics.range_precision,
    metrics.range_recall,
    metrics.affiliation_precision,
    metrics.affiliation_recall,
    metrics.event_f1,
    metrics.point_adjusted_f1,
    metrics.pa_k_f1,
    metrics.delay_f1,
    metrics.pate_f1,
]


def name(member):
    return getattr(member, "__name__", None)


@pytest.mark.filterwarnings("ignore:Point adjustment")
@pytest.mark.parametrize("seed", EVENTS)
@pytest.mark.parametrize("case", GOLDEN)
def test_figures_of_the_reference_implementations(case, seed):
    metric, figures = GOLDEN[case]
    y, score = series(seed)
    assert metric(y, score) == pytest.approx(figures[seed], abs=1e-6)


def test_anchors(shared):
    with np.load(shared / "series" / "metric_anchor.npz") as file:
        y, score = file["y"], file["score"]
    expected = {
        (metrics.vus_roc, "tsb"): 0.8339,
        (metrics.vus_pr, "tsb"): 0.4497,
        (metrics.vus_roc, "original"): 0.7472,
        (metrics.vus_pr, "original"): 0.3619,
    }
    for (metric, form), figure in expected.items():
        found = metric(y, score, window=100, form=form, pos_label=1)
        assert found == pytest.approx(figure, abs=1e-4), (metric, form)
    pate = metrics.pate(y, score, pos_label=1)
    assert pate == pytest.approx(0.447637, abs=1e-6)
    pate = metrics.pate(y, score, early_buffer=40, delay_buffer=40, pos_label=1)
    assert pate == pytest.approx(0.415804, abs=1e-6)


def test_pate_leaves_out_points_where_recall_falls():
    """A hit before the first stretch makes it shorter, and misses weigh more."""
    y, score = np.zeros(60, dtype=bool), np.zeros(60)
    y[10:30] = True
    score[14:24], score[11], score[:5] = 3, 2, 1
    params = {"early_buffer": 0, "delay_buffer": 0, "n_thresholds": None}
    assert metrics.pate(y, score, **params) == pytest.approx(0.87493149, abs=1e-8)


# ------------------------------------------------------------------ against definitions


@st.composite
def scored(draw, min_size=2, max_size=40):
    """A mask with an anomaly and a normal step, and scores with ties."""
    n = draw(st.integers(min_size, max_size))
    mask = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if draw(st.booleans()):  # runs, as events are
        mask = np.repeat(mask, 3)[:n]
    i = draw(st.integers(0, n - 1))
    mask[i], mask[(i + 1) % n] = True, False
    levels = draw(st.sampled_from([1, 3, 1000]))
    score = draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))
    return mask, np.array(score, dtype=float)


FORMS = st.sampled_from(["tsb", "original"])


@settings(max_examples=80, deadline=None)
@given(scored(), st.integers(0, 15), FORMS, st.sampled_from([2, 7, 250]))
def test_volumes(data, window, form, n_thresholds):
    y, score = data
    pr, roc = _naive.volume(y, score, window, form, n_thresholds)
    params = {"window": window, "form": form, "n_thresholds": n_thresholds}
    assert metrics.vus_pr(y, score, **params) == pytest.approx(pr, abs=1e-9)
    assert metrics.vus_roc(y, score, **params) == pytest.approx(roc, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    scored(),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["flat", "front", "middle", "back"]),
    st.sampled_from(["reciprocal", "one"]),
)
def test_ranges(data, alpha, bias, cardinality):
    y, score = data
    flagged = score >= np.median(score)
    params = {"alpha": alpha, "bias": bias, "cardinality": cardinality}
    expected = _naive.range_reward(y, flagged, **params)
    assert metrics.range_recall(y, flagged, **params) == pytest.approx(expected)
    expected = _naive.range_reward(flagged, y, **params)
    assert metrics.range_precision(y, flagged, **params) == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(scored())
def test_affiliation(data):
    y, score = data
    flagged = score >= np.quantile(score, 0.7)
    precision, recall = _naive.affiliation(y, flagged)
    assert metrics.affiliation_precision(y, flagged) == pytest.approx(precision)
    assert metrics.affiliation_recall(y, flagged) == pytest.approx(recall)


@settings(max_examples=80, deadline=None)
@given(scored(), st.integers(0, 9), st.integers(0, 9))
def test_proximity(data, early, delay):
    y, score = data
    # n_splits=1 without 0 is one pair of buffers
    params = {"early_buffer": early, "delay_buffer": delay, "include_zero": False}
    flagged = score >= np.quantile(score, 0.7)
    precision, recall = _naive.proximity(y, flagged, early, delay)
    total = precision + recall
    expected = 2 * precision * recall / total if total else 0.0
    assert metrics.pate_f1(y, flagged, **params) == pytest.approx(expected)

    values = np.unique(score)[::-1]
    hits = [y[score >= value].sum() for value in values]
    curve = [(1.0, 0.0)]
    for k, value in enumerate(values):
        same = 0 < k < len(values) - 1 and hits[k - 1] == hits[k] == hits[k + 1]
        point = _naive.proximity(y, score >= value, early, delay)
        if not same and point[1] >= curve[-1][1] - 1e-12:
            curve.append(point)
    area = np.trapezoid([p for p, _ in curve], [r for _, r in curve])
    found = metrics.pate(y, score, n_thresholds=None, **params)
    assert found == pytest.approx(area, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Point adjustment")
@settings(max_examples=60, deadline=None)
@given(scored(), st.integers(0, 100), st.integers(0, 4))
def test_adjusted(data, k, delay):
    y, score = data
    flagged = score >= np.quantile(score, 0.7)

    def enough(k):
        return lambda event: True if 100 * event.sum() > k * len(event) else None

    expected = _naive.adjusted_f1(y, flagged, enough(k))
    assert metrics.pa_k_f1(y, flagged, k=k) == pytest.approx(expected)
    expected = _naive.adjusted_f1(y, flagged, enough(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics.point_adjusted_f1(y, flagged) == pytest.approx(expected)
    soon = _naive.adjusted_f1(y, flagged, lambda event: event[: delay + 1].any())
    assert metrics.delay_f1(y, flagged, delay=delay) == pytest.approx(soon)

    values = np.unique(score)
    best = [
        max(_naive.adjusted_f1(y, score >= t, enough(k)) for t in values)
        for k in range(101)
    ]
    area = np.trapezoid(best, dx=0.01)
    assert metrics.pa_k_auc(y, score) == pytest.approx(area)
    assert metrics.best_f1(y, score) == pytest.approx(best[100])


@settings(max_examples=60, deadline=None)
@given(scored())
def test_points_and_events(data):
    y, score = data
    expected = average_precision_score(y, score)
    assert metrics.average_precision(y, score) == pytest.approx(expected)
    flagged = score >= np.quantile(score, 0.7)
    recall = np.mean([flagged[a : b + 1].any() for a, b in _naive.events_of(y)])
    precision = y[flagged].mean()
    expected = 2 * recall * precision / (recall + precision) if precision else 0.0
    assert metrics.event_f1(y, flagged) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(scored(), st.integers(0, 12), FORMS)
def test_only_ranks_of_scores_matter(data, window, form):
    y, score = data
    moved = np.exp(score / 100) * 3 - 7
    params = {"window": window, "form": form}
    for metric in (metrics.vus_pr, metrics.vus_roc):
        found = metric(y, score, **params)
        assert metric(y, moved, **params) == pytest.approx(found, abs=1e-12)
        assert -1e-9 <= found <= 1 + 1e-9
    for metric in (metrics.average_precision, metrics.best_f1, metrics.pa_k_auc):
        assert metric(y, moved) == pytest.approx(metric(y, score))


# ---------------------------------------------------------------- the convention, traps


@pytest.mark.filterwarnings("ignore:Point adjustment")
@pytest.mark.parametrize("metric", SCORED + JUDGED, ids=name)
def test_labels_in_every_code(metric):
    y, score = series(0)
    if metric is metrics.ucr_score:
        y[100:] = False
    given_ = score > 1 if metric in JUDGED else score
    expected = metric(y, given_)
    coded = np.where(y, -1, 1)
    assert metric(coded, given_) == expected
    assert metric(coded.tolist(), given_.tolist()) == expected
    zero_one = y.astype(int)
    judged = zero_one if metric not in JUDGED else given_.astype(int)
    values = score if metric in SCORED else judged
    assert metric(zero_one, values, pos_label=1) == expected
    assert isinstance(expected, float)
    with pytest.raises(ValueError, match=r"labels other than .*: 0\. Pass pos_label"):
        metric(zero_one, given_)
    text = np.where(y, "bad", "good")
    if metric in SCORED:
        assert metric(text, score, pos_label="bad") == expected


@pytest.mark.filterwarnings("ignore:Point adjustment")
@pytest.mark.parametrize("metric", SCORED + JUDGED, ids=name)
def test_bad_input(metric):
    y, score = series(0)
    other = score if metric in SCORED else score > 1
    with pytest.raises(ValueError, match="300 labels"):
        metric(y, other[:-1])
    with pytest.raises(ValueError, match="one value per sample"):
        metric(y[:, None], other[:, None])
    with pytest.raises(ValueError, match="empty"):
        metric(y[:0], other[:0])
    with pytest.raises(ValueError, match="y_true contains NaN"):
        metric(np.where(y, -1.0, np.nan), other)
    if metric in SCORED:
        for value, kind in [(np.nan, "NaN"), (np.inf, "infinity")]:
            broken = np.where(np.arange(300) == 7, value, score)
            with pytest.raises(ValueError, match=f"anomaly_score contains {kind}"):
                metric(y, broken)
        with pytest.raises(ValueError, match="expected numbers"):
            metric(y, score.astype(str))
    else:
        with pytest.raises(ValueError, match="y_pred has labels other than"):
            metric(y, score)


@pytest.mark.parametrize("metric", SCORED + JUDGED, ids=name)
def test_without_an_anomaly(metric):
    y, score = np.ones(300), series(0)[1]
    other = score if metric in SCORED else score > 1
    with pytest.warns(UndefinedMetricWarning, match="no anomaly"):
        assert np.isnan(metric(y, other))


@pytest.mark.filterwarnings("ignore:Point adjustment")
@pytest.mark.parametrize("metric", SCORED, ids=name)
def test_constant_scores(metric):
    y = series(2)[0]
    y[:100] = False
    rate = y.mean()
    found = metric(y, np.full(300, 0.3))
    expected = {
        metrics.average_precision: rate,
        metrics.best_f1: 2 * rate / (1 + rate),
        metrics.pa_k_auc: 2 * rate / (1 + rate),
        metrics.ucr_score: 200 / 300,  # steps 100 to 299 are near enough
    }
    if metric in expected:
        assert found == pytest.approx(expected[metric])
    else:
        assert 0 <= found <= 1


def test_all_steps_anomalous():
    y, score = np.ones(50, dtype=bool), np.arange(50.0)
    assert metrics.vus_pr(y, score) == pytest.approx(1)
    with pytest.warns(UndefinedMetricWarning, match="no normal step"):
        assert np.isnan(metrics.vus_roc(y, score))


def test_nothing_flagged():
    y, nothing = series(0)[0], np.zeros(300, dtype=bool)
    with pytest.warns(UndefinedMetricWarning, match="flags nothing"):
        assert np.isnan(metrics.affiliation_precision(y, nothing))
    assert metrics.affiliation_recall(y, nothing) == 0
    assert metrics.range_precision(y, nothing) == 0
    assert metrics.event_f1(y, nothing) == 0
    assert metrics.pate_f1(y, nothing) == 0


@pytest.mark.parametrize(
    ("metric", "params", "match"),
    [
        (metrics.vus_pr, {"window": -1}, "window=-1 must be at least 0"),
        (metrics.vus_pr, {"window": 2.0}, "window=2.0 must be an int"),
        (metrics.vus_roc, {"form": "opt"}, "form='opt' must be one of 'tsb'"),
        (metrics.range_auc_pr, {"n_thresholds": 0}, "n_thresholds=0"),
        (metrics.pate, {"early_buffer": -1}, "early_buffer=-1"),
        (metrics.pate, {"delay_buffer": -1}, "delay_buffer=-1"),
        (metrics.pate, {"n_splits": 0}, "n_splits=0"),
        (metrics.pate, {"n_thresholds": 0}, "n_thresholds=0"),
        (metrics.ucr_score, {"tolerance": -1}, "tolerance=-1"),
        (metrics.range_recall, {"alpha": 1.1}, "alpha=1.1"),
        (metrics.range_recall, {"bias": "late"}, "bias='late'"),
        (metrics.range_precision, {"cardinality": "two"}, "cardinality='two'"),
        (metrics.pa_k_f1, {"k": 101}, "k=101"),
        (metrics.delay_f1, {"delay": -1}, "delay=-1"),
    ],
)
def test_parameters_out_of_range(metric, params, match):
    y, score = series(0)
    with pytest.raises((ValueError, TypeError), match=match):
        metric(y, score > 1 if metric in JUDGED else score, **params)


def test_the_volume_takes_late_hits_and_noise_for_what_they_are():
    y = np.zeros(2000, dtype=bool)
    y[700:760] = True
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=2000)
    late = noise + 2 * np.roll(y, 20)
    near = metrics.vus_pr(y, late, window=100)
    far = metrics.vus_pr(y, noise + 2 * np.roll(y, 200), window=100)
    assert near > 0.6 > 0.1 > far
    of_noise = [
        metrics.vus_pr(y, rng.uniform(size=2000), window=100) for _ in range(20)
    ]
    assert 0.03 < np.mean(of_noise) < 0.06  # 3 % of the steps are anomalous
    of_noise = [metrics.vus_roc(y, rng.uniform(size=2000)) for _ in range(20)]
    assert np.mean(of_noise) > 0.55


def test_ucr():
    y, score = np.zeros(1000, dtype=bool), np.zeros(1000)
    y[500:510] = True
    for step, right in [(400, 1), (399, 0), (609, 1), (610, 0), (505, 1)]:
        score[:] = 0
        score[step] = 1
        assert metrics.ucr_score(y, score) == right
    y[300:500] = True  # an event of 210 steps counts that far around
    score[:] = 0
    score[719] = 1
    assert metrics.ucr_score(y, score) == 1
    score[720] = 1
    assert metrics.ucr_score(y, score) == 0.5
    y[100] = True
    with pytest.raises(ValueError, match="2 events"):
        metrics.ucr_score(y, score)


def test_point_adjustment_says_what_noise_reaches(shared):
    with np.load(shared / "series" / "smd" / "machine-1-7.npz") as file:
        y = file["label"] > 0
    rng = np.random.default_rng(1)
    values = np.quantile(rng.uniform(size=len(y)), np.linspace(0.9, 1, 100))
    noise = rng.uniform(size=len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = max(metrics.point_adjusted_f1(y, noise > t) for t in values)
    with pytest.warns(UserWarning, match="random score reaches") as caught:
        metrics.point_adjusted_f1(y, noise > 0.99)
    said = float(re.search(r"F1 of (\d\.\d+)", str(caught[0].message))[1])
    assert said == pytest.approx(best, abs=0.03)
    assert said == pytest.approx(0.94, abs=0.02)  # other noise on the same labels
    assert metrics.pa_k_auc(y, noise) == pytest.approx(0.357, abs=0.03)
    assert metrics.vus_pr(y, noise, window=64) == pytest.approx(0.125, abs=0.01)


# --------------------------------------------------------------------------- channels


def test_hit_rate():
    causes = np.zeros((6, 4), dtype=bool)
    causes[1:3, [0, 2]] = True
    causes[3:5, [1]] = True  # another event at once behind it
    maps = np.zeros((6, 4))
    maps[1], maps[2], maps[3], maps[4] = [5, 1, 0, 3], [0, 0, 4, 0], [1] * 4, [2] * 4
    # first event: maxima 5 1 4 3, both causes on top; second: all tie, chance 1/4
    assert metrics.hit_rate_at(causes, maps) == pytest.approx((1 + 1 / 4) / 2)
    steps = [1 / 2, 1 / 2 * (1 + 1 / 3), 1 / 4, 1 / 4]
    assert metrics.hit_rate_at(causes, maps, per="step") == pytest.approx(
        np.mean(steps)
    )
    # the second event looks at one channel, then at none
    assert metrics.hit_rate_at(causes, maps, percent=150) == pytest.approx(5 / 8)
    assert metrics.hit_rate_at(causes, maps, percent=50) == pytest.approx(1 / 4)
    assert metrics.hit_rate_at(causes, maps, percent=1000) == 1
    coded = np.where(causes, -1, 1)
    assert metrics.hit_rate_at(coded, maps) == metrics.hit_rate_at(causes, maps)
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(metrics.hit_rate_at(np.zeros((6, 4), dtype=bool), maps))
    for bad, match in [({"per": "row"}, "per='row'"), ({"percent": 0}, "percent=0")]:
        with pytest.raises(ValueError, match=match):
            metrics.hit_rate_at(causes, maps, **bad)
    with pytest.raises(ValueError, match="shapes"):
        metrics.hit_rate_at(causes, maps[:, :3])
    with pytest.raises(ValueError, match="maps contains NaN"):
        metrics.hit_rate_at(causes, np.full((6, 4), np.nan))


def test_hit_rate_against_sorting():
    rng = np.random.default_rng(0)
    causes = np.repeat(rng.uniform(size=(20, 7)) < 0.3, 5, axis=0)
    maps = rng.normal(size=causes.shape)
    for percent in (100, 150):
        rates = []
        for row, score in zip(causes, maps, strict=True):
            truth = set(np.flatnonzero(row))
            if truth:
                top = np.argsort(-score)[: int(len(truth) * percent / 100)]
                rates.append(len(truth & set(top)) / len(truth))
        found = metrics.hit_rate_at(causes, maps, percent=percent, per="step")
        assert found == pytest.approx(np.mean(rates))


def test_hit_rate_on_server_machines(shared):
    for machine, figure in [("smd_1-7", 0.87), ("smd_2-1", 0.51)]:
        train, test, _, causes = load_machine(shared, machine)
        deviation = np.maximum(train.std(axis=0), 1e-3)
        z = np.abs(test - train.mean(axis=0)) / deviation
        noise = np.random.default_rng(0).uniform(size=test.shape)
        assert metrics.hit_rate_at(causes, z) == pytest.approx(figure, abs=0.05)
        assert metrics.hit_rate_at(causes, noise) < 0.4


# ---------------------------------------------------------------------------- scorers


class Passing(OutlierMixin, BaseEstimator):
    """Scores rows by `sign` times the first column; takes groups like a series does."""

    __metadata_request__fit = {"groups": True}

    def __init__(self, sign=-1.0):
        self.sign = sign

    def fit(self, X, y=None, groups=None):
        self.fitted_ = groups
        return self

    def score_samples(self, X, groups=None):
        self.seen = groups
        return self.sign * np.asarray(X)[:, 0]

    def predict(self, X):
        return np.where(self.score_samples(X) < -1, -1, 1)


def labelled_stream():
    """600 rows of which the first half has no anomaly."""
    rng = np.random.default_rng(0)
    y = np.ones(600, dtype=int)
    y[330:350] = y[480:500] = -1
    X = rng.normal(size=(600, 2))
    X[:, 0] += 4 * (y < 0)
    return X, y


SCORERS = [
    metrics.vus_pr_scorer(20),
    metrics.vus_roc_scorer(20, form="original"),
    metrics.pate_scorer(10, 10),
    metrics.average_precision_scorer(),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_a_search_with_a_fold_of_normal_rows(scorer):
    X, y = labelled_stream()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Passing()),
        {"passing__sign": [1.0, -1.0, 0.0, np.nan]},
        scoring=scorer,
        cv=TimeSeriesSplit(3, test_size=150),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y)
    assert search.best_params_ == {"passing__sign": -1.0}
    results = search.cv_results_
    # the fold of rows 150 to 299 has no anomaly and is 0 for all that have scores
    assert results["split0_test_score"][:3].tolist() == [0, 0, 0]
    assert np.isfinite(results["mean_test_score"][:3]).all()
    assert results["mean_test_score"][1] > 2 * results["mean_test_score"][0]
    # scores of NaN are an error, which the search ranks last
    assert np.isnan(results["mean_test_score"][3])
    assert results["rank_test_score"][3] == 4


def test_a_fold_of_normal_rows_warns_and_may_be_nan():
    X, y = labelled_stream()
    scorer = metrics.vus_pr_scorer(20)
    with pytest.warns(UndefinedMetricWarning, match="vus_pr is not defined"):
        assert scorer(Passing().fit(X), X[:100], y[:100]) == 0
    scorer = metrics.vus_pr_scorer(20, undefined=float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cross_val_score(
            Passing(), X, y, scoring=scorer, cv=TimeSeriesSplit(3, test_size=150)
        )
    assert np.isnan(found).tolist() == [True, False, False]


def test_the_scorer_is_the_metric():
    X, y = labelled_stream()
    scorer = metrics.vus_pr_scorer(30, form="original")
    expected = metrics.vus_pr(y, X[:, 0], window=30, form="original")
    assert scorer(Passing().fit(X), X, y) == expected
    again = pickle.loads(pickle.dumps(scorer))
    assert again(Passing().fit(X), X, y) == expected
    coded = metrics.vus_pr_scorer(30, form="original", pos_label=1)
    assert coded(Passing().fit(X), X, (y < 0).astype(int)) == expected

    judge = metrics.make_series_scorer(metrics.event_f1, response_method="predict")
    expected = metrics.event_f1(y, X[:, 0] > 1)
    assert judge(Passing().fit(X), X, y) == expected
    judge = metrics.make_series_scorer(
        metrics.event_f1, metric_params={"pos_label": 1}, response_method="predict"
    )
    assert judge(Passing().fit(X), X, (y < 0).astype(int)) == expected
    with pytest.raises(ValueError, match="response_method='transform'"):
        metrics.make_series_scorer(metrics.pate, response_method="transform")


def test_the_sign_for_a_detector():
    X, y = labelled_stream()
    found = metrics.average_precision_scorer()(KNN().fit(X[:300]), X[300:], y[300:])
    assert found > 0.8


def test_groups_by_routing():
    import sklearn

    X, y = labelled_stream()
    groups = np.repeat(["a", "b", "c"], [200, 200, 200])
    fitted = Passing().fit(X)
    with_groups = metrics.vus_pr_scorer(20)(fitted, X, y, groups=groups)
    assert fitted.seen is groups
    parts = [metrics.vus_pr(y[groups == g], X[groups == g, 0], window=20) for g in "bc"]
    assert with_groups == pytest.approx(np.mean(parts))  # "a" has no anomaly

    params = {"scoring": metrics.vus_pr_scorer(20), "cv": TimeSeriesSplit(2)}
    with (
        sklearn.config_context(enable_metadata_routing=True),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        search = GridSearchCV(Passing(), {"sign": [1.0, -1.0]}, **params)
        search.fit(X, y, groups=groups)
        assert search.best_estimator_.fitted_ is not None
        last = search.cv_results_["split1_test_score"][1]
        rows = slice(400, 600)
        expected = metrics.vus_pr(y[rows], X[rows, 0], window=20)
        assert last == pytest.approx(expected)
        # two series in the first test fold, of which one has an anomaly
        first = search.cv_results_["split0_test_score"][1]
        rows = slice(200, 400)
        assert first == pytest.approx(metrics.vus_pr(y[rows], X[rows, 0], window=20))

        several = GridSearchCV(
            Passing(),
            {"sign": [1.0, -1.0]},
            scoring={"vus": metrics.vus_pr_scorer(20), "pate": metrics.pate_scorer()},
            refit="vus",
            cv=TimeSeriesSplit(2),
        ).fit(X, y, groups=groups)
        assert several.best_params_ == {"sign": -1.0}


def test_a_search_over_series():
    import sklearn

    from skad.series import WindowDetector

    rng = np.random.default_rng(0)
    groups = np.repeat([1, 2, 3, 4], 150)
    X = np.sin(np.arange(600) / 4)[:, None] + 0.1 * rng.normal(size=(600, 1))
    y = np.ones(600, dtype=int)
    for start in (380, 520):
        X[start : start + 20] *= -1
        y[start : start + 20] = -1
    search = GridSearchCV(
        WindowDetector(KNN()),
        {"window_size": [1, 12]},
        scoring=metrics.vus_pr_scorer(25),
        cv=TimeSeriesSplit(3, test_size=150),
    )
    with (
        sklearn.config_context(enable_metadata_routing=True),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        search.fit(X, y, groups=groups)
    assert search.best_params_ == {"window_size": 12}
    assert search.cv_results_["split0_test_score"].tolist() == [0, 0]
    fitted = search.best_estimator_
    expected = metrics.vus_pr(y, -fitted.score_samples(X), window=25)
    assert metrics.vus_pr_scorer(25)(fitted, X, y) == expected


def test_groups_can_be_declined():
    scorer = metrics.vus_pr_scorer(20).set_score_request(groups=False)
    assert scorer.get_metadata_routing().score.requests == {"groups": False}
    assert metrics.vus_pr_scorer().get_metadata_routing().score.requests == {
        "groups": True
    }


def test_tensors():
    torch = pytest.importorskip("torch")
    y, score = series(0)
    coded = torch.asarray(np.where(y, -1, 1))
    found = metrics.vus_pr(coded, torch.asarray(score), window=20)
    assert found == metrics.vus_pr(y, score, window=20)


def test_best_over_thresholds():
    y, score = series(0)
    grid = np.linspace(score.min(), score.max(), 100)
    expected = max(metrics.event_f1(y, score > t) for t in grid)
    assert metrics.best_over_thresholds(metrics.event_f1, y, score) == expected
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(
            metrics.best_over_thresholds(metrics.event_f1, np.ones(300), score)
        )
    constant = np.zeros(300)  # nothing lies over it
    assert metrics.best_over_thresholds(metrics.event_f1, y, constant) == 0
