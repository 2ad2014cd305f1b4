"""Densities of series of hidden states."""

import math

import torch
from torch import nn


class NoisyWalk(nn.Module):
    r"""The density of a random walk that is seen with noise.

    A linear Gaussian state space: hidden states :math:`s_1 \sim N(0, I)`, :math:`s_t =
    s_{t-1} + v_t` and what is seen of them, :math:`z_t = s_t + \epsilon_t`, with unit
    Gaussian noises. Each feature of :math:`z_1, ..., z_l` is Gaussian with covariance
    :math:`C_{ij} = \min(i, j) + \delta_{ij}`; with the Cholesky factor of `C` the
    density takes one product, where a Kalman filter would take `l` steps for the same
    prediction errors :math:`L^{-1} z`.

    Parameters
    ----------
    n_steps : int
        Length `l` of the series.
    """

    def __init__(self, n_steps):
        super().__init__()
        steps = torch.arange(1, n_steps + 1, dtype=torch.float64)
        covariance = torch.minimum(steps[:, None], steps) + torch.eye(n_steps).double()
        factor = torch.linalg.cholesky(covariance)
        whitening = torch.linalg.inv(factor)
        self.register_buffer("whitening", whitening.float())
        self.register_buffer("log_scale", factor.diagonal().log().sum().float())

    def log_density(self, z):
        """Return the log density of series (..., l, k), of shape (...)."""
        l, k = z.shape[-2:]  # noqa: E741
        errors = self.whitening @ z  # (..., l, k)
        constant = k * (self.log_scale + 0.5 * l * math.log(2 * math.pi))
        return -0.5 * errors.square().sum((-2, -1)) - constant
