"""Convolutional sparse coding: its systems, its minimum, its filters, its numbers."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.signal import correlate2d
from torch.fft import irfft2, rfft2

from skad.image import ConvolutionalSparseCoding
from skad.image.density._convolutional_sparse_coding import (
    Codes,
    FilterBank,
    learned_filters,
    of_length_one,
    over_windows,
    step_size,
    without_low,
)


def drawn(n_filters=4, n_channels=1, size=3, seed=0):
    """Return filters (m, c, f, f) of length one."""
    rng = np.random.default_rng(seed)
    filters = rng.normal(size=(n_filters, n_channels, size, size))
    return of_length_one(torch.tensor(filters), size)


def dense(filters, shape):
    """Return the matrix (c h w, m h w) that convolves maps with filters, in circles."""
    (h, w), (m, c, size, _) = shape, filters.shape
    matrix = np.zeros((c, h, w, m, h, w))
    for i, j in np.ndindex(h, w):
        for k, n in np.ndindex(size, size):
            place = (i + k) % h, (j + n) % w
            matrix[:, place[0], place[1], :, i, j] += filters[..., k, n].numpy().T
    return matrix.reshape(c * h * w, m * h * w)


def codes_of(pictures, filters, penalty, n_steps):
    bank = FilterBank(filters, pictures.shape[2:], step_size(penalty))
    codes = Codes(pictures, len(filters), penalty)
    for _ in range(n_steps):
        codes.step(bank)
    return codes.sparse


@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_system_of_codes_is_the_dense_one(n_channels):
    filters, shape = drawn(4, n_channels), (5, 6)
    right = torch.tensor(np.random.default_rng(1).normal(size=(2, 4, *shape)))
    bank = FilterBank(filters, shape, 0.7)
    found = irfft2(bank.solved(rfft2(right)), s=shape)
    matrix = dense(filters, shape)
    system = matrix.T @ matrix + 0.7 * np.eye(matrix.shape[1])
    expected = np.linalg.solve(system, right.flatten(1).numpy().T).T
    assert_allclose(found.flatten(1), expected, atol=1e-12)
    # and what codes stand for, and products, are those of the matrix
    rebuilt = irfft2(bank.pictures(rfft2(right)), s=shape)
    assert_allclose(rebuilt.flatten(1), right.flatten(1).numpy() @ matrix.T, atol=1e-12)
    products = irfft2(bank.products(rfft2(rebuilt)), s=shape)
    assert_allclose(
        products.flatten(1), rebuilt.flatten(1).numpy() @ matrix, atol=1e-12
    )


@pytest.mark.parametrize("n_channels", [1, 2])
def test_codes_meet_the_conditions_of_a_minimum(n_channels):
    filters, shape, penalty = drawn(4, n_channels), (7, 8), 0.5
    pictures = torch.tensor(np.random.default_rng(1).normal(size=(3, n_channels, 7, 8)))
    codes = codes_of(pictures, filters, penalty, 2000).flatten(1).numpy()
    matrix = dense(filters, shape)
    products = (pictures.flatten(1).numpy() - codes @ matrix.T) @ matrix
    used = codes != 0
    assert 0.02 < used.mean() < 0.6
    assert_allclose(products[used], penalty * np.sign(codes[used]), atol=1e-8)
    assert (np.abs(products) <= penalty + 1e-8).all()


def test_codes_of_default_steps_are_near_their_minimum():
    filters, penalty = drawn(16, 1, 8), 1.0
    pictures = torch.tensor(np.random.default_rng(1).normal(size=(2, 1, 32, 32)))

    def objective(codes):
        bank = FilterBank(filters, (32, 32), 1.0)
        left = pictures - irfft2(bank.pictures(rfft2(codes)), s=(32, 32))
        return left.square().sum() / 2 + penalty * codes.abs().sum()

    few = objective(codes_of(pictures, filters, penalty, 50))
    many = objective(codes_of(pictures, filters, penalty, 1000))
    assert many <= few < 1.001 * many


def test_one_point_is_a_soft_threshold():
    pictures = torch.tensor(np.random.default_rng(0).normal(size=(2, 1, 6, 7)))
    found = codes_of(pictures, torch.ones(1, 1, 1, 1).double(), 0.4, 300)
    expected = pictures.sign() * (pictures.abs() - 0.4).clamp(min=0)
    assert_allclose(found, expected, atol=1e-12)


def test_a_picture_that_moves_in_a_circle_moves_its_codes():
    pictures = torch.tensor(np.random.default_rng(0).normal(size=(1, 2, 9, 8)))
    filters = drawn(3, 2)
    moved = codes_of(pictures.roll((3, -2), (2, 3)), filters, 0.5, 30)
    before = codes_of(pictures, filters, 0.5, 30)
    assert_allclose(moved, before.roll((3, -2), (2, 3)), atol=1e-12)


def planted(n=6, side=32):
    """Return pictures (n, 1, side, side) that three known filters make, and these."""
    rng, filters = np.random.default_rng(0), drawn(3, 1, 5, seed=2)
    codes = np.where(rng.uniform(size=(n, 3, side, side)) < 0.02, 1.0, 0.0)
    codes = codes * rng.uniform(1, 2, codes.shape) * rng.choice([-1, 1], codes.shape)
    bank = FilterBank(filters, (side, side), 1.0)
    made = irfft2(bank.pictures(rfft2(torch.tensor(codes))), s=(side, side))
    return made / made.std(), filters


def test_a_known_filter_bank_is_rebuilt():
    pictures, filters = planted()
    random = np.random.RandomState(0)
    found = learned_filters(pictures, 3, 9, 0.5, 100, random)
    assert_allclose(found.flatten(1).norm(dim=1), 1)
    likeness = np.array(  # wherever in the support a filter has come to lie
        [
            [np.abs(correlate2d(own[0], true[0])).max() for own in found.numpy()]
            for true in filters.numpy()
        ]
    )
    assert sorted(likeness.argmax(1)) == [0, 1, 2]
    assert likeness.max(1).min() > 0.98
    first = learned_filters(pictures, 3, 9, 0.5, 1, np.random.RandomState(0))
    assert likeness.max(1).min() > 0.1 + max(
        min(np.abs(correlate2d(own[0], true[0])).max() for own in first.numpy())
        for true in filters.numpy()
    )


def test_what_varies_slowly_is_taken_off():
    pictures = torch.tensor(np.random.default_rng(0).normal(size=(2, 2, 5, 6)))
    found = without_low(pictures, 3.0)
    # the system itself: (1 + weight D'D) l = s, with differences in a circle
    slope = np.zeros((30, 30))
    for axis in (0, 1):
        steps = np.roll(np.eye(30).reshape(5, 6, 30), -1, axis).reshape(30, 30)
        slope += (steps - np.eye(30)).T @ (steps - np.eye(30))
    low = np.linalg.solve(
        np.eye(30) + 3 * slope, pictures.flatten(2).numpy()[..., None]
    )
    assert_allclose(
        found.flatten(2), pictures.flatten(2).numpy() - low[..., 0], atol=1e-12
    )


def test_the_anomaly_is_the_distance_of_three_numbers():
    rng = np.random.default_rng(0)
    X, new = rng.uniform(size=(5, 12, 10, 2)), rng.uniform(size=(2, 12, 10, 2))
    detector = ConvolutionalSparseCoding(
        n_components=3,
        filter_size=3,
        patch_size=5,
        stride=2,
        n_steps=20,
        n_learning_steps=5,
        max_pictures=4,
        random_state=0,
    ).fit(X)
    assert detector.filters_.shape == (3, 2, 3, 3)
    filters = torch.tensor(detector.filters_)

    def numbers(pictures):
        wide = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        rows = without_low(torch.tensor(np.moveaxis(wide, 3, 1)), 5.0)
        rows = rows / detector._unit_
        codes = codes_of(rows, filters, 1.0, 20)
        matrix = dense(filters, rows.shape[2:])
        left = rows.flatten(1).numpy() - codes.flatten(1).numpy() @ matrix.T
        errors = (left.reshape(rows.shape) ** 2).sum(1)[:, 2:-2, 2:-2]
        codes = codes.numpy()[..., 2:-2, 2:-2]
        found = []
        for error, code in zip(errors, codes, strict=True):
            for i, j in np.ndindex(6, 5):  # from one above the cell, inside
                top, left = min(max(2 * i - 1, 0), 7), min(max(2 * j - 1, 0), 5)
                place = slice(top, top + 5), slice(left, left + 5)
                inside = code[:, *place].reshape(3, 25)
                maps = np.linalg.norm(inside, axis=1).sum()
                found.append([error[place].sum(), np.abs(inside).sum(), maps])
        return np.array(found)

    known, found = numbers(X), numbers(new)
    assert_allclose(detector.center_, known.mean(0), rtol=1e-5)
    inverse = np.linalg.inv(np.cov(known.T, bias=True))
    away = found - known.mean(0)
    expected = np.einsum("ni,ij,nj->n", away, inverse, away).reshape(2, 6, 5)
    assert_allclose(detector._patches(torch.tensor(new)), expected, rtol=1e-4)


def test_windows_lie_around_their_cells_and_inside():
    maps = torch.arange(35.0).view(1, 1, 5, 7)
    assert_allclose(over_windows(maps, 1, 1), maps)
    found = over_windows(maps, 4, 2)
    assert found.shape == (1, 1, 3, 4)
    for (i, j), value in np.ndenumerate(found[0, 0].numpy()):
        top, left = [0, 1, 1][i], [0, 1, 3, 3][j]
        assert value == maps[0, 0, top : top + 4, left : left + 4].sum()
    assert_allclose(over_windows(maps, 9, 4), np.full((1, 1, 2, 2), 595))


def test_many_filters_at_once_are_anomalous():
    pictures, _ = planted(8)
    X = 0.5 + 0.05 * pictures[:, 0].numpy()
    detector = ConvolutionalSparseCoding(
        n_components=3,
        filter_size=7,
        penalty=0.5,
        patch_size=7,
        lowpass=0.0,
        smoothing=1.0,
        random_state=0,
    ).fit(X[:6])
    bad = X[6:].copy()
    rng = np.random.default_rng(5)
    bad[:, 8:16, 16:24] += 0.2 * rng.choice([-1, 1], size=(2, 8, 8))
    good, found = detector.score_samples(X[6:]), detector.score_samples(bad)
    assert (found < 2 * good).all()
    rows, columns = np.unravel_index(
        detector.transform(bad).reshape(2, -1).argmax(1), (32, 32)
    )
    assert ((rows >= 5) & (rows <= 18) & (columns >= 13) & (columns <= 26)).all()


def test_pictures_of_nothing_have_no_codes():
    X = np.full((5, 16, 16), 0.5)
    detector = ConvolutionalSparseCoding(n_components=4, random_state=0)
    with pytest.warns(UserWarning, match="tells none of them"):
        detector.fit(X)
    bad = X[:1].copy()
    bad[0, 4:9, 4:9] = 1
    assert np.isfinite(detector.score_samples(bad)).all()
    assert (detector.predict(bad) == -1).all()
