"""LikelihoodRegret where everything is Gaussian, and in a loop of one sample."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skad import VAE, LikelihoodRegret


class Linear(torch.nn.Module):
    """One linear layer between shapes."""

    def __init__(self, input_shape, output_shape, hidden_sizes=()):
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[0], output_shape[0])

    def forward(self, x):
        return self.layer(x)


@pytest.fixture
def detector():
    X = np.random.default_rng(0).normal(size=(40, 5))
    return LikelihoodRegret(
        latent_size=2,
        architecture=Linear,
        variance="shared",
        n_draws=4,
        max_epochs=1,
        n_search_steps=400,
        min_deviation=0.0,
        random_state=0,
    ).fit(X)


def probabilistic_pca(detector):
    """Set the networks to x = W z + noise of variance 0.5 and the exact posterior.

    Four draws that have the mean 0 and the covariance I, so that means of quadratics
    are exact.
    """
    net = detector.net_.double()
    W = torch.tensor(np.random.default_rng(1).normal(size=(5, 2)))
    net.log_variance.data.fill_(np.log(0.5))
    net.draws.copy_(2**0.5 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]]))
    net.decoder.layer.weight.data, net.decoder.layer.bias.data[:] = W, 0
    # columns of W are made orthogonal: then the posterior is of independent codes
    W[:, 1] -= W[:, 0] * (W[:, 0] @ W[:, 1]) / (W[:, 0] @ W[:, 0])
    precision = 1 + (W**2).sum(0) / 0.5
    net.encoder.layer.weight.data[:] = 0
    net.encoder.layer.bias.data[:] = 0
    return net, W, precision


X = 3 * np.random.default_rng(2).normal(size=(6, 5))


def test_under_the_exact_posterior_nobody_regrets(detector):
    net, W, precision = probabilistic_pca(detector)
    net.encoder.layer.weight.data[:2] = W.T / 0.5 / precision[:, None]
    net.encoder.layer.bias.data[2:] = -precision.log()
    assert_allclose(detector.score_samples(X), 0.0, atol=1e-6)
    assert_allclose(detector.transform(X), 0.0, atol=1e-2)


def test_of_the_prior_the_regret_is_the_divergence_to_the_posterior(detector):
    _, W, precision = probabilistic_pca(detector)
    mean = (torch.tensor(X) @ W) / 0.5 / precision
    # KL(N(0, I) || N(mean, 1 / precision))
    kl = 0.5 * (precision * (1 + mean**2) - 1 - precision.log()).sum(1)
    assert_allclose(-detector.score_samples(X), kl, rtol=1e-3)
    # the map: log p(x | z) in the mean over both Gaussians of the code
    prior = (torch.tensor(X) ** 2 + (W**2).sum(1)) / 1.0
    rebuilt = mean @ W.T
    posterior = (torch.tensor(X) - rebuilt) ** 2 + (W**2 / precision).sum(1)
    assert_allclose(detector.transform(X), prior - posterior, atol=0.05)


def test_refitted_weights_find_the_posterior_too(detector):
    net, W, precision = probabilistic_pca(detector)
    net.refit, net.lr, net.n_steps = "encoder", 0.05, 600
    mean = (torch.tensor(X) @ W) / 0.5 / precision
    kl = 0.5 * (precision * (1 + mean**2) - 1 - precision.log()).sum(1)
    weights = net.encoder.layer.weight.clone()
    assert_allclose(-detector.score_samples(X), kl, rtol=0.01)
    assert torch.equal(net.encoder.layer.weight, weights)


@pytest.mark.parametrize("refit", ["latent", "encoder"])
def test_samples_are_refitted_one_by_one(refit):
    X = np.random.default_rng(0).normal(size=(40, 5))
    detector = LikelihoodRegret(
        refit=refit, latent_size=2, max_epochs=2, n_search_steps=20, random_state=0
    ).fit(X)
    alone = [detector.score_samples(row[None])[0] for row in X]
    assert_allclose(detector.score_samples(X), alone, rtol=1e-9)
    assert (np.array(alone) <= 0).all()


def test_the_bound_before_is_that_of_the_same_autoencoder():
    X = np.random.default_rng(0).normal(size=(40, 5))
    given = {"latent_size": 2, "max_epochs": 3, "random_state": 0}
    detector, vae = LikelihoodRegret(**given).fit(X), VAE(**given).fit(X)
    x = torch.tensor(X)
    net = detector.net_.double()
    assert_allclose(-net.bound(*net.terms(x)), vae.score_samples(X))


def test_it_finds_what_lies_in_the_plane_but_far_out():
    rng = np.random.default_rng(0)
    X, new = (rng.normal(size=(n, 1)) * np.ones(6) for n in (300, 50))
    detector = LikelihoodRegret(latent_size=1, random_state=0).fit(X)
    assert (
        detector.score_samples(np.full((1, 6), 9.0)) < detector.score_samples(new).min()
    )
