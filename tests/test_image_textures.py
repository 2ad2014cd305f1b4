"""Methods of texture: regions, exemplars, projections and dictionaries of patches."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skad.embedding import PatchEmbedding, RegionEmbedding
from skad.image import CNNSelfSimilarity
from tests._pixels import Lines


def textures(n, seed=0, side=24, channels=()):
    """Return pictures (n, side, side, ...) of one texture at random."""
    rng = np.random.default_rng(seed)
    stripes = np.sin(np.arange(side) * np.pi / 2) * 0.1
    light = rng.normal(0.5, 0.03, size=(n, side, side, *channels))
    return light + stripes.reshape(side, *[1 for _ in channels])


# -------------------------------------------------------------------------- regions


def test_a_region_is_described_as_a_picture_by_itself():
    X = textures(2)
    embedding = RegionEmbedding(size=16, stride=8)
    found = embedding.fit_transform(X)
    assert found.shape == (2, 3, 3, 148)
    inner = X[:, 4:20, 4:20]  # around the cell in the middle
    alone = PatchEmbedding(neighborhood=1).fit(inner)
    expected = np.concatenate(
        [
            each.mean((2, 3)).numpy()
            for each in alone.feature_maps(torch.tensor(inner)[..., None])
        ],
        axis=1,
    )
    assert_allclose(found[:, 1, 1], expected, rtol=1e-4, atol=1e-5)
    wider = RegionEmbedding(size=16, stride=8, region_input=32).fit_transform(X)
    assert wider.shape == found.shape
    assert not np.allclose(wider, found)


def test_regions_that_leave_pixels_out_are_an_error():
    with pytest.raises(ValueError, match="stride=8 must be at most size=4"):
        RegionEmbedding(size=4).fit(textures(2))
    with pytest.raises(ValueError, match="region_stride=8 must be at most"):
        CNNSelfSimilarity(region_size=4).fit(textures(2))


# ------------------------------------------------------------------ self-similarity

SIMILAR = {
    "backbone": Lines,
    "layers": ("fine",),
    "region_size": 6,
    "region_stride": 3,
    "random_state": 0,
}


def test_a_whole_dictionary_is_the_nearest_neighbours():
    """All regions, all components: plain distances of features of length one."""
    X, new = textures(4), textures(3, 1)
    whole = {"dictionary_size": 10**6, "explained_variance": 1.0}
    detector = CNNSelfSimilarity(**SIMILAR, **whole, n_neighbors=2).fit(X)
    embedding = RegionEmbedding(Lines, ("fine",), size=6, stride=3, normalization=None)

    def described(pictures):
        rows = embedding.fit(pictures).transform(pictures)
        return rows / np.abs(rows).sum(axis=-1, keepdims=True)

    known, asked = described(X).reshape(-1, 6), described(new)
    away = np.linalg.norm(asked[..., None, :] - known, axis=-1)
    regions = np.sort(away, axis=-1)[..., :2].mean(axis=-1)  # (3, 8, 8)
    maps, times = np.zeros((3, 24, 24)), np.zeros((24, 24))
    for i, j in np.ndindex(8, 8):
        rows, columns = (slice(max(0, 3 * k - 1), 3 * k + 5) for k in (i, j))
        maps[:, rows, columns] += regions[:, i, j, None, None]
        times[rows, columns] += 1
    assert_allclose(detector.transform(new), maps / times, rtol=1e-4, atol=1e-7)
    assert_allclose(
        -detector.score_samples(new), (maps / times).max(axis=(1, 2)), rtol=1e-4
    )


def test_the_dictionary_has_regions_near_the_centres():
    X = textures(6)
    detector = CNNSelfSimilarity(**SIMILAR, dictionary_size=7).fit(X)
    assert 1 <= len(detector.dictionary_) <= 7
    features = detector._measured(torch.tensor(X)[..., None])
    coded = (features.double().numpy() - detector.mean_) @ detector.components_
    away = np.abs(coded.reshape(-1, 1, coded.shape[-1]) - detector.dictionary_.numpy())
    assert away.max(axis=-1).min(axis=0).max() < 1e-12
    # the components hold what they should, and one fewer would not
    everything = coded.shape[-1]
    rows = features.double().numpy().reshape(-1, 6)
    variances = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    assert shares[everything - 1] >= 0.95
    assert everything == 1 or shares[everything - 2] < 0.95


def test_the_built_in_filters_keep_their_length():
    X = torch.tensor(textures(2))[..., None]
    for normalize, unit in [(None, False), (True, True), (False, False)]:
        detector = CNNSelfSimilarity(normalize=normalize, random_state=0)
        detector.fit(X[..., 0].numpy())
        lengths = detector._measured(X).abs().sum(-1)
        assert torch.allclose(lengths, torch.ones_like(lengths)) == unit


def test_maps_of_resized_pictures_have_their_own_size():
    X = textures(4)
    detector = CNNSelfSimilarity(**SIMILAR, image_size=12, smoothing=1).fit(X)
    assert detector.transform(X).shape == X.shape
    other = clone(detector).set_params(smoothing=0).fit(X)
    assert_array_equal(other.dictionary_, detector.dictionary_)
    assert other.transform(X).std() > detector.transform(X).std()
