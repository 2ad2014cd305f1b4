"""Dirichlet distributions over the probabilities of classes, by concentrations."""

import torch


def dirichlet_divergence(alpha, beta):
    """Return KL(Dir(alpha) || Dir(beta)) of rows of concentrations, (b, c) to (b,)."""
    total, other = alpha.sum(1), beta.sum(1)
    psi = torch.digamma(alpha) - torch.digamma(total)[:, None]
    constants = torch.lgamma(total) - torch.lgamma(other)
    constants = constants - (torch.lgamma(alpha) - torch.lgamma(beta)).sum(1)
    return constants + ((alpha - beta) * psi).sum(1)


def mutual_information(alpha):
    """Return what the class would tell of the class probabilities, (b, c) to (b,).

    The entropy of the mean probabilities less the mean of their entropy.
    """
    total = alpha.sum(1, keepdim=True)
    mean = alpha / total
    inner = mean.log() - torch.digamma(alpha + 1) + torch.digamma(total + 1)
    return -(mean * inner).sum(1)


def expected_square(alpha, y):
    """Return the mean squared error (b,) of drawn probabilities to the labels (b,)."""
    total = alpha.sum(1, keepdim=True)
    mean = alpha / total
    target = torch.nn.functional.one_hot(y, alpha.shape[1])
    return ((target - mean) ** 2 + mean * (1 - mean) / (total + 1)).sum(1)


def own_gap(alpha, y, function):
    """Return function(sum of alpha) - function(alpha of the class), (b,)."""
    own = alpha.gather(1, y[:, None])[:, 0]
    return function(alpha.sum(1)) - function(own)


# What a row with a class costs, by names.
COSTS = {
    "squared": expected_square,
    "log": lambda alpha, y: own_gap(alpha, y, torch.log),
    "digamma": lambda alpha, y: own_gap(alpha, y, torch.digamma),
}
# Beyond this logarithm concentrations are of one size: exp of it is within float32.
LARGEST = 20.0


def exponential(z):
    """Return exp(z) of logits within bounds."""
    return z.clamp(-LARGEST, LARGEST).exp()
