"""Detectors that look at windows of a series and fold back to its time steps.

`WindowedDetector` is for any method over windows, networks too: what it writes is
`_fit_windows(series, labels)` with `self.window_size_` set, and either
`_window_map(windows)` of shape (b, l, c) whose sum over a window is the window's
anomaly, or `_window_anomaly(windows)` of shape (b,) with a `_window_map`. Both get
blocks (b, l, c), views of the series. `WindowLift` writes these for a detector on
vectors, which a method returns from `_head()`.
"""

import warnings
from contextlib import nullcontext
from numbers import Integral

import numpy as np
from sklearn import config_context
from sklearn.base import clone

from skad._array import device_of, is_torch, like, namespace, slices, to_numpy
from skad._members import (
    anomaly_of,
    both_of,
    fit_within,
    map_of,
    without_threshold,
)
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.embedding._period import NO_PERIOD, period_of
from skad.embedding._windows import (
    cut,
    cut_causal,
    evenly,
    last_ended,
    nearest,
    sliding,
    spread_mean,
    standardised,
    strongest,
)
from skad.series._base import SeriesDetector
from skad.series._folding import MeanMaps, PickedMaps, StrongestMaps

# Elements of the windows that max_windows="auto" learns from: 256 MB of float64.
_FIT_ELEMENTS = 2**25

# Windows that are chosen: long enough for a shape, and short enough for a network.
_SHORTEST_WINDOW, _LONGEST_WINDOW = 50, 400
# Series with so many of the steps hold three windows.
_MOST_STEPS = 0.9


@with_parameters
class WindowedDetector(SeriesDetector):
    """Base of methods over windows: cuts series, folds scores and maps back.

    Parameters
    ----------
    window_size : int, "auto" or "tsb", default="auto"
        Steps `l` of a window. "auto" is the period of the training series (see
        :func:`skad.embedding.dominant_period`), at least 50 and at most 400, and 125
        with a warning where they have none. It is no more than a third of the series
        that hold nine tenths of the steps. "tsb" is TSB-AD's rule, for its figures.
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

    window_size: int | str = "auto"
    stride: int = 1
    align: str = "mean"

    _parameter_constraints = {
        "window_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto", "tsb"}),
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

    def _window_inspect(self, windows):
        """Return the anomaly (b,) and the map (b, l, c) of a block, from one pass."""
        maps = self._window_map(windows)
        if type(self)._window_anomaly is WindowedDetector._window_anomaly:
            return namespace(windows).sum(maps, axis=(1, 2)), maps
        return self._window_anomaly(windows), maps

    def _row_elements(self):
        return 4 * self.n_features_in_ * self.window_size_

    # ----------------------------------------------------------------- series, and back

    def _min_steps(self):
        return self.window_size_, f"window_size={self.window_size_}"

    def _fewest_scored(self):
        # before its first step a series that streams is taken to have been constant
        return 1 if self._streams() else self.window_size_

    def _reach(self):
        return self.window_size_ + self.stride

    def _known_settings(self):
        return {"window_size": self.window_size_}

    def _streams(self):
        return self.align == "end"

    def _past_steps(self, n_seen):
        first = max(0, n_seen - (self.window_size_ + self.stride - 2))
        return n_seen - first // self.stride * self.stride  # windows keep their phase

    def _settle(self, series):
        self.window_size_ = self.window_size
        if isinstance(self.window_size, str):
            self.window_size_ = self._found_window(series)

    def _found_window(self, series):
        """Return the window that suits the series (t, c)."""
        lengths = np.sort([x.shape[0] for x in series])[::-1]
        most_steps = np.cumsum(lengths) >= _MOST_STEPS * lengths.sum()
        # a window needs others that do not overlap it
        longest = max(1, int(lengths[most_steps.argmax()]) // 3)
        if self.window_size == "tsb":
            return min(period_of(series, "tsb") or NO_PERIOD, longest)
        period = period_of(series)
        if period is None:
            size = min(NO_PERIOD, longest)
            if not self._is_copy:
                warnings.warn(
                    f"The series have no period that could be seen: window_size='auto' "
                    f"is {size} steps. Pass how many steps belong together.",
                    stacklevel=8,
                )
            return size
        return min(max(period, _SHORTEST_WINDOW), _LONGEST_WINDOW, longest)

    def _fit_series(self, series, labels):
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

    def _of_steps(self, anomaly, x, pieces, begin=0):
        """Return the anomaly of the steps from `begin` on, from those of windows."""
        size, n_steps = self.window_size_, len(x)
        if self.align == "mean":
            return spread_mean(anomaly, pieces, size, n_steps)
        if self.align == "max":
            winners = strongest(anomaly, pieces, size, n_steps)
        else:
            winners = self._winners(x, pieces, begin)
        return anomaly[like(winners, anomaly, dtype="keep")]

    def _winners(self, x, pieces, begin=0):
        """Return the one window that each step takes, wherever that is settled."""
        if self.align == "end":
            return last_ended(self.stride, begin, len(x))
        return nearest(pieces, self.window_size_, len(x))

    def _anomaly(self, x):
        return self._anomaly_from(x, 0)

    def _anomaly_from(self, x, begin):
        pieces = self._cut(x, begin)
        return self._of_steps(self._anomalies(x, pieces), x, pieces, begin)

    def _map(self, x):
        if self.align == "max":  # which window a step takes is in the anomalies
            return WindowedDetector._inspect(self, x)[1]
        pieces = self._cut(x)
        maps = self._folded(x, pieces)
        self._visit(self._window_map_alone, x, pieces, maps.add)
        return maps.result()

    def _inspect(self, x):
        pieces = self._cut(x)
        maps = self._folded(x, pieces)
        anomaly = self._visit(self._window_inspect, x, pieces, maps.add)
        return self._of_steps(anomaly, x, pieces), maps.result()

    def _folded(self, x, pieces):
        """Return what makes the map of the steps (t, c) from those of windows."""
        size = self.window_size_
        if self.align == "mean":
            return MeanMaps(x, pieces, size)
        if self.align == "max":
            return StrongestMaps(x, pieces, size)
        return PickedMaps(x, pieces, size, self._winners(x, pieces))

    def _visit(self, function, x, pieces, visit):
        """Call `visit(maps, i, first, anomaly)` for blocks of windows of piece i.

        `function` returns anomalies (b,) and maps (b, l, c) of a block. All anomalies
        (n,) are returned.
        """
        parts = []
        for i, piece in enumerate(pieces):
            first = 0

            # networks come before the block; the maps of all windows are never kept
            def visited(*block, i=i):
                nonlocal first
                anomaly, maps = function(*block)
                visit(like(maps, x), i, first, anomaly)
                first += len(maps)
                return anomaly

            parts.append(self._in_blocks(visited, piece.windows))
        return namespace(parts[0]).concat(parts)

    def _window_map_alone(self, *block):
        """Return what stands for the anomaly, and the map, of a block of windows."""
        maps = self._window_map(*block)
        return maps[:, 0, 0], maps


def most_windows(asked, n_elements):
    """Return how many windows of some elements `asked` is, a number or "auto"."""
    return max(2, _FIT_ELEMENTS // n_elements) if asked == "auto" else asked


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
    max_windows: int | str = "auto"
    batch_size: int | None = None

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
        vectors, labels, places = self._gathered(series, labels)
        self.detector_ = self._fit_head(self._head(), vectors, labels, places)

    def _gathered(self, series, labels):
        """Return the windows to learn from, (n, l * c), and their labels (n,).

        Third are the steps (n,) at which they start, series after series and further
        apart than windows are long.
        """
        size, stride, x = self.window_size_, self.stride, series[0]
        n_elements = size * x.shape[1]
        counts = [(len(x) - size) // stride + 1 for x in series]
        if sum(counts) < 2:
            raise ValueError(
                f"X has {len(x)} time steps, only one window of window_size={size} "
                f"with stride={stride}; at least two are needed."
            )
        picked = evenly(counts, most_windows(self.max_windows, n_elements))
        n = sum(map(len, picked))
        xp = namespace(x)
        vectors = xp.empty((n, n_elements), dtype=x.dtype, device=device_of(x))
        window_labels = None if labels is None else np.empty(n, dtype=np.int64)
        places, begin, stop = np.empty(n, dtype=np.int64), 0, 0
        for i, x in enumerate(series):
            windows = sliding(x, size, stride)
            first, stop = stop, stop + len(picked[i])
            places[first:stop] = begin + picked[i] * stride
            begin += x.shape[0] + 1
            for part in slices(stop - first, self._block_rows(device_of(x))):
                rows = slice(first + part.start, first + part.stop)
                own = like(picked[i][part], x, dtype="keep")
                vectors[rows] = self._vectors(windows[own])
                if labels is not None:
                    known = sliding(labels[i][:, None], size, stride)[to_numpy(own)]
                    # anomalous with any step that is, normal with all that are
                    window_labels[rows] = known.min(axis=(1, 2))
        return vectors, window_labels, places

    def _knowing(self, head, places):
        """Return a context in which the head knows where windows (n,) start."""
        return nullcontext()

    def _fit_head(self, head, vectors, labels, places):
        """Return the head, fitted on windows as vectors (n, l * c)."""
        head = without_threshold(clone(head))
        if hasattr(head, "set_output"):
            head.set_output(transform="default")
        vectors = for_head(vectors, head)
        context = self._subtask("fit detector")
        try:
            # outer parameters are checked by now, the head's are not
            checked = config_context(skip_parameter_validation=False)
            with checked, self._knowing(head, places):
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
        vectors = self._with_map(windows)
        return self._window_shaped(map_of(self.detector_, vectors), windows)

    def _window_inspect(self, windows):
        anomaly, maps = both_of(self.detector_, self._with_map(windows))
        return anomaly, self._window_shaped(maps, windows)

    def _with_map(self, windows):
        """Return the vectors of windows for a detector that has a map."""
        name = type(self.detector_).__name__
        if not hasattr(self.detector_, "transform"):
            raise AttributeError(
                f"{name} has no anomaly map, only scores; for maps, take a detector of "
                "skad."
            )
        return for_head(self._vectors(windows), self.detector_)

    def _window_shaped(self, maps, windows):
        """Return maps of vectors (b, l * c) as those of windows (b, l, c)."""
        n_elements = windows.shape[1] * windows.shape[2]
        if maps.shape != (len(windows), n_elements):
            name = type(self.detector_).__name__
            raise ValueError(
                f"{name} has a map of {maps.shape[1]} elements for the {n_elements} of "
                "a window: there is no way back to time steps."
            )
        return maps.reshape(windows.shape)
