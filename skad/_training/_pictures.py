"""The base of networks for pictures alone: rows are pictures of one line."""

from collections.abc import Callable, Sequence
from math import prod
from typing import ClassVar

from skad._parameters import with_parameters
from skad._training._shaped import ShapedDetector


@with_parameters
class PictureNetworkDetector(ShapedDetector):
    """Base of networks that look at the pixels of pictures together.

    Parameters
    ----------
    architecture : {"auto", "conv", "mlp"} or class, default="auto"
        "auto" is a wide residual network, WRN-10-4. A class of modules is called with
        the shapes (without the axis of samples) that it has to lead from and to.
    hidden_sizes : tuple of int or None, default=None
        Channels of the layers between; None is (16, 64, 128, 256) for the residual
        network, of which the first is that of one convolution.
    """

    architecture: str | Callable = "auto"
    hidden_sizes: Sequence[int] | None = None

    _data = "pictures"
    _exports: ClassVar[bool] = False  # their maps take gradients

    def _sample_shape(self):
        if self.image_shape_ is None:
            return (1, 1, self.n_features_in_)
        return super()._sample_shape()

    def _samples(self, X):
        x = super()._samples(X)
        return x[:, None, None] if self.image_shape_ is None else x

    def _as_map(self, maps):
        """Return maps (b, h, w) in the shape of the samples as they came."""
        return maps.flatten(1) if self.image_shape_ is None else maps

    def _map(self, network, X):
        return self._as_map(super()._map(network, X))

    def _inspect(self, network, X):
        anomaly, maps = super()._inspect(network, X)
        return anomaly, self._as_map(maps)

    def _row_elements(self):
        # a network widens pictures before it narrows them
        return 16 * prod(self._sample_shape()) * max(self.hidden_sizes or (64,))
