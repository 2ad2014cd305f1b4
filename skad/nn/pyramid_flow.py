"""A Laplacian pyramid of maps, and couplings of its levels that keep the volume."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.flow import Flow, InvertibleConvolution, softly_clamped

# What a running mean moves by in a step.
_MOMENTUM = 0.1


def smoothed(x):
    """Return maps (b, c, h, w) under the binomial filter of 5 x 5, 0 beyond them."""
    taps = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    n = x.shape[1]
    x = F.conv2d(x, taps.view(5, 1).expand(n, 1, 5, 1), padding=(2, 0), groups=n)
    return F.conv2d(x, taps.expand(n, 1, 1, 5), padding=(0, 2), groups=n)


def at_size(x, size):
    """Return maps (b, c, h, w) at a height and width, each pixel the nearest one."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="nearest")


def build_pyramid(x, n_levels):
    """Return the levels, a list from fine to coarse, of maps (b, c, h, w).

    Each is half as large as the one before, rounded up: the largest of every four
    smoothed values. A level holds what the next one, enlarged and smoothed, leaves.
    """
    levels = []
    for _ in range(n_levels - 1):
        coarse = F.max_pool2d(smoothed(x), 2, ceil_mode=True)
        levels.append(x - smoothed(at_size(coarse, x.shape[-2:])))
        x = coarse
    return [*levels, x]


def compose_pyramid(levels):
    """Return the maps (b, c, h, w) that levels are of, or would be of."""
    x = levels[-1]
    for level in reversed(levels[:-1]):
        x = level + smoothed(at_size(x, level.shape[-2:]))
    return x


def level_sizes(height, width, n_levels):
    """Return the height and width of each level of maps of some size."""
    sizes = [(height, width)]
    for _ in range(n_levels - 1):
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
    return sizes


class VolumeNorm(nn.Module):
    """Takes their mean off logarithms of scales: what they scale keeps its volume.

    In training it is the mean of the batch, later a running one.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of the logarithms.
    over : {"channels", "places"}
        What means are over besides the batch: the channels of each place, or the places
        of each channel.
    """

    def __init__(self, shape, over):
        super().__init__()
        channels, height, width = shape
        by_place = over == "channels"
        self.axes = (0, 1) if by_place else (0, 2, 3)
        kept = (1, 1, height, width) if by_place else (1, channels, 1, 1)
        self.register_buffer("mean", torch.zeros(kept))

    def forward(self, x):
        """Return logarithms (b, c, h, w) whose mean is 0."""
        if not self.training:
            return x - self.mean
        mean = x.mean(self.axes, keepdim=True)
        self.mean.lerp_(mean.detach().to(self.mean), _MOMENTUM)
        return x - mean


class PyramidCoupling(nn.Module):
    r"""Invertible block: the levels beside one say how it is scaled and moved.

    With :math:`(s, t)` from convolutions of the neighbours, brought to the size of the
    level, :math:`x` becomes :math:`W (x \odot \exp(\sigma(s) - m) + t)`, with the soft
    clamp :math:`\sigma` of :class:`skad.nn.flow.Coupling`, the means :math:`m` of
    :class:`VolumeNorm` and a matrix :math:`W` with a determinant of 1 or -1. It starts
    as that matrix (Lei, Hu, Wang and Liu, "PyramidFlow: high-resolution defect
    contrastive localization using pyramid normalizing flow", CVPR, 2023, section 3.2).

    Parameters
    ----------
    n_channels : int
        Channels of each level.
    sizes : list of tuple
        Height and width of each level.
    level : int
        The level that is changed.
    kernel_size : int, default=7
        Height and width of the convolutions, odd.
    clamp : float, default=2.0
        Bound of the logarithms before means are taken off.
    over : {"channels", "places"}, default="channels"
        What means are over, as :class:`VolumeNorm` has it.
    """

    def __init__(
        self, n_channels, sizes, level, kernel_size=7, clamp=2.0, over="channels"
    ):
        super().__init__()
        self.level, self.clamp, self.size = level, clamp, sizes[level]
        self.seen = [i for i in (level - 1, level + 1) if 0 <= i < len(sizes)]
        # one neighbour is looked at on the finer of the two grids
        self.inner = sizes[min(level, *self.seen)] if len(self.seen) == 1 else self.size
        wide, pad = 2 * n_channels, kernel_size // 2
        n_seen = n_channels * len(self.seen)
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_seen, wide, kernel_size, padding=pad, bias=False),
            nn.LeakyReLU(),
            nn.Conv2d(wide, wide, kernel_size, padding=pad, bias=False),
        )
        nn.init.zeros_(self.convolutions[-1].weight)
        self.norm = VolumeNorm((n_channels, *self.size), over)
        self.mix = InvertibleConvolution(n_channels, keeps_volume=True)

    def forward(self, levels, condition=None):
        """Return the levels (b, c, h, w), a list, and the log-determinant (b,)."""
        scale, shift = self._scale_and_shift(levels)
        found = self.mix(levels[self.level] * scale.exp() + shift)
        return self._replaced(levels, found), scale.flatten(1).sum(1)

    def inverse(self, levels, condition=None):
        """Return what is mapped to `levels`."""
        scale, shift = self._scale_and_shift(levels)
        found = (self.mix.inverse(levels[self.level]) - shift) * (-scale).exp()
        return self._replaced(levels, found)

    def _scale_and_shift(self, levels):
        seen = torch.cat([at_size(levels[i], self.inner) for i in self.seen], 1)
        scale, shift = at_size(self.convolutions(seen), self.size).chunk(2, dim=1)
        return self.norm(softly_clamped(scale, self.clamp)), shift

    def _replaced(self, levels, found):
        return [found if i == self.level else x for i, x in enumerate(levels)]


def pyramid_flow(n_channels, sizes, n_steps, kernel_size, clamp, over):
    """Return a flow that changes every other level, then the rest, `n_steps` times.

    The parameters are those of :class:`PyramidCoupling`.
    """
    order = [*range(1, len(sizes), 2), *range(0, len(sizes), 2)]
    return Flow(
        PyramidCoupling(n_channels, sizes, level, kernel_size, clamp, over)
        for _ in range(n_steps)
        for level in order
    )
