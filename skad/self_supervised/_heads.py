"""One-class heads: densities and a half-space of codes that a network has learned."""

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.svm import OneClassSVM
from torch import nn

# The least variance of a direction beside the mean of all features, which is 1.
_LEAST = 1e-6
# Products of codes that are held together.
_TOGETHER = 2**21


def gaussian(codes):
    """Return the mean (d,) of codes (n, d) and `W` (d, d) that makes them white."""
    n, d = codes.shape
    covariance = ledoit_wolf(codes)[0] if n > 1 else np.zeros((d, d))
    values, vectors = np.linalg.eigh(covariance)
    return codes.mean(0), vectors / np.sqrt(np.maximum(values, _LEAST))


def ten_times_scale(codes):
    """Return gamma of a Gaussian kernel, ten times scikit-learn's "scale"."""
    spread = codes.size * codes.var() / len(codes)
    return 10.0 / max(float(spread), _LEAST)


class GaussianHead(nn.Module):
    """The squared Mahalanobis distance to the mean code."""

    def __init__(self, code_size):
        super().__init__()
        self.register_buffer("mean", torch.zeros(code_size))
        self.register_buffer("whitening", torch.zeros(code_size, code_size))

    def fit(self, codes):
        """Learn from codes (n, d), a NumPy array of float64."""
        mean, white = gaussian(codes)
        self.mean.copy_(torch.as_tensor(mean))
        self.whitening.copy_(torch.as_tensor(white))

    def forward(self, codes):
        """Return the anomaly (b,) of codes (b, d)."""
        return ((codes - self.mean) @ self.whitening).square().sum(1)


class KernelHead(nn.Module):
    """What learns codes that a Gaussian kernel compares new ones with."""

    def __init__(self, code_size):
        super().__init__()
        # as many as are kept, and made anew when a training goes on
        self.register_buffer("kept", torch.zeros(0, code_size), persistent=False)
        self.register_buffer("gamma", torch.ones(()))

    def keep(self, codes, gamma):
        """Keep codes (m, d) and the width of the kernel."""
        self.kept = torch.as_tensor(codes).to(self.gamma)
        self.gamma.fill_(gamma)

    def exponents(self, codes):
        """Yield -gamma times the squared distances (b, k) to some kept codes each."""
        for part in self.kept.split(max(1, _TOGETHER // max(1, codes.numel()))):
            away = codes[:, None] - part  # (b, k, d)
            yield -self.gamma * away.square().sum(2)


class DensityHead(KernelHead):
    """Minus the logarithm of a kernel density, over the kernel's gamma."""

    def fit(self, codes):
        """Learn from codes (n, d), a NumPy array of float64."""
        self.keep(codes, ten_times_scale(codes))

    def forward(self, codes):
        """Return the anomaly (b,) of codes (b, d)."""
        parts = [each.logsumexp(1) for each in self.exponents(codes)]
        density = torch.stack(parts).logsumexp(0) - np.log(len(self.kept))
        return -density / self.gamma


class SVMHead(KernelHead):
    """How far below the plane of a one-class SVM, whose `nu` is a half."""

    def __init__(self, code_size):
        super().__init__(code_size)
        self.register_buffer("weights", torch.zeros(0), persistent=False)
        self.register_buffer("rho", torch.zeros(()))

    def fit(self, codes):
        """Learn from codes (n, d), a NumPy array of float64."""
        machine = OneClassSVM(nu=0.5, gamma=ten_times_scale(codes)).fit(codes)
        self.keep(machine.support_vectors_, machine.gamma)
        self.weights = torch.as_tensor(machine.dual_coef_[0]).to(self.gamma)
        self.rho.fill_(-float(machine.intercept_[0]))

    def forward(self, codes):
        """Return the anomaly (b,) of codes (b, d)."""
        found, at = 0.0, 0
        for each in self.exponents(codes):
            n = each.shape[1]
            found, at = found + each.exp() @ self.weights[at : at + n], at + n
        return self.rho - found


HEADS = {"density": DensityHead, "svm": SVMHead, "gaussian": GaussianHead}
