"""A fixed bank of oriented filters at several scales, for pictures of any size."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

LAYERS = ("scale1", "scale2", "scale3", "scale4")

# Side of a cell of the grid in pixels: halved while an axis has fewer cells than this.
_CELL = 8
_FEWEST_CELLS = 16

# Contrasts, for pictures in 0..1, below which structure counts as noise: where energies
# are compared with those around them, and where their logarithm is taken.
_LEAST_SHARE = 0.003
_LEAST_ENERGY = 0.01
# Weights of the parts against the shares of energy, found on pictures of defects.
_ENERGY = 0.3
_BRIGHTNESS = 2.0
_COLOUR = 10.0


def gabor_filters(n_orientations, size=7, wavelength=4.0, deviation=2.0):
    """Return even and odd filters, of shape (2 n_orientations, 1, size, size).

    Waves under a Gaussian window of `deviation` pixels, the even ones first. Filters
    have no mean, so that brightness does not count, and unit sums of squares.
    """
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    window = torch.exp(-(x**2 + y**2) / (2 * deviation**2))
    window = window / window.sum()
    filters = []
    for wave in (torch.cos, torch.sin):
        for i in range(n_orientations):
            angle = math.pi * i / n_orientations
            along = x * math.cos(angle) + y * math.sin(angle)
            values = wave(along * 2 * math.pi / wavelength)
            values = window * (values - (window * values).sum())
            filters.append(values / values.square().sum().sqrt())
    return torch.stack(filters)[:, None]


def squared_energies(x, filters):
    """Return even squared plus odd squared of each map: (b, c, h, w) to (b, c k, h, w).

    The square of what a filter pair sees does not depend on the phase of the wave.
    """
    b, c, h, w = x.shape
    pad = filters.shape[-1] // 2
    x = F.pad(x.reshape(b * c, 1, h, w), (pad,) * 4, mode="replicate")
    even, odd = F.conv2d(x, filters).chunk(2, dim=1)
    if x.requires_grad:
        return (even.square() + odd.square()).reshape(b, -1, h, w)
    return even.square_().add_(odd.square_()).reshape(b, -1, h, w)


def root(x):
    """Return the square root, in place unless it is derived: the slope at 0 is 0."""
    if not x.requires_grad:
        return x.sqrt_()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


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


def quartic_mean(squares, cells):
    """Return the fourth root of the mean fourth power in each cell, of squared maps.

    Between the mean, in which a thin crack drowns, and the maximum.
    """
    # relative to the picture's largest, since fourth powers may overflow
    largest = squares.amax((1, 2, 3), keepdim=True)
    unit = torch.where(largest > 0, largest, 1.0)
    mean = F.avg_pool2d((squares / unit).square_(), cells, cells, ceil_mode=True)
    return root(root(mean)) * unit.sqrt()


class GaborBank(nn.Module):
    r"""Energies of oriented filters, absolute and relative, octave by octave.

    A layer is an octave of a pyramid. In each cell :math:`e_k` is the energy of the
    grey picture in orientation `k` of six, and the features are

    - :math:`e_k / (\epsilon + \bar e)`, the share of the orientation in the energy
      :math:`\bar e` of the 5 x 5 cells around (divisive normalisation): what does not
      go with its surroundings, whatever the light,
    - :math:`\ell_k = \log(1 + e_k / \epsilon')`, and the energies of four orientations
      on each map :math:`\ell_k`: the local deviation, and the texture of the texture as
      in a scattering transform,
    - the local mean, and for colours each channel's difference from it.

    Malik and Perona, "Preattentive texture discrimination with early vision
    mechanisms", JOSA A, 1990; Heeger, "Normalization of cell responses in cat striate
    cortex", Visual Neuroscience, 1992; Bruna and Mallat, "Invariant scattering
    convolution networks", TPAMI, 2013.
    """

    def __init__(self, layers=LAYERS):
        super().__init__()
        self.layers = tuple(layers)
        self.register_buffer("filters", gabor_filters(6))
        self.register_buffer("second_filters", gabor_filters(4))

    def forward(self, x):
        """Return the maps of `layers`, each (b, c_l, gh, gw)."""
        cells = [cell_size(length) for length in x.shape[-2:]]
        found, last = {}, max(LAYERS.index(layer) for layer in self.layers)
        for i, name in enumerate(LAYERS[: last + 1]):
            low = smooth(x)
            if name in self.layers:
                found[name] = self._octave(x, low, [max(1, c >> i) for c in cells])
            x = low[..., ::2, ::2]
        return [found[name] for name in self.layers]

    def _octave(self, x, low, cells):
        """Return the features (b, c_l, gh, gw) of one octave."""
        grey = x.mean(1, keepdim=True)
        energies = quartic_mean(squared_energies(grey, self.filters), cells)
        around = F.avg_pool2d(
            energies.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False
        )
        logarithms = (energies / _LEAST_ENERGY).log1p()
        texture = root(squared_energies(logarithms, self.second_filters))
        means = F.avg_pool2d(low, cells, cells, ceil_mode=True)
        brightness = means.mean(1, keepdim=True)
        parts = [
            energies / (_LEAST_SHARE + around),
            _ENERGY * logarithms,
            _ENERGY * texture,
            _BRIGHTNESS * brightness,
        ]
        if x.shape[1] > 1:
            parts.append(_COLOUR * (means - brightness))
        return torch.cat(parts, 1)
