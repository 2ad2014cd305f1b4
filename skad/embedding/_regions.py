"""From pictures to what a backbone says of each of their regions."""

from dataclasses import replace
from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._array import slices
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.embedding._pictures import BackboneEmbedding
from skad.embedding._raw_patches import check_overlap, cut

# Pixels of regions that pass a backbone together.
_AT_ONCE = 2**20


class Regions(nn.Module):
    """A backbone, shown the regions of a picture one by one."""

    def __init__(self, module, size, stride, region_input):
        super().__init__()
        self.module = module
        self.size, self.stride, self.region_input = size, stride, region_input

    def forward(self, x):
        """Return the map (b, d, gh, gw) of each layer's mean over regions."""
        regions = cut(x, self.size, self.stride)  # (b, c, size^2, gh, gw)
        b, c, _, *grid = regions.shape
        regions = regions.permute(0, 3, 4, 1, 2).reshape(-1, c, self.size, self.size)
        at_once = max(1, _AT_ONCE // (self.region_input or self.size) ** 2)
        parts = [self._means(regions[part]) for part in slices(len(regions), at_once)]
        layers = (torch.cat(layer) for layer in zip(*parts, strict=True))
        return [layer.view(b, *grid, -1).permute(0, 3, 1, 2) for layer in layers]

    def _means(self, regions):
        if self.region_input not in (None, self.size):
            size = (self.region_input, self.region_input)
            regions = F.interpolate(regions, size, mode="bilinear", antialias=True)
        return [each.mean((2, 3)) for each in self.module(regions)]


@with_parameters
class RegionEmbedding(BackboneEmbedding):
    """What a backbone says of each region of a picture, seen by itself.

    A region is the square of pixels around a cell of a grid. It is cut out, resized if
    `region_input` says so, and passes the backbone as if it were a picture; its
    features are the means of the layers' maps over it. A `PatchEmbedding` looks once at
    the whole picture: there the features of a place see what lies around it, and the
    size of what they see is the backbone's.

    It stands wherever a `PatchEmbedding` does: ``embedding=`` of the detectors on
    pictures.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    size : int, default=32
        Side of a region in pixels.
    stride : int, default=8
        Side of a cell of the grid in pixels, at most `size`: regions overlap.
    region_input : int or None, default=None
        Side that regions are resized to; None leaves them. Networks of photographs
        were trained with 224.

    Attributes
    ----------
    backbone_ : torch.nn.Module
        What cuts pictures (b, c, h, w) and returns a map for each layer.

    See Also
    --------
    PatchEmbedding : One look at the whole picture, many times as fast.
    RawPatches : The pixels of the regions themselves.

    Notes
    -----
    Beyond the border a picture goes on as it is at the border. The backbone sees
    ``(size / stride)**2`` times the pixels of a picture, and
    ``(region_input / stride)**2`` times where regions are resized.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.embedding import RegionEmbedding
    >>> pictures = np.zeros((1, 32, 40), np.uint8)
    >>> RegionEmbedding(size=16).fit_transform(pictures).shape
    (1, 4, 5, 148)
    """

    size: int = 32
    stride: int = 8
    region_input: int | None = None

    # every layer has the same grid, and averages of places would mix regions
    neighborhood = 1
    _parameter_constraints = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "region_input": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _resolved(self):
        check_overlap(self.size, self.stride, "regions")
        found = super()._resolved()
        regions = Regions(found.module, self.size, self.stride, self.region_input)
        return replace(found, module=regions)
