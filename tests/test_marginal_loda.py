"""LODA against loops over its formulas, NumPy's histograms, and closed cases."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import xlogy

from skad.marginal import LODA
from skad.marginal._loda import likeliest_counts


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(150, 5)), 2 * rng.normal(size=(20, 5))


def naive(detector, X, row, left=None):
    """The terms of a row, projection by projection, by np.histogram."""
    terms = []
    for own, weights in zip(detector.features_, detector.weights_, strict=True):
        values = (X[:, own] - X.mean(0)[own]) @ weights
        value = (row[own] - X.mean(0)[own]) @ weights
        n_bins = detector.n_bins_[len(terms)]
        counts, edges = np.histogram(values, n_bins)
        span, n = edges[-1] - edges[0], len(values)
        inside = [
            j
            for j in range(n_bins)
            if edges[j] <= value < edges[j + 1]
            or (j == n_bins - 1) * value == edges[-1]
        ]
        held = counts[inside[0]] if inside else 0
        if left is not None:
            n, held = n - 1, held - 1
            held *= edges[0] + 1e-12 < value < edges[-1] - 1e-12
        terms.append(-np.log(max(held * n_bins, 1) / (n * span)))
    return np.array(terms)


@pytest.mark.parametrize("n_bins", ["auto", 7])
def test_scores_are_the_naive_loop(table, n_bins):
    X, new = table
    detector = LODA(n_projections=15, n_bins=n_bins, random_state=0).fit(X)
    assert detector.features_.shape == (15, 2)
    expected = [naive(detector, X, row).mean() for row in new]
    assert_allclose(-detector.score_samples(new), expected)
    left = [naive(detector, X, row, left=True).mean() for row in X]
    assert_allclose(detector._left_out(X), left)


def test_the_map_is_welchs_statistic(table):
    X, new = table
    detector = LODA(n_projections=30, random_state=0).fit(X)
    for row, found in zip(new, detector.transform(new), strict=True):
        terms = naive(detector, X, row)
        for j in range(5):
            using = (detector.features_ == j).any(axis=1)
            one, other = terms[using], terms[~using]
            error = one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)
            assert_allclose(found[j], (one.mean() - other.mean()) / error**0.5)


def test_one_feature_is_its_histogram():
    X = np.random.default_rng(0).normal(size=(200, 1))
    detector = LODA(1, n_bins=9, random_state=0).fit(X)
    heights, edges = np.histogram(X[:, 0], 9, density=True)
    size = abs(detector.weights_[0, 0])
    inside = X[(heights[np.digitize(X[:, 0], edges[1:-1])] > 0)]
    found = -detector.score_samples(inside)
    there = heights[np.digitize(inside[:, 0], edges[1:-1])]
    assert_allclose(found, -np.log(there / size))
    # outside one row is spread over the range
    outside = -np.log(1 / (200 * np.ptp(X) * size))
    assert_allclose(-detector.score_samples([[X.max() + 0.01], [99.0]]), outside)


def test_bins_are_the_likeliest():
    values = np.random.default_rng(1).beta(2, 5, size=300)
    values = (values - values.min()) / np.ptp(values)
    best = {}
    for b in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48):
        counts = np.histogram(values, b, (0, 1))[0]
        counts = counts[counts > 0]
        penalty = b - 1 + np.log(b) ** 2.5
        best[b] = (counts * np.log(b * counts / 300)).sum() - penalty
    place = np.stack([values, np.linspace(0, 1, len(values))])
    counts = np.arange(len(values) + 1)
    chosen, even = likeliest_counts(place, xlogy(counts, counts))
    assert len(chosen) == max(best, key=best.get) > 1
    assert len(even) == 1


def test_constants_change_nothing_and_a_far_feature_is_found(table):
    X, new = table
    detector = LODA(random_state=0).fit(X)
    shift = np.array([8.0, 0, 0, -32.0, 0])
    moved = LODA(random_state=0).fit(X + shift)
    assert_allclose(moved.score_samples(new + shift), detector.score_samples(new))
    assert_array_equal(detector.transform(50 * np.eye(5)).argmax(axis=1), range(5))


def test_missing_values_leave_out_their_projections(table):
    X, new = table
    detector = LODA(n_projections=20, random_state=0).fit(X)
    holes = new.copy()
    holes[:, 2] = np.nan
    without = ~(detector.features_ == 2).any(axis=1)
    expected = [naive(detector, X, row)[without].mean() for row in new]
    assert_allclose(-detector.score_samples(holes), expected)
    with_holes = X.copy()
    with_holes[::7, 1] = np.nan
    fitted = LODA(n_projections=20, random_state=0).fit(with_holes)
    for one, rows in ((fitted, with_holes), (detector, X)):
        nothing = one.score_samples(np.full((1, 5), np.nan))
        assert_allclose(nothing, one.score_samples(rows).mean())
