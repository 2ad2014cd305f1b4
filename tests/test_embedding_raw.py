"""Patches of pixels against slices of the pictures."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils.estimator_checks import check_estimator

from skad.embedding import RawPatches
from skad.image import PatchDetector

PICTURES = np.random.default_rng(0).random((3, 13, 17, 2))


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 1), (5, 2), (4, 4), (7, 4)])
@pytest.mark.parametrize("center", [False, True])
def test_patches_are_slices_around_the_cells(size, stride, center):
    embedding = RawPatches(size, stride, center=center)
    found = embedding.fit_transform(PICTURES)
    assert found.dtype == np.float64
    before = (size - stride) // 2
    rows, columns = -(-13 // stride), -(-17 // stride)
    assert found.shape == (3, rows, columns, 2 * size**2)
    wide = np.pad(PICTURES, [(0, 0), (before, 20), (before, 20), (0, 0)], "edge")
    for i, j in np.ndindex(rows, columns):
        top, left = i * stride, j * stride
        patch = wide[:, top : top + size, left : left + size]
        if center:
            patch = patch - patch.mean(axis=(1, 2), keepdims=True)
        expected = patch.transpose(0, 3, 1, 2).reshape(3, -1)
        assert_allclose(found[:, i, j], expected, atol=1e-6)


def test_tensors_rows_and_names():
    tensor = torch.tensor(PICTURES)
    embedding = RawPatches(3, 2).fit(tensor)
    assert_array_equal(embedding.transform(tensor), embedding.transform(PICTURES))
    flat = RawPatches(3, 2, image_shape=(13, 17, 2)).fit_transform(
        PICTURES.reshape(3, -1)
    )
    assert_allclose(flat, embedding.transform(PICTURES), atol=1e-6)
    names = embedding.get_feature_names_out()
    assert list(names[[0, -1]]) == ["rawpatches0", "rawpatches17"]


def test_a_stride_that_leaves_pixels_out_is_an_error():
    with pytest.raises(ValueError, match="stride=4 must be at most size=3"):
        RawPatches(3, 4).fit(PICTURES)


def test_a_detector_on_pixels_finds_the_scratch():
    rng = np.random.default_rng(0)
    good = rng.normal(0.5, 0.05, size=(9, 32, 32))
    bad = good[-1:].copy()
    bad[0, 10:12, 8:24] += 0.4
    detector = PatchDetector(RawPatches(5, 2), smoothing=1, random_state=0)
    detector.fit(good[:8])
    normal, scratched = detector.decision_function(np.r_[good[8:], bad])
    assert scratched < min(normal, 0)
    peak = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    assert 8 <= peak[0] <= 13
    assert 6 <= peak[1] <= 25


def test_scikit_learns_checks():
    check_estimator(RawPatches(3, 1))
