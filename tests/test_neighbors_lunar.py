"""LUNAR: what its network is shown, and what it makes of distances."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors

from skad.neighbors import KNN, LUNAR
from skad.neighbors._lunar import drawn_negatives

SMALL = {"hidden_sizes": (8,), "max_epochs": 5, "random_state": 0}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(size=(90, 3))


@pytest.fixture(scope="module", name="new")
def others():
    return 2 * np.random.default_rng(1).normal(size=(20, 3))


def distances(X, new, k=5):
    return NearestNeighbors(n_neighbors=k).fit(X).kneighbors(new)[0]


def test_equal_weights_are_the_mean_distance(X, new):
    detector = LUNAR(**SMALL).fit(X)
    for part in detector.net_.layers[-1].parameters():
        part.zero_()
    mean = KNN(method="mean").fit(X)
    for rows in (X, new):  # training rows without themselves
        assert_allclose(detector.score_samples(rows), mean.score_samples(rows))
        assert_allclose(detector.transform(rows), mean.transform(rows))


@pytest.mark.parametrize("output", ["weight", "score"])
def test_anomaly_is_the_formula_of_distances(X, new, output):
    detector = LUNAR(n_neighbors=4, output=output, **SMALL).fit(X)
    first, _, last = detector.net_.double().layers
    d, unit = distances(X, new, 4), float(detector.net_.unit)
    own = NearestNeighbors(n_neighbors=4).fit(X).kneighbors()[0]
    W, b, V, c = (
        part.numpy() for one in (first, last) for part in (one.weight, one.bias)
    )
    out = np.tanh(d / unit @ W.T + b) @ V.T + c
    if output == "weight":
        weights = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
        out = (weights * d).sum(axis=1)
    assert_allclose(-detector.score_samples(new), out.ravel())
    whole = LUNAR(n_neighbors=4, **SMALL, contamination=0.1).fit(X)
    assert_allclose(float(whole.net_.unit), own.mean(), rtol=1e-6)


def test_the_map_of_a_score_sums_to_what_distances_have_added(X, new):
    detector = LUNAR(output="score", **SMALL).fit(X)
    zero = detector.net_.double().anomaly(torch.zeros(1, 5, dtype=torch.float64))
    added = -detector.score_samples(new) - zero.numpy()
    assert_allclose(detector.transform(new).sum(axis=1), added, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("output", ["weight", "score"])
def test_the_loss_is_the_squared_error_of_0_and_1(X, output):
    net = copy.deepcopy(LUNAR(output=output, **SMALL).fit(X).net_).double()
    x = torch.rand(6, 5, dtype=torch.float64).sort(1).values
    net.log_factor.fill_(0.3)
    net.shift.fill_(-0.2)
    a = net.anomaly(x).numpy()
    found = 1 / (1 + np.exp(-a))
    if output == "weight":
        found = np.exp(0.3) * a / float(net.unit) - 0.2
    y = torch.tensor([1, -1, 1, 1, -1, -1])
    expected = np.mean((found - [0, 1, 0, 0, 1, 1]) ** 2)
    assert_allclose(float(net.loss(x, y)), expected)


def test_negatives_are_shown_with_all_their_neighbours(X):
    detector, seen = LUNAR(**SMALL, contamination=0.1, batch_size=500), []

    class Watched(detector._network_class):
        def loss(self, x, y):
            seen.append((x, y))
            return super().loss(x, y)

    detector._network_class = Watched
    detector.fit(X)
    x, y = (part.numpy() for part in seen[0])
    own = NearestNeighbors(n_neighbors=5).fit(X).kneighbors()[0]
    found = x[y == 1]
    assert_allclose(np.sort(found, axis=0), np.sort(own, axis=0), rtol=1e-5)
    made = drawn_negatives(X, "mixed", 0.1, np.random.RandomState(0))
    made = distances(X, made)
    assert_allclose(np.sort(x[y == -1], axis=0), np.sort(made, axis=0), rtol=1e-5)
    assert detector.n_samples_seen_ == 90


def test_negatives_are_even_in_the_box_or_near_rows():
    rng = np.random.default_rng(0)
    X = rng.uniform([0, -10, 5], [1, 10, 5], size=(4000, 3))  # the last one is constant
    even = drawn_negatives(X, "uniform", 0.1, np.random.RandomState(0))
    for column, low, high in ((0, -0.1, 1.1), (1, -12, 12), (2, 5, 5)):
        assert_allclose(even[:, column].min(), low, atol=0.02 * (high - low))
        assert_allclose(even[:, column].max(), high, atol=0.02 * (high - low))
    assert_allclose(even[:, :2].mean(axis=0), [0.5, 0], atol=0.3)
    near = drawn_negatives(X, "subspace", 0.1, np.random.RandomState(0))
    moved = ~np.isin(near[:, 0], X[:, 0]), ~np.isin(near[:, 1], X[:, 1])
    share = 0.3 + 0.7 / 3  # by chance, or to be moved at all
    assert_allclose(np.mean(moved, axis=1), share, atol=0.03)
    back = X[[np.flatnonzero(X[:, 0] == row[0])[0] for row in near[~moved[0]]]]
    noise = (near[~moved[0]] - back)[:, 1]
    assert_allclose(noise[noise != 0].std(), 0.1 * 20, rtol=0.1)
    mixed = drawn_negatives(X, "mixed", 0.1, np.random.RandomState(0))
    neither = ~np.isin(mixed[:, :2], X[:, :2]).any(axis=1)
    assert 0.5 < neither.mean() < 0.65


def test_turning_the_rows_changes_distances_by_nothing(X, new):
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    detector = LUNAR(**SMALL).fit(X)
    scores = detector.score_samples(new)
    detector._search_ = type(detector._search_)(
        X @ turn, "euclidean", 2, "brute", None, None, 5
    )
    assert_allclose(detector.score_samples(new @ turn), scores)


def test_neighbours_are_at_most_the_other_rows(X):
    detector = LUNAR(n_neighbors=200, **SMALL).fit(X[:20])
    assert detector.n_neighbors_ == 19
    assert_array_equal(detector.predict(X[:20]) ** 2, 1)
