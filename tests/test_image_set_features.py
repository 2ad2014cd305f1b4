"""SetFeatures: histograms of directions, distances made white, parts of places."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.covariance import ShrunkCovariance
from sklearn.metrics import roc_auc_score

from skad.image import SetFeatures
from skad.image.memory._set_features import histograms, white, whitening
from tests._pixels import Lines

SMALL = {
    "backbone": Lines,
    "layers": ("fine", "coarse"),
    "n_projections": 7,
    "n_thresholds": 3,
    "random_state": 0,
}


def bars(n_pictures, n_bars, seed=0):
    """Return pictures (n, 24, 24) with bars in some of six places."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0.2, 0.02, size=(n_pictures, 24, 24))
    for picture in found:
        for column in rng.choice(6, n_bars, replace=False):
            picture[4:20, 4 * column + 1 : 4 * column + 3] += rng.uniform(0.4, 0.8)
    return found


def naive_histogram(elements, projections, thresholds):
    """Return (q j,) of elements (p, c), one by one."""
    found = np.zeros(thresholds.shape)
    for q, j in np.ndindex(thresholds.shape):
        found[q, j] = np.mean(
            [e @ projections[:, j] < thresholds[q, j] for e in elements]
        )
    return found.ravel()


def levels(detector, X):
    """Return of each draw's layers the elements (n, p, c) of pictures."""
    maps = detector.embedding_.feature_maps(torch.as_tensor(X)[..., None])
    maps.append(torch.as_tensor(X)[:, None])
    return [each.flatten(2).transpose(1, 2).numpy() for each in maps] * detector.n_draws


@pytest.mark.parametrize("n_neighbors", [1, 2])
@pytest.mark.parametrize("n_draws", [1, 2])
def test_set_features_is_the_naive_loop(n_neighbors, n_draws):
    X, new = bars(9, 2), bars(3, 3, seed=1)
    detector = SetFeatures(
        **SMALL, n_neighbors=n_neighbors, n_draws=n_draws, pixel_weight=0.3
    ).fit(X)
    found = []
    for i, (train, test) in enumerate(
        zip(levels(detector, X), levels(detector, new), strict=True)
    ):
        drawn = [
            each[i].numpy() for each in (detector.projections_, detector.thresholds_)
        ]
        projected = train @ drawn[0]
        low, high = np.quantile(projected.reshape(-1, 7), (0.01, 0.99), axis=0)
        assert_allclose(drawn[1], [low + (high - low) * q / 4 for q in (1, 2, 3)])
        rows, others = (
            np.array([naive_histogram(one, *drawn) for one in sets])
            for sets in (train, test)
        )
        precision = np.linalg.inv(ShrunkCovariance(shrinkage=0.1).fit(rows).covariance_)
        away = others[:, None] - rows
        squares = np.sort(np.einsum("bnd,de,bne->bn", away, precision, away), axis=1)
        weight = 0.3 if i % 3 == 2 else 1.0
        scale = detector.scales_.flatten()[i].item()
        found.append(weight * squares[:, :n_neighbors].mean(1) / scale)
    expected = np.median(np.reshape(found, (n_draws, 3, 3)).sum(1), axis=0)
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-6)


def test_distances_are_divided_by_those_of_pictures_not_learned_from():
    """Five copies, each fitted without a fold and with the same directions."""
    X = bars(5, 2)
    detector = SetFeatures(**SMALL, n_draws=1).fit(X)
    rows = detector._histograms(
        detector._flat(detector._maps(torch.as_tensor(X)[..., None]))
    )
    left = []
    for i in range(5):
        others = copy.copy(detector)
        others._learn_from([np.delete(each, i, axis=0) for each in rows])
        left.append(others._distances([each[i : i + 1] for each in rows]))
    left = torch.cat(left, 2)
    assert_allclose(detector.scales_, left.mean(2))
    weights = torch.tensor([1, 1, 0.1]) / left.mean(2)[0]
    assert_allclose(detector._threshold_anomaly_, (weights[:, None] * left[0]).sum(0))


def test_histograms_know_neither_order_nor_number():
    rng = np.random.default_rng(0)
    sets = torch.tensor(rng.normal(size=(2, 4, 10)))
    w, t = torch.tensor(rng.normal(size=(4, 6))), torch.tensor(rng.normal(size=(3, 6)))
    found = histograms(sets, w, t)
    order = torch.tensor(rng.permutation(10))
    assert_allclose(histograms(sets[:, :, order], w, t), found)
    assert_allclose(histograms(torch.cat([sets, sets], 2), w, t), found)
    single = histograms(sets[:, :, :1], w, t)
    assert set(single.unique().tolist()) == {0.0, 1.0}
    first = histograms(sets, torch.eye(4, 1, dtype=sets.dtype), torch.tensor([[0.0]]))
    assert_allclose(first[:, 0], (sets[:, 0] < 0).double().mean(1))


@pytest.mark.parametrize("shape", [(5, 12), (30, 4)])
def test_white_rows_have_the_shrunk_covariance(shape):
    rows = torch.tensor(np.random.default_rng(0).normal(size=shape))
    made = white(torch.eye(shape[1], dtype=rows.dtype), *whitening(rows, 0.2))
    covariance = ShrunkCovariance(shrinkage=0.2).fit(rows.numpy()).covariance_
    assert_allclose(made @ made.T, np.linalg.inv(covariance), rtol=1e-9)


def test_places_add_up_to_the_distance():
    """With one draw and layers of one grid, without smoothing."""
    settings = {**SMALL, "layers": ("fine",), "n_neighbors": 2, "n_draws": 1}
    detector = SetFeatures(**settings, smoothing=0).fit(bars(9, 2))
    new = bars(3, 3, seed=1)
    parts = detector.transform(new)
    assert_allclose(parts.mean((1, 2)), -detector.score_samples(new), rtol=1e-6)


def test_it_counts():
    """Bars in any places, where a third is too many, and one too few."""
    good, new = (
        bars(60, 2),
        np.concatenate([bars(20, 2, 1), bars(10, 3, 2), bars(10, 1, 3)]),
    )
    is_bad = np.repeat([0, 1], 20)
    sets = SetFeatures(n_projections=100, random_state=0).fit(good)
    assert roc_auc_score(is_bad, -sets.score_samples(new)) > 0.95
