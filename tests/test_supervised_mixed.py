"""MixedSupervision: its norm, weights of pixels, losses and what learns from which."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from skad.metrics import pixel_roc_auc
from skad.supervised import MixedSupervision
from skad.supervised._mixed_supervision import (
    FeatureNorm,
    MixedSupervisionNetwork,
    weights_of,
)

SMALL = {"channels": (4, 8, 8, 8), "random_state": 0}


def pictures(n, n_bad, seed=0, size=16):
    """Return pictures (n, size, size), some with a square, masks and labels."""
    rng = np.random.default_rng(seed)
    X, masks = rng.normal(0.5, 0.1, size=(n, size, size)), np.zeros((n, size, size))
    masks[:n_bad, 4:10, 6:12] = 1
    return (
        np.where(masks == 1, X + 0.4, X),
        masks,
        np.where(np.arange(n) < n_bad, -1, 1),
    )


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MixedSupervisionNetwork((1, 20, 17), (2, 3, 4, 5), 0.5).double()


def batch(n=4):
    """Return samples: normal, with a mask, without one, with another; and labels."""
    x = torch.randn(n, 2, 20, 17, dtype=torch.float64)
    x[:, 1] = 0
    x[1, 1, 3:9, 2:5], x[2, 1] = 1.5, torch.nan
    x[3, 1, 17, 16] = 3.0
    return x, torch.tensor([0, -1, -1, -1])


def test_features_are_divided_by_the_root_of_their_deviation():
    x = torch.tensor(np.random.default_rng(0).normal(3, 50, size=(2, 3, 9, 8)))
    y = FeatureNorm(3).double()(x)
    away = x.numpy() - x.numpy().mean((2, 3), keepdims=True)
    deviation = x.numpy().std((2, 3), keepdims=True)
    assert_allclose(y.detach(), away / np.sqrt(deviation + 1e-3))
    assert_allclose(
        y.std((2, 3), correction=0).detach(), deviation[..., 0, 0] ** 0.5, rtol=1e-4
    )
    single = torch.tensor([[[[2.0]], [[-1.0]]]])
    assert_array_equal(FeatureNorm(2)(single).detach(), single)
    assert_allclose(FeatureNorm(3).double()(4 * x).detach(), 2 * y.detach(), rtol=1e-4)


def test_weights_grow_towards_the_middle_of_each_part():
    rows, columns = np.indices((30, 40))
    disc = (rows - 10) ** 2 + (columns - 12) ** 2 < 64
    mask = disc | ((rows > 22) & (columns > 30) & (columns < 36))
    found = weights_of(mask, 3.0, 2.0)
    assert_array_equal(found > 0, mask)
    assert np.unravel_index(found.argmax(), found.shape) == (10, 12)
    assert found[disc].max() == found[~disc].max() == 3
    # a pixel at the edge is as far from normal ones as a pixel is wide
    assert_allclose(found[~disc & mask].min(), 3 * (1 / 3) ** 2)
    assert_array_equal(weights_of(mask, 1.0, 0.0), mask)
    assert not weights_of(np.zeros((4, 4), bool), 3.0, 2.0).any()


def test_the_losses_are_the_formulas(network):
    x, y = batch()
    network.begin("fit", lambda: [(x, y)])
    places, scores = (each.detach().numpy() for each in network.both(x[:, :1]))
    assert places.shape == (4, 3, 3)
    expected = 0.0
    for i in (0, 1, 3):  # of the third no mask is known
        for row, column in np.ndindex(3, 3):
            part = x[i, 1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            largest = part.max().item()
            sign = 1 if largest > 0 else -1
            cost = np.logaddexp(0, -sign * places[i, row, column])
            expected += (largest if largest > 0 else 1.0) * cost / 9 / 4
    decision = np.mean(
        [np.logaddexp(0, s if i == 0 else -s) for i, s in enumerate(scores)]
    )
    found = network.losses(x, y)
    assert_allclose([float(each) for each in found], [expected, decision])
    for done in (0.0, 0.3, 0.9):
        network.share_done = done
        whole = (1 - done) * expected + 0.5 * done * decision
        assert_allclose(float(network.loss(x, y)), whole)


def test_the_decision_teaches_no_segmentation(network):
    x, y = batch()
    network.begin("fit", lambda: [(x, y)])
    segmentation, decision = network.losses(x, y)
    decision.backward(retain_graph=True)
    seeing = [*network.volume.parameters(), *network.segment.parameters()]
    assert all(weight.grad is None for weight in seeing)
    assert all(weight.grad.any() for weight in network.linear.parameters())
    network.zero_grad()
    segmentation.backward()
    assert all(weight.grad.any() for weight in network.segment.parameters())
    assert all(weight.grad is None for weight in network.decide.parameters())


def test_without_masks_the_decision_teaches_everything(network):
    x, y = batch()
    x[y == -1, 1] = torch.nan
    network.begin("fit", lambda: [(x, y)])
    loss = network.loss(x, y)
    assert float(loss) == float(network.losses(x, y)[1])
    loss.backward()
    assert all(weight.grad.any() for weight in network.volume[0].parameters())


def test_the_loss_knows_which_share_of_the_epochs_is_done():
    X, masks, _ = pictures(20, 5)
    shares = []

    class Watched(MixedSupervisionNetwork):
        def loss(self, x, y):
            shares.append(self.share_done)
            return super().loss(x, y)

    detector = MixedSupervision(**SMALL, max_epochs=4, batch_size=8)
    detector._network_class = Watched
    detector.fit(X, masks=masks)
    assert sorted(set(shares)) == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("kind", ["masks", "boxes", "few masks"])
def test_it_finds_what_is_marked(kind):
    X, masks, y = pictures(40, 10, size=32)
    given = {"masks": masks}
    if kind == "boxes":
        given = {"boxes": [[(4, 6, 10, 12)] if label == -1 else [] for label in y]}
    if kind == "few masks":
        given["masks"] = np.where((np.arange(40) < 5)[:, None, None], np.nan, masks)
    detector = MixedSupervision(channels=(8, 8, 8, 16), max_epochs=12, random_state=0)
    detector.fit(X, y, **given)
    new, truth, label = pictures(40, 20, seed=1, size=32)
    assert roc_auc_score(label == -1, -detector.score_samples(new)) > 0.95
    maps = detector.transform(new)
    assert maps.shape == new.shape
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert pixel_roc_auc(truth == 1, maps) > 0.8
    found = detector.inspect(new)
    assert_array_equal(found.maps, maps)


def test_masks_that_are_all_unknown_are_labels_alone():
    X, masks, y = pictures(20, 5)
    detector = MixedSupervision(**SMALL, max_epochs=2, batch_size=8)
    alone = detector.fit(X, y).score_samples(X)
    unknown = detector.fit(X, y, masks=np.full_like(masks, np.nan)).score_samples(X)
    assert_array_equal(alone, unknown)
    assert not hasattr(detector, "_weights_")
    marked = detector.fit(X, y, masks=masks).score_samples(X)
    assert not np.array_equal(alone, marked)


def test_outliers_are_pictures_without_masks():
    X, masks, y = pictures(20, 8)
    detector = MixedSupervision(**SMALL, max_epochs=2, batch_size=8)
    masks[:4] = np.nan
    order = np.r_[4:20, 0:4]
    joined = detector.fit(X[order], y[order], masks=masks[order]).score_samples(X)
    for given in (
        {"masks": masks[4:]},
        {"boxes": [[(4, 6, 10, 12)] if label == -1 else [] for label in y[4:]]},
    ):
        apart = detector.fit(X[4:], y[4:], X_outliers=X[:4], **given)
        assert_array_equal(apart.score_samples(X), joined)


def test_the_threshold_holds_on_new_pictures():
    shares = []
    for seed in range(3):
        X, masks, _ = pictures(60, 10, seed)
        detector = MixedSupervision(**SMALL, max_epochs=2, batch_size=8)
        new = pictures(100, 0, 100 + seed)[0]
        shares.append(np.mean(detector.fit(X, masks=masks).predict(new) == -1))
    assert np.mean(shares) <= 0.15


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 8, 0), (4, 8, 8, 2.5)])
def test_channels_are_four_numbers(channels):
    X, _, y = pictures(20, 5)
    with pytest.raises(ValueError, match=r"channels=.* must be four"):
        MixedSupervision(channels=channels).fit(X, y)


def test_without_an_anomaly_it_says_what_to_write():
    X = pictures(20, 0)[0]
    with pytest.raises(ValueError, match=r"got 0 of 1: fit.*masks="):
        MixedSupervision(**SMALL).fit(X)
