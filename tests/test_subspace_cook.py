"""Cook's distance against regressions that are fitted anew."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression

from skad.subspace import CookDistance


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) * [1, 10, 100, 0.1]
    return rng.normal(size=(50, 4)) @ mixing + 5, 2 * rng.normal(size=(9, 4)) @ mixing


def moved(X, row):
    """How far the row moves the fitted values, a feature after the other (d,)."""
    found = []
    both = np.r_[X, row[None]]
    d = X.shape[1]
    for j in range(d):
        others, wider = np.delete(X, j, axis=1), np.delete(both, j, axis=1)
        model = LinearRegression().fit(others, X[:, j])
        variance = ((X[:, j] - model.predict(others)) ** 2).sum() / (len(X) - d)
        again = LinearRegression().fit(wider, both[:, j])
        change = again.predict(wider) - model.predict(wider)
        found.append((change**2).sum() / (d * variance))
    return np.array(found)


def test_scores_and_maps_are_regressions_fitted_anew(table):
    X, new = table
    detector = CookDistance().fit(X)
    expected = np.array([moved(X, row) for row in new])
    assert_allclose(detector.transform(new), expected / 4, rtol=1e-6)
    assert_allclose(-detector.score_samples(new), expected.mean(axis=1), rtol=1e-6)


def test_training_rows_are_left_out_of_the_regressions(table):
    X, _ = table
    left = CookDistance().fit(X)._left_out(X)
    expected = [moved(np.delete(X, i, axis=0), row).mean() for i, row in enumerate(X)]
    assert_allclose(left, expected, rtol=1e-5)


def test_what_others_determine_has_no_distance():
    t = np.random.default_rng(0).normal(size=(60, 2))
    X = np.c_[t, t.sum(axis=1), np.full(60, 3.0)]
    detector = CookDistance().fit(X)
    assert_allclose(detector.score_samples(X), 0, atol=1e-6)
    off = detector.transform([[0.0, 0.0, 1.0, 3.0]])
    assert off[0, :3].min() > 1
    assert off[0, 3] == 0
