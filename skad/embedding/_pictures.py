"""What embeddings of pictures share: from pictures to vectors on a grid."""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._array import is_torch, namespace, resolve_device, slices, to_numpy
from skad._copies import converted
from skad._parameters import KW_ONLY, with_parameters
from skad._picture_input import check_pictures
from skad._picture_values import are_around_zero
from skad._sklearn import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    Interval,
    StrOptions,
    TransformerMixin,
    _fit_context,
)
from skad.embedding._backbones import Backbone, resolve
from skad.embedding._taps import join_maps

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def refuse_overflow(features):
    """Raise where features, an array or a tensor, are not finite."""
    if not namespace(features).isfinite(features).all():
        raise ValueError(
            "X has values too large for features in float32: bring them to 0..1."
        )


@with_parameters
class PictureEmbedding(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of what describes the patches of pictures by vectors on a grid.

    A subclass says in `_resolved` what makes the maps of a picture, and states those of
    the fixed attributes below as parameters that a user may choose.

    Parameters
    ----------
    image_size : int, tuple of int or None, default=None
        Height and width that pictures are resized to; None keeps their size.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of pictures that come as rows.
    batch_size : int, default=8
        Pictures that are transformed together.
    device : str, default="auto"
        "cpu", a device of torch such as "cuda", or "auto": a tensor's own device, and
        for arrays the GPU when the work is worth the trip.

    Attributes
    ----------
    backbone_ : torch.nn.Module
        The frozen network: takes pictures (b, c, h, w) and returns the list of maps.
    layers_ : tuple of str
        The layers.
    image_shape_ : tuple of int
        (height, width, channels) of the pictures.
    device_ : str
        The device that transforms arrays.
    n_features_in_ : int
        Number of elements of a picture.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.
    """

    image_size: int | Sequence[int] | None = None
    image_shape: Sequence[int] | None = None
    batch_size: int = 8
    device: str = "auto"

    # As in `PatchEmbedding`, where a class has no such parameter.
    neighborhood, interpolation = 1, "bilinear"
    amp, channels_last, compile = None, False, False
    _keeps_dtype_ = True  # in files of 0.1, which do not say so
    _around_zero_ = False
    _parameter_constraints = {
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "image_shape": [tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Make the backbone ready for pictures like these.

        Parameters
        ----------
        X : array, tensor, sequence of paths or PictureFiles
            Pictures, of which only the shape matters.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        pictures = check_pictures(self, X, reset=True, any_values=True)
        self._keep_dtype(self._are_rows_)
        source = getattr(pictures, "source", pictures)
        self._around_zero_ = not self._are_rows_ and are_around_zero(source)
        self._prepare(pictures.shape[-1])
        work = 1e4 * np.prod(pictures.shape, dtype=float)
        of = X if is_torch(X) else pictures
        self.device_ = resolve_device(self.device, of, work)
        return self

    def _keep_dtype(self, are_rows):
        """Compute rows in their dtype: a row's score must not depend on the others.

        Pictures are computed in float32; what differs with the batch is its rounding.
        """
        self._keeps_dtype_ = are_rows

    @property
    def _n_features_out(self):
        """Number of features of one row, where pictures came as rows, or of a place."""
        # asked of the backbone when names are asked for: a fit costs no pass
        probe = torch.zeros((1, *self.image_shape_), dtype=torch.float32)
        shape = self.embed(probe).shape
        return int(np.prod(shape) if self._are_rows_ else shape[-1])

    def transform(self, X) -> Any:
        """Return the features of the patches of pictures.

        Parameters
        ----------
        X : array, tensor, sequence of paths or PictureFiles
            Pictures.

        Returns
        -------
        features : ndarray or tensor of shape (n_images, gh, gw, n_features)
            One vector for each place of the grid; rows of shape (n_images,
            gh * gw * n_features) where pictures came as rows.
        """
        check_is_fitted(self)
        pictures = check_pictures(self, X, reset=False, any_values=True)
        result = None
        for rows in slices(pictures.shape[0], self.batch_size):
            block = pictures[rows]
            x = block if is_torch(block) else np.require(block, requirements="W")
            x = torch.as_tensor(x).to(self._device_for(block))
            part = self.embed(x)
            part = part.to(block.device) if is_torch(block) else to_numpy(part)
            if result is None:
                shape = (pictures.shape[0], *part.shape[1:])
                make = part.new_empty if is_torch(part) else np.empty
                result = make(shape, dtype=part.dtype)
            result[rows] = part
        refuse_overflow(result)
        return result.reshape(result.shape[0], -1) if self._are_rows_ else result

    def _device_for(self, block):
        as_given = is_torch(block) and self.device == "auto"
        return block.device if as_given else self.device_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags

    # ------------------------------------------------------------------ for detectors

    def _prepare(self, n_channels):
        """Resolve the backbone for pictures with `n_channels`."""
        if self.neighborhood % 2 == 0:
            raise ValueError(f"neighborhood={self.neighborhood} must be odd.")
        size = self.image_size
        if isinstance(size, tuple | list) and (
            len(size) != 2 or not all(isinstance(n, Integral) and n > 0 for n in size)
        ):
            raise ValueError(f"image_size={size} must be a height and a width.")
        found = self._resolved()
        if found.n_channels not in (None, n_channels) and n_channels != 1:
            raise ValueError(
                f"backbone={self.backbone!r} takes pictures with {found.n_channels} "
                f"channels, X has {n_channels}."
            )
        self.backbone_, self.layers_ = found.module, found.layers
        self._repeat_ = (
            1 if found.n_channels is None else found.n_channels // n_channels
        )
        self.mean_, self.std_ = self._norms(found.norms, found.n_channels)
        return self

    def _resolved(self) -> Backbone:
        """Return what makes the maps of pictures."""
        raise NotImplementedError

    def _norms(self, known, n_channels):
        """Return the mean and the standard deviation of each channel, or None twice."""
        return None, None

    def feature_maps(self, x):
        """Return the maps of the layers, a list of tensors (b, c_l, h_l, w_l).

        Parameters
        ----------
        x : tensor of shape (b, h, w, c)
            Pictures, floats in 0..1, on any device; the network computes there.

        Returns
        -------
        maps : list of tensor
            In the order of `layers_` and the dtype of `x`.
        """
        return [each.to(x.dtype) for each in self._computed(x)]

    def _computed(self, x, method="__call__"):
        """Return what a method of the backbone makes of pictures (b, h, w, c)."""
        with torch.no_grad():
            dtype = x.dtype if self._keeps_dtype_ and not self.amp else torch.float32
            pictures = self.network_input(x.to(dtype))
            module = converted(
                self.backbone_,
                dtype,
                x.device,
                channels_last=self.channels_last,
                compiled=self.compile,
            )
            if self.channels_last:
                pictures = pictures.contiguous(memory_format=torch.channels_last)
            call = getattr(module, method)
            if self.amp:
                with torch.autocast(x.device.type, _AMP[self.amp]):
                    return call(pictures)
            return call(pictures)

    @property
    def input_size(self):
        """Height and width of pictures as the network takes them."""
        size = self.image_size
        if size is None:
            return tuple(self.image_shape_[:2])
        return (size, size) if isinstance(size, Integral) else tuple(size)

    def _resized(self, x):
        """Return pictures (b, h, w, c) as (b, c, h, w), of the size of `image_size`."""
        x = x.permute(0, 3, 1, 2)
        if x.shape[-2:] != self.input_size and self.image_size is not None:
            x = F.interpolate(x, self.input_size, mode="bilinear", antialias=True)
        return x

    def network_input(self, x):
        """Return pictures as the network takes them: resized and normalised.

        Parameters
        ----------
        x : tensor of shape (b, h, w, c)
            Pictures, floats in 0..1.

        Returns
        -------
        x : tensor of shape (b, c, h, w)
            With the height and width of `image_size`.
        """
        x = self._resized(x)
        if self._repeat_ > 1:
            x = x.expand(-1, self._repeat_, -1, -1)
        if self.mean_ is not None:
            mean, std = (
                x.new_tensor(v).view(-1, 1, 1) for v in (self.mean_, self.std_)
            )
            x = (x - mean) / std
        return x

    def embed(self, x):
        """Return the features of patches.

        Parameters
        ----------
        x : tensor of shape (b, h, w, c)
            Pictures, floats in 0..1.

        Returns
        -------
        features : tensor of shape (b, gh, gw, n_features)
            The maps of all layers at the places of the first.
        """
        return join_maps(self.feature_maps(x), self.neighborhood, self.interpolation)


@with_parameters(kw_only=False)
class BackboneEmbedding(PictureEmbedding):
    """Base of embeddings by a network that its user names.

    Parameters
    ----------
    backbone : str, path, module or class, default="gabor"
        "gabor" is a fixed bank of oriented filters that needs no weights and takes
        pictures of any size and number of channels. "resnet18", "resnet34",
        "resnet50", "wide_resnet50_2" and "mobilenet_v2" are built in and take
        `weights`. "timm/NAME", "torchvision/NAME" and "transformers/NAME" are built by
        the library that is named. A path is a file of weights of a network that is
        built in. Any `torch.nn.Module` is copied and tapped at `layers`; a class is
        called without arguments.
    layers : tuple of str or None, default=None
        Layers to tap, the one with the finest grid first: names of submodules. None is
        all of "scale1" to "scale4" for "gabor", "group3" and "group5" (strides 8 and
        16) for "mobilenet_v2", else "layer2" and "layer3". What lies behind the last
        layer is not computed.
    weights : str, path, mapping or None, default=None
        A file (.pth, .safetensors, .npz) or a state dict, of the whole network or of
        what is needed of it; of ResNets with batch norms as torchvision writes them, or
        with the batch norms folded into the convolutions. "random" takes untrained
        weights, always the same. None takes what the library has on this machine, and
        nothing is ever downloaded.
    normalization : "auto", tuple or None, default="auto"
        (mean, std) of pictures in 0..1, numbers or one for each channel. "auto" is what
        the backbone was trained with, where it is known (names; modules of timm and
        torchvision), and nothing for other modules, and for floats around 0, which were
        normalised already. None is nothing.
    amp : {"bf16", "fp16"} or None, default=None
        Lower precision of the backbone, for devices that have it.

    Attributes
    ----------
    mean_, std_ : tuple of float or None
        Normalisation of the channels.
    """

    backbone: str | os.PathLike | nn.Module | type = "gabor"
    layers: Sequence[str] | None = None
    _: KW_ONLY
    weights: str | os.PathLike | Mapping | None = None
    normalization: str | Sequence | None = "auto"
    amp: str | None = None

    _parameter_constraints = {
        "backbone": [str, os.PathLike, nn.Module, type],
        "layers": [tuple, list, None],
        "weights": [str, os.PathLike, Mapping, None],
        "normalization": [StrOptions({"auto"}), tuple, list, None],
        "amp": [StrOptions(set(_AMP)), None],
    }

    def _resolved(self):
        """Return the `Backbone` that the parameters stand for."""
        return resolve(self.backbone, self.layers, self.weights)

    def _norms(self, known, n_channels):
        """Return the mean and the standard deviation of each channel, or None twice."""
        if isinstance(self.normalization, str):
            if self._around_zero_:  # normalised already
                return None, None
            if known is None:
                backbone = repr(self.backbone)
                if isinstance(self.backbone, nn.Module):  # which prints all its parts
                    backbone = type(self.backbone).__name__
                raise ValueError(
                    f"The normalization of backbone={backbone} is unknown: pass "
                    "normalization=(mean, std), or None for pictures in 0..1."
                )
            return known
        if self.normalization is None:
            return None, None
        norms = np.asarray(self.normalization, dtype=float)
        if norms.shape not in ((2,), (2, n_channels or 1)) or not (norms[1] > 0).all():
            raise ValueError(
                f"normalization={self.normalization!r} must be (mean, std), numbers or "
                f"one for each channel, with std above 0."
            )
        return tuple(tuple(np.atleast_1d(norm).tolist()) for norm in norms)
