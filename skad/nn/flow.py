"""Normalizing flows of affine coupling blocks, on vectors or on maps of vectors."""

import math

import torch
from torch import nn


class Coupling(nn.Module):
    r"""Invertible block: one half of the channels says how the other is scaled.

    Channels are permuted by a fixed random permutation and split into :math:`u_1, u_2`;
    with :math:`(s, t)` from a subnetwork of :math:`u_1`, the block returns
    :math:`u_1` and :math:`u_2 \odot \exp(\sigma(s)) + t`, whose log-determinant is the
    sum of :math:`\sigma(s)` (Dinh, Sohl-Dickstein and Bengio, "Density estimation using
    Real NVP", ICLR, 2017, equations (7) and (8)). The soft clamp
    :math:`\sigma(s) = \alpha \frac{2}{\pi} \arctan(s / \alpha)` keeps the scale within
    :math:`e^{\pm\alpha}` (Ardizzone et al., "Guided image generation with conditional
    invertible neural networks", 2019, equation (4)).

    Parameters
    ----------
    n_channels : int
        Channels, two at least.
    subnetwork : callable
        Called with the numbers of channels that a module takes and returns.
    n_conditions : int, default=0
        Channels of the condition that the subnetwork sees beside the first half.
    clamp : float, default=1.9
        :math:`\alpha`.
    """

    def __init__(self, n_channels, subnetwork, n_conditions=0, clamp=1.9):
        super().__init__()
        if n_channels < 2:
            raise ValueError(
                "A flow splits channels in two: layers with one channel cannot be used."
            )
        self.n_first, self.clamp = n_channels // 2, clamp
        order = torch.randperm(n_channels)
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())
        n_second = n_channels - self.n_first
        self.subnetwork = subnetwork(self.n_first + n_conditions, 2 * n_second)

    def forward(self, x, condition=None):
        """Return the image of `x` (b, c, ...) and its log-determinant (b, ...)."""
        first, second = self._split(x[:, self.order])
        scale, shift = self._scale_and_shift(first, condition)
        second = second * scale.exp() + shift
        return torch.cat([first, second], 1), scale.sum(1)

    def inverse(self, z, condition=None):
        """Return what is mapped to `z` (b, c, ...)."""
        first, second = self._split(z)
        scale, shift = self._scale_and_shift(first, condition)
        x = torch.cat([first, (second - shift) * (-scale).exp()], 1)
        return x[:, self.back]

    def _split(self, x):
        return x[:, : self.n_first], x[:, self.n_first :]

    def _scale_and_shift(self, first, condition):
        seen = first if condition is None else torch.cat([first, condition], 1)
        scale, shift = self.subnetwork(seen).chunk(2, dim=1)
        scale = self.clamp * 2 / math.pi * torch.atan(scale / self.clamp)
        return scale, shift


class Flow(nn.Module):
    """Coupling blocks one after the other.

    Parameters
    ----------
    blocks : sequence of Coupling
        The blocks.
    """

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x, condition=None):
        """Return the image of `x` (b, c, ...) and its log-determinant (b, ...)."""
        total = 0.0
        for block in self.blocks:
            x, logdet = block(x, condition)
            total = total + logdet
        return x, total

    def inverse(self, z, condition=None):
        """Return what is mapped to `z` (b, c, ...)."""
        for block in reversed(self.blocks):
            z = block.inverse(z, condition)
        return z


def sinusoids(n_channels, height, width):
    """Return codes (n_channels, height, width) of places, sines and cosines.

    Half of the channels code the column, half the row (Vaswani et al., 2017, in two
    dimensions); `n_channels` is a multiple of four.
    """
    quarter = n_channels // 4
    rates = torch.exp(-math.log(10000.0) * torch.arange(quarter) / quarter)
    columns = torch.arange(width)[None, :] * rates[:, None]  # (quarter, width)
    rows = torch.arange(height)[None, :] * rates[:, None]
    wide = torch.stack([columns.sin(), columns.cos()], 1).flatten(0, 1)
    high = torch.stack([rows.sin(), rows.cos()], 1).flatten(0, 1)
    return torch.cat(
        [
            wide[:, None, :].expand(-1, height, -1),
            high[:, :, None].expand(-1, -1, width),
        ]
    )
