"""Telemanom's threshold: the one that removes most spread for the fewest alarms."""

from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.signal import lfilter
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skad._sklearn import Interval, _fit_context
from skad.calibration._gpd_tail import score_column

# Thresholds tried, in standard deviations over the mean, and the one without a winner.
_TRIED = np.arange(2.5, 12.0, 0.5)
_OTHERWISE = 12.0
_MOST_SEQUENCES = 5


class _State(NamedTuple):
    """What is kept of a stream.

    Parameters
    ----------
    smoothing : ndarray of shape (2,)
        Sums of the weighted scores and of the weights.
    window : ndarray
        The latest smoothed scores of finished blocks.
    alarms : ndarray of bool
        Which of them are alarms.
    waiting : ndarray
        Smoothed scores of the block that is not finished.
    """

    smoothing: np.ndarray
    window: np.ndarray
    alarms: np.ndarray
    waiting: np.ndarray


_BEGIN = _State(np.zeros(2), np.empty(0), np.empty(0, dtype=bool), np.empty(0))


class TelemanomThreshold(BaseEstimator):
    r"""A threshold without a distribution, from the latest scores, for streams.

    Scores are smoothed. In each window, of :math:`\epsilon = \mu + z \sigma` for
    `z` = 2.5, 3, ..., 11.5 the one is taken that maximises

    .. math:: \frac{\Delta\mu / \mu + \Delta\sigma / \sigma}{|e|^2 + |a|}

    where the numerator is what mean and standard deviation lose when the scores over
    :math:`\epsilon` are left out, `a` are these scores with `error_buffer` around them
    and `e` the sequences that they form. Sequences whose maxima do not stand out are
    pruned: in the falling order of maxima, with the highest normal score last, those
    after the last fall of `min_decrease` are normal.

    Read more in the :ref:`User Guide <stream_thresholds>`.

    Parameters
    ----------
    window_size : int, default=2100
        Latest scores that a decision looks at.
    step_size : int, default=70
        New scores that are judged at once.
    error_buffer : int, default=100
        Scores on each side of one over the threshold that raise an alarm with it. While
        thresholds are tried it is one less, as in the authors' code.
    min_decrease : float, default=0.13
        Least relative fall `p` between maxima that separates anomalies from the rest.
    smoothing_span : float, default=105
        Span of the exponentially weighted mean, at least 1 (no smoothing).
    both_sides : bool, default=False
        Whether sudden dips raise alarms too, as in the authors' code.

    Attributes
    ----------
    threshold_ : float
        The threshold of the last window, on smoothed scores.
    labels_ : ndarray of shape (n_timesteps,)
        Labels of the scores given to the last `fit` or `partial_fit`. Those of a block
        that is not finished are preliminary.
    settled_labels_ : ndarray of shape (n_settled,)
        Final labels of the scores whose blocks the last `fit` or `partial_fit`
        finished: over all calls one after the other they are the labels of the stream.

    See Also
    --------
    SPOT : States the risk of a false alarm.

    Notes
    -----
    The first window is judged as a whole, later ones in their newest `step_size`
    scores: blocks that begin with the stream, whatever the pieces it comes in. Labels
    of scores whose block is not finished yet are preliminary, since what comes next in
    the block is judged with them; `settled_labels_` has the final ones. Beside the
    paper's condition that less than half of a window and at most five sequences are
    anomalous there is nothing that keeps noise from raising alarms.
    The authors' code also skips windows in which errors are small against the values of
    the telemetry, which scores alone do not tell, and the warm-up of its network.

    References
    ----------
    .. [1] K. Hundman, V. Constantinou, C. Laporte, I. Colwell, T. Soderstrom,
       "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic
       Thresholding", KDD 2018, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import TelemanomThreshold
    >>> scores = np.abs(np.random.default_rng(0).normal(size=1000))
    >>> scores[600:620] += 8
    >>> threshold = TelemanomThreshold(smoothing_span=1, error_buffer=10).fit(scores)
    >>> np.flatnonzero(threshold.labels_ == -1)[[0, -1]]
    array([590, 629])
    """

    _parameter_constraints = {
        "window_size": [Interval(Integral, 2, None, closed="left")],
        "step_size": [Interval(Integral, 1, None, closed="left")],
        "error_buffer": [Interval(Integral, 1, None, closed="left")],
        "min_decrease": [Interval(Real, 0, 1, closed="both")],
        "smoothing_span": [Interval(Real, 1, None, closed="left")],
        "both_sides": ["boolean"],
    }

    def __init__(
        self,
        window_size=2100,
        step_size=70,
        error_buffer=100,
        min_decrease=0.13,
        smoothing_span=105,
        both_sides=False,
    ):
        self.window_size = window_size
        self.step_size = step_size
        self.error_buffer = error_buffer
        self.min_decrease = min_decrease
        self.smoothing_span = smoothing_span
        self.both_sides = both_sides

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, anomaly_score, y=None) -> Self:
        """Judge the scores and keep the last window for those that follow.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted threshold.
        """
        scores = _errors(anomaly_score)
        if len(scores) < 2:
            raise ValueError("anomaly_score has 1 value; a threshold needs 2.")
        return self._learn(scores, _BEGIN)

    def fit_predict(self, anomaly_score, y=None) -> Any:
        """Fit to scores and return their labels.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time.
        y : object
            Ignored.

        Returns
        -------
        labels : ndarray of shape (n_timesteps,)
            1 for normal scores, -1 for alarms.
        """
        return self.fit(anomaly_score).labels_

    def partial_fit(self, anomaly_score, y=None) -> Self:
        """Move on by scores of the stream, as if one `fit` had seen them all.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time, at least one. The first call
            begins the stream.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted threshold. `labels_` are those of these scores, preliminary from
            the last finished block on; `settled_labels_` are final.
        """
        return self._learn(_errors(anomaly_score), getattr(self, "_state_", _BEGIN))

    def predict(self, anomaly_score) -> Any:
        """Judge the scores that come next; the state stays as it is.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time, following those of `fit`.

        Returns
        -------
        labels : ndarray of shape (n_timesteps,)
            1 for normal scores, -1 for alarms; preliminary from the last finished block
            on.
        """
        check_is_fitted(self)
        scores = _errors(anomaly_score)
        return self._run(scores, self._state_)[0][-len(scores) :]

    def _learn(self, scores, state):
        if self.step_size > self.window_size:
            raise ValueError(
                f"step_size={self.step_size} must be at most "
                f"window_size={self.window_size}."
            )
        labels, self._state_, self.threshold_ = self._run(scores, state)
        self.labels_ = labels[-len(scores) :]
        self.settled_labels_ = labels[: len(labels) - len(self._state_.waiting)]
        return self

    def _run(self, scores, state):
        """Return labels, the state after the scores, and the last threshold.

        The labels are of the scores that waited for the end of their block, and of
        these.
        """
        smooth, smoothing = _smooth(scores, self.smoothing_span, state.smoothing)
        waiting = np.append(state.waiting, smooth)
        window, alarms, found = state.window, state.alarms, []
        while len(waiting):
            block = self.step_size if len(window) else self.window_size
            fresh, rest = waiting[:block], waiting[block:]
            longer = np.append(window, fresh)[-self.window_size :]
            known = np.append(alarms, np.zeros(len(fresh), dtype=bool))
            known = known[-self.window_size :]
            flagged, threshold = self._judge(longer, known, len(fresh))
            found.append(flagged)
            if len(fresh) < block:
                break
            known[-block:] = flagged
            window, alarms, waiting = longer, known, rest
        labels = np.where(np.concatenate(found), -1, 1)
        return labels, _State(smoothing, window, alarms, waiting), threshold

    def _judge(self, window, alarms, n_fresh):
        """Return which of the newest scores are alarms, and the threshold."""
        flagged, threshold = self._above(window, alarms, n_fresh)
        if self.both_sides:
            flagged |= self._above(2 * window.mean() - window, alarms, n_fresh)[0]
        return flagged, threshold

    def _above(self, window, alarms, n_fresh):
        threshold = _epsilon(window, self.error_buffer)
        fresh = np.zeros(len(window), dtype=bool)
        fresh[-n_fresh:] = True
        flagged = _dilate(window > threshold, self.error_buffer + 1) & fresh
        highest_normal = window[~(flagged | alarms)].max(initial=0.0)
        _prune(flagged, window, highest_normal, self.min_decrease)
        return flagged[-n_fresh:], threshold


def _errors(anomaly_score):
    scores = score_column(anomaly_score)
    if scores.min() < 0:
        raise ValueError(
            "anomaly_score has negative values; the rule divides by the mean and takes "
            "errors or distances, at least 0."
        )
    return scores


def _smooth(scores, span, state):
    """Return the exponentially weighted mean (each weight sum 1) and its state."""
    keep = 1 - 2 / (span + 1)
    sums, first = lfilter([1.0], [1.0, -keep], scores, zi=state[:1])
    weights, second = lfilter([1.0], [1.0, -keep], np.ones(len(scores)), zi=state[1:])
    return sums / weights, np.concatenate([first, second])


def _dilate(mask, size):
    """Return where a True lies fewer than `size` steps away."""
    counts = np.concatenate([[0], np.cumsum(mask)])
    index = np.arange(len(mask))
    low = np.maximum(index - size + 1, 0)
    high = np.minimum(index + size, len(mask))
    return counts[high] > counts[low]


def _sequences(mask):
    """Return (begin, end) of every run of True, of shape (m, 2)."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2)


def _epsilon(window, error_buffer):
    """Return the threshold that removes most spread for the fewest alarms."""
    mean, deviation = window.mean(), window.std()
    if deviation <= 1e-10 * mean:  # constant but for rounding
        return float(window.max())
    best, chosen = 0.0, _OTHERWISE
    for z in _TRIED:
        over = window > mean + z * deviation
        if not over.any():
            break  # nor is anything over the thresholds that follow
        rest = window[~over]
        anomalous = _dilate(over, error_buffer)
        n_sequences = len(_sequences(anomalous))
        gain = (mean - rest.mean()) / mean + (deviation - rest.std()) / deviation
        gain /= n_sequences**2 + anomalous.sum()
        few = n_sequences <= _MOST_SEQUENCES and anomalous.sum() < len(window) / 2
        if few and gain >= best:
            best, chosen = gain, z
    return float(mean + chosen * deviation)


def _prune(flagged, window, highest_normal, min_decrease):
    """Clear the sequences after the last fall of `min_decrease` between maxima."""
    sequences = _sequences(flagged)
    if len(sequences) == 0:
        return
    maxima = np.array([window[begin:end].max() for begin, end in sequences])
    order = np.argsort(-maxima, kind="stable")
    falling = np.append(maxima[order], highest_normal)
    falls = (falling[:-1] - falling[1:]) / falling[:-1] >= min_decrease
    n_kept = np.flatnonzero(falls)[-1] + 1 if falls.any() else 0
    for begin, end in sequences[order[n_kept:]]:
        flagged[begin:end] = False
