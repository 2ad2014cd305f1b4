"""Matrix profile: distance of every window to its nearest other window."""

import copy
import warnings
from numbers import Integral

import numpy as np

from skad._array import device_of, like, namespace, slices, to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._stretches import time_folds
from skad.embedding._windows import sliding
from skad.series._profile import ProfileDetector
from skad.series._similarity import tile_side, unit_windows


def fingerprints(windows):
    """Return an integer (b,) for each window (b, l, c): equal ones have equal ints."""
    xp = namespace(windows)
    # -0 is 0, and a missing value is another one
    windows = xp.where(xp.isnan(windows), xp.nan, windows + 0.0)
    bits = windows.view(xp.int64)
    # odd numbers, so that no bit gets lost; sums wrap around
    factors = np.random.default_rng(0).integers(-(2**62), 2**62, bits.shape[1:]) * 2 + 1
    return xp.sum(bits * like(factors, bits), axis=(1, 2))


@with_parameters
class MatrixProfile(ProfileDetector):
    r"""Time steps in windows whose shape occurs nowhere else.

    A window :math:`w` of `l` steps has as anomaly the distance of its shape to that of
    the `k`-th nearest training window that does not overlap it too much,

    .. math:: a_w = \lVert \hat w - \hat w^{(k)} \rVert_2
        = \sqrt{2 l \, (1 - \rho(w, w^{(k)}))},

    where :math:`\hat w` is the window with mean 0 and deviation 1 and :math:`\rho` the
    correlation: the matrix profile, whose largest values are the discords. A step's
    anomaly is that of the windows around it: their mean, unless `align` says another
    way; ``score_samples`` is :math:`-a`. The map is folded in the same way from the
    parts :math:`(\hat w_{ti} - \hat w^{(k)}_{ti})^2 / a_w` of the distances, but takes
    only the step's own, times `l`. See :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    n_neighbors : int, default=1
        Which neighbour `k`. With 2 a pattern that occurs twice is an anomaly, too.
    window_size : int, "auto" or "tsb", default="auto"
        Steps `l` of a window, at least 3; "auto" and "tsb" are the period, see
        :class:`WindowDetector`.
    stride : int, default=1
        Steps between the starts of windows that are scored, at most `window_size`.
        Training windows are all windows.
    channels : {"separate", "joint"}, default="separate"
        With several channels, :math:`a_w` is the mean of the channels' distances: each
        to its own nearest window ("separate"), or all to the window whose mean distance
        is least ("joint", the multidimensional matrix profile).
    n_largest : int or None, default=None
        The means are over that many channels with the largest distances, for anomalies
        that few channels show; None is all.

    Attributes
    ----------
    profile_ : ndarray of shape (n_windows,)
        The anomaly :math:`a_w` of the training windows, of all series one after the
        other: the matrix profile. 0 for windows with missing values.
    neighbors_ : ndarray of shape (n_windows, n_channels) or (n_windows, 1)
        The neighbour :math:`w^{(k)}` of each training window in each channel, or in all
        with "joint": the matrix profile index. -1 where there is none.
    device_ : str
        The device of the fit.

    See Also
    --------
    LeftMatrixProfile : Compares with earlier windows only, for streams.
    SubsequenceKNN : Distance to windows themselves, not their shapes.

    Notes
    -----
    Training windows at most a quarter of a window apart are no neighbours. A window
    that is scored and equals a training window is taken for that window: it has the
    same anomaly as in `fit`, where it was no neighbour of itself. So `fit` and
    `score_samples` agree on the training series and on any part of it, and score other
    series by their distance to it. A series that is the training series but for less
    than half of its windows is taken for it, with a warning: the changed windows are
    not compared with their originals, which would make them the most normal ones.

    The distance between two constant windows is 0 and between a constant and another
    one the root of `l`, the distances for correlations 1 and 1/2.

    Profiles are exact: products of matrices in single precision tell which windows can
    be the nearest, and double precision decides, whatever the dtype of `X`. `fit` costs
    O(n^2 l c) for `n` steps and scoring `m` steps O(n m l c), in memory linear in `n`
    and `m`; ``n_neighbors > 1`` and "joint" use double precision throughout.

    ``contamination="auto"`` takes, of a fifth of the steps where these are more than
    200 windows side by side, the distance to the nearest window that does not overlap
    at all: a window of a new series has no neighbour among its own steps.

    What is normal may change after training, and is flagged then: .05 of the rest
    of an electrocardiogram (ECG805) after its first 1,100 steps, and .06 of NAB's taxi
    rides after 2,352; learned from as many steps of the whole time .03 and 0.

    References
    ----------
    .. [1] C.-C. M. Yeh et al., "Matrix profile I: all pairs similarity joins for time
       series", ICDM, 2016.
    .. [2] C.-C. M. Yeh, N. Kavantzas, E. Keogh, "Matrix profile VI: meaningful
       multidimensional motif discovery", ICDM, 2017, section III ("joint").
    .. [3] S. M. Law, "STUMPY: a powerful and scalable Python library for time series
       data mining", Journal of Open Source Software, 2019 (constant and missing
       values).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import MatrixProfile
    >>> t = np.arange(300)
    >>> X = np.where(t % 30 < 15, t % 30, 0.0)[:, None]
    >>> X[160:170] = 5.0
    >>> detector = MatrixProfile(window_size=20, contamination=0.05).fit(X)
    >>> bool(155 <= detector.score_samples(X).argmin() <= 175)
    True
    """

    n_neighbors: int = 1

    _honesty = "leave out what overlaps"
    # Fingerprints and neighbours of the windows that a copy of the training changed.
    _changed_ = None
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def _fit_windows(self, series, labels):
        size = self.window_size_
        self._check_windows(series)
        self._keep_series(series)
        self._training_index_ = None
        reference = self._reference(self._series_)
        self._training_index_ = self._join(
            reference,
            reference,
            self.n_neighbors,
            exclusion=self._exclusion,
            progress=lambda starts: self._steps(starts, "join", len(starts)),
        )
        anomaly, prints = self._describe(reference)
        # of windows that are equal, the one with the nearest neighbour is remembered
        order = np.lexsort((anomaly, prints))
        first = np.unique(prints[order], return_index=True)[1]
        self._prints_, self._remembered_ = prints[order[first]], order[first]
        lengths = [x.shape[0] - size + 1 for x in series]
        inside = np.concatenate(
            [
                start + np.arange(length)
                for start, length in zip(self._starts_, lengths, strict=True)
            ]
        )
        numbers = np.full(len(anomaly), -1)
        numbers[inside] = np.arange(len(inside))
        neighbors = to_numpy(self._training_index_)[inside]
        self.profile_ = anomaly[inside]
        self.neighbors_ = np.where(neighbors < 0, -1, numbers[neighbors])

    def _honest_anomaly(self, X, y, anomaly, groups=None):
        """Return the anomaly (m,) of stretches without neighbours that overlap."""
        places = [np.arange(X.shape[0])[own] for own in self._honest_rows(X, groups)]
        lengths, size = [len(own) for own in places], self.window_size_
        folds = time_folds(lengths, size) or [[(0, 0, lengths[0])]]
        stretches = [part for fold in folds for part in sorted(fold)]
        reference, reach = self._reference(self._series_), self._reach()
        asked = np.zeros(reference[0].n_windows, dtype=bool)
        for i, a, b in stretches:
            first, last = max(0, a - reach), min(lengths[i] - size + 1, b + reach)
            asked[self._starts_[i] + first : self._starts_[i] + last] = True
        rows = like(np.flatnonzero(asked), self._series_, dtype="keep")
        apart = copy.copy(self)
        apart._training_index_ = namespace(rows).full_like(self._training_index_, -1)
        apart._training_index_[rows] = self._join(
            reference, reference, self.n_neighbors, exclusion=size - 1, rows=rows
        )
        parts = [apart._stretch_anomaly(X, places[i], a, b) for i, a, b in stretches]
        return namespace(parts[0]).concat(parts)

    def _check_windows(self, series):
        size, exclusion = self.window_size_, -(-self.window_size_ // 4)
        n_windows = sum(x.shape[0] - size + 1 for x in series)
        if n_windows - 2 * exclusion - 1 < self.n_neighbors:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} with window_size={size} needs "
                f"{self.n_neighbors + 2 * exclusion + size} time steps, X has "
                f"{sum(x.shape[0] for x in series)}."
            )

    def _describe(self, reference):
        """Return anomalies and fingerprints (w,) of the training windows."""
        views = sliding(self._series_.T, self.window_size_)
        xp = namespace(views)
        anomaly, prints = [], []
        for rows in slices(views.shape[0], tile_side(views)):
            index = self._training_index_[rows]
            anomaly.append(self._parts(reference, reference, index, rows)[1])
            prints.append(fingerprints(views[rows]))
        return to_numpy(xp.concat(anomaly)), to_numpy(xp.concat(prints))

    def _neighbors(self, windows, query, reference):
        """Return the k-th nearest training windows of a block (b, l, c), (b, p)."""
        xp = namespace(windows)
        same = self._recall(windows)
        index = like(self._training_index_, windows, dtype="keep")[
            xp.where(same < 0, 0, same)
        ]
        if self._changed_ is not None:
            prints, own = self._changed_
            asked = fingerprints(windows)
            at = xp.clip(xp.searchsorted(prints, asked), 0, prints.shape[0] - 1)
            (found,) = xp.nonzero((same < 0) & (prints[at] == asked))
            index[found] = own[at[found]]
            same[found] = 0
        (fresh,) = xp.nonzero(same < 0)
        if fresh.shape[0] == same.shape[0]:
            return self._join(query, reference, self.n_neighbors)
        if fresh.shape[0]:
            index[fresh] = self._join(
                self._queries(windows[fresh]), reference, self.n_neighbors
            )
        return index

    def _recall(self, windows):
        """Return which training window each of a block equals, (b,); -1 for none."""
        xp = namespace(windows)
        known = like(self._prints_, windows, dtype="keep")
        prints = fingerprints(windows)
        at = xp.clip(xp.searchsorted(known, prints), 0, known.shape[0] - 1)
        found = like(self._remembered_, windows, dtype="keep")[at]
        (alike,) = xp.nonzero(known[at] == prints)
        training = sliding(like(self._series_, windows).T, self.window_size_)
        # two windows may share a fingerprint by chance
        known, asked = training[found[alike]], windows[alike]
        equal = (known == asked) | (xp.isnan(known) & xp.isnan(asked))
        alike = alike[xp.all(xp.all(equal, axis=2), axis=1)]
        same = xp.full(found.shape, -1, dtype=xp.int64, device=device_of(windows))
        same[alike] = found[alike]
        return same

    def _seen_as(self, x):
        """Return what scores a prepared series (t, c): itself, or apart for a copy.

        A series most of whose windows are training windows, at one distance, is the
        training series with changes. Its changed windows are no neighbours of their
        originals either, or they would pass for normal.
        """
        size = self.window_size_
        if x.shape[0] < size:
            return self
        views, xp = sliding(x, size), namespace(x)
        parts = slices(views.shape[0], tile_side(views))
        same = to_numpy(xp.concat([self._recall(views[rows]) for rows in parts]))
        lags = (same - np.arange(len(same)))[same >= 0]
        if len(lags) == 0 or len(lags) == len(same):
            return self
        values, counts = np.unique(lags, return_counts=True)
        lag = int(values[counts.argmax()])
        if 2 * counts.max() < len(same):
            return self
        first = int(np.flatnonzero(same >= 0)[0]) + lag
        own = int(np.searchsorted(self._starts_, first, "right")) - 1
        begin = self._starts_[own]
        end = [*self._starts_, self._series_.shape[1] + 1][own + 1] - 1
        changed = np.flatnonzero(same < 0)
        changed = changed[(changed + lag >= begin) & (changed + lag + size <= end)]
        if len(changed) == 0:
            return self
        warnings.warn(
            f"X is the training series but for {len(changed)} of its {len(same)} "
            "windows, which are compared with all training windows but those near "
            "their own place, as in fit.",
            stacklevel=7,
        )
        series = like(self._series_, x)
        whole = series + 0.0  # a copy
        start, stop = max(begin, lag), min(end, lag + x.shape[0])
        whole[:, start:stop] = x[start - lag : stop - lag].T
        index = self._join(
            [unit_windows(values, size) for values in whole],
            self._reference(x),
            self.n_neighbors,
            exclusion=self._exclusion,
            rows=like(changed + lag, x, dtype="keep"),
        )
        prints = fingerprints(views[like(changed, x, dtype="keep")])
        order = xp.argsort(prints)
        apart = copy.copy(self)
        apart._changed_ = prints[order], index[order]
        return apart

    def _window_inspect(self, windows):
        query, reference = self._queries(windows), self._reference(windows)
        index = self._neighbors(windows, query, reference)
        maps, anomaly = self._parts(query, reference, index)
        return anomaly, maps

    def _window_anomaly(self, windows):
        return self._window_inspect(windows)[0]

    def _window_map(self, windows):
        return self._window_inspect(windows)[1]

    def _anomaly_from(self, x, begin):
        x = self._prepared(x)
        return super(MatrixProfile, self._seen_as(x))._anomaly_from(x, begin)

    def _inspect(self, x):
        x = self._prepared(x)
        return super(MatrixProfile, self._seen_as(x))._inspect(x)

    def _map(self, x):
        x = self._prepared(x)
        return super(MatrixProfile, self._seen_as(x))._map(x)
