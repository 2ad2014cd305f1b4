"""DROCC: the shell around normal samples, and what is sought on it."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skad.one_class import DROCC
from skad.one_class._drocc import onto_shell

SMALL = {"max_epochs": 20, "hidden_sizes": (16,), "random_state": 0}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(size=(200, 4))


@pytest.fixture(scope="module")
def fitted(X):
    return DROCC(**SMALL, contamination=0.1).fit(X)


def test_the_shell_keeps_directions_and_bounds_lengths():
    away = torch.tensor([[0.3, 0.4], [3.0, 4.0], [0.9, 1.2]])  # lengths .5, 5, 1.5
    found = onto_shell(away, 1.0, 2.0)
    assert_allclose(found, [[0.6, 0.8], [1.2, 1.6], [0.9, 1.2]], rtol=1e-6)
    assert_allclose(onto_shell(found, 1.0, 2.0), found, rtol=1e-6)


@pytest.mark.parametrize("n_steps", [0, 7, 20])
@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
def test_negatives_lie_on_the_shell(fitted, X, n_steps, shape):
    net = copy.deepcopy(fitted.net_)
    net.n_steps = n_steps
    x = torch.as_tensor(X, dtype=torch.float32).reshape(-1, *shape)
    radius = X.var(axis=0).mean() ** 0.5  # times half the root of four features
    assert float(net.radius) == pytest.approx(radius)
    length = (net.negatives(x) - x).flatten(1).norm(dim=1)
    assert length.min() > (1 - 1e-5) * radius
    assert length.max() < (2 + 1e-5) * radius


def test_the_search_is_as_wide_as_the_data(fitted, X):
    scaled = DROCC(**SMALL, contamination=0.1).fit(100 * X).net_
    net, x = copy.deepcopy(fitted.net_), torch.as_tensor(X[:9], dtype=torch.float32)
    scaled.scorer = copy.deepcopy(net.scorer)  # of the same number at the same place
    scaled.scorer.layers[0].weight.div_(100)
    found = []
    for one, scale in ((net, 1), (scaled, 100)):
        torch.manual_seed(0)
        found.append(one.negatives(scale * x) / scale)
    assert_allclose(found[0], found[1], atol=1e-4)
    radii = [DROCC(radius=3.0, **SMALL).fit(k * X).net_.radius for k in (1, 9)]
    assert [float(one) for one in radii] == [3.0, 3.0]


def test_the_search_finds_what_looks_more_normal(fitted, X):
    net, x = copy.deepcopy(fitted.net_), torch.as_tensor(X, dtype=torch.float32)
    found = []
    for net.n_steps in (0, 5, 20):
        torch.manual_seed(0)
        found.append(float(net.anomaly(net.negatives(x)).mean()))
    assert found == sorted(found, reverse=True)


def test_the_loss_is_two_cross_entropies(fitted, X):
    net, x = copy.deepcopy(fitted.net_).double(), torch.as_tensor(X)
    net.weight = 3.0
    torch.manual_seed(0)
    ((_, found),) = net.updates("fit", x, None)
    torch.manual_seed(0)
    anomaly, other = net.anomaly(x).numpy(), net.anomaly(net.negatives(x)).numpy()
    normal = np.log(1 + np.exp(anomaly)).mean()
    expected = normal + 3 * np.log(1 + np.exp(-other)).mean()
    assert float(found) == pytest.approx(expected)
    ((_, alone),) = net.updates("pretrain", x, None)
    assert float(alone) == pytest.approx(normal)


def test_drocc_is_its_network(fitted, X):
    first, _, last = fitted.net_.double().scorer.layers
    hidden = torch.nn.functional.leaky_relu(first(torch.as_tensor(X)), 0.1)
    assert_allclose(-fitted.score_samples(X), last(hidden)[:, 0])


def test_normal_rows_alone_teach_that_all_is_normal(X):
    detector = DROCC(**{**SMALL, "max_epochs": 1}, pretrain_epochs=100, lr=0.01)
    detector.set_params(adversarial_weight=1e-9, n_steps=0)
    assert detector.fit(X).score_samples(100 * X).min() > 0
