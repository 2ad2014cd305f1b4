"""AE1SVM: its objective in NumPy, its waves, and what a one-class SVM makes of them."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from torch import nn

from skad.one_class import AE1SVM

SMALL = {
    "max_epochs": 3,
    "hidden_sizes": (6,),
    "latent_size": 4,
    "contamination": 0.1,
    "random_state": 0,
}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(size=(120, 3))


def waves(net, codes):
    """Return random Fourier features, by the formula."""
    F, b = net.frequencies.numpy(), net.phases_of_waves.numpy()
    return np.sqrt(2 / len(b)) * np.cos(codes @ F + b)


def test_objective_and_anomaly_are_the_formula(X):
    given = {"nu": 0.2, "n_waves": 30, "reconstruction_weight": 0.7, **SMALL}
    detector = AE1SVM(**given).fit(X)
    net = copy.deepcopy(detector.net_).double()
    codes = net.encoder(torch.as_tensor(X))
    errors = (X - net.decoder(codes).numpy()) ** 2
    w, rho = net.direction.numpy(), float(net.distance)
    below = rho - waves(net, codes.numpy()) @ w
    assert_allclose(-detector.score_samples(X), below)
    svm = (w @ w) / 2 - rho + np.maximum(0, below).mean() / 0.2
    expected = 0.7 * errors.sum(axis=1).mean() + svm
    assert_allclose(float(net.loss(torch.as_tensor(X), None)), expected)


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_waves_are_those_of_a_gaussian_kernel(X, sigma):
    net = AE1SVM(n_waves=40_000, sigma=sigma, **{**SMALL, "latent_size": 3}).fit(X).net_
    found = (waves(net, X[:40]) * waves(net, X[40:80])).sum(axis=1)
    squares = ((X[:40] - X[40:80]) ** 2).sum(axis=1)
    assert_allclose(found, np.exp(-squares / (2 * sigma**2)), atol=0.03)
    assert_allclose(net.double().waves(torch.as_tensor(X[:2])), waves(net, X[:2]))


def test_waves_are_not_trained(X):
    made = [AE1SVM(**{**SMALL, "max_epochs": n}, lr=0.1).fit(X).net_ for n in (1, 9)]
    for name in ("frequencies", "phases_of_waves"):
        assert_allclose(getattr(made[0], name), getattr(made[1], name))
    assert not torch.equal(made[0].direction, made[1].direction)


class Same(nn.Module):
    """Codes are rows, and rows are codes."""

    def __init__(self, input_shape, output_shape):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        """Return `x`."""
        return x + 0 * self.factor


def test_without_an_autoencoder_it_is_a_one_class_svm(X):
    given = {"nu": 0.3, "n_waves": 20, "reconstruction_weight": 0.0, "latent_size": 3}
    given |= {"architecture": Same, "max_epochs": 1500, "lr": 3e-3, "batch_size": 120}
    detector = AE1SVM(**given, contamination=0.1, random_state=0).fit(X)
    net = copy.deepcopy(detector.net_).double()
    features = waves(net, X)

    def objective(parts):
        below = parts[-1] - features @ parts[:-1]
        hinge = np.maximum(0, below).mean() / 0.3
        return parts[:-1] @ parts[:-1] / 2 - parts[-1] + hinge

    found = objective(np.append(net.direction.numpy(), float(net.distance)))
    slack = [
        {"type": "ineq", "fun": lambda v: v[21:] - v[20] + features @ v[:20]},
        {"type": "ineq", "fun": lambda v: v[21:]},
    ]
    best = minimize(
        lambda v: v[:20] @ v[:20] / 2 - v[20] + v[21:].mean() / 0.3,
        np.full(141, 0.1),
        jac=lambda v: np.concatenate([v[:20], [-1], np.full(120, 1 / 36)]),
        constraints=slack,
        method="SLSQP",
    ).fun
    assert best - 1e-6 < found < best + 0.01 * abs(best)
    share = (detector.score_samples(X) < -1e-3).mean()
    assert share < 0.3 + 0.03
