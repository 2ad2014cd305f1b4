"""RCA: which samples each of two autoencoders learns from."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from skad.reconstruction import RCA, AutoEncoder
from skad.reconstruction._rca import collaborative_loss, kept_share

SMALL = {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 3, "random_state": 0}


def rows(n, n_odd, seed):
    """Return rows on a plane, and odd ones along another direction."""
    rng = np.random.default_rng(seed)
    plane, odd = np.split(np.random.default_rng(0).normal(size=(3, 8)), [2])
    X = rng.normal(size=(n, 2)) @ plane
    away = 2 * rng.normal(size=(n_odd, 1)) * odd + 0.3 * rng.normal(size=(n_odd, 8))
    X = np.concatenate([X, away])
    return X + 0.1 * rng.normal(size=X.shape), np.repeat([0, 1], [n, n_odd])


def test_the_share_falls_evenly_and_stays():
    found = [kept_share(epoch, 0.4, 4) for epoch in range(7)]
    assert_allclose(found, [1, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6])
    assert kept_share(0, 0.4, 0) == 1
    assert kept_share(1, 0.4, 0) == 0.6


@pytest.mark.parametrize("share", [1.0, 0.6, 0.25, 0.01])
def test_each_learns_from_what_the_other_rebuilds(share):
    one, other = np.random.default_rng(0).uniform(size=(2, 10))
    n_kept = max(1, int(share * 10))
    expected = np.mean([one[i] for i in np.argsort(other)[:n_kept]])
    expected += np.mean([other[i] for i in np.argsort(one)[:n_kept]])
    found = collaborative_loss(torch.as_tensor(one), torch.as_tensor(other), share)
    assert float(found) == pytest.approx(expected)


def test_with_all_samples_they_are_two_autoencoders():
    """The gradients of each are those of its own mean squared error."""
    net = RCA(**SMALL).fit(rows(60, 0, 0)[0]).net_
    net = copy.deepcopy(net).double().train().requires_grad_(True)
    net.fraction = 0.0
    x = torch.as_tensor(rows(20, 0, 1)[0])
    net.loss(x, None).backward()
    for coder in net.coders:
        alone = ((coder(x) - x) ** 2).mean()
        expected = torch.autograd.grad(alone, list(coder.parameters()))
        for weights, gradient in zip(coder.parameters(), expected, strict=True):
            assert_allclose(weights.grad, gradient)


def test_rca_is_the_mean_of_both_errors():
    X = rows(60, 0, 0)[0]
    detector = RCA(**SMALL).fit(X)
    net, x = detector.net_.double(), torch.as_tensor(X)
    errors = [((coder(x) - x) ** 2).numpy() for coder in net.coders]
    assert_allclose(detector.transform(X), np.mean(errors, axis=0))
    assert not np.allclose(*errors)
    assert int(net.n_epochs) == 10


def test_it_bears_anomalies_in_training_that_one_autoencoder_learns():
    X, _ = rows(300, 30, 1)
    new, y = rows(200, 200, 2)
    found = {
        cls: roc_auc_score(
            y, -cls(latent_size=3, random_state=0).fit(X).score_samples(new)
        )
        for cls in (RCA, AutoEncoder)
    }
    assert found[RCA] > max(0.95, found[AutoEncoder]), found
