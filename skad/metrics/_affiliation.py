"""Affiliation precision and recall: distances between alarms and events, as chances.

A step `i` is the interval from i to i + 1. Both averages are integrals of functions
that are linear between few points, so that the trapezoidal rule there is exact.
"""

import numpy as np

from skad.metrics._labels import labels_and_predictions, undefined
from skad.metrics._runs import runs


def affiliation_precision(y_true, y_pred, *, pos_label=None):
    """Return how close alarms are to events, against random alarms.

    The series is cut into zones, the steps closest to one event each. The precision of
    a zone is the mean over its flagged time of the chance that a random moment of the
    zone is farther from the event; the result is the mean over the zones with alarms.
    Random predictions reach .5 to .7.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], higher = better; NaN without an anomaly or without an alarm.

    See Also
    --------
    affiliation_recall : How close events are to alarms.

    References
    ----------
    .. [1] A. Huet, J. M. Navarro, D. Rossi, "Local Evaluation of Time Series Anomaly
       Detection Algorithms", KDD 2022.

    Examples
    --------
    >>> from skad.metrics import affiliation_precision
    >>> y_true = [1, 1, 1, 1, -1, -1, 1, 1, 1, 1]
    >>> affiliation_precision(y_true, [1, 1, 1, 1, 1, 1, -1, 1, 1, 1])
    0.7
    """
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    if not flagged.any():
        return undefined("y_pred flags nothing, precision is not defined")
    zones = _zones(anomalous, flagged)
    return float(np.mean([_precision(*zone) for zone in zones if len(zone[2])]))


def affiliation_recall(y_true, y_pred, *, pos_label=None):
    """Return how close events are to alarms, against random alarms.

    The recall of an event is the mean over its time of the chance that a random moment
    of its zone is farther away than the closest alarm in the zone, 0 for a zone without
    an alarm; the result is the mean over the events.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], higher = better; NaN without an anomaly.

    See Also
    --------
    affiliation_precision : How close alarms are to events, with the reference.

    Examples
    --------
    >>> from skad.metrics import affiliation_recall
    >>> y_true = [1, 1, 1, 1, -1, -1, 1, 1, 1, 1]
    >>> affiliation_recall(y_true, [1, 1, 1, 1, 1, 1, -1, 1, 1, 1])
    0.8
    """
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    zones = _zones(anomalous, flagged)
    return float(np.mean([_recall(*zone) if len(zone[2]) else 0.0 for zone in zones]))


def _zones(anomalous, flagged):
    """Return (zone (2,), event (2,), alarms in the zone (m, 2)) for every event."""
    events = np.stack(runs(anomalous), axis=1).astype(float)
    alarms = np.stack(runs(flagged), axis=1).astype(float)
    borders = np.concatenate(
        [[0.0], (events[:-1, 1] + events[1:, 0]) / 2, [float(len(anomalous))]]
    )
    found = []
    for event, low, high in zip(events, borders[:-1], borders[1:], strict=True):
        first = np.searchsorted(alarms[:, 1], low, side="right")
        last = np.searchsorted(alarms[:, 0], high, side="left")
        found.append(((low, high), event, np.clip(alarms[first:last], low, high)))
    return found


def _precision(zone, event, alarms):
    """Return the mean over the alarms' time of the chance of being farther away."""
    (low, high), (start, stop) = zone, event
    within = np.clip(alarms, start, stop)
    total = (within[:, 1] - within[:, 0]).sum()  # the event itself: chance 1
    near = min(start - low, high - stop)  # both sides of the event reach so far
    for begin, end in (
        (
            start - np.minimum(alarms[:, 1], start),
            start - np.minimum(alarms, start)[:, 0],
        ),
        (np.maximum(alarms[:, 0], stop) - stop, np.maximum(alarms, stop)[:, 1] - stop),
    ):
        # distances from `begin` to `end`; the chance bends once, at `near`
        bend = np.clip(near, begin, end)
        points = np.stack([begin, bend, end])  # (3, m)
        closer = stop - start + points + np.minimum(points, near)
        total += np.trapezoid(1 - closer / (high - low), points, axis=0).sum()
    return total / (alarms[:, 1] - alarms[:, 0]).sum()


def _recall(zone, event, alarms):
    """Return the mean over the event's time of the chance of being farther away."""
    (low, high), (start, stop) = zone, event
    bends = [
        alarms.ravel(),
        (alarms[:-1, 1] + alarms[1:, 0]) / 2,
        # where the closest alarm is as far as the border of the zone
        [(low + alarms[0, 0]) / 2, (alarms[-1, 1] + high) / 2],
        [start, stop],
    ]
    points = np.unique(np.clip(np.concatenate(bends), start, stop))
    after = np.searchsorted(
        alarms[:, 0], points, side="right"
    )  # alarms that have begun
    behind = np.where(after > 0, points - alarms[after - 1, 1], np.inf)
    ahead = np.append(alarms[:, 0], np.inf)[after] - points
    distance = np.maximum(np.minimum(behind, ahead), 0)
    closer = np.minimum(distance, points - low) + np.minimum(distance, high - points)
    return np.trapezoid(1 - closer / (high - low), points) / (stop - start)
