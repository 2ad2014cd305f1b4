"""ROD against a loop over its formula, and closed cases."""

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from skad.subspace import ROD
from skad.subspace._rod import geometric_medians


def geometric_median(points):
    return geometric_medians(points[None])[0]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) * [1, 10, 100, 1]
    return rng.normal(size=(60, 4)) @ mixing + 5, 2 * rng.normal(size=(9, 4)) @ mixing


def test_the_geometric_median_has_the_least_sum_of_distances():
    points = np.random.default_rng(0).exponential(size=(40, 3))

    def total(middle):
        return np.linalg.norm(points - middle, axis=1).sum()

    best = minimize(total, points.mean(axis=0), method="Nelder-Mead", tol=1e-10).x
    assert_allclose(geometric_median(points), best, atol=1e-5)
    # most points are one: that is the median
    assert_allclose(geometric_median(np.r_[np.eye(3), -np.eye(3), [[0, 0, 0]]]), 0)


def stretched(angle, known):
    """The angle in the range of its kind, as a min-max scaler does."""
    for low, high, kind in (
        (0.001, 0.955, lambda a: a <= np.pi / 2),
        (np.pi / 2 + 0.001, 2.186, lambda a: a > np.pi / 2),
    ):
        if kind(angle):
            own = [a for a in known if kind(a)] + [low, high]
            share = (angle - min(own)) / (max(own) - min(own))
            return low + share * (high - low)
    return None


def test_scores_and_maps_are_the_naive_loop(table):
    X, new = table
    low, middle, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
    train, rows = (X - middle) / (high - low), (new - middle) / (high - low)
    expected, maps = np.zeros(9), np.zeros((9, 4))
    for triple in map(list, combinations(range(4), 3)):
        centre = geometric_median(train[:, triple])

        def angle(row, triple=triple, centre=centre):
            v = row[triple] - centre
            return np.arccos(v @ centre / np.linalg.norm(v) / np.linalg.norm(centre))

        known = [angle(row) for row in train]

        def cost(row, triple=triple, centre=centre, known=known, angle=angle):
            turned = stretched(angle(row), known)
            length = np.linalg.norm(row[triple] - centre)
            return length**3 * np.cos(turned) * np.sin(turned) ** 2

        costs = np.array([cost(row) for row in train])
        spread = np.median(np.abs(costs - np.median(costs)))
        for i, row in enumerate(rows):
            away = 0.6745 * abs(cost(row) - np.median(costs)) / spread
            term = 1 / (1 + np.exp(-away)) / 4
            expected[i] += term
            maps[i, triple] += term / 3
    detector = ROD().fit(X)
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-6)
    assert_allclose(detector.transform(new), maps, rtol=1e-6)


def test_many_subspaces_are_drawn():
    X = np.random.default_rng(0).normal(size=(50, 30))
    detector = ROD(40, random_state=0).fit(X)
    assert len({tuple(triple) for triple in detector.subspaces_}) == 40
    assert (np.diff(detector.subspaces_, axis=1) > 0).all()


@pytest.mark.parametrize("d", [1, 2])
def test_missing_features_are_zeros(d):
    X = np.random.default_rng(0).normal(size=(80, d))
    detector = ROD().fit(X)
    if d > 1:  # one has no angles
        wider = ROD().fit(np.c_[X, np.zeros((80, 3 - d))])
        same = wider.score_samples(np.c_[X, np.zeros((80, 3 - d))])
        assert_allclose(detector.score_samples(X), same)
    maps = detector.transform(X)
    assert_allclose(maps.sum(axis=1), -detector.score_samples(X))
