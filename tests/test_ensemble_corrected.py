"""LikelihoodRatio and InputComplexity against closed forms."""

import io
import warnings
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skad import GMM, KDE, VAE, InputComplexity, LikelihoodRatio, Mahalanobis
from skad.base import BaseDetector
from skad.ensemble._input_complexity import code_length
from skad.ensemble._likelihood_ratio import mutated


class Counts(BaseDetector):
    """Features apart, each with the share of its values: a factorised density."""

    def _fit(self, X, y):
        self.shares_ = [Counter(c.tolist()) for c in X.T]
        self.n_ = len(X)

    def _map(self, X):
        shares = [
            [f.get(v, 0.5) for v in c] for f, c in zip(self.shares_, X.T, strict=True)
        ]
        return -np.log(np.array(shares, dtype=float).T / self.n_)


class Uniform(BaseDetector):
    """All bytes alike."""

    def _fit(self, X, y):
        pass

    def _map(self, X):
        return np.full(X.shape, np.log(256))


# --------------------------------------------------------------------- the background


def test_the_ratio_of_categories_is_the_closed_form():
    flat = np.repeat([0.0, 1.0, 2.0], [700, 200, 100])
    p = np.array([0.7, 0.2, 0.1])
    background = 0.8 * p + 0.2 / 3  # uniform over all three
    X = np.tile(flat, 60)[:, None]
    noisy = mutated(X, 0.2, np.random.RandomState(0), -0.5, 2.5).round()
    ratio = -Counts().fit(X).score_samples([[0.0], [1.0], [2.0]])
    ratio += Counts().fit(noisy).score_samples([[0.0], [1.0], [2.0]])
    assert_allclose(ratio, -np.log(p / background), atol=0.02)
    assert_allclose(-np.log(p / background), [-0.111, 0.125, 0.383], atol=0.02)


def test_values_are_replaced_at_the_rate_and_by_what_is_said():
    X = np.arange(4000.0).reshape(1000, 4)
    noisy = mutated(X, 0.3, np.random.RandomState(0), X.min(0), X.max(0))
    assert_allclose((noisy != X).mean(0), 0.3, atol=0.05)
    assert ((noisy >= X.min(0)) & (noisy <= X.max(0))).all()
    permuted = mutated(X, 0.3, np.random.RandomState(0))
    assert_allclose((permuted != X).mean(0), 0.3, atol=0.05)
    assert_array_equal(permuted % 4, X % 4)  # a feature keeps its values
    assert_array_equal(mutated(X, 0.0, np.random.RandomState(0)), X)


def test_the_anomaly_is_the_difference_of_two_densities():
    X = np.random.default_rng(0).normal(size=(80, 3))
    detector = LikelihoodRatio(GMM(2), background=KDE(), random_state=0).fit(X)
    ratio = detector.background_.score_samples(X) - detector.detector_.score_samples(X)
    assert_allclose(-detector.score_samples(X), ratio)
    maps = detector.detector_.transform(X) - detector.background_.transform(X)
    assert_allclose(detector.transform(X), maps)
    assert isinstance(detector.background_, KDE)


def test_without_mutations_nothing_is_left():
    X = np.random.default_rng(0).normal(size=(60, 3))
    detector = LikelihoodRatio(GMM(3), mutation=0, random_state=0, contamination=0.1)
    with pytest.warns(UserWarning, match="got the score"):
        detector.fit(X)
    assert_allclose(detector.score_samples(10 * X), 0.0, atol=1e-9)


def test_what_mutations_do_not_change_cancels():
    """Of a factorised density; the likelihood itself is led by the background."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 3, size=(500, 2)).astype(float)
    constant = np.full((500, 1), 7.0)
    one = LikelihoodRatio(Counts(), replacement="permuted", random_state=0).fit(shown)
    both = LikelihoodRatio(Counts(), replacement="permuted", random_state=0).fit(
        np.c_[shown, constant]
    )
    assert_allclose(both.transform(np.c_[shown, constant])[:, 2], 0.0)
    assert one.transform(shown).any()


def test_pictures_go_to_densities_as_they_take_them():
    X = np.random.default_rng(0).uniform(size=(40, 4, 5)).astype(np.float32)
    of_rows = LikelihoodRatio(GMM(1), contamination=0.1, random_state=0).fit(X)
    assert of_rows.detector_.n_features_in_ == 20
    assert of_rows.transform(X).shape == (40, 4, 5)
    ratio = of_rows.score_samples(X)
    assert_allclose(of_rows.transform(X).sum((1, 2)), -ratio - _constant(of_rows), 1e-3)
    vae = VAE(architecture="mlp", hidden_sizes=(8,), max_epochs=1)
    of_pictures = LikelihoodRatio(vae, contamination=0.1, random_state=0).fit(X)
    assert of_pictures.detector_.image_shape_ == (4, 5, 1)
    flat = LikelihoodRatio(
        vae, image_shape=(4, 5), contamination=0.1, random_state=0
    ).fit(X.reshape(40, 20))
    assert_allclose(flat.score_samples(X.reshape(40, 20)), of_pictures.score_samples(X))
    assert isinstance(LikelihoodRatio(image_shape=(4, 5))._head(), VAE)
    assert isinstance(LikelihoodRatio()._head(), GMM)


def _constant(detector):
    """Return the part of the ratio that no element has."""
    found = detector.inspect(np.zeros((1, 4, 5), np.float32))
    return -found.scores[0] - found.maps.sum()


def test_a_ratio_sees_what_a_likelihood_does_not():
    """Pixels of much variance hide a small change of those that hardly vary."""
    rng = np.random.default_rng(0)
    scale = np.r_[np.full(40, 0.3), np.full(4, 0.02)].reshape(4, 11)
    X, new, bad = (scale * rng.normal(size=(n, 4, 11)) for n in (600, 300, 300))
    bad[:, :3] *= 0.8
    bad[:, 3] *= np.where(scale[3] < 0.1, 2.0, 0.8)
    found = {}
    for detector in (GMM(1), LikelihoodRatio(GMM(1), random_state=0)):
        shape = (-1, 44) if isinstance(detector, GMM) else (-1, 4, 11)
        detector.fit(X.reshape(shape))
        a, b = (detector.score_samples(Z.reshape(shape)) for Z in (bad, new))
        found[type(detector)] = np.mean(a[:, None] < b)
    assert found[LikelihoodRatio] > found[GMM] + 0.1


# ---------------------------------------------------------------------- code lengths


def test_the_length_is_that_of_the_file():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    sizes = []
    for pixels in (picture, np.zeros_like(picture)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG", compress_level=9)
        sizes.append(8 * len(file.getvalue()))
    assert code_length(picture, "png") == sizes[0] - sizes[1]
    assert code_length(np.full((9, 7, 3), 0, np.uint8), "png") == 0
    both = [code_length(picture, codec) for codec in ("png", "jpeg2000")]
    assert code_length(picture, "best") == min(both)


def test_a_copy_beside_a_picture_costs_less_than_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    one = code_length(picture, "png")
    two = code_length(np.concatenate([picture, picture]), "png")
    assert one < two < 1.5 * one


def test_codecs_are_lossless():
    picture = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
    from skad.ensemble._input_complexity import _FORMATS

    for options in _FORMATS.values():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, **options)
        assert_array_equal(np.asarray(Image.open(file)), picture)


def test_an_ideal_code_leaves_nothing():
    """Random bytes under the density of random bytes: 8 bits each, both ways."""
    X = np.random.default_rng(0).integers(0, 256, (30, 40, 40), dtype=np.uint8)
    with pytest.warns(UserWarning, match="got the score"):
        detector = InputComplexity(Uniform(), contamination=0.1).fit(X)
    nats = 1600 * np.log(256)
    assert_allclose(-detector.score_samples(X) / nats, 0.0, atol=0.025)
    # half of it is plain: what the density does not know
    X[:, 20:] = 128
    assert_allclose(-detector.score_samples(X) / nats, 0.5, atol=0.05)
    assert_allclose(detector.transform(X), np.log(256), rtol=1e-5)


def test_bytes_are_the_pictures_own():
    X = np.random.default_rng(0).integers(100, 150, (20, 6, 6), dtype=np.uint8)
    detector = InputComplexity(GMM(1), contamination=0.1, random_state=0).fit(X)
    lengths = [code_length(one[..., None], "png") for one in X]
    floats = X.reshape(20, 36).astype(np.float32) / 255
    expected = -detector.detector_.score_samples(floats) - np.log(2) * np.array(lengths)
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-5)
    rows = InputComplexity(Mahalanobis(), contamination=0.1).fit(X.reshape(20, 36))
    assert rows.range_ == (X.min(), X.max())


def test_few_samples_are_said_to_be_few():
    X = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.warns(UserWarning, match="learned from 39 samples"):
        LikelihoodRatio(GMM(1), random_state=0).fit(X[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LikelihoodRatio(GMM(1), random_state=0).fit(X)
