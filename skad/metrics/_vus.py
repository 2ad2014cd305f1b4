"""Volumes under range-based curves: one figure over all buffers around the events.

Everything that depends on a threshold is a cumulative count over thresholds: each step
falls into the bucket of the first threshold that it reaches, once for all buffers, and
a buffer only adds the weights of the steps next to events.
"""

import numpy as np

from skad.metrics._labels import at_least, labels_and_scores, one_of, undefined
from skad.metrics._runs import run_offsets, runs

FORMS = ("tsb", "original")


def vus_pr(
    y_true,
    anomaly_score,
    *,
    window=100,
    form="tsb",
    n_thresholds=250,
    pos_label=None,
):
    r"""Return the volume under the precision-recall surface of a series.

    The mean over buffers `w = 0..window` of the area under a precision-recall curve
    whose labels fade out beside the events: a step at distance `d <= w // 2` of an
    event counts :math:`\sqrt{1 - d/w}`, and recall is multiplied with the share of
    events (with their buffers, merged where they touch) in which any step is flagged. A
    score of noise gets more than the share of anomalous steps, much more where events
    are short beside the window, and less than that of the steps in events and buffers.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    window : int, default=100
        Largest buffer, at least 0; the usual choice is the period of the series.
    form : {"tsb", "original"}, default="tsb"
        "tsb" is that of the TSB-AD benchmark [2]_: the positives of a threshold are the
        mean of the anomalous steps and of these with the buffer steps that it flags,
        and the area is a sum of steps. "original" is that of [1]_ as most libraries
        have it: the positives do not depend on the threshold, buffers are a step
        shorter behind an event, and the area is a trapezoidal sum. The two differ by as
        much as detectors do: never compare one with the other.
    n_thresholds : int, default=250
        Order statistics of the scores, evenly spaced, that serve as thresholds.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], higher = better; NaN without an anomaly.

    See Also
    --------
    vus_roc : The volume under the ROC surface, in which noise reaches far more than .5.
    range_auc_pr : One buffer.

    Notes
    -----
    The result is that of the definition. The cost is a sort and, for each buffer, the
    steps within it and `n_thresholds`.

    References
    ----------
    .. [1] J. Paparrizos, P. Boniol, T. Palpanas, R. Tsay, A. Elmore, M. Franklin,
       "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series
       Anomaly Detection", PVLDB 15(11), 2022.
    .. [2] P. Boniol, A. Krishna, M. Bruel, Q. Liu, M. Huang, T. Palpanas, R. Tsay,
       A. Elmore, M. Franklin, J. Paparrizos, "VUS: Effective and Efficient Accuracy
       Measures for Time-Series Anomaly Detection", 2025. (arXiv 2502.13318)

    Examples
    --------
    >>> import numpy as np
    >>> from skad.metrics import vus_pr
    >>> y_true = np.ones(200)
    >>> y_true[50:60] = -1
    >>> late = np.roll(y_true == -1, 5) + np.linspace(0, 0.1, 200)
    >>> round(vus_pr(y_true, late, window=20), 3)
    0.531
    """
    at_least(window, 0, "window")
    return _mean_area(
        y_true, anomaly_score, range(window + 1), form, n_thresholds, pos_label, _pr
    )


def vus_roc(
    y_true,
    anomaly_score,
    *,
    window=100,
    form="tsb",
    n_thresholds=250,
    pos_label=None,
):
    """Return the volume under the ROC surface of a series.

    As `vus_pr`, with the area under the ROC curve. Noise gets more than .5, since
    buffers count as found by single flagged steps: up to .98 where events are single
    steps and the window is wide. Report it beside `vus_pr`, never alone.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    window : int, default=100
        Largest buffer, at least 0; the usual choice is the period of the series.
    form : {"tsb", "original"}, default="tsb"
        As in `vus_pr`.
    n_thresholds : int, default=250
        Order statistics of the scores, evenly spaced, that serve as thresholds.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        Higher = better; NaN without an anomaly or without a normal step.

    See Also
    --------
    vus_pr : The volume under the precision-recall surface, with the references.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.metrics import vus_roc
    >>> y_true = np.ones(2000)
    >>> y_true[[500, 1000, 1500]] = -1
    >>> noise = np.random.default_rng(0).uniform(size=2000)
    >>> round(vus_roc(y_true, noise, window=100), 3)
    0.93
    """
    at_least(window, 0, "window")
    return _mean_area(
        y_true, anomaly_score, range(window + 1), form, n_thresholds, pos_label, _roc
    )


def range_auc_pr(
    y_true,
    anomaly_score,
    *,
    window=100,
    form="tsb",
    n_thresholds=250,
    pos_label=None,
):
    """Return the area under the range-based precision-recall curve for one buffer.

    The term of `vus_pr` for one width of the buffers.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    window : int, default=100
        Width of the buffer, at least 0; half of it on each side of an event.
    form : {"tsb", "original"}, default="tsb"
        As in `vus_pr`.
    n_thresholds : int, default=250
        Order statistics of the scores, evenly spaced, that serve as thresholds.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], higher = better; NaN without an anomaly.

    See Also
    --------
    vus_pr : The mean over the widths up to `window`, with the references.

    Examples
    --------
    >>> from skad.metrics import range_auc_pr
    >>> y_true = [1, 1, 1, -1, -1, 1, 1, 1]
    >>> round(range_auc_pr(y_true, [1, 2, 3, 5, 9, 7, 3, 1], window=2), 3)
    0.94
    """
    at_least(window, 0, "window")
    return _mean_area(
        y_true, anomaly_score, [window], form, n_thresholds, pos_label, _pr
    )


def range_auc_roc(
    y_true,
    anomaly_score,
    *,
    window=100,
    form="tsb",
    n_thresholds=250,
    pos_label=None,
):
    """Return the area under the range-based ROC curve for one buffer.

    The term of `vus_roc` for one width of the buffers.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    anomaly_score : array-like of shape (n_timesteps,)
        Higher = more anomalous.
    window : int, default=100
        Width of the buffer, at least 0; half of it on each side of an event.
    form : {"tsb", "original"}, default="tsb"
        As in `vus_pr`.
    n_thresholds : int, default=250
        Order statistics of the scores, evenly spaced, that serve as thresholds.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        Higher = better; NaN without an anomaly or without a normal step.

    See Also
    --------
    vus_roc : The mean over the widths up to `window`.

    Examples
    --------
    >>> from skad.metrics import range_auc_roc
    >>> y_true = [1, 1, 1, -1, -1, 1, 1, 1]
    >>> round(range_auc_roc(y_true, [1, 2, 3, 5, 9, 7, 3, 1], window=2), 3)
    0.98
    """
    at_least(window, 0, "window")
    return _mean_area(
        y_true, anomaly_score, [window], form, n_thresholds, pos_label, _roc
    )


def _pr(form, recall, fall_out, precision):
    """Area under precision over recall, of shape (n_windows,)."""
    width = np.diff(recall, axis=1, prepend=0)
    if form == "original":
        before = np.column_stack([np.ones(len(precision)), precision[:, :-1]])
        precision = (precision + before) / 2
    return (width * precision).sum(axis=1)


def _roc(form, recall, fall_out, precision):
    """Area under recall over fall-out with the corner (1, 1), of shape (n_windows,)."""
    recall = np.pad(recall, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    fall_out = np.pad(fall_out, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    return np.trapezoid(recall, fall_out, axis=1)


def _mean_area(y_true, anomaly_score, windows, form, n_thresholds, pos_label, area):
    one_of(form, FORMS, "form")
    at_least(n_thresholds, 1, "n_thresholds")
    anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    if area is _roc and anomalous.all():
        return undefined("y_true has no normal step")
    curves = _curves(anomalous, scores, windows, form, n_thresholds)
    return float(area(form, *curves).mean())


def _curves(anomalous, scores, windows, form, n_thresholds):
    """Return recall, fall-out and precision, each (n_windows, n_thresholds)."""
    n, n_anomalous = len(scores), anomalous.sum()
    ranks = np.linspace(0, n - 1, n_thresholds).astype(int)
    thresholds = -np.sort(-scores)[ranks]
    bucket = np.searchsorted(-thresholds, -scores)  # first threshold that is reached

    def reached(buckets, weights=None):
        return np.cumsum(np.bincount(buckets, weights, minlength=n_thresholds))

    n_flagged = reached(bucket)
    n_hits = reached(bucket[anomalous])
    events = _Events(anomalous, bucket, max(windows) // 2)

    shape = len(windows), n_thresholds
    recall, fall_out, precision = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, window in enumerate(windows):
        reach = window // 2
        behind = reach if form == "tsb" else max(reach - 1, 0)
        faded = reached(events.near_buckets, events.weights(window, reach, behind))
        first = events.first_buckets(reach, behind)
        found = reached(first) / len(first)

        true = n_hits + faded
        positives = n_anomalous + (faded if form == "tsb" else faded[-1]) / 2
        negatives = np.maximum(n - positives, np.finfo(float).tiny)
        recall[i] = np.minimum(true / positives, 1) * found
        fall_out[i] = (n_flagged - true) / negatives
        precision[i] = true / n_flagged
    if form == "original":
        np.minimum(fall_out, 1, out=fall_out)
    return recall, fall_out, precision


class _Events:
    """The events of a series and the steps near them, for buffers that grow."""

    def __init__(self, anomalous, bucket, reach):
        self.starts, self.stops = runs(anomalous)
        self.bucket = bucket
        self._first = np.minimum.reduceat(
            bucket[anomalous], run_offsets(self.starts, self.stops)
        )
        self._before, self._behind = 0, 0

        # (step, distance) of every normal step near an event, by growing distance
        distances = np.arange(1, reach + 1)[:, None]
        sides = []
        for steps in (self.starts - distances, self.stops - 1 + distances):
            inside = (steps >= 0) & (steps < len(anomalous))
            inside[inside] = ~anomalous[steps[inside]]
            counts = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
            repeated = np.broadcast_to(distances, steps.shape)[inside]
            sides.append((steps[inside], repeated, counts))
        near, places = np.unique(
            np.concatenate([steps for steps, _, _ in sides]), return_inverse=True
        )
        self.near_buckets = bucket[near]
        places = np.split(places, [len(sides[0][0])])
        self._sides = [
            (place, distance, counts)
            for place, (_, distance, counts) in zip(places, sides, strict=True)
        ]

    def weights(self, window, before, behind):
        """Return the faded label of each near step; those of two events add up to 1."""
        weights = np.zeros(len(self.near_buckets))
        for (place, distance, counts), reach in zip(
            self._sides, (before, behind), strict=True
        ):
            m = counts[reach]
            if m:
                weights += np.bincount(
                    place[:m], np.sqrt(1 - distance[:m] / window), len(weights)
                )
        return np.minimum(weights, 1, out=weights)

    def first_buckets(self, before, behind):
        """Return the bucket in which each event with its buffers is first hit."""
        while self._before < before:
            self._before += 1
            steps = np.maximum(self.starts - self._before, 0)
            np.minimum(self._first, self.bucket[steps], out=self._first)
        while self._behind < behind:
            self._behind += 1
            steps = np.minimum(self.stops - 1 + self._behind, len(self.bucket) - 1)
            np.minimum(self._first, self.bucket[steps], out=self._first)
        gaps = self.starts[1:] - self.stops[:-1]
        apart = np.flatnonzero(np.concatenate([[True], gaps >= 2 * before]))
        return np.minimum.reduceat(self._first, apart)
