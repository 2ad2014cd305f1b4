"""Gradients that tell little of any one sample: clipped, and noisy."""

from typing import NamedTuple

import torch
from torch import nn


class Privacy(NamedTuple):
    """How gradients are made private.

    Attributes
    ----------
    max_norm : float
        Norm C, of all weights together, to which the gradient of a sample is shortened.
    noise : float
        Deviation of the Gaussian noise of their sum, in units of C.
    """

    max_norm: float
    noise: float


class _Loss(nn.Module):
    """The loss of a network as a module's output, for calls with other weights."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, y):
        return self.network.loss(x, y)


def sample_gradients(network, weights, x, y):
    """Return the gradients (b, ...) of the loss of each sample alone.

    Parameters
    ----------
    network : Network
        Whose norms, if any, do not look at other samples.
    weights : dict of str to Parameter
        The weights by their names in the network.
    x, y : tensor of shape (b, ...), tensor of shape (b,) or None
        The samples and their labels.
    """
    module = _Loss(network)
    known = {f"network.{name}": one.detach() for name, one in weights.items()}

    def loss(known, x, y):
        one = x[None], None if y is None else y[None]
        return torch.func.functional_call(module, known, one)

    over = (None, 0, None if y is None else 0)
    gradients = torch.func.vmap(torch.func.grad(loss), over, randomness="different")
    found = gradients(known, x, y)
    return {name: found[f"network.{name}"] for name in weights}


def set_private_gradients(network, weights, x, y, privacy):
    """Give weights the mean of clipped gradients of samples, with noise.

    Abadi et al., "Deep learning with differential privacy", CCS, 2016, algorithm 1.

    Parameters
    ----------
    network, weights, x, y
        As in `sample_gradients`.
    privacy : Privacy
        How far they are clipped, and how noisy they are.
    """
    found = sample_gradients(network, weights, x, y)
    squares = [one.flatten(1).square().sum(1) for one in found.values()]
    norms = torch.stack(squares).sum(0).sqrt()  # (b,)
    shares = (privacy.max_norm / norms.clamp(min=1e-30)).clamp(max=1)
    for name, weight in weights.items():
        total = torch.tensordot(shares, found[name], 1)
        if privacy.noise:
            deviation = privacy.noise * privacy.max_norm
            total = total + deviation * torch.randn_like(total)
        weight.grad = total / len(x)
