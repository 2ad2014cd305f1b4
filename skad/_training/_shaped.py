"""Networks that are made to the shape of rows, or of pictures."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from skad._array import is_torch
from skad._parameters import with_parameters
from skad._picture_input import check_images
from skad._sklearn import StrOptions
from skad._training._detector import TorchDetector


@with_parameters
class ShapedDetector(TorchDetector):
    """Base of networks whose layers follow from the shape of rows or of pictures.

    Samples are (b, d) for rows and (b, c, h, w) for pictures.

    Parameters
    ----------
    architecture : {"auto", "mlp", "conv"} or class, default="auto"
        "auto" takes linear layers for rows and convolutions for images. A class of
        modules is called with the shapes (without the axis of samples) that it has to
        lead from and to, once for each network of the method.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is
        (64, 32) for linear layers and (32, 64, 128) for convolutions.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        (height, width, channels) of images.
    n_features_in_ : int
        Number of features, or of the elements of an image.
    """

    _exports = True

    architecture: str | Callable = "auto"
    hidden_sizes: Sequence[int] | None = None
    image_shape: Sequence[int] | None = None

    _parameter_constraints = {
        "architecture": [StrOptions({"auto", "mlp", "conv"}), callable],
        "hidden_sizes": [tuple, list, None],
        "image_shape": [tuple, list, None],
    }

    def _validate(self, X, *, reset):
        return check_images(self, X, reset=reset)

    def _wants_unit_scale(self):
        return self.image_shape_ is None

    def _sample_shape(self):
        if self.image_shape_ is None:
            return (self.n_features_in_,)
        h, w, c = self.image_shape_
        return (c, h, w)

    def _samples(self, X):
        """Return rows (n, d) as the tensor that the network takes."""
        x = X
        if not is_torch(X):
            X = np.ascontiguousarray(X)
            # nothing writes to samples; torch warns of arrays that nobody may write to
            x = torch.from_numpy(X) if X.flags.writeable else torch.tensor(X)
        if self.image_shape_ is None:
            return x
        h, w, c = self.image_shape_
        return x.reshape(len(x), h, w, c).permute(0, 3, 1, 2)

    def _graph(self, x):
        """Return the anomaly and the map of rows (b, d) or pictures (b, h, w, c).

        What `skad.export` writes.
        """
        return self.net_.inspect(x.permute(0, 3, 1, 2) if self.image_shape_ else x)
