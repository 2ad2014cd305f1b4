"""QMCD against loops over its formula, and SciPy's discrepancy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kurtosis, qmc, skew

from skad.marginal import QMCD, _ring


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), 2 * rng.normal(size=(15, 3))


def naive(X, row, lowest, highest):
    """The part of a row in the discrepancy of a table."""
    products = []
    for other in X:
        product = 1.0
        for j in range(X.shape[1]):
            u = abs(row[j] - other[j]) / (highest[j] - lowest[j])
            inside = lowest[j] <= row[j] <= highest[j]
            product *= 1.5 - u + u * u if inside else 1.25
        products.append(product)
    return np.mean(products)


def test_scores_are_the_naive_loop(table):
    X, new = table
    ends = X.min(axis=0), X.max(axis=0)
    detector = QMCD().fit(X)
    for rows in (X, new):
        parts = [naive(X, row, *ends) for row in rows]
        assert_allclose(np.exp(detector.score_samples(rows)), parts)
    assert ((new < ends[0]) | (new > ends[1])).any()


def test_parts_add_up_to_the_wrap_around_discrepancy(table):
    X, _ = table
    unit = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    parts = np.exp(QMCD().fit(X).score_samples(X))
    assert_allclose(parts.mean() - (4 / 3) ** 3, qmc.discrepancy(unit, method="WD"))


def test_training_rows_are_left_out_of_the_sum(table):
    X, _ = table
    ends = X.min(axis=0), X.max(axis=0)
    left = QMCD().fit(X)._left_out(X)
    for i, row in enumerate(X):
        others = np.delete(X, i, axis=0)
        moved = row.copy()
        for j in range(3):  # alone at an end it lies outside of the others
            if row[j] in (ends[0][j], ends[1][j]):
                moved[j] = 99
        assert_allclose(left[i], -np.log(naive(others, moved, *ends)))


def test_the_map_says_how_opposite_values_are(table):
    X, new = table
    detector = QMCD().fit(X)
    maps = detector.transform(new)
    low, size = X.min(axis=0), np.ptp(X, axis=0)
    for row, found in zip(new, maps, strict=True):
        u = np.abs(row - X) / size
        kernel = 1.5 - u + u**2
        kernel[:, (row < low) | (row > low + size)] = 1.25
        weight = kernel.prod(axis=1) / kernel.prod(axis=1).sum()
        assert_allclose(found, (weight[:, None] * 4 * (1.5 - kernel)).sum(axis=0))
    turned = QMCD("high").fit(X)
    assert_array_equal(turned.transform(new), -maps)
    assert_array_equal(turned.score_samples(new), -detector.score_samples(new))


def test_skewness_chooses_the_side():
    rng = np.random.default_rng(0)
    chosen = set()
    for draw in (rng.normal, rng.uniform, rng.standard_cauchy, rng.exponential):
        X = draw(size=(200, 2))
        parts = np.exp(QMCD().fit(X).score_samples(X))
        high = skew(parts) >= 0 and kurtosis(parts) >= 0
        detector = QMCD("skewness").fit(X)
        assert detector.rare_ == ("high" if high else "low")
        chosen.add(detector.rare_)
    assert "low" in chosen


@pytest.mark.parametrize("d", [900, 1_700, 4_000])
def test_many_features_stay_numbers(d):
    X = np.random.default_rng(0).normal(size=(20, d))
    detector = QMCD().fit(X)
    expected = -np.log(1.5) * d + np.log(20)  # of a row with itself, at most
    assert (-detector.score_samples(X) <= expected + 1e-9).all()
    new = X[:2].copy()
    new[1, :5] = 99
    u = np.abs(new[:, None] - X) / np.ptp(X, axis=0)
    kernel = np.where(u > 1, 1.25, 1.5 - u + u**2)
    part = np.logaddexp.reduce(np.log(kernel).sum(axis=2), axis=1) - np.log(20)
    assert_allclose(detector.score_samples(new), part)
    assert_array_equal(detector.inspect(new).scores, detector.score_samples(new))


@pytest.mark.parametrize(("n", "d"), [(7, 1), (1_024, 4), (1_025, 3), (2_500, 6)])
def test_what_numba_compiles_returns_the_same_bits(n, d):
    numba = pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X, rows = rng.random((n, d)), rng.random((80, d))
    outside = rng.random(rows.shape) < 0.3
    arguments = rows, _ring.tiles_of(X), n, outside
    expected = _ring._sums_of_arrays(*arguments)
    # the loop as it is, and what numba makes of it
    for loop in (_ring._sums_of_elements, numba.njit(_ring._sums_of_elements)):
        part = slice(3) if loop is _ring._sums_of_elements else slice(None)
        found = loop(rows[part], *arguments[1:3], outside[part])
        assert_array_equal(found, expected[part])
    kernel = 1.25 + (np.abs(rows[:, None] - X) - 0.5) ** 2
    kernel = np.where(outside[:, None], 1.0, kernel)
    assert_allclose(expected.sum(axis=1), kernel.prod(axis=2).sum(axis=1))
