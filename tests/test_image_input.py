"""What pictures are to a detector: their values, their axes, their size."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from torch import nn

import skad
from skad.embedding import PatchEmbedding, RegionEmbedding
from skad.embedding._libraries import IMAGENET
from skad.image._base import BackboneDetector
from skad.reconstruction import AutoEncoder
from tests._instances import class_of, settings_of

NAMED = [
    class_of(name)
    for name, cls in skad.all_detectors()
    if issubclass(cls, BackboneDetector) and "backbone" in cls().get_params()
]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Small(nn.Module):
    """A backbone of one's own."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        for weights in self.parameters():
            weights.data.normal_(generator=generator).mul_(0.3)

    def forward(self, x):
        return self.two(self.one(x).relu())


def made(cls, **given):
    """Return a detector that is trained for no longer than it has to."""
    small = {"backbone": Small, "layers": ("one", "two"), "max_epochs": 1}
    small = {**(settings_of(cls.__name__).pictures or {}), **small}
    small = {**small, "contamination": 0.1, "random_state": 0, **given}
    known = cls().get_params()
    return cls(**{name: value for name, value in small.items() if name in known})


def labels(cls, X):
    """Return the labels that a method needs of pictures, None where it needs none."""
    make = settings_of(cls.__name__).labels
    return None if make is None else make(X.reshape(len(X), -1))


def colours(n, size=(16, 20), seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 0.8, size=(n, *size, 3)).astype(np.float32)


# --------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("cls", NAMED, ids=lambda cls: cls.__name__)
def test_backbones_get_pictures_as_they_were_trained(cls):
    X = colours(6)
    y = labels(cls, X)
    detector = made(cls, normalization=(MEAN, STD)).fit(X, y)
    assert (detector.embedding_.mean_, detector.embedding_.std_) == (MEAN, STD)
    x = (torch.tensor(X) - torch.tensor(MEAN)) / torch.tensor(STD)
    found = detector.embedding_.feature_maps(torch.tensor(X))[0]
    plain = made(cls).fit(X, y)
    assert plain.embedding_.mean_ is None
    assert_allclose(found, plain.embedding_.feature_maps(x)[0], atol=1e-5)
    if not isinstance(plain.embedding_, RegionEmbedding):  # of parts of pictures
        with torch.no_grad():
            expected = Small().one(x.permute(0, 3, 1, 2))
        assert_allclose(found, expected, atol=1e-5)
    new = colours(6, seed=1)
    assert abs(plain.score_samples(new) - detector.score_samples(new)).max() > 1e-4


@pytest.mark.parametrize("wrong", [(0.5,), ((0.5, 0.5), (0.1, 0.1)), (0.5, 0.0)])
def test_a_normalization_fits_the_channels(wrong):
    with pytest.raises(ValueError, match=r"normalization=.* must be \(mean, std\)"):
        made(skad.PatchCore, normalization=wrong).fit(colours(4))


# -------------------------------------------------------------------------- smoothing


def test_smoothing_is_in_pixels_of_what_the_backbone_sees():
    X, new = colours(6, (64, 96)), colours(2, (64, 96), seed=1)
    sharp = made(skad.PaDiM, image_size=(16, 12), smoothing=0).fit(X)
    smooth = made(skad.PaDiM, image_size=(16, 12), smoothing=1.5).fit(X)
    expected = gaussian_filter(
        sharp.transform(new).astype(float), (0, 1.5 * 64 / 16, 1.5 * 96 / 12)
    )
    assert_allclose(smooth.transform(new), expected, rtol=1e-3)
    # as it was where pictures stay as they are
    sharp = made(skad.PaDiM, smoothing=0).fit(X)
    smooth = made(skad.PaDiM, smoothing=1.5).fit(X)
    expected = gaussian_filter(sharp.transform(new).astype(float), (0, 1.5, 1.5))
    assert_allclose(smooth.transform(new), expected, rtol=1e-3)


# ------------------------------------------------------------------- values and axes


@pytest.mark.parametrize("cls", [skad.PaDiM, skad.STFPM, AutoEncoder])
def test_bytes_as_floats_and_channels_first_are_refused(cls):
    own = {"hidden_sizes": (4,), "latent_size": 2} if cls is AutoEncoder else {}
    detector = made(cls, **own)
    X = colours(6)
    with pytest.raises(ValueError, match=r"floats from .* write X / 255 or X.astype"):
        detector.fit(X * 255)
    with pytest.raises(ValueError, match=r"write X.transpose\(0, 2, 3, 1\)"):
        detector.fit(X.transpose(0, 3, 1, 2))
    detector.fit(X)
    with pytest.raises(ValueError, match=r"floats from .* write X / 255 or X.astype"):
        detector.score_samples(X * 255)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
def test_pictures_that_were_normalised_are_not_normalised_again(library):
    pictures = np.random.default_rng(0).uniform(size=(6, 32, 32, 3)).astype(np.float32)
    mean, std = (np.float32(part) for part in IMAGENET)
    normalised = library((pictures - mean) / std)
    for backbone in (
        {"backbone": "resnet18", "weights": "random"},
        {"backbone": Small, "layers": ("one",), "normalization": IMAGENET},
    ):
        known = PatchEmbedding(**backbone).fit(pictures)
        expected = known.transform(pictures)
        if "normalization" in backbone:  # what is asked for is done
            backbone["normalization"] = None
        found = PatchEmbedding(**backbone).fit(normalised)
        assert_allclose(found.transform(normalised), expected, rtol=1e-3, atol=1e-4)
    detector = skad.PaDiM(backbone="resnet18", weights="random", random_state=0)
    scores = clone(detector).fit(pictures).score_samples(pictures)
    found = detector.fit(normalised).score_samples(normalised)
    assert_allclose(found, scores, rtol=1e-3)


@pytest.mark.parametrize("given", [np.asarray, torch.as_tensor])
def test_what_is_for_rows_says_what_pictures_are_for(given):
    pictures = np.random.default_rng(0).uniform(size=(4, 8, 8, 3))
    for X in (pictures, pictures[..., 0]):
        with pytest.raises(ValueError, match=rf"with dim {X.ndim}.*PatchDetector"):
            skad.KNN().fit(given(X))
