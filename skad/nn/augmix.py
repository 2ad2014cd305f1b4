"""Pictures as other cameras and other light may show them, by AugMix.

What has no strength of its own changes in steps of 1/255, as of pictures in bytes.
Pictures are (b, c, h, w) in 0..1; levels are (b,), one for each.
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.corruption import jitter

# Levels are of 10, and brightness is counted in bytes.
_LEVELS, _BYTE = 10, 255


def _each(values, x):
    """Return one value (b,) of each picture beside the pictures' axes."""
    return values.to(x).view(-1, 1, 1, 1)


def _bytes(x):
    """Return pictures as whole numbers from 0 to 255, in their own dtype."""
    return (_BYTE * x).round().clamp(0, _BYTE)


def stretched(x, levels=None):
    """Return pictures whose channels each go from 0 to 1; one value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = high <= low
    return torch.where(flat, x, (x - low) / torch.where(flat, 1.0, high - low))


def equalized(x, levels=None):
    """Return pictures in whose channels all brightness is as frequent."""
    rank = _bytes(x).long().flatten(2)  # (b, c, m)
    counts = rank.new_zeros(*rank.shape[:2], _BYTE + 1)
    counts = counts.scatter_add(2, rank, torch.ones_like(rank))
    brightest = counts.gather(2, rank.amax(2, keepdim=True))
    step = (rank.shape[2] - brightest) // _BYTE
    below = counts.cumsum(2) - counts
    table = (below + step // 2) // step.clamp(min=1)
    found = table.gather(2, rank).clamp(max=_BYTE).to(x) / _BYTE
    # too few pixels, or too many of one value, to be told apart
    return torch.where(step > 0, found, x.flatten(2)).view_as(x)


def posterized(x, levels):
    """Return pictures of four bits, less the whole part of 0.4 x the level."""
    kept = _each(2.0 ** (4 + (0.4 * levels).floor()), x)
    return (_bytes(x) / kept).floor() * kept / _BYTE


def solarized(x, levels):
    """Return pictures that are inverted from 256 - the level's share of it on."""
    least = _each(_BYTE + 1 - ((_BYTE + 1) * levels / _LEVELS).floor(), x)
    return torch.where(_bytes(x) < least, x, 1 - x)


def coloured(x, levels):
    """Return pictures with 0.1 + 0.18 x the level of their saturation."""
    return jitter(x, torch.full((len(x),), 2).to(x.device), _share(levels).to(x))


def sharpened(x, levels):
    """Return pictures between themselves, of which 0.1 + 0.18 x the level, and blur."""
    weights = x.new_ones(3, 3)
    weights[1, 1] = 5
    weights = (weights / 13).expand(x.shape[1], 1, 3, 3)
    blur = x.clone()  # pixels at the border stay as they are
    if min(x.shape[2:]) > 2:
        blur[:, :, 1:-1, 1:-1] = F.conv2d(x, weights, groups=x.shape[1])
    return blur + _each(_share(levels), x) * (x - blur)


def _share(levels):
    return 1.8 * levels / _LEVELS + 0.1


OPERATIONS = stretched, equalized, posterized, solarized, coloured, sharpened


class AugMix(nn.Module):
    r"""Mixes pictures with chains of what changes colours and light, but no place.

    .. math:: (1 - m) \, x + m \sum_i w_i \, (o_{i1} \circ o_{i2} \circ \dots)(x),

    with three chains of one to three drawn operations, :math:`w` even on the simplex
    and m even in 0..1. The operations are auto-contrast, equalising, posterising,
    solarising, less saturation and less sharpness; each draws its level up to the
    severity of the picture, which is a whole number from 0 to `severity`.

    Parameters
    ----------
    severity : int, default=3
        Of 10.
    width : int, default=3
        Chains.
    depth : int, default=3
        Most operations of a chain.

    References
    ----------
    D. Hendrycks et al., "AugMix: a simple data processing method to improve robustness
    and uncertainty", ICLR, 2020.
    """

    def __init__(self, severity=3, width=3, depth=3):
        super().__init__()
        self.severity, self.width, self.depth = severity, width, depth

    def forward(self, x):
        """Return the mixed pictures (b, c, h, w)."""
        n = len(x)
        severity = torch.randint(self.severity + 1, (n,))
        # exponential variables over their sum are even on the simplex
        weights = -torch.log1p(-torch.rand(self.width, n, dtype=torch.float64))
        weights = weights / weights.sum(0)
        mixed = torch.zeros_like(x)
        for weight in weights:
            mixed = mixed + _each(weight, x) * self._chain(x, severity)
        return x + _each(torch.rand(n), x) * (mixed - x)

    def _chain(self, x, severity):
        n = len(x)
        depth = 1 + torch.randint(self.depth, (n,))
        for step in range(self.depth):
            kinds = torch.randint(len(OPERATIONS), (n,))
            levels = 0.1 + torch.rand(n) * (severity - 0.1)
            kinds[step >= depth] = -1
            altered = x.clone()
            for kind, operation in enumerate(OPERATIONS):
                chosen = (kinds == kind).nonzero()[:, 0]
                if len(chosen):
                    rows = chosen.to(x.device)
                    altered[rows] = operation(x[rows], levels[chosen])
            x = altered
        return x
