"""LOCI and SOS against loops over their formulas, and closed cases."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skad.neighbors import LOCI, SOS


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), 2 * rng.normal(size=(12, 3))


# --------------------------------------------------------------------------------- LOCI


def naive_factor(rows, place, radii, alpha, n_min):
    """The largest deviation of a row of a table over radii, by the definitions."""
    distance = np.linalg.norm(rows[:, None] - rows, axis=2)
    found = [0.0]
    for radius in radii:
        around = np.flatnonzero(distance[place] <= radius)
        counts = [(distance[i] <= alpha * radius).sum() for i in around]
        if len(around) >= n_min and np.std(counts) > 0:
            own = (distance[place] <= alpha * radius).sum()
            deviation = 1 - own / np.mean(counts)
            found.append(deviation / (np.std(counts) / np.mean(counts)))
    return max(found)


@pytest.mark.parametrize(("alpha", "n_min"), [(0.5, 20), (0.3, 5)])
def test_loci_is_the_naive_loop(table, alpha, n_min):
    X, new = table
    detector = LOCI(alpha, n_min=n_min, n_radii=12).fit(X)
    radii = detector.radii_
    assert len(radii) == 12
    expected = [naive_factor(X, i, radii, alpha, n_min) for i in range(60)]
    assert_allclose(-detector.score_samples(X), expected)
    assert_allclose(detector._left_out(X), expected)
    for row, score in zip(new, detector.score_samples(new), strict=True):
        rows = np.r_[X, row[None]]
        assert_allclose(-score, naive_factor(rows, 60, radii, alpha, n_min))
    assert max(expected) > 1


def test_the_last_radius_of_loci_changes_nothing(table):
    X, _ = table
    between = np.linalg.norm(X[:, None] - X, axis=2)
    assert LOCI(0.4).fit(X).radii_[-1] * 0.4 >= between.max()


def test_a_ring_has_no_deviation_and_far_rows_the_largest():
    angle = np.arange(40) * 2 * np.pi / 40
    ring = np.c_[np.cos(angle), np.sin(angle)]
    with pytest.warns(UserWarning, match="got the score"):
        detector = LOCI().fit(ring)
    assert_allclose(detector.score_samples(ring), 0, atol=1e-6)
    # all 40 count 40, the far row itself
    counts = np.r_[np.full(40, 40), 1]
    expected = (counts.mean() - 1) / counts.std()
    assert_allclose(detector.score_samples([[90.0, 0], [0, -9e5]]), -expected)
    assert_allclose(expected, 40**0.5)


def test_the_map_of_loci_splits_the_anomaly(table):
    X, _ = table
    detector = LOCI().fit(X)
    far = np.array([[9.0, 0, 0], [0, -9.0, 0]])
    maps = detector.transform(far)
    assert_allclose(maps.sum(axis=1), -detector.score_samples(far))
    away = (far - X.mean(axis=0)) ** 2
    assert_allclose(maps / maps.sum(1)[:, None], away / away.sum(1)[:, None])


# ---------------------------------------------------------------------------------- SOS


def naive_choices(X, perplexity):
    """The bandwidths and the probabilities (n, n) with which rows choose others."""
    squares = ((X[:, None] - X) ** 2).sum(axis=2)
    bandwidths, choices = [], []
    for i, own in enumerate(squares):
        low, high = 0.0, 1e6
        for _ in range(200):
            beta = (low + high) / 2
            weight = np.exp(-beta * (own - np.delete(own, i).min()))
            weight[i] = 0
            share = weight / weight.sum()
            entropy = -sum(p * np.log(p) for p in share if p > 0)
            if entropy > np.log(perplexity):
                low = beta
            else:
                high = beta
        bandwidths.append(beta)
        choices.append(share)
    return np.array(bandwidths), np.array(choices)


@pytest.mark.parametrize(
    ("perplexity", "alike"), [(4.5, True), (20, True), (4.5, False)]
)
def test_sos_is_the_naive_loop(table, perplexity, alike):
    X, new = table
    detector = SOS(perplexity, outliers_choose=alike).fit(X)
    bandwidths, choices = naive_choices(X, perplexity)
    assert_allclose(detector.bandwidths_, bandwidths, rtol=1e-6)
    expected = np.array([np.prod(1 - choices[:, j]) for j in range(60)])
    voices = np.ones(60) if alike else 1 - expected
    expected = [np.prod(1 - voices * choices[:, j]) for j in range(60)]
    assert_allclose(np.exp(-detector.score_samples(X)), expected, rtol=1e-6)
    for row, score in zip(new, detector.score_samples(new), strict=True):
        total = 1.0
        for i, beta in enumerate(bandwidths):
            own = np.exp(-beta * ((X[i] - np.delete(X, i, axis=0)) ** 2).sum(axis=1))
            one = np.exp(-beta * ((X[i] - row) ** 2).sum())
            total *= 1 - voices[i] * one / (own.sum() + one)
        assert_allclose(np.exp(-score), total, rtol=1e-6)


@pytest.mark.parametrize("perplexity", [4.5, 100, 299, 400])
@pytest.mark.parametrize("d", [1, 2, 10])
def test_rows_have_the_perplexity_however_large_it_is(perplexity, d):
    X = np.random.default_rng(0).normal(size=(900, d))
    found = SOS(perplexity).fit(X).bandwidths_
    for i in range(0, 900, 90):
        squares = ((X[i] - np.delete(X, i, axis=0)) ** 2).sum(axis=1)
        share = np.exp(-found[i] * (squares - squares.min()))
        share /= share.sum()
        share = share[share > 0]
        assert_allclose(np.exp(-(share * np.log(share)).sum()), perplexity, rtol=0.02)


def test_sos_of_rows_at_one_distance_is_closed():
    for n in (4, 7):
        detector = SOS(perplexity=n - 1).fit(np.eye(n))
        chance = (1 - 1 / (n - 1)) ** (n - 1)
        assert_allclose(np.exp(-detector.score_samples(np.eye(n))), chance)


def test_sos_tells_far_rows_apart(table):
    X, _ = table
    detector = SOS().fit(X)
    scores = detector.score_samples([[5.0, 0, 0], [6.0, 0, 0], [7.0, 0, 0]])
    assert (np.diff(scores) < 0).all()
    assert_allclose(np.exp(-scores), 1, atol=1e-3)


@pytest.mark.parametrize("alike", [True, False])
def test_the_map_of_sos_splits_the_probability(table, alike):
    X, new = table
    detector = SOS(outliers_choose=alike).fit(X)
    bandwidths = detector.bandwidths_
    voices = 1 - np.exp(-SOS().fit(X).score_samples(X)) if not alike else np.ones(60)
    for row, found in zip(new, detector.transform(new), strict=True):
        parts = np.zeros(3)
        for i, beta in enumerate(bandwidths):
            own = np.exp(-beta * ((X[i] - np.delete(X, i, axis=0)) ** 2).sum(axis=1))
            away = (X[i] - row) ** 2
            one = np.exp(-beta * away.sum())
            parts += voices[i] * one / (own.sum() + one) * away / away.sum()
        chance = np.exp(-detector.score_samples(row[None])[0])
        assert_allclose(found, chance * parts / parts.sum(), rtol=1e-6)
