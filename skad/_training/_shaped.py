"""Networks that are made to the shape of rows, or of pictures."""

import numpy as np
import torch

from skad._array import is_torch
from skad._parameters import with_parameters
from skad._picture_input import check_images
from skad._training._detector import TorchDetector
from skad._training._parameters import ShapeParameters


@with_parameters
class ShapedDetector(ShapeParameters, TorchDetector):
    """Base of networks whose layers follow from the shape of rows or of pictures.

    Samples are (b, d) for rows and (b, c, h, w) for pictures.
    """

    _exports = True

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
