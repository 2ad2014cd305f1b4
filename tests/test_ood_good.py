"""GOOD: its bounds against attacks, its loss against the formula."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from torch import nn

from skad.nn.adversarial import without_batch_norm
from skad.nn.architecture import MLP, Conv
from skad.nn.interval import difference_bounds, layers_of, propagated
from skad.ood import GOOD, OutlierExposure
from skad.ood._good import GOODNetwork, largest_probability
from tests.test_ood_trained import SMALL, make


def network(shape=(3,), epsilon=0.2, quantile=1.0, hidden=(5, 6), ramp=0):
    torch.manual_seed(0)
    net = GOODNetwork(shape, 4, "auto", hidden, epsilon, quantile, 0.3, ramp, "bound")
    return net.double()


def widest(z):
    return (z[:, :, None] - z[:, None]).flatten(1).amax(1)


NETWORKS = {
    "linear layers": (3,),
    "convolutions": (1, 8, 8),
}


@pytest.mark.parametrize("shape", NETWORKS.values(), ids=list(NETWORKS))
def test_no_input_of_the_box_exceeds_the_bounds(shape):
    """Random points, corners, and points that climb the difference itself."""
    net, epsilon = network(shape), 0.2
    x = torch.randn(6, *shape, dtype=torch.float64)
    bounds = net.bounds(x, epsilon)
    limit = net.confidence_bound(x)
    found = torch.full_like(bounds, -torch.inf)
    for _ in range(500):
        away = epsilon * (2 * torch.rand_like(x) - 1)
        for point in (x + away, x + epsilon * away.sign()):
            z = net(point)
            found = torch.maximum(found, z[:, :, None] - z[:, None])
            assert (z.softmax(1).amax(1) <= limit + 1e-12).all()
    for k in range(4):
        for m in range(4):
            away = torch.zeros_like(x)
            for _ in range(20):
                point = (x + away).requires_grad_(True)
                z = net(point)
                (slope,) = torch.autograd.grad((z[:, k] - z[:, m]).sum(), point)
                away = (away + epsilon / 5 * slope.sign()).clamp(-epsilon, epsilon)
            z = net(x + away)
            found = torch.maximum(found, z[:, :, None] - z[:, None])
            assert (z.softmax(1).amax(1) <= limit + 1e-12).all()
    assert (found <= bounds + 1e-12).all()


def test_of_one_linear_layer_the_bounds_are_reached():
    net = network(hidden=())
    x = torch.randn(5, 3, dtype=torch.float64)
    weight, bias = net.classifier.layers[-1].weight, net.classifier.layers[-1].bias
    bounds = net.bounds(x, 0.2)
    for k in range(4):
        for m in range(4):
            w = weight[k] - weight[m]
            exact = x @ w + bias[k] - bias[m] + 0.2 * w.abs().sum()
            assert_allclose(bounds[:, k, m].detach(), exact.detach(), atol=1e-12)


def test_without_a_radius_they_are_the_differences():
    net = network()
    x = torch.randn(5, 3, dtype=torch.float64)
    z = net(x)
    assert_allclose(net.bounds(x, 0.0).flatten(1).amax(1).detach(), widest(z).detach())
    exact = largest_probability(net.bounds(x, 0.0)).detach()
    assert_allclose(exact, z.softmax(1).amax(1).detach())
    assert_allclose(net.bounds(x, 0.0).detach(), (z[:, :, None] - z[:, None]).detach())
    last = torch.zeros(5)
    for epsilon in (0.0, 0.1, 0.3, 1.0):
        net.epsilon = epsilon
        assert (net.confidence_bound(x) >= last).all()
        last = net.confidence_bound(x)


def test_differences_are_bounded_closer_than_logits():
    net = network()
    x = torch.randn(5, 3, dtype=torch.float64)
    layers = layers_of(net.classifier)
    middle, radius = propagated(layers, x, torch.full_like(x, 0.2))
    apart = (middle + radius)[:, :, None] - (middle - radius)[:, None]
    assert (difference_bounds(layers, x, 0.2) <= apart + 1e-12).all()
    assert (difference_bounds(layers, x, 0.2) < apart - 1e-3).any()


def test_the_loss_is_the_formula():
    net = network(quantile=0.5)
    x = torch.randn(9, 3, dtype=torch.float64)
    y = torch.tensor([0, 3, -1, 2, -1, 1, -1, -1, 0])
    inside, outside = x[y >= 0], x[y < 0]
    ce = nn.functional.cross_entropy(net(inside), y[y >= 0])
    u = net.bounds(outside, 0.2).flatten(1).amax(1)
    small = u.argsort()[:2]  # half of four
    width = widest(net(outside)).clone()
    width[small] = u[small]
    expected = ce + 0.3 * (1 + width**2 / 2).log().mean()
    assert_allclose(float(net.loss(x, y).detach()), float(expected.detach()))
    net.ramp_epochs = 4  # a quarter of epsilon and weight in the first epoch
    u = net.bounds(outside, 0.05).flatten(1).amax(1)
    small = u.argsort()[:2]
    width = widest(net(outside)).clone()
    width[small] = u[small]
    expected = ce + 0.25 * 0.3 * (1 + width**2 / 2).log().mean()
    assert_allclose(float(net.loss(x, y).detach()), float(expected.detach()), rtol=1e-6)
    net.end_epoch(None, None)
    assert float(net.loss(x, y)) != pytest.approx(float(expected))


def test_built_networks_have_no_batch_norm_and_others_are_refused():
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network((1, 8, 8)).modules())
    assert len(layers_of(MLP((3,), (2,), (4, 4)))) == 6
    plain = without_batch_norm(Conv((1, 8, 8), (2,), (4,)))
    assert isinstance(layers_of(plain)[0], nn.Conv2d)
    with pytest.raises(ValueError, match="architecture has a GRU"):
        layers_of(nn.GRU(3, 3))
    with pytest.raises(ValueError, match="end in a linear"):
        GOODNetwork((3,), 4, lambda *a: nn.ReLU(), None, 0.1, 1.0, 0.3, 0, "bound")


@pytest.fixture(scope="module")
def data():
    X, y, outliers = make()
    both = np.concatenate([X, outliers])
    mark = np.repeat([1, -1], [len(X), len(outliers)])
    return both, np.r_[y, [0] * len(outliers)], mark


def test_what_is_trained_can_be_guaranteed(data):
    X, y, mark = data
    settings = {**SMALL, "epsilon": 1.0, "ramp_epochs": 5, "max_epochs": 40}
    detector = GOOD(**settings).fit(X, y, y_ood=mark)
    plain = OutlierExposure(**{**SMALL, "max_epochs": 40}).fit(X, y, y_ood=mark)
    outliers = X[mark == -1]
    limit = detector.confidence_bound(outliers)
    assert limit.mean() < 0.6
    # what the plain one says of the worst of random corners is beyond it
    rng = np.random.default_rng(0)
    worst = {}
    for name, one in {"GOOD": detector, "plain": plain}.items():
        corners = [
            outliers + rng.choice([-1.0, 1.0], outliers.shape) for _ in range(50)
        ]
        worst[name] = np.max([one.score_samples(c) for c in corners], axis=0)
    assert (worst["GOOD"] <= limit + 1e-9).all()
    assert (worst["plain"] > limit).mean() > 0.2
    score = GOOD(measure="bound", **settings).fit(X, y, y_ood=mark)
    assert_allclose(score.score_samples(outliers), limit)
    labels = detector.predict_with_rejection(X[mark == 1])
    assert np.mean(labels == y[mark == 1]) > 0.9
    assert roc_auc_score(mark, detector.score_samples(X)) > 0.95
