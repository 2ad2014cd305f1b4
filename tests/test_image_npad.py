"""N-pad: Gaussians and centroids of the features at and around each place."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from skad.image import NPAD, PaDiM
from tests._pixels import Pixels

GIVEN = {"backbone": Pixels, "layers": ("pixel",), "smoothing": 0}


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(9, 5, 6, 2)), rng.uniform(size=(3, 5, 6, 2))


def fitted(X, **given):
    """Return a detector fitted to pictures whose pixels are places."""
    return NPAD(**GIVEN, random_state=0, contamination=0.5, **given).fit(X)


def test_a_place_by_itself_without_centroids_is_padim(pictures):
    found = fitted(pictures[0], radius=0, centroid_weight=0).inspect(pictures[1])
    padim = PaDiM(**GIVEN, contamination=0.5).fit(pictures[0]).inspect(pictures[1])
    assert_allclose(found.maps, padim.maps, rtol=1e-5)
    assert_allclose(found.scores, padim.scores, rtol=1e-5)


@pytest.mark.parametrize("radius", [1, 2])
def test_npad_is_the_naive_loop(pictures, radius):
    X, new = pictures
    weight = 0.3
    found = fitted(
        X, radius=radius, n_clusters=3, centroid_weight=weight, regularization=0.02
    )
    maps, centres = found.transform(new), found.centroids_.numpy()
    for i in range(5):
        for j in range(6):
            rows = X[:, max(0, i - radius) : i + radius + 1]
            rows = rows[:, :, max(0, j - radius) : j + radius + 1].reshape(-1, 2)
            own = centres[i, j]
            # centroids are the means of the rows that are nearest to them
            nearest = cdist(rows, own).argmin(axis=1)
            for number in np.unique(nearest):
                mean = rows[nearest == number].mean(axis=0)
                assert_allclose(own[number], mean, rtol=1e-5)
            assert len(np.unique(nearest)) == 3
            covariance = np.cov(rows.T) + 0.02 * np.eye(2)
            away = new[:, i, j] - rows.mean(axis=0)
            squares = (away @ np.linalg.inv(covariance) * away).sum(axis=1)
            near = cdist(new[:, i, j], own).min(axis=1)
            expected = (1 - weight) * np.sqrt(squares) + weight * near
            assert_allclose(maps[:, i, j], expected, rtol=1e-4)


def test_one_centroid_is_the_mean(pictures):
    found = fitted(pictures[0], n_clusters=1)
    assert_allclose(found.centroids_[:, :, 0], found.location_, rtol=1e-5)


def test_pictures_moved_by_a_place_are_less_anomalous_than_to_padim():
    rng = np.random.default_rng(0)
    scene = rng.uniform(size=(12, 13))
    X = scene[:, :12] + rng.normal(0, 0.02, size=(20, 12, 12))
    same = scene[:, :12] + rng.normal(0, 0.02, size=(10, 12, 12))
    moved = scene[:, 1:] + rng.normal(0, 0.02, size=(10, 12, 12))
    given = {**GIVEN, "regularization": 1e-4, "contamination": 0.5}
    padim = PaDiM(**given).fit(X)
    npad = NPAD(**given, centroid_weight=0).fit(X)
    # a column is lost at the border
    ratios = [
        one.transform(moved)[:, :, :-1].mean() / one.transform(same).mean()
        for one in (padim, npad)
    ]
    assert ratios[0] > 10
    assert ratios[1] < 2


def test_constant_features_and_few_pictures(pictures):
    flat = np.full((2, 4, 4), 0.5)
    found = fitted(flat, n_clusters=4).transform(flat)
    assert np.isfinite(found).all()
    assert_allclose(found, 0, atol=1e-6)
    one = fitted(pictures[0][:1], radius=1)
    assert torch.isfinite(one.centroids_).all()
