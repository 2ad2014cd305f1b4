"""BGAD: the boundary and both of its sides, and what masks say of places."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F  # noqa: N812

from skad.image import BGAD, CFLOW
from skad.image.density._bgad import boundary_loss

SMALL = {
    "backbone": "gabor",
    "layers": ("scale1",),
    "n_steps": 1,
    "condition_size": 4,
    "max_epochs": 3,
    "smoothing": 0,
    "random_state": 0,
}


def stripes(n, n_bad=0, seed=0):
    """Return pictures (n, 32, 32) of stripes, some with a square first, and masks."""
    rng = np.random.default_rng(seed)
    X = 0.5 + 0.2 * np.sin(np.arange(32) / 2) + rng.normal(0, 0.02, size=(n, 32, 32))
    masks = np.zeros(X.shape)
    for i in range(n_bad):
        top, left = rng.integers(4, 20, size=2)
        masks[i, top : top + 8, left : left + 8] = 1
    return np.where(masks == 1, X + 0.05, X), masks


def loss_loop(likelihood, marks, share, margin):
    """Return the sum of both sides, patch by patch."""
    normal = sorted(
        one / 10 for one, mark in zip(likelihood, marks, strict=True) if mark == 0
    )
    boundary = normal[int(share * len(normal))]
    below = [boundary - one for one in normal if one <= boundary]
    above = [
        one / 10 - (boundary - margin)
        for one, mark in zip(likelihood, marks, strict=True)
        if mark == 1 and one / 10 >= boundary - margin
    ]
    return np.mean(below) + (np.mean(above) if above else 0)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_both_sides_of_the_boundary_are_means_of_what_is_beyond(share):
    rng = np.random.default_rng(0)
    likelihood, marks = rng.normal(-2, 3, size=40), rng.choice([0, 1], size=40)
    given = torch.tensor(likelihood), torch.tensor(marks)
    found = boundary_loss(*given, share, 0.1)
    assert float(found) == pytest.approx(loss_loop(likelihood, marks, share, 0.1))


def test_nothing_is_beyond_where_all_are_on_their_sides():
    likelihood = torch.tensor([0.0, 0.0, 0.0, -1.1, -9.0], requires_grad=True)
    marks = torch.tensor([0, 0, 0, 1, 1])
    loss = boundary_loss(likelihood, marks, 0.05, 0.1)
    loss.backward()
    assert loss.item() == 0
    # the boundary is a number: of the normal patches those on it alone are drawn up
    assert_array_equal(likelihood.grad[3:], 0)
    # one step over the margin, and anomalous patches are pushed down
    found = boundary_loss(
        torch.tensor([0.0, 0.0, -0.5]), torch.tensor([0, 0, 1]), 0.05, 0.1
    )
    assert float(found) == pytest.approx(0.05)
    # without anomalous ones it is the pull alone
    assert float(
        boundary_loss(torch.tensor([0.0, 10.0]), torch.zeros(2), 0.5, 0.1)
    ) == (pytest.approx(0.5))


def test_a_place_is_anomalous_where_one_of_its_pixels_is():
    X, masks = stripes(20, 4)
    masks[1] = np.nan
    y = np.repeat([-1, 1], [4, 16])
    detector = BGAD(**SMALL)
    detector.fit(X, y, masks=masks)
    detector._masks_ = masks.astype(np.float32)
    labels = detector._training_labels(X, y)
    (marks,) = detector.net_.marks(labels)
    _, *grid = detector.net_.shapes[0]
    side = 32 // grid[0]
    parts = masks.reshape(20, grid[0], side, grid[1], side)
    assert_array_equal(marks.unflatten(0, (20, *grid)), parts.max(axis=(2, 4)))


def test_the_loss_of_a_step_is_that_of_normal_patches_and_of_the_boundary():
    X, masks = stripes(20, 4)
    net = BGAD(**SMALL, boundary_weight=3.0).fit(X, masks=masks).net_
    likelihood = torch.tensor([-1.0, 0.5, 2.0, 1.0, 7.0])
    marks = torch.tensor([0, 0, 1, torch.nan, 0])
    plain = -F.logsigmoid(likelihood[[0, 1, 4]]).mean()
    aside = boundary_loss(likelihood[[0, 1, 2, 4]], marks[[0, 1, 2, 4]], 0.05, 0.1)
    net.share_done = 0.5
    assert_allclose(net.patch_loss(likelihood, marks), plain + 3 * aside)
    net.share_done = 0.03  # of 25 epochs the first
    assert_allclose(net.patch_loss(likelihood, marks), plain)
    assert net.patch_loss(likelihood, torch.ones(5)) == 0


def test_without_anomalies_it_is_cflow():
    X, masks = stripes(20)
    expected = CFLOW(**SMALL).fit(X).transform(X)
    for params in ({}, {"y": np.ones(20)}, {"masks": masks}):
        if params:
            with pytest.warns(UserWarning, match="no label -1"):
                found = BGAD(**SMALL).fit(X, **params)
        else:
            found = BGAD(**SMALL).fit(X)
        assert_array_equal(found.transform(X), expected)


def test_likelihoods_are_compared_with_those_of_normal_pictures():
    X, masks = stripes(20, 6)
    detector = BGAD(**SMALL, contamination=0.1).fit(X, masks=masks)
    net = detector.net_
    x = detector._describe(torch.tensor(X[6:, ..., None])).float()
    highest = torch.stack(
        [net.log_likelihood(*net.fibers(one[None], 0), 0).max() for one in x]
    )
    assert_allclose(net.highest[0], highest.max(), rtol=1e-5)
    # of known anomalies none counts, however probable
    labels = torch.zeros(len(x), 1 + 32 * 32)
    labels[highest.argmax(), 0] = -1
    net.finish(lambda: [(x, labels)])
    assert_allclose(net.highest[0], highest.sort()[0][-2], rtol=1e-5)


def test_anomalies_without_a_mask_teach_nothing():
    X, _ = stripes(20, 3)
    y = np.repeat([-1, 0], [3, 17])
    detector = BGAD(**SMALL).fit(X, y)
    other = X.copy()
    other[:3] = np.random.default_rng(5).uniform(size=(3, 32, 32))
    same = BGAD(**SMALL).fit(other, y)
    new, _ = stripes(4, 2, seed=9)
    assert_allclose(detector.score_samples(new), same.score_samples(new), rtol=1e-4)


def test_what_was_shown_is_found_better():
    X, masks = stripes(60, 10)
    new, _ = stripes(40, 20, seed=7)
    both = {}
    for name, detector in (("masks", BGAD), ("none", CFLOW)):
        detector = detector(**{**SMALL, "max_epochs": 8})
        given = (X, None) if name == "masks" else (X[10:], None)
        more = {"masks": masks} if name == "masks" else {}
        scores = detector.fit(*given, **more).score_samples(new)
        both[name] = np.mean(scores[:20, None] < scores[20:])
    assert both["masks"] > both["none"] > 0.6, both
