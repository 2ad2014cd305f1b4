"""Centres of all rows but a few, by brute force, scikit-learn and sites."""

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans

from skad.neighbors import DistributedOutliers
from skad.neighbors._distributed_outliers import (
    kept_weights,
    nearest,
    summary,
    trimmed_means,
)


def clusters(n=3000, seed=0, n_far=30):
    """Return rows of three clusters, the last of them far away from all."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) + 10 * np.eye(3)[rng.integers(3, size=n)]
    X[n - n_far :] = rng.uniform(-60, 60, size=(n_far, 3))
    return X


def best_cost(X, k, t):
    """Return the least cost over all rows that are left out and all partitions."""
    best = np.inf
    for kept in combinations(range(len(X)), len(X) - t):
        rows = X[list(kept)]
        for code in range(2 ** (len(rows) - 1)):  # of two clusters
            own = (code >> np.arange(len(rows))) & 1 == 1
            parts = [part for part in (rows[own], rows[~own]) if len(part)]
            cost = sum(np.square(part - part.mean(0)).sum() for part in parts)
            best = min(best, cost)
    return best


def test_the_best_start_is_the_best_of_all_subsets_and_partitions():
    X = np.random.default_rng(3).normal(size=(9, 2))
    detector = DistributedOutliers(
        n_clusters=2, n_outliers=2, n_init=60, random_state=0
    ).fit(X)
    cost = np.sort(-detector.score_samples(X))[:7].sum()
    assert_allclose(cost, best_cost(X, 2, 2))


def test_without_outliers_it_is_k_means_from_the_same_start():
    X = clusters(300, n_far=0)
    weights = np.random.default_rng(1).integers(1, 4, size=300).astype(float)
    start = X[:5]
    model = KMeans(5, init=start, n_init=1, tol=0, algorithm="lloyd")
    model.fit(X, sample_weight=weights)
    centers, kept, cost, _ = trimmed_means(X, weights, start, 0, 300)
    assert_allclose(centers, model.cluster_centers_)
    assert_array_equal(kept, weights)
    assert_allclose(cost, model.inertia_)


def test_the_farthest_weight_is_left_out():
    distance, weights = np.array([1.0, 9.0, 4.0, 3.0]), np.array([2.0, 1.0, 3.0, 5.0])
    assert_array_equal(kept_weights(distance, weights, 3), [2, 0, 1, 5])
    assert_array_equal(kept_weights(distance, weights, 0), weights)


@pytest.mark.parametrize("t", [0, 5, 30])
def test_a_summary_weighs_what_it_stands_for(t):
    X = clusters()
    rows, weights = summary(X, 3, t, np.random.RandomState(0))
    assert weights.sum() == len(X)
    assert len(np.unique(rows, axis=0)) == len(rows) < len(X) / 3
    assert (np.abs(X[:, None] - rows[None, :5]).sum(-1).min(0) == 0).all()
    if t == 30:  # rows that are far stand for themselves
        distance, index = nearest(X[-30:], rows)
        assert_array_equal(distance, 0)
        assert np.mean(weights[index] == 1) > 0.9
    few, ones = summary(X[: 8 * t], 3, t, np.random.RandomState(0))
    assert_array_equal(few, X[: 8 * t])
    assert_array_equal(ones, np.ones(len(few)))


def test_the_outliers_are_those_that_were_put_in():
    X = clusters()
    detector = DistributedOutliers(3, n_outliers=30, random_state=0).fit(X)
    centers = detector.cluster_centers_
    assert_allclose(centers[centers.argmax(0)], 10 * np.eye(3), atol=0.3)
    assert detector.cluster_sizes_.sum() == len(X) - 30
    farthest = np.argsort(detector.score_samples(X))[:30]
    assert np.mean(farthest >= len(X) - 30) > 0.9
    new = clusters(seed=5, n_far=0)
    assert 0.02 <= np.mean(detector.predict(new) == -1) <= 0.09


def test_sites_find_what_one_would():
    da = pytest.importorskip("dask.array")
    X = clusters()
    detector = DistributedOutliers(3, n_outliers=30, random_state=0)
    whole = detector.fit(X).cluster_centers_
    offset = detector.offset_
    parts = detector.fit(da.from_array(X, chunks=(700, 3)))
    order = parts.cluster_centers_.argmax(0)
    assert_allclose(parts.cluster_centers_[order], whole[whole.argmax(0)], atol=0.3)
    assert parts.n_summary_ < len(X)
    assert_allclose(parts.offset_, offset, rtol=0.1)


def test_a_row_leaves_the_mean_that_it_is_in():
    X = clusters(200, n_far=0)
    detector = DistributedOutliers(1, n_outliers=0, random_state=0).fit(X)
    detector.cluster_centers_ = X.mean(axis=0, keepdims=True)
    detector.cluster_sizes_ = np.array([200.0])
    detector._limit_ = np.inf
    found = detector._left_out(X[:1])
    assert_allclose(found, np.square(X[0] - X[1:].mean(0)).sum())


def test_more_clusters_and_outliers_than_rows_are_an_error():
    with pytest.raises(ValueError, match="n_clusters=8 and 3 rows left out"):
        DistributedOutliers(n_outliers=3).fit(
            np.random.default_rng(0).normal(size=(9, 2))
        )
