"""Means and variances over batches, and norms that take theirs from all of them."""

import numpy as np
import torch
from torch import nn

from skad.nn.network import Network


class Spread:
    """Mean and squared deviations (d,) of rows that come in batches, in float64.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances", 1979.
    """

    def __init__(self):
        self.n, self.mean, self.scatter = 0, 0.0, 0.0

    def add(self, rows):
        """Take in rows (b, d)."""
        rows = rows.double()
        mean = rows.mean(0)
        self.merge(len(rows), mean, (rows - mean).square().sum(0))

    def merge(self, n, mean, scatter):
        """Take in `n` rows of some mean (d,) and squared deviations (d,)."""
        apart, total = mean - self.mean, self.n + n
        self.mean = self.mean + apart * (n / total)
        self.scatter = self.scatter + scatter + apart.square() * (self.n * n / total)
        self.n = total

    def variance(self):
        """Return the variance (d,)."""
        return self.scatter / self.n


def quantile(values, share):
    """Return the quantile (...) of values (n, ...), with linear interpolation.

    That of torch refuses more than 2^24 values, as pictures soon have.
    """
    return torch.as_tensor(np.quantile(values.numpy(force=True), share, axis=0))


def places(maps):
    """Return the places (b h w, c) of maps (b, c, h, w)."""
    return maps.movedim(1, -1).flatten(0, 2)


class ChannelScale(nn.Module):
    """Brings every channel of maps to mean 0 and standard deviation 1.

    Parameters
    ----------
    n_channels : int
        Channels `c` of the maps.
    """

    def __init__(self, n_channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("std", torch.ones(n_channels))

    def learn(self, batches):
        """Take the constants from an iterator over maps (b, c, h, w), in float64.

        A channel that is constant keeps its unit.
        """
        spread = Spread()
        for maps in batches:
            spread.add(places(maps))
        std = spread.variance().sqrt()
        flat = std <= 1e-6 * spread.mean.abs()  # what is left is rounding
        self.mean.copy_(spread.mean)
        self.std.copy_(torch.where(flat, 1.0, std))

    def forward(self, maps):
        """Return maps (b, c, h, w) on the common scale."""
        return (maps - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)


def settle_norms(network, samples, passes=None):
    r"""Take the statistics of batch norms from all of the training data.

    Those that they have are averages over the last steps, while the weights moved. As
    in training, each batch is normalised by itself on its way; what is set is the
    variance over all of them, :math:`\mathrm{E}[v_b] + \mathrm{Var}[m_b]`, which does
    not depend on how alike the samples of a batch are: they come in the order of the
    data, often sorted (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021).

    Parameters
    ----------
    network : Network
        Left in evaluation mode. What is frozen, or keeps its statistics, is left as it
        is, and so is what no sample goes through.
    samples : iterable of tensor of shape (b, ...)
        Batches, as large as in training at least.
    passes : callable or None, default=None
        What samples go through; None is the network's `loss`.
    """
    passes = passes or (lambda x: network.loss(x, None))
    fixed = {
        part
        for name in (*network.frozen_parts, *network.fixed_statistics)
        for part in network.get_submodule(name).modules()
    }
    parts = [
        part
        for part in network.modules()
        if isinstance(part, nn.BatchNorm2d) and part not in fixed
    ]
    spreads, momenta = [Spread() for _ in parts], [part.momentum for part in parts]
    for part in parts:
        part.momentum = 1.0  # what is left behind is the last batch's own
        part.train()
    for x in samples:
        for part in parts:
            part.num_batches_tracked.zero_()
        passes(x)
        for part, spread in zip(parts, spreads, strict=True):
            if part.num_batches_tracked:  # a single value has no statistics
                mean, variance = part.running_mean.double(), part.running_var.double()
                spread.merge(len(x), mean, len(x) * variance)
    for part, spread, momentum in zip(parts, spreads, momenta, strict=True):
        part.momentum = momentum
        part.eval()
        if spread.n:
            part.running_mean.copy_(spread.mean)
            part.running_var.copy_(spread.variance())


class SettledNetwork(Network):
    """A network whose batch norms take their statistics at the end of the training."""

    def finish(self, batches, held=None):
        """Take the statistics of batch norms from all of the training data."""
        settle_norms(self, (x for x, _ in batches()))
