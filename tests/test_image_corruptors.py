"""Transformers that put made defects into pictures."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import check_estimator

from skad.image import MovedPieces, NoisyRectangles, PastedTextures, PatchCore
from skad.nn.corruption import NoiseRectangles, SimplexRectangle, TexturePaste
from tests.test_image_networks import pictures

CORRUPTORS = {
    "textures": PastedTextures(random_state=0),
    "rectangles": MovedPieces(random_state=0),
    "scars": MovedPieces(shape="scars", random_state=0),
    "foreign": MovedPieces(source="other", most_left=1.0, random_state=0),
    "white": NoisyRectangles(random_state=0),
    "simplex": NoisyRectangles(noise="simplex", random_state=0),
}
every = pytest.mark.parametrize("corruptor", CORRUPTORS.values(), ids=list(CORRUPTORS))


@pytest.fixture(scope="module")
def colour():
    return np.random.default_rng(0).uniform(size=(9, 24, 20, 3))


@every
def test_pixels_outside_of_the_mask_are_as_they_were(corruptor, colour):
    for dtype in (np.float64, np.float32):
        X = colour.astype(dtype)
        seen, masks = corruptor.fit(X).corrupt(X)
        assert seen.shape == X.shape
        assert seen.dtype == dtype
        assert masks.shape == X.shape[:3]
        assert masks.dtype == bool
        assert_array_equal(seen[~masks], X[~masks])
        assert (seen != X).any(axis=3)[masks].mean() > 0.9
        assert masks.any(axis=(1, 2)).mean() > 0.5
        assert 0 <= seen.min() <= seen.max() <= 1
        assert_array_equal(corruptor.transform(X), seen)


@every
def test_pictures_come_back_as_they_came(corruptor, colour, tmp_path):
    whole = (255 * colour).astype(np.uint8)
    seen, masks = clone(corruptor).fit(whole).corrupt(whole)
    assert seen.dtype == np.uint8
    assert_array_equal(seen[~masks], whole[~masks])
    floats = clone(corruptor).fit(whole / 255).transform(np.float32(whole / 255))
    assert_allclose(seen, 255 * floats, atol=0.51)
    grey = colour[..., 0]
    seen = clone(corruptor).fit_transform(grey)
    assert seen.shape == grey.shape
    flat = clone(corruptor).set_params(image_shape=(24, 20))
    assert_array_equal(flat.fit_transform(grey.reshape(9, -1)), seen.reshape(9, -1))
    assert_array_equal(clone(corruptor).fit_transform(list(grey)), seen)
    found = clone(corruptor).fit(grey).corrupt(torch.tensor(grey))
    assert torch.is_tensor(found.pictures)
    assert torch.is_tensor(found.masks)
    assert_array_equal(found.pictures, seen)
    paths = [tmp_path / f"{i}.png" for i in range(len(whole))]
    for path, one in zip(paths, whole, strict=True):
        Image.fromarray(one).save(path)
    read = clone(corruptor).fit_transform(paths)
    assert_allclose(read, floats, atol=1e-6)


@every
def test_what_is_drawn_is_the_seeds(corruptor, colour):
    torchs = torch.get_rng_state()
    first, second = (clone(corruptor).fit_transform(colour) for _ in range(2))
    assert_array_equal(first, second)
    assert_array_equal(torch.get_rng_state(), torchs)
    other = clone(corruptor).set_params(random_state=1).fit_transform(colour)
    assert not np.array_equal(other, first)
    goes_on = clone(corruptor).set_params(random_state=np.random.RandomState(0))
    assert_array_equal(goes_on.fit(colour).transform(colour), first)
    assert not np.array_equal(goes_on.transform(colour), first)
    fresh = clone(corruptor).set_params(random_state=None).fit(colour)
    assert not np.array_equal(fresh.transform(colour), fresh.transform(colour))


@pytest.mark.parametrize(
    ("corruptor", "part"),
    [
        (PastedTextures(most_left=0.3, threshold=0.2), TexturePaste(0.3, 0.2)),
        (NoisyRectangles(), NoiseRectangles()),
        (NoisyRectangles(noise="simplex"), SimplexRectangle()),
    ],
)
def test_they_do_what_their_part_does(corruptor, part, colour):
    corruptor = clone(corruptor).set_params(random_state=3)
    seen, masks = corruptor.fit(colour).corrupt(colour)
    with torch.random.fork_rng():
        torch.manual_seed(np.random.RandomState(3).randint(2**31 - 1))
        expected, where = part(torch.tensor(colour).permute(0, 3, 1, 2))
    assert_array_equal(masks, where)
    assert_allclose(seen, expected.permute(0, 2, 3, 1).clamp(0, 1))


def test_pieces_come_from_where_it_is_said():
    X = np.linspace(0.2, 0.8, 10)[:, None, None] * np.ones((10, 16, 16))
    for source, taken in (("same", X), ("other", np.roll(X, 1, axis=0))):
        pasted = MovedPieces(source=source, random_state=0).fit(X)
        seen, masks = pasted.corrupt(X)
        factors = (seen / taken)[masks]
        assert factors.min() >= 0.9 - 1e-9
        assert factors.max() <= 1.1 + 1e-9
        pasted.set_params(batch_size=5)
        seen, masks = pasted.corrupt(X)
        first = seen[0][masks[0]] / (X[4, 0, 0] if source == "other" else X[0, 0, 0])
        assert 0.9 - 1e-9 <= first.min() <= first.max() <= 1.1 + 1e-9
    left = MovedPieces(source="other", most_left=1.0, random_state=0).fit(X)
    seen, masks = left.corrupt(X)
    apart = np.abs(seen - X)[masks]
    assert apart.mean() < 0.7 * np.abs(np.roll(X, 1, axis=0) - X)[masks].mean()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_clean_pictures_are_as_often_as_is_said(share):
    X = np.random.default_rng(0).uniform(size=(300, 12, 12))
    corruptor = MovedPieces(clean_share=share, random_state=0).fit(X)
    seen, masks = corruptor.corrupt(X)
    clean = ~masks.any(axis=(1, 2))
    assert_allclose(clean.mean(), share, atol=0.08)
    assert_array_equal(seen[clean], X[clean])


@every
def test_estimator_checks(corruptor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(clone(corruptor), on_skip=None)


@pytest.mark.parametrize(
    "wrong",
    [
        PastedTextures(most_left=1.5),
        PastedTextures(threshold=1.0),
        MovedPieces(shape="holes"),
        MovedPieces(source="none"),
        NoisyRectangles(noise="pink"),
        NoisyRectangles(clean_share=-0.1),
        NoisyRectangles(batch_size=0),
    ],
)
def test_parameters_are_checked(wrong, colour):
    with pytest.raises(ValueError, match="parameter of"):
        wrong.fit(colour)


def test_a_detector_tells_altered_pictures(colour):
    X = pictures(30)
    detector = PatchCore(random_state=0).fit(X[:10])
    for name in ("textures", "white", "rectangles"):
        corruptor = clone(CORRUPTORS[name]).set_params(clean_share=0.5)
        seen, masks = corruptor.fit(X).corrupt(X[10:])
        y = masks.any(axis=(1, 2))
        assert 4 < y.sum() < 16
        assert roc_auc_score(y, -detector.score_samples(seen)) > 0.8, name
