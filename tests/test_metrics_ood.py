"""Metrics of out-of-distribution scores: definitions, peers' figures, conventions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score

from skad.metrics import (
    aupr_in,
    aupr_out,
    aurc,
    auroc,
    fpr_at_tpr,
    risk_coverage_curve,
)


def naive_fpr(positives, negatives, tpr):
    """Try every threshold, strictest first."""
    for threshold in sorted(set(positives) | set(negatives), reverse=True):
        if np.mean([score >= threshold for score in positives]) >= tpr:
            return np.mean([score >= threshold for score in negatives])
    raise AssertionError


def naive_risk(loss, score, seed):
    """Answer one sample after the other, ties in random order."""
    rng = np.random.default_rng(seed)
    order = sorted(range(len(loss)), key=lambda i: (score[i], rng.random()))
    return [np.mean([loss[i] for i in order[: k + 1]]) for k in range(len(order))]


LABELLED = st.lists(
    st.tuples(st.sampled_from([1, -1]), st.integers(-3, 3)), min_size=2, max_size=40
).filter(lambda rows: len({label for label, _ in rows}) == 2)


@settings(max_examples=100, deadline=None)
@given(LABELLED, st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]))
def test_fpr_at_tpr_equals_the_sweep(rows, tpr):
    y, score = np.array(rows).T
    inside, outside = score[y == 1], score[y == -1]
    found = fpr_at_tpr(y, score, positive="ood", tpr=tpr)
    assert found == naive_fpr(outside, inside, tpr)
    found = fpr_at_tpr(y, score, positive="id", tpr=tpr)
    assert found == naive_fpr(-inside, -outside, tpr)


def test_the_two_conventions_differ():
    y = np.repeat([1, -1], 20)
    score = np.concatenate([np.arange(20), 10 + 2 * np.arange(20)])
    # 19 of 20 outliers reach 12, and so do 8 normal samples
    assert fpr_at_tpr(y, score, positive="ood") == 8 / 20
    # 19 of 20 normal samples are at most 18, and so are 5 outliers
    assert fpr_at_tpr(y, score, positive="id") == 5 / 20
    with pytest.raises(TypeError, match="positive"):
        fpr_at_tpr(y, score)
    with pytest.raises(ValueError, match="positive='normal'"):
        fpr_at_tpr(y, score, positive="normal")
    with pytest.raises(ValueError, match="tpr=0"):
        fpr_at_tpr(y, score, positive="id", tpr=0)


@settings(max_examples=60, deadline=None)
@given(LABELLED)
def test_areas_equal_scikit_learns(rows):
    y, score = np.array(rows).T
    assert auroc(y, score) == pytest.approx(roc_auc_score(y == -1, score))
    assert auroc(y, score) == pytest.approx(1 - auroc(-y, score))
    expected = average_precision_score(y == -1, score)
    assert aupr_out(y, score) == pytest.approx(expected)
    assert aupr_in(y, score) == pytest.approx(average_precision_score(y == 1, -score))
    assert aupr_in(y, score) == pytest.approx(aupr_out(-y, -score))


@pytest.mark.parametrize(
    ("network", "method", "figures"),
    [
        ("mlp", "MSP", (0.302, 0.343)),
        ("mlp", "KNN_k=5", (0.150, 0.179)),
        ("cnn", "MSP", (0.319, 0.385)),
        ("cnn", "RMD", (0.167, 0.201)),
    ],
)
def test_scores_of_networks_under_both_conventions(shared, network, method, figures):
    """The figures are means over five seeds, of which three are at hand."""
    found = []
    for seed in range(3):
        data = np.load(shared / "ood" / f"{network}_{seed}.npz")
        inside, outside = data[f"s_test|{method}"], data[f"s_ood|{method}"]
        y = np.repeat([1, -1], [len(inside), len(outside)])
        score = np.concatenate([inside, outside])
        rates = [fpr_at_tpr(y, score, positive=kind) for kind in ("ood", "id")]
        assert rates[0] == naive_fpr(outside, inside, 0.95)
        assert rates[1] == naive_fpr(-inside, -outside, 0.95)
        found.append(rates)
    ood, id_ = np.mean(found, axis=0)
    np.testing.assert_allclose((ood, id_), figures, atol=0.025)
    assert id_ > ood + 0.01


def test_labels_in_any_form():
    score = [0.1, 0.7, 0.4, 0.9]
    expected = auroc([1, 1, -1, -1], score)
    assert auroc([False, False, True, True], score) == expected
    assert auroc([0, 0, 1, 1], score, pos_label=1) == expected
    assert auroc(["in", "in", "out", "out"], score, pos_label="out") == expected
    torch = pytest.importorskip("torch")
    assert auroc(torch.tensor([1, 1, -1, -1]), torch.tensor(score)) == expected
    with pytest.raises(ValueError, match="pos_label"):
        auroc([0, 0, 1, 1], score)
    with pytest.raises(ValueError, match="4 labels, anomaly_score has 2"):
        auroc([1, 1, -1, -1], [0.0, 1.0])
    with pytest.raises(ValueError, match="NaN"):
        auroc([1, -1], [0.0, np.nan])


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        (auroc, [1, 1]),
        (auroc, [-1, -1]),
        (aupr_out, [1, 1]),
        (aupr_in, [-1, -1]),
        (lambda y, s: fpr_at_tpr(y, s, positive="ood"), [1, 1]),
        (lambda y, s: fpr_at_tpr(y, s, positive="id"), [-1, -1]),
    ],
)
def test_one_kind_is_undefined(metric, labels):
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(metric(labels, [0.0, 1.0]))


# --------------------------------------------------------------- risk and coverage


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 99)), min_size=1))
def test_risk_of_distinct_scores(rows):
    loss, score = np.array(rows).T
    score = score + np.linspace(0, 0.5, len(score))  # no ties
    coverage, risk, threshold = risk_coverage_curve(loss, score)
    np.testing.assert_allclose(risk, naive_risk(loss, score, 0))
    np.testing.assert_allclose(coverage, [np.mean(score <= t) for t in threshold])
    assert risk[-1] == pytest.approx(loss.mean())


def test_ties_are_the_mean_over_all_orders():
    loss = np.array([0, 1, 1, 0, 1, 0.5])
    score = np.array([2, 1, 2, 2, 3, 1])
    orders = [naive_risk(loss, score, seed) for seed in range(4000)]
    _, risk, threshold = risk_coverage_curve(loss, score)
    np.testing.assert_allclose(risk, np.mean(orders, axis=0), atol=0.02)
    np.testing.assert_array_equal(threshold, [1, 1, 2, 2, 2, 3])
    turned = risk_coverage_curve(loss[::-1], score[::-1])[1]
    np.testing.assert_allclose(turned, risk)


def test_aurc_of_the_best_and_of_random_scores():
    n, n_wrong = 10_000, 2_000
    loss = np.arange(n) >= n - n_wrong
    # with the errors last: the area of 1 - a / c from a to 1 at accuracy a
    rate = n_wrong / n
    assert aurc(loss, loss) < aurc(loss, np.arange(n)) + 0.01
    best = rate + (1 - rate) * np.log(1 - rate)
    assert aurc(loss, np.arange(n)) == pytest.approx(best, abs=1e-3)
    noise = np.random.default_rng(0).normal(size=n)
    assert aurc(loss, noise) == pytest.approx(rate, abs=0.01)
    assert aurc(loss, np.zeros(n)) == pytest.approx(rate)
    assert aurc(loss, -np.arange(n)) > 0.5


def test_wrong_losses():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        aurc([0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="loss is empty"):
        aurc([], [])
    with pytest.raises(ValueError, match="loss contains NaN"):
        aurc([np.nan], [1.0])
    with pytest.raises(ValueError, match="anomaly_score contains inf"):
        aurc([1.0], [np.inf])
