"""What a detector says about series: scores of time steps, and the events in them."""

import csv
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skad._events import Event, to_events
from skad._gaps import USUAL
from skad._times import read_times
from skad.inspection._findings import (
    Findings,
    apart,
    detection_metrics,
    named_columns,
    open_text,
    timed,
    top_columns,
)
from skad.inspection._inspected import inspected, last_step
from skad.inspection._learned import learned_series
from skad.inspection._series import SeriesDisplay
from skad.metrics import event_f1, vus_pr

__all__ = ["Event", "SeriesFindings", "examine_series", "write_events"]

# Training steps that show how training scores are distributed, evenly spread.
_TRAINING_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class SeriesFindings(Findings):
    """What a fitted detector says about series; made by `examine_series`.

    Parameters
    ----------
    X : ndarray of shape (n, c)
        The test series; rows are time steps.
    maps : ndarray of shape (n, c)
        The anomaly map.
    feature_names : list of str
        One name per channel.
    time : Times or None
        Numbers, dates or durations, and their texts.
    time_name : str
        What the time is called.
    groups : array of shape (n,) or None
        Which series each row belongs to.
    group_name : str
        What the groups are called.
    series : list of ndarray
        The rows of each series, in order of time.
    events : list of Event
        The flagged stretches, most anomalous first.
    top_channels : ndarray of shape (n, k)
        Channels where each step is most anomalous.
    """

    unit = "time step"

    X: np.ndarray
    maps: np.ndarray
    feature_names: list
    time: Any
    time_name: str
    groups: Any
    group_name: str
    series: list
    events: list
    top_channels: np.ndarray

    def identity(self):
        """Return {column: values} of the time and of the groups."""
        time = None if self.time is None else self.time.texts
        columns = {self.time_name: time, self.group_name: self.groups}
        found = {name: values for name, values in columns.items() if values is not None}
        return super().identity() | found

    def places(self):
        """Return {column: values} of the channels where steps are most anomalous."""
        return named_columns("channel", self.feature_names, self.top_channels)

    def display(self, rows):
        """Return the display of some rows, which are of one series."""
        return SeriesDisplay(
            self.X[rows],
            self.score[rows],
            self.threshold,
            self.maps[rows],
            None if self.y is None else self.y[rows],
            rows if self.time is None else self.time.drawn()[rows],
            self.feature_names,
        )

    def when(self, row):
        """Return what a row is called: its time, or its number."""
        return str(row) if self.time is None else str(self.time.texts[row])


def examine_series(
    detector,
    X_train,
    X_test,
    *,
    groups_train=None,
    groups_test=None,
    y_train=None,
    y_test=None,
    time=None,
    day_first=None,
    time_name="time",
    group_name="group",
    feature_names=None,
    title="Series",
    name=None,
    n_top=3,
    merge_gap=0,
    min_duration=0,
    ids=None,
    id_name="id",
):
    """Fit a detector on series and gather what it says about others.

    Parameters
    ----------
    detector : estimator
        A detector on series, or a pipeline that ends in one.
    X_train, X_test : array of shape (n_timesteps, n_channels)
        Series to learn normality from, and series to look at.
    groups_train, groups_test : array of shape (n_timesteps,) or None, default=None
        Which series each row belongs to.
    y_train : array of shape (n_train,) or None, default=None
        Passed to `fit`.
    y_test : array of shape (n_test,) or None, default=None
        1 normal, -1 anomaly; gives the metrics.
    time : array of shape (n_test,) or None, default=None
        Numbers, dates or durations, or text of these as files have it, in order within
        each series. Tables show them as they are given.
    day_first : bool or None, default=None
        Whether 01.02.2015 is in February; None takes what some row settles.
    time_name : str, default="time"
        What the time is called in the table.
    group_name : str, default="group"
        What the groups are called in the table.
    feature_names : list of str or None, default=None
        One name per channel; x0, x1, ... if None.
    title : str, default="Series"
        What the data are called.
    name : str or None, default=None
        What the detector is called; the class of the last step if None.
    n_top : int, default=3
        How many channels are named per time step.
    merge_gap, min_duration : int, timedelta or str, default=0
        Which flagged steps make up one event, and how long an event is at least; see
        `skad.calibration.to_events`.
    ids : array of shape (n_test,) or None, default=None
        What the rows are called, for the table.
    id_name : str, default="id"
        What these names are called.

    Returns
    -------
    findings : SeriesFindings
        Everything that `write_report`, `write_scores` and `write_events` need.
    """
    if time is not None:  # before the long work
        time = _checked_time(time, day_first, X_test)
    learned = learn_series(detector, X_train, y_train, groups=groups_train, name=name)
    return look_at_series(
        learned,
        X_test,
        groups=groups_test,
        y_test=y_test,
        time=time,
        time_name=time_name,
        group_name=group_name,
        feature_names=feature_names,
        title=title,
        n_top=n_top,
        merge_gap=merge_gap,
        min_duration=min_duration,
        ids=ids,
        id_name=id_name,
    )


def learn_series(detector, X, y=None, *, groups=None, name=None):
    """Fit a detector; return what `look_at_series` needs. See `examine_series`."""
    most = _TRAINING_STEPS
    return learned_series(detector, X, y, groups=groups, name=name, most=most)


def look_at_series(
    learned,
    X_test,
    *,
    groups=None,
    stretches=None,
    y_test=None,
    time=None,
    day_first=None,
    time_name="time",
    group_name="group",
    feature_names=None,
    title="Series",
    n_top=3,
    merge_gap=0,
    min_duration=0,
    longest_step=USUAL,
    ids=None,
    id_name="id",
):
    """Gather what a `Learned` says about series. See `examine_series`.

    `stretches` (n,) are what the detector takes for `groups`, where gaps part these,
    and `longest_step` is that of `to_events`.
    """
    if feature_names is None:
        feature_names = [f"x{j}" for j in range(X_test.shape[1])]
    if time is not None:
        time = _checked_time(time, day_first, X_test)
    detector, threshold = learned.detector, learned.threshold
    last, new = last_step(detector), X_test
    if last is not detector:  # a pipeline's score_samples takes no groups
        new = detector[:-1].transform(X_test)
    parts = groups if stretches is None else stretches
    params = {} if parts is None else {"groups": parts}
    found, score_seconds = timed(inspected, last, new, **params)
    score, maps = found.scores, found.maps
    decision = score - threshold
    series = _series(groups, len(X_test))
    stretches = to_events(
        np.where(decision < 0, -1, 1),
        -score,
        groups=groups,
        times=time,
        merge_gap=merge_gap,
        min_duration=min_duration,
        longest_step=longest_step,
    )
    events = _told(stretches, series, score, maps, feature_names, y_test)
    metrics = {} if y_test is None else detection_metrics(y_test, decision)
    if metrics:
        metrics |= _series_metrics(learned.window, series, y_test, score, decision)
    return SeriesFindings(
        **learned.found(score),
        title=title,
        y=y_test,
        shown=np.array([event.peak for event in events], dtype=np.int64),
        score_seconds=score_seconds,
        metrics=metrics,
        X=X_test,
        maps=maps,
        feature_names=list(feature_names),
        time=time,
        time_name=time_name,
        groups=groups,
        group_name=group_name,
        series=series,
        events=events,
        top_channels=top_columns(maps, n_top),
        ids=ids,
        id_name=id_name,
    )


def write_events(path, findings):
    """Write a CSV file with one line per flagged stretch, most anomalous first.

    Parameters
    ----------
    path : str or Path
        The file.
    findings : SeriesFindings
        What `examine_series` gathered. The columns are the series where there are
        several, the rows of the first, the last and the most anomalous step, their
        times where they are known, the number of steps, the score of the peak, and the
        channels with the largest map.
    """
    has_time = findings.time is not None
    grouped = findings.groups is not None
    header = ["start", "end", "peak", "steps", "score", "channels"]
    header += ["start_time", "end_time", "peak_time"] if has_time else []
    header = ([apart(findings.group_name, header)] if grouped else []) + header
    with open_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for event in findings.events:
            rows = [event.start, event.end, event.peak]
            line = [findings.groups[event.start]] if grouped else []
            line += [*rows, event.n_steps, event.score, " ".join(event.channels)]
            line += [findings.when(row) for row in rows] if has_time else []
            writer.writerow(line)


def _series(groups, n_steps):
    """Return the rows of each series."""
    if groups is None:
        return [np.arange(n_steps)]
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    return [rows[k] for k in np.argsort(first)]


def _told(events, series, score, maps, names, y, n_channels=3):
    """Return events with channels and labels, most anomalous first."""
    found = []
    place = np.empty(len(score), dtype=np.intp)
    for k, rows in enumerate(series):
        place[rows] = k
    for event in events:
        rows = series[place[event.start]]
        own = rows[np.searchsorted(rows, event.start) :][: event.n_steps]
        mean = maps[own].mean(axis=0)
        top = np.argsort(-mean, kind="stable")[:n_channels]
        more = {
            "score": float(score[event.peak]),
            "channels": [names[j] for j in top if mean[j] > 0],
            "anomaly": None if y is None else bool((y[own] == -1).any()),
        }
        found.append(replace(event, **more))
    return sorted(found, key=lambda event: (event.score, event.start))


def _checked_time(time, day_first, X):
    time = read_times(time, day_first=day_first)
    if len(time) != len(X):
        raise ValueError(f"X_test has {len(X)} time steps, time has {len(time)}.")
    return time


def _series_metrics(window, series, y, score, decision):
    """Return metrics of series, means over those that have an anomaly."""
    marked = [rows for rows in series if (y[rows] == -1).any()]
    areas = [vus_pr(y[rows], -score[rows], window=window) for rows in marked]
    labels = np.where(decision < 0, -1, 1)
    found = [event_f1(y[rows], labels[rows]) for rows in marked]
    return {
        f"VUS-PR (window {window})": float(np.mean(areas)),
        "F1 of events": float(np.mean(found)),
    }
