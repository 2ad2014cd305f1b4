"""What detectors share that count the rows of a stream in random cells."""

from abc import abstractmethod
from numbers import Integral

import numpy as np

from skad._ablation import ablation
from skad._array import to_double, to_numpy
from skad._incremental import ForgettingMixin, thinned
from skad._left_out import LeftOutMixin
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector

# Without windows: rows that set the units, and at most so many set the threshold.
_FIRST_ROWS, _SAMPLE_ROWS = 1000, 1024

# Bins of rows far out, beyond which there is only one more.
_FARTHEST = 2.0**40


def bins_of(places):
    """Return the whole parts of places of any shape, as integers that wrap."""
    bins = np.clip(np.floor(places), -_FARTHEST, _FARTHEST)
    return bins.astype(np.int64).view(np.uint64)


class Window:
    """Rows of a stretch of the stream, and how many of them fell into each cell."""

    def __init__(self, n_cells, n_features):
        self.counts = np.zeros(n_cells, dtype=np.int32)
        self.n = 0
        self.sample = 1, np.empty((0, n_features))

    def add(self, X, cells, most):
        """Count rows (n, d) with their cells; keep at most so many of them."""
        np.add.at(self.counts, cells.ravel(), np.int32(1))
        self.sample = thinned(self.sample, X, self.n, most)
        self.n += len(X)

    def of(self, cells):
        """Return how many rows are in cells, of their shape."""
        return self.counts[cells]


class FadingWindow:
    """Rows of a stream, of which one that came k rows ago counts 2**(-decay k).

    Counts are kept in units in which rows become heavier, so that none has to be
    touched that no row falls into.
    """

    def __init__(self, n_cells, n_features, decay):
        self.counts = np.zeros(n_cells)
        self.n, self.decay = 0, decay
        self.begin = 0  # the row that counts 1 in the units of the counts
        self.sample = 1, np.empty((0, n_features))

    def add(self, X, cells, most):
        """Count rows (n, d) with their cells (..., n); keep the last of them."""
        for start in range(0, len(X), step := max(1, int(500 / self.decay))):
            own = cells[..., start : start + step]
            if self.decay * (self.n - self.begin) > 500:  # before they overflow
                self.counts *= 2.0 ** (-self.decay * (self.n - self.begin))
                self.begin = self.n
            numbers = np.arange(self.n, self.n + own.shape[-1])
            weights = 2.0 ** (self.decay * (numbers - self.begin))
            weights = np.broadcast_to(weights, own.shape)
            np.add.at(self.counts, own.ravel(), weights.ravel())
            self.n += own.shape[-1]
        self.sample = 1, np.concatenate([self.sample[1], X])[-most:].copy()

    def of(self, cells):
        """Return the weight of the rows in cells, of their shape."""
        return self.counts[cells] * 2.0 ** (-self.decay * (self.n - self.begin))

    def weights(self):
        """Return what the rows of the sample count."""
        return 2.0 ** (-self.decay * np.arange(len(self.sample[1]), 0, -1))


@with_parameters
class CellCounts(ForgettingMixin, LeftOutMixin, BaseDetector):
    """Base of detectors that look up how many rows are in the cells of a row.

    A class writes `_draw`, what is random and does not depend on the rows; `_cells`, of
    rows that `_scaled` brings to the units of the first ones, or in units that the
    class sets itself in `_measure`; and `_rareness`. Rows are counted in windows:
    the last one that is full is what is known, and the first one while it is filling.

    Parameters
    ----------
    window_size : int or None, default=256
        Rows that are learned until what was known before is forgotten, at least 2. New
        rows are compared with the last window that is full; None never forgets.
    random_state : int, RandomState instance or None, default=None
        Draws the cells. Pass an int for reproducible results.

    Attributes
    ----------
    n_samples_seen_ : int
        Rows learned.
    typical_ : ndarray of shape (n_features,)
        Medians of the first window, or of the first 1,000 rows without windows. The map
        puts them in the place of values.
    """

    window_size: int | None = 256
    random_state: Seed = None

    _parameter_constraints = {
        "window_size": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }
    decay = 0.0  # by which rows fade, where a class lets them, instead of windows
    _moved_ = False  # whether the last call has changed what is known
    _full_ = None  # the last window that is full

    # ------------------------------------------------------------ what a class writes

    @abstractmethod
    def _draw(self, random, n_features):
        """Draw the cells in units yet unknown; return how many there are."""

    def _measure(self, X):
        """Set the units of the cells by the first rows (n, d): features' ranges."""
        self._lowest_, span = X.min(axis=0), np.ptp(X, axis=0)
        self._span_ = np.where(span > 0, span, 1.0)

    def _scaled(self, X):
        """Return rows (b, d) in units in which the first ones lie in 0..1."""
        with np.errstate(over="ignore"):
            return (X - self._lowest_) / self._span_

    @abstractmethod
    def _cells(self, X):
        """Return the cells of rows (b, d), integers of any shape."""

    @abstractmethod
    def _rareness(self, counts, n):
        """Return the anomaly (b,) by the rows in each of the cells, of n in all."""

    # ----------------------------------------------------------------------- learning

    def _fit(self, X, y):
        X = to_double(to_numpy(X))
        if not hasattr(self, "_n_cells_"):
            # kept, so that another copy of the stream draws the same
            random = generator(self.random_state)
            self._n_cells_ = self._draw(random, X.shape[1])
            self._first_, self._running_ = X[:0], self._new_window()
            self.n_samples_seen_ = 0
        self._moved_ = False
        n_first = max(0, self._first_size() - self.n_samples_seen_)
        self.n_samples_seen_ += len(X)
        if n_first:
            self._begin(X[:n_first])
            X = X[n_first:]
        if self.window_size is None or self._fades():
            before = self._running_.n
            self._count(X)
            size = self._first_size()
            self._moved_ |= before // size < self._running_.n // size
            return
        n_full = (self._running_.n + len(X)) // self.window_size
        if n_full > 1:  # all but the last of them would be forgotten at once
            X = X[(n_full - 1) * self.window_size - self._running_.n :]
            self._running_ = self._new_window()
        while len(X):
            n = self.window_size - self._running_.n
            self._count(X[:n])
            X = X[n:]
            self._close()

    def _begin(self, X):
        """Learn rows of the first window, all of which set the units."""
        self._first_ = np.concatenate([self._first_, X])
        self._measure(self._first_)
        self.typical_ = np.median(self._first_, axis=0)
        self._running_ = self._new_window()
        self._count(self._first_)
        self._moved_ = True
        if len(self._first_) == self._first_size():
            self._first_ = self._first_[:0]
            self._close()

    def _close(self):
        """Begin another window where this one is full."""
        if self._running_.n == self.window_size and not self._fades():
            self._full_, self._running_ = self._running_, self._new_window()
            self._moved_ = True

    def _first_size(self):
        return self.window_size or _FIRST_ROWS

    def _fades(self):
        return self.decay > 0 and self.window_size is not None

    def _new_window(self):
        size = self._n_cells_, self.n_features_in_
        return FadingWindow(*size, self.decay) if self._fades() else Window(*size)

    def _count(self, X):
        step, most = self._block_rows("cpu"), _SAMPLE_ROWS
        if self.window_size:
            most = min(self._SAMPLE_ROWS, self.window_size)
        for start in range(0, len(X), step):
            rows = X[start : start + step]
            self._running_.add(rows, self._cells(rows), most)

    def _recent(self):
        if self._goes_on and not self._moved_ and self.window_size is not None:
            return None
        return self._known().sample[1]

    # ------------------------------------------------------------------------ scoring

    def _known(self):
        """Return the window that new rows are compared with."""
        return self._running_ if self._full_ is None else self._full_

    def _anomaly(self, X, fewer=0):
        known = self._known()
        counts = known.of(self._cells(to_double(to_numpy(X))))
        return self._rareness(counts - fewer, known.n - fewer)

    def _left_out(self, X, once=1):
        return self._anomaly(X, fewer=once)

    def _honest_anomaly(self, X, y, anomaly, **params):
        if self._fades():  # the rows are those of the sample
            params["sample_weight"] = self._known().weights()
        return super()._honest_anomaly(X, y, anomaly, **params)

    def _map(self, X):
        return ablation(self._anomaly, to_double(to_numpy(X)), self.typical_)
