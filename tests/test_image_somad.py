"""SOMAD: a self-organising map of patches with a Gaussian in each node."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist, mahalanobis

from skad.image import SOMAD
from skad.image.density._somad import widths
from tests._pixels import Pixels

GIVEN = {
    "backbone": Pixels,
    "layers": ("pixel",),
    "smoothing": 0,
    "contamination": 0.5,
    "random_state": 0,
}


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    scene = rng.uniform(size=(4, 5, 3))
    return [scene + rng.normal(0, 0.1, size=(n, 4, 5, 3)) for n in (12, 3)]


def test_one_node_is_the_mahalanobis_distance_of_all_patches(pictures):
    X, new = pictures
    found = SOMAD(**GIVEN, map_shape=(1, 1), regularization=0.02).fit(X)
    rows = X.reshape(-1, 3)
    inverse = np.linalg.inv(np.cov(rows.T) + 0.02 * np.eye(3))
    expected = [
        mahalanobis(row, rows.mean(axis=0), inverse) for row in new.reshape(-1, 3)
    ]
    assert_allclose(found.transform(new).ravel(), expected, rtol=1e-5)
    assert_allclose(
        -found.score_samples(new), np.reshape(expected, (3, -1)).max(1), rtol=1e-5
    )


def naive_map(X, shape, epochs):
    """Return the nodes of a map that begins at the mean picture."""
    nodes, rows = X.mean(axis=0).reshape(-1, X.shape[3]), X.reshape(-1, X.shape[3])
    places = [(i, j) for i in range(shape[0]) for j in range(shape[1])]
    for width in epochs:
        best = cdist(rows, nodes).argmin(axis=1)
        moved = []
        for i, j in places:
            away = np.array(
                [(i - places[b][0]) ** 2 + (j - places[b][1]) ** 2 for b in best]
            )
            moved.append(
                np.average(rows, axis=0, weights=np.exp(-away / (2 * width**2)))
            )
        nodes = np.array(moved)
    return nodes


@pytest.mark.parametrize("n_neighbors", [1, 3, 50])
def test_somad_is_the_naive_loop(pictures, n_neighbors):
    X, new = pictures
    detector = SOMAD(
        **GIVEN,
        map_shape=(4, 5),
        n_neighbors=n_neighbors,
        n_rough_epochs=3,
        n_fine_epochs=2,
        regularization=0.005,
    ).fit(X)
    nodes = naive_map(X, (4, 5), [2, 1.5, 1, 1, 1])
    assert_allclose(detector.nodes_, nodes, rtol=1e-4)
    rows = X.reshape(-1, 3)
    best = cdist(rows, nodes).argmin(axis=1)
    assert_allclose(detector.counts_, np.bincount(best, minlength=20))
    expected = []
    for row in new.reshape(-1, 3):
        order = np.linalg.norm(row - nodes, axis=1).argsort(kind="stable")
        near = [j for j in order[:n_neighbors] if (best == j).any()]
        near = near or [next(j for j in order if (best == j).any())]
        found = []
        for j in near:
            own = rows[best == j]
            covariance = np.cov(own.T) if len(own) > 1 else 0
            inverse = np.linalg.inv(covariance + 0.005 * np.eye(3))
            found.append(mahalanobis(row, own.mean(axis=0), inverse))
        expected.append(min(found))
    assert_allclose(detector.transform(new).ravel(), expected, rtol=2e-3)


def test_without_epochs_nodes_are_places_of_the_mean_picture(pictures):
    X, _ = pictures
    still = {**GIVEN, "n_rough_epochs": 0, "n_fine_epochs": 0}
    detector = SOMAD(**still, map_shape=(4, 5)).fit(X)
    assert_allclose(detector.nodes_, X.mean(axis=0).reshape(-1, 3), rtol=1e-5)
    # of another shape it is interpolated
    detector = SOMAD(**still, map_shape=(2, 5)).fit(X)
    halves = X.mean(axis=0).reshape(2, 2, 5, 3).mean(axis=1)
    assert_allclose(detector.nodes_, halves.reshape(-1, 3), rtol=1e-5)


def test_a_patch_whose_nearest_nodes_are_empty_goes_to_the_nearest_other():
    X = np.zeros((2, 1, 4, 1))
    X[:, 0, :, 0] = [0.0, 0.0, 1.0, 1.0]
    still = {**GIVEN, "n_rough_epochs": 0, "n_fine_epochs": 0, "n_neighbors": 1}
    detector = SOMAD(**still, map_shape=(1, 7), regularization=0.25).fit(X)
    empty = (detector.counts_ == 0).nonzero().ravel()
    assert len(empty)
    nodes = detector.nodes_.ravel().numpy()
    middle = nodes[empty[len(empty) // 2]] + 1e-3
    found = detector.transform(np.full((1, 1, 4, 1), middle))
    full = nodes[detector.counts_.numpy() > 0]
    nearest = full[np.abs(full - middle).argmin()]
    assert_allclose(found, np.abs(middle - nearest) / 0.5, rtol=1e-4)


def test_widths_of_the_authors_map():
    found = widths((56, 56), 20, 15)
    assert_allclose(found[:20], np.linspace(19, 19 / 6, 20))
    assert_allclose(found[20:], np.linspace(56 / 12, 1, 15))
    assert_allclose(widths((1, 1), 2, 2), 1)


def test_drawn_features_are_those_of_the_backbone(pictures):
    X, new = pictures
    detector = SOMAD(**GIVEN, map_shape=(2, 2), n_features=2).fit(X)
    kept = detector.features_.numpy()
    assert len(kept) == 2
    other = SOMAD(**GIVEN, map_shape=(2, 2), n_features=None).fit(X[..., kept])
    assert_allclose(detector.transform(new), other.transform(new[..., kept]), rtol=1e-4)
    again = SOMAD(**GIVEN, map_shape=(2, 2), n_features=2).fit(X)
    assert torch.equal(again.features_, detector.features_)


def test_a_map_needs_rows_and_columns(pictures):
    with pytest.raises(ValueError, match=r"map_shape=\(3,\) must be two numbers"):
        SOMAD(map_shape=(3,)).fit(pictures[0])
