"""From flagged time steps to events: stretches with a beginning, an end and a peak."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from skad._array import to_numpy
from skad._gaps import USUAL, after_gaps, is_irregular
from skad._grouped import series_rows
from skad._times import read_times
from skad.metrics._runs import runs

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|min|h|d)")
_NANOSECONDS = {
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}


@dataclass(frozen=True)
class Event:
    """A stretch of flagged steps of one series.

    Parameters
    ----------
    start, end, peak : int
        Rows of its first, its last and its most anomalous step.
    n_steps : int
        Its steps from the first to the last, those of gaps that were closed among them.
    score : float or None
        The score of the peak, as it was given.
    start_time, end_time, peak_time : object
        The times of these rows, where times were given.
    channels : list of str
        Where its mean map is largest; in findings only.
    anomaly : bool or None
        Whether any of its steps is one by the labels; in findings only.
    """

    start: int
    end: int
    peak: int
    n_steps: int
    score: float | None = None
    start_time: Any = None
    end_time: Any = None
    peak_time: Any = None
    channels: tuple | list = ()
    anomaly: bool | None = None


def to_events(
    labels,
    anomaly_score=None,
    *,
    groups=None,
    times=None,
    merge_gap=0,
    min_duration=0,
    longest_step=USUAL,
):
    """Return the events that flagged time steps make up, in order of time.

    Stretches of flagged steps with few normal ones between them become one; then those
    that are too short are left out. No event runs from one series to another, nor over
    a gap in `times`, unless `merge_gap` is a time that is as long.

    Parameters
    ----------
    labels : array-like of shape (n_timesteps,)
        Predictions, -1 an alarm and 1 normal, or booleans with True an alarm.
    anomaly_score : array-like of shape (n_timesteps,), default=None
        Higher = more anomalous. The peak of an event is its flagged step with the
        highest; without scores it is the first.
    groups : array-like of shape (n_timesteps,), default=None
        Which series each step belongs to; no event crosses from one to another.
    times : array-like of shape (n_timesteps,), default=None
        Dates, durations, numbers, or text of these, in order within each series.
    merge_gap : int, timedelta or str, default=0
        What lies between two stretches that become one: a number is the most normal
        steps, a duration such as "30min" the longest time from the last flagged step
        of the one to the first of the other. Units are ms, s, min, h and d.
    min_duration : int, timedelta or str, default=0
        How long an event is at least: a number of steps, or a time from its first step
        to its last.
    longest_step : float or None, default=1.5
        Where the next step comes later than so many median steps (of all series) the
        times have a gap, as in :func:`skad.series.split_at_gaps`. Where more than a
        tenth of the steps do there is no regular step, and so no gap. None is no gap
        either, so that only the order of steps counts.

    Returns
    -------
    events : list of Event
        Of several series one after the other, in the order in which their last rows
        come.

    Examples
    --------
    >>> from skad.calibration import to_events
    >>> labels = [1, -1, -1, 1, -1, 1, 1, 1, -1, 1]
    >>> score = [0, 2, 3, 0, 5, 0, 0, 1, 4, 0]
    >>> for event in to_events(labels, score, merge_gap=1, min_duration=2):
    ...     event.start, event.end, event.peak, event.score
    (1, 4, 4, 5.0)
    >>> times = [f"10:{minute:02}" for minute in range(10)] + ["11:00", "11:01"]
    >>> for event in to_events([-1] * 12, times=times):
    ...     print(event.start_time, event.end_time)
    10:00 10:09
    11:00 11:01
    """
    flagged = _flagged(labels)
    n = len(flagged)
    score = None
    if anomaly_score is not None:
        score = np.asarray(to_numpy(anomaly_score), dtype=np.float64)
        if score.shape != (n,):
            raise ValueError(
                f"anomaly_score has shape {score.shape}, labels have {n} steps."
            )
    when, texts = None, None
    if times is not None:
        read = read_times(times)
        if len(read) != n:
            raise ValueError(f"times has {len(read)} values, labels have {n} steps.")
        dates = read.dates()
        when, texts = read.values if dates is None else dates, read.texts
    gap = _extent(merge_gap, "merge_gap", when)
    least = _extent(min_duration, "min_duration", when)
    events, series = [], series_rows(groups, n, "time step")
    late = np.zeros(n, dtype=bool)
    if when is not None and longest_step is not None:
        if not longest_step >= 1:
            raise ValueError(
                f"longest_step={longest_step} must be at least 1, a median step."
            )
        late = after_gaps(when, series, longest_step)
    for rows in series:
        rows = np.arange(n)[rows]
        for start, stop in _stretches(flagged, rows, when, gap, late):
            own = rows[start:stop]
            first, last = int(own[0]), int(own[-1])
            lasts = len(own) if isinstance(least, int) else when[last] - when[first]
            if lasts < least:
                continue
            alarms = own[flagged[own]]
            peak = int(alarms[0] if score is None else alarms[np.argmax(score[alarms])])
            known = (None,) * 3
            if texts is not None:
                known = tuple(texts[row] for row in (first, last, peak))
            value = None if score is None else float(score[peak])
            events.append(Event(first, last, peak, len(own), value, *known))
    return events


def _flagged(labels):
    labels = np.asarray(to_numpy(labels))
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}; one per step is needed.")
    if labels.dtype == bool:
        return labels
    known = np.isin(labels, (-1, 1))
    if not known.all():
        raise ValueError(
            f"labels hold {labels[~known].tolist()[0]!r}: pass 1 for normal steps and "
            "-1 for alarms, as `predict` returns them, or booleans with True an alarm."
        )
    return labels == -1


def _stretches(flagged, rows, when, gap, late):
    """Return (start, stop) of the stretches in the rows of a series, gaps closed.

    Of all steps (n,) are whether they are flagged, their times and whether they are
    late.
    """
    irregular = is_irregular(late)
    own, late = flagged[rows], late[rows]
    by_steps = isinstance(gap, int)
    if by_steps:
        holes = late if not irregular else np.zeros_like(late)
    else:
        # without a regular step any step that takes longer is a hole
        when = when[rows]
        holes = late | irregular
        holes[1:] &= when[1:] - when[:-1] > gap
    starts, stops = runs(own)
    # a hole between two flagged steps parts a run
    inner = np.flatnonzero(holes[1:] & own[1:] & own[:-1]) + 1
    starts = np.sort(np.concatenate([starts, inner]))
    stops = np.sort(np.concatenate([stops, inner]))
    if by_steps:
        n_holes = np.cumsum(holes)
        apart = starts[1:] - stops[:-1] > gap
        apart |= n_holes[starts[1:]] > n_holes[stops[:-1] - 1]
    else:
        apart = when[starts[1:]] - when[stops[:-1] - 1] > gap
    ends = np.ones(min(1, len(starts)), dtype=bool)
    first, last = np.concatenate([ends, apart]), np.concatenate([apart, ends])
    return list(zip(starts[first], stops[last], strict=True))


def _extent(value, name, when):
    """Return a number of steps as int, or a duration in the type of time differences.

    Parameters
    ----------
    value : object
        A number, timedelta or text.
    name : str
        What it is called.
    when : ndarray or None
        The times.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{name}={value}: must be at least 0.")
        return int(value)
    duration = parse_duration(value)
    if duration is None or duration < np.timedelta64(0, "ns"):
        raise ValueError(
            f"{name}={value!r}: must be a number of steps, or a duration such as "
            "'90s', '30min' or '1.5h'."
        )
    if when is None or when.dtype.kind not in "mM":
        raise ValueError(
            f"{name}={value!r}: is a duration, which needs times that are dates or "
            "durations; pass a number of steps."
        )
    return duration


def parse_duration(value):
    """Return a duration as timedelta64 in nanoseconds, or None where it is none."""
    if isinstance(value, timedelta | np.timedelta64):
        return np.timedelta64(value).astype("m8[ns]")
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    nanoseconds = round(float(found[1]) * _NANOSECONDS[found[2]])
    return np.timedelta64(nanoseconds, "ns")
