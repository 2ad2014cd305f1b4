"""DROC: one-directional contrast of turned copies, and heads on its codes."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from skad.nn.contrast import one_way
from skad.self_supervised import DROC
from skad.self_supervised._droc import DROCNetwork
from skad.self_supervised._heads import HEADS, DensityHead

OWN = {
    "hidden_sizes": (4, 8),
    "code_size": 8,
    "projection_size": 6,
    "n_projection_layers": 1,
    "batch_size": 16,
    "contamination": 0.1,
    "random_state": 0,
}
NETWORK = "auto", (4, 8), 8, 6, 0.2, 0.5


def stairs(n, seed, turned=False):
    """Return pictures with one bright corner, whose edges run as in no turned copy."""
    rng = np.random.default_rng(seed)
    X = 0.1 * rng.uniform(size=(n, 12, 12))
    X[:, 1:5, 1:9] += 0.5
    X[:, 1:9, 1:4] += 0.3
    return np.ascontiguousarray(np.rot90(X, 1, (1, 2))) if turned else X


def directions(net, X):
    codes = net.encoder(torch.as_tensor(X)[:, None]).detach().numpy()
    return codes / np.linalg.norm(codes, axis=1)[:, None]


def one_way_loop(first, second, temperature):
    """Return the loss of first views among second ones, a loop over both."""
    first, second = (z / np.linalg.norm(z, axis=1)[:, None] for z in (first, second))
    found = []
    for i, one in enumerate(first):
        likeness = [one @ other / temperature for other in second]
        found.append(logsumexp(likeness) - likeness[i])
    return np.mean(found)


def test_first_views_are_compared_with_second_ones_alone():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 3))
    found = one_way(torch.tensor(first), torch.tensor(second), 0.2)
    assert found.item() == pytest.approx(one_way_loop(first, second, 0.2))
    # first views that are all alike can be told from each other by none
    assert one_way(torch.ones(7, 3), torch.rand(1, 3).expand(7, 3), 0.2).item() == (
        pytest.approx(np.log(7), rel=1e-5)
    )


def turned_views(net, x):
    return [
        torch.cat([view.rot90(k, (2, 3)) for k in range(4)]) for view in (x, x.flip(3))
    ]


def test_turned_copies_count_as_other_pictures():
    torch.manual_seed(0)
    net = DROCNetwork((1, 12, 12), *NETWORK, "contrastive", "density", 2)
    net = net.eval().double().requires_grad_(False)
    x = torch.rand(3, 1, 12, 12, dtype=torch.float64)
    views = [net.projection(net.encoder(view)) for view in turned_views(net, x)]
    expected = one_way_loop(*(view.numpy() for view in views), 0.2)
    assert net.loss(x, None).item() == pytest.approx(expected)


def test_turns_are_told_by_the_projection():
    torch.manual_seed(0)
    net = DROCNetwork((1, 12, 12), *NETWORK, "rotation", "density", 1)
    net = net.eval().double().requires_grad_(False)
    x = torch.rand(3, 1, 12, 12, dtype=torch.float64)
    total = 0.0
    for k in range(4):
        logits = net.projection(net.encoder(x.rot90(k, (2, 3)))).numpy()
        total += (logsumexp(logits, axis=1) - logits[:, k]).mean() / 4
    assert net.loss(x, None).item() == pytest.approx(total)
    assert net.train().loss(x, None).item() != pytest.approx(total)


def gamma_of(known):
    return 10 / (known.shape[1] * known.var())


def density(known, new):
    gamma = gamma_of(known)
    bandwidth = np.sqrt(1 / (2 * gamma))
    found = KernelDensity(bandwidth=bandwidth).fit(known).score_samples(new)
    d = known.shape[1]
    return -(found + d / 2 * np.log(2 * np.pi * bandwidth**2)) / gamma


def svm(known, new):
    machine = OneClassSVM(gamma=gamma_of(known)).fit(known)
    return -machine.decision_function(new)


def one_gaussian(known, new):
    covariance = LedoitWolf().fit(known).covariance_
    log = multivariate_normal(known.mean(axis=0), covariance, allow_singular=True)
    return -2 * (log.logpdf(new) - log.logpdf(known.mean(axis=0)))


@pytest.mark.parametrize("head", [density, svm, one_gaussian])
@pytest.mark.parametrize("representation", ["contrastive", "rotation"])
def test_heads_are_those_of_scikit_learn_and_scipy(head, representation):
    name = {"one_gaussian": "gaussian"}.get(head.__name__, head.__name__)
    X, new = stairs(40, 0), stairs(5, 1, turned=True)
    detector = DROC(**OWN, head=name, representation=representation, max_epochs=2).fit(
        X
    )
    net = detector.net_.double()
    expected = head(directions(net, X), directions(net, new))
    assert_allclose(-detector.score_samples(new), expected, rtol=2e-3, atol=1e-5)


def test_one_known_code_is_the_squared_distance_to_it():
    head, codes = DensityHead(3).double(), np.random.default_rng(0).normal(size=(4, 3))
    head.keep(codes[:1], 7.0)
    expected = ((codes - codes[0]) ** 2).sum(axis=1)
    assert_allclose(head(torch.tensor(codes)), expected, atol=1e-12)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_codes_that_do_not_vary_are_learned_too(name):
    head = HEADS[name](3).double()
    head.fit(np.ones((6, 3)))
    same, other = head(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]).double())
    assert torch.isfinite(other)
    assert same < other


def test_kept_codes_are_compared_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    new = torch.tensor(rng.normal(size=(4, 3)))
    for name in ("density", "svm"):
        head = HEADS[name](3).double()
        head.fit(rng.normal(size=(50, 3)))
        expected = head(new)
        monkeypatch.setattr("skad.self_supervised._heads._TOGETHER", 12 * 7)
        assert_allclose(head(new), expected)
        monkeypatch.undo()


def test_droc_finds_turned_pictures():
    detector = DROC(**{**OWN, "lr": 0.05}, max_epochs=15).fit(stairs(50, 0))
    usual = -detector.score_samples(stairs(10, 1)).max()
    odd = -detector.score_samples(stairs(10, 2, turned=True)).min()
    assert usual < odd, (usual, odd)
