"""The Dirichlet distribution of probabilities."""

import torch
from torch.special import digamma, polygamma

# Largest sum of parameters: what never varies has no largest likelihood.
_LARGEST = 1e6
_STEPS = 100


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
