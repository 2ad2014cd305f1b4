"""Metrics that judge each step by itself, and the search for the best threshold."""

import numpy as np
from sklearn.metrics import average_precision_score

from skad.metrics._labels import at_least, labels_and_scores, undefined


def average_precision(y_true, anomaly_score, *, pos_label=None):
    """Return the average precision with anomalies as the positive class.

    The area under the precision-recall curve as a sum of steps (AUC-PR). A score of
    noise gets about the share of anomalies.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_samples,)
        Higher = more anomalous.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly.

    Examples
    --------
    >>> from skad.metrics import average_precision
    >>> average_precision([1, 1, -1, 1], [0.1, 0.2, 0.9, 0.3])
    1.0
    """
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    return float(average_precision_score(anomalous, scores))


def precision_at_n(y_true, anomaly_score, *, n=None, pos_label=None):
    """Return the share of anomalies among the `n` samples with the largest scores.

    With `n` the number of anomalies it is also their recall (R-precision). Of samples
    that share the last place as many count as there is room for, each to an equal part.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_samples,)
        Higher = more anomalous.
    n : int, default=None
        How many samples are looked at; None is the number of anomalies.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly.

    Examples
    --------
    >>> from skad.metrics import precision_at_n
    >>> precision_at_n([1, 1, -1, 1, -1], [0.1, 0.2, 0.9, 0.8, 0.3])
    0.5
    """
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    n = int(anomalous.sum()) if n is None else n
    at_least(n, 1, "n")
    if n > len(scores):
        raise ValueError(f"n={n} must be at most the number of samples, {len(scores)}.")
    last = np.sort(scores)[-n]
    above, tied = scores > last, scores == last
    room = n - above.sum()
    return float((anomalous[above].sum() + room * anomalous[tied].mean()) / n)


def best_f1(y_true, anomaly_score, *, pos_label=None):
    """Return the largest F1 that any threshold reaches, step by step.

    The threshold is chosen with the labels that judge it: an upper bound of what a
    threshold chosen without them reaches.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_samples,)
        Higher = more anomalous.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly.

    Examples
    --------
    >>> from skad.metrics import best_f1
    >>> best_f1([1, 1, -1, 1, -1, -1], [0.1, 0.2, 0.9, 0.7, 0.8, 0.3])
    0.8571428571428571
    """
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    ranks, n_flagged = distinct_thresholds(scores)
    hits = np.cumsum(np.bincount(ranks[anomalous], minlength=len(n_flagged)))
    return best_of_counts(hits, n_flagged, anomalous.sum())


def best_over_thresholds(
    metric, y_true, anomaly_score, *, n_thresholds=100, pos_label=None
):
    """Return the largest value of a metric of decisions over a grid of thresholds.

    For metrics of `y_pred` such as `affiliation_recall` and `event_f1`. As `best_f1`,
    an upper bound: the labels choose the threshold.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_pred)`` with boolean arrays, higher = better. Thresholds for
        which it is NaN do not count.
    y_true : array-like of shape (n_samples,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_samples,)
        Higher = more anomalous; steps above a threshold are flagged.
    n_thresholds : int, default=100
        Thresholds, evenly spaced from the least score to the largest (as in TSB-AD).
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        The largest value; NaN without an anomaly.

    Examples
    --------
    >>> from skad.metrics import best_over_thresholds, range_recall
    >>> y_true = [1, 1, -1, 1, -1, -1]
    >>> best_over_thresholds(range_recall, y_true, [0.1, 0.2, 0.9, 0.7, 0.8, 0.3])
    1.0
    """
    at_least(n_thresholds, 2, "n_thresholds")
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    best = np.nan
    for threshold in np.linspace(scores.min(), scores.max(), n_thresholds):
        flagged = scores > threshold
        # the last thresholds flag nothing, which leaves some metrics undefined
        if flagged.any():
            best = np.fmax(best, metric(anomalous, flagged))
    return float(best) if np.isfinite(best) else 0.0


def distinct_thresholds(scores):
    """Return each score's rank among the distinct ones, and how many reach each.

    Rank 0 is the largest score; ``n_flagged[k]`` scores have rank k or less.
    """
    values, inverse = np.unique(-scores, return_inverse=True)
    return inverse, np.cumsum(np.bincount(inverse, minlength=len(values)))


def best_of_counts(hits, n_flagged, n_anomalous):
    """Return the largest F1 among thresholds, from their counts."""
    return float(np.max(2 * hits / (n_flagged + n_anomalous)))
