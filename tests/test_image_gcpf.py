"""GCPF: Gaussian clusters of patches, layer by layer."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from skad.image import GCPF
from skad.image.density._gcpf import gaussian_clusters, gaussians_of


class Squares(torch.nn.Module):
    """A backbone that says what is in squares of 2 x 2 pixels, and in four of them."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.PixelUnshuffle(2)
        self.second = torch.nn.AvgPool2d(2)

    def forward(self, x):
        return self.second(self.first(x))


GIVEN = {"backbone": Squares, "layers": ("first", "second"), "contamination": 0.5}


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    texture = rng.uniform(size=(16, 16))
    return [texture + rng.normal(0, 0.05, size=(n, 16, 16)) for n in (12, 3)]


def layers_of(X):
    """Return the maps (n, h, w, 4) of both layers of pictures (n, 16, 16)."""
    first = X.reshape(-1, 8, 2, 8, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 8, 8, 4)
    return first, first.reshape(-1, 4, 2, 4, 2, 4).mean(axis=(2, 4))


def bilinear(values, size):
    """Return a map (h, w) as the network's own interpolation brings it to a size."""
    tensor = torch.as_tensor(values)[None, None]
    return torch.nn.functional.interpolate(tensor, size=(size, size), mode="bilinear")[
        0, 0
    ].numpy()


def precision(rows):
    """Return the inverse of the shrunk covariance, by scikit-learn."""
    return np.linalg.inv(LedoitWolf().fit(rows).covariance_)


def test_one_cluster_is_the_mahalanobis_distance_of_each_layer(pictures):
    X, new = pictures
    detector = GCPF(**GIVEN, n_clusters=1, smoothing=2, max_patches=None).fit(X)
    expected = []
    for train, test in zip(layers_of(X), layers_of(new), strict=True):
        rows = train.reshape(-1, 4)
        mean, inverse = rows.mean(axis=0), precision(rows)
        away = [[[mahalanobis(f, mean, inverse) for f in r] for r in p] for p in test]
        expected.append([bilinear(np.array(each), 16) for each in away])
    maps = [gaussian_filter(each, 2, mode="nearest") for each in np.mean(expected, 0)]
    inspected = detector.inspect(new)
    inner = np.s_[:, 6:-6, 6:-6]  # borders are smoothed in another way
    assert_allclose(inspected.maps[inner], np.array(maps)[inner], rtol=1e-3)
    assert_allclose(-inspected.scores, inspected.maps.max(axis=(1, 2)))


@pytest.mark.parametrize("max_steps", [0, 1000])
def test_gcpf_is_the_naive_loop(pictures, max_steps):
    X, new = pictures
    detector = GCPF(
        **GIVEN, n_clusters=3, max_steps=max_steps, smoothing=0, random_state=0
    ).fit(X)
    expected = np.zeros((len(new), 16, 16))
    for number, (train, test) in enumerate(
        zip(layers_of(X), layers_of(new), strict=True)
    ):
        rows, means = train.reshape(-1, 4), detector.means_[number].numpy()
        whitening = detector.whitening_[number].numpy()
        found = [w.T @ w for w in whitening]
        if max_steps:
            label = [
                np.argmin(
                    [mahalanobis(r, m, p) for m, p in zip(means, found, strict=True)]
                )
                for r in rows
            ]
        else:
            label = [np.argmin([np.sum((r - m) ** 2) for m in means]) for r in rows]
        label, inverses = np.array(label), []
        for k in range(3):
            own = rows[label == k]
            assert_allclose(means[k], own.mean(axis=0), rtol=1e-4)
            inverses.append(precision(own))
            assert_allclose(
                found[k], inverses[k], rtol=2e-2, atol=1e-3 * found[k].max()
            )
        for i, picture in enumerate(test):
            away = [
                [min(map(mahalanobis, [f] * 3, means, inverses)) for f in row]
                for row in picture
            ]
            expected[i] += bilinear(np.array(away), 16) / 2
    assert_allclose(detector.transform(new), expected, rtol=1e-2)


def naive_clusters(rows, means):
    """Return the means that clusters end at, and whether one lost all its rows."""
    label = np.array([np.argmin([np.sum((r - m) ** 2) for m in means]) for r in rows])
    while True:
        parts = [rows[label == k] for k in range(len(means))]
        own = [
            (p.mean(axis=0), np.linalg.inv(LedoitWolf().fit(p).covariance_))
            for p in parts
        ]
        moved = np.array([np.argmin([mahalanobis(r, *g) for g in own]) for r in rows])
        if (moved == label).all():
            return [mean for mean, _ in own], False
        if len(set(moved)) < len(means):
            return means, True
        label = moved


def test_clusters_that_lose_all_patches_bring_back_those_of_k_means():
    lost = []
    for seed in range(1, 5):  # whose clusters keep more than one row
        rows = np.random.default_rng(seed).exponential(size=(60, 3))
        tensor = torch.as_tensor(rows)
        (start, _), _ = gaussian_clusters(tensor, 3, 0, 0)
        (found, _), _ = gaussian_clusters(tensor, 3, 1000, 0)
        expected, empty = naive_clusters(rows, list(start.numpy()))
        assert_allclose(found, expected)
        lost.append(empty)
    assert 0 < sum(lost) < 4


def test_a_patch_goes_to_the_nearest_gaussian_whatever_its_centre():
    rng = np.random.default_rng(0)
    # a long cloud along an axis, and a small one beside its end
    long = rng.normal(size=(300, 2)) * [10, 0.3]
    small = rng.normal(size=(300, 2)) * 0.3 + [9, 4]
    rows = torch.as_tensor(np.concatenate([long, small]))
    (means, _), _ = gaussian_clusters(rows, 2, 1000, 0)
    order = means[:, 1].argsort()
    assert_allclose(means[order[0]], long.mean(axis=0), atol=0.1)
    assert_allclose(means[order[1]], small.mean(axis=0), atol=0.1)
    (means, _), _ = gaussian_clusters(rows, 2, 0, 0)
    assert abs(means[:, 0] - means.mean(0)[0]).min() > 5  # k-means cuts the long one


def test_each_layer_draws_its_own_patches(pictures):
    X, _ = pictures
    most = GCPF(**GIVEN, max_patches=12 * 16, n_clusters=1, random_state=0).fit(X)
    every = GCPF(**GIVEN, max_patches=None, n_clusters=1, random_state=0).fit(X)
    assert_allclose(most.means_[1], every.means_[1])  # all of the second layer's
    assert not np.allclose(most.means_[0], every.means_[0])


def test_equal_patches_have_a_gaussian():
    flat = np.full((3, 8, 8), 0.5)
    with pytest.warns(UserWarning, match="All 3 training samples"):
        detector = GCPF(**GIVEN, n_clusters=4).fit(flat)
    assert_allclose(detector.transform(flat), 0, atol=1e-6)
    means, whitening = gaussians_of(
        np.array([[1.0], [3.0], [5.0]]), np.array([0, 1, 1])
    )
    assert_allclose(means, [[1], [4]])
    assert_allclose(whitening[0], 1 / np.sqrt(1e-6 * 8 / 3))
