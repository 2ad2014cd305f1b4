"""Pictures as sets of points: where these are, and the energy of a set."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, poisson
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf

from skad.image import RFS
from skad.image.density._rfs import energies
from skad.nn.keypoints import keypoints
from tests.test_image_networks import GRID

RANDOM = RFS(**GRID, smoothing=0)


pytestmark = pytest.mark.usefixtures("own_generator")


def noise(n, seed=0, size=(40, 48)):
    return np.random.default_rng(seed).normal(0.5, 0.1, size=(n, *size))


# ------------------------------------------------------------------------------- points


def slow_keypoints(picture, edge):
    """Return the points (h, w) of one map (c, h, w), place by place."""
    h, w = picture.shape[1:]
    found = np.zeros((h, w), bool)
    for i, j in np.ndindex(h, w):
        k = picture[:, i, j].argmax()
        wide = np.pad(picture[k], 1)[i : i + 3, j : j + 3]
        around = picture[k, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
        dii = wide[0, 1] - 2 * wide[1, 1] + wide[2, 1]
        djj = wide[1, 0] - 2 * wide[1, 1] + wide[1, 2]
        dij = (wide[0, 0] + wide[2, 2] - wide[0, 2] - wide[2, 0]) / 4
        hessian = np.array([[dii, dij], [dij, djj]])
        curves = np.abs(np.linalg.eigvalsh(hessian))
        alike = np.linalg.det(hessian) > 0 and curves.max() <= edge * curves.min()
        found[i, j] = picture[k, i, j] == around.max() and alike
    return found


@pytest.mark.parametrize("shape", [(5, 9, 12), (3, 1, 15), (1, 8, 8)])
def test_points_are_peaks_of_the_strongest_channel_without_edges(shape):
    maps = torch.randn(4, *shape, dtype=torch.float64)
    found = keypoints(maps, 3.0).numpy()
    for each, expected in zip(found, maps.numpy(), strict=True):
        assert_array_equal(each, slow_keypoints(expected, 3.0))
    assert found.sum() > 3
    assert keypoints(maps, 50.0).sum() > found.sum()


def test_a_ridge_is_no_point_and_a_bump_is():
    y, x = np.mgrid[-5:6, -5:6].astype(float)
    bump = np.exp(-(x**2 + y**2) / 8)
    ridge = np.exp(-(x**2) / 8 - y**2 / 200)
    maps = torch.tensor(np.stack([bump, ridge]))[:, None]
    assert keypoints(maps).sum((1, 2)).tolist() == [1, 0]
    assert bool(keypoints(maps)[0, 5, 5])
    assert not keypoints(torch.zeros(2, 3, 6, 6)).any()


# ------------------------------------------------------------------------------- energy


def test_the_energy_of_all_points_is_the_likelihood_of_the_set():
    """But for the Gaussian's constant for each point, and the Poisson's."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    covariance, rate = mixing @ mixing.T, 6.5
    for n in (0, 1, 4, 9):
        points = rng.normal(size=(n, 3)) @ mixing.T
        gaussian = multivariate_normal(np.zeros(3), covariance)
        peak = gaussian.logpdf(np.zeros(3))
        logs = np.atleast_1d(gaussian.logpdf(points)) if n else np.zeros(0)
        parts = np.zeros((1, 12))
        parts[0, :n] = peak - logs
        found = energies(torch.tensor(parts), torch.tensor([float(n)]), rate, 1.0)
        expected = (peak - logs).sum() - poisson(rate).logpmf(n) - rate
        assert_allclose(found.item(), expected)


def test_only_a_share_of_the_points_counts():
    parts = torch.zeros(3, 200, dtype=torch.float64)
    counts = torch.tensor([110.0, 10, 50], dtype=torch.float64)
    for row, n in zip(parts, (110, 10, 50), strict=True):
        row[torch.randperm(200)[:n]] = torch.rand(n, dtype=torch.float64)
    found = energies(parts, counts, 40.0, 0.03)
    for row, n, k, each in zip(parts, (110, 10, 50), (3, 1, 2), found, strict=True):
        top = np.sort(row.numpy())[-k:].sum()
        expected = top - n * math.log(40) + math.log(math.factorial(n))
        assert_allclose(each.item(), expected)


def test_scores_are_the_energies_of_the_points_and_maps_have_their_terms():
    X, new = noise(12), noise(5, seed=1)
    detector = clone(RANDOM).set_params(share=0.2).fit(X)

    def points(pictures):
        maps = detector.embedding_.transform(pictures).transpose(0, 3, 1, 2)
        where = keypoints(torch.tensor(maps)).numpy()
        rows = [m[:, w].T for m, w in zip(maps, where, strict=True)]
        return where, [r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows]

    _, train = points(X)
    joined = np.concatenate(train)
    assert_allclose(detector.location_, joined.mean(axis=0), rtol=1e-6, atol=1e-8)
    covariance = ledoit_wolf(joined)[0]
    assert_allclose(detector.precision_ @ covariance, np.eye(14), atol=1e-5)
    rate = len(joined) / 12
    assert_allclose(detector.rate_, rate)
    where, sets = points(new)
    scores, maps = detector.inspect(new)[0], detector.transform(new)
    for score, places, rows, found in zip(scores, where, sets, maps, strict=True):
        away = rows - joined.mean(axis=0)
        terms = (away @ np.linalg.inv(covariance) * away).sum(1) / 2
        n, top = len(rows), np.sort(terms)[-round(0.2 * len(rows)) :].sum()
        assert_allclose(
            -score, top - n * np.log(rate) + math.lgamma(n + 1), rtol=1e-5, atol=1e-4
        )
        own = np.zeros(places.shape)
        own[places] = terms
        wide = torch.nn.functional.interpolate(
            torch.tensor(own)[None, None], (40, 48), mode="bilinear"
        )
        assert_allclose(found, wide[0, 0], rtol=1e-4, atol=1e-4)


def test_of_as_many_points_the_farthest_decide():
    parts = torch.rand(20, 60, dtype=torch.float64)
    found = energies(parts, torch.full((20,), 60.0), 33.0, 0.03)
    top = parts.topk(2).values.sum(1)
    assert_array_equal(found.argsort(), top.argsort())


def test_too_few_and_too_many_points_are_anomalous():
    parts, counts = torch.zeros(60, 1), torch.arange(60.0)
    found = energies(parts, counts, 20.0, 0.03)
    assert found.argmin().item() in (19, 20)
    assert (found[:19].diff() < 0).all()
    assert (found[20:].diff() > 0).all()


def test_pictures_without_points_cannot_be_learned():
    with pytest.raises(ValueError, match=r"points were found in n_samples=8"):
        RFS(**GRID).fit(np.zeros((8, 32, 32)))


def test_the_threshold_is_of_pictures_that_were_left_out():
    X = noise(30)
    detector = clone(RANDOM).fit(X)
    known = -detector.score_samples(X)
    honest = np.asarray(detector._threshold_anomaly_)
    assert sorted(honest) != sorted(known)
    assert honest.mean() > known.mean()
    new = detector.decision_function(noise(300, seed=2))
    assert (new < 0).mean() < 0.12
