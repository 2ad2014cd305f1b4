"""Metric learning: pairs in a loop, and means of classes."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from torch import nn

from skad.ood import MetricLearningAD
from skad.ood._metric_learning import pair_loss
from tests.test_ood_trained import CENTRES, SMALL, make


def naive(codes, y, margin):
    """Return the loss of all pairs, kind by kind."""
    kinds = {"same": [], "differ": [], "outside": []}
    for i in range(len(y)):
        for j in range(i):
            D = np.linalg.norm(codes[i] - codes[j])
            if y[i] == y[j] == -1:
                continue
            if y[i] == y[j]:
                kinds["same"].append(D)
            elif -1 in (y[i], y[j]):
                kinds["outside"].append(max(0, margin - D))
            else:
                kinds["differ"].append(max(0, margin - D))
    shares = [0.25, 0.5, 0.25] if kinds["outside"] else [0.25, 0.75, 0]
    means = [np.mean(each) if each else 0 for each in kinds.values()]
    return 0.5 * np.dot(shares, means)


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 1, -1), (0, -1), (0,)])
def test_loss_is_its_loop_over_pairs(labels):
    rng = np.random.default_rng(0)
    y, codes = rng.choice(labels, size=12), 3 * rng.normal(size=(12, 2))
    found = pair_loss(torch.as_tensor(codes), torch.as_tensor(y), 4.0)
    assert float(found) == pytest.approx(naive(codes, y, 4.0))


def test_pairs_at_the_margin_and_at_one_place_cost_nothing():
    codes = torch.tensor([[0.0, 0], [0, 0], [0, 4]], requires_grad=True)
    loss = pair_loss(codes, torch.tensor([0, 0, 1]), 4.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(codes.grad).all()
    assert pair_loss(codes, torch.tensor([-1, -1, -1]), 9.0).item() == 0


def test_anomaly_is_the_distance_to_the_nearest_mean():
    X, y, outliers = make()
    detector = MetricLearningAD(latent_size=4, contamination=0.1, **SMALL).fit(X, y)
    net = copy.deepcopy(detector.net_).double()
    codes, new = (net.encoder(torch.as_tensor(Z)).numpy() for Z in (X, outliers))
    means = np.array([codes[y == k].mean(axis=0) for k in range(3)])
    assert_allclose(net.means, means, rtol=1e-4)
    apart = ((new[:, None] - net.means.numpy()) ** 2).sum(axis=2)
    assert_allclose(-detector.score_samples(outliers), apart.min(axis=1))
    codes = detector.predict_with_rejection(outliers, reject=7)
    inside = detector.predict(outliers) == 1
    assert_array_equal(codes[inside], apart.argmin(axis=1)[inside])
    assert (codes[~inside] == 7).all()


def test_without_a_code_it_is_the_nearest_class_mean():
    def plain(input_shape, output_shape):
        assert input_shape == output_shape
        return Itself()

    X, y, outliers = make()
    own = {**SMALL, "hidden_sizes": None, "architecture": plain, "weight_decay": 0.0}
    own |= {"lr": 1e-30, "contamination": 0.1}
    detector = MetricLearningAD(latent_size=3, **own).fit(X, y)
    means = np.array([X[y == k].mean(axis=0) for k in range(3)])
    expected = ((outliers[:, None] - means) ** 2).sum(axis=2).min(axis=1)
    assert_allclose(-detector.score_samples(outliers), expected, rtol=1e-5)


class Itself(nn.Module):
    """Returns what it gets, times a weight of one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight


def test_known_outliers_keep_their_distance():
    X, y, _ = make()
    rng = np.random.default_rng(1)
    beside = CENTRES[0] + [0, -2, -2] + rng.normal(0, 0.5, size=(90, 3))
    truth, both = np.repeat([0, 1], [180, 60]), np.concatenate([X, beside[30:]])
    found = []
    for known in ({}, {"X_outliers": beside[:30]}):
        detector = MetricLearningAD(**SMALL).fit(X, y, **known)
        found.append(roc_auc_score(truth, -detector.score_samples(both)))
    assert found[1] > 0.98 > found[0] + 0.02, found
