"""Networks over windows of series, trained on the one loop.

A method has a `skad.nn.network.Network` for windows of a shape (l, c). All that the
network sees are tensors (b, l, c): `loss(x, y)` in training, `map(x)` of shape
(b, l, c) in scoring, and `anomaly(x)` of shape (b,) where that is not the sum of the
map. Windows are cut, shuffled, scored and folded back here and in `WindowedDetector`.
Forecasters derive from `skad.series._forecaster`.
"""

from collections.abc import Sized
from itertools import pairwise

import numpy as np
import torch

from skad._array import is_torch, namespace, to_numpy
from skad._cross_fitting import FIVE_FOLDS
from skad._group_rows import n_rows
from skad._parameters import with_parameters
from skad._samples import Windows
from skad._stretches import held_stretches, remaining
from skad._training import TorchDetector
from skad._training._held_out import FEWEST_SAMPLES
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

    It names its network in `_network_class`, as other trained detectors do.

    Parameters
    ----------
    max_epochs : int, default=50
        Passes over the training windows.
    batch_size : int, default=128
        Windows of a training step; also bounds the memory of scoring.
    random_state : int, RandomState instance or None, default=None
        Draws weights and batches. Pass an int for reproducible results.

    Attributes
    ----------
    n_samples_seen_ : int
        Training steps.
    """

    _honesty = "held out"

    # ---------------------------------------------------------------------- samples

    def _sample_shape(self):
        return (self.window_size_, self.n_features_in_)

    def _samples(self, X):
        """Return the training windows of `X` (t, c), whose series `_lengths_` parts."""
        x = X if is_torch(X) else torch.from_numpy(np.array(X))
        starts = torch.from_numpy(self._training_starts())
        return Windows(x, starts.to(x.device), self.window_size_)

    def _training_starts(self):
        """Return where training windows start in the series, one after the other."""
        return window_starts(self._lengths_, self.window_size_, self.stride)

    # --------------------------------------------------------------------- training

    def _held_stretches(self):
        return held_stretches(
            self._lengths_, self.window_size_, self.validation_fraction
        )

    def _split(self, n, labels, n_before=None):
        """Return the windows to hold out, all that reach into a stretch, and the rest.

        No step of a stretch is trained on. Where that leaves less than half of the
        windows none are held out for the threshold, and copies are fitted.
        """
        watched = self.patience is not None
        if not watched and (not self._holds_out() or n < FEWEST_SAMPLES):
            return None, None
        starts = self._training_starts()
        offsets = np.cumsum([0, *self._lengths_])
        held = np.zeros(n, dtype=bool)
        for i, a, b in self._held_stretches():
            before = starts + self.window_size_ <= offsets[i] + a
            held |= ~before & (starts < offsets[i] + b)
        n_held = int(held.sum())
        if watched and (n_held == 0 or n - n_held < 2):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves "
                f"{n - n_held} of {n} windows to train on, and {n_held} to watch."
            )
        if not watched and (n_held == 0 or n - n_held < n / 2):
            return None, None
        return np.flatnonzero(held), np.flatnonzero(~held)

    def _honest_anomaly(self, X, y, anomaly, groups=None):
        if self._trained_.held is None:
            return super()._honest_anomaly(X, y, anomaly, groups)
        return self._held_out_anomaly(self._trained_.rows)

    def _least_limit(self):
        """Return what steps that were trained on pass as often, where few were not.

        A new step is no less anomalous than those. In simulations of five kinds of
        series of 400 and 1,000 steps the share of new ones beyond the limit was off
        .05 by .03 to .12 in the root mean square, and beyond this one by .02 to .05.
        """
        trained = self._trained_
        if trained.held is None or trained.in_stream:
            return -np.inf
        n_held = sum(b - a for _, a, b in self._held_stretches())
        if n_held > FIVE_FOLDS * self.window_size_:
            return -np.inf
        found = [to_numpy(self._anomaly(x)) for x in self._trained_series(trained.rows)]
        return self._limit(np.concatenate(found)) if found else -np.inf

    def _needs_seen(self):
        return self.contamination != "auto" or self._trained_.held is None

    def _held_out_anomaly(self, whole):
        """Return the anomaly of the stretches of the training that it held out."""
        series = self._training_series(whole)
        parts = [
            self._stretch_anomaly(series[i], np.arange(len(series[i])), a, b)
            for i, a, b in self._held_stretches()
        ]
        return namespace(parts[0]).concat(parts)

    def _fit_work(self, X):
        size = 100 if self.window_size == "auto" else self.window_size
        return TorchDetector._fit_work(self, X) * size / self.stride

    def _fit(self, X, y, groups=None):
        self._known_ = y  # the labels of all steps, for callbacks that score
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
        known, rows = self._known_, self._learned_rows_
        # what is no label for each step is left to whoever asks for it
        is_flat = isinstance(known, Sized) and getattr(known, "ndim", 1) == 1
        n_known = len(known) if is_flat else 0
        if n_known and (len(rows) > 1 or n_rows(rows[0]) < n_known):
            at = [np.arange(n_known)[own] for own in rows]
            known = to_numpy(known)[np.concatenate(at)]
        self._train(whole, known)
        self.n_samples_seen_ = len(whole)

    def _open_checkpoint(self, X, labels):
        # the same steps may be parted into other series
        return super()._open_checkpoint((to_numpy(X), self._lengths_), labels)

    def _training_series(self, X):
        """Return the series (t, c) of the training data as `_train` got them."""
        bounds = pairwise(np.cumsum([0, *self._lengths_]))
        return [X[start:stop] for start, stop in bounds]

    def _trained_series(self, X):
        """Return the series (t, c), or what of them the training did not hold out."""
        series = self._training_series(X)
        if self._trained_.held is None:
            return series
        size = self.window_size_
        kept = remaining(self._lengths_, self._held_stretches(), size)
        return [series[i][a:b] for i, a, b in kept]

    def _offset_on(self, X, y):
        auto = self.contamination == "auto"
        if auto and self._trained_.held is not None:
            anomaly = to_numpy(self._held_out_anomaly(X))
        else:
            series = self._training_series(X)
            anomaly = np.concatenate([to_numpy(self._anomaly(x)) for x in series])
        if auto:  # no copies are fitted for every epoch
            return -max(self._limit(anomaly), self._least_limit())
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

    def _window_inspect(self, network, windows):
        with torch.no_grad():
            return network.inspect(as_tensor(windows))
