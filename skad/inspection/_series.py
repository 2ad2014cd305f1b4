"""Series drawn with their scores; matplotlib is imported to draw."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skad._array import to_numpy
from skad._needed import need
from skad._times import read_times
from skad.inspection._inspected import inspected, last_step
from skad.inspection._plots import ANOMALY_COLOR, NORMAL_COLOR, new_axes, paint
from skad.metrics._runs import runs

TRUE_COLOR = "#009e73"  # Okabe and Ito's bluish green, as masks of pictures have it

_PIXELS = 1000  # a line is drawn through the extremes of so many stretches at most
_CHANNELS = 4  # that are drawn unless told otherwise


def extremes(values, n_stretches):
    """Return the indices of the least and the largest value of each stretch.

    A line through these steps looks as one through all: no peak is lost.

    Parameters
    ----------
    values : array of shape (t,)
        The series.
    n_stretches : int
        How many stretches of equal length; with at most twice as many steps all are
        returned.

    Returns
    -------
    indices : ndarray of shape (m,)
        In order, at most two of each stretch, with the first and the last step.
    """
    n_steps = len(values)
    if n_steps <= 2 * n_stretches:
        return np.arange(n_steps)
    length = -(-n_steps // n_stretches)
    whole = n_steps // length * length
    parts = values[:whole].reshape(-1, length)
    starts = np.arange(len(parts)) * length
    found = [[0, n_steps - 1], starts + _nan_free(parts, np.argmin, np.inf)]
    found.append(starts + _nan_free(parts, np.argmax, -np.inf))
    if whole < n_steps:
        rest = values[None, whole:]
        found.append(whole + _nan_free(rest, np.argmin, np.inf))
        found.append(whole + _nan_free(rest, np.argmax, -np.inf))
    return np.unique(np.concatenate(found))


def _nan_free(parts, function, instead):
    return function(np.where(np.isnan(parts), instead, parts), axis=1)


@dataclass
class SeriesDisplay:
    """Channels of a series above its score, with the flagged stretches shaded.

    Long series are drawn through the extremes of short stretches, so that no peak is
    lost and the drawing does not grow with the series.

    Parameters
    ----------
    X : array of shape (n_timesteps, n_channels)
        The series.
    score : array of shape (n_timesteps,)
        Higher is more normal, as `score_samples` returns it.
    threshold : float or None, default=None
        The score below which a time step is an anomaly; None shades nothing.
    maps : array of shape (n_timesteps, n_channels) or None, default=None
        The anomaly map, which says which channels matter.
    y : array of shape (n_timesteps,) or None, default=None
        1 normal, -1 anomaly, where it is known.
    time : array of shape (n_timesteps,) or None, default=None
        Numbers, dates or durations along the axis, or text of these as files have it;
        None counts the steps. Dates with a time zone are drawn in UTC.
    names : list of str or None, default=None
        What the channels are called; x0, x1, ... if None.

    Attributes
    ----------
    figure_ : matplotlib Figure
        What `plot` drew.
    axes_ : ndarray of Axes of shape (n_panels,)
        The panels: channels, and the score as the last one.
    channels_ : list of int
        The channels that were drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.inspection import SeriesDisplay
    >>> from skad.series import SubsequenceKNN
    >>> X = np.sin(np.arange(300) / 3)[:, None]
    >>> detector = SubsequenceKNN(window_size=20, contamination=0.01).fit(X)
    >>> X[150:160] = 0
    >>> display = SeriesDisplay.from_estimator(detector, X)
    >>> len(display.axes_), display.channels_
    (2, [0])
    """

    X: Any
    score: Any
    threshold: float | None = None
    maps: Any = None
    y: Any = None
    time: Any = None
    names: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        y=None,
        time=None,
        day_first=None,
        names=None,
        groups=None,
        ax=None,
        **options,
    ):
        """Draw a series and what a fitted detector says of it.

        Parameters
        ----------
        estimator : estimator
            A fitted detector, or a pipeline that ends in one.
        X : array-like or tensor of shape (n_timesteps, n_channels)
            The series. Of a pandas frame the index is the time.
        y : array-like of shape (n_timesteps,) or None, default=None
            1 normal, -1 anomaly, where it is known.
        time : array-like of shape (n_timesteps,) or None, default=None
            Numbers, dates or durations along the axis, or text of these as files have
            it; None counts the steps.
        day_first : bool or None, default=None
            Whether 01.02.2015 is in February; None takes what some row settles.
        names : list of str or None, default=None
            What the channels are called; the columns of a frame if None.
        groups : array-like of shape (n_timesteps,) or None, default=None
            Which series each row belongs to, for detectors on series.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : SeriesDisplay
            What was drawn.
        """
        need("matplotlib", cls.__name__)
        grouped = {} if groups is None else {"groups": groups}
        found = inspected(estimator, X, **grouped)
        return cls.from_predictions(
            X,
            found.scores,
            threshold=float(last_step(estimator).offset_),
            maps=found.maps,
            y=y,
            time=time,
            day_first=day_first,
            names=names,
            ax=ax,
            **options,
        )

    @classmethod
    def from_predictions(
        cls,
        X,
        score,
        *,
        threshold=None,
        maps=None,
        y=None,
        time=None,
        day_first=None,
        names=None,
        ax=None,
        **options,
    ):
        """Draw a series and its scores.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, n_channels)
            The series, or (n_timesteps,) for one channel. Of a pandas frame the index
            is the time.
        score : array-like of shape (n_timesteps,)
            Higher is more normal.
        threshold : float or None, default=None
            The score below which a time step is an anomaly; None shades nothing.
        maps : array-like of shape (n_timesteps, n_channels) or None, default=None
            The anomaly map, which says which channels matter.
        y : array-like of shape (n_timesteps,) or None, default=None
            1 normal, -1 anomaly, where it is known.
        time : array-like of shape (n_timesteps,) or None, default=None
            Numbers, dates or durations along the axis, or text of these as files have
            it; None counts the steps.
        day_first : bool or None, default=None
            Whether 01.02.2015 is in February; None takes what some row settles.
        names : list of str or None, default=None
            What the channels are called; the columns of a frame if None.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : SeriesDisplay
            What was drawn.
        """
        if names is None and hasattr(X, "columns"):
            names = [str(name) for name in X.columns]
        if (
            time is None
            and getattr(getattr(X, "index", None), "dtype", None) is not None
        ):
            time = X.index
        X = np.asarray(to_numpy(X))
        X = X[:, None] if X.ndim == 1 else X
        given = {"score": score, "maps": maps, "y": y}
        arrays = {
            name: None if value is None else np.asarray(to_numpy(value))
            for name, value in given.items()
        }
        arrays["time"] = None if time is None else _drawn(time, day_first)
        for name, array in arrays.items():
            if array is not None and len(array) != len(X):
                raise ValueError(f"X has {len(X)} time steps, {name} has {len(array)}.")
        if names is not None and len(names) != X.shape[1]:
            raise ValueError(f"X has {X.shape[1]} channels, names has {len(names)}.")
        display = cls(X, threshold=threshold, names=names, **arrays)
        return display.plot(ax, **options)

    def plot(self, ax=None, *, channels=None, rows=None, ink="black"):
        """Draw the series on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw: an axes for each channel and one for the score; or a single
            one, on which the score is drawn.
        channels : sequence of int or None, default=None
            The channels that are drawn, in this order. None is the four whose map is
            largest over the flagged steps, in the order they have in `X`; with fewer
            axes fewer.
        rows : slice or None, default=None
            The time steps that are drawn; None is all.
        ink : color, default="black"
            Colour of lines and text.

        Returns
        -------
        self : SeriesDisplay
            With `figure_`, `axes_` and `channels_`.
        """
        rows = slice(None) if rows is None else rows
        most = _CHANNELS if ax is None else np.size(ax) - 1
        self.channels_ = (
            self._strongest(most) if channels is None else [int(j) for j in channels]
        )
        axes = self._axes(ax)
        time, is_date = self._time(rows)
        for j, panel in zip(self.channels_, axes[:-1], strict=True):
            _draw_line(panel, time, self.X[rows, j], NORMAL_COLOR)
            _write_name(panel, self._name(j), ink)
        score = self.score[rows]
        _draw_line(axes[-1], time, score, ink)
        _write_name(axes[-1], "score", ink)
        if self.threshold is not None:
            axes[-1].axhline(self.threshold, color=ink, linestyle="--", linewidth=1)
        for panel in axes:  # old releases of matplotlib make room for what is shaded
            panel.set_ylim(panel.get_ylim())
        if self.threshold is not None:
            for panel in axes:
                _shade(panel, time, score < self.threshold)
        if self.y is not None:
            for panel in axes:
                _mark(panel, time, self.y[rows] == -1)
        for panel in axes:
            panel.margins(x=0)
            paint(panel, ink)
        for panel in axes[:-1]:
            panel.tick_params(labelbottom=False)
        if is_date:
            _write_dates(axes, ink)
        elif self.time is None:
            axes[-1].set_xlabel("time step", fontsize=9)
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _strongest(self, most):
        """Return the channels with the largest map over the flagged steps."""
        if self.maps is None or self.X.shape[1] <= most:
            return list(range(min(most, self.X.shape[1])))
        flagged = np.zeros(len(self.score), dtype=bool)
        if self.threshold is not None:
            flagged = self.score < self.threshold
        maps = self.maps[flagged] if flagged.any() else self.maps
        order = np.argsort(-maps.mean(axis=0), kind="stable")
        return sorted(order[:most].tolist())

    def _axes(self, ax):
        n_panels = len(self.channels_) + 1
        if ax is None:
            size = 6.4, 0.6 + 1.05 * n_panels
            ax = new_axes(n_panels, 1, size=size, sharex=True, squeeze=False)
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != n_panels:
            raise ValueError(
                f"ax has {len(axes)} axes; {n_panels - 1} channels and the score need "
                f"{n_panels}."
            )
        return axes

    def _time(self, rows):
        """Return the time as numbers (t,), and whether they stand for dates."""
        if self.time is None:
            return np.arange(len(self.score))[rows], False
        time = _drawn(self.time)[rows]
        if time.dtype.kind != "M":
            return time, False
        from matplotlib.dates import date2num

        return date2num(time), True

    def _name(self, j):
        name = f"x{j}" if self.names is None else str(self.names[j])
        return name if len(name) <= 60 else name[:59] + "\N{HORIZONTAL ELLIPSIS}"


def _drawn(time, day_first=None):
    """Return times as numbers or datetimes (t,)."""
    if not hasattr(getattr(time, "dtype", None), "tz"):  # pandas' dates with a zone
        time = to_numpy(time)
    return read_times(time, day_first=day_first).drawn()


def _write_name(panel, name, ink):
    # above: there a long name has room
    panel.set_title(
        name, loc="left", fontsize=8.5, color=ink, pad=2.5, parse_math=False
    )


def _draw_line(panel, time, values, color):
    at = extremes(values, _PIXELS)
    panel.plot(time[at], values[at], color=color, linewidth=0.9)


def _spans(time, flags):
    """Return the begin and the length of each stretch that can be told apart."""
    if len(flags) > 2 * _PIXELS:  # join what lies within a stretch of the drawing
        length = -(-len(flags) // _PIXELS)
        padded = np.pad(flags, (0, -len(flags) % length)).reshape(-1, length)
        flags = np.repeat(padded.any(axis=1), length)[: len(flags)]
    starts, stops = runs(flags)
    half = float(np.diff(time).min()) / 2 if len(time) > 1 else 0.5
    begin, end = time[starts] - half, time[stops - 1] + half
    return list(zip(begin.tolist(), (end - begin).tolist(), strict=True))


def _shade(panel, time, flags):
    spans = _spans(time, flags)
    if not spans:
        return
    panel.broken_barh(
        spans,
        (0, 1),
        transform=panel.get_xaxis_transform(),
        facecolor=ANOMALY_COLOR,
        edgecolor=ANOMALY_COLOR,  # so that a single step can be seen in a long series
        linewidth=0.6,
        alpha=0.32,
        zorder=0,
    )


def _mark(panel, time, flags):
    spans = _spans(time, flags)
    if not spans:
        return
    panel.broken_barh(
        spans,
        (0.95, 0.05),
        transform=panel.get_xaxis_transform(),
        facecolor=TRUE_COLOR,
        edgecolor=TRUE_COLOR,
        linewidth=0.8,
    )


def _write_dates(axes, ink):
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    for panel in axes:
        locator = AutoDateLocator(minticks=3, maxticks=7)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes[-1].xaxis.get_offset_text().set(color=ink, fontsize=8)
