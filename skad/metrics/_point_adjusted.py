"""F1 after predictions were adjusted within events: PA, PA%K, and with a delay.

Adjusting sets all steps of an event that counts as found to flagged. Found by a single
step, as in PA, long events make a random score look excellent.
"""

import warnings

import numpy as np

from skad.metrics._labels import (
    at_least,
    labels_and_predictions,
    labels_and_scores,
    undefined,
)
from skad.metrics._points import best_of_counts, distinct_thresholds
from skad.metrics._runs import run_offsets, runs


def point_adjusted_f1(y_true, y_pred, *, pos_label=None):
    """Return the F1 after point adjustment, with a warning; do not compare by it.

    Every step of an event counts as flagged if one of them is. The measure is here to
    be compared with published figures: a random score reaches .7 to .98 on the usual
    benchmarks, and the warning says how much it reaches on these labels.

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
        In [0, 1]; NaN without an anomaly. Always with a UserWarning that gives the
        point-adjusted F1 of uniform noise at its best threshold.

    See Also
    --------
    pa_k_auc : Asks for more and more of an event.
    event_f1 : The recall of events with the precision of steps.
    vus_pr : Needs no threshold and cannot be gamed this way.

    References
    ----------
    .. [1] H. Xu et al., "Unsupervised Anomaly Detection via Variational Auto-Encoder
       for Seasonal KPIs in Web Applications", WWW 2018.
    .. [2] S. Kim, K. Choi, H.-S. Choi, B. Lee, S. Yoon, "Towards a Rigorous Evaluation
       of Time-Series Anomaly Detection", AAAI 2022.

    Examples
    --------
    >>> import warnings
    >>> from skad.metrics import point_adjusted_f1
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     point_adjusted_f1([1, -1, -1, -1, 1, 1], [1, 1, -1, 1, 1, 1])
    1.0
    """
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    noise = np.random.default_rng(0).uniform(size=len(anomalous))
    reached = _AdjustedCounts(anomalous, noise).best_f1(0)
    warnings.warn(
        "Point adjustment rewards noise: on these labels a random score reaches a "
        f"point-adjusted F1 of {reached:.2f} (.7 to .98 on the usual benchmarks). Use "
        "vus_pr, event_f1 or pa_k_auc.",
        stacklevel=2,
    )
    return _adjusted_f1(anomalous, flagged, 0)


def pa_k_f1(y_true, y_pred, *, k=20, pos_label=None):
    """Return the F1 after PA%K: events count in full once over k % of them is flagged.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    k : float, default=20
        Per cent of an event's steps that have to be exceeded, from 0 (point adjustment)
        to 100 (no adjustment).
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly.

    See Also
    --------
    pa_k_auc : The mean over k, with the reference.

    Examples
    --------
    >>> from skad.metrics import pa_k_f1
    >>> y_true = [1, -1, -1, -1, -1, 1]
    >>> pa_k_f1(y_true, [1, -1, 1, 1, 1, 1], k=20), pa_k_f1(y_true, y_true, k=30)
    (1.0, 1.0)
    """
    if not 0 <= k <= 100:
        raise ValueError(f"k={k!r} must be between 0 and 100.")
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    return _adjusted_f1(anomalous, flagged, k)


def pa_k_auc(y_true, anomaly_score, *, pos_label=None):
    """Return the area under the best F1 after PA%K over k from 0 to 100.

    For each k, the threshold with the largest F1 among all. Noise reaches .1 to .4, a
    third of its point-adjusted F1.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly. The trapezoidal rule over k = 0, 1, ..., 100.

    See Also
    --------
    pa_k_f1 : One k and given predictions.

    References
    ----------
    .. [1] S. Kim, K. Choi, H.-S. Choi, B. Lee, S. Yoon, "Towards a Rigorous Evaluation
       of Time-Series Anomaly Detection", AAAI 2022.

    Examples
    --------
    >>> from skad.metrics import pa_k_auc
    >>> y_true = [1, -1, -1, -1, -1, 1]
    >>> round(pa_k_auc(y_true, [0, 9, 1, 1, 1, 2]), 3)
    0.916
    """
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    counts = _AdjustedCounts(anomalous, scores)
    return float(np.trapezoid([counts.best_f1(k) for k in range(101)], dx=0.01))


def delay_f1(y_true, y_pred, *, delay=7, pos_label=None):
    """Return the F1 where events count in full if they are found soon, else not at all.

    Every step of an event counts as flagged if one of its first ``delay + 1`` steps is,
    and as not flagged otherwise. Noise profits from long events here too.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    delay : int, default=7
        Steps after an event's first in which it may be found, at least 0; [1]_ takes 7
        for minutes and 3 for hours.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly.

    References
    ----------
    .. [1] H. Ren et al., "Time-Series Anomaly Detection Service at Microsoft", KDD
       2019, section 5.2.

    Examples
    --------
    >>> from skad.metrics import delay_f1
    >>> y_true, late = [1, -1, -1, -1, -1, 1], [1, 1, 1, -1, -1, 1]
    >>> delay_f1(y_true, late, delay=2), delay_f1(y_true, late, delay=1)
    (1.0, 0.0)
    """
    at_least(delay, 0, "delay")
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    starts, stops = runs(anomalous)
    before = np.concatenate([[0], np.cumsum(flagged)])
    found = before[np.minimum(starts + delay + 1, stops)] > before[starts]
    hits = (stops - starts)[found].sum()
    false_alarms = (flagged & ~anomalous).sum()
    return float(2 * hits / (hits + false_alarms + anomalous.sum()))


def _adjusted_f1(anomalous, flagged, k):
    """Return the F1 of predictions adjusted where over k % of an event is flagged."""
    starts, stops = runs(anomalous)
    lengths = stops - starts
    counts = np.add.reduceat(flagged[anomalous].astype(int), run_offsets(starts, stops))
    hits = np.where(100 * counts > k * lengths, lengths, counts).sum()
    false_alarms = (flagged & ~anomalous).sum()
    return float(2 * hits / (hits + false_alarms + anomalous.sum()))


class _AdjustedCounts:
    """Counts of hits after PA%K at every distinct threshold."""

    def __init__(self, anomalous, scores):
        starts, stops = runs(anomalous)
        lengths = stops - starts
        ranks, self._n_flagged = distinct_thresholds(scores)
        hits = np.bincount(ranks[anomalous], minlength=len(self._n_flagged))
        self._n_false = self._n_flagged - np.cumsum(hits)
        self._n_anomalous = anomalous.sum()

        # the steps of every event by falling score, and which of the event each is
        ranks, event = ranks[anomalous], np.repeat(np.arange(len(lengths)), lengths)
        self._ranks = ranks[np.lexsort((ranks, event))]
        self._length = lengths[event]
        self._order = np.arange(len(event)) - run_offsets(starts, stops)[event] + 1

    def best_f1(self, k):
        """Return the largest F1 over thresholds, for an integer k in per cent."""
        # once as many steps are flagged, all of the event's are
        enough = np.minimum(k * self._length // 100 + 1, self._length)
        gain = np.where(self._order < enough, 1, 0)
        last = self._order == enough
        gain[last] = (self._length - enough + 1)[last]
        hits = np.bincount(self._ranks, gain, len(self._n_flagged)).cumsum()
        return best_of_counts(hits, hits + self._n_false, self._n_anomalous)
