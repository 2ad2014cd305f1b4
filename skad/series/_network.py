"""Networks over windows of series, trained on the one loop.

A method writes `_network(shape)`, which returns a `skad.nn.network.Network` for
windows of `shape` (l, c). All that the network sees are tensors (b, l, c): `loss(x, y)`
in training, `map(x)` of shape (b, l, c) in scoring, and `anomaly(x)` of shape (b,)
where that is not the sum of the map. Windows are cut, shuffled, scored and folded back
here and in `WindowedDetector`. Forecasters derive from `skad.series._forecaster`.
"""

from itertools import pairwise

import numpy as np
import torch

from skad._array import is_torch, namespace, to_numpy
from skad._parameters import with_parameters
from skad._samples import Windows
from skad._training import TorchDetector
from skad.base import BaseDetector
from skad.series._windowed import WindowedDetector


def window_starts(lengths, size, stride):
    """Return where windows start in series of given lengths that follow one another."""
    ends = np.cumsum(lengths)
    parts = [
        np.arange(end - length, end - size + 1, stride)
        for end, length in zip(ends, lengths, strict=True)
    ]
    return np.concatenate(parts)


def as_tensor(windows):
    """Return windows (b, l, c), views of an array or tensor, as a tensor of its own."""
    if is_torch(windows):
        return windows.contiguous()
    return torch.from_numpy(windows.copy())


@with_parameters
class SeriesNetwork(WindowedDetector, TorchDetector):
    """Base of networks over windows; the module's docstring says what a method writes.

    Pictures and the families of layers that suit them are no parameters here. What a
    method leaves out besides, it names in `_without`.

    Parameters
    ----------
    max_epochs : int, default=50
        Passes over the training windows.
    batch_size : int, default=128
        Windows of a training step; also bounds the memory of scoring.
    patience : int or None, default=None
        Epochs without a better loss on held-out windows after which training stops and
        the best weights are taken. None holds nothing out.
    validation_fraction : float, default=0.1
        Share of the windows that `patience` holds out.
    random_state : int, RandomState instance or None, default=None
        Draws weights and batches. Pass an int for reproducible results.
    """

    _without = ("architecture", "image_shape", "image_shape_")

    # ---------------------------------------------------------------------- samples

    def _sample_shape(self):
        return (self.window_size_, self.n_features_in_)

    def _samples(self, X):
        """Return the training windows of `X` (t, c), whose series `_lengths_` parts."""
        x = X if is_torch(X) else torch.from_numpy(np.array(X))
        starts = window_starts(self._lengths_, self.window_size_, self.stride)
        return Windows(x, torch.from_numpy(starts).to(x.device), self.window_size_)

    # --------------------------------------------------------------------- training

    def _fit_work(self, X):
        size = 100 if self.window_size == "auto" else self.window_size
        return TorchDetector._fit_work(self, X) * size / self.stride

    def _fit(self, X, y, groups=None):
        # the labels of all steps, for callbacks that score
        self._known_ = y
        if y is not None and groups is not None:
            order = [
                np.arange(X.shape[0])[own] for own in self._series_rows(groups, len(X))
            ]
            self._known_ = np.asarray(to_numpy(y))[np.concatenate(order)]
        anomaly = super()._fit(X, y, groups)
        del self._known_
        return anomaly

    def _fit_windows(self, series, labels):
        known = getattr(self, "_trained_size_", self.window_size_)
        if known != self.window_size_:
            raise ValueError(
                f"window_size={self.window_size_} differs from the {known} steps of "
                "the network that warm_start goes on with."
            )
        self._trained_size_ = self.window_size_
        self._lengths_ = [len(x) for x in series]
        whole = series[0] if len(series) == 1 else namespace(series[0]).concat(series)
        self._train(whole, self._known_)

    def _open_checkpoint(self, X, labels):
        # the same steps may be parted into other series
        return super()._open_checkpoint((to_numpy(X), self._lengths_), labels)

    def _training_series(self, X):
        """Return the series (t, c) of the training data as `_train` got them."""
        bounds = pairwise(np.cumsum([0, *self._lengths_]))
        return [X[start:stop] for start, stop in bounds]

    def _offset_on(self, X, y):
        series = self._training_series(X)
        anomaly = np.concatenate([to_numpy(self._anomaly(x)) for x in series])
        return BaseDetector._fit_offset(self, X, y, anomaly)

    # ---------------------------------------------------------------------- scoring

    def _row_elements(self):
        return TorchDetector._row_elements(self)

    def _window_anomaly(self, network, windows):
        with torch.no_grad():
            return network.anomaly(as_tensor(windows))

    def _window_map(self, network, windows):
        with torch.no_grad():
            return network.map(as_tensor(windows))
