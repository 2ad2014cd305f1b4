"""Samples that are made when they are asked for, for trainings on more than fits.

To the training loop they look like the tensor of all samples: batches are slices of
them, and a held-out part is a `subset`.
"""

import copy
from numbers import Integral

import numpy as np
import torch

from skad._array import is_torch
from skad.embedding._windows import sliding


class LazySamples:
    """Base of samples that look like a tensor and are made when they are asked for.

    A kind of samples writes `_make` and `nbytes`, the bytes that count when samples are
    moved to a device or kept; and `float` and `to` where its source is to be another.

    Parameters
    ----------
    places : ndarray or tensor of shape (n,)
        Where each sample is found, as `_make` takes it.
    sample_shape : tuple of int
        The shape of one sample.
    device : torch.device
        Where samples are made.
    """

    def __init__(self, places, sample_shape, device):
        self._places, self._sample_shape, self.device = places, sample_shape, device

    def _make(self, places):
        """Return the samples (b, ...) that are found at `places`."""
        raise NotImplementedError

    def __len__(self):
        return len(self._places)

    @property
    def shape(self):
        """Shape of the tensor of all samples."""
        return (len(self), *self._sample_shape)

    def __getitem__(self, rows):
        """Return the samples of a slice or of indices, (b, ...), or one of them."""
        if isinstance(rows, Integral):
            return self._make(self._places[[rows]])[0]
        return self._make(self._chosen(rows))

    def _chosen(self, rows):
        if torch.is_tensor(rows) and not torch.is_tensor(self._places):
            rows = rows.cpu().numpy()
        return self._places[rows]

    def subset(self, rows):
        """Return some of the samples, made later as well."""
        some = copy.copy(self)
        some._places = self._chosen(rows)
        return some

    def float(self):
        """Return the same samples in float32: here what is made is in it already."""
        return self

    def to(self, device):
        """Return the same samples on a device: here they are made where they are."""
        return self


class Maps(LazySamples):
    """Feature maps (n, m) of pictures.

    The backbone computes where the pictures are read to, and in float32.

    Parameters
    ----------
    pictures : array, tensor or Pictures of shape (n, h, w, c)
        The pictures.
    describe : callable
        From a tensor of pictures (b, h, w, c) to samples (b, m), both in float32.
    first : tensor of shape (b, m) or None, default=None
        The maps of the first pictures, where they are known: they tell the size of all.
    """

    def __init__(self, pictures, describe, first=None):
        self.pictures, self.describe = pictures, describe
        if first is None:
            first = self._make(np.arange(1))
        self._map_bytes = first[0].nbytes
        super().__init__(np.arange(len(pictures)), first.shape[1:], first.device)

    @property
    def nbytes(self):
        """Bytes of all maps together."""
        return len(self) * self._map_bytes

    def _make(self, places):
        found = self.pictures[places]
        if not is_torch(found):
            found = torch.tensor(np.ascontiguousarray(found))
        with torch.no_grad():
            # in float32 whatever the pictures are, as the network trains in it
            return self.describe(found.float())


class Windows(LazySamples):
    """The windows (n, l, c) of several series.

    Parameters
    ----------
    x : tensor of shape (t, c)
        The series, one after the other.
    starts : tensor of shape (n,)
        The steps of `x` at which windows start.
    size : int
        Steps `l` of a window.
    """

    def __init__(self, x, starts, size):
        self.x, self.size = x, size
        self.views = sliding(x, size)
        super().__init__(starts, (size, x.shape[1]), x.device)

    @property
    def nbytes(self):
        """Bytes of the series, which is what a device holds."""
        return self.x.nbytes + self._places.nbytes

    def _make(self, places):
        return self.views[places].contiguous()

    def float(self):
        """Return the same windows in float32."""
        return Windows(self.x.float(), self._places, self.size)

    def to(self, device):
        """Return the same windows on a device."""
        return Windows(self.x.to(device), self._places.to(device), self.size)
