"""DOC: compactness of one class, descriptiveness of others, and the nearest."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss

from skad._labels import reference_classes
from skad.image import DOC
from skad.image.memory._doc import compactness
from tests._pixels import Learned

OWN = {
    "backbone": Learned,
    "layers": ("learned",),
    "smoothing": 0,
    "max_epochs": 2,
    "batch_size": 8,
    "random_state": 0,
}


def lines(n, axis, seed):
    """Return pictures (n, 12, 12) whose rows (1) or columns (2) differ."""
    shape = (n, 12, 1) if axis == 1 else (n, 1, 12)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.01, size=(n, 12, 12))
    return 0.5 + 0.1 * rng.normal(size=shape) + noise


def others(n, seed=7):
    """Return a reference set of two classes, and these by name."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % 2
    return rng.uniform(size=(n, 12, 12)) * (0.5 + 0.5 * classes[:, None, None]), (
        np.array(["dark", "light"])[classes]
    )


def test_compactness_is_the_distance_to_the_mean_of_the_others():
    features = np.random.default_rng(0).normal(size=(5, 3))
    total = 0.0
    for i in range(5):
        away = features[i] - np.delete(features, i, axis=0).mean(axis=0)
        total += (away**2).sum() / (5 * 3)
    x = torch.tensor(features, requires_grad=True)
    loss = compactness(x)
    assert loss.item() == pytest.approx(total)
    loss.backward()
    centred = features - features.mean(axis=0)
    assert_allclose(x.grad, 2 * 5 / (4**2 * 3) * centred)
    assert compactness(torch.ones(4, 3)) == 0
    assert compactness(torch.rand(1, 3)) == 0


def test_the_loss_is_of_both_streams():
    X, (Z, classes) = lines(12, 1, 0), others(10)
    net = DOC(**OWN, compactness_weight=0.3).fit(X, X_outliers=Z, y_outliers=classes)
    net = net.net_.double()
    x = torch.tensor(np.concatenate([X[:4], Z[:6]]))[:, None].flatten(1)
    y = torch.tensor([0, 0, 0, 0, -1, -2, -1, -2, -1, -2])
    features = net.features(net.pictures(x))
    chances = torch.softmax(net.head(features[4:]), 1).detach().numpy()
    expected = log_loss([0, 1] * 3, chances) + 0.3 * compactness(features[:4]).item()
    assert net.loss(x, y).item() == pytest.approx(expected, rel=1e-6)


def test_the_anomaly_is_the_distance_to_the_nearest_of_the_class():
    X, (Z, classes), new = lines(20, 1, 0), others(10), lines(4, 2, 1)
    detector = DOC(**OWN, contamination=0.1)
    detector.fit(X, X_outliers=Z, y_outliers=classes)
    net = detector.net_.double()
    known, found = (
        net.features(torch.tensor(one)[:, None]).detach().numpy() for one in (X, new)
    )
    assert net.bank.shape == known.shape  # and none of the reference set
    squares = ((found[:, None] - known) ** 2).sum(axis=2)
    nearest = np.sort(squares, axis=1)[:, :2].sum(axis=1)
    assert_allclose(-detector.score_samples(new), nearest, rtol=1e-3)


def test_labels_below_zero_are_classes_of_the_reference_set():
    X, (Z, classes) = lines(20, 1, 0), others(10)
    expected = DOC(**OWN).fit(X, X_outliers=Z, y_outliers=classes).score_samples(X)
    y = np.concatenate([np.ones(20), np.where(classes == "dark", -3, -7)])
    found = DOC(**OWN).fit(np.concatenate([X, Z]), y).score_samples(X)
    assert_array_equal(found, expected)
    assert_array_equal(reference_classes([1, 0, -3, -7, -3], 5), [0, 0, -1, -2, -1])
    later = DOC(**OWN).fit(X, X_outliers=lambda: Z, y_outliers=lambda: classes)
    assert_array_equal(later.score_samples(X), expected)


def test_classes_of_y_and_of_outliers_are_different_ones():
    X, (Z, classes) = lines(20, 1, 0), others(10)
    y = np.where(np.arange(20) < 3, -1, 1)
    detector = DOC(**OWN).fit(X, y, X_outliers=Z, y_outliers=classes)
    assert detector.net_.head.out_features == 3
    assert len(detector.net_.bank) == 17 - detector.n_held_out_


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "two classes or more, and got 0"),
        ({"y": -np.ones(20)}, "got 1"),
        ({"y": -1 - np.arange(20) % 2}, "one class beside"),
        ({"y": np.repeat(["a", "b"], 10)}, "no numbers"),
        ({"y_outliers": np.ones(3)}, "pass both"),
        ({"X_outliers": others(3)[0], "y_outliers": np.ones(4)}, "4 labels for 3"),
        ({"X_outliers": others(3)[0]}, "pass both"),
    ],
)
def test_what_is_missing_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        DOC(**OWN).fit(lines(20, 1, 0), **given)


def test_features_stay_telling_while_the_class_is_drawn_together():
    X, (Z, classes) = lines(40, 1, 0), others(40)
    own = {**OWN, "max_epochs": 60, "lr": 0.3}
    detector = DOC(**own, compactness_weight=10.0)
    detector.fit(X, X_outliers=Z, y_outliers=classes)
    before = DOC(**{**OWN, "lr": 1e-9}).fit(X, X_outliers=Z, y_outliers=classes).net_

    def spread(net, X):
        return compactness(net.features(torch.tensor(X).float()[:, None])).item()

    after = detector.net_
    together = spread(after, X) / spread(before, X)
    assert together < spread(after, Z) / spread(before, Z), together


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_threshold_holds_on_new_pictures(seed):
    X, (Z, classes) = lines(100, 1, seed), others(30, seed + 20)
    detector = DOC(**{**OWN, "random_state": seed})
    detector.fit(X, X_outliers=Z, y_outliers=classes)
    assert detector.n_held_out_ == 20
    share = np.mean(detector.predict(lines(300, 1, 10 + seed)) == -1)
    assert 0 < share < 0.2, share
