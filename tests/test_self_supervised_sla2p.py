"""SLA2P: what is pushed where, and the whole by a loop."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score
from torch import nn

from skad.self_supervised import SLA2P

SMALL = {
    "n_transformations": 5,
    "transform_size": 8,
    "max_epochs": 3,
    "contamination": 0.1,
    "random_state": 0,
}


@pytest.fixture(scope="module", name="X")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(80, 2)) @ rng.normal(size=(2, 6))


def network(detector):
    return copy.deepcopy(detector.net_).double()


def squared_errors(net, projections):
    """Return the mean squared errors of the classifier's answers on (b, K, s)."""
    logits = net.classifier(projections.flatten(0, 1)).detach()
    shares = softmax(logits.numpy(), axis=1).reshape(len(projections), 5, 5)
    return ((shares - np.eye(5)) ** 2).mean(axis=(1, 2))


@pytest.mark.parametrize("normalize", [True, False])
def test_without_a_push_it_is_the_squared_error(X, normalize):
    detector = SLA2P(epsilon=0.0, normalize=normalize, **SMALL).fit(X)
    net = network(detector)
    rows = X / np.linalg.norm(X, axis=1)[:, None] if normalize else X
    projections = np.einsum("nd,kds->nks", rows, net.transforms.matrices.numpy())
    expected = squared_errors(net, torch.as_tensor(projections))
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-6)
    targets = np.tile(np.arange(5), len(X))
    logits = net.classifier(torch.as_tensor(projections).flatten(0, 1)).detach()
    crossed = -log_softmax(logits.numpy(), axis=1)[np.arange(len(targets)), targets]
    assert float(net.loss(torch.as_tensor(X), None)) == pytest.approx(crossed.mean())


def test_the_push_of_a_linear_classifier_has_a_closed_form(X):
    net = network(SLA2P(epsilon=0.7, **SMALL).fit(X))
    net.classifier = nn.Linear(8, 5).double().requires_grad_(False)
    z = torch.randn(4, 5, 8, dtype=torch.float64)
    logits = net.classifier(z).numpy()
    taken = np.eye(5)[logits.argmax(axis=2)]
    gradient = (softmax(logits, axis=2) - taken) @ net.classifier.weight.numpy()
    assert_allclose(net.pushed(z), z.numpy() + 0.7 * gradient)


def test_scores_are_those_of_pushed_projections_one_by_one(X):
    detector = SLA2P(epsilon=3.0, **SMALL).fit(X)
    net, scores = network(detector), []
    for x in X[:6]:
        z = x / np.linalg.norm(x) @ net.transforms.matrices.numpy()
        moved = []
        for one in torch.as_tensor(z):
            one = one.requires_grad_(True)
            logits = net.classifier(one[None])[0]
            (-logits.log_softmax(0)[logits.argmax()]).backward()
            moved.append((one + 3.0 * one.grad).detach())
        scores.append(squared_errors(net, torch.stack(moved)[None])[0])
    assert_allclose(-detector.score_samples(X[:6]), scores, rtol=1e-6)
    assert_allclose(detector.score_samples(X)[:6], -np.array(scores), rtol=1e-6)


def test_the_map_is_what_each_feature_at_its_mean_takes_away(X):
    detector = SLA2P(**SMALL).fit(X)
    for i in range(6):
        usual = X[:4].copy()
        usual[:, i] = detector.net_.baseline[i]
        expected = detector.score_samples(usual) - detector.score_samples(X[:4])
        assert_allclose(detector.transform(X[:4])[:, i], expected, atol=1e-9)


def test_training_ends_when_enough_is_told_right(X):
    own = {**SMALL, "max_epochs": 200}
    for target in (0.3, 0.6):
        detector = SLA2P(target_accuracy=target, **own).fit(X)
        share = float(detector.net_.n_right / detector.net_.n_seen)
        assert target < share < target + 0.1
        n_epochs = len(detector.history_)
        assert int(detector.net_.n_seen) == n_epochs * 80 * 5
        assert n_epochs < 200
    assert len(SLA2P(target_accuracy=1.0, **SMALL).fit(X).history_) == 3


def test_directions_are_learned(X):
    odd = X * np.array([1, -1] * 3)
    few = {"n_transformations": 16, "transform_size": 16, "random_state": 0}
    detector = SLA2P(**few).fit(X)
    y, both = np.repeat([0, 1], len(X)), np.concatenate([X, odd])
    assert roc_auc_score(y, -detector.score_samples(both)) > 0.8
    longer = detector.score_samples(3 * X)
    assert_allclose(longer, detector.score_samples(X), rtol=1e-6)
