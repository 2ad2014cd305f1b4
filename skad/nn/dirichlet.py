"""Dirichlet distributions over the probabilities of classes, by concentrations."""

import torch
from torch.special import digamma, polygamma

# Largest sum of parameters: what never varies has no largest likelihood.
_LARGEST = 1e6
_STEPS = 100


def dirichlet_divergence(alpha, beta):
    """Return KL(Dir(alpha) || Dir(beta)) of rows of concentrations, (b, c) to (b,)."""
    total, other = alpha.sum(1), beta.sum(1)
    psi = digamma(alpha) - digamma(total)[:, None]
    constants = torch.lgamma(total) - torch.lgamma(other)
    constants = constants - (torch.lgamma(alpha) - torch.lgamma(beta)).sum(1)
    return constants + ((alpha - beta) * psi).sum(1)


def mutual_information(alpha):
    """Return what the class would tell of the class probabilities, (b, c) to (b,).

    The entropy of the mean probabilities less the mean of their entropy.
    """
    total = alpha.sum(1, keepdim=True)
    mean = alpha / total
    inner = mean.log() - digamma(alpha + 1) + digamma(total + 1)
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


def fit_dirichlet(means, logs):
    r"""Return the parameters of Dirichlet distributions of largest likelihood.

    Newton's method in all parameters of one (Minka, "Estimating a Dirichlet
    distribution", 2000), whose Hessian is diagonal but for a constant. At the solution
    :math:`\psi(\alpha_j) - \psi(\sum_k \alpha_k)` is the mean of the logarithms.

    Parameters
    ----------
    means, logs : tensor of shape (n, K)
        Means of the probabilities, and of their logarithms.
    """
    spread = (means * (means.log() - logs)).sum(1, keepdim=True)
    total = (len(means[0]) - 1) * -digamma(means.new_ones(())) / spread.clamp(min=1e-12)
    alpha = means * total.clamp(max=_LARGEST)
    for _ in range(_STEPS):
        total = alpha.sum(1, keepdim=True)
        gradient = digamma(total) - digamma(alpha) + logs
        curvature = -polygamma(1, alpha)
        constant = 1 / polygamma(1, total)
        # above zero but for rounding, where one parameter is nearly all of the sum
        left = constant + (1 / curvature).sum(1, keepdim=True)
        left = left.maximum(1e-9 * constant)
        shared = (gradient / curvature).sum(1, keepdim=True) / left
        step = (gradient - shared) / curvature
        found = torch.where(step < alpha, alpha - step, alpha / 2)
        found = found * (_LARGEST / found.sum(1, keepdim=True)).clamp(max=1)
        done = bool(((found - alpha).abs() <= 1e-12 * alpha).all())
        alpha = found
        if done:
            break
    return alpha
