"""A fixed bank of oriented filters at several scales, for pictures of any size."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

LAYERS = ("scale1", "scale2", "scale3", "scale4")

# Side of a cell of the grid in pixels: halved while an axis has fewer cells than this.
_CELL = 8
_FEWEST_CELLS = 16


def gabor_filters(n_orientations, size=7, wavelength=4.0, bandwidth=2.0):
    """Return even and odd filters, of shape (2 n_orientations, 1, size, size).

    A wave under a Gaussian window whose deviation is `bandwidth` pixels. Filters have
    no mean, so that brightness does not count, and unit sums of squares.
    """
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    window = torch.exp(-(x**2 + y**2) / (2 * bandwidth**2))
    window = window / window.sum()
    filters = []
    for i in range(n_orientations):
        angle = math.pi * i / n_orientations
        phase = (x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / wavelength
        for wave in (torch.cos(phase), torch.sin(phase)):
            each = window * (wave - (window * wave).sum())
            filters.append(each / each.square().sum().sqrt())
    return torch.stack(filters)[:, None]


def cell_size(length):
    """Return the side of the grid's cells along an axis of `length` pixels."""
    cell = _CELL
    while cell > 1 and length < cell * _FEWEST_CELLS:
        cell //= 2
    return cell


def smooth(x):
    """Return maps (b, c, h, w) under the binomial window 1 4 6 4 1."""
    weights = torch.tensor([1.0, 4, 6, 4, 1], dtype=x.dtype, device=x.device) / 16
    c = x.shape[1]
    x = F.pad(x, (2, 2, 2, 2), mode="replicate")
    x = F.conv2d(x, weights.view(1, 1, 5, 1).expand(c, 1, 5, 1), groups=c)
    return F.conv2d(x, weights.view(1, 1, 1, 5).expand(c, 1, 1, 5), groups=c)


class GaborBank(nn.Module):
    """Energies of Gabor filters, local mean and local deviation, octave by octave."""

    def __init__(self, layers=LAYERS, n_orientations=8):
        super().__init__()
        self.layers = tuple(layers)
        self.register_buffer("filters", gabor_filters(n_orientations))

    def forward(self, x):
        """Return the maps of `layers`, each (b, c_l, gh, gw)."""
        cells = [cell_size(length) for length in x.shape[-2:]]
        found, last = {}, max(LAYERS.index(layer) for layer in self.layers)
        for i, name in enumerate(LAYERS[: last + 1]):
            if name in self.layers:
                found[name] = self._octave(x, [max(1, c >> i) for c in cells])
            x = smooth(x)[..., ::2, ::2]
        return [found[name] for name in self.layers]

    def _octave(self, x, cells):
        grey = x.mean(1, keepdim=True)
        pad = self.filters.shape[-1] // 2
        waves = F.conv2d(F.pad(grey, (pad,) * 4, mode="replicate"), self.filters)
        even, odd = waves[:, 0::2], waves[:, 1::2]
        energy = (even**2 + odd**2).sqrt()
        mean = smooth(x)
        deviation = (x - mean).abs()
        return F.avg_pool2d(
            torch.cat([energy, mean, deviation], 1), cells, cells, ceil_mode=True
        )
