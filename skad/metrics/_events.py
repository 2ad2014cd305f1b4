"""Metrics that count events: found or not, and by a single guess."""

import numpy as np

from skad.metrics._labels import (
    at_least,
    labels_and_predictions,
    labels_and_scores,
    undefined,
)
from skad.metrics._runs import f1, run_offsets, runs


def event_f1(y_true, y_pred, *, pos_label=None):
    """Return the F1 of the recall of events and the precision of steps.

    An event is found when any of its steps is flagged; precision is the share of
    flagged steps that are anomalous, so that flagging everything does not pay. Also
    known as the composite F-score.

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
        In [0, 1]; NaN without an anomaly.

    See Also
    --------
    point_adjusted_f1 : Counts the steps that were not flagged too; do not use it.

    References
    ----------
    .. [1] A. Garg, W. Zhang, J. Samaran, R. Savitha, C. S. Foo, "An Evaluation of
       Anomaly Detection and Diagnosis in Multivariate Time Series", IEEE TNNLS 2021.

    Examples
    --------
    >>> from skad.metrics import event_f1
    >>> y_true = [1, -1, -1, -1, 1, 1, -1, 1]
    >>> event_f1(y_true, [1, 1, -1, 1, 1, 1, 1, 1])
    0.6666666666666666
    """
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    offsets = run_offsets(*runs(anomalous))
    recall = np.logical_or.reduceat(flagged[anomalous], offsets).mean()
    precision = anomalous[flagged].mean() if flagged.any() else 0.0
    return float(f1(precision, recall))


def ucr_score(y_true, anomaly_score, *, tolerance=100, pos_label=None):
    """Return whether the highest score is at the one event of the series.

    The rule of the UCR anomaly archive: right is a guess within the event's length of
    the event, and within `tolerance` steps of it at least. Where several steps share
    the highest score, the share of them that are right.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans, with a single event.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    tolerance : int, default=100
        Steps before and behind the event that count too, at least 0.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        1 or 0, or between them for ties; NaN without an anomaly.

    References
    ----------
    .. [1] R. Wu, E. Keogh, "Current Time Series Anomaly Detection Benchmarks are Flawed
       and are Creating the Illusion of Progress", IEEE TKDE 35(3), 2023.

    Examples
    --------
    >>> from skad.metrics import ucr_score
    >>> y_true = [1, 1, -1, 1, 1, 1]
    >>> ucr_score(y_true, [0, 0, 1, 3, 1, 0], tolerance=1)
    1.0
    """
    at_least(tolerance, 0, "tolerance")
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    starts, stops = runs(anomalous)
    if len(starts) == 0:
        return undefined("y_true has no anomaly")
    if len(starts) > 1:
        raise ValueError(
            f"y_true has {len(starts)} events; the UCR score is defined for one."
        )
    margin = max(stops[0] - starts[0], tolerance)
    guesses = np.flatnonzero(scores == scores.max())
    right = (guesses >= starts[0] - margin) & (guesses <= stops[0] - 1 + margin)
    return float(right.mean())
