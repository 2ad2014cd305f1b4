"""Densities of features: GaussianAD."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.covariance import LedoitWolf

from skad._limits import upper_limit
from skad.image import GaussianAD


class Layers(torch.nn.Module):
    """Twelve and six features of squares of 4 x 4 and of 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.first = torch.nn.Conv2d(1, 12, 4, stride=4, bias=False)
        self.second = torch.nn.Conv2d(12, 6, 2, stride=2, bias=False)
        for layer in (self.first, self.second):
            shape = layer.weight.shape
            layer.weight.data = torch.randn(shape, generator=random)

    def forward(self, x):
        return self.second(self.first(x))


GIVEN = {"backbone": Layers, "layers": ("first", "second"), "normalization": None}


def pictures(n, seed=0):
    """Return pictures (n, 24, 24) of one texture with noise."""
    rng = np.random.default_rng(seed)
    texture = np.random.default_rng(9).normal(0.5, 0.1, size=(24, 24))
    return texture + rng.normal(0, 0.02, size=(n, 24, 24))


def means_of(detector, X):
    """Return the means (n, d) of each layer's maps."""
    maps = detector.embedding_.feature_maps(torch.tensor(X)[..., None])
    return [layer.mean((2, 3)).numpy() for layer in maps]


@pytest.mark.parametrize("n", [4, 40])  # fewer pictures than features, and more
def test_gaussian_ad_is_scikit_learn_s_ledoit_wolf_of_each_layer(n):
    detector = GaussianAD(**GIVEN, contamination=0.5).fit(pictures(n))
    train, new = means_of(detector, pictures(n)), means_of(detector, pictures(5, 1))
    expected = [
        np.sqrt(LedoitWolf().fit(rows).mahalanobis(queries))
        for rows, queries in zip(train, new, strict=True)
    ]
    found = detector.score_samples(pictures(5, 1))
    assert_allclose(-found, np.mean(expected, axis=0), rtol=1e-6)


def test_the_mean_of_its_map_is_the_score():
    """Of each layer, and of the whole where interpolation keeps the mean."""
    detector = GaussianAD(**GIVEN, smoothing=0).fit(pictures(30))
    X = pictures(5, 1)
    X[:, 8:16, 8:16] += 0.2
    maps = detector.transform(X)
    assert_allclose(maps.mean(axis=(1, 2)), -detector.score_samples(X), rtol=0.05)
    single = GaussianAD(**GIVEN, smoothing=0).set_params(layers=("first",))
    single.fit(pictures(30))
    single._upsampled = lambda patches: patches
    maps = single.transform(X)
    assert maps.shape == (5, 6, 6)
    assert_allclose(maps.mean(axis=(1, 2)), -single.score_samples(X), rtol=1e-6)
    assert (maps.reshape(5, -1).argmax(1) % 6 // 2 == 1).all()


@pytest.mark.parametrize("n", [6, 40])
def test_the_threshold_leaves_each_picture_out(n):
    """Against Gaussians of the others with the shrinkage of all."""
    X = pictures(n)
    detector = GaussianAD(**GIVEN).fit(X)
    expected = np.zeros(n)
    for rows in means_of(detector, X):
        shrinkage = LedoitWolf().fit(rows).shrinkage_
        added = shrinkage * np.cov(rows.T, ddof=0).trace() / rows.shape[1]
        for i, row in enumerate(rows):
            others = np.delete(rows, i, axis=0)
            covariance = (1 - shrinkage) * np.cov(others.T, ddof=0)
            covariance += added * np.eye(rows.shape[1])
            away = row - others.mean(axis=0)
            expected[i] += np.sqrt(away @ np.linalg.solve(covariance, away)) / 2
    assert_allclose(detector._threshold_anomaly_, expected, rtol=1e-6)
    assert_allclose(-detector.offset_, upper_limit(expected, 0.05), rtol=1e-6)
    assert (expected > -detector.score_samples(X)).all()


def test_two_pictures_are_the_fewest():
    assert np.isfinite(GaussianAD(**GIVEN).fit(pictures(2)).offset_)
    with pytest.raises(ValueError, match="needs two pictures"):
        GaussianAD(**GIVEN).fit(pictures(1))
