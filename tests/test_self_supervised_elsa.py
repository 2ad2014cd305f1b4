"""ELSA: its energy and losses in NumPy, and its prototypes."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from skad.self_supervised import ELSA
from skad.self_supervised._elsa import normality, spherical_k_means

OWN = {
    "hidden_sizes": (4, 8),
    "code_size": 8,
    "projection_size": 6,
    "pretrain_epochs": 2,
    "max_epochs": 2,
    "n_prototypes": 9,
    "batch_size": 16,
    "contamination": 0.1,
    "random_state": 0,
}


def directions(n, d, seed):
    found = np.random.default_rng(seed).normal(size=(n, d))
    return torch.as_tensor(found / np.linalg.norm(found, axis=1)[:, None])


@pytest.fixture(scope="module", name="X")
def pictures():
    return np.random.default_rng(0).uniform(size=(40, 10, 10))


def network(detector):
    return copy.deepcopy(detector.net_).double().eval()


def test_normality_has_its_bounds():
    z, p = directions(30, 3, 0), directions(9, 3, 1)
    found = normality(z, p, 0.5)
    assert_allclose(found, logsumexp(z.numpy() @ p.numpy().T / 0.5, axis=1))
    assert np.log(9) - 2 <= found.min() <= found.max() <= np.log(9) + 2
    same = p[:1].expand(9, -1)
    assert_allclose(normality(p[:1], same, 0.5), np.log(9) + 2)
    assert_allclose(normality(z, p[:1], 0.5), (z @ p[0]) / 0.5)


def test_as_many_prototypes_as_codes_are_the_codes():
    torch.manual_seed(0)
    z = directions(7, 3, 0)
    found = spherical_k_means(z, 7)
    assert_allclose((found @ z.T).amax(0), 1)
    assert_allclose(spherical_k_means(z, 9).norm(dim=1), 1)
    (one,) = spherical_k_means(z, 1)
    total = z.sum(0)
    assert_allclose(one, total / total.norm())
    near = torch.nn.functional.normalize(
        torch.eye(3).double().repeat(20, 1) + 0.05 * torch.randn(60, 3).double(), dim=1
    )
    assert_allclose(
        (spherical_k_means(near, 3) @ torch.eye(3).double()).amax(0), 1, atol=0.01
    )


def test_anomaly_and_losses_are_their_formulas(X):
    y = np.repeat([0, 1, -1], [20, 10, 10])
    detector = ELSA(**OWN).fit(X, y)
    net, x = network(detector), torch.as_tensor(X)[:, None]
    z = net.encoder(x).detach().numpy()
    z = z / np.linalg.norm(z, axis=1)[:, None]
    p = net.prototypes.numpy()
    assert_allclose(np.linalg.norm(p, axis=1), 1, rtol=1e-5)
    assert_allclose(-detector.score_samples(X), -logsumexp(z @ p.T, axis=1))
    S = logsumexp(z @ p.T / 0.5, axis=1)
    ((_, found),) = net.updates("fit", x, torch.as_tensor(y))
    known = np.where(y == -1, np.log(9) + 2 - S, S)
    assert_allclose(found.item(), np.mean(1 / known))
    ((_, found),) = net.updates("fit", x, None)
    assert_allclose(found.item(), np.mean(1 / S))
    assert [row["phase"] for row in detector.history_] == ["pretrain"] * 2 + ["fit"] * 2


def test_known_anomalies_are_no_prototypes(X):
    bright = np.concatenate([0.2 * X[:20], 0.5 + 0.5 * X[:20]])
    y = np.repeat([0, -1], 20)
    own = {**OWN, "n_prototypes": 20, "fine_tuning_lr": 1e-30}
    net = network(ELSA(**own).fit(bright, y))
    codes = net.directions(torch.as_tensor(bright)[:, None]).detach()
    near = (codes @ net.prototypes.T).amax(1)
    assert near[:20].min() > 1 - 1e-5 > near[20:].max()


def test_training_moves_known_anomalies_away(X):
    normal, odd = 0.3 * X[:30], np.concatenate([0.3 * X[30:], 0.3 * X[:10]])
    odd[:, :5] += 0.7
    y, both = np.repeat([0, -1], [30, 20]), np.concatenate([normal, odd])
    before, after = (
        -ELSA(**{**OWN, "fine_tuning_lr": lr, "max_epochs": 20})
        .fit(both, y)
        .score_samples(both)
        for lr in (1e-30, 3e-3)
    )

    def gap(a):
        return (a[30:].mean() - a[:30].mean()) / a[:30].std()

    assert gap(after) > gap(before) + 1


def test_few_prototypes_are_refused(X):
    with pytest.raises(ValueError, match="n_prototypes=7 is too few"):
        ELSA(**{**OWN, "n_prototypes": 7}).fit(X)
