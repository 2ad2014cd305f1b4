"""Precision and recall of ranges: every event and every alarm counts once."""

import numpy as np

from skad.metrics._labels import labels_and_predictions, one_of, undefined
from skad.metrics._runs import run_offsets, runs

BIASES = ("flat", "front", "middle", "back")
CARDINALITIES = ("reciprocal", "one")


def range_precision(
    y_true,
    y_pred,
    *,
    alpha=0.0,
    bias="flat",
    cardinality="reciprocal",
    pos_label=None,
):
    r"""Return the range-based precision: how much alarms overlap events, on average.

    An alarm, a run of flagged steps, earns

    .. math:: \alpha [c > 0] + (1 - \alpha) \gamma(c)
        \frac{\sum_{i \in R \cap E} \delta(i)}{\sum_{i \in R} \delta(i)}

    where `c` events overlap the run `R`, `E` are all anomalous steps, `delta` is the
    bias over positions and `gamma` punishes fragments.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    alpha : float, default=0.0
        Weight of overlapping an event at all, from 0 to 1. The paper keeps 0 for
        precision.
    bias : {"flat", "front", "middle", "back"}, default="flat"
        Which positions in a run count most.
    cardinality : {"reciprocal", "one"}, default="reciprocal"
        The factor `gamma(c)` of an overlap in c > 1 fragments: 1/c, or 1.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1], 0 where nothing is flagged; NaN without an anomaly.

    See Also
    --------
    range_recall : The same, the other way round.
    affiliation_precision : Without steps at the borders of events.

    References
    ----------
    .. [1] N. Tatbul, T. Lee, S. Zdonik, M. Alam, J. Gottschlich, "Precision and Recall
       for Time Series", NeurIPS 2018.

    Examples
    --------
    >>> from skad.metrics import range_precision
    >>> y_true = [1, 1, -1, -1, -1, 1, 1, 1]
    >>> range_precision(y_true, [1, 1, 1, -1, -1, -1, -1, 1])
    0.5
    """
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    return _mean_reward(flagged, anomalous, alpha, bias, cardinality)


def range_recall(
    y_true,
    y_pred,
    *,
    alpha=0.0,
    bias="flat",
    cardinality="reciprocal",
    pos_label=None,
):
    """Return the range-based recall: how much events are overlapped by alarms.

    The formula of `range_precision` with events and alarms exchanged.

    Parameters
    ----------
    y_true : array-like of shape (n_timesteps,)
        Labels, -1 an anomaly and 1 normal, or booleans.
    y_pred : array-like of shape (n_timesteps,)
        Predictions, as `y_true`.
    alpha : float, default=0.0
        Weight of overlapping the event at all, from 0 to 1; TSB-AD takes 0.2.
    bias : {"flat", "front", "middle", "back"}, default="flat"
        Which positions in an event count most; "front" rewards early alarms.
    cardinality : {"reciprocal", "one"}, default="reciprocal"
        The factor of an overlap in c > 1 fragments: 1/c, or 1.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an anomaly.

    See Also
    --------
    range_precision : The same, the other way round, with the reference.

    Examples
    --------
    >>> from skad.metrics import range_recall
    >>> y_true = [1, 1, -1, -1, -1, -1, 1, 1]
    >>> range_recall(y_true, [1, 1, -1, -1, -1, 1, 1, 1], alpha=0.2)
    0.8
    """
    anomalous, flagged = labels_and_predictions(y_true, y_pred, pos_label)
    if not anomalous.any():
        return undefined("y_true has no anomaly")
    return _mean_reward(anomalous, flagged, alpha, bias, cardinality)


def _mean_reward(mask, other, alpha, bias, cardinality):
    """Return the mean reward of the runs of `mask` for overlapping `other`."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r} must be between 0 and 1.")
    one_of(bias, BIASES, "bias")
    one_of(cardinality, CARDINALITIES, "cardinality")
    if not mask.any():
        return 0.0
    starts, stops = runs(mask)
    lengths, offsets = stops - starts, run_offsets(starts, stops)
    position = np.arange(lengths.sum()) - np.repeat(offsets, lengths) + 1
    weight = _bias(bias, position, np.repeat(lengths, lengths))

    inside = other[mask]
    # a fragment begins where its step before is outside, or at the run's own begin
    begins = inside & ~np.concatenate([[False], inside[:-1]])
    begins[offsets] = inside[offsets]
    fragments = np.add.reduceat(begins.astype(int), offsets)
    overlap = np.add.reduceat(weight * inside, offsets)
    overlap = overlap / np.add.reduceat(weight, offsets)
    if cardinality == "reciprocal":
        overlap = overlap / np.maximum(fragments, 1)
    return float(np.mean(alpha * (fragments > 0) + (1 - alpha) * overlap))


def _bias(bias, position, length):
    """Return the weight of each position, 1 the first, in a run of some length."""
    rising, falling = position.astype(float), length - position + 1.0
    if bias == "flat":
        return np.ones_like(rising)
    if bias == "middle":
        return np.where(position <= length / 2, rising, falling)
    return falling if bias == "front" else rising
