"""Detectors that look at windows of a series and fold back to its time steps.

`WindowedDetector` is for any method over windows, networks too: what it writes is
`_fit_windows(series, labels)` with `self.window_size_` set, and either
`_window_map(windows)` of shape (b, l, c) whose sum over a window is the window's
anomaly, or `_window_anomaly(windows)` of shape (b,) with a `_window_map`. Both get
blocks (b, l, c), views of the series. `WindowLift` writes these for a detector on
vectors, which a method returns from `_head()`.
"""

from numbers import Integral

import numpy as np
from sklearn import config_context
from sklearn.base import clone

from skad._array import device_of, is_torch, like, namespace, slices, to_numpy
from skad._members import anomaly_of, fit_within, map_of
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.embedding._windows import (
    Piece,
    coverage,
    cut,
    cut_causal,
    dominant_period,
    last_ended,
    nearest,
    reach,
    sliding,
    spread_mean,
    standardised,
    strongest,
)
from skad.series._base import SeriesDetector

# Elements of the windows that max_windows="auto" learns from: 256 MB of float64.
_FIT_ELEMENTS = 2**25


@with_parameters
class WindowedDetector(SeriesDetector):
    """Base of methods over windows: cuts series, folds scores and maps back.

    Parameters
    ----------
    window_size : int or "auto", default="auto"
        Steps `l` of a window. "auto" is the dominant period of the longest training
        series (see :func:`skad.embedding.dominant_period`), but no more than half of
        the shortest one.
    stride : int, default=1
        Steps between the starts of windows, in training and in scoring, at most
        `window_size`.
    align : {"mean", "center", "end", "max"}, default="mean"
        How windows give their anomaly to steps, see :class:`WindowDetector`. "end" is
        causal.

    Attributes
    ----------
    window_size_ : int
        Steps of a window.
    """

    window_size: object = "auto"
    stride: int = 1
    align: str = "mean"

    _parameter_constraints = {
        "window_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "align": [StrOptions({"mean", "center", "end", "max"})],
    }

    # ------------------------------------------------------------- what a method writes

    def _fit_windows(self, series, labels):
        """Learn from the windows of a list of series (t, c)."""
        raise NotImplementedError

    def _window_anomaly(self, windows):
        """Return how anomalous each window of a block (b, l, c) is, of shape (b,)."""
        return namespace(windows).sum(self._window_map(windows), axis=(1, 2))

    def _window_map(self, windows):
        """Return how anomalous each element of a block is, of shape (b, l, c)."""
        raise NotImplementedError

    def _row_elements(self):
        return 4 * self.n_features_in_ * self.window_size_

    # ----------------------------------------------------------------- series, and back

    def _min_steps(self):
        return self.window_size_, f"window_size={self.window_size_}"

    def _reach(self):
        return self.window_size_ + self.stride

    def _known_settings(self):
        return {"window_size": self.window_size_}

    def _streams(self):
        return self.align == "end"

    def _past_steps(self, n_seen):
        first = max(0, n_seen - (self.window_size_ + self.stride - 2))
        return n_seen - first // self.stride * self.stride  # windows keep their phase

    def _fit_series(self, series, labels):
        self.window_size_ = self.window_size
        if self.window_size == "auto":
            longest = max(series, key=len)
            least = min(map(len, series))
            # a window needs others of its size to be compared with
            self.window_size_ = max(1, min(dominant_period(longest), least // 2))
        self._check_lengths([len(x) for x in series])
        if self.stride > self.window_size_:
            raise ValueError(
                f"stride={self.stride} must be at most window_size="
                f"{self.window_size_}, or steps between windows would have no score."
            )
        return self._fit_windows(series, labels)

    def _cut(self, x, begin=0):
        if self.align == "end":
            return cut_causal(x, self.window_size_, self.stride, begin)
        return cut(x, self.window_size_, self.stride)

    def _anomalies(self, x, pieces):
        """Return the anomaly (n,) of the windows of all pieces of `x`."""
        parts = [
            self._in_blocks(self._window_anomaly, piece.windows) for piece in pieces
        ]
        return namespace(parts[0]).concat(parts)

    def _winners(self, x, pieces, begin=0, anomaly=None):
        """Return the window that each step takes its score from, of shape (t,)."""
        n_steps = len(x)
        if self.align == "end":
            return last_ended(self.stride, begin, n_steps)
        if self.align == "center":
            return nearest(pieces, self.window_size_, n_steps)
        if anomaly is None:
            anomaly = self._anomalies(x, pieces)
        return strongest(anomaly, pieces, self.window_size_, n_steps)

    def _anomaly(self, x):
        return self._anomaly_from(x, 0)

    def _anomaly_from(self, x, begin):
        pieces = self._cut(x, begin)
        anomaly = self._anomalies(x, pieces)
        if self.align == "mean":
            return spread_mean(anomaly, pieces, self.window_size_, len(x))
        winners = self._winners(x, pieces, begin, anomaly)
        return anomaly[like(winners, anomaly, dtype="keep")]

    def _map(self, x):
        pieces = self._cut(x)
        if self.align == "mean":
            return self._mean_map(x, pieces)
        return self._winners_map(x, pieces, self._winners(x, pieces))

    def _mean_map(self, x, pieces):
        """Return the window's length times the mean of the maps of a step, (t, c)."""
        total = namespace(x).zeros_like(x)

        def add(maps, i, first):
            piece = pieces[i]
            own = Piece(maps, piece.start + first * piece.stride, piece.stride)
            for step in range(self.window_size_):
                total[reach(own, step)] += maps[:, step]

        self._visit_maps(x, pieces, add)
        share = self.window_size_ / coverage(pieces, self.window_size_, len(x))
        return total * like(share, x)[:, None]

    def _winners_map(self, x, pieces, winners):
        """Return the window's length times a step's part in its window, (t, c)."""
        maps_of_steps = namespace(x).zeros_like(x)
        starts = np.concatenate([piece.starts() for piece in pieces])
        order = np.argsort(winners, kind="stable")
        ranked = winners[order]
        bounds = np.cumsum([0] + [len(piece.windows) for piece in pieces])

        def pick(maps, i, first):
            first = first + bounds[i]
            own = slice(*np.searchsorted(ranked, [first, first + len(maps)]))
            steps = order[own]
            window = winners[steps] - first
            # after the end of a causal window its last step stands for the next ones
            step = np.minimum(steps - starts[winners[steps]], self.window_size_ - 1)
            window, step, steps = (
                like(index, x, dtype="keep") for index in (window, step, steps)
            )
            maps_of_steps[steps] = self.window_size_ * maps[window, step]

        self._visit_maps(x, pieces, pick)
        return maps_of_steps

    def _visit_maps(self, x, pieces, visit):
        """Call `visit(maps, i, first)` for blocks of maps (b, l, c) of piece i."""
        for i, piece in enumerate(pieces):
            first = 0

            # networks come before the block; the maps of all windows are never kept
            def visited(*block, i=i):
                nonlocal first
                maps = like(self._window_map(*block), x)
                visit(maps, i, first)
                first += len(maps)
                return maps[:, 0, 0]

            self._in_blocks(visited, piece.windows)


def for_head(vectors, head):
    """Return vectors as `head` takes them: tensors only where it is one of skad's."""
    return vectors if isinstance(head, BaseDetector) else to_numpy(vectors)


@with_parameters
class WindowLift(WindowedDetector):
    """Base of methods that are a detector on vectors, carried to windows.

    Parameters
    ----------
    normalize : {"none", "z", "window"}, default="none"
        "z" brings each channel of each window to mean 0 and deviation 1, "window" all
        channels of it together.
    max_windows : int or "auto", default="auto"
        Training windows to keep, evenly taken; "auto" is as many as hold 2**25 values.
    batch_size : int or None, default=None
        Windows that are scored at a time; None bounds their memory.
    """

    normalize: str = "none"
    max_windows: object = "auto"
    batch_size: object = None

    _parameter_constraints = {
        "normalize": [StrOptions({"none", "z", "window"})],
        "max_windows": [
            Interval(Integral, 2, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _head(self):
        """Return the detector on vectors, unfitted."""
        raise NotImplementedError

    @property
    def _uses_labels(self):
        return getattr(self._head(), "_uses_labels", False)

    @property
    def _map_sums_to_score(self):
        # the score of a step is of whole windows, its map of the step alone
        head = getattr(self, "detector_", None)
        summed = getattr(head, "_map_sums_to_score", False)
        return summed and self.window_size_ == 1

    def _block_rows(self, device):
        return self.batch_size or super()._block_rows(device)

    def _vectors(self, windows):
        """Return windows (b, l, c) as vectors (b, l * c), one step after the other."""
        # products of overlapping views would be slow
        windows = windows.contiguous() if is_torch(windows) else windows.copy()
        if self.normalize != "none":
            windows = standardised(windows, together=self.normalize == "window")
        return windows.reshape(len(windows), -1)

    def _fit_windows(self, series, labels):
        vectors, labels = self._gathered(series, labels)
        self.detector_ = self._fit_head(self._head(), vectors, labels)

    def _gathered(self, series, labels):
        """Return the windows to learn from, (n, l * c), and their labels (n,)."""
        size, stride, x = self.window_size_, self.stride, series[0]
        n_elements = size * x.shape[1]
        counts = [(len(x) - size) // stride + 1 for x in series]
        bounds = np.cumsum([0, *counts])
        if bounds[-1] < 2:
            raise ValueError(
                f"X has {len(x)} time steps, only one window of window_size={size} "
                f"with stride={stride}; at least two are needed."
            )
        most = self.max_windows
        if most == "auto":
            most = max(2, _FIT_ELEMENTS // n_elements)
        n = min(int(bounds[-1]), most)
        picked = np.arange(n) * bounds[-1] // n  # evenly over all series
        xp = namespace(x)
        vectors = xp.empty((n, n_elements), dtype=x.dtype, device=device_of(x))
        window_labels = None if labels is None else np.empty(n, dtype=np.int64)
        for i, x in enumerate(series):
            windows = sliding(x, size, stride)
            first, stop = np.searchsorted(picked, bounds[i : i + 2])
            for part in slices(stop - first, self._block_rows(device_of(x))):
                rows = slice(first + part.start, first + part.stop)
                own = like(picked[rows] - bounds[i], x, dtype="keep")
                vectors[rows] = self._vectors(windows[own])
                if labels is not None:
                    known = sliding(labels[i][:, None], size, stride)[to_numpy(own)]
                    # anomalous with any step that is, normal with all that are
                    window_labels[rows] = known.min(axis=(1, 2))
        return vectors, window_labels

    def _fit_head(self, head, vectors, labels):
        """Return the head, fitted on windows as vectors (n, l * c)."""
        head = clone(head)
        if hasattr(head, "set_output"):
            head.set_output(transform="default")
        vectors = for_head(vectors, head)
        context = self._subtask("fit detector")
        try:
            # outer parameters are checked by now, the head's are not
            with config_context(skip_parameter_validation=False):
                return fit_within(context, self, head, vectors, labels)
        except ValueError as error:
            raise ValueError(
                f"{type(head).__name__} cannot be fitted on the {len(vectors)} windows "
                f"of window_size={self.window_size_}: {error}"
            ) from error

    def _window_anomaly(self, windows):
        vectors = for_head(self._vectors(windows), self.detector_)
        return anomaly_of(self.detector_, vectors)

    def _window_map(self, windows):
        name = type(self.detector_).__name__
        if not hasattr(self.detector_, "transform"):
            raise AttributeError(
                f"{name} has no anomaly map, only scores; for maps, take a detector of "
                "skad."
            )
        vectors = for_head(self._vectors(windows), self.detector_)
        maps = map_of(self.detector_, vectors)
        if maps.shape != vectors.shape:
            raise ValueError(
                f"{name} has a map of {maps.shape[1]} elements for the "
                f"{vectors.shape[1]} of a window: there is no way back to time steps."
            )
        return maps.reshape(windows.shape)
