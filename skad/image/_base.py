"""What detectors on pictures share: the check of pictures, features, maps, pooling.

A method learns from the features of patches in `_fit` and states `_patches`, the
anomaly of each patch. The map is that anomaly, interpolated to the picture's own pixels
and smoothed; the score is what `pooling` makes of it unless a method says otherwise.
"""

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import clone

from skad._array import is_torch, slices
from skad._parameters import with_parameters
from skad._picture_input import check_pictures
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.embedding import PatchEmbedding
from skad.embedding._pictures import PictureEmbedding
from skad.image._pooling import pool
from skad.image._upsampling import smoothers


def as_tensor(pictures):
    """Return an array, which may be read-only or backwards, as a tensor of its own."""
    if is_torch(pictures):
        return pictures
    return torch.tensor(np.ascontiguousarray(pictures))


@with_parameters
class ImageDetector(BaseDetector):
    """Base of detectors on pictures (n, h, w[, c]), on files, or on rows of pixels.

    `_fit(X, y)` gets a tensor or `Pictures` of shape (n, h, w, c).

    Parameters
    ----------
    smoothing : float, default=4.0
        Standard deviation of the Gaussian that smooths maps, in pixels of the pictures
        as the backbone gets them: with ``image_size=256`` a picture of 4,000 pixels is
        smoothed by 4,000 / 256 as many.
    pooling : {"max", "top", "quantile", "mean"}, default="max"
        How a map becomes a score: its maximum, the mean of its largest values, a
        quantile, or the mean.
    quantile : float, default=0.99
        Of ``pooling="quantile"``; "top" is the mean of the values above it.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of pictures that come as rows.
    batch_size : int, default=8
        Pictures that are computed together; bounds the memory.
    device : str, default="auto"
        "cpu", a device of torch such as "cuda", or "auto": a tensor's own device, and
        for arrays the GPU when the work is worth the trip.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What describes the patches.
    image_shape_ : tuple of int
        (height, width, channels) of pictures.
    device_ : str
        The device of the fit.
    n_features_in_ : int
        Number of elements of a picture.
    """

    smoothing: float = 4.0
    pooling: str = "max"
    quantile: float = 0.99
    image_shape: Sequence[int] | None = None
    batch_size: int = 8
    device: str = "auto"

    _data = "pictures"
    _parameter_constraints = {
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "pooling": [StrOptions({"max", "top", "quantile", "mean"})],
        "quantile": [Interval(Real, 0, 1, closed="left")],
        "image_shape": [tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }

    def _patches(self, x):
        """Return the anomaly (b, gh, gw) of the patches of a tensor (b, h, w, c)."""
        raise NotImplementedError

    def _pool(self, patches):
        """Return the anomaly (b,) of pictures from that of their patches."""
        return self._summary(self._upsampled(patches))

    def _graph(self, x):
        """Return the anomaly (b,) and the map (b, h, w) of pictures (b, h, w, c).

        What `skad.export` writes where `_exports` says so: the same as `_inspect`, in
        operations on tensors that do not depend on the number of pictures.
        """
        patches = self._patches(x)
        return self._pool(patches), self._upsampled(patches)

    def _summary(self, maps):
        """Return the anomaly (b,) of pictures from their maps (b, h, w)."""
        return pool(maps, self.pooling, self.quantile)

    def _upsampled(self, patches):
        rows, columns = self._smoothers(patches)
        return rows @ patches @ columns.T

    def _smoothers(self, patches):
        """Return the matrices (h, gh) and (w, gw) that make maps of patches."""
        own = self.image_shape_[:2]
        sigma = [
            self.smoothing * n / m for n, m in zip(own, self._seen_size(), strict=True)
        ]
        return smoothers(patches, own, sigma)

    def _seen_size(self):
        """Return the height and width of pictures as they are looked at."""
        if hasattr(self, "embedding_"):
            return self.embedding_.input_size
        return self.image_shape_[:2]

    def _validate(self, X, *, reset):
        return check_pictures(self, X, reset=reset)

    def _block_rows(self, device):
        return self.batch_size

    def _batches(self, n_pictures, progress="embed"):
        """Yield slices of `batch_size` pictures, with a progress bar."""
        parts = list(slices(n_pictures, self.batch_size))
        yield from self._steps(parts, progress, len(parts))

    def _fit_work(self, X):
        return 1e4 * np.prod(X.shape)

    def _anomaly(self, X):
        with torch.no_grad():
            return self._pool(self._patches(as_tensor(X)))

    def _map(self, X):
        with torch.no_grad():
            return self._as_map(self._upsampled(self._patches(as_tensor(X))))

    def _inspect(self, X):
        with torch.no_grad():
            maps = self._upsampled(self._patches(as_tensor(X)))
            return self._summary(maps), self._as_map(maps)

    def _as_map(self, maps):
        """Return maps (b, h, w) in the shape of the pictures as they came."""
        return maps.flatten(1) if self._are_rows_ else maps

    # ------------------------------------------------------------------ the threshold

    def _leaves_out(self, owners):
        """Tell whether the threshold comes from pictures left out of what was learned.

        Parameters
        ----------
        owners : tensor of shape (n,)
            As `owners_of` returns them.
        """
        if self.contamination != "auto":
            return False
        if bool((owners != owners[0]).any()):
            return True
        warnings.warn(
            f"{type(self).__name__} learned from one picture, which cannot be left "
            "out: its own score is the threshold, and most new normal pictures will "
            "fall below it.",
            stacklevel=6,
        )
        return False

    def _of_training(self, batches, owners, honest):
        """Return the anomaly (n,) of training pictures from batches of features.

        `_left_out(features, own)` leaves pictures out of what was learned, which
        `_known(features)` does not.
        """
        found, start = [], 0
        for features in batches:
            own = owners[start : start + len(features)].to(features.device)
            start += len(own)
            found.append(
                self._left_out(features, own) if honest else self._known(features)
            )
        return torch.cat(found)

    def _honest_anomaly(self, X, y, anomaly, **params):
        # a class whose `_fit` returns what `_of_training` found has it already
        if anomaly is None:
            return super()._honest_anomaly(X, y, anomaly, **params)
        return self._kept_for_tiles(anomaly)

    def _seen_anomaly(self, X, anomaly):
        return self._kept_for_tiles(super()._seen_anomaly(X, anomaly))

    def _kept_for_tiles(self, anomaly):
        """Keep what sets the threshold: of tiles, their pictures ask for it."""
        self._threshold_anomaly_ = anomaly
        return anomaly


def owners_of(pictures):
    """Return the picture (n,) that each of `pictures` is a part of, or itself."""
    owners = getattr(pictures, "owners", None)  # of tiles
    return torch.arange(pictures.shape[0]) if owners is None else owners


class TrainingPatches:
    """The patch features of the training pictures, batch by batch, as often as asked.

    They are kept, once, when they fit in scikit-learn's `working_memory` (1 GiB unless
    `sklearn.set_config` says otherwise), else computed again for each pass.

    Parameters
    ----------
    detector : ImageDetector
        Whose batches they are.
    X : tensor or Pictures of shape (n, h, w, c)
        The training pictures.
    embed : callable
        From a tensor of pictures (b, h, w, c) to features (b, gh, gw, d).

    Attributes
    ----------
    kept : bool
        Whether a second pass costs nothing.
    """

    def __init__(self, detector, X, embed):
        self.detector, self.X, self.embed = detector, X, embed
        self.n_pictures = X.shape[0]
        self._whole, self._done = None, 0
        # the first batch tells what features are like
        first = self[: detector.batch_size]
        self.grid, self.n_features = tuple(first.shape[1:3]), first.shape[3]
        self.dtype, self.device = first.dtype, first.device
        n_bytes = first[0].nbytes * self.n_pictures
        self.kept = n_bytes <= get_config()["working_memory"] * 2**20
        self._first = first

    def __getitem__(self, rows):
        """Return the features (b, gh, gw, d) of a slice of pictures, or of indices."""
        if self._done == self.n_pictures:
            return self._whole[rows]
        with torch.no_grad():
            return self.embed(as_tensor(self.X[rows]))

    def __iter__(self):
        """Yield features of shape (b, gh, gw, d)."""
        if self.kept:
            self._make_whole()
        for rows in self.detector._batches(self.n_pictures):
            if self._whole is None:
                yield self._next(rows)
                continue
            if rows.stop > self._done:
                self._whole[rows] = self._next(rows)
                self._done = rows.stop
            yield self._whole[rows]

    def of(self, pictures):
        """Yield features (b, gh, gw, d) of some pictures, an array of their numbers."""
        if len(pictures) == self.n_pictures:
            yield from self
            return
        for rows in slices(len(pictures), self.detector.batch_size):
            yield self[pictures[rows]]

    def all(self):
        """Return the features of all pictures, (n, gh, gw, d)."""
        self._make_whole()
        for _ in self:
            pass
        return self._whole

    def _make_whole(self):
        if self._whole is None:
            shape = (self.n_pictures, *self.grid, self.n_features)
            self._whole = torch.empty(shape, dtype=self.dtype, device=self.device)

    def _next(self, rows):
        """Return features that are not kept yet, the first batch from before."""
        first, self._first = self._first, None
        return self[rows] if first is None else first


@with_parameters
class BackboneDetector(ImageDetector):
    """Base of detectors that name a backbone and its layers themselves.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="gabor"
        What describes the patches: the built-in bank of filters, which needs no
        weights; "resnet18", "resnet34", "resnet50", "wide_resnet50_2" with `weights`;
        "timm/NAME", "torchvision/NAME", "transformers/NAME"; or any module.
    layers : tuple of str or None, default=None
        Names of the layers whose output describes a patch; None is the second and third
        of a ResNet, and all of the bank of filters.
    weights : str, path or None, default=None
        File with the weights of the backbone (.pth, .safetensors or .npz).
    image_size : int, tuple of int or None, default=None
        Size to which pictures are brought before the backbone; None leaves them. Maps
        have the size of the pictures as they came.
    normalization : "auto", tuple or None, default="auto"
        (mean, std) of pictures in 0..1, numbers or one for each channel, by which they
        are normalised before the backbone. "auto" is what the backbone was trained
        with, where it is known (names; modules of timm and torchvision), and nothing
        for floats around 0, which were normalised already, and for other modules: pass
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) for your own that was trained on
        ImageNet. None is nothing.
    amp : {"bf16", "fp16"} or None, default=None
        Lower precision of the backbone, for devices that have it.
    embedding : PatchEmbedding or None, default=None
        What describes the patches instead, such as a `ViTEmbedding`; is cloned. It says
        itself what else would be said here (`backbone`, `layers`, `weights`,
        `image_size`, `normalization`, `amp`, and `neighborhood` where there is one).
    """

    backbone: str | torch.nn.Module | type = "gabor"
    layers: Sequence[str] | None = None
    weights: str | PathLike | Mapping | None = None
    image_size: int | Sequence[int] | None = None
    normalization: str | Sequence | None = "auto"
    amp: str | None = None
    embedding: PictureEmbedding | None = None

    # What describes the patches where neither `backbone` nor `embedding` says so.
    _own_backbone = "gabor"
    # What a method's paper taps in a ResNet when `layers` is None.
    _resnet_layers = ("layer1", "layer2", "layer3")
    # How deeper layers come to the grid of the first one.
    _interpolation = "bilinear"
    _parameter_constraints = {
        "backbone": [str, torch.nn.Module, type],
        "layers": [tuple, list, None],
        "weights": [str, PathLike, Mapping, None],
        "image_size": [Integral, tuple, list, None],
        "normalization": [StrOptions({"auto"}), tuple, list, None],
        "amp": [StrOptions({"bf16", "fp16"}), None],
        "embedding": [PictureEmbedding, None],
    }

    def _fit_embedding(self, X):
        """Set `embedding_` for pictures `X`."""
        made = self._own_embedding() if self.embedding is None else self._given()
        self.embedding_ = made.fit(X)
        self.embedding_._keep_dtype(self._are_rows_)

    def _given(self):
        """Return the embedding that was given, for the pictures and the device here."""
        if self.backbone != self._own_backbone or self.weights is not None:
            raise ValueError(
                "embedding and backbone (or weights) are given, and the embedding has "
                "its own: leave the others out."
            )
        return clone(self.embedding).set_params(
            image_shape=self.image_shape, device=self.device_
        )

    def _own_embedding(self):
        """Return the embedding that the detector's own parameters stand for."""
        return PatchEmbedding(
            self.backbone,
            self._tapped(),
            weights=self.weights,
            image_size=self.image_size,
            normalization=self.normalization,
            neighborhood=getattr(self, "neighborhood", 1),
            interpolation=self._interpolation,
            image_shape=self.image_shape,
            amp=self.amp,
            batch_size=self.batch_size,
            device=self.device_,
        )

    def _tapped(self):
        """Return the layers, those of the paper where a ResNet is named without any."""
        if self.layers is None and "resnet" in str(self.backbone).split("/")[0]:
            return self._resnet_layers
        return self.layers
