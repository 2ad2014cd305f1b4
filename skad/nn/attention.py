"""Attention to channels and to places of maps."""

import torch
from torch import nn


class CBAM(nn.Module):
    r"""Weighs the channels of maps, then their places, each by means and maxima.

    Channels by :math:`\sigma(\mathrm{MLP}(\mathrm{mean}) + \mathrm{MLP}(\max))` over
    the places, places by :math:`\sigma` of a convolution of 7 x 7 of the mean and the
    maximum over the channels (Woo et al., "CBAM: convolutional block attention module",
    ECCV, 2018, equations (2) and (3)).

    Parameters
    ----------
    n_channels : int
        Channels of the maps.
    reduction : int, default=16
        What the layer between of the MLP is narrower by.
    """

    def __init__(self, n_channels, reduction=16):
        super().__init__()
        hidden = max(1, n_channels // reduction)
        self.channels = nn.Sequential(
            nn.Linear(n_channels, hidden), nn.ReLU(), nn.Linear(hidden, n_channels)
        )
        self.places = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        """Return maps of the shape of `x` (b, c, h, w)."""
        weights = self.channels(x.mean((2, 3))) + self.channels(x.amax((2, 3)))
        x = x * torch.sigmoid(weights)[:, :, None, None]
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.places(seen))


class LargeKernelAttention(nn.Module):
    r"""Weighs every place of each channel by what lies up to four places away.

    .. math:: x + W \, \mathrm{ReLU}(x \odot a(x))

    with weights a of a convolution of 3 x 3 places, one of 3 x 3 places that lie three
    apart, both of each channel by itself, and one of all channels of a place (Guo et
    al., "Visual attention network", Computational Visual Media, 2023, with the kernels
    of SLSG).

    Parameters
    ----------
    n_channels : int
        Channels of the maps.
    """

    def __init__(self, n_channels):
        super().__init__()
        c = n_channels
        self.around = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1, groups=c),
            nn.Conv2d(c, c, 3, padding=3, dilation=3, groups=c),
            nn.Conv2d(c, c, 1),
        )
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, x):
        """Return maps of the shape of `x` (b, c, h, w)."""
        return x + self.out((x * self.around(x)).relu())
