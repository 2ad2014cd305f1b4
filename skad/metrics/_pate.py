"""PATE: precision and recall with weights that fall with the distance from an event."""

import numpy as np

from skad.metrics._labels import (
    at_least,
    labels_and_predictions,
    labels_and_scores,
    undefined,
)
from skad.metrics._runs import f1, run_offsets, runs


def pate(
    y_true,
    anomaly_score,
    *,
    early_buffer=100,
    delay_buffer=100,
    n_splits=1,
    include_zero=True,
    n_thresholds=250,
    pos_label=None,
):
    r"""Return the proximity-aware evaluation, an average precision with soft edges.

    For each pair of buffers, an early one before every event and a delay one behind it,
    the area under a precision-recall curve in which a flagged step `x` of a buffer is a
    true positive to the degree

    .. math:: w = 1 - \frac{|x - c|}{|b - c|}

    and a false one for the rest, with `c` the centre of its event and `b` the far end
    of the buffer; early steps count only if the event itself is hit. A step of an event
    that is missed weighs less the later it comes after the first detected stretch. The
    result is the mean over all pairs of buffers.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    early_buffer : int, default=100
        Most steps before an event that count, at least 0.
    delay_buffer : int, default=100
        Most steps behind an event that count, at least 0.
    n_splits : int, default=1
        Buffers between 0 and the largest, evenly spaced; 1 takes the largest alone.
    include_zero : bool, default=True
        Whether the buffer of 0 steps is one of them.
    n_thresholds : int, default=250
        Thresholds: percentiles of the distinct scores at which the count of hits
        changes, as the authors' code takes them. None takes all of these scores.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], higher = better; NaN without an anomaly.

    See Also
    --------
    pate_f1 : For decisions.

    Notes
    -----
    Points of a curve at which recall falls are left out before its area is taken, as in
    the authors' code. The cost is `n_thresholds` passes over the anomalous steps.

    References
    ----------
    .. [1] R. Ghorbani, M. Reinders, D. Tax, "PATE: Proximity-Aware Time Series Anomaly
       Evaluation", KDD 2024. (arXiv 2405.12096)

    Examples
    --------
    >>> import numpy as np
    >>> from skad.metrics import pate
    >>> y_true = np.ones(200)
    >>> y_true[50:60] = -1
    >>> late = np.roll(y_true == -1, 5) + np.linspace(0, 0.1, 200)
    >>> round(pate(y_true, late, early_buffer=20, delay_buffer=20), 3)
    0.336
    """
    if n_thresholds is not None:
        at_least(n_thresholds, 1, "n_thresholds")
    buffers = _buffers(early_buffer, delay_buffer, n_splits, include_zero)
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    thresholds = _thresholds(anomalous, scores, n_thresholds)
    bucket = np.searchsorted(-thresholds, -scores)  # first threshold that is reached
    areas = [
        _area(precision, recall)
        for precision, recall in _curves(anomalous, bucket, len(thresholds), buffers)
    ]
    return float(np.mean(areas))


def pate_f1(
    y_true,
    y_pred,
    *,
    early_buffer=100,
    delay_buffer=100,
    n_splits=1,
    include_zero=True,
    pos_label=None,
):
    """Return the F1 of the proximity-aware precision and recall, the mean over buffers.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    early_buffer : int, default=100
        Most steps before an event that count, at least 0.
    delay_buffer : int, default=100
        Most steps behind an event that count, at least 0.
    n_splits : int, default=1
        Buffers between 0 and the largest, evenly spaced; 1 takes the largest alone.
    include_zero : bool, default=True
        Whether the buffer of 0 steps is one of them.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], higher = better; NaN without an anomaly.

    See Also
    --------
    pate : For scores, with the weights and the reference.

    Examples
    --------
    >>> from skad.metrics import pate_f1
    >>> y_true = [1, 1, 1, -1, -1, 1, 1, 1]
    >>> late = [1, 1, 1, 1, -1, -1, 1, 1]
    >>> round(pate_f1(y_true, late, early_buffer=2, delay_buffer=2), 3)
    0.568
    """
    buffers = _buffers(early_buffer, delay_buffer, n_splits, include_zero)
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    curves = _curves(anomalous, (~flagged).astype(int), 1, buffers)
    return float(np.mean([f1(precision[0], recall[0]) for precision, recall in curves]))


def _buffers(early_buffer, delay_buffer, n_splits, include_zero):
    """Return all pairs of an early and a delay buffer."""
    at_least(early_buffer, 0, "early_buffer")
    at_least(delay_buffer, 0, "delay_buffer")
    at_least(n_splits, 1, "n_splits")
    grids = []
    for largest in (early_buffer, delay_buffer):
        grid = np.linspace(0, largest, n_splits + 1, dtype=int)
        grids.append(grid if include_zero else grid[1:])
    return [(early, delay) for early in grids[0] for delay in grids[1]]


def _thresholds(anomalous, scores, n_thresholds):
    """Return falling thresholds at which the hits change, or percentiles of them."""
    values, inverse = np.unique(-scores, return_inverse=True)
    hits = np.bincount(inverse, anomalous, len(values))
    if len(values) > 2:
        # keep a value if a hit enters with it or with the next one
        changes = hits[1:] > 0
        inner = changes[:-1] | changes[1:]
        values = values[np.concatenate([[True], inner, [True]])]
    if n_thresholds is None:
        return -values
    return np.percentile(-values, np.linspace(100, 0, n_thresholds))


def _curves(anomalous, bucket, n_buckets, buffers):
    """Yield precision and recall at every threshold, for each pair of buffers.

    Steps whose bucket is `n_buckets` or more are flagged at no threshold.
    """
    starts, stops = runs(anomalous)
    n = len(anomalous)

    def reached(buckets, weights=None):
        inside = buckets < n_buckets
        weights = weights if weights is None else weights[inside]
        return np.cumsum(np.bincount(buckets[inside], weights, minlength=n_buckets))

    n_flagged = reached(bucket)
    hits = reached(bucket[anomalous])
    missed = _missed(bucket[anomalous], n_buckets, starts, stops)
    detected = np.minimum.reduceat(bucket[anomalous], run_offsets(starts, stops))
    for early, delay in buffers:
        # a buffer ends where the next event or the buffer before it begins
        ends = np.minimum(stops + delay, np.append(starts[1:], n))
        begins = np.maximum(starts - early, np.concatenate([[0], ends[:-1]]))
        centre = (starts + stops - 1) / 2

        late, event = _steps(stops, ends)
        weight = 1 - (late - centre[event]) / (ends[event] - 1 - centre[event])
        true = hits + reached(bucket[late], weight)

        soon, event = _steps(begins, starts)
        weight = 1 - (centre[event] - soon) / (centre[event] - begins[event])
        true = true + reached(np.maximum(bucket[soon], detected[event]), weight)

        # what is flagged and no true positive is a false one
        precision = np.divide(
            true, n_flagged, out=np.zeros(n_buckets), where=n_flagged > 0
        )
        yield precision, true / (true + missed)


def _steps(begins, ends):
    """Return all steps of some intervals and the interval of each."""
    lengths = ends - begins
    event = np.repeat(np.arange(len(begins)), lengths)
    offsets = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - offsets[event] + begins[event], event


def _missed(bucket, n_buckets, starts, stops):
    """Return the weight of the missed steps of events at every threshold."""
    lengths = stops - starts
    offsets = run_offsets(starts, stops)
    event = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(event)) - offsets[event]
    largest = np.maximum(lengths * (lengths - 1) / 2, 1)
    end = lengths[event]
    total = np.empty(n_buckets)
    for k in range(n_buckets):
        flagged = bucket <= k
        # the first stretch of flagged steps: where it begins and ends in the event
        first = np.minimum.reduceat(np.where(flagged, position, end), offsets)
        over = ~flagged & (position > first[event])
        after = np.minimum.reduceat(np.where(over, position, end), offsets)
        stretch = after - np.minimum(first, lengths)  # 0 for an event not hit at all
        reach = np.where(stretch > 0, stretch, lengths)
        # full weight up to `reach` steps into the event, then less with the distance
        distant = position > reach[event]
        fade = (reach + 1) / largest
        distance = fade[event] * (position - (reach / 2)[event])
        total[k] = np.sum(np.where(distant, 1 - distance, 1.0), where=~flagged)
    return total


def _area(precision, recall):
    """Return the area under a curve from (0, 1), without points where recall falls."""
    precision, recall = np.append(1.0, precision), np.append(0.0, recall)
    kept = recall >= np.maximum.accumulate(recall)
    return np.trapezoid(precision[kept], recall[kept])
