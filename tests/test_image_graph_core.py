"""GraphCore: the farthest patch from a small bank of two joined stages."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage
from torch import nn

from skad.image import GraphCore, PatchCore


class Stages(nn.Module):
    """Two stages of one grid, as the blocks of a vision graph network have it."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.stem = nn.Conv2d(1, 5, 4, stride=4)
        self.blocks = nn.Sequential(nn.Conv2d(5, 5, 1), nn.Conv2d(5, 5, 3, padding=1))
        for value in self.parameters():
            value.data = torch.randn(value.shape, generator=random)

    def forward(self, x):
        return self.blocks(self.stem(x))


GIVEN = {"backbone": Stages, "layers": ("blocks.0", "blocks.1"), "random_state": 0}


def pictures(n, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(size=(n, 24, 32)).astype(np.float32)


def stages(X):
    """Return the features (n, 6, 8, 10) of pictures, both stages joined."""
    with torch.no_grad():
        first = Stages().stem(torch.tensor(X)[:, None])
        first = Stages().blocks[0](first)
        both = torch.cat([first, Stages().blocks[1](first)], 1)
    return both.movedim(1, 3).double().numpy()


def test_it_is_patchcore_with_other_defaults():
    X, new = pictures(40), pictures(5, seed=1)
    detector = GraphCore(**GIVEN).fit(X)
    few = {"coreset_ratio": 0.001, "neighborhood": 1, "n_neighbors": 1}
    other = PatchCore(**GIVEN, **few, smoothing=4.0).fit(X)
    assert len(detector.bank_) == round(0.001 * 40 * 48)
    assert_allclose(detector.score_samples(new), other.score_samples(new))
    assert_allclose(detector.transform(new), other.transform(new))
    assert detector.offset_ == pytest.approx(other.offset_)


def test_it_is_the_search_in_a_loop():
    X, new = pictures(10), pictures(3, seed=1)
    detector = GraphCore(**GIVEN, bank_size=4).fit(X)
    bank = detector.bank_.numpy().astype(float)
    known = stages(X).reshape(-1, 10)
    assert all(np.abs(known - row).max(axis=1).min() < 1e-5 for row in bank)
    features, maps = stages(new), detector.transform(new)
    for i, score in enumerate(detector.score_samples(new)):
        away = np.empty((6, 8))
        for place in np.ndindex(6, 8):
            away[place] = min(np.linalg.norm(features[i][place] - row) for row in bank)
        assert_allclose(-score, away.max(), rtol=1e-4)
        wide = torch.tensor(away)[None, None]
        wide = nn.functional.interpolate(wide, (24, 32), mode="bilinear")[0, 0]
        assert_allclose(maps[i], ndimage.gaussian_filter(wide, 4.0), rtol=1e-4)


def test_the_threshold_leaves_a_picture_out_of_the_bank():
    X = pictures(12)
    detector = GraphCore(**GIVEN, bank_size=6).fit(X)
    features, owners = stages(X), detector.owners_.numpy()
    bank = detector.bank_.numpy()
    honest = [
        np.linalg.norm(features[i].reshape(-1, 1, 10) - bank[owners != i], axis=2)
        .min(axis=1)
        .max()
        for i in range(12)
    ]
    assert_allclose(np.sort(detector._threshold_anomaly_), np.sort(honest), rtol=1e-4)
