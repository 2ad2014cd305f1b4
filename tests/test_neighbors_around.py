"""ABOD, COF and SOD against loops over their papers' formulas, and closed cases."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skad.neighbors import ABOD, COF, SOD


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    return rng.normal(size=(45, 4)) @ mixing, 2 * rng.normal(size=(12, 4)) @ mixing


def nearest(X, row, k):
    """The numbers of the nearest rows but the first that equals the row."""
    distance = np.linalg.norm(X - row, axis=1)
    order = [int(i) for i in np.argsort(distance, kind="stable")]
    return order[1:][:k] if distance[order[0]] == 0 else order[:k]


# --------------------------------------------------------------------------------- ABOD


def naive_factor(row, others, weighted):
    found, weights = [], []
    for a, b in itertools.combinations(others - row, 2):
        one, other = a @ a, b @ b
        if one and other:
            found.append(a @ b / (one * other))
            weights.append((one * other) ** -0.5 if weighted else 1.0)
    mean = np.average(found, weights=weights)
    return np.average((np.array(found) - mean) ** 2, weights=weights)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("k", [3, 8, 44, None])
def test_abod_is_the_naive_loop(table, k, weighted):
    X, new = table
    detector = ABOD(k, weighted=weighted).fit(X)
    for rows in (new, X):
        others = [X[nearest(X, row, k or 45)] for row in rows]
        expected = [
            naive_factor(*pair, weighted) for pair in zip(rows, others, strict=True)
        ]
        assert_allclose(-detector.score_samples(rows), -np.log(expected), rtol=1e-8)


def test_abod_of_all_is_that_of_every_neighbour(table):
    X, _ = table
    assert_allclose(
        ABOD(None).fit(X).score_samples(X), ABOD(44).fit(X).score_samples(X), rtol=1e-8
    )


def test_abod_grows_with_the_fourth_power_of_a_scale(table):
    X, new = table
    for k in (8, None):
        scores = ABOD(k).fit(X).score_samples(new)
        scaled = ABOD(k).fit(1e5 * X).score_samples(1e5 * new)
        assert_allclose(scaled, scores - 4 * np.log(1e5), rtol=1e-9)


def test_abod_leaves_out_equal_rows():
    X = np.concatenate([np.zeros((6, 2)), np.random.default_rng(0).normal(size=(9, 2))])
    detector = ABOD(5).fit(X)
    # all five neighbours are equal: as normal as the most normal training row
    seen = detector.score_samples(X)
    assert_array_equal(seen[:6], seen.max())
    exact = ABOD(None).fit(X).score_samples(X[:1])
    assert_allclose(exact, np.log(naive_factor(X[0], X[6:], True)), rtol=1e-8)


def test_the_map_of_abod_is_the_mean_distance(table):
    X, new = table
    for k in (8, None):
        detector = ABOD(k).fit(X)
        for row, found in zip(new, detector.transform(new), strict=True):
            away = row - X[nearest(X, row, k or 45)]
            length = np.linalg.norm(away, axis=1)
            n = k or 44
            assert_allclose(found, (away**2 / length[:, None]).sum(axis=0) / n)


# ---------------------------------------------------------------------------------- COF


def naive_chain(row, others):
    """The average chaining distance of a set that grows greedily."""
    joined, left, costs = [row], list(others), []
    while left:
        gaps = [min(np.linalg.norm(one - own) for own in joined) for one in left]
        place = int(np.argmin(gaps))
        costs.append(gaps[place])
        joined.append(left.pop(place))
    k = len(costs)
    return sum(2 * (k + 1 - i) / (k * (k + 1)) * c for i, c in enumerate(costs, 1))


@pytest.mark.parametrize("k", [1, 5, 20])
def test_cof_is_the_naive_loop(table, k):
    X, new = table
    detector = COF(k).fit(X)
    chaining = np.array([naive_chain(row, X[nearest(X, row, k)]) for row in X])
    assert_allclose(detector.chaining_, chaining)
    for rows in (new, X):
        around = [nearest(X, row, k) for row in rows]
        expected = [
            naive_chain(row, X[own]) / chaining[own].mean()
            for row, own in zip(rows, around, strict=True)
        ]
        assert_allclose(-detector.score_samples(rows), expected, rtol=1e-6)


def test_cof_grows_from_what_is_joined():
    # 2.5 is joined from 1, before -2: (3/6) 1 + (2/6) 1.5 + (1/6) 2; in the order of
    # the distance from 0 the last two would change places, 17/12
    X = np.array([[0.0], [1.0], [-2.0], [2.5]])
    assert_allclose(COF(3).fit(X).chaining_[0], 4 / 3)


def test_cof_of_a_line_is_one():
    X = np.arange(30.0)[:, None] * [3.0, 4.0]
    assert_allclose(-COF(4).fit(X).score_samples(X), 1)


def test_cof_of_tensors_and_duplicates(table):
    X, new = table
    expected = COF(6).fit(X).score_samples(new)
    found = COF(6).fit(torch.from_numpy(X)).score_samples(torch.from_numpy(new))
    assert_allclose(found.numpy(), expected)
    twice = np.repeat(X[:3], 10, axis=0)
    scores = -COF(5).fit(twice).score_samples(np.r_[twice, new])
    assert_allclose(scores[:30], 1)
    # their chaining distance is that among the three, and new rows keep their own
    own = COF(2).fit(twice[::10]).chaining_
    different = COF(5).fit(twice)
    assert_allclose(different.chaining_, np.repeat(own, 10))
    near = np.argmin(((new[:, None] - twice[::10]) ** 2).sum(2), axis=1)
    length = np.linalg.norm(new - twice[::10][near], axis=1)
    assert_allclose(scores[30:], length / 3 / own[near])


# ---------------------------------------------------------------------------------- SOD


def naive_degree(X, row, k, n_references, alpha):
    around = nearest(X, row, k)
    shared = [len({*around} & {*nearest(X, X[i], k)}) for i in around]
    best = sorted(range(len(around)), key=lambda i: -shared[i])[:n_references]
    references = X[[around[i] for i in best]]
    mean, variance = references.mean(axis=0), references.var(axis=0)
    parts = np.where(variance <= alpha * variance.mean(), (row - mean) ** 2, 0)
    number = (variance <= alpha * variance.mean()).sum()
    degree = np.sqrt(parts.sum()) / number if number else 0.0
    return degree, parts / (degree * number**2) if degree else parts


@pytest.mark.parametrize(("k", "n_references", "alpha"), [(20, 10, 0.8), (7, 3, 1.1)])
def test_sod_is_the_naive_loop(table, k, n_references, alpha):
    X, new = table
    detector = SOD(k, n_references=n_references, alpha=alpha).fit(X)
    for rows in (new, X):
        found = [naive_degree(X, row, k, n_references, alpha) for row in rows]
        degrees, maps = (np.array(part) for part in zip(*found, strict=True))
        assert_allclose(-detector.score_samples(rows), degrees)
        assert_allclose(detector.transform(rows), maps)


def test_sod_sees_what_leaves_a_line():
    rng = np.random.default_rng(0)
    line = np.c_[rng.uniform(-5, 5, size=60), np.zeros(60)]
    probe = np.array([[1.0, 0.3], [-2.0, 0.0], [0.0, -2.0]])
    for scale in (1.0, 1000.0):
        detector = SOD().fit(line * [scale, 1.0])
        degrees = -detector.score_samples(probe * [scale, 1.0])
        assert_allclose(degrees, [0.3, 0.0, 2.0])
