"""GLOSH against a hierarchy that is cut by hand, and closed cases."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse.csgraph import connected_components

from skad.neighbors import HDBSCANOutliers


def reachability(X, min_samples):
    distance = np.linalg.norm(X[:, None] - X, axis=2)
    core = np.sort(distance, axis=1)[:, min_samples - 1]
    return np.maximum(np.maximum(distance, core[:, None]), core), core


def naive_scores(X, min_cluster_size, min_samples):
    """The definition: groups of connected rows, level by level, from the top."""
    reach, _ = reachability(X, min_samples)
    np.fill_diagonal(reach, np.inf)
    scores = np.zeros(len(X))

    def cut(rows):
        """Score the rows of a cluster; return the level at which its last row left."""
        left, lowest = {}, np.inf
        inner = rows
        while len(inner):
            levels = np.unique(reach[np.ix_(inner, inner)])[::-1]
            for level in levels[np.isfinite(levels)]:
                below = reach[np.ix_(inner, inner)] < level
                n, part = connected_components(below, directed=False)
                if n > 1:
                    break
            groups = [inner[part == i] for i in range(n)]
            large = [one for one in groups if len(one) >= min_cluster_size]
            gone = [i for one in groups if len(one) < min_cluster_size for i in one]
            left.update(dict.fromkeys(gone, level))
            lowest = min([lowest, *(left[i] for i in gone)])
            if len(large) > 1:
                lowest = min([lowest, level, *map(cut, large)])
                break
            inner = large[0] if large else []
        for i, level in left.items():
            scores[i] = 1 - lowest / level
        return lowest

    cut(np.arange(len(X)))
    return scores


@pytest.mark.parametrize(("size", "min_samples"), [(5, 5), (4, 2), (8, 3)])
def test_scores_are_those_of_the_hierarchy_cut_by_hand(size, min_samples):
    rng = np.random.default_rng(size)
    X = np.r_[rng.normal(size=(40, 2)), 5 + 0.3 * rng.normal(size=(30, 2))]
    detector = HDBSCANOutliers(size, min_samples=min_samples).fit(X)
    expected = naive_scores(X, size, min_samples)
    assert_allclose(-detector.score_samples(X), expected, atol=1e-9)
    assert_allclose(detector.core_distances_, reachability(X, min_samples)[1])
    assert expected.max() > 0.5
    assert detector.n_clusters_ >= 3


def test_five_rows_by_hand():
    # gaps 1, 1, 2, 6 with core distances of the nearest other row
    X = np.array([[0.0], [1.0], [2.0], [4.0], [10.0]])
    detector = HDBSCANOutliers(3, min_samples=2).fit(X)
    # all leave one cluster: the row at 10 at level 6, at 4 at level 2, others at 1
    assert_allclose(-detector.score_samples(X), [0, 0, 0, 1 - 1 / 2, 1 - 1 / 6])
    # new rows: 0.5 beside the first two, 7 is connected at 3, 90 at 80
    new = [[0.5], [7.0], [90.0]]
    assert_allclose(-detector.score_samples(new), [0, 1 - 1 / 3, 1 - 1 / 80])


def test_a_sparse_cluster_is_as_normal_as_a_dense_one():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(200, 2)), 100 + 0.01 * rng.normal(size=(200, 2))]
    detector = HDBSCANOutliers().fit(X)
    first, second = np.split(-detector.score_samples(X), 2)
    assert abs(np.median(first) - np.median(second)) < 0.25
    beside = detector.score_samples([[100.2, 100.0], [0.2, 0.0]])
    assert beside[0] < -0.9 < -0.7 < beside[1]


def test_the_map_points_from_where_a_row_is_connected():
    X = np.random.default_rng(0).normal(size=(100, 3))
    detector = HDBSCANOutliers().fit(X)
    far = 9 * np.eye(3)
    maps = detector.transform(far)
    assert_allclose(maps.sum(axis=1), -detector.score_samples(far))
    assert (maps.argmax(axis=1) == np.arange(3)).all()
