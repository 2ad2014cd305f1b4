"""From pictures to what a backbone says of each of their regions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._array import slices
from skad._sklearn import Interval
from skad.embedding._patches import PatchEmbedding
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


class RegionEmbedding(PatchEmbedding):
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
    backbone : str, path, torch.nn.Module or type, default="gabor"
        What describes regions, as in `PatchEmbedding`.
    layers : tuple of str or None, default=None
        Layers to tap, as in `PatchEmbedding`.
    size : int, default=32
        Side of a region in pixels.
    stride : int, default=8
        Side of a cell of the grid in pixels, at most `size`: regions overlap.
    region_input : int or None, default=None
        Side that regions are resized to; None leaves them. Networks of photographs
        were trained with 224.
    weights : str, path, mapping or None, default=None
        The backbone's weights, as in `PatchEmbedding`.
    image_size : int, tuple of int or None, default=None
        Height and width that pictures are resized to; None keeps their size.
    normalization : "auto", tuple or None, default="auto"
        (mean, std) of pictures in 0..1, as in `PatchEmbedding`.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of pictures that come as rows.
    amp : {"bf16", "fp16"} or None, default=None
        Lower precision of the backbone, for devices that have it.
    batch_size : int, default=8
        Pictures that are transformed together.
    device : str, default="auto"
        "cpu", a device of torch such as "cuda", or "auto": a tensor's own device, and
        for arrays the GPU when the work is worth the trip.

    Attributes
    ----------
    backbone_ : torch.nn.Module
        What cuts pictures (b, c, h, w) and returns a map for each layer.
    layers_ : tuple of str
        The layers.
    mean_, std_ : tuple of float or None
        Normalisation of the channels.
    image_shape_ : tuple of int
        (height, width, channels) of the pictures.
    device_ : str
        The device that transforms arrays.
    n_features_in_ : int
        Number of elements of a picture.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.

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

    # every layer has the same grid, and averages of places would mix regions
    neighborhood, interpolation = 1, "bilinear"
    channels_last, compile = False, False
    _parameter_constraints = {
        **{
            name: PatchEmbedding._parameter_constraints[name]
            for name in (
                "backbone",
                "layers",
                "weights",
                "image_size",
                "normalization",
                "image_shape",
                "amp",
                "batch_size",
                "device",
            )
        },
        "size": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "region_input": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        backbone: str | os.PathLike | nn.Module | type = "gabor",
        layers: Sequence[str] | None = None,
        *,
        size: int = 32,
        stride: int = 8,
        region_input: int | None = None,
        weights: str | os.PathLike | Mapping | None = None,
        image_size: int | Sequence[int] | None = None,
        normalization: str | Sequence | None = "auto",
        image_shape: Sequence[int] | None = None,
        amp: str | None = None,
        batch_size: int = 8,
        device: str = "auto",
    ):
        self.backbone = backbone
        self.layers = layers
        self.size = size
        self.stride = stride
        self.region_input = region_input
        self.weights = weights
        self.image_size = image_size
        self.normalization = normalization
        self.image_shape = image_shape
        self.amp = amp
        self.batch_size = batch_size
        self.device = device

    def _resolved(self):
        check_overlap(self.size, self.stride, "regions")
        found = super()._resolved()
        regions = Regions(found.module, self.size, self.stride, self.region_input)
        return replace(found, module=regions)
