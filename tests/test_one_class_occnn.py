"""OC-CNN: its loss and score in NumPy, and logistic regression against zero."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from skad.one_class import OCCNN

SMALL = {"max_epochs": 3, "contamination": 0.1, "random_state": 0}


@pytest.fixture(scope="module", name="X")
def features():
    rng = np.random.default_rng(0)
    return np.maximum(0, rng.normal([3, 2, 1, 0, -1, -2], size=(120, 6)))


def network(detector):
    return copy.deepcopy(detector.net_).double()


def weights(net):
    (w, b) = (one.numpy() for one in net.classifier.parameters())
    return w[0], float(b[0])


def normalized(X):
    return np.maximum(0, (X - X.mean(axis=1)[:, None]) / X.std(axis=1)[:, None])


def test_anomaly_is_the_logit_of_normalized_features(X):
    detector = OCCNN(**SMALL).fit(X)
    w, b = weights(network(detector))
    assert_allclose(-detector.score_samples(X), normalized(X) @ w + b, atol=1e-4)
    plain = OCCNN(normalize=False, **SMALL).fit(X)
    w, b = weights(network(plain))
    assert_allclose(-plain.score_samples(X - 1), np.maximum(0, X - 1) @ w + b)


def test_loss_is_the_cross_entropy_of_as_many_of_both(X):
    net = network(OCCNN(noise=0.5, **SMALL).fit(X))
    w, b = weights(net)
    torch.manual_seed(0)
    found = float(net.loss(torch.as_tensor(X), None))
    torch.manual_seed(0)
    noise = np.maximum(0, 0.5 * torch.randn(120, 6, dtype=torch.float64).numpy())
    own = np.log1p(np.exp(normalized(X) @ w + b)).mean()
    made = np.log1p(np.exp(-(noise @ w + b))).mean()
    assert found == pytest.approx((own + made) / 2, rel=1e-4)


def test_without_noise_its_least_loss_is_logistic_regression_against_zero(X):
    y = np.repeat([0, 1], len(X))
    both = np.concatenate([X, np.zeros_like(X)])
    found = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(both, y)
    net = network(OCCNN(noise=0.0, normalize=False, **SMALL).fit(X))
    layer = net.classifier.layers[0].requires_grad_(True)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(found.coef_))
        layer.bias.copy_(torch.as_tensor(found.intercept_))
    size = layer.weight.square().sum() / 2 / (0.1 * len(both))
    (net.loss(torch.as_tensor(X), None) + size).backward()
    assert_allclose(layer.weight.grad, 0, atol=1e-7)
    assert_allclose(layer.bias.grad, 0, atol=1e-7)


def test_nothing_is_more_anomalous_than_zero():
    mean = np.array([3.0, 0.5, 1.0, 2.0, 0.1, 0.1])
    X = mean + 0.01 * np.random.default_rng(0).normal(size=(200, 6))
    own = {**SMALL, "normalize": False, "max_epochs": 200}
    # Adam's steps are the same for all weights
    detector = OCCNN(optimizer="sgd", lr=0.1, **own).fit(X)
    zero = detector.score_samples(np.zeros((1, 6)))
    assert zero < detector.score_samples(X).min()
    new = np.random.default_rng(1).uniform(size=(50, 6))
    assert spearmanr(new @ mean, detector.score_samples(new)).statistic > 0.95


def test_one_feature_is_refused():
    with pytest.raises(ValueError, match="normalize=True needs X with at least 2"):
        OCCNN(**SMALL).fit(np.ones((20, 1)))
